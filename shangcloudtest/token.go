package shangcloudtest

import (
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	codeLifetime = time.Minute // RFC 6749, 4.1.2 allows ten minutes
	codeMemory   = time.Hour   // a second use is detected for this time

	deviceGrantType = "urn:ietf:params:oauth:grant-type:device_code" // RFC 8628, 3.4
)

type authCode struct {
	grant       *grant
	redirectURI string
	challenge   string // "" if the request had none
	ignorePKCE  bool
	expires     time.Time
	used        bool
}

type tokenAnswer struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    any    `json:"expires_in,omitempty"`
	RefreshToken string `json:"refresh_token,omitempty"`
	Scope        string `json:"scope"`
}

// token is the token endpoint (RFC 6749, 3.2).
func (s *Server) token(w http.ResponseWriter, r *http.Request, body []byte) {
	form, c, refusal := s.clientForm(r, body)
	if refusal != nil {
		writeClientError(w, refusal)
		return
	}
	var answer *tokenAnswer
	switch form.Get("grant_type") {
	case "authorization_code":
		answer, refusal = s.redeemCode(c, form)
	case "refresh_token":
		answer, refusal = s.redeemRefreshToken(c, form)
	case deviceGrantType:
		answer, refusal = s.redeemDeviceCode(c, form)
	case "":
		refusal = invalidRequest("grant_type is missing")
	default:
		refusal = badRequest("unsupported_grant_type", "")
	}
	if refusal != nil {
		writeClientError(w, refusal)
		return
	}
	w.Header().Set("Pragma", "no-cache") // RFC 6749, 5.1
	writeJSON(w, http.StatusOK, answer)
}

func (s *Server) redeemCode(c *client, form url.Values) (*tokenAnswer, *apiError) {
	if !form.Has("code") || !form.Has("redirect_uri") {
		return nil, invalidRequest("code or redirect_uri is missing")
	}
	verifier := form.Get("code_verifier")
	challenge := challengeOf(verifier)
	settings := s.settings.Load()
	now := settings.now()

	s.mu.Lock()
	defer s.mu.Unlock()
	code, found := s.codes.get(form.Get("code"), now)
	if !found || code.grant.clientID != c.ID {
		return nil, badRequest("invalid_grant", "the code is unknown or expired")
	}
	if code.used {
		// RFC 6749, 4.1.2: a second use revokes the tokens of the first use.
		code.grant.revoked = true
		return nil, badRequest("invalid_grant", "the code was used before")
	}
	if !now.Before(code.expires) {
		return nil, badRequest("invalid_grant", "the code is unknown or expired")
	}
	if form.Get("redirect_uri") != code.redirectURI { // RFC 6749, 4.1.3
		return nil, badRequest("invalid_grant", "redirect_uri differs from the authorization request")
	}
	if !code.ignorePKCE {
		if refusal := checkVerifier(code.challenge, verifier, challenge); refusal != nil {
			return nil, refusal
		}
	}
	code.used = true
	return s.firstTokens(code.grant, settings, now)
}

func (s *Server) redeemRefreshToken(c *client, form url.Values) (*tokenAnswer, *apiError) {
	if !form.Has("refresh_token") {
		return nil, invalidRequest("refresh_token is missing")
	}
	settings := s.settings.Load()
	now := settings.now()

	s.mu.Lock()
	defer s.mu.Unlock()
	t, found := s.refresh.get(form.Get("refresh_token"), now)
	if !found || t.grant.clientID != c.ID || t.grant.revoked {
		return nil, badRequest("invalid_grant", "the refresh token is unknown, expired or revoked")
	}
	if t.used {
		// RFC 9700, 4.14.2: the refresh token was sent twice, and one of the two senders
		// may be an attacker. So the server revokes the whole login.
		t.grant.revoked = true
		return nil, badRequest("invalid_grant", "the refresh token was used before")
	}
	scopes := t.grant.scopes
	if form.Has("scope") { // RFC 6749, 6: a refresh may narrow the granted scope
		scopes = strings.Fields(form.Get("scope"))
		if !subset(scopes, t.grant.scopes) {
			return nil, badRequest("invalid_scope", "the scope exceeds what was granted")
		}
	}
	answer := s.issueAccess(t.grant, scopes, settings, now)
	if !settings.KeepRefreshTokens {
		t.used = true
		answer.RefreshToken = s.issueRefresh(t.grant, now)
	}
	return answer, nil
}
