package mmo_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/mmotest"
	"github.com/stretchr/testify/require"
)

func TestConnMembers(t *testing.T) {
	overEach(t, func(t *testing.T, e *mmotest.Edge, protocol string) {
		a := join(t, e, protocol, "1")
		one, two := mmo.Member{UID: "1", Nickname: "nick of 1"}, mmo.Member{UID: "2", Nickname: "nick of 2"}
		require.Equal(t, []mmo.Member{one}, a.Members())
		require.Equal(t, mmo.Members{Count: 1, List: []mmo.Member{one}}, read(t, a))

		b := join(t, e, protocol, "2")
		require.Equal(t, mmo.MemberJoined(two), read(t, a))
		require.Equal(t, []mmo.Member{one, two}, a.Members())
		require.Equal(t, mmo.Members{Count: 2, List: []mmo.Member{one, two}}, read(t, b))
		require.Equal(t, []mmo.Member{one, two}, b.Members())

		require.NoError(t, a.RequestMembers(t.Context()))
		require.Equal(t, mmo.Members{Count: 2, List: []mmo.Member{one, two}}, read(t, a))

		require.NoError(t, b.Close())
		require.Equal(t, mmo.MemberLeft{UID: "2"}, read(t, a))
		require.Equal(t, []mmo.Member{one}, a.Members())
	})
}

func TestConnMessages(t *testing.T) {
	overEach(t, func(t *testing.T, e *mmotest.Edge, protocol string) {
		a, b := join(t, e, protocol, "1"), join(t, e, protocol, "2")
		ctx := t.Context()
		require.NoError(t, a.Send(ctx, "大家好\x00"))
		require.Equal(t, mmo.Text("大家好\x00"), next[mmo.Text](t, b))

		require.NoError(t, a.Broadcast(ctx, `"quoted"`, ""))
		require.Equal(t, mmo.Broadcast{UID: "1", Message: `"quoted"`}, next[mmo.Broadcast](t, b))

		require.NoError(t, a.SetVars(ctx, map[string]string{"x": "1.5", "name": "云"}, "x"))
		require.Equal(t, mmo.Vars{UID: "1", Vars: map[string]string{"x": "1.5", "name": "云"}, Interpolate: []string{"x"}}, next[mmo.Vars](t, b))
		require.NoError(t, a.SetVars(ctx, map[string]string{"x": "2", "y": "3"}, "y", "x"))
		require.Equal(t, mmo.Vars{UID: "1", Vars: map[string]string{"x": "2", "y": "3", "name": "云"}, Interpolate: []string{"x", "y"}}, next[mmo.Vars](t, b))
		require.NoError(t, a.ClearVars(ctx))
		require.NoError(t, a.SetVars(ctx, map[string]string{"z": ""}))
		require.Equal(t, mmo.Vars{UID: "1", Vars: map[string]string{"z": ""}, Interpolate: []string{}}, next[mmo.Vars](t, b))
		require.Zero(t, b.Dropped())
	})
}

func TestConnRefusesMessages(t *testing.T) {
	overEach(t, func(t *testing.T, e *mmotest.Edge, protocol string) {
		a, b := join(t, e, protocol, "1"), join(t, e, protocol, "2")
		nobody := join(t, e, protocol, "")
		ctx, longest := t.Context(), 1048540
		if protocol == mmo.ProtocolUDP {
			longest = 65463
		}
		for name, send := range map[string]func() error{
			"empty":                       func() error { return a.Send(ctx, "") },
			"too long":                    func() error { return a.Send(ctx, strings.Repeat("x", longest+1)) },
			"not UTF-8":                   func() error { return a.Send(ctx, "\xff") },
			"heartbeat":                   func() error { return a.Send(ctx, "__hb__") },
			"end":                         func() error { return a.Send(ctx, "__CLOSED__") },
			"pong":                        func() error { return a.Send(ctx, "__pong__:0:[]") },
			"broadcast, too long":         func() error { return a.Broadcast(ctx, strings.Repeat("x", longest-10), "") },
			"broadcast, not UTF-8":        func() error { return a.Broadcast(ctx, "x", "\xff") },
			"broadcast, nobody":           func() error { return nobody.Broadcast(ctx, "x", "") },
			"variables, too long":         func() error { return a.SetVars(ctx, map[string]string{"x": strings.Repeat("x", longest)}) },
			"variables, name not UTF-8":   func() error { return a.SetVars(ctx, map[string]string{"\xff": ""}) },
			"variables, value not UTF-8":  func() error { return a.SetVars(ctx, map[string]string{"x": "\xff"}) },
			"variables, interp not UTF-8": func() error { return a.SetVars(ctx, nil, "\xff") },
			"variables, nobody":           func() error { return nobody.SetVars(ctx, map[string]string{"x": "1"}) },
		} {
			require.ErrorIs(t, send(), mmo.ErrMessage, name)
		}
		require.NoError(t, a.SetVars(ctx, map[string]string{"y": "1"}))
		require.Equal(t, map[string]string{"y": "1"}, next[mmo.Vars](t, b).Vars, "the refused variables are not kept")
		require.NoError(t, nobody.Broadcast(ctx, "x", "extra"))
		require.Equal(t, mmo.Broadcast{Message: "x", Extra: "extra"}, next[mmo.Broadcast](t, b))
		require.NoError(t, a.Send(ctx, strings.Repeat("x", longest)))
		require.Len(t, next[mmo.Text](t, b), longest)
		require.NoError(t, a.Send(ctx, "small again"))
		require.Equal(t, mmo.Text("small again"), next[mmo.Text](t, b))
	})
}

func TestConnEnds(t *testing.T) {
	overEach(t, func(t *testing.T, e *mmotest.Edge, protocol string) {
		for name, c := range map[string]struct {
			end  func(conn *mmo.Conn)
			want error
		}{
			"kicked":          {func(*mmo.Conn) { e.Kick("room", "1") }, mmo.ErrClosedByEdge},
			"room closed":     {func(*mmo.Conn) { e.CloseRoom("room") }, mmo.ErrClosedByEdge},
			"cut":             {func(*mmo.Conn) { e.Cut("room", "1") }, mmo.ErrNoConnection},
			"closed here":     {func(conn *mmo.Conn) { _ = conn.Close() }, net.ErrClosed},
			"closed in Read":  {func(conn *mmo.Conn) { time.AfterFunc(time.Second, func() { _ = conn.Close() }) }, net.ErrClosed},
			"closed by a job": {func(*mmo.Conn) { time.AfterFunc(time.Second, func() { e.Kick("room", "1") }) }, mmo.ErrClosedByEdge},
		} {
			conn := join(t, e, protocol, "1")
			began := time.Now()
			c.end(conn)
			for range 2 {
				require.ErrorIs(t, readError(t, conn), c.want, name)
			}
			require.ErrorIs(t, conn.Send(t.Context(), "x"), c.want, name)
			require.LessOrEqual(t, time.Since(began), time.Minute, name)
			require.NoError(t, conn.Close(), name)
			require.ErrorIs(t, readError(t, conn), c.want, name)
			require.NoError(t, conn.Close(), name)
		}
	})
}

// If the edge ends the connection, Read returns the earlier messages before the error.
func TestConnReadsBeforeEnd(t *testing.T) {
	overEach(t, func(t *testing.T, e *mmotest.Edge, protocol string) {
		conn := join(t, e, protocol, "1")
		for i := range 10 {
			e.Send("room", fmt.Sprint(i))
		}
		e.Kick("room", "1")
		synctest.Wait()
		for i := range 10 {
			require.Equal(t, mmo.Text(fmt.Sprint(i)), next[mmo.Text](t, conn))
		}
		require.ErrorIs(t, readError(t, conn), mmo.ErrClosedByEdge)
	})
}

func TestConnReadContext(t *testing.T) {
	overEach(t, func(t *testing.T, e *mmotest.Edge, protocol string) {
		conn := join(t, e, protocol, "")
		require.Equal(t, mmo.Members{List: []mmo.Member{}}, read(t, conn))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := conn.Read(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		e.Send("room", "later")
		_, err = conn.Read(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded, "not even if there is an event")
		require.Equal(t, mmo.Text("later"), read(t, conn))
		require.ErrorIs(t, conn.Send(ctx, "x"), context.DeadlineExceeded)
		require.ErrorIs(t, conn.ClearVars(ctx), context.DeadlineExceeded)
		require.ErrorIs(t, conn.SetVars(ctx, nil), mmo.ErrMessage)
		require.NoError(t, conn.Send(t.Context(), "x"), "an ended context before a message harms nothing")
	})
}

func TestConnHeartbeats(t *testing.T) {
	for _, isSilent := range []bool{false, true} {
		overEach(t, func(t *testing.T, e *mmotest.Edge, protocol string) {
			e.Configure(func(s *mmotest.Settings) { s.SilentHeartbeats = isSilent; s.HeartbeatTimeout = 4 * time.Second })
			conn := join(t, e, protocol, "1")
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			for { // no event but the list, which is there once
				event, err := conn.Read(ctx)
				if err != nil {
					require.ErrorIs(t, err, context.DeadlineExceeded)
					break
				}
				require.IsType(t, mmo.Members{}, event)
			}
			require.NoError(t, conn.Send(t.Context(), "x"))
		})
	}
}

func TestConnSilence(t *testing.T) {
	overEach(t, func(t *testing.T, e *mmotest.Edge, protocol string) {
		conn := join(t, e, protocol, "1")
		e.Configure(func(s *mmotest.Settings) { s.HeartbeatTimeout = time.Hour })
		synctest.Wait()
		e.SetFaults(mmotest.Faults{Mute: true})
		began := time.Now()
		err := readError(t, conn)
		require.ErrorIs(t, err, mmo.ErrNoConnection)
		require.ErrorContains(t, err, "silent")
		require.InDelta(t, 45, time.Since(began).Seconds(), 3)
	})
}

// An application that stops reading does not fill the memory. Over TCP and WebSocket, the
// edge has to wait, and gives up after a while. Over UDP, datagrams are dropped and
// counted. The connection lives until the edge ends it.
func TestConnSlowReader(t *testing.T) {
	overEach(t, func(t *testing.T, e *mmotest.Edge, protocol string) {
		conn := join(t, e, protocol, "1")
		synctest.Wait()
		const size, n = 50_000, 120 // 6 MB: more than the 4 MiB that a Conn holds, less than what the edge does besides
		text := strings.Repeat("x", size)
		for range n {
			e.Send("room", text)
			synctest.Wait()
		}
		time.Sleep(2 * time.Minute) // of the bubble's clock
		got := 0
		for ; got < n; got++ {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			event, err := conn.Read(ctx)
			cancel()
			if err != nil {
				break
			}
			if _, ok := event.(mmo.Text); !ok {
				got--
			}
		}
		if protocol == mmo.ProtocolUDP {
			require.Equal(t, (4<<20)/size, got)
			require.GreaterOrEqual(t, conn.Dropped(), uint64(n-got))
		} else {
			require.Equal(t, n, got)
			require.Zero(t, conn.Dropped())
		}
		e.Send("room", "after")
		require.Equal(t, mmo.Text("after"), next[mmo.Text](t, conn))
	})
}

func TestConnManySmallEvents(t *testing.T) {
	inMemory(t, func(t *testing.T, e *mmotest.Edge) {
		conn := join(t, e, mmo.ProtocolUDP, "")
		synctest.Wait()
		for i := range 2000 {
			e.Send("room", fmt.Sprint(i))
			synctest.Wait()
		}
		for i := range 1024 - 1 { // the first event is the list of members
			require.Equal(t, mmo.Text(fmt.Sprint(i)), next[mmo.Text](t, conn))
		}
		require.Equal(t, uint64(2000-1024+1), conn.Dropped())
	})
}

func TestConnCloseDropsEvents(t *testing.T) {
	overEach(t, func(t *testing.T, e *mmotest.Edge, protocol string) {
		conn := join(t, e, protocol, "1")
		e.Send("room", "unread")
		synctest.Wait()
		require.NoError(t, conn.Close())
		_, err := conn.Read(t.Context())
		require.ErrorIs(t, err, net.ErrClosed)
	})
}
