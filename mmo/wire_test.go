package mmo_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/mmotest"
	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// overFakeEdge logs in over TCP to a fake edge. After the login, serve acts as the edge.
func overFakeEdge(t *testing.T, serve func(conn net.Conn, c *edge.Cipher), test func(t *testing.T, conn *mmo.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		conn, err := mmo.Dial(t.Context(), "tcp", "127.0.0.1:1", "key", fakeEdge(t, func(conn net.Conn) {
			c := logIn(conn)
			say(conn, c, time.Now(), edge.AuthOK)
			_, _ = edge.ReadFrame(conn, nil) // the question for the members
			serve(conn, c)
		}))
		require.NoError(t, err)
		defer conn.Close()
		test(t, conn)
	})
}

func TestTCPFrames(t *testing.T) {
	write := func(conn net.Conn, size uint32, payload []byte) {
		_, _ = conn.Write(append(binary.BigEndian.AppendUint32(nil, size), payload...))
	}
	for name, c := range map[string]struct {
		send    func(conn net.Conn, c *edge.Cipher)
		dropped uint64
		ends    bool
	}{
		"length 0":      {func(conn net.Conn, _ *edge.Cipher) { write(conn, 0, nil) }, 1, false},
		"length 35":     {func(conn net.Conn, _ *edge.Cipher) { write(conn, 35, make([]byte, 35)) }, 1, false},
		"length 36":     {func(conn net.Conn, _ *edge.Cipher) { write(conn, 36, make([]byte, 36)) }, 1, false},
		"no data":       {func(conn net.Conn, c *edge.Cipher) { say(conn, c, time.Now(), "") }, 1, false},
		"another key":   {func(conn net.Conn, _ *edge.Cipher) { say(conn, edge.NewCipher([32]byte{1}), time.Now(), "x") }, 1, false},
		"2^20, garbage": {func(conn net.Conn, _ *edge.Cipher) { write(conn, 1<<20, make([]byte, 1<<20)) }, 1, false},
		"2^20":          {func(conn net.Conn, c *edge.Cipher) { say(conn, c, time.Now(), strings.Repeat("x", 1<<20-36)) }, 0, false},
		"2^20 + 1":      {func(conn net.Conn, _ *edge.Cipher) { write(conn, 1<<20+1, nil) }, 0, true},
		"2^32 - 1":      {func(conn net.Conn, _ *edge.Cipher) { write(conn, 1<<32-1, nil) }, 0, true},
		"truncated":     {func(conn net.Conn, _ *edge.Cipher) { write(conn, 100, make([]byte, 50)); _ = conn.Close() }, 0, true},
		"half a length": {func(conn net.Conn, _ *edge.Cipher) { _, _ = conn.Write([]byte{0, 0}); _ = conn.Close() }, 0, true},
		"ends":          {func(conn net.Conn, _ *edge.Cipher) { _ = conn.Close() }, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			overFakeEdge(t, func(conn net.Conn, cipher *edge.Cipher) {
				go func() { _, _ = io.Copy(io.Discard, conn) }()
				c.send(conn, cipher)
				say(conn, cipher, time.Now(), "after")
				time.Sleep(time.Second)
			}, func(t *testing.T, conn *mmo.Conn) {
				if c.ends {
					require.ErrorIs(t, readError(t, conn), mmo.ErrNoConnection)
					return
				}
				for next[mmo.Text](t, conn) != "after" {
				}
				require.Equal(t, c.dropped, conn.Dropped())
			})
		})
	}
}

// A frame that arrives at one byte a second is delivered, if it is complete before the
// silence is too long.
func TestTCPSlowFrame(t *testing.T) {
	overFakeEdge(t, func(conn net.Conn, c *edge.Cipher) {
		go func() { _, _ = io.Copy(io.Discard, conn) }()
		frame := c.Seal(make([]byte, edge.FrameHeader), [12]byte{}, time.Now(), "x")
		edge.PutFrameHeader(frame)
		for _, b := range frame {
			_, _ = conn.Write([]byte{b})
			time.Sleep(time.Second)
		}
	}, func(t *testing.T, conn *mmo.Conn) {
		require.Equal(t, mmo.Text("x"), read(t, conn))
	})
}

func TestGarbledMessages(t *testing.T) {
	overEach(t, func(t *testing.T, e *mmotest.Edge, protocol string) {
		conn := join(t, e, protocol, "")
		synctest.Wait()
		e.SetFaults(mmotest.Faults{Garbled: 1})
		e.Send("room", "lost")
		synctest.Wait()
		e.SetFaults(mmotest.Faults{Segment: 1})
		e.Send("room", "arrives")
		require.Equal(t, mmo.Text("arrives"), next[mmo.Text](t, conn))
		require.Equal(t, uint64(1), conn.Dropped())
	})
}

func TestCutWithinMessage(t *testing.T) {
	for _, protocol := range []string{mmo.ProtocolTCP, mmo.ProtocolWebSocket} {
		inMemory(t, func(t *testing.T, e *mmotest.Edge) {
			conn := join(t, e, protocol, "")
			synctest.Wait()
			e.SetFaults(mmotest.Faults{CutAfter: 30})
			e.Send("room", "text")
			require.ErrorIs(t, readError(t, conn), mmo.ErrNoConnection, protocol)
		})
	}
}

// If the edge reads nothing, a Send fails after 10 seconds, or when its context ends. Both
// end the connection. Another Send that waits for the first one can give up without harm.
func TestSendBlocked(t *testing.T) {
	overFakeEdge(t, func(net.Conn, *edge.Cipher) { time.Sleep(time.Hour) }, func(t *testing.T, conn *mmo.Conn) {
		began := time.Now()
		require.ErrorIs(t, conn.Send(t.Context(), "x"), mmo.ErrNoConnection)
		require.Equal(t, 10*time.Second, time.Since(began))
		require.ErrorIs(t, readError(t, conn), mmo.ErrNoConnection)
	})
	overFakeEdge(t, func(net.Conn, *edge.Cipher) { time.Sleep(time.Hour) }, func(t *testing.T, conn *mmo.Conn) {
		first, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		second, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		errs := make(chan error)
		go func() { errs <- conn.Send(first, "x") }()
		synctest.Wait()
		require.ErrorIs(t, conn.Send(second, "x"), context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(began))
		require.ErrorIs(t, <-errs, context.DeadlineExceeded)
		require.Equal(t, 2*time.Second, time.Since(began))
		require.ErrorIs(t, readError(t, conn), mmo.ErrNoConnection)
		require.ErrorIs(t, readError(t, conn), context.DeadlineExceeded, "the reason")
	})
}

// slowDeadlines cancels a context when a message has been written. It takes a second to set
// a deadline in the past.
type slowDeadlines struct {
	net.Conn
	cancel      context.CancelFunc
	interrupted bool
}

func (s *slowDeadlines) Write(p []byte) (int, error) {
	n, err := s.Conn.Write(p)
	s.cancel()
	synctest.Wait()
	return n, err
}

func (s *slowDeadlines) SetWriteDeadline(at time.Time) error {
	if time.Until(at) < 0 {
		time.Sleep(time.Second) // of the bubble's clock
		s.interrupted = true
	}
	return s.Conn.SetWriteDeadline(at)
}

// The context of a sent message does not interrupt the next message, because Send waits
// until its own interruption is over.
func TestSendContextEndsAfterwards(t *testing.T) {
	inMemory(t, func(t *testing.T, e *mmotest.Edge) {
		slow := &slowDeadlines{cancel: func() {}}
		o := options(e, "")
		o.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := e.DialContext(ctx, network, address)
			slow.Conn = conn
			return slow, err
		}
		conn, err := dialWith(t, e, mmo.ProtocolTCP, "", o)
		require.NoError(t, err)
		defer conn.Close()
		ctx, cancel := context.WithCancel(t.Context())
		slow.cancel = cancel
		require.NoError(t, conn.Send(ctx, "x"))
		require.True(t, slow.interrupted)
		require.NoError(t, conn.Send(t.Context(), "x"))
	})
}

// A message is delivered even if only a part of the next message has arrived.
func TestTCPPartOfNextFrame(t *testing.T) {
	overFakeEdge(t, func(conn net.Conn, c *edge.Cipher) {
		go func() { _, _ = io.Copy(io.Discard, conn) }()
		frame := c.Seal(make([]byte, edge.FrameHeader), [12]byte{}, time.Now(), "x")
		edge.PutFrameHeader(frame)
		for _, part := range []int{1, 4, 5, len(frame) - 1} {
			_, _ = conn.Write(append(frame, frame[:part]...))
			time.Sleep(time.Second)
			_, _ = conn.Write(frame[part:])
			time.Sleep(time.Second)
		}
	}, func(t *testing.T, conn *mmo.Conn) {
		began := time.Now()
		for i := range 8 {
			require.Equal(t, mmo.Text("x"), read(t, conn))
			require.Equal(t, time.Duration(i)*time.Second, time.Since(began))
		}
	})
}

// webSocketEdge logs a client in. After the login, serve acts as the edge.
func webSocketEdge(t *testing.T, serve func(ctx context.Context, ws *websocket.Conn, c *edge.Cipher)) *mmo.Conn {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer ws.CloseNow()
		_, seed, err := ws.Read(r.Context())
		if err != nil || len(seed) != edge.SeedSize {
			return
		}
		_, _, _ = ws.Read(r.Context())
		c := edge.NewCipher([edge.SeedSize]byte(seed))
		_ = ws.Write(r.Context(), websocket.MessageBinary, c.Seal(nil, [12]byte{}, time.Now(), edge.AuthOK))
		serve(r.Context(), ws, c)
	}))
	t.Cleanup(server.Close)
	conn, err := mmo.Dial(t.Context(), "", strings.Replace(server.URL, "http", "ws", 1), "key", nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestWebSocketMessages(t *testing.T) {
	t.Run("text message", func(t *testing.T) {
		conn := webSocketEdge(t, func(ctx context.Context, ws *websocket.Conn, c *edge.Cipher) {
			_ = ws.Write(ctx, websocket.MessageText, c.Seal(nil, [12]byte{1}, time.Now(), "x"))
			_ = ws.Write(ctx, websocket.MessageBinary, c.Seal(nil, [12]byte{2}, time.Now(), "y"))
			_, _, _ = ws.Read(ctx)
			_ = ws.Close(websocket.StatusGoingAway, "secret")
		})
		require.Equal(t, mmo.Text("y"), next[mmo.Text](t, conn))
		require.Equal(t, uint64(1), conn.Dropped())
		err := readError(t, conn)
		require.ErrorIs(t, err, mmo.ErrClosedByEdge)
		require.NotContains(t, err.Error(), "secret")
	})
	t.Run("largest, in pieces", func(t *testing.T) {
		conn := webSocketEdge(t, func(ctx context.Context, ws *websocket.Conn, c *edge.Cipher) {
			w, _ := ws.Writer(ctx, websocket.MessageBinary)
			for rest := c.Seal(nil, [12]byte{1}, time.Now(), strings.Repeat("x", edge.MaxData)); len(rest) > 0; {
				n := min(len(rest), 100_000)
				_, _ = w.Write(rest[:n])
				rest = rest[n:]
			}
			_ = w.Close()
			_, _, _ = ws.Read(ctx)
		})
		require.Len(t, next[mmo.Text](t, conn), edge.MaxData)
	})
	t.Run("too large", func(t *testing.T) {
		conn := webSocketEdge(t, func(ctx context.Context, ws *websocket.Conn, _ *edge.Cipher) {
			_ = ws.Write(ctx, websocket.MessageBinary, make([]byte, edge.MaxPayload+1))
			_, _, _ = ws.Read(ctx)
		})
		err := readError(t, conn)
		require.ErrorIs(t, err, mmo.ErrNoConnection)
		require.ErrorContains(t, err, "longer than 1 MiB")
	})
	t.Run("nothing is read", func(t *testing.T) {
		done := make(chan struct{})
		conn := webSocketEdge(t, func(context.Context, *websocket.Conn, *edge.Cipher) { <-done })
		defer close(done)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		text := strings.Repeat("x", edge.MaxData)
		sent := make(chan struct{}, 1)
		go func() { // gives up when a message is stuck
			for {
				select {
				case <-sent:
				case <-time.After(300 * time.Millisecond):
					cancel()
					return
				}
			}
		}()
		var err error
		for err == nil {
			err = conn.Send(ctx, text)
			sent <- struct{}{}
		}
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, readError(t, conn), mmo.ErrNoConnection)
	})
}
