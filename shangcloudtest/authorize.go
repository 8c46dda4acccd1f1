package shangcloudtest

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// autoConsent is the automatic answer to authorization requests.
type autoConsent struct {
	enabled bool
	uid     int64 // the user who allows the request; 0: deny it
}

// AutoApprove answers every authorization request at once, as if the user had
// allowed it on the consent page. If uid is 0, the server shows the consent page again.
func (s *Server) AutoApprove(uid int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.autoConsent = autoConsent{enabled: uid != 0, uid: uid}
}

// AutoDeny answers every authorization request at once with access_denied,
// until the next [Server.AutoApprove].
func (s *Server) AutoDeny() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.autoConsent = autoConsent{enabled: true}
}

// consentLifetime is the time that a user has to answer a consent page.
const consentLifetime = 10 * time.Minute

// pendingConsent is a request that waits for the user's answer. It comes from a browser
// login or from a device.
type pendingConsent struct {
	client      *client
	scopes      []string
	redirectURI string
	state       string
	challenge   string
	device      *device // nil for a browser login
}

// authorize is the authorization endpoint (RFC 6749, 3.1).
func (s *Server) authorize(w http.ResponseWriter, r *http.Request, _ []byte) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		s.errorPage(w, r, "the query is malformed")
		return
	}
	if repeated(q) { // RFC 6749, 3.1: parameters must not be included more than once
		s.errorPage(w, r, "a parameter is repeated")
		return
	}
	// RFC 6749, 4.1.2.1: no redirect for an unknown client or redirect URI.
	c := s.client(q.Get("client_id"))
	if c == nil {
		s.errorPage(w, r, "unknown client_id")
		return
	}
	p := &pendingConsent{client: c, redirectURI: q.Get("redirect_uri"), state: q.Get("state")}
	if !slices.ContainsFunc(c.RedirectURIs, func(uri string) bool { return sameRedirect(uri, p.redirectURI) }) {
		s.errorPage(w, r, "redirect_uri is not registered for this client")
		return
	}

	var refusal *apiError
	p.scopes, refusal = c.scopesOf(q.Get("scope"))
	switch {
	case refusal != nil:
	case q.Get("response_type") == "":
		refusal = invalidRequest("response_type is missing")
	case q.Get("response_type") != "code":
		refusal = badRequest("unsupported_response_type", "response_type must be code")
	default:
		p.challenge = q.Get("code_challenge")
		refusal = checkChallenge(c, p.challenge, q.Get("code_challenge_method"))
	}
	if refusal != nil {
		redirect(w, http.StatusFound, p.errorCallback(refusal.code, refusal.description))
		return
	}
	s.ask(w, r, p)
}

// scopesOf parses a scope parameter. The platform's default is user:basic.
func (c *client) scopesOf(parameter string) ([]string, *apiError) {
	scopes := strings.Fields(parameter)
	if len(scopes) == 0 {
		scopes = []string{"user:basic"}
	}
	if !subset(scopes, c.Scopes) {
		return nil, badRequest("invalid_scope", "the scope is unknown or not allowed for this client")
	}
	return scopes, nil
}

// sameRedirect compares a registered redirect URI with the one in a request. They must
// be equal (RFC 9700, 2.1), except for the port of a loopback address (RFC 8252, 7.3).
func sameRedirect(registered, sent string) bool {
	if registered == sent {
		return true
	}
	registered, loopback := withoutLoopbackPort(registered)
	if !loopback {
		return false
	}
	sent, loopback = withoutLoopbackPort(sent)
	return loopback && registered == sent
}

// withoutLoopbackPort removes the port of a loopback address. It reports false if uri
// has another host.
func withoutLoopbackPort(uri string) (string, bool) {
	for _, host := range []string{"http://127.0.0.1", "http://[::1]"} {
		rest, found := strings.CutPrefix(uri, host)
		if !found {
			continue
		}
		if port, isPort := strings.CutPrefix(rest, ":"); isPort {
			rest = strings.TrimLeft(port, "0123456789")
		}
		if rest == "" || rest[0] == '/' || rest[0] == '?' {
			return host + rest, true
		}
	}
	return "", false
}

// approve creates an authorization code. It returns the URL that sends the code to the
// application (RFC 6749, 4.1.2).
func (s *Server) approve(p *pendingConsent, uid int64) string {
	code := &authCode{
		grant:       &grant{clientID: p.client.ID, uid: uid, scopes: p.scopes},
		redirectURI: p.redirectURI,
		challenge:   p.challenge,
		ignorePKCE:  p.client.PKCE == PKCEIgnored,
	}
	key := rand.Text()
	now := s.settings.Load().now()
	code.expires = now.Add(codeLifetime)
	s.mu.Lock()
	s.codes.put(key, code, now, now.Add(codeMemory))
	s.mu.Unlock()
	return p.callback(url.Values{"code": {key}})
}

// errorCallback returns the URL that sends an error to the application (RFC 6749, 4.1.2.1).
func (p *pendingConsent) errorCallback(code, description string) string {
	return p.callback(url.Values{"error": {code}, "error_description": {description}})
}

// callback returns the redirect URI with parameters and the unchanged state. The URI
// keeps its own query (RFC 6749, 3.1.2).
func (p *pendingConsent) callback(v url.Values) string {
	if p.state != "" {
		v.Set("state", p.state)
	}
	separator := "?"
	if strings.Contains(p.redirectURI, "?") {
		separator = "&"
	}
	return p.redirectURI + separator + v.Encode()
}

// redirect sends the browser to a URL. The URL may contain a code, so no cache may keep
// it and no other site may receive it (RFC 9700, 4.2.4).
func redirect(w http.ResponseWriter, status int, to string) {
	h := w.Header()
	h.Set("Location", to)
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(status)
}
