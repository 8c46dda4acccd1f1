package oauth2login_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLoginCookie(t *testing.T) { storedAndSealed(t, testLoginCookie) }

func testLoginCookie(t *testing.T, kind func(*setup)) {
	for _, c := range []struct {
		redirect string
		prefix   string
		secure   bool
	}{
		{"https://app.example/callback", "__Host-oauth2login-", true},
		{"http://127.0.0.1/callback", "oauth2login-", false},
		{"HTTP://127.0.0.1/callback", "oauth2login-", false},
	} {
		t.Run(c.redirect, func(t *testing.T) {
			s := newSite(t, kind, func(conf *setup) { conf.RedirectURL = c.redirect })
			w := httptest.NewRecorder()
			start := httptest.NewRequest("GET", "/login", nil)
			for _, name := range []string{"X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded"} {
				start.Header.Set(name, map[bool]string{true: "http", false: "https"}[c.secure]) // nobody listens
			}
			require.NoError(t, s.StartLogin(w, start))
			cookies := w.Result().Cookies()
			require.Len(t, cookies, 1)
			got := cookies[0]
			assert.True(t, strings.HasPrefix(got.Name, c.prefix), got.Name)
			assert.Equal(t, c.secure, got.Secure)
			assert.True(t, got.HttpOnly)
			assert.Equal(t, http.SameSiteLaxMode, got.SameSite)
			assert.Equal(t, "/", got.Path)
			assert.Empty(t, got.Domain)
			assert.Equal(t, 35*60, got.MaxAge, "it outlives the login: a late callback is told that it is late")
			assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
			assert.NotContains(t, w.Header().Get("Location"), got.Value, "the secret stays between site and browser")

			r := httptest.NewRequest("GET", authorize(t, w.Header().Get("Location")), nil)
			r.AddCookie(got)
			w = httptest.NewRecorder()
			_, err := s.FinishLogin(w, r)
			require.NoError(t, err)
			require.Len(t, w.Result().Cookies(), 1)
			cleared := w.Result().Cookies()[0]
			assert.Equal(t, got.Name, cleared.Name)
			assert.Negative(t, cleared.MaxAge)
			assert.Equal(t, c.secure, cleared.Secure)
			assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
		})
	}
}

// TestAbandonedLogins starts more logins than a browser can have under way: the
// oldest are given up, and the cookies do not pile up.
func TestAbandonedLogins(t *testing.T) {
	s, b := newSite(t), newBrowser(t)
	var urls []string
	for range 50 {
		urls = append(urls, b.start(t, s))
	}
	assert.Len(t, b.jar.Cookies(mustParse(s.redirect)), 20)
	for _, u := range urls[30:] {
		_, err := b.finish(s, authorize(t, u))
		require.NoError(t, err)
	}
	_, err := b.finish(s, authorize(t, urls[29]))
	assert.ErrorIs(t, err, oauth2login.ErrWrongBrowser)
}

// Many starts at once leave more cookies than a browser may keep. The next answers delete
// them, a few at a time, and their headers stay below the 4 KB that many proxies allow.
func TestSurplusCookies(t *testing.T) {
	s, b := newSite(t), newBrowser(t)
	page := mustParse("https://app.example/login")
	for range 120 { // none of them brings the cookies of the others
		w := httptest.NewRecorder()
		require.NoError(t, s.StartLogin(w, httptest.NewRequest("GET", page.String(), nil)))
		b.jar.SetCookies(page, w.Result().Cookies())
	}
	for range 10 {
		r := b.request("GET", page.String())
		w := httptest.NewRecorder()
		require.NoError(t, s.StartLogin(w, r))
		var header strings.Builder
		require.NoError(t, w.Header().Write(&header))
		assert.Less(t, header.Len(), 4<<10)
		b.jar.SetCookies(page, w.Result().Cookies())
	}
	assert.Len(t, b.jar.Cookies(page), 20)
	_, err := b.finish(s, authorize(t, b.start(t, s)))
	assert.NoError(t, err)
}

// Logins are abandoned at two providers of a site that has cookies of its own: together
// they take 20 cookies of 4 KB, and no other cookie is dropped.
func TestFullCookieJar(t *testing.T) {
	one, two, b := newSite(t), newSite(t, func(c *setup) { c.ClientID = "second" }), newBrowser(t)
	page := mustParse(one.redirect)
	var others []*http.Cookie
	for i := range 150 {
		others = append(others, &http.Cookie{Name: fmt.Sprint("other", i), Value: strings.Repeat("o", 20), Path: "/", Secure: true})
	}
	b.jar.SetCookies(page, others)
	for range 60 {
		b.start(t, one, oauth2login.WithReturnTo("/"+strings.Repeat("p", 2000)), oauth2login.WithValue(strings.Repeat("v", 1000)))
		b.start(t, two)
		logins, size := 0, 0
		for _, c := range b.jar.Cookies(page) {
			if strings.Contains(c.Name, "oauth2login-") {
				logins, size = logins+1, size+len(c.Name)+len(c.Value)
			}
		}
		require.LessOrEqual(t, logins, 20)
		require.LessOrEqual(t, size, 4096)
		require.Len(t, b.jar.Cookies(page), len(others)+logins)
	}
	last := queryOf(t, b.start(t, two)).Get("state")
	for range 30 {
		b.start(t, one)
	}
	_, err := b.finish(two, two.redirect+"?error=access_denied&state="+last)
	assert.ErrorIs(t, err, oauth2login.ErrAccessDenied, "the other provider's login is still under way")
	_, err = b.finish(one, authorize(t, b.start(t, one)))
	assert.NoError(t, err)
}

// TestSealedCookiesDoNotPileUp abandons long logins.
func TestSealedCookiesDoNotPileUp(t *testing.T) {
	s, b := newSite(t, sealedWith("1")), newBrowser(t)
	for i := range 40 {
		b.start(t, s, oauth2login.WithReturnTo("/"+strings.Repeat("p", i*40)))
		size := 0
		for _, c := range b.jar.Cookies(mustParse(s.redirect)) {
			size += len(c.Name) + len(c.Value)
		}
		assert.LessOrEqual(t, size, 4096, i)
	}
	_, err := b.finish(s, authorize(t, b.start(t, s)))
	assert.NoError(t, err)
}

// TestCookieOfANeighbour puts a second cookie of the same name in front, as a
// sibling subdomain can on plain http.
func TestCookieOfANeighbour(t *testing.T) { storedAndSealed(t, testCookieOfANeighbour) }

func testCookieOfANeighbour(t *testing.T, kind func(*setup)) {
	s, b := newSite(t, kind), newBrowser(t)
	callbackURL := authorize(t, b.start(t, s))
	r := httptest.NewRequest("GET", callbackURL, nil)
	own := b.jar.Cookies(mustParse(s.redirect))[0]
	r.AddCookie(&http.Cookie{Name: own.Name, Value: "tossed"})
	r.AddCookie(own)
	_, err := s.FinishLogin(httptest.NewRecorder(), r)
	assert.NoError(t, err)
}
