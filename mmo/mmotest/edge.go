package mmotest

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
)

const (
	// maxClients is the maximum number of connections that are logged in.
	maxClients = 20_000

	// maxVisitors is the maximum number of TCP connections that have not logged in.
	maxVisitors = 4096

	// loginTimeout is how long a connection may take to log in. Over UDP, the clients wait
	// equally long for the answer.
	loginTimeout = 10 * time.Second

	// farewellTimeout is how long the client of an ended connection may take to read what
	// is left, and to close.
	farewellTimeout = time.Second
)

// TB is the part of *testing.T that [NewEdge] uses. With this interface, programs that
// are not tests do not link package testing.
type TB interface {
	Helper()
	Cleanup(func())
	Fatalf(format string, args ...any)
}

// Edge is a realtime edge. Create it with [New], [Start] or [NewEdge]; the zero value is
// not usable. It is safe for concurrent use. Its methods do not wait for clients; only
// Close does, for a moment.
type Edge struct{ *internals }

// internals is behind a pointer in Edge, and the keys and seeds are behind another pointer
// in internals. Package fmt follows one pointer at most, so it prints no key.
type internals struct {
	settings atomic.Pointer[Settings]
	faults   atomic.Pointer[faults] // nil: none
	stats    counters
	arriving route // of logins over UDP

	host     string                   // what clients dial
	tcp, ws  int                      // ports; UDP has that of TCP
	inMemory map[string]*pipeListener // of an edge that does not listen, by address
	acceptor net.Listener             // of TCP
	web      *http.Server
	udp      *net.UDPConn // nil: the edge does not listen

	loops   sync.WaitGroup // accept connections, read datagrams
	serving sync.WaitGroup // connections and clients; begin adds to it
	closing chan struct{}

	// mu guards the fields below. It also guards fields of rooms and clients whose comments
	// say so. No goroutine waits for anything while it holds mu.
	mu       sync.Mutex
	closed   bool
	keys     *keyring
	rooms    map[string]*room
	clients  map[*client]struct{}
	overUDP  *datagramClients
	logins   edge.Window        // of the shared test room
	visitors map[*conn]struct{} // not logged in yet
}

// New returns an edge that does not listen. [Edge.DialContext] reaches it.
func New() *Edge {
	e := newEdge()
	e.host, e.tcp, e.ws = "edge.test", 1, 2
	tcp, ws := newPipeListener(), newPipeListener()
	e.inMemory = map[string]*pipeListener{e.address(e.tcp): tcp, e.address(e.ws): ws}
	e.serve(tcp, ws)
	return e
}

func newEdge() *Edge {
	e := &Edge{&internals{
		closing:  make(chan struct{}),
		keys:     newKeyring(),
		rooms:    make(map[string]*room),
		clients:  make(map[*client]struct{}),
		overUDP:  &datagramClients{make(map[uint64]*client), make(map[[edge.SeedSize]byte]*client)},
		visitors: make(map[*conn]struct{}),
	}}
	e.settings.Store(&Settings{})
	return e
}

// Start returns an edge that listens on addr, which has the form host:port, over TCP and
// UDP. For WebSocket it listens on a free port of the same host. If addr is "", it listens on
// free ports of 127.0.0.1. Others on the network can read its connections, so use a
// loopback address. Call Close when the edge is no longer needed.
func Start(addr string) (*Edge, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	var err error
	for range 10 { // a free port of TCP may be taken for UDP
		var e *Edge
		if e, err = listen(addr); err == nil {
			return e, nil
		}
		if !strings.HasSuffix(addr, ":0") {
			break
		}
	}
	return nil, fmt.Errorf("mmotest: %w", err)
}

func listen(addr string) (*Edge, error) {
	tcp, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	at := tcp.Addr().(*net.TCPAddr)
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: at.IP, Port: at.Port, Zone: at.Zone})
	if err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	ws, err := net.ListenTCP("tcp", &net.TCPAddr{IP: at.IP, Zone: at.Zone})
	if err != nil {
		return nil, errors.Join(err, tcp.Close(), udp.Close())
	}
	_ = udp.SetReadBuffer(1 << 20) // for bursts; the system may allow less
	e := newEdge()
	e.host, e.tcp, e.ws = reachable(at), at.Port, ws.Addr().(*net.TCPAddr).Port
	e.udp = udp
	e.serve(tcp, ws)
	e.loops.Go(e.readDatagrams)
	return e, nil
}

// reachable returns a host at which this machine can reach a listener.
func reachable(a *net.TCPAddr) string {
	if a.IP.IsUnspecified() {
		return "127.0.0.1"
	}
	return (&net.IPAddr{IP: a.IP, Zone: a.Zone}).String()
}

// NewEdge starts an edge for a test and closes it when the test ends.
func NewEdge(t TB) *Edge {
	t.Helper()
	e, err := Start("")
	if err != nil {
		t.Fatalf("%v", err)
		return nil
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// serve accepts connections until the edge closes.
func (e *Edge) serve(tcp, ws net.Listener) {
	e.acceptor = &listener{tcp, e}
	e.web = e.webServer()
	e.loops.Go(e.acceptTCP)
	e.loops.Go(func() { _ = e.web.Serve(&listener{ws, e}) }) // returns ErrServerClosed after Close
}

// begin counts a goroutine that serves a client. The goroutine calls e.serving.Done at its
// end. After Close, begin returns false.
func (e *Edge) begin() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.closed {
		e.serving.Add(1)
	}
	return !e.closed
}

// URL returns what the platform answers to a client that asks for a protocol. edgeURL is
// the edge_url, and spoken is the protocol of that URL. protocol is "tcp", "websocket" (or
// "ws") or "udp", in upper or lower case. Any other value means "tcp".
func (e *Edge) URL(protocol string) (edgeURL, spoken string) {
	spoken = strings.ToLower(protocol)
	switch spoken {
	case "websocket", "ws":
		return "ws://" + e.address(e.ws) + "/ws", "websocket"
	case "udp":
		return "udp://" + e.address(e.tcp), "udp"
	}
	return "tcp://" + e.address(e.tcp), "tcp"
}

func (e *internals) address(port int) string { return net.JoinHostPort(e.host, fmt.Sprint(port)) }

// Close sends __closed__ to all clients and closes the edge. Clients have a second to
// read what waits for them and to close. When Close returns, the goroutines
// of the edge have ended. A second call only waits. The error is always nil.
func (e *Edge) Close() error {
	e.mu.Lock()
	if !e.closed {
		e.closed = true
		close(e.closing)
		for c := range e.clients {
			e.endLocked(c, edgeCloses)
		}
		for c := range e.visitors {
			c.cut()
		}
	}
	e.mu.Unlock()

	_ = e.acceptor.Close()
	_ = e.web.Close()
	e.serving.Wait()
	if e.udp != nil {
		_ = e.udp.Close() // not before the farewells
	}
	e.loops.Wait()
	e.SetFaults(Faults{})
	return nil
}

// Format prints only the address, for every verb, because an edge contains keys.
func (e Edge) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "mmotest.Edge(%s)", e.address(e.tcp))
}
