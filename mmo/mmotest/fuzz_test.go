package mmotest_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/mmotest"
)

// FuzzConnection writes any data into a TCP connection: once after the login, and once
// instead of the login. Other clients do not notice.
func FuzzConnection(f *testing.F) {
	for _, seed := range [][]byte{
		nil, {0}, {0, 0, 0, 0}, {0, 0, 0, 35, 1}, {0, 16, 0, 0, 1}, {0, 16, 0, 1}, {255, 255, 255, 255},
		append([]byte{0, 0, 0, 36}, make([]byte, 36)...), make([]byte, 32), make([]byte, 36), make([]byte, 72),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e := mmotest.New()
		bob := joinInMemory(t, e, "udp", "room", "2")
		for _, p := range []*player{joinInMemory(t, e, "tcp", "room", "1"), connectVia(t, e, "tcp", e.DialContext)} {
			_, _ = p.conn.Write(data) // fails if the edge closes in the middle
			p.leave()
		}
		bob.quiet()
		require.NoError(t, e.Close())
		require.Zero(t, e.Stats().Relayed)
		require.EqualValues(t, 2, e.Stats().Logins)
	})
}

// FuzzDatagram sends any datagram: as it is, and with the id of a connection.
func FuzzDatagram(f *testing.F) {
	for _, size := range []int{0, 1, 7, 8, 39, 40, 75, 76, 77, 400} {
		f.Add(make([]byte, size))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > edge.MaxDatagram-edge.DatagramHeader {
			t.Skip()
		}
		e := mmotest.New()
		p, bob := joinInMemory(t, e, "udp", "room", "1"), joinInMemory(t, e, "udp", "room", "2")
		for _, datagram := range [][]byte{data, append(edge.AppendHeader(nil, p.id), data...)} {
			_, err := p.conn.Write(datagram)
			require.NoError(t, err)
		}
		p.quiet()
		bob.quiet()
		stats := e.Stats()
		require.EqualValues(t, 2, stats.Garbled+stats.RefusedLogins)
		require.Equal(t, []string{"1", "2"}, e.Members("room"))
		require.NoError(t, e.Close())
	})
}

// FuzzMessage sends any message. The edge relays it unchanged, refuses it, or answers it.
func FuzzMessage(f *testing.F) {
	for _, seed := range []string{
		"", "text", "\x00", "\xff", edge.Heartbeat, edge.Ping, edge.Closed, edge.AuthOK, "__pong__:1:[]", "__PING__",
		announcement("1", "Ann"), leaving("1"), `{"type":"__join__","uid":1,"nickname":{}}`, `{"type":"\u005f_leave__"}`,
		`{"type":["__join__"],"uid":"1"}`, `{"type":"__join__","type":"__leave__"}`, `{"type":"__join__","uid":"\ud800"}`, `{"`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data string) {
		if len(data) > edge.MaxDatagram-44 {
			t.Skip()
		}
		e := mmotest.New()
		ann, bob := joinInMemory(t, e, "udp", "room", "1"), joinInMemory(t, e, "udp", "room", "2")
		ann.write(data)
		if data == edge.Ping || data == edge.Heartbeat {
			ann.read()
		}
		if e.Stats().Relayed == 1 {
			bob.expect(data)
			require.False(t, edge.IsControl(data))
		}
		_, members, listed := edge.ParsePong(ann.pong())
		require.True(t, listed)
		require.LessOrEqual(t, len(members), 1)
		if len(members) == 1 {
			require.True(t, json.Valid([]byte(data)))
		}
		bob.quiet()
		require.NoError(t, e.Close())
	})
}
