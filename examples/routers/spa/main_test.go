package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/routers/internal/browser"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// site is the application with its platform and one user's browser.
type site struct {
	*browser.Browser
	address  string
	platform *shangcloudtest.Server
	tokens   *recorder // records the platform's answers to the application
	seen     *recorder // records the application's answers to the browser
}

func newSite(t *testing.T) *site {
	t.Helper()
	platform := shangcloudtest.NewServer(t)
	server := httptest.NewUnstartedServer(nil)
	s := &site{address: "https://" + server.Listener.Addr().String(), platform: platform, tokens: &recorder{base: http.DefaultTransport}}
	platform.AddClient(shangcloudtest.Client{ID: "demo", Secret: "hush-hush", RedirectURIs: []string{s.address + "/callback"}})
	platform.AddUser(shangcloudtest.User{ID: 10001, Nickname: "小明", Email: "ming@example.cn"})
	platform.AutoApprove(10001)
	provider, err := shangcloud.New(&oauth2.Config{
		ClientID: "demo", ClientSecret: "hush-hush", RedirectURL: s.address + "/callback",
		Endpoint: shangcloud.EndpointAt(platform.URL),
		Scopes:   []string{shangcloud.ScopeUserBasic, shangcloud.ScopeVariables},
	}, &oauth2login.Options{HTTPClient: &http.Client{Transport: s.tokens}})
	require.NoError(t, err)
	server.Config.Handler = newApp(provider, true)
	server.StartTLS()
	t.Cleanup(server.Close)
	s.seen = &recorder{base: server.Client().Transport}
	s.Browser = browser.New(t, s.seen)
	return s
}

// call sends a request as fetch in the page does.
func (s *site) call(t *testing.T, method, path, body string) (int, map[string]any) {
	t.Helper()
	return s.fetch(t, method, path, body, "same-origin")
}

func (s *site) fetch(t *testing.T, method, path, body, from string) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.address+path, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Sec-Fetch-Mode", "cors")
	req.Header.Set("Sec-Fetch-Site", from)
	page := s.Do(t, req)
	assert.Equal(t, "application/json", page.Header.Get("Content-Type"))
	assert.Equal(t, "no-store", page.Header.Get("Cache-Control"))
	assert.Empty(t, page.Location)
	var answer map[string]any
	require.NoError(t, json.Unmarshal([]byte(page.Body), &answer), page.Body)
	return page.Status, answer
}

func TestPage(t *testing.T) {
	s := newSite(t)
	page := s.Visit(t, s.address+"/")
	assert.Equal(t, http.StatusOK, page.Status)
	assert.Contains(t, page.Body, `src="/app.js"`)
	assert.Contains(t, page.Header.Get("Content-Security-Policy"), "default-src 'self'")
	assert.Equal(t, http.StatusOK, s.Visit(t, s.address+"/app.js").Status)
	assert.Equal(t, http.StatusOK, s.Visit(t, s.address+"/goodbye.html").Status)
}

func TestSignInUseSignOut(t *testing.T) {
	s := newSite(t)
	status, answer := s.call(t, "GET", "/api/me", "")
	assert.Equal(t, http.StatusUnauthorized, status)
	require.Equal(t, "/login", answer["login"])

	page := s.Visit(t, s.address+answer["login"].(string)+"?next="+url.QueryEscape("/?tab=2"))
	assert.Equal(t, http.StatusOK, page.Status)
	assert.Equal(t, s.address+"/?tab=2", page.Address.String())

	status, answer = s.call(t, "GET", "/api/me", "")
	assert.Equal(t, http.StatusOK, status)
	assert.Equal(t, map[string]any{"id": 10001.0, "nickname": "小明", "theme": "light"}, answer)

	status, _ = s.call(t, "POST", "/api/theme", `{"theme":"dark"}`)
	assert.Equal(t, http.StatusOK, status)
	assert.Equal(t, map[string]string{"theme": "dark"}, s.platform.Variables(10001))
	_, answer = s.call(t, "GET", "/api/me", "")
	assert.Equal(t, "dark", answer["theme"])

	status, _ = s.call(t, "POST", "/api/logout", "{}")
	assert.Equal(t, http.StatusOK, status)
	status, _ = s.call(t, "GET", "/api/me", "")
	assert.Equal(t, http.StatusUnauthorized, status)
}

func TestSessionCookie(t *testing.T) {
	s := newSite(t)
	s.StopAt = "/"
	page := s.Visit(t, s.address+"/login")
	var session *http.Cookie
	for _, c := range page.Cookies {
		if c.Name == "__Host-session" {
			session = c
		}
	}
	require.NotNil(t, session)
	assert.True(t, session.HttpOnly)
	assert.True(t, session.Secure)
	assert.Equal(t, http.SameSiteLaxMode, session.SameSite)

	again := s.Visit(t, s.address+"/login")
	for _, c := range again.Cookies {
		assert.NotEqual(t, session.Value, c.Value, "each login has a new session ID")
	}
	page = browser.New(t, &withCookie{s.seen, session}).Visit(t, s.address+"/api/me")
	assert.Equal(t, http.StatusUnauthorized, page.Status, "the old one is worth nothing")
}

// No answer to the browser, headers included, contains a token.
func TestTokensNeverReachTheBrowser(t *testing.T) {
	s := newSite(t)
	s.Visit(t, s.address+"/login")
	s.platform.ExpireTokens() // the refreshed token must not appear either
	s.call(t, "GET", "/api/me", "")
	s.call(t, "POST", "/api/theme", `{"theme":"dark"}`)
	s.platform.Revoke(10001)
	status, answer := s.call(t, "GET", "/api/me", "")
	assert.Equal(t, http.StatusUnauthorized, status)
	assert.Equal(t, "login_required", answer["error"])

	var secrets []string
	for _, body := range s.tokens.bodies("/oauth/token") {
		var tok struct {
			Access  string `json:"access_token"`
			Refresh string `json:"refresh_token"`
		}
		if json.Unmarshal([]byte(body), &tok) == nil && tok.Access != "" {
			secrets = append(secrets, tok.Access, tok.Refresh)
		}
	}
	require.GreaterOrEqual(t, len(secrets), 4, "a login's and a refresh's")
	seen := strings.Join(s.seen.bodies(""), "\n")
	require.Contains(t, seen, "小明")
	for _, secret := range append(secrets, "hush-hush") {
		require.NotEmpty(t, secret)
		assert.NotContains(t, seen, secret)
	}
}

func TestOtherSitesCanNotPost(t *testing.T) {
	s := newSite(t)
	s.Visit(t, s.address+"/login")
	for _, from := range []string{"cross-site", "same-site"} {
		for _, path := range []string{"/api/theme", "/api/logout"} {
			status, answer := s.fetch(t, "POST", path, `{"theme":"evil"}`, from)
			assert.Equal(t, http.StatusForbidden, status)
			assert.Equal(t, "cross_origin", answer["error"])
		}
	}
	assert.Empty(t, s.platform.Variables(10001))

	// A browser without Sec-Fetch-Site sends Origin.
	req := httptest.NewRequest("POST", s.address+"/api/logout", nil)
	req.RequestURI = ""
	req.Header.Set("Origin", "https://evil.example")
	assert.Equal(t, http.StatusForbidden, s.Do(t, req).Status)

	status, _ := s.call(t, "GET", "/api/me", "")
	assert.Equal(t, http.StatusOK, status, "still signed in")
	assert.Equal(t, http.StatusNotFound, s.Visit(t, s.address+"/api/logout").Status, "a link can't sign out")
}

func TestLoginIsNotFetched(t *testing.T) {
	s := newSite(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.address+"/login", nil)
	require.NoError(t, err)
	req.Header.Set("Sec-Fetch-Mode", "cors")
	req.Header.Set("Sec-Fetch-Dest", "empty")
	assert.Equal(t, http.StatusForbidden, s.Do(t, req).Status)
	assert.Empty(t, s.Cookies(t, s.address))
	assert.Empty(t, s.platform.Requests())
}

func TestPlatformDown(t *testing.T) {
	s := newSite(t)
	s.Visit(t, s.address+"/login")
	s.platform.Fault("", shangcloudtest.Fault{Status: http.StatusServiceUnavailable})
	status, answer := s.call(t, "GET", "/api/me", "")
	assert.Equal(t, http.StatusServiceUnavailable, status)
	assert.Equal(t, "unavailable", answer["error"])
	s.platform.ClearFaults()
	status, _ = s.call(t, "GET", "/api/me", "")
	assert.Equal(t, http.StatusOK, status, "the session has not ended")
}

// recorder stores answers.
type recorder struct {
	base http.RoundTripper

	mu      sync.Mutex
	answers []struct{ path, text string }
}

func (rec *recorder) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := rec.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	var header bytes.Buffer
	if err := res.Header.Write(&header); err != nil {
		return nil, err
	}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.answers = append(rec.answers, struct{ path, text string }{r.URL.Path, header.String()}, struct{ path, text string }{r.URL.Path, string(body)})
	return res, nil
}

// bodies returns the bodies of all answers for a path. With path "" it returns all bodies.
func (rec *recorder) bodies(path string) (texts []string) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for _, a := range rec.answers {
		if path == "" || path == a.path {
			texts = append(texts, a.text)
		}
	}
	return texts
}

// withCookie sends a single cookie, as somebody who has stolen it would.
type withCookie struct {
	base   http.RoundTripper
	cookie *http.Cookie
}

func (t *withCookie) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.AddCookie(t.cookie)
	return t.base.RoundTrip(r)
}
