package shangcloudtest

import (
	"crypto/sha256"
	"crypto/subtle"
	"mime"
	"net/http"
	"net/url"
)

// authenticate tells which client sent a form.
func (s *Server) authenticate(r *http.Request, form url.Values) (*client, *apiError) {
	refused := &apiError{http.StatusUnauthorized, "invalid_client", "client authentication failed"}
	if form.Has("client_secret") {
		refused.description = "client_secret is not taken from the body: use the Authorization header"
		return nil, refused
	}
	id := form.Get("client_id")
	headers := r.Header.Values("Authorization")

	if len(headers) == 0 { // a public client: its ID in the form and no header at all
		s.mu.Lock()
		c := s.clients[id]
		s.mu.Unlock()
		if c == nil || c.authorization != "" {
			return nil, refused
		}
		return c, nil
	}

	// The platform takes one form of the header. It is found by its hash, so that
	// the time this takes tells nothing about a secret, and then compared whole.
	header := headers[0]
	hash := sha256.Sum256([]byte(header))
	s.mu.Lock()
	c := s.byAuth[hash]
	s.mu.Unlock()
	if c == nil || len(headers) > 1 || subtle.ConstantTimeCompare([]byte(header), []byte(c.authorization)) != 1 {
		return nil, refused
	}
	if id != "" && id != c.ID {
		return nil, &apiError{http.StatusBadRequest, "invalid_request", "client_id is not the authenticated client"}
	}
	return c, nil
}

// parseForm reads a form body. Parameters in the query of a token request are
// refused (RFC 6749, 2.3.1: they must not be in the URI), as are repeated ones
// (3.2); a parameter without a value counts as left out (3.2).
func parseForm(r *http.Request, body []byte) (url.Values, *apiError) {
	invalid := func(description string) *apiError {
		return &apiError{http.StatusBadRequest, "invalid_request", description}
	}
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mediaType != "application/x-www-form-urlencoded" {
		return nil, invalid("the Content-Type must be application/x-www-form-urlencoded")
	}
	if r.URL.RawQuery != "" {
		return nil, invalid("parameters belong into the body")
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, invalid("the body is not a form")
	}
	if repeated(form) {
		return nil, invalid("a parameter is repeated")
	}
	for name, values := range form {
		if values[0] == "" {
			delete(form, name)
		}
	}
	return form, nil
}

func repeated(v url.Values) bool {
	for _, values := range v {
		if len(values) > 1 {
			return true
		}
	}
	return false
}

// writeClientError answers a form that was refused. With a status of 401 goes
// the scheme to use (RFC 6749, 5.2).
func writeClientError(w http.ResponseWriter, e *apiError) {
	if e.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="ShangCloud"`)
	}
	writeError(w, e)
}
