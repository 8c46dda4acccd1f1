package edge_test

import (
	"encoding/hex"
	"testing"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
	"github.com/stretchr/testify/require"
)

func TestDatagramVector(t *testing.T) {
	const login = "0000000000000000" + "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f" +
		"a0a1a2a3a4a5a6a7a8a9aaabe794e57b3ce1668f9bd49b328d20ad9fd5c73b583a9b099755d31b835294d87bb99a6f85cbebcd0d44aadd"
	sent := sealVector(edge.AppendAuthHeader(nil, seed), connectKey)
	require.Len(t, sent, 95)
	require.Equal(t, login, hex.EncodeToString(sent))

	id, rest, ok := edge.ParseDatagram(unhex(t, login))
	require.True(t, ok)
	require.Zero(t, id)
	gotSeed, payload, ok := edge.ParseAuth(rest)
	require.True(t, ok)
	require.Equal(t, seed, gotSeed)
	m, err := edge.NewCipher(gotSeed).Open(payload)
	require.NoError(t, err)
	require.Equal(t, connectKey, string(m.Data))
}

func TestParseDatagram(t *testing.T) {
	id, rest, ok := edge.ParseDatagram(append(edge.AppendHeader(nil, 1<<63+7), "rest"...))
	require.True(t, ok)
	require.EqualValues(t, uint64(1<<63+7), id)
	require.Equal(t, "rest", string(rest))

	_, _, ok = edge.ParseDatagram(make([]byte, 7))
	require.False(t, ok, "shorter than a connect id")
	_, _, ok = edge.ParseAuth(make([]byte, 31))
	require.False(t, ok, "shorter than a seed")
}

func FuzzDatagram(f *testing.F) {
	f.Add(sealVector(edge.AppendAuthHeader(nil, seed), connectKey))
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, datagram []byte) {
		id, rest, ok := edge.ParseDatagram(datagram)
		if !ok {
			return
		}
		require.Equal(t, datagram, append(edge.AppendHeader(nil, id), rest...))
		if gotSeed, payload, ok := edge.ParseAuth(rest); ok && id == 0 {
			require.Equal(t, datagram, append(edge.AppendAuthHeader(nil, gotSeed), payload...))
		}
	})
}
