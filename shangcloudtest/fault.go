package shangcloudtest

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Fault makes requests fail. The server applies the fields in the order of this struct and
// skips zero values. If only Before, Delay and Header are set, the server then sends the
// platform's own answer.
type Fault struct {
	// Times is the number of requests that fail. If 0, all requests fail until
	// [Server.ClearFaults].
	Times int

	// Before is called for each request when it arrives. It may block, so that a
	// test can hold the request back. It must return when the request's context
	// ends.
	Before func(*http.Request)

	// Delay holds the request back. If the client gives up or the server closes,
	// the delay ends and the connection is closed.
	Delay time.Duration

	// Process makes the platform handle the request, but discards the platform's answer.
	// For example, the platform uses up a code, rotates a refresh token or writes a
	// variable.
	Process bool

	// Status, Header and Body are the answer. If Status is 0, the answer has status 200, or
	// 307 if Redirect is set. If Body starts with "{", the Content-Type is
	// application/json.
	Status int
	Header http.Header
	Body   string

	// Redirect is the Location of the answer. With status 307 or 308 a careless client
	// sends the request again, with its secrets, to this URL.
	Redirect string

	// Drop closes the connection before the answer. If Status, Body or Redirect is set,
	// Drop closes the connection in the middle of the body.
	Drop bool

	// Hang stops the answer at the same point as Drop, but keeps the connection open. The
	// connection ends when the client gives up or the server closes.
	Hang bool
}

// Fault makes requests to a path fail. If path is "", the fault applies to every path. The
// server applies several faults for one path one after the other, in the order in which
// they were added. Faults for every path come last.
func (s *Server) Fault(path string, f Fault) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.list = append(s.faults.list, &plannedFault{path, f.Times, f})
	s.faults.any.Store(true)
}

// ClearFaults removes all faults. Requests that a fault already holds back keep waiting.
func (s *Server) ClearFaults() {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.list = nil
	s.faults.any.Store(false)
}

type faultList struct {
	any  atomic.Bool // false: no faults, so take needs no lock
	mu   sync.Mutex
	list []*plannedFault
}

type plannedFault struct {
	path  string
	left  int
	fault Fault
}

// take returns the fault for the next request to path, or nil.
func (l *faultList) take(path string) *Fault {
	if !l.any.Load() {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, of := range []string{path, ""} {
		for i, p := range l.list {
			if p.path != of {
				continue
			}
			if p.left == 1 {
				l.list = append(l.list[:i:i], l.list[i+1:]...)
				l.any.Store(len(l.list) > 0)
			}
			p.left-- // if Times is 0, left is never 1
			return &p.fault
		}
	}
	return nil
}

// fail applies f to a request. To close the connection it panics with
// [http.ErrAbortHandler], which net/http does not log.
func (s *Server) fail(f *Fault, w http.ResponseWriter, r *http.Request, body []byte) {
	if f.Before != nil {
		f.Before(r)
	}
	if f.Delay > 0 && !s.wait(r, f.Delay) {
		panic(http.ErrAbortHandler)
	}
	hasAnswer := f.Status != 0 || f.Body != "" || f.Redirect != ""
	if !hasAnswer && !f.cut() && !f.Process {
		setHeader(w, f.Header)
		s.route(w, r, body)
		return
	}
	if f.Process {
		s.route(&discardWriter{header: make(http.Header)}, r, body)
	}
	if hasAnswer || !f.cut() {
		f.answer(w)
	}
	if f.Hang {
		s.wait(r, 0)
	}
	if f.cut() {
		panic(http.ErrAbortHandler)
	}
}

// cut reports whether the connection ends before the answer is complete.
func (f *Fault) cut() bool { return f.Drop || f.Hang }

// answer writes the answer of f. If the answer is cut, its Content-Length is one byte too
// large, so that the client notices.
func (f *Fault) answer(w http.ResponseWriter) {
	h := w.Header()
	if strings.HasPrefix(strings.TrimSpace(f.Body), "{") {
		h.Set("Content-Type", "application/json")
	}
	setHeader(w, f.Header)
	status := f.Status
	if f.Redirect != "" {
		h.Set("Location", f.Redirect)
		if status == 0 {
			status = http.StatusTemporaryRedirect
		}
	}
	if status == 0 {
		status = http.StatusOK
	}
	if f.cut() {
		h.Set("Content-Length", strconv.Itoa(len(f.Body)+1))
	}
	w.WriteHeader(status)
	_, _ = w.Write([]byte(f.Body))
	if f.cut() {
		_ = http.NewResponseController(w).Flush()
	}
}

// wait waits for the time d. If d is 0, it waits until the request or the server ends. It
// reports false if the request or the server ends before d is over.
func (s *Server) wait(r *http.Request, d time.Duration) bool {
	var timeout <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		timeout = t.C
	}
	select {
	case <-timeout:
		return true
	case <-r.Context().Done():
	case <-s.closed:
	}
	return false
}

func setHeader(w http.ResponseWriter, h http.Header) {
	for name, values := range h {
		w.Header()[http.CanonicalHeaderKey(name)] = values
	}
}

// discardWriter discards an answer.
type discardWriter struct{ header http.Header }

func (d *discardWriter) Header() http.Header         { return d.header }
func (d *discardWriter) Write(p []byte) (int, error) { return len(p), nil }
func (d *discardWriter) WriteHeader(int)             {}
