package mmotest_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/mmotest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// impatience is how long a test waits before it fails.
const impatience = 20 * time.Second

// dialer opens a connection: a net.Dialer's method, or an edge's.
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// netDial is the dialer of a real network.
var netDial dialer = new(net.Dialer).DialContext

// player is a client that does only what the test says. It uses the wire format alone, not
// package mmo.
type player struct {
	t       testing.TB
	edge    *mmotest.Edge
	dial    dialer
	conn    net.Conn // under a WebSocket: nil
	wire    wire
	seed    [edge.SeedSize]byte
	cipher  *edge.Cipher
	clock   func() time.Time
	id      uint64 // over UDP
	opened  edge.Message
	address string
}

// wire is a transport for payloads.
type wire interface {
	start(seed [edge.SeedSize]byte) error
	write(payload []byte) error
	read() ([]byte, error)
}

// connect opens a connection and sends nothing.
func connect(t testing.TB, e *mmotest.Edge, protocol string) *player {
	t.Helper()
	return connectVia(t, e, protocol, netDial)
}

func connectVia(t testing.TB, e *mmotest.Edge, protocol string, dial dialer) *player {
	t.Helper()
	url, spoken := e.URL(protocol)
	p := &player{t: t, edge: e, dial: dial, clock: time.Now}
	_, _ = rand.Read(p.seed[:])
	p.cipher = edge.NewCipher(p.seed)
	_, p.address, _ = strings.Cut(url, "://")
	ctx, cancel := context.WithTimeout(t.Context(), impatience)
	defer cancel()
	switch spoken {
	case "websocket":
		transport := &http.Transport{DialContext: dial}
		ws, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
		require.NoError(t, err)
		ws.SetReadLimit(edge.MaxPayload)
		t.Cleanup(func() { _ = ws.CloseNow(); transport.CloseIdleConnections() })
		p.wire = &socket{ws}
	default:
		conn, err := dial(ctx, spoken, p.address)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		p.conn = conn
		if p.wire = (*datagrams)(p); spoken == "tcp" {
			p.wire = &frames{conn, bufio.NewReader(conn)}
		}
	}
	return p
}

// join connects and logs in.
func join(t testing.TB, e *mmotest.Edge, protocol, room, uid string) *player {
	t.Helper()
	return joinVia(t, e, protocol, netDial, room, uid)
}

// joinInMemory is join for an edge that does not listen.
func joinInMemory(t testing.TB, e *mmotest.Edge, protocol, room, uid string) *player {
	t.Helper()
	return joinVia(t, e, protocol, e.DialContext, room, uid)
}

func joinVia(t testing.TB, e *mmotest.Edge, protocol string, dial dialer, room, uid string) *player {
	t.Helper()
	key := rand.Text()
	e.Admit(room, key, uid)
	p := connectVia(t, e, protocol, dial)
	p.login(key)
	return p
}

// inMemory returns an edge that does not listen.
func inMemory(t testing.TB) *mmotest.Edge {
	e := mmotest.New()
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// overAll runs a test over every transport.
func overAll(t *testing.T, test func(t *testing.T, e *mmotest.Edge, protocol string)) {
	for _, protocol := range []string{"tcp", "websocket", "udp"} {
		t.Run(protocol, func(t *testing.T) { test(t, mmotest.NewEdge(t), protocol) })
	}
}

// inBubbles runs a test over every transport, in memory and in a synctest bubble.
func inBubbles(t *testing.T, test func(t *testing.T, e *mmotest.Edge, protocol string)) {
	for _, protocol := range []string{"tcp", "websocket", "udp"} {
		t.Run(protocol, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, inMemory(t), protocol) })
		})
	}
}

// login logs in and waits for the answer.
func (p *player) login(key string) {
	p.t.Helper()
	p.startLogin(key)
	require.Equal(p.t, edge.AuthOK, p.read())
}

func (p *player) startLogin(key string) {
	p.t.Helper()
	require.NoError(p.t, p.wire.start(p.seed))
	p.write(key)
}

// announce announces the player.
func (p *player) announce(uid, nickname string) {
	p.t.Helper()
	p.write(announcement(uid, nickname))
}

func announcement(uid, nickname string) string {
	return edge.Encode(edge.Join{Type: edge.TypeJoin, UID: uid, Nickname: nickname})
}

func leaving(uid string) string { return edge.Encode(edge.Leave{Type: edge.TypeLeave, UID: uid}) }

// seal returns a new payload.
func (p *player) seal(data string) []byte {
	var nonce [edge.NonceSize]byte
	_, _ = rand.Read(nonce[:])
	return p.cipher.Seal(nil, nonce, p.clock(), data)
}

// write sends data.
func (p *player) write(data string) {
	p.t.Helper()
	require.NoError(p.t, p.wire.write(p.seal(data)))
}

// next returns the next message, or how the connection ended.
func (p *player) next() (string, error) {
	payload, err := p.wire.read()
	if err != nil {
		return "", err
	}
	p.opened, err = p.cipher.Open(payload)
	return string(p.opened.Data), err
}

// read returns the next message.
func (p *player) read() string {
	p.t.Helper()
	data, err := p.next()
	require.NoError(p.t, err)
	return data
}

// expect reads messages and compares them.
func (p *player) expect(messages ...string) {
	p.t.Helper()
	for _, want := range messages {
		require.Equal(p.t, want, p.read())
	}
}

// quiet checks that no other message waits for the player: the answer to its ping comes
// next.
func (p *player) quiet() {
	p.t.Helper()
	p.write(edge.Ping)
	require.Regexp(p.t, "^"+edge.PongPrefix, p.read())
}

// pong sends a ping and returns the answer, which lists the members of the room.
func (p *player) pong() string {
	p.t.Helper()
	p.write(edge.Ping)
	return p.read()
}

// ended checks that the connection ends. Over UDP it checks nothing, because a UDP
// connection has no end.
func (p *player) ended() {
	p.t.Helper()
	if _, ok := p.wire.(*datagrams); ok {
		return
	}
	data, err := p.next()
	require.Error(p.t, err, "instead of the end: %q", data)
	require.NotErrorIs(p.t, err, os.ErrDeadlineExceeded)
	require.NotErrorIs(p.t, err, context.DeadlineExceeded)
}

// leave closes the connection.
func (p *player) leave() {
	if ws, ok := p.wire.(*socket); ok {
		_ = ws.Close(websocket.StatusNormalClosure, "")
		return
	}
	_ = p.conn.Close()
}

// frames is the wire over TCP.
type frames struct {
	net.Conn
	r *bufio.Reader
}

func (w *frames) start(seed [edge.SeedSize]byte) error {
	_, err := w.Write(seed[:])
	return err
}

func (w *frames) write(payload []byte) error {
	frame := append(make([]byte, edge.FrameHeader), payload...)
	edge.PutFrameHeader(frame)
	_, err := w.Write(frame)
	return err
}

func (w *frames) read() ([]byte, error) {
	_ = w.SetReadDeadline(time.Now().Add(impatience))
	return edge.ReadFrame(w.r, nil)
}

// socket is the wire over WebSocket.
type socket struct{ *websocket.Conn }

func (w *socket) start(seed [edge.SeedSize]byte) error { return w.write(seed[:]) }

func (w *socket) write(payload []byte) error {
	return w.Write(context.Background(), websocket.MessageBinary, payload)
}

func (w *socket) read() ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), impatience)
	defer cancel()
	kind, payload, err := w.Read(ctx)
	if err == nil && kind != websocket.MessageBinary {
		err = fmt.Errorf("a %v", kind)
	}
	return payload, err
}

// datagrams is the wire over UDP. The first datagram after start is a login.
type datagrams player

func (w *datagrams) start([edge.SeedSize]byte) error { return nil }

func (w *datagrams) write(payload []byte) error {
	head := edge.AppendHeader(nil, w.id)
	if w.id == 0 {
		head = edge.AppendAuthHeader(nil, w.player().seed)
	}
	_, err := w.conn.Write(append(head, payload...))
	return err
}

func (w *datagrams) player() *player { return (*player)(w) }

func (w *datagrams) read() ([]byte, error) {
	_ = w.conn.SetReadDeadline(time.Now().Add(impatience))
	buf := make([]byte, edge.MaxDatagram)
	n, err := w.conn.Read(buf)
	if err != nil {
		return nil, err
	}
	id, payload, ok := edge.ParseDatagram(buf[:n])
	if !ok || id == 0 || w.id != 0 && id != w.id {
		return nil, fmt.Errorf("a datagram of %d bytes for connection %d", n, id)
	}
	w.id = id
	return payload, nil
}
