package mmotest_test

import (
	"encoding/hex"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/mmotest"
)

func TestEdge(t *testing.T) {
	overAll(t, func(t *testing.T, e *mmotest.Edge, protocol string) {
		ann := join(t, e, protocol, "room", "1")
		bob := join(t, e, protocol, "room", "2")
		eve := join(t, e, protocol, "other", "3")

		ann.announce("1", "小云")
		bob.expect(announcement("1", "小云"))
		ann.write("hello")
		bob.expect("hello")
		bob.write(edge.Heartbeat)
		bob.expect(edge.Heartbeat)
		ann.quiet() // no echo
		eve.quiet() // another room
		require.Equal(t, `__pong__:1:[{"uid":"1","nickname":"小云"}]`, bob.pong())

		require.Equal(t, []string{"1", "2"}, e.Members("room"))
		require.Equal(t, mmotest.Stats{Logins: 3, Relayed: 2}, e.Stats())
	})
}

// Clients of all transports meet in one room.
func TestEdgeAcrossTransports(t *testing.T) {
	e := mmotest.NewEdge(t)
	tcp, ws, udp := join(t, e, "tcp", "room", "1"), join(t, e, "websocket", "room", "2"), join(t, e, "udp", "room", "3")
	for _, p := range []*player{tcp, ws, udp} {
		p.write("from one")
		for _, other := range []*player{tcp, ws, udp} {
			if other != p {
				other.expect("from one")
			}
		}
	}
}

// The bytes of a login are those that the Godot client sends, with its randomness and
// clock fixed.
func TestEdgeVectors(t *testing.T) {
	const (
		seed    = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
		payload = "a0a1a2a3a4a5a6a7a8a9aaabe794e57b3ce1668f9bd49b328d20ad9fd5c73b583a9b099755d31b835294d87bb99a6f85cbebcd0d44aadd"
	)
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		require.NoError(t, err)
		return b
	}
	overAll(t, func(t *testing.T, e *mmotest.Edge, protocol string) {
		now := time.UnixMilli(1753401600123)
		e.Configure(func(s *mmotest.Settings) { s.Now = func() time.Time { return now } })
		p := connect(t, e, protocol)
		p.seed = [edge.SeedSize]byte(unhex(seed))
		p.cipher = edge.NewCipher(p.seed)
		switch protocol {
		case "tcp":
			_, err := p.conn.Write(unhex(seed + "00000037" + payload))
			require.NoError(t, err)
		case "udp":
			_, err := p.conn.Write(unhex("0000000000000000" + seed + payload))
			require.NoError(t, err)
		default:
			require.NoError(t, p.wire.start(p.seed))
			require.NoError(t, p.wire.write(unhex(payload)))
		}
		p.expect(edge.AuthOK)
		require.True(t, now.Equal(p.opened.Time), "the edge's clock")
	})
}

func TestEdgeURL(t *testing.T) {
	e := mmotest.NewEdge(t)
	for asked, want := range map[string]string{
		"": "tcp", "tcp": "tcp", "TCP": "tcp", "carrier pigeon": "tcp",
		"websocket": "websocket", "WebSocket": "websocket", "ws": "websocket", "UDP": "udp",
	} {
		url, spoken := e.URL(asked)
		require.Equal(t, want, spoken, asked)
		pattern := `^` + want + `://127\.0\.0\.1:\d+$`
		if want == "websocket" {
			pattern = `^ws://127\.0\.0\.1:\d+/ws$`
		}
		require.Regexp(t, pattern, url, asked)
	}
}

func TestStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	_, err = mmotest.Start(taken.Addr().String())
	require.ErrorContains(t, err, "mmotest: ")

	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer packets.Close()
	_, err = mmotest.Start(packets.LocalAddr().String())
	require.ErrorContains(t, err, "udp")

	_, err = mmotest.Start("no address")
	require.Error(t, err)

	e, err := mmotest.Start("0.0.0.0:0")
	require.NoError(t, err)
	url, _ := e.URL("")
	require.Regexp(t, `^tcp://127\.0\.0\.1:`, url)
	join(t, e, "tcp", "room", "1").leave()
	require.NoError(t, e.Close())
}

// In a URL, an IPv6 address is in brackets. The URL works.
func TestStartIPv6(t *testing.T) {
	probe, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("this machine has no IPv6:", err)
	}
	require.NoError(t, probe.Close())
	e, err := mmotest.Start("[::1]:0")
	require.NoError(t, err)
	defer e.Close()
	url, _ := e.URL("")
	require.Regexp(t, `^tcp://\[::1\]:`, url)
	for _, protocol := range []string{"tcp", "websocket", "udp"} {
		join(t, e, protocol, "room", "1").leave()
	}
}

func TestEdgeClose(t *testing.T) {
	overAll(t, func(t *testing.T, e *mmotest.Edge, protocol string) {
		ann, bob := join(t, e, protocol, "room", "1"), join(t, e, protocol, "other", "2")
		var visitor *player
		if protocol != "udp" {
			visitor = connect(t, e, protocol)
		}
		go e.Close()
		for _, p := range []*player{ann, bob} {
			p.expect(edge.Closed)
			p.ended()
			p.leave()
		}
		if visitor != nil {
			visitor.ended()
			visitor.leave()
		}
		require.NoError(t, e.Close())
		e.Admit("room", "key", "3")
		require.Empty(t, e.Members("room"))
	})
}

// A client that stops reading does not hold up Close. The others receive all earlier
// messages.
func TestEdgeCloseStalledClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := inMemory(t)
		joinInMemory(t, e, "tcp", "room", "1")
		joinInMemory(t, e, "websocket", "room", "2")
		reader := joinInMemory(t, e, "tcp", "room", "3")
		e.Send("room", "first")
		e.Send("room", "second")
		start := time.Now()
		go e.Close()
		reader.expect("first", "second", edge.Closed)
		reader.ended()
		require.NoError(t, e.Close())
		require.Equal(t, time.Second, time.Since(start))
	})
}

func TestEdgePrintsNoKey(t *testing.T) {
	e := mmotest.NewEdge(t)
	e.Admit("room", "s3cret-key", "1")
	join(t, e, "udp", "room", "2")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
		require.Regexp(t, `^mmotest\.Edge\(127\.0\.0\.1:\d+\)$`, fmt.Sprintf(verb, e))
		require.Regexp(t, `^mmotest\.Edge\(127\.0\.0\.1:\d+\)$`, fmt.Sprintf(verb, *e))
	}
	require.Equal(t, "<nil>", fmt.Sprint((*mmotest.Edge)(nil)))
}

// Everything at once, for the race detector.
func TestEdgeConcurrency(t *testing.T) {
	e := mmotest.NewEdge(t)
	var wg sync.WaitGroup
	for i, protocol := range []string{"tcp", "websocket", "udp", "tcp", "websocket", "udp"} {
		uid := fmt.Sprint(i)
		p := join(t, e, protocol, "room", uid)
		wg.Go(func() {
			for range 50 {
				p.wire.write(p.seal(announcement(uid, "n")))
				p.wire.write(p.seal(edge.Ping))
				p.wire.write(p.seal("text"))
				p.next()
			}
		})
	}
	wg.Go(func() {
		for i := range 50 {
			e.Admit("room", fmt.Sprint("key", i), "9")
			e.Members("room")
			e.Send("room", "news")
			e.SetFaults(mmotest.Faults{Segment: 1 + i%50, In: mmotest.Datagrams{Reorder: 0.5, Duplicates: 0.5}, Out: mmotest.Datagrams{Reorder: 0.5}})
			e.Configure(func(s *mmotest.Settings) { s.HeartbeatTimeout = time.Minute })
			e.Stats()
		}
		e.Kick("room", "9")
		e.Cut("room", "0")
		e.CloseRoom("room")
	})
	wg.Wait()
}
