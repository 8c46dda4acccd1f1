package mmo_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/mmotest"
	"github.com/stretchr/testify/require"
)

const udp = mmo.ProtocolUDP

// dialer counts the ports that a client opens, and keeps the newest one.
type dialer struct {
	e *mmotest.Edge

	mu     sync.Mutex
	opened int
	newest net.Conn
}

func (d *dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := d.e.DialContext(ctx, network, address)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.opened++
	d.newest = conn
	return conn, err
}

func (d *dialer) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.opened
}

// If a login or its answer is lost, the client repeats the login with the same key. This
// makes no second member.
func TestUDPLoginRepeats(t *testing.T) {
	for name, faults := range map[string]mmotest.Faults{
		"the question is lost": {In: mmotest.Datagrams{LoseNext: 3}},
		"the answer is lost":   {Out: mmotest.Datagrams{LoseNext: 3}},
	} {
		t.Run(name, func(t *testing.T) {
			inMemory(t, func(t *testing.T, e *mmotest.Edge) {
				e.SetFaults(faults)
				began := time.Now()
				conn := join(t, e, udp, "1")
				require.Equal(t, 6*time.Second, time.Since(began))
				require.Equal(t, int64(1), e.Stats().Logins)
				require.Len(t, next[mmo.Members](t, conn).List, 1)
			})
		})
	}
	inMemory(t, func(t *testing.T, e *mmotest.Edge) {
		e.SetFaults(mmotest.Faults{Out: mmotest.Datagrams{Loss: 1}})
		began := time.Now()
		_, err := dial(t, e, udp, "1")
		require.ErrorIs(t, err, mmo.ErrRefused)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 10*time.Second, time.Since(began))
	})
}

// The edge lets a client in, but its __auth_ok__ is lost. The client takes the next message
// as the answer.
func TestUDPLoginByAnyMessage(t *testing.T) {
	inMemory(t, func(t *testing.T, e *mmotest.Edge) {
		e.SetFaults(mmotest.Faults{Out: mmotest.Datagrams{LoseNext: 1}})
		time.AfterFunc(time.Second/2, func() { e.Send("room", "text") })
		began := time.Now()
		conn := join(t, e, udp, "1")
		require.Equal(t, time.Second/2, time.Since(began))
		require.Equal(t, mmo.Text("text"), read(t, conn))
	})
}

// An announcement that got lost is repeated.
func TestUDPAnnouncementRepeats(t *testing.T) {
	for n := range 4 { // of: announcement, question, heartbeat, and the second announcement
		inMemory(t, func(t *testing.T, e *mmotest.Edge) {
			a := join(t, e, udp, "1")
			o := options(e, "2")
			o.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := e.DialContext(ctx, network, address)
				return &lossy{Conn: conn, lose: map[int]bool{2: true, 2 + n: true}}, err
			}
			b, err := dialWith(t, e, udp, "2", o)
			require.NoError(t, err)
			defer b.Close()
			require.Equal(t, mmo.MemberJoined{UID: "2", Nickname: "nick of 2"}, next[mmo.MemberJoined](t, a))
			time.Sleep(time.Minute) // of the bubble's clock
			require.Len(t, b.Members(), 2, n)
		})
	}
}

// A client that has a wrong list of members gets the right list within half a minute.
func TestUDPMembersAreAskedFor(t *testing.T) {
	inMemory(t, func(t *testing.T, e *mmotest.Edge) {
		a, _ := join(t, e, udp, "1"), join(t, e, udp, "2")
		next[mmo.MemberJoined](t, a)
		time.Sleep(16 * time.Second) // of the bubble's clock
		e.Send("room", `{"type":"__leave__","uid":"2"}`)
		next[mmo.MemberLeft](t, a)
		require.Len(t, a.Members(), 1)
		require.Len(t, next[mmo.Members](t, a).List, 2)
		require.Len(t, a.Members(), 2)
	})
}

// lossy is a connection that loses the datagrams whose numbers are in lose. It counts from
// 1.
type lossy struct {
	net.Conn
	lose map[int]bool

	mu   sync.Mutex
	sent int
}

func (l *lossy) Write(p []byte) (int, error) {
	l.mu.Lock()
	l.sent++
	lost := l.lose[l.sent]
	l.mu.Unlock()
	if lost {
		return len(p), nil
	}
	return l.Conn.Write(p)
}

func TestUDPPortChange(t *testing.T) {
	inMemory(t, func(t *testing.T, e *mmotest.Edge) {
		e.Configure(func(s *mmotest.Settings) { s.HeartbeatTimeout = time.Hour })
		d := &dialer{e: e}
		o := options(e, "1")
		o.DialContext = d.DialContext
		conn, err := dialWith(t, e, udp, "1", o)
		require.NoError(t, err)
		defer conn.Close()
		time.Sleep(time.Minute)
		require.Equal(t, 1, d.count(), "no change while the edge answers")

		// The old port stops working, as if a router had forgotten it: messages from the
		// edge get lost. The socket is closed, too, so reading and sending fail.
		require.NoError(t, d.newest.Close())
		began := time.Now()
		for d.count() == 1 {
			time.Sleep(time.Second)
		}
		require.InDelta(t, 15, time.Since(began).Seconds(), 4)
		time.Sleep(10 * time.Second)
		e.Send("room", "to the new port")
		require.Equal(t, mmo.Text("to the new port"), next[mmo.Text](t, conn))
		require.NoError(t, conn.Send(t.Context(), "x"))
		require.Equal(t, int64(1), e.Stats().Logins)
		time.Sleep(time.Minute)
		require.Equal(t, 2, d.count())
	})
}

func TestUDPPortChangeFails(t *testing.T) {
	inMemory(t, func(t *testing.T, e *mmotest.Edge) {
		d := &dialer{e: e}
		o := options(e, "1")
		o.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			if d.count() > 0 {
				return nil, net.ErrClosed
			}
			return d.DialContext(ctx, network, address)
		}
		conn, err := dialWith(t, e, udp, "1", o)
		require.NoError(t, err)
		defer conn.Close()
		e.Configure(func(s *mmotest.Settings) { s.HeartbeatTimeout = time.Hour })
		time.Sleep(5 * time.Second)
		e.SetFaults(mmotest.Faults{Mute: true})
		time.Sleep(30 * time.Second)
		e.SetFaults(mmotest.Faults{})
		e.Send("room", "still the old port")
		require.Equal(t, mmo.Text("still the old port"), next[mmo.Text](t, conn))
	})
}

// Two clients have a network with 5 % loss, duplicates and reordering. Most messages
// arrive, and none arrives twice. In the end the lists of members agree. Nobody loses the
// connection.
func TestUDPBadNetwork(t *testing.T) {
	inMemory(t, func(t *testing.T, e *mmotest.Edge) {
		bad := mmotest.Datagrams{Loss: 0.05, Duplicates: 0.05, Reorder: 0.1}
		e.SetFaults(mmotest.Faults{In: bad, Out: bad, Garbled: 0.01, Seed: 7})
		a, b := join(t, e, udp, "1"), join(t, e, udp, "2")
		const n = 1000
		seen := make(map[string]int)
		var reader sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		reader.Go(func() {
			for {
				event, err := b.Read(ctx)
				if err != nil {
					return
				}
				if broadcast, ok := event.(mmo.Broadcast); ok {
					seen[broadcast.Message]++
				}
			}
		})
		for i := range n {
			require.NoError(t, a.Broadcast(ctx, fmt.Sprint(i), ""))
			time.Sleep(100 * time.Millisecond)
		}
		require.NoError(t, a.SetVars(ctx, map[string]string{"last": "1"}))
		time.Sleep(5 * time.Minute)
		cancel()
		reader.Wait()
		require.Greater(t, len(seen), n*8/10)
		require.Less(t, len(seen), n)
		for message, times := range seen {
			require.Equal(t, 1, times, message)
		}
		require.Greater(t, b.Dropped(), uint64(n*3/100), "duplicates and garbled ones")
		require.Len(t, a.Members(), 2)
		require.Len(t, b.Members(), 2)
		require.Equal(t, int64(2), e.Stats().Logins)
	})
}

// fakeUDPEdge is the edge's side of a login over UDP. It then calls serve with the client's
// socket and cipher.
func fakeUDPEdge(t *testing.T, serve func(conn net.Conn, c *edge.Cipher)) *mmo.DialOptions {
	t.Helper()
	return fakeEdge(t, func(conn net.Conn) {
		buf := make([]byte, edge.MaxDatagram)
		n, _ := conn.Read(buf)
		_, rest, _ := edge.ParseDatagram(buf[:n])
		seed, _, _ := edge.ParseAuth(rest)
		go func() { _, _ = io.Copy(io.Discard, conn) }()
		serve(conn, edge.NewCipher(seed))
	})
}

// datagram returns a datagram as the edge sends it.
func datagram(c *edge.Cipher, id uint64, data string) []byte {
	var nonce [edge.NonceSize]byte
	_, _ = rand.Read(nonce[:])
	return c.Seal(edge.AppendHeader(nil, id), nonce, time.Now(), data)
}

func TestUDPBadDatagrams(t *testing.T) {
	inBubble := func(name string, serve func(conn net.Conn, c *edge.Cipher), want error, test func(t *testing.T, conn *mmo.Conn)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn, err := mmo.Dial(t.Context(), udp, "127.0.0.1:1", "key", fakeUDPEdge(t, serve))
				if want != nil {
					require.ErrorIs(t, err, want)
					return
				}
				require.NoError(t, err)
				defer conn.Close()
				test(t, conn)
			})
		})
	}
	garbage := func(conn net.Conn) {
		for _, size := range []int{1, 7, 8, 43, 44, edge.MaxDatagram} {
			_, _ = conn.Write(make([]byte, size))
		}
	}
	inBubble("no answer but garbage", func(conn net.Conn, _ *edge.Cipher) {
		garbage(conn)
		time.Sleep(time.Minute)
	}, mmo.ErrRefused, nil)
	inBubble("connect id 0", func(conn net.Conn, c *edge.Cipher) {
		_, _ = conn.Write(datagram(c, 0, edge.AuthOK))
		time.Sleep(time.Minute)
	}, mmo.ErrRefused, nil)
	inBubble("another key", func(conn net.Conn, _ *edge.Cipher) {
		_, _ = conn.Write(datagram(edge.NewCipher([32]byte{}), 7, edge.AuthOK))
		time.Sleep(time.Minute)
	}, mmo.ErrRefused, nil)
	inBubble("refused with a word", func(conn net.Conn, c *edge.Cipher) {
		_, _ = conn.Write(datagram(c, 7, edge.Closed))
	}, mmo.ErrClosedByEdge, nil)
	inBubble("replayed", func(conn net.Conn, c *edge.Cipher) {
		authOK, text := datagram(c, 7, edge.AuthOK), datagram(c, 7, "once")
		for _, d := range [][]byte{authOK, text, text, authOK, text} {
			_, _ = conn.Write(d)
		}
		garbage(conn)
		_, _ = conn.Write(datagram(c, 99, "with another connect id"))
		time.Sleep(10 * time.Second)
		_, _ = conn.Write(text)
		_, _ = conn.Write(datagram(c, 7, "last"))
		time.Sleep(time.Second)
	}, nil, func(t *testing.T, conn *mmo.Conn) {
		for _, want := range []string{"once", "with another connect id", "last"} {
			require.Equal(t, mmo.Text(want), next[mmo.Text](t, conn))
		}
		require.Equal(t, uint64(3+6+1), conn.Dropped())
	})
}

// A dialer that hangs when the port changes holds up neither heartbeats nor Close.
func TestUDPPortChangeHangs(t *testing.T) {
	inMemory(t, func(t *testing.T, e *mmotest.Edge) {
		d := &dialer{e: e}
		o := options(e, "1")
		o.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			if d.count() > 0 {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return d.DialContext(ctx, network, address)
		}
		conn, err := dialWith(t, e, udp, "1", o)
		require.NoError(t, err)
		defer conn.Close()
		e.SetFaults(mmotest.Faults{Mute: true})
		time.Sleep(40 * time.Second)
		require.Equal(t, []string{"1"}, e.Members("room"), "the edge hears the heartbeats")
		time.Sleep(10 * time.Second)
		require.ErrorContains(t, readError(t, conn), "silent")
	})
}

// Somebody who repeats an old datagram neither keeps a dead connection alive nor makes the
// clock look wrong.
func TestUDPReplayIsNoSignOfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := fakeUDPEdge(t, func(conn net.Conn, c *edge.Cipher) {
			old := datagram(c, 7, edge.AuthOK)
			for {
				if _, err := conn.Write(old); err != nil {
					return
				}
				time.Sleep(5 * time.Second)
			}
		})
		firstOnly, dialed := o.DialContext, false
		o.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			if dialed {
				return nil, net.ErrClosed
			}
			dialed = true
			return firstOnly(ctx, network, address)
		}
		conn, err := mmo.Dial(t.Context(), udp, "127.0.0.1:1", "key", o)
		require.NoError(t, err)
		defer conn.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = conn.Read(ctx)
		require.ErrorIs(t, err, mmo.ErrNoConnection)
		require.NotContains(t, err.Error(), "clock")
	})
}
