package shangcloudtest

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// maxBody is the size of the largest request body. A variable of 1 MiB takes 6 MiB if
// every byte is escaped as \u00xx.
const maxBody = 8 << 20

// Handle makes h answer requests to a path. If path ends in a slash, h also answers all
// paths below it. Use it for parts of the platform that this package does not have (see
// [Server.UserOf]), and for answers that a [Fault] cannot give. The server records the
// request, and h can still read its body. If h is nil, the platform answers again.
func (s *Server) Handle(path string, h http.Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h == nil {
		delete(s.handlers, path)
		return
	}
	s.handlers[path] = h
}

// route is one path of the platform. The body has already been read.
type route struct {
	method string
	handle func(s *Server, w http.ResponseWriter, r *http.Request, body []byte)
}

var routes = map[string]route{
	"/oauth/authorize":            {http.MethodGet, (*Server).authorize},
	"/oauth/consent":              {http.MethodPost, (*Server).answerConsent},
	"/oauth/token":                {http.MethodPost, (*Server).token},
	"/oauth/device_authorization": {http.MethodPost, (*Server).deviceAuthorization},
	"/device":                     {http.MethodGet, (*Server).devicePage},
	"/oauth/userinfo":             {http.MethodGet, (*Server).openIDUserInfo},
	"/api/user/info":              {http.MethodPost, (*Server).userInfo},
	"/api/varibles":               {http.MethodPost, (*Server).variable}, // the platform's spelling
	"/api/mmo/room/new":           roomRoute(newRoom, (*roomCall).create),
	"/api/mmo/room/join":          roomRoute(anyRoom, (*roomCall).join),
	"/api/mmo/room/config":        roomRoute(ownedRoom, (*roomCall).configure),
	"/api/mmo/room/data/set":      roomRoute(ownedRoom, (*roomCall).setData),
	"/api/mmo/room/data/get":      roomRoute(anyRoom, (*roomCall).getData),
	"/api/mmo/room/data/delete":   roomRoute(ownedRoom, (*roomCall).deleteData),
	"/api/mmo/room/kick":          roomRoute(ownedRoom, (*roomCall).kick),
	"/api/mmo/room/usercount":     roomRoute(anyRoom, (*roomCall).countUsers),
	"/favicon.ico":                {http.MethodGet, (*Server).noIcon}, // browsers request it
}

// ServeHTTP answers as the platform does.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// The extra MinRead bytes keep the buffer from growing at the end of the body.
	buffer := bytes.NewBuffer(make([]byte, 0, min(max(r.ContentLength, 0), maxBody)+bytes.MinRead))
	_, err := buffer.ReadFrom(http.MaxBytesReader(w, r.Body, maxBody))
	body := buffer.Bytes()
	s.record.add(r, body)
	if err != nil {
		status := http.StatusBadRequest
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		writeError(w, &apiError{status, "invalid_request", "the body could not be read"})
		return
	}
	if f := s.faults.take(r.URL.Path); f != nil {
		s.fail(f, w, r, body)
		return
	}
	s.route(w, r, body)
}

// route answers a request as the platform does, without faults.
func (s *Server) route(w http.ResponseWriter, r *http.Request, body []byte) {
	if h := s.handler(r.URL.Path); h != nil {
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(body))
		h.ServeHTTP(w, r)
		return
	}
	to, known := routes[r.URL.Path]
	switch {
	case !known:
		s.unexpected(r)
		writeError(w, &apiError{http.StatusNotFound, "not_found", "the platform has no such path"})
	case r.Method != to.method:
		w.Header().Set("Allow", to.method) // RFC 9110, 15.5.6
		writeError(w, &apiError{http.StatusMethodNotAllowed, "invalid_request", "the method must be " + to.method})
	default:
		to.handle(s, w, r, body)
	}
}

// handler returns the handler that [Server.Handle] set for path. The exact path comes
// first, then the longest prefix.
func (s *Server) handler(path string) http.Handler {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.handlers) == 0 {
		return nil
	}
	if h := s.handlers[path]; h != nil {
		return h
	}
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' && s.handlers[path[:i+1]] != nil {
			return s.handlers[path[:i+1]]
		}
	}
	return nil
}

// unexpected reports a path that the platform does not have.
func (s *Server) unexpected(r *http.Request) {
	s.reportMu.Lock()
	defer s.reportMu.Unlock()
	if s.report != nil {
		s.report("shangcloudtest: unexpected request: %s %s", r.Method, r.URL.Path)
	}
}

func (s *Server) noIcon(w http.ResponseWriter, _ *http.Request, _ []byte) {
	w.WriteHeader(http.StatusNoContent)
}

// base returns the URL below which the server runs, for example https://host/staging. It is
// the URL of r without path at its end.
func base(r *http.Request, path string) string {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	// RequestURI is the path that the client sent. It contains the path below which the
	// server runs.
	prefix := ""
	if u, err := url.ParseRequestURI(r.RequestURI); err == nil {
		prefix = strings.TrimSuffix(u.Path, path)
	}
	return scheme + "://" + r.Host + prefix
}
