package shangcloudtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
)

// The newest requests are kept, so that long runs stay small.
const (
	maxRecords     = 10_000
	maxRecordBytes = 64 << 20 // of bodies, in all
)

// Request is one request as it arrived. Its fields hold tokens and secrets, on
// purpose: a test compares them. Printed, or as JSON, it is method and path only.
type Request struct {
	Method   string
	Path     string
	RawQuery string
	Header   http.Header // shared: not to be changed
	Body     []byte      // shared: not to be changed
}

// Query returns the parsed query; what cannot be parsed is left out.
func (r Request) Query() url.Values {
	v, _ := url.ParseQuery(r.RawQuery)
	return v
}

// Form returns the body parsed as a form; what cannot be parsed is left out.
func (r Request) Form() url.Values {
	v, _ := url.ParseQuery(string(r.Body))
	return v
}

// Format prints method and path only, whatever the verb.
func (r Request) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "%s %s", r.Method, r.Path)
}

// MarshalJSON gives method and path only.
func (r Request) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct{ Method, Path string }{r.Method, r.Path})
}

// Requests returns what was requested, the oldest first: all of it, or what went
// to one of the paths. The newest 10,000 are kept. A request is listed as soon
// as its body has been read, before it is answered.
func (s *Server) Requests(paths ...string) []Request {
	s.record.mu.Lock()
	defer s.record.mu.Unlock()
	var found []Request
	for _, r := range s.record.requests {
		if len(paths) == 0 || slices.Contains(paths, r.Path) {
			found = append(found, r)
		}
	}
	return found
}

// ForgetRequests empties the list of [Server.Requests].
func (s *Server) ForgetRequests() {
	s.record.mu.Lock()
	defer s.record.mu.Unlock()
	s.record.requests, s.record.bytes = nil, 0
}

type recorder struct {
	mu       sync.Mutex
	requests []Request
	bytes    int
}

func (c *recorder) add(r *http.Request, body []byte) {
	rec := Request{r.Method, r.URL.Path, r.URL.RawQuery, r.Header.Clone(), body}
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.requests) > 0 && (len(c.requests) >= maxRecords || c.bytes+len(body) > maxRecordBytes) {
		c.bytes -= len(c.requests[0].Body)
		c.requests[0] = Request{}
		c.requests = c.requests[1:]
	}
	c.requests = append(c.requests, rec)
	c.bytes += len(body)
}
