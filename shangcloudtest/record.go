package shangcloudtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
)

// The server keeps only the newest requests, so that a long run needs little memory.
const (
	maxRecords     = 10_000
	maxRecordBytes = 64 << 20 // the sum of all bodies
)

// Request is a request that the server received. Its fields contain tokens and secrets,
// so that tests can compare them. Package fmt and JSON show only method and path. The
// exception is package fmt for a Request in an unexported field of a struct.
type Request struct {
	Method   string
	Path     string
	RawQuery string
	Header   http.Header // shared: do not change it
	Body     []byte      // shared: do not change it
}

// Query returns the parsed query, without the parameters that are malformed.
func (r Request) Query() url.Values {
	v, _ := url.ParseQuery(r.RawQuery)
	return v
}

// Form returns the body parsed as a form, without the parameters that are malformed.
func (r Request) Form() url.Values {
	v, _ := url.ParseQuery(string(r.Body))
	return v
}

// Format prints method and path only, whatever the verb.
func (r Request) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "%s %s", r.Method, r.Path)
}

// MarshalJSON encodes method and path only.
func (r Request) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct{ Method, Path string }{r.Method, r.Path})
}

// Requests returns the recorded requests, the oldest first. With paths it returns only
// the requests to these paths. The server keeps the newest 10,000 requests. It records a
// request after it has read the body and before it answers.
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

// ForgetRequests removes all recorded requests.
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
	recorded := Request{r.Method, r.URL.Path, r.URL.RawQuery, r.Header.Clone(), body}
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.requests) > 0 && (len(c.requests) >= maxRecords || c.bytes+len(body) > maxRecordBytes) {
		c.bytes -= len(c.requests[0].Body)
		c.requests[0] = Request{}
		c.requests = c.requests[1:]
	}
	c.requests = append(c.requests, recorded)
	c.bytes += len(body)
}
