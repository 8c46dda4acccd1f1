package edge_test

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
	"github.com/stretchr/testify/require"
)

func TestCipherVectors(t *testing.T) {
	for data, payload := range vectors {
		require.Equal(t, payload, hex.EncodeToString(sealVector(nil, data)), data)

		m, err := edge.NewCipher(seed).Open(unhex(t, payload))
		require.NoError(t, err, data)
		require.Equal(t, data, string(m.Data))
		require.True(t, sealed.Equal(m.Time), data)
		require.Equal(t, nonce, m.Nonce, data)
	}
}

func TestCipherSealAppends(t *testing.T) {
	want := "68656164" + vectors["a"]
	require.Equal(t, want, hex.EncodeToString(sealVector([]byte("head"), "a")))
	require.Equal(t, want, hex.EncodeToString(sealVector(append(make([]byte, 0, 100), "head"...), "a")), "with room")
}

func TestCipherOpenRefuses(t *testing.T) {
	good := sealVector(nil, "text")
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		_, err := edge.NewCipher(seed).Open(bad)
		require.ErrorIs(t, err, edge.ErrPayload, "byte %d", i)
		_, err = edge.NewCipher(seed).Open(bytes.Clone(good)[:i])
		require.ErrorIs(t, err, edge.ErrPayload, "cut at %d", i)
	}
	_, err := edge.NewCipher([edge.SeedSize]byte{}).Open(bytes.Clone(good))
	require.ErrorIs(t, err, edge.ErrPayload, "another seed")
}

func TestCipherAllocations(t *testing.T) {
	c := edge.NewCipher(seed)
	buf := make([]byte, 0, 1<<10)
	data := strings.Repeat("x", 100)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		buf = c.Seal(buf[:0], nonce, sealed, data)
		if _, err := c.Open(buf); err != nil {
			panic(err)
		}
	}))
}

func FuzzCipher(f *testing.F) {
	for data, payload := range vectors {
		f.Add(data, unhex(f, payload), sealed.UnixMilli())
	}
	f.Add("x", make([]byte, 36), int64(-1))
	f.Fuzz(func(t *testing.T, data string, payload []byte, ms int64) {
		c := edge.NewCipher(seed)
		if m, err := c.Open(bytes.Clone(payload)); err == nil {
			require.Equal(t, payload, c.Seal(nil, m.Nonce, m.Time, string(m.Data)))
		}
		m, err := c.Open(c.Seal(nil, nonce, time.UnixMilli(ms), data))
		require.NoError(t, err)
		require.Equal(t, data, string(m.Data))
		require.Equal(t, ms, m.Time.UnixMilli())
	})
}
