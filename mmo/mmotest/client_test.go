package mmotest_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/mmotest"
)

func TestHeartbeatTimeout(t *testing.T) {
	inBubbles(t, func(t *testing.T, e *mmotest.Edge, protocol string) {
		ann, bob := joinInMemory(t, e, protocol, "room", "1"), joinInMemory(t, e, protocol, "room", "2")
		ann.announce("1", "")
		bob.expect(announcement("1", ""))
		begin := time.Now()
		for range 2 {
			time.Sleep(5 * time.Second)
			ann.write("not a heartbeat")
			bob.expect("not a heartbeat")
			bob.write(edge.Heartbeat)
			bob.expect(edge.Heartbeat)
		}
		ann.expect(edge.Closed)
		require.Equal(t, 15*time.Second, time.Since(begin))
		ann.ended()
		bob.expect(leaving("1"), edge.Closed)
		require.Equal(t, 25*time.Second, time.Since(begin))
	})
}

func TestHeartbeatSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := inMemory(t)
		e.Configure(func(s *mmotest.Settings) { s.HeartbeatTimeout, s.SilentHeartbeats = time.Minute, true })
		ann := joinInMemory(t, e, "tcp", "room", "1")
		ann.write(edge.Heartbeat)
		ann.quiet()
		e.Configure(func(s *mmotest.Settings) { s.HeartbeatTimeout = 2 * time.Second })
		begin := time.Now()
		ann.write(edge.Heartbeat)
		ann.expect(edge.Closed)
		require.Equal(t, 2*time.Second, time.Since(begin))
	})
}

func TestPayloads(t *testing.T) {
	inBubbles(t, func(t *testing.T, e *mmotest.Edge, protocol string) {
		ann, bob := joinInMemory(t, e, protocol, "room", "1"), joinInMemory(t, e, protocol, "room", "2")
		at := func(offset time.Duration) []byte {
			ann.clock = func() time.Time { return time.Now().Add(offset) }
			defer func() { ann.clock = time.Now }()
			return ann.seal(offset.String())
		}
		send := func(payload []byte) { require.NoError(t, ann.wire.write(payload)) }

		send(at(20 * time.Second))
		send(at(-20 * time.Second))
		bob.expect("20s", "-20s")
		send(at(20*time.Second + time.Millisecond))
		send(at(-20*time.Second - time.Millisecond))
		send(at(-time.Hour))
		send(at(50 * 365 * 24 * time.Hour))

		good := ann.seal("good")
		send(good)
		bob.expect("good")
		send(good)
		time.Sleep(19 * time.Second / 2)
		send(good)
		bob.write(edge.Heartbeat)
		bob.expect(edge.Heartbeat)
		ann.write(edge.Heartbeat)
		ann.expect(edge.Heartbeat)
		time.Sleep(11 * time.Second)
		send(good) // now it is too late

		wrong := ann.seal("wrong")
		wrong[len(wrong)-1] ^= 1
		send(wrong)
		send(wrong[:edge.Overhead-1])
		send(nil)
		ann.quiet()
		bob.quiet()
		stats := e.Stats()
		require.EqualValues(t, 3, stats.Relayed)
		require.EqualValues(t, 5, stats.Untimely)
		require.EqualValues(t, 2, stats.Replayed)
		require.EqualValues(t, 3, stats.Garbled)
	})
}

// A refused login ends the connection. Over UDP it has no answer.
func TestLoginPayloads(t *testing.T) {
	tests := map[string]func(p *player, key string) []byte{
		"early": func(p *player, key string) []byte {
			p.clock = func() time.Time { return time.Now().Add(20*time.Second + time.Millisecond) }
			return p.seal(key)
		},
		"late": func(p *player, key string) []byte {
			p.clock = func() time.Time { return time.Now().Add(-20*time.Second - time.Millisecond) }
			return p.seal(key)
		},
		"wrong bit": func(p *player, key string) []byte {
			wrong := p.seal(key)
			wrong[20] ^= 1
			return wrong
		},
		"short":    func(p *player, key string) []byte { return p.seal(key)[:35] },
		"empty":    func(p *player, key string) []byte { return nil },
		"too long": func(p *player, key string) []byte { return p.seal(strings.Repeat("k", 257)) },
	}
	for name, payload := range tests {
		t.Run(name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, e *mmotest.Edge, protocol string) {
				e.Admit("room", "key", "1")
				p := connectVia(t, e, protocol, e.DialContext)
				require.NoError(t, p.wire.start(p.seed))
				_ = p.wire.write(payload(p, "key")) // the edge may close before it is all sent
				p.ended()
				require.Equal(t, mmotest.Stats{RefusedLogins: 1}, e.Stats())
				connectVia(t, e, protocol, e.DialContext).login("key") // still good
			})
		})
	}
}

// If the edge's clock is wrong, a client whose clock is right can't log in.
func TestClockOff(t *testing.T) {
	inBubbles(t, func(t *testing.T, e *mmotest.Edge, protocol string) {
		e.Configure(func(s *mmotest.Settings) { s.Now = func() time.Time { return time.Now().Add(time.Minute) } })
		e.Admit("room", "key", "1")
		refused(t, e, protocol, "key")
		p := connectVia(t, e, protocol, e.DialContext)
		p.clock = func() time.Time { return time.Now().Add(50 * time.Second) }
		p.login("key")
		require.WithinDuration(t, time.Now().Add(time.Minute), p.opened.Time, time.Millisecond)
	})
}

// A flood does not make a replay possible.
func TestReplayAfterFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := inMemory(t)
		ann := joinInMemory(t, e, "udp", "room", "1")
		first := ann.seal("first")
		require.NoError(t, ann.wire.write(first))
		for range 100 { // without a pause all would have one time
			time.Sleep(10 * time.Millisecond)
			for range 300 {
				ann.write("flood")
			}
		}
		before := e.Stats()
		require.NoError(t, ann.wire.write(first))
		require.Equal(t, before.Replayed+1, e.Stats().Replayed)
		require.EqualValues(t, 30_001, before.Relayed)
	})
}

// A client that does not read its messages loses its connection. The others go on.
func TestSlowReceiver(t *testing.T) {
	for _, protocol := range []string{"tcp", "websocket"} {
		t.Run(protocol, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := inMemory(t)
				ann, bob := joinInMemory(t, e, protocol, "room", "1"), joinInMemory(t, e, protocol, "room", "2")
				slow := joinInMemory(t, e, protocol, "room", "3")
				slow.announce("3", "")
				ann.expect(announcement("3", ""))
				bob.expect(announcement("3", ""))
				big := strings.Repeat("x", 1_000_000)
				for range 4 {
					ann.write(big)
					bob.expect(big)
				}
				require.Equal(t, []string{"1", "2", "3"}, e.Members("room"))
				ann.write(big)
				bob.expect(big, leaving("3"))
				ann.expect(leaving("3"))
				require.Equal(t, []string{"1", "2"}, e.Members("room"))
				require.EqualValues(t, 1, e.Stats().Slow)
			})
		})
	}
}

// A client that sends pings and does not read the answers loses its connection.
func TestSlowAsker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := inMemory(t)
		ann, bob := joinInMemory(t, e, "tcp", "room", "1"), joinInMemory(t, e, "tcp", "room", "2")
		ann.announce("1", strings.Repeat("n", 4000))
		bob.read()
		var err error
		for asked := 0; err == nil; asked++ {
			require.Less(t, asked, 100_000)
			err = ann.wire.write(ann.seal(edge.Ping))
		}
		bob.expect(leaving("1"))
		require.EqualValues(t, 1, e.Stats().Slow)
	})
}
