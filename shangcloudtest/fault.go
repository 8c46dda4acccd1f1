package shangcloudtest

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Fault is a way in which a request goes wrong. Its parts happen in the order of
// the fields; those that are left out do not happen. If nothing but Before,
// Delay and Header is set, the platform's own answer follows.
type Fault struct {
	// Times is how many requests are hit; if 0, all until [Server.ClearFaults].
	Times int

	// Before is called as the request arrives, once for each, and may block:
	// a test learns from it that the request is there, and lets it go on. It
	// has to end when the request's context does.
	Before func(*http.Request)

	// Delay holds the request back. It ends early, with the connection cut,
	// when the client gives up or the server closes.
	Delay time.Duration

	// Process lets the platform do its work first, so that only its answer is
	// lost: a code is used up, a refresh token is rotated, a variable written.
	Process bool

	// Status, Header and Body are the answer. If Status is 0, it is 200, or
	// 307 with Redirect. A body that starts like a JSON object is said to be one.
	Status int
	Header http.Header
	Body   string

	// Redirect is the Location of the answer. With status 307 or 308 a
	// careless client sends the request there once more, secrets and all.
	Redirect string

	// Drop cuts the connection: before any answer, or, with Status or Body,
	// in the middle of the body.
	Drop bool

	// Hang stops answering, where Drop would cut, until the client gives up
	// or the server closes.
	Hang bool
}

// Fault makes requests to a path go wrong; if path is "", those to every path.
// Several faults of one path hit one after the other, in the order in which they
// were added; those for every path come last.
func (s *Server) Fault(path string, f Fault) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.list = append(s.faults.list, &plannedFault{path, f.Times, f})
	s.faults.any.Store(true)
}

// ClearFaults ends all faults. What is under way goes on.
func (s *Server) ClearFaults() {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.list = nil
	s.faults.any.Store(false)
}

type faultList struct {
	any  atomic.Bool // spares the lock where there is none
	mu   sync.Mutex
	list []*plannedFault
}

type plannedFault struct {
	path  string
	left  int
	fault Fault
}

// take returns the fault that hits a request to path, or nil.
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
			p.left-- // below 0 for those without an end: they never reach 1
			return &p.fault
		}
	}
	return nil
}

// play answers a request that f hits. It panics with [http.ErrAbortHandler]
// where the connection is to be cut, which net/http does not log.
func (s *Server) play(f *Fault, w http.ResponseWriter, r *http.Request, body []byte) {
	if f.Before != nil {
		f.Before(r)
	}
	if f.Delay > 0 && !s.wait(r, f.Delay) {
		panic(http.ErrAbortHandler)
	}
	answered := f.Status != 0 || f.Body != "" || f.Redirect != ""
	if !answered && !f.Drop && !f.Hang && !f.Process {
		setHeader(w, f.Header)
		s.route(w, r, body)
		return
	}
	if f.Process {
		s.route(&discard{header: make(http.Header)}, r, body)
	}
	if answered || !f.Drop && !f.Hang {
		f.answer(w)
	}
	if f.Hang {
		s.wait(r, 0)
	}
	if f.Drop || f.Hang {
		panic(http.ErrAbortHandler)
	}
}

// answer writes what f says. Where the connection is to be cut, one byte more is
// announced than ever comes, so that the client sees it.
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
	if f.Drop || f.Hang {
		h.Set("Content-Length", strconv.Itoa(len(f.Body)+1))
	}
	w.WriteHeader(status)
	_, _ = w.Write([]byte(f.Body))
	if f.Drop || f.Hang {
		_ = http.NewResponseController(w).Flush()
	}
}

// wait ends after d, or never if d is 0. It reports false if the request or the
// server ended first.
func (s *Server) wait(r *http.Request, d time.Duration) bool {
	var over <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		over = t.C
	}
	select {
	case <-over:
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

// discard is where an answer goes that nobody gets.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}
