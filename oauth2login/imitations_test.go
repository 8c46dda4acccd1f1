package oauth2login_test

import (
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/endpoints"
)

const (
	imitatedID     = "client-7"
	imitatedSecret = "hush-hush"
)

// internetTransport answers requests in this process with one handler for each address. A
// request for an unknown address fails the test.
type internetTransport struct {
	t        *testing.T
	handlers map[string]http.HandlerFunc
}

func newInternet(t *testing.T, providers ...*imitation) *http.Client {
	n := &internetTransport{t: t, handlers: make(map[string]http.HandlerFunc)}
	for _, p := range providers {
		n.handlers[p.endpoint.AuthURL] = p.authorize
		n.handlers[p.endpoint.TokenURL] = p.token
		n.handlers[p.endpoint.DeviceAuthURL] = p.deviceAuthorization
	}
	return &http.Client{Transport: n}
}

func (n *internetTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body == nil {
		req.Body = http.NoBody
	}
	defer req.Body.Close()
	address := *req.URL
	address.RawQuery = ""
	handle, ok := n.handlers[address.String()]
	if !ok {
		n.t.Errorf("request for %s", address.String())
		return nil, errors.New("no such host")
	}
	in := req.Clone(req.Context())
	in.RequestURI = req.URL.RequestURI()
	w := httptest.NewRecorder()
	handle(w, in)
	res := w.Result()
	res.Request = req
	return res, nil
}

// imitation is an authorization server in this process that behaves like one provider. It
// is strict: the test fails if a code, or a refresh token that rotates, is sent twice.
type imitation struct {
	t        *testing.T
	endpoint oauth2.Endpoint

	callbackIssuer  string // sent as iss (RFC 9207)
	codeSize        int
	formUnlessAsked bool // answers are forms, unless the Accept header asks for JSON
	formOnly        bool // Basic authentication is refused
	deviceTakesAll  bool // the device endpoint does not check credentials
	rotates         bool // a refresh token is replaced when it is used

	token_      func(g *grant) map[string]any
	device      func(g *grant) map[string]any
	failure     func(code string) (status int, members map[string]any)
	clientError string // for the next callback, instead of a code

	mu        sync.Mutex
	grants    map[string]*grant // by code, device code and refresh token
	sent      map[string]int    // number of times each code and refresh token was sent
	consented bool
	requests  []url.Values // the token requests
	denied    bool         // the user refuses the device login
}

// grant is what a user has allowed.
type grant struct {
	redirectURL, challenge, nonce, scope string
	secret                               string // the code, device code or refresh token
	kind                                 string // the grant type that redeems it
	offline, fresh                       bool
	polls                                int
}

func newImitation(t *testing.T, e oauth2.Endpoint) *imitation {
	return &imitation{
		t: t, endpoint: e, codeSize: 20,
		grants: make(map[string]*grant),
		sent:   make(map[string]int),
	}
}

// imitateGitHub is an OAuth app of GitHub. Its answers are forms unless the client asks
// for JSON. Its errors have status 200. Its tokens live until they are revoked.
func imitateGitHub(t *testing.T) *imitation {
	p := newImitation(t, endpoints.GitHub)
	p.formUnlessAsked = true
	p.token_ = func(g *grant) map[string]any {
		return map[string]any{"access_token": "gho_" + rand.Text(), "token_type": "bearer", "scope": g.scope}
	}
	p.device = func(g *grant) map[string]any {
		return map[string]any{
			"device_code": g.secret, "user_code": "WDJB-MJHT", "interval": 5, "expires_in": 899,
			"verification_uri": "https://github.com/login/device",
		}
	}
	p.failure = func(code string) (int, map[string]any) {
		if code == "invalid_grant" {
			code = "bad_verification_code"
		}
		return http.StatusOK, map[string]any{
			"error": code, "error_description": "The code passed is incorrect or expired.",
			"error_uri": "https://docs.github.com/apps",
		}
	}
	return p
}

// imitateGitHubApp is a GitHub app, whose tokens expire.
func imitateGitHubApp(t *testing.T) *imitation {
	p := imitateGitHub(t)
	p.rotates = true
	p.token_ = func(g *grant) map[string]any {
		return map[string]any{
			"access_token": "ghu_" + rand.Text(), "token_type": "bearer", "scope": "", "expires_in": 28800,
			"refresh_token": p.refreshToken(g), "refresh_token_expires_in": 15897600,
		}
	}
	return p
}

// imitateGoogle sends iss in its callback. It issues a refresh token only at the first
// consent, and only with access_type=offline. In device logins, it sends verification_url
// instead of verification_uri.
func imitateGoogle(t *testing.T) *imitation {
	p := newImitation(t, endpoints.Google)
	p.callbackIssuer = "https://accounts.google.com"
	p.token_ = func(g *grant) map[string]any {
		answer := map[string]any{
			"access_token": "ya29." + rand.Text(), "token_type": "Bearer", "expires_in": 3599,
			"scope": g.scope, "id_token": idToken(g),
		}
		if g.offline && g.fresh {
			answer["refresh_token"] = p.refreshToken(g)
		}
		return answer
	}
	p.device = func(g *grant) map[string]any {
		return map[string]any{
			"device_code": g.secret, "user_code": "GQVQ-JKEC", "interval": 5, "expires_in": 1800,
			"verification_url": "https://www.google.com/device",
		}
	}
	p.failure = func(code string) (int, map[string]any) {
		status := http.StatusBadRequest
		switch code {
		case "authorization_pending":
			status = http.StatusPreconditionRequired
		case "access_denied", "slow_down":
			status = http.StatusForbidden
		}
		return status, map[string]any{"error": code, "error_description": "Bad Request"}
	}
	return p
}

// imitateAzure has codes of 2 KB and line breaks in its error descriptions. Lifetimes are
// strings, as in version 1 of its endpoint.
func imitateAzure(t *testing.T) *imitation {
	p := newImitation(t, endpoints.AzureAD("contoso"))
	p.codeSize = 2048
	p.rotates = true
	p.token_ = func(g *grant) map[string]any {
		answer := map[string]any{
			"access_token": "eyJ0" + randomText(2048), "token_type": "Bearer", "scope": g.scope,
			"expires_in": "3600", "ext_expires_in": "3600", "expires_on": "1388444763", "id_token": idToken(g),
		}
		if strings.Contains(g.scope, "offline_access") {
			answer["refresh_token"] = p.refreshToken(g)
		}
		return answer
	}
	p.device = func(g *grant) map[string]any {
		return map[string]any{
			"device_code": g.secret, "user_code": "A1B2C3D4E", "interval": 5, "expires_in": 900,
			"verification_uri": "https://microsoft.com/devicelogin",
			"message":          "To sign in, use a web browser to open the page.",
		}
	}
	p.failure = func(code string) (int, map[string]any) {
		return http.StatusBadRequest, map[string]any{
			"error": code, "error_codes": []int{70008}, "timestamp": "2016-01-09 02:02:12Z", "trace_id": "255d1aef",
			"error_description": "AADSTS70008: The provided authorization code is expired.\r\nTrace ID: 255d1aef\r\nTimestamp: 2016-01-09 02:02:12Z",
		}
	}
	return p
}

// imitateGitLab adds the creation time to its tokens, and rotates its refresh tokens.
func imitateGitLab(t *testing.T) *imitation {
	p := newImitation(t, endpoints.GitLab)
	p.rotates = true
	p.token_ = func(g *grant) map[string]any {
		return map[string]any{
			"access_token": rand.Text(), "token_type": "Bearer", "expires_in": 7200,
			"refresh_token": p.refreshToken(g), "scope": g.scope, "created_at": 1607635748, "id_token": idToken(g),
		}
	}
	p.device = func(g *grant) map[string]any {
		return map[string]any{
			"device_code": g.secret, "user_code": "0A44L90H", "interval": 5, "expires_in": 300,
			"verification_uri":          "https://gitlab.com/oauth/device",
			"verification_uri_complete": "https://gitlab.com/oauth/device?user_code=0A44L90H",
		}
	}
	p.failure = func(code string) (int, map[string]any) {
		return http.StatusBadRequest, map[string]any{
			"error": code, "error_description": "The provided authorization grant is invalid, expired, or revoked.",
		}
	}
	return p
}

// config is the configuration for p of an application at https://app.example.
func (p *imitation) config(name string, scopes ...string) *oauth2.Config {
	return &oauth2.Config{
		ClientID: imitatedID, ClientSecret: imitatedSecret, Endpoint: p.endpoint,
		RedirectURL: "https://app.example/callback/" + name, Scopes: scopes,
	}
}

// authorize is the authorization endpoint. The user approves every request at once.
func (p *imitation) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	p.once(q)
	for name, want := range map[string]string{
		"response_type": "code", "client_id": imitatedID, "code_challenge_method": "S256",
	} {
		assert.Equal(p.t, want, q.Get(name), name)
	}
	assert.NotEmpty(p.t, q.Get("state"))
	assert.Equal(p.t, strings.Contains(q.Get("scope"), "openid"), q.Has("nonce"), "nonce")
	back := url.Values{"state": {q.Get("state")}}
	if p.callbackIssuer != "" {
		back.Set("iss", p.callbackIssuer)
	}
	if p.clientError != "" {
		back.Set("error", p.clientError)
		back.Set("error_description", "AADSTS65004: User declined to consent.\r\nTrace ID: 255d1aef")
	} else {
		back.Set("code", p.grant("authorization_code", &grant{
			redirectURL: q.Get("redirect_uri"), challenge: q.Get("code_challenge"), nonce: q.Get("nonce"),
			scope: q.Get("scope"), offline: q.Get("access_type") == "offline", fresh: p.firstConsent(),
		}))
	}
	w.Header().Set("Location", q.Get("redirect_uri")+"?"+back.Encode())
	w.WriteHeader(http.StatusFound)
}

func (p *imitation) firstConsent() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := !p.consented
	p.consented = true
	return first
}

// deviceAuthorization is the device authorization endpoint (RFC 8628, section 3.1).
func (p *imitation) deviceAuthorization(w http.ResponseWriter, r *http.Request) {
	form := p.form(r)
	if !p.deviceTakesAll && !p.authenticated(r, form) {
		p.fail(w, r, "invalid_client")
		return
	}
	g := &grant{challenge: form.Get("code_challenge"), scope: form.Get("scope"), fresh: true, offline: true}
	p.grant("urn:ietf:params:oauth:grant-type:device_code", g)
	p.answer(w, r, http.StatusOK, p.device(g))
}

// token is the token endpoint.
func (p *imitation) token(w http.ResponseWriter, r *http.Request) {
	form := p.form(r)
	p.mu.Lock()
	p.requests = append(p.requests, form)
	p.mu.Unlock()
	if secret := p.oneTimeSecret(form); secret != "" && p.count(secret) > 1 {
		p.t.Errorf("sent twice: the %s", form.Get("grant_type"))
	}
	if !p.authenticated(r, form) {
		p.fail(w, r, "invalid_client")
		return
	}
	g, code := p.redeem(form)
	if code != "" {
		p.fail(w, r, code)
		return
	}
	p.answer(w, r, http.StatusOK, p.token_(g))
}

// oneTimeSecret returns the part of a token request that may be sent only once, or "".
func (p *imitation) oneTimeSecret(form url.Values) string {
	if p.rotates && form.Has("refresh_token") {
		return form.Get("refresh_token")
	}
	return form.Get("code")
}

// redeem finds the grant for a token request, or returns an error code.
func (p *imitation) redeem(form url.Values) (g *grant, code string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	secret := cmp.Or(form.Get("code"), form.Get("refresh_token"), form.Get("device_code"))
	g, ok := p.grants[secret]
	if !ok || g.kind != form.Get("grant_type") || g.redirectURL != form.Get("redirect_uri") {
		return nil, "invalid_grant"
	}
	if g.challenge != "" && oauth2.S256ChallengeFromVerifier(form.Get("code_verifier")) != g.challenge {
		return nil, "invalid_grant"
	}
	if form.Has("device_code") {
		g.polls++
		if p.denied {
			return nil, "access_denied"
		}
		if g.polls < 3 {
			return nil, "authorization_pending"
		}
	}
	if p.rotates || !form.Has("refresh_token") {
		delete(p.grants, secret)
	}
	next := *g
	next.fresh = g.fresh && !form.Has("refresh_token")
	return &next, ""
}

// grant remembers g under a new secret, which it returns.
func (p *imitation) grant(kind string, g *grant) (secret string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g.kind, g.secret = kind, randomText(p.codeSize)
	p.grants[g.secret] = g
	return g.secret
}

func (p *imitation) refreshToken(g *grant) string {
	return p.grant("refresh_token", &grant{scope: g.scope, nonce: g.nonce, offline: g.offline})
}

// form reads the form of a request to the token or device endpoint.
func (p *imitation) form(r *http.Request) url.Values {
	assert.Equal(p.t, http.MethodPost, r.Method)
	assert.Equal(p.t, "application/x-www-form-urlencoded", r.Header.Get("Content-Type"))
	assert.Contains(p.t, r.Header.Get("Accept"), "application/json")
	assert.Empty(p.t, r.URL.RawQuery)
	assert.NoError(p.t, r.ParseForm())
	p.once(r.PostForm)
	return r.PostForm
}

// once makes sure that no parameter is repeated (RFC 6749, section 3.2).
func (p *imitation) once(values url.Values) {
	for name, v := range values {
		assert.Len(p.t, v, 1, name)
	}
}

// authenticated reports whether the client's credentials are correct. They must be in the
// header or in the body, but not in both (RFC 6749, section 2.3).
func (p *imitation) authenticated(r *http.Request, form url.Values) bool {
	id, secret, basic := r.BasicAuth()
	if basic {
		assert.False(p.t, form.Has("client_secret"), "credentials in two places")
		return !p.formOnly && id == imitatedID && secret == imitatedSecret
	}
	return form.Get("client_id") == imitatedID && form.Get("client_secret") == imitatedSecret
}

func (p *imitation) fail(w http.ResponseWriter, r *http.Request, code string) {
	status, members := p.failure(code)
	p.answer(w, r, status, members)
}

// answer writes members as the provider does: as JSON or as a form.
func (p *imitation) answer(w http.ResponseWriter, r *http.Request, status int, members map[string]any) {
	if p.formUnlessAsked && !strings.Contains(r.Header.Get("Accept"), "application/json") {
		form := make(url.Values)
		for name, v := range members {
			form.Set(name, fmt.Sprint(v))
		}
		w.Header().Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
		w.WriteHeader(status)
		fmt.Fprint(w, form.Encode())
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	assert.NoError(p.t, json.NewEncoder(w).Encode(members))
}

func (p *imitation) count(secret string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent[secret]++
	return p.sent[secret]
}

// tokenRequests returns the grant types of all token requests, in order.
func (p *imitation) tokenRequests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var types []string
	for _, form := range p.requests {
		types = append(types, form.Get("grant_type"))
	}
	return types
}

// codesSent returns how many different codes the token endpoint has received.
func (p *imitation) codesSent() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(slices.Collect(maps.Keys(p.sent)))
}

// idToken returns a token in the format of an ID token, without a signature.
func idToken(g *grant) string {
	claims, _ := json.Marshal(map[string]string{"aud": imitatedID, "sub": "10001", "nonce": g.nonce})
	return "e30." + base64.RawURLEncoding.EncodeToString(claims) + ".c2ln"
}

// nonceOf returns the nonce of a token's ID token.
func nonceOf(t *testing.T, tok *oauth2.Token) string {
	t.Helper()
	raw, _ := tok.Extra("id_token").(string)
	parts := strings.Split(raw, ".")
	require.Len(t, parts, 3, "the ID token")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	require.NoError(t, err)
	var claims struct{ Nonce string }
	require.NoError(t, json.Unmarshal(payload, &claims))
	return claims.Nonce
}

func randomText(size int) string {
	var b strings.Builder
	for b.Len() < size {
		b.WriteString(rand.Text())
	}
	return b.String()[:size]
}

// visitor is a browser. It keeps cookies, and marks its requests as navigations by a
// person.
type visitor struct {
	t   *testing.T
	jar http.CookieJar
}

func newVisitor(t *testing.T) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return &visitor{t, jar}
}

// visit lets handle answer a navigation to address.
func (v *visitor) visit(address string, handle func(http.ResponseWriter, *http.Request)) *http.Response {
	r := httptest.NewRequest(http.MethodGet, address, nil)
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	r.Header.Set("Sec-Fetch-Dest", "document")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	for _, c := range v.jar.Cookies(r.URL) {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	handle(w, r)
	res := w.Result()
	v.jar.SetCookies(r.URL, res.Cookies())
	return res
}

// cookies returns how many cookies v sends to address, and the size of the header.
func (v *visitor) cookies(address string) (count, size int) {
	r := httptest.NewRequest(http.MethodGet, address, nil)
	sent := v.jar.Cookies(r.URL)
	for _, c := range sent {
		r.AddCookie(c)
	}
	return len(sent), len(r.Header.Get("Cookie"))
}
