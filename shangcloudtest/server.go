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

// inProcessURL is the address of a server that does not listen. The name is
// reserved for tests (RFC 6761, 6.2), so it can never reach a stranger.
const inProcessURL = "https://shangcloud.test"

// TB is the part of *testing.T that [NewServer] uses. It is spelt out here so
// that a program which is no test does not link package testing.
type TB interface {
	Helper()
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Server is the platform. It is made by [New], [Start] or [NewServer], and safe
// for concurrent use. It is an [http.Handler], so it can be mounted anywhere,
// with TLS or below a path.
type Server struct {
	// URL is the base URL, without a slash at its end. After [New] it is an
	// address that only [Server.Transport] reaches.
	URL string

	settings atomic.Pointer[Settings]
	record   recorder
	faults   faultList

	// mu guards what follows. It is held for map operations only: never while
	// a body is read or written, a template is run or something is hashed.
	mu        sync.Mutex
	consent   consent
	clients   map[string]*client
	byAuth    map[[32]byte]*client
	users     []User        // as they were added
	userAt    map[int64]int // where in users
	variables map[int64]map[string]string
	handlers  map[string]http.Handler
	pending   ledger[*pendingConsent]
	codes     ledger[*authCode]
	access    ledger[*accessToken]
	refresh   ledger[*refreshToken]
	devices   ledger[*device] // by device code
	userCodes ledger[*device]

	http   *http.Server
	served chan struct{}

	closeOnce sync.Once
	closed    chan struct{}

	reportMu sync.Mutex
	report   func(format string, args ...any) // nil: nobody wants to know
}

var _ http.Handler = (*Server)(nil)

// New returns a server that does not listen: mount it as an [http.Handler], or
// reach it with [Server.Transport]. Close ends whatever still waits in it.
func New() *Server {
	s := &Server{
		URL:       inProcessURL,
		clients:   make(map[string]*client),
		byAuth:    make(map[[32]byte]*client),
		userAt:    make(map[int64]int),
		variables: make(map[int64]map[string]string),
		handlers:  make(map[string]http.Handler),
		closed:    make(chan struct{}),
	}
	s.settings.Store(&Settings{})
	return s
}

// Start returns a server that listens on addr, a host and a port; if "", a free
// port of 127.0.0.1. It speaks plain HTTP and is meant for loopback addresses.
// Close it when done.
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
		_ = s.http.Serve(l) // always ErrServerClosed: Close closes the listener
	}()
	return s, nil
}

// reachable is the address under which this machine itself reaches a listener:
// "every address" becomes the loopback one.
func reachable(a net.Addr) string {
	if tcp, ok := a.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", fmt.Sprint(tcp.Port))
	}
	return a.String()
}

// NewServer starts a server for a test and closes it when the test ends. A
// request to a path that the platform does not have fails the test, unless
// [Server.Handle] or [Server.Fault] named the path.
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

// Close stops listening, cuts the connections that are open and ends delays of
// [Fault]. A second call does nothing. The error is always nil.
func (s *Server) Close() error {
	s.closeOnce.Do(func() {
		close(s.closed)
		if s.http != nil {
			_ = s.http.Close() // closing a listener twice is all that can fail
			<-s.served
		}
		// A handler that is still under way must not speak to a test that ended.
		s.reportMu.Lock()
		s.report = nil
		s.reportMu.Unlock()
	})
	return nil
}

// Format prints the address only, whatever the verb: a server is full of secrets.
func (s *Server) Format(f fmt.State, _ rune) {
	if s == nil {
		_, _ = io.WriteString(f, "<nil>")
		return
	}
	_, _ = fmt.Fprintf(f, "shangcloudtest.Server(%s)", s.URL)
}
