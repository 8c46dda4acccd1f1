package oauth2login_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNavigationsOnly(t *testing.T) {
	h := oauth2login.NavigationsOnly(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	for _, c := range []struct {
		name, value string
		want        int
	}{
		{"X", "", 418}, {"Sec-Fetch-Mode", "navigate", 418}, {"Sec-Fetch-Dest", "document", 418},
		{"Sec-Fetch-Mode", "no-cors", 403}, {"Sec-Fetch-Dest", "image", 403}, {"Sec-Fetch-Dest", "iframe", 403},
		{"Sec-WebSocket-Version", "13", 403},
		{"Sec-Purpose", "prefetch", 503}, {"X-Sec-Purpose", "prefetch", 503}, {"HX-Preloaded", "true", 503},
		{"Next-Router-Prefetch", "1", 503}, {"X-Middleware-Prefetch", "1", 503}, {"X-Moz", "prefetch", 503},
	} {
		r, w := httptest.NewRequest("GET", "/login", nil), httptest.NewRecorder()
		r.Header.Set(c.name, c.value)
		h.ServeHTTP(w, r)
		assert.Equal(t, c.want, w.Code, c.name+": "+c.value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("HEAD", "/login", nil))
	assert.Equal(t, http.StatusNoContent, w.Code)
}

func TestLoginURL(t *testing.T) {
	s, b := newSite(t), newBrowser(t)
	for _, c := range []struct {
		method, site, origin string
		ok                   bool
	}{
		{"POST", "same-origin", "", true}, {"POST", "", "https://app.example", true},
		{"GET", "same-origin", "", false}, {"HEAD", "", "", false}, {"OPTIONS", "", "", false},
		{"POST", "cross-site", "", false}, {"POST", "same-site", "", false}, {"POST", "", "https://evil.example", false},
	} {
		r, w := b.request(c.method, "https://app.example/link"), httptest.NewRecorder()
		for name, value := range map[string]string{"Sec-Fetch-Site": c.site, "Origin": c.origin} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		to, err := s.LoginURL(w, r)
		if !c.ok {
			assert.ErrorIs(t, err, oauth2login.ErrCrossSite, c)
			assert.Empty(t, w.Result().Cookies(), c)
			continue
		}
		require.NoError(t, err, c)
		b.keep(r, w)
		_, err = b.finish(s, authorize(t, to))
		assert.NoError(t, err, c)
	}
}

// One provider serves several hosts. A login option chooses the redirect URL of a host,
// and the exchange sends the same URL.
func TestRedirectURLs(t *testing.T) { storedAndSealed(t, testRedirectURLs) }

func testRedirectURLs(t *testing.T, kind func(*setup)) {
	const one, two, three = "https://app.example/callback", "https://b.example/callback", "https://c.example:8443/callback?tenant=c"
	platform := newPlatform(t)
	platform.AddClient(shangcloudtest.Client{ID: "tenants", Secret: "hush-hush", RedirectURIs: []string{one, two, three}})
	s := newSiteAt(t, platform, kind, func(c *setup) {
		c.ClientID = "tenants"
		c.row = append(c.row, oauth2login.WithRedirectURLs(two), oauth2login.WithRedirectURLs(three, one))
	})
	b := newBrowser(t) // this browser has a pending login at each of them
	callbacks := make(map[string]string)
	for _, redirect := range []string{one, two, three} {
		r, w := b.request("GET", siblingOf(redirect, "/login")), httptest.NewRecorder()
		require.NoError(t, s.StartLogin(w, r, oauth2login.WithRedirectURL(redirect), oauth2login.WithValue(redirect)))
		b.keep(r, w)
		assert.Equal(t, redirect, queryOf(t, w.Header().Get("Location")).Get("redirect_uri"))
		callbacks[redirect] = authorize(t, w.Header().Get("Location"))
	}
	for redirect, callbackURL := range callbacks {
		assert.True(t, strings.HasPrefix(callbackURL, redirect), callbackURL)
		elsewhere := mustParse(callbackURL)
		elsewhere.Host = map[bool]string{true: "b.example", false: "app.example"}[redirect == one]
		_, err := b.finish(s, elsewhere.String())
		require.ErrorIs(t, err, oauth2login.ErrWrongBrowser, "at another tenant's host")

		before := s.tokenRequests()
		login, err := b.finish(s, callbackURL)
		require.NoError(t, err, redirect)
		assert.Equal(t, redirect, login.Value)
		assert.Equal(t, redirect, s.platform.Requests("/oauth/token")[before].Form().Get("redirect_uri"))
	}
	if !strings.HasSuffix(t.Name(), "sealed") {
		authURL, err := s.StartUnbound(t.Context(), oauth2login.WithRedirectURL(two))
		require.NoError(t, err)
		before := s.tokenRequests()
		_, err = s.FinishUnbound(t.Context(), queryOf(t, authorize(t, authURL)))
		require.NoError(t, err)
		assert.Equal(t, two, s.platform.Requests("/oauth/token")[before].Form().Get("redirect_uri"))
	}

	for _, other := range []string{
		"https://evil.example/", "https://b.example/", "https://b.example/callback/", "https://b.example/callback?x", "https://B.example/callback",
		"https://b.example:443/callback", "http://b.example/callback", two + "#", " " + two, one + "," + two, "//b.example/callback", "*",
	} {
		r, w := b.request("GET", siblingOf(two, "/login")), httptest.NewRecorder()
		r.Host = "evil.example"
		assert.ErrorContains(t, s.StartLogin(w, r, oauth2login.WithRedirectURL(other)), "WithRedirectURL", other)
		assert.Empty(t, w.Header(), other)
	}
	r, w := b.request("GET", siblingOf(two, "/login")), httptest.NewRecorder()
	r.Header.Set("X-Forwarded-Host", "c.example")
	require.NoError(t, s.StartLogin(w, r))
	assert.Equal(t, one, queryOf(t, w.Header().Get("Location")).Get("redirect_uri"), "the request's host picks none")
}

func TestReturnTo(t *testing.T) { storedAndSealed(t, testReturnTo) }

func testReturnTo(t *testing.T, kind func(*setup)) {
	s := newSite(t, kind)
	b := newBrowser(t)
	for path, want := range map[string]string{
		"/":                            "/",
		"/album?next=https://x/#y":     "/album?next=https://x/#y",
		"/相册/1":                        "/相册/1",
		"/a%20b":                       "/a%20b",
		"/proxy/https://example.cn/":   "/proxy/https://example.cn/",
		"/files/a//b.txt":              "/files/a//b.txt",
		"/match/%5EHOST%5C%2F/top":     "/match/%5EHOST%5C%2F/top",
		"/files/a//../b.txt":           "/",
		"/files//%2e%2e/b.txt":         "/",
		`/match/.%5Ctop`:               "/",
		"":                             "/",
		"album":                        "/",
		"?a=b":                         "/",
		"//":                           "/",
		"//?a=b":                       "/",
		"//#a":                         "/",
		"//evil.example":               "/",
		"//evil.example/x":             "/",
		"//u@evil.example/x":           "/",
		"//u@/x":                       "/",
		"///evil.example":              "/",
		`/\evil.example`:               "/",
		`\\evil.example`:               "/",
		`/a\..\..\/evil.example`:       "/",
		"/%09/evil.example":            "/",
		"/\t/evil.example":             "/",
		"/%2fevil.example":             "/",
		"/%2F%2Fevil.example":          "/",
		"/%5cevil.example":             "/",
		"/.//evil.example":             "/",
		"/x/..//evil.example":          "/",
		`/#/../\evil.example`:          "/",
		`/#/..%5cevil.example`:         "/",
		"/#/a?next=https://x/":         "/#/a?next=https://x/",
		"https:evil.example":           "/",
		"https://evil.example":         "/",
		"HTTPS://evil.example":         "/",
		"javascript:alert(1)":          "/",
		"/a\r\nSet-Cookie: a=b":        "/",
		"/a%0d%0aSet-Cookie: a=b":      "/",
		"/a\x00":                       "/",
		"/\xff":                        "/",
		"/?q=\xff":                     "/",
		" /evil":                       "/",
		"/%zz":                         "/",
		"/" + strings.Repeat("a", 5e3): "/",
	} {
		login, err := b.finish(s, authorize(t, b.start(t, s, oauth2login.WithReturnTo(path))))
		require.NoError(t, err)
		assert.Equal(t, want, login.ReturnTo, "%q", path)
	}
	login, err := b.finish(s, authorize(t, b.start(t, s)))
	require.NoError(t, err)
	assert.Equal(t, "/", login.ReturnTo)
}

// TestRequestsOfNobody sends requests that no user made on purpose, such as link previews
// and prefetches. They start no login and use up no state.
func TestRequestsOfNobody(t *testing.T) {
	store := &countingStore{Store: state.NewMemory(0)}
	s, b := newSite(t, func(c *setup) { c.States = store }), newBrowser(t)
	callbackURL := authorize(t, b.start(t, s))
	store.calls = 0
	for name, c := range map[string]struct {
		method, header, value string
		status                int
	}{
		"HEAD":            {"HEAD", "X", "", http.StatusNoContent},
		"prefetch":        {"GET", "Sec-Purpose", "prefetch", http.StatusServiceUnavailable},
		"prerender":       {"GET", "Sec-Purpose", "prefetch;prerender", http.StatusServiceUnavailable},
		"older Chromium":  {"GET", "Purpose", "prefetch", http.StatusServiceUnavailable},
		"older Firefox":   {"GET", "X-Moz", "prefetch", http.StatusServiceUnavailable},
		"older Safari":    {"GET", "Purpose", "preview", http.StatusServiceUnavailable},
		"older still":     {"GET", "X-Purpose", "preview", http.StatusServiceUnavailable},
		"among others":    {"GET", "Sec-Purpose", "other;a=b, prefetch;anonymous-client-ip", http.StatusServiceUnavailable},
		"HEAD in advance": {"HEAD", "Sec-Purpose", "Prefetch", http.StatusServiceUnavailable},
		"Turbo":           {"GET", "X-Sec-Purpose", "prefetch", http.StatusServiceUnavailable},
		"image":           {"GET", "Sec-Fetch-Dest", "image", http.StatusForbidden},
		"frame":           {"GET", "Sec-Fetch-Dest", "iframe", http.StatusForbidden},
		"script's fetch":  {"GET", "Sec-Fetch-Mode", "cors", http.StatusForbidden},
		"WebSocket":       {"GET", "Sec-WebSocket-Version", "13", http.StatusForbidden},
		"reports":         {"OPTIONS", "Access-Control-Request-Method", "POST", http.StatusForbidden},
	} {
		r := b.request(c.method, "https://app.example/login")
		r.Header.Set(c.header, c.value)
		w := httptest.NewRecorder()
		require.NoError(t, s.StartLogin(w, r), name)
		assert.Equal(t, c.status, w.Code, name)
		assert.Empty(t, w.Result().Cookies(), name)
		assert.Empty(t, w.Header().Get("Location"), name)
		assert.Equal(t, "no-store", w.Header().Get("Cache-Control"), name)

		r = b.request(c.method, callbackURL)
		r.Header.Set(c.header, c.value)
		w = httptest.NewRecorder()
		_, err := s.FinishLogin(w, r)
		assert.ErrorIs(t, err, oauth2login.ErrBadCallback, name)
		assert.Empty(t, w.Result().Cookies(), name)
	}
	assert.Zero(t, store.calls)
	_, err := b.finish(s, callbackURL)
	assert.NoError(t, err)
}
