package mmo_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/mmotest"
	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// fakeEdge returns options that connect to serve over a pipe. The test waits until serve
// has returned.
func fakeEdge(t testing.TB, serve func(conn net.Conn)) *mmo.DialOptions {
	t.Helper()
	var serving sync.WaitGroup
	t.Cleanup(serving.Wait)
	return &mmo.DialOptions{DialContext: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		serving.Go(func() {
			defer server.Close()
			serve(server)
		})
		return client, nil
	}}
}

// logIn is the edge's side of a login over TCP. It does not send the answer.
func logIn(conn net.Conn) *edge.Cipher {
	var seed [edge.SeedSize]byte
	_, _ = io.ReadFull(conn, seed[:])
	_, _ = edge.ReadFrame(conn, nil)
	return edge.NewCipher(seed)
}

// say sends data in a frame.
func say(conn net.Conn, c *edge.Cipher, at time.Time, data string) {
	var nonce [edge.NonceSize]byte
	_, _ = rand.Read(nonce[:])
	frame := c.Seal(make([]byte, edge.FrameHeader), nonce, at, data)
	edge.PutFrameHeader(frame)
	_, _ = conn.Write(frame)
}

// The client sends the bytes of the test vectors, which the official Godot client computed.
// Package internal/edge tests the other vectors.
func TestDialVectors(t *testing.T) {
	const (
		key     = "shangcloud_mmo_test"
		seed    = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
		nonce   = "a0a1a2a3a4a5a6a7a8a9aaab"
		payload = nonce + "e794e57b3ce1668f9bd49b328d20ad9fd5c73b583a9b099755d31b835294d87bb99a6f85cbebcd0d44aadd"
		authOK  = nonce + "e794e57b3ce1668fb7e39b299e2b9e9fcbfc3bdf690f0e45ed0c4f2303319abf6122ae"
	)
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		require.NoError(t, err)
		return b
	}
	for protocol, c := range map[string]struct{ login, answer string }{
		mmo.ProtocolTCP: {seed + "00000037" + payload, "0000002f" + authOK},
		mmo.ProtocolUDP: {"0000000000000000" + seed + payload, "0000000000000007" + authOK},
	} {
		t.Run(protocol, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Until(time.UnixMilli(1753401600123))) // of the bubble's clock
				system := rand.Reader
				defer func() { rand.Reader = system }()
				rand.Reader = io.MultiReader(bytes.NewReader(unhex(seed+nonce)), system)

				got := make([]byte, len(c.login)/2)
				o := fakeEdge(t, func(conn net.Conn) {
					_, _ = io.ReadFull(conn, got)
					_, _ = conn.Write(unhex(c.answer))
					_, _ = io.Copy(io.Discard, conn)
				})
				conn, err := mmo.Dial(t.Context(), protocol, "127.0.0.1:1", key, o)
				require.NoError(t, err)
				require.NoError(t, conn.Close())
				require.Equal(t, c.login, hex.EncodeToString(got))
			})
		})
	}
}

func TestDialWebSocketVectors(t *testing.T) {
	var kinds []websocket.MessageType
	var sizes []int
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer ws.CloseNow()
		for range 2 {
			kind, message, _ := ws.Read(r.Context())
			kinds, sizes = append(kinds, kind), append(sizes, len(message))
		}
		_ = ws.Close(websocket.StatusGoingAway, "enough")
	}))
	defer server.Close()
	_, err := mmo.Dial(t.Context(), "websocket", strings.Replace(server.URL, "http", "ws", 1)+"/any?query=1", "shangcloud_mmo_test", nil)
	require.ErrorIs(t, err, mmo.ErrRefused)
	require.ErrorIs(t, err, mmo.ErrClosedByEdge)
	require.Equal(t, []websocket.MessageType{websocket.MessageBinary, websocket.MessageBinary}, kinds)
	require.Equal(t, []int{32, 55}, sizes)
}

// TestDialSockets uses real sockets of this machine.
func TestDialSockets(t *testing.T) {
	e := mmotest.NewEdge(t)
	for _, protocol := range protocols {
		url, spoken := e.URL(protocol)
		conn, err := mmo.Dial(t.Context(), spoken, url, mmotest.TestRoom, &mmo.DialOptions{UID: protocol})
		require.NoError(t, err, protocol)
		require.IsType(t, mmo.Members{}, read(t, conn))
		require.NoError(t, conn.Close())
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestDialRefuses(t *testing.T) {
	ctx := t.Context()
	long := strings.Repeat("x", 1025)
	for name, c := range map[string]struct {
		protocol, url, key string
		o                  *mmo.DialOptions
		want               error
	}{
		"URL":                {"tcp", "host", "k", nil, mmo.ErrEdgeURL},
		"TCP":                {"tcp", "192.0.2.1:1", "k", nil, mmo.ErrPlaintext},
		"UDP":                {"udp", "192.0.2.1:1", "k", nil, mmo.ErrPlaintext},
		"ws":                 {"websocket", "ws://192.0.2.1/ws", "k", nil, mmo.ErrPlaintext},
		"WebSocket by port":  {"websocket", "192.0.2.1:1", "k", &mmo.DialOptions{}, mmo.ErrPlaintext},
		"named like this":    {"tcp", "localhost.example:1", "k", nil, mmo.ErrPlaintext},
		"no key":             {"tcp", "127.0.0.1:1", "", nil, mmo.ErrMessage},
		"long key":           {"udp", "127.0.0.1:1", strings.Repeat("k", 257), nil, mmo.ErrMessage},
		"very long key":      {"tcp", "127.0.0.1:1", strings.Repeat("k", 1<<20), nil, mmo.ErrMessage},
		"uid not UTF-8":      {"tcp", "127.0.0.1:1", "k", &mmo.DialOptions{UID: "\xff"}, mmo.ErrMessage},
		"nickname not UTF-8": {"tcp", "127.0.0.1:1", "k", &mmo.DialOptions{Nickname: "\xff"}, mmo.ErrMessage},
		"long uid":           {"tcp", "127.0.0.1:1", "k", &mmo.DialOptions{UID: long}, mmo.ErrMessage},
		"long nickname":      {"tcp", "127.0.0.1:1", "k", &mmo.DialOptions{Nickname: long}, mmo.ErrMessage},
	} {
		_, err := mmo.Dial(ctx, c.protocol, c.url, c.key, c.o)
		require.ErrorIs(t, err, c.want, name)
	}
	_, err := new(mmo.Room).Dial(ctx, nil)
	require.ErrorIs(t, err, mmo.ErrMessage)
}

func TestDialUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	for protocol, want := range map[string]error{"tcp": mmo.ErrNoConnection, "websocket": mmo.ErrNoConnection, "udp": mmo.ErrRefused} {
		_, err := mmo.Dial(t.Context(), protocol, l.Addr().String(), "key", nil)
		require.ErrorIs(t, err, want, protocol)
		require.NotContains(t, err.Error(), "key\"", protocol)
	}
}

func TestDialLogin(t *testing.T) {
	for name, c := range map[string]struct {
		serve func(conn net.Conn)
		want  error
		text  string
	}{
		"closed":           {func(conn net.Conn) { logIn(conn) }, mmo.ErrRefused, "connect key"},
		"no answer":        {func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }, mmo.ErrRefused, "10 seconds"},
		"nothing is read":  {func(conn net.Conn) { time.Sleep(20 * time.Second) }, mmo.ErrRefused, "timeout"},
		"__closed__":       {func(conn net.Conn) { say(conn, logIn(conn), time.Now(), "__closed__") }, mmo.ErrClosedByEdge, "closed"},
		"something else":   {func(conn net.Conn) { c := logIn(conn); say(conn, c, time.Now(), "text") }, mmo.ErrRefused, "closed"},
		"another key":      {func(conn net.Conn) { logIn(conn); say(conn, edge.NewCipher([32]byte{}), time.Now(), "__auth_ok__") }, mmo.ErrRefused, "closed"},
		"too long a frame": {func(conn net.Conn) { logIn(conn); _, _ = conn.Write([]byte{255, 255, 255, 255}) }, mmo.ErrRefused, "longer than 1 MiB"},
		"half a frame":     {func(conn net.Conn) { logIn(conn); _, _ = conn.Write([]byte{0, 0, 0, 50, 1}) }, mmo.ErrRefused, "within a message"},
		"clock behind":     {func(conn net.Conn) { say(conn, logIn(conn), time.Now().Add(time.Minute), "__closed__") }, mmo.ErrRefused, "1m0s behind"},
		"clock ahead":      {func(conn net.Conn) { say(conn, logIn(conn), time.Now().Add(-time.Hour), "text") }, mmo.ErrRefused, "1h0m0s ahead"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				_, err := mmo.Dial(t.Context(), "tcp", "127.0.0.1:1", "secret key", fakeEdge(t, c.serve))
				require.ErrorIs(t, err, c.want)
				require.ErrorIs(t, err, mmo.ErrRefused)
				require.ErrorContains(t, err, c.text)
				require.NotContains(t, fmt.Sprintf("%v %+v %#v", err, err, err), "secret")
				var clock *mmo.ClockError
				require.Equal(t, strings.HasPrefix(name, "clock"), errors.As(err, &clock))
				require.LessOrEqual(t, time.Since(began), 10*time.Second)
			})
		})
	}
}

func TestDialContext(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := fakeEdge(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				began := time.Now()
				_, err := mmo.Dial(ctx, protocol, "127.0.0.1:1", "key", o)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.Equal(t, 5*time.Second, time.Since(began))
			})
		})
	}
	o := &mmo.DialOptions{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	for _, protocol := range protocols {
		t.Run(protocol+", connecting", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, err := mmo.Dial(t.Context(), protocol, "127.0.0.1:1", "key", o)
				require.ErrorIs(t, err, mmo.ErrNoConnection)
				require.ErrorContains(t, err, "timed out")
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				_, err = mmo.Dial(ctx, protocol, "127.0.0.1:1", "key", o)
				require.ErrorIs(t, err, context.Canceled)
			})
		})
	}
}

// The edge refuses a login with a wrong time, and does not say why. Over WebSocket, the
// handshake tells the edge's time.
func TestDialClock(t *testing.T) {
	inMemory(t, func(t *testing.T, e *mmotest.Edge) {
		e.Configure(func(s *mmotest.Settings) { s.Now = func() time.Time { return time.Now().Add(25 * time.Second) } })
		for _, protocol := range protocols {
			_, err := dial(t, e, protocol, "1")
			require.ErrorIs(t, err, mmo.ErrRefused, protocol)
			want := "clock (" + time.Now().UTC().Format(time.RFC3339) + ") wrong"
			if protocol == mmo.ProtocolWebSocket {
				want = "clock is 25s behind the edge's"
			}
			require.ErrorContains(t, err, want)
		}
	})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(-time.Minute).UTC().Format(http.TimeFormat))
		if ws, err := websocket.Accept(w, r, nil); err == nil {
			_ = ws.CloseNow()
		}
	}))
	defer server.Close()
	_, err := mmo.Dial(t.Context(), "", strings.Replace(server.URL, "http", "ws", 1), "key", nil)
	clock, ok := errors.AsType[*mmo.ClockError](err)
	require.True(t, ok, "%v", err)
	require.InDelta(t, -60, clock.Offset.Seconds(), 3)
	require.ErrorContains(t, err, "ahead of the edge's")
}

// The clock becomes wrong during a connection. When the edge ends the connection, the error
// names the clock.
func TestConnClock(t *testing.T) {
	overEach(t, func(t *testing.T, e *mmotest.Edge, protocol string) {
		conn := join(t, e, protocol, "1")
		synctest.Wait()
		e.Configure(func(s *mmotest.Settings) { s.Now = func() time.Time { return time.Now().Add(time.Minute) } })
		e.Send("room", "says the time")
		err := readError(t, conn)
		clock, ok := errors.AsType[*mmo.ClockError](err)
		require.True(t, ok, "%v", err)
		require.Equal(t, time.Minute, clock.Offset.Round(time.Second))
		if protocol != mmo.ProtocolUDP { // may have left the port that the edge's goodbye goes to
			require.ErrorIs(t, err, mmo.ErrClosedByEdge)
		}
	})
}

// Messages that waited in a stalled network do not make the clock look wrong.
func TestConnClockOldMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := fakeEdge(t, func(conn net.Conn) {
			c := logIn(conn)
			go func() { _, _ = io.Copy(io.Discard, conn) }()
			say(conn, c, time.Now(), edge.AuthOK)
			sent := time.Now()
			time.Sleep(40 * time.Second)
			say(conn, c, sent, "old")
			say(conn, c, sent, edge.Closed)
		})
		conn, err := mmo.Dial(t.Context(), "tcp", "127.0.0.1:1", "key", o)
		require.NoError(t, err)
		defer conn.Close()
		err = readError(t, conn)
		require.ErrorIs(t, err, mmo.ErrClosedByEdge)
		require.NotContains(t, err.Error(), "clock")
	})
}

func TestDialWebSocketRefused(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") }))
	defer other.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/redirect" {
			http.Redirect(w, r, other.URL, http.StatusFound)
			return
		}
		http.Error(w, "secret", http.StatusForbidden)
	}))
	defer server.Close()
	for path, status := range map[string]string{"/redirect": "302", "/ws?token=secret": "403"} {
		_, err := mmo.Dial(t.Context(), "ws", strings.Replace(server.URL, "http", "ws", 1)+path, "key", nil)
		require.ErrorIs(t, err, mmo.ErrRefused)
		require.ErrorContains(t, err, "status "+status)
		require.NotContains(t, fmt.Sprintf("%v %#v", err, err), "secret")
	}
}

func TestDialTLS(t *testing.T) {
	e := mmotest.NewEdge(t)
	ws, _ := e.URL("ws")
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// This server is a proxy in front of the edge, as in real deployments.
		in, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		out, _, err := websocket.Dial(r.Context(), ws, nil)
		if err != nil {
			return
		}
		go pump(r.Context(), in, out)
		pump(r.Context(), out, in)
	}))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	server.StartTLS()
	defer server.Close()
	url := strings.Replace(server.URL, "https", "wss", 1)

	_, err := mmo.Dial(t.Context(), "", url, mmotest.TestRoom, nil)
	require.ErrorIs(t, err, mmo.ErrNoConnection)
	require.ErrorContains(t, err, "certificate")

	conn, err := mmo.Dial(t.Context(), "", url, mmotest.TestRoom, &mmo.DialOptions{HTTPClient: server.Client()})
	require.NoError(t, err)
	require.NoError(t, conn.RequestMembers(t.Context()))
	require.IsType(t, mmo.Members{}, read(t, conn))
	require.NoError(t, conn.Close())
}

func pump(ctx context.Context, from, to *websocket.Conn) {
	defer to.CloseNow()
	for {
		kind, message, err := from.Read(ctx)
		if err != nil || to.Write(ctx, kind, message) != nil {
			return
		}
	}
}

func TestNothingSecretIsPrinted(t *testing.T) {
	const hush = "hushhush"
	inMemory(t, func(t *testing.T, e *mmotest.Edge) {
		e.Admit("room", hush, "1")
		url, protocol := e.URL("tcp")
		room := mmo.NewRoom("id", url, protocol, hush)
		conn, err := room.Dial(t.Context(), options(e, "1"))
		require.NoError(t, err)
		defer conn.Close()
		e.Send("room", hush)
		require.NoError(t, conn.Send(t.Context(), hush))
		synctest.Wait()

		_, err = mmo.NewRoom("id", url, protocol, hush).Dial(t.Context(), options(e, "1"))
		require.ErrorIs(t, err, mmo.ErrRefused)
		session := mmo.Session{Join: func(context.Context) (*mmo.Room, error) { return room, nil }}

		wrapping := "%w"
		for _, value := range []any{room, *room, conn, err, session, struct{ room mmo.Room }{*room}, struct{ conn *mmo.Conn }{conn}} {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
				text := fmt.Sprintf(verb, value)
				require.NotContains(t, text, hush, "%T", value)
				require.NotContains(t, text, hex.EncodeToString([]byte(hush)), "%T", value)
				require.NotContains(t, text, "104, 117", "%T", value)
			}
			require.NotContains(t, fmt.Errorf(wrapping, value).Error(), hush, "%T", value)
			data, err := json.Marshal(value)
			if err == nil {
				require.NotContains(t, string(data), hush, "%T", value)
			}
		}
		require.Equal(t, `room "id", protocol "tcp", edge "tcp://edge.test:1"`, fmt.Sprint(room))
		require.NotContains(t, fmt.Sprint(mmo.NewRoom("id", "wss://edge.test/ws?token="+hush, "websocket", "k")), hush)
	})
}
