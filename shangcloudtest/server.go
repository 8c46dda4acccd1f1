package shangcloudtest

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// inProcessURL is the URL of a server that does not listen. The domain "test" is
// reserved (RFC 6761, 6.2), so no request can reach a real host.
const inProcessURL = "https://shangcloud.test"

// TB is the part of *testing.T that [NewServer] uses. Because of this interface, programs
// that are not tests do not link package testing.
type TB interface {
	Helper()
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Server is the platform. Create it with [New], [Start] or [NewServer]; the zero value
// is not usable. It is safe for concurrent use. It is an [http.Handler], so it can be
// served with TLS or below a path.
type Server struct {
	// URL is the base URL, without a slash at the end. Only [Server.Transport] can
	// reach the URL of a server from [New].
	URL string

	*internals
}

// internals are behind a pointer, so that package fmt does not print their secrets.
// Sometimes fmt prints a Server by value without calling its methods, as in a template or
// for %w. Then it prints only the address of internals.
type internals struct {
	settings atomic.Pointer[Settings]
	record   recorder
	faults   faultList
	rooms    rooms

	// mu guards the fields below. It is held only for map operations, not while
	// the server reads or writes a body, runs a template or computes a hash.
	mu          sync.Mutex
	autoConsent autoConsent
	clients     map[string]*client
	byAuth      map[[32]byte]*client
	users       []User        // in the order in which they were added
	userAt      map[int64]int // the index in users
	variables   map[int64]map[string]string
	handlers    map[string]http.Handler
	pending     ledger[*pendingConsent]
	codes       ledger[*authCode]
	access      ledger[*accessToken]
	refresh     ledger[*refreshToken]
	devices     ledger[*device] // by device code
	userCodes   ledger[*device] // by user code

	http   *http.Server
	served chan struct{}

	closeOnce sync.Once
	closed    chan struct{}

	reportMu sync.Mutex
	report   func(format string, args ...any) // nil: report nothing
}

var _ http.Handler = (*Server)(nil)

// New returns a server that does not listen. Use it as an [http.Handler] or with
// [Server.Transport]. Close ends the requests that a [Fault] holds back.
func New() *Server {
	s := &Server{URL: inProcessURL, internals: &internals{
		clients:   make(map[string]*client),
		byAuth:    make(map[[32]byte]*client),
		userAt:    make(map[int64]int),
		variables: make(map[int64]map[string]string),
		handlers:  make(map[string]http.Handler),
		closed:    make(chan struct{}),
		rooms:     rooms{byID: make(map[string]*room), edge: noEdge{}},
	}}
	s.settings.Store(&Settings{})
	return s
}

// Start returns a server that listens on addr, which has the form host:port. If addr is
// "", the server listens on a free port of 127.0.0.1. It serves plain HTTP, so use a
// loopback address. Call Close when it is no longer needed.
func Start(addr string) (*Server, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("shangcloudtest: %w", err)
	}
	s := New()
	s.URL = "http://" + reachable(l.Addr())
	s.http = &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	s.served = make(chan struct{})
	go func() {
		defer close(s.served)
		_ = s.http.Serve(l) // returns ErrServerClosed after Close
	}()
	return s, nil
}

// reachable returns an address at which this machine can reach a listener. If the
// listener has an unspecified address, such as 0.0.0.0, it is 127.0.0.1.
func reachable(a net.Addr) string {
	if tcp, ok := a.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", fmt.Sprint(tcp.Port))
	}
	return a.String()
}

// NewServer starts a server for a test and closes it when the test ends. A request to
// an unknown path fails the test, unless the path has a [Server.Handle] or a
// [Server.Fault].
func NewServer(t TB) *Server {
	t.Helper()
	s, err := Start("")
	if err != nil {
		t.Fatalf("%v", err)
		return nil
	}
	s.report = t.Errorf
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// Close stops the server, closes its connections and ends the delays of each [Fault]. A
// second call does nothing. The error is always nil.
func (s *Server) Close() error {
	s.closeOnce.Do(func() {
		close(s.closed)
		if s.http != nil {
			_ = s.http.Close() // fails only if the listener is already closed
			<-s.served
		}
		// A running handler must not report to a test that has ended.
		s.reportMu.Lock()
		s.report = nil
		s.reportMu.Unlock()
	})
	return nil
}

// Format prints only the URL, for every verb, because a server contains secrets.
func (s *Server) Format(f fmt.State, _ rune) {
	if s == nil {
		_, _ = io.WriteString(f, "<nil>")
		return
	}
	_, _ = fmt.Fprintf(f, "shangcloudtest.Server(%s)", s.URL)
}
