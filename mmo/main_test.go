package mmo_test

import (
	"context"
	"crypto/rand"
	"testing"
	"testing/synctest"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/mmotest"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// protocols are the transports that a table runs over.
var protocols = []string{mmo.ProtocolTCP, mmo.ProtocolWebSocket, mmo.ProtocolUDP}

// overEach runs a test over every transport, in memory and with a simulated clock.
func overEach(t *testing.T, test func(t *testing.T, e *mmotest.Edge, protocol string)) {
	t.Helper()
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			inMemory(t, func(t *testing.T, e *mmotest.Edge) { test(t, e, protocol) })
		})
	}
}

// inMemory runs a test with an edge in memory, and with a clock that advances when all
// goroutines wait.
func inMemory(t *testing.T, test func(t *testing.T, e *mmotest.Edge)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e := mmotest.New()
		defer e.Close()
		test(t, e)
	})
}

// options returns the options to dial an edge in memory.
func options(e *mmotest.Edge, uid string) *mmo.DialOptions {
	o := &mmo.DialOptions{UID: uid, AllowPlaintext: true, DialContext: e.DialContext}
	if uid != "" {
		o.Nickname = "nick of " + uid
	}
	return o
}

// dial connects to the room "room" of an edge in memory.
func dial(t testing.TB, e *mmotest.Edge, protocol, uid string) (*mmo.Conn, error) {
	t.Helper()
	return dialWith(t, e, protocol, uid, options(e, uid))
}

func dialWith(t testing.TB, e *mmotest.Edge, protocol, uid string, o *mmo.DialOptions) (*mmo.Conn, error) {
	t.Helper()
	key := rand.Text()
	e.Admit("room", key, uid)
	url, spoken := e.URL(protocol)
	return mmo.Dial(t.Context(), spoken, url, key, o)
}

// join calls dial, which must succeed. The connection ends with the test.
func join(t testing.TB, e *mmotest.Edge, protocol, uid string) *mmo.Conn {
	t.Helper()
	conn, err := dial(t, e, protocol, uid)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// read returns the next event.
func read(t testing.TB, conn *mmo.Conn) mmo.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	event, err := conn.Read(ctx)
	require.NoError(t, err)
	return event
}

// next returns the next event of a kind, and skips others.
func next[E mmo.Event](t testing.TB, conn *mmo.Conn) E {
	t.Helper()
	for {
		if event, ok := read(t, conn).(E); ok {
			return event
		}
	}
}

// readError reads until the connection has ended.
func readError(t testing.TB, conn *mmo.Conn) error {
	t.Helper()
	for {
		if _, err := conn.Read(t.Context()); err != nil {
			return err
		}
	}
}
