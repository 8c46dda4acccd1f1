package shangcloudtest

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// A consent is how authorization requests are answered.
type consent struct {
	auto bool  // at once, without a page
	uid  int64 // as this user; if 0, by refusing
}

// AutoApprove answers every authorization request at once, as if the user had
// allowed it on the consent page. If uid is 0, the page is shown again.
func (s *Server) AutoApprove(uid int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.consent = consent{auto: uid != 0, uid: uid}
}

// AutoDeny answers every authorization request at once with access_denied,
// until the next [Server.AutoApprove].
func (s *Server) AutoDeny() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.consent = consent{auto: true}
}

// consentLifetime is how long a consent page can be answered.
const consentLifetime = 10 * time.Minute

// A pendingConsent is what a user is asked for: by an application that sent the
// browser here, or by a device.
type pendingConsent struct {
	client      *client
	scopes      []string
	redirectURI string
	state       string
	challenge   string
	device      *device // nil: a browser login
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
	// RFC 6749, 4.1.2.1: without a client and its redirect URI, the browser is
	// not sent anywhere.
	s.mu.Lock()
	c := s.clients[q.Get("client_id")]
	s.mu.Unlock()
	if c == nil {
		s.errorPage(w, r, "unknown client_id")
		return
	}
	p := &pendingConsent{client: c, redirectURI: q.Get("redirect_uri"), state: q.Get("state")}
	if !slices.ContainsFunc(c.RedirectURIs, func(uri string) bool { return sameRedirect(uri, p.redirectURI) }) {
		s.errorPage(w, r, "redirect_uri is not registered for this client")
		return
	}

	var refused *apiError
	p.scopes, refused = c.scopesOf(q.Get("scope"))
	switch {
	case refused != nil:
	case q.Get("response_type") == "":
		refused = badRequest("invalid_request", "response_type is missing")
	case q.Get("response_type") != "code":
		refused = badRequest("unsupported_response_type", "response_type must be code")
	default:
		p.challenge = q.Get("code_challenge")
		refused = checkChallenge(c, p.challenge, q.Get("code_challenge_method"))
	}
	if refused != nil {
		redirect(w, http.StatusFound, p.refusal(refused.code, refused.description))
		return
	}
	s.ask(w, r, p)
}

// scopesOf reads a scope parameter. The platform's default is user:basic.
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

// sameRedirect compares a registered redirect URI with one that was sent, as
// strings (RFC 9700, 2.1) but for the port of a loopback address (RFC 8252, 7.3).
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

// approve makes the code and returns the address that brings it to the
// application (RFC 6749, 4.1.2).
func (s *Server) approve(p *pendingConsent, uid int64) string {
	code := &authCode{
		grant:       &grant{clientID: p.client.ID, uid: uid, scopes: p.scopes},
		redirectURI: p.redirectURI,
		challenge:   p.challenge,
		anyVerifier: p.client.PKCE == PKCEIgnored,
	}
	key := rand.Text()
	now := s.settings.Load().now()
	code.expires = now.Add(codeLifetime)
	s.mu.Lock()
	s.codes.put(key, code, now, now.Add(codeMemory))
	s.mu.Unlock()
	return p.callback(url.Values{"code": {key}})
}

// refusal is the address that brings an error to the application
// (RFC 6749, 4.1.2.1).
func (p *pendingConsent) refusal(code, description string) string {
	return p.callback(url.Values{"error": {code}, "error_description": {description}})
}

// callback adds parameters to the redirect URI, which keeps its own query
// (RFC 6749, 3.1.2), and the state exactly as it came.
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

// redirect sends the browser on. The address holds a code: it is kept by no
// cache and told to no other site (RFC 9700, 4.2.4).
func redirect(w http.ResponseWriter, status int, to string) {
	h := w.Header()
	h.Set("Location", to)
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(status)
}
