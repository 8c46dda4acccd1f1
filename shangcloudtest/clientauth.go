package shangcloudtest

import (
	"crypto/sha256"
	"crypto/subtle"
	"mime"
	"net/http"
	"net/url"
)

// clientForm parses the form in a body. It returns the form and the client that sent it.
func (s *Server) clientForm(r *http.Request, body []byte) (url.Values, *client, *apiError) {
	form, refusal := parseForm(r, body)
	if refusal != nil {
		return nil, nil, refusal
	}
	c, refusal := s.authenticate(r, form)
	return form, c, refusal
}

// authenticate returns the client that sent a form.
func (s *Server) authenticate(r *http.Request, form url.Values) (*client, *apiError) {
	refusal := &apiError{http.StatusUnauthorized, "invalid_client", "client authentication failed"}
	if form.Has("client_secret") {
		refusal.description = "client_secret must not be in the body: use the Authorization header"
		return nil, refusal
	}
	id := form.Get("client_id")
	headers := r.Header.Values("Authorization")

	if len(headers) == 0 { // a public client sends its ID in the form and no header
		c := s.client(id)
		if c == nil || c.authorization != "" {
			return nil, refusal
		}
		return c, nil
	}

	// The platform accepts exactly one header for each client. The lookup uses the
	// hash of the header, so that its duration reveals nothing about the secret.
	header := headers[0]
	hash := sha256.Sum256([]byte(header))
	s.mu.Lock()
	c := s.byAuth[hash]
	s.mu.Unlock()
	if c == nil || len(headers) > 1 || subtle.ConstantTimeCompare([]byte(header), []byte(c.authorization)) != 1 {
		return nil, refusal
	}
	if id != "" && id != c.ID {
		return nil, invalidRequest("client_id is not the authenticated client")
	}
	return c, nil
}

// parseForm parses a form body. It refuses parameters in the query (RFC 6749, 2.3.1)
// and repeated parameters (3.2). It drops parameters without a value (3.2).
func parseForm(r *http.Request, body []byte) (url.Values, *apiError) {
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mediaType != "application/x-www-form-urlencoded" {
		return nil, invalidRequest("the Content-Type must be application/x-www-form-urlencoded")
	}
	if r.URL.RawQuery != "" {
		return nil, invalidRequest("the parameters must be in the body, not in the query")
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, invalidRequest("the body is not a form")
	}
	if repeated(form) {
		return nil, invalidRequest("a parameter is repeated")
	}
	for name, values := range form {
		if values[0] == "" {
			delete(form, name)
		}
	}
	return form, nil
}

// repeated reports whether a parameter occurs more than once.
func repeated(v url.Values) bool {
	for _, values := range v {
		if len(values) > 1 {
			return true
		}
	}
	return false
}

// writeClientError answers a form with an error. Status 401 requires a
// WWW-Authenticate header (RFC 6749, 5.2).
func writeClientError(w http.ResponseWriter, e *apiError) {
	if e.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="ShangCloud"`)
	}
	writeError(w, e)
}
