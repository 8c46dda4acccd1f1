package gothshangcloud_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/markbates/goth/gothic"
	"github.com/markbates/goth/providers/github"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// newBoundSite is a site with the wrappers around its handlers.
func newBoundSite(t *testing.T) *site {
	t.Helper()
	s := newSite(t)
	s.platform.AutoApprove(10001)
	s.begin, s.callback = s.BeginHandler(s.begin), s.CallbackHandler(s.callback)
	return s
}

// visited returns the page that a browser gets at an address.
func (b *browser) visited(t *testing.T, method, address, body string) (status int, text string) {
	t.Helper()
	r, err := http.NewRequest(method, address, strings.NewReader(body))
	require.NoError(t, err)
	if body != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	res, err := b.Do(r)
	require.NoError(t, err)
	defer res.Body.Close()
	page, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(page)
}

// cookie returns the value of a cookie, or "".
func (b *browser) cookie(name string) string {
	for _, c := range b.cookies() {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

// plant sets a cookie as a sibling subdomain can, without the application.
func (b *browser) plant(name, value string) {
	b.Jar.SetCookies(b.app, []*http.Cookie{{Name: name, Value: value, Path: "/"}})
}

const notHere = "Not logged in: this browser did not begin this login"

func TestHandlers(t *testing.T) {
	s := newBoundSite(t)
	b := s.newBrowser(t)
	callback := b.visit(t, b.start(t, s, ""))
	assert.NotEmpty(t, b.cookie("goth-login"), "on loopback without the prefix")
	status, text := b.visited(t, "GET", callback, "")
	assert.Equal(t, http.StatusOK, status)
	assert.Equal(t, "hello 小明", text)
	user, err := s.outcome()
	require.NoError(t, err)
	assert.Equal(t, "10001", user.UserID)
	assert.Empty(t, b.cookies(), "all cookies of the login are gone")

	status, text = b.visited(t, "GET", callback, "")
	assert.Equal(t, http.StatusForbidden, status)
	assert.Contains(t, text, "this browser sent no cookie")
	assert.Contains(t, text, b.app.Host)
	assert.Equal(t, 1, s.tokenRequests())
}

// A sibling subdomain can plant gothic's session, but not a cookie with the prefix
// __Host-. The attacker then sends the victim to the callback with the attacker's code.
func TestHandlersPlantedSession(t *testing.T) {
	for name, before := range map[string]func(t *testing.T, s *site, victim *browser) string{
		"nothing under way": func(_ *testing.T, _ *site, victim *browser) string {
			victim.plant("theme", "dark")
			return ""
		},
		"a login under way": func(t *testing.T, s *site, victim *browser) string {
			return victim.visit(t, victim.start(t, s, ""))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newBoundSite(t)
			attacker, victim := s.newBrowser(t), s.newBrowser(t)
			attack := s.url + callbackPath + "?" + approve(t, s.platform, attacker.start(t, s, ""), 666).Encode()
			own := before(t, s, victim)
			session := victim.cookie(gothic.SessionName)

			victim.plant(gothic.SessionName, attacker.cookie(gothic.SessionName))
			status, text := victim.visited(t, "GET", attack, "")
			assert.Equal(t, http.StatusForbidden, status)
			assert.Contains(t, text, notHere)
			assert.Zero(t, s.tokenRequests())

			if own != "" {
				victim.plant(gothic.SessionName, session)
				victim.visit(t, own)
				user, err := s.outcome()
				require.NoError(t, err, "the victim's own login is still under way")
				assert.Equal(t, "10001", user.UserID)
			}

			// Without the wrapper the attack must succeed. Otherwise this test would prove
			// nothing.
			unbound := newSite(t)
			attacker, victim = unbound.newBrowser(t), unbound.newBrowser(t)
			attack = unbound.url + callbackPath + "?" + approve(t, unbound.platform, attacker.start(t, unbound, ""), 666).Encode()
			victim.plant(gothic.SessionName, attacker.cookie(gothic.SessionName))
			victim.visit(t, attack)
			user, err := unbound.outcome()
			require.NoError(t, err)
			assert.Equal(t, "666", user.UserID)
		})
	}
}

// In goth's example, the handler of the login link also calls CompleteUserAuth, which
// completes a login.
func TestHandlersPlantedSessionAtTheLoginLink(t *testing.T) {
	s := newBoundSite(t)
	completed := false
	s.begin = s.BeginHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := gothic.CompleteUserAuth(w, r); err == nil {
			completed = true
			return
		}
		gothic.BeginAuthHandler(w, r)
	}))
	attacker, victim := s.newBrowser(t), s.newBrowser(t)
	stolen := approve(t, s.platform, attacker.start(t, s, ""), 666)
	victim.plant(gothic.SessionName, attacker.cookie(gothic.SessionName))
	victim.plant("theme", "dark")
	victim.visit(t, s.url+"/auth/shangcloud?"+stolen.Encode())
	assert.False(t, completed)
	assert.Zero(t, s.tokenRequests())
	victim.visit(t, victim.visit(t, victim.start(t, s, "")))
	_, err := s.outcome()
	assert.NoError(t, err)
}

func TestHandlersOneWrapperMissing(t *testing.T) {
	s := newSite(t)
	s.platform.AutoApprove(10001)
	s.callback = s.CallbackHandler(s.callback)
	b := s.newBrowser(t)
	status, text := b.visited(t, "GET", b.visit(t, b.start(t, s, "")), "")
	assert.Equal(t, http.StatusForbidden, status, "begun without the wrapper")
	assert.Contains(t, text, notHere)
	assert.Zero(t, s.tokenRequests())
}

// A user starts logins in two tabs. The login that started last can be finished, even
// after a failed attempt in the other tab.
func TestHandlersTwoTabs(t *testing.T) {
	s := newBoundSite(t)
	b := s.newBrowser(t)
	first := b.visit(t, b.start(t, s, ""))
	second := b.visit(t, b.start(t, s, ""))
	status, text := b.visited(t, "GET", first, "")
	assert.Equal(t, http.StatusForbidden, status)
	assert.Contains(t, text, "has begun another one since")
	b.visit(t, second)
	_, err := s.outcome()
	require.NoError(t, err)

	other := newSite(t) // with gothic alone, the first tab's callback ends the second tab's login
	other.platform.AutoApprove(10001)
	b = other.newBrowser(t)
	first = b.visit(t, b.start(t, other, ""))
	second = b.visit(t, b.start(t, other, ""))
	b.visit(t, first)
	b.visit(t, second)
	_, err = other.outcome()
	assert.Error(t, err)
}

func TestHandlersOtherBrowser(t *testing.T) {
	s := newBoundSite(t)
	mine, other := s.newBrowser(t), s.newBrowser(t)
	callback := mine.visit(t, mine.start(t, s, ""))
	other.start(t, s, "")
	for name, value := range map[string]string{
		"its own cookie": other.cookie("goth-login"), "none": "", "the state": query(t, callback).Get("state"),
		"half of it": mine.cookie("goth-login")[:20],
	} {
		other.plant("goth-login", value)
		status, _ := other.visited(t, "GET", callback, "")
		assert.Equal(t, http.StatusForbidden, status, name)
	}
	assert.Zero(t, s.tokenRequests())
	mine.visit(t, callback)
	_, err := s.outcome()
	assert.NoError(t, err, "the login was left for its owner")
}

// gothic accepts a POST to the callback, and uses the first value of a repeated parameter.
func TestHandlersUnusualCallbacks(t *testing.T) {
	s := newBoundSite(t)
	b := s.newBrowser(t)
	callback := b.visit(t, b.start(t, s, ""))
	params := query(t, callback)
	twice := url.Values{"state": {params.Get("state"), params.Get("state")}, "code": params["code"]}
	for name, c := range map[string]struct {
		method, address, body string
		status                int
	}{
		"POST":             {"POST", callback, "", http.StatusMethodNotAllowed},
		"POST with a body": {"POST", s.url + callbackPath, params.Encode(), http.StatusMethodNotAllowed},
		"PUT":              {"PUT", callback, "", http.StatusForbidden},
		"HEAD":             {"HEAD", callback, "", http.StatusNoContent},
		"two states":       {"GET", s.url + callbackPath + "?" + twice.Encode(), "", http.StatusForbidden},
		"no state":         {"GET", s.url + callbackPath + "?code=c", "", http.StatusForbidden},
		"an empty state":   {"GET", s.url + callbackPath + "?state=&code=c", "", http.StatusForbidden},
		"a bad query":      {"GET", s.url + callbackPath + "?state=%zz&code=c", "", http.StatusForbidden},
	} {
		status, _ := b.visited(t, c.method, c.address, c.body)
		assert.Equal(t, c.status, status, name)
	}
	assert.Zero(t, s.tokenRequests())
	b.visit(t, callback)
	_, err := s.outcome()
	assert.NoError(t, err, "the login is still under way")
}

// The wrappers refuse link previews and prefetches themselves. An additional
// NavigationsOnly, inside or outside, does no harm.
func TestHandlersRequestsOfNobody(t *testing.T) {
	s := newSite(t)
	s.platform.AutoApprove(10001)
	s.begin = oauth2login.NavigationsOnly(s.BeginHandler(http.HandlerFunc(gothic.BeginAuthHandler)))
	s.callback = oauth2login.NavigationsOnly(s.CallbackHandler(s.callback))
	b := s.newBrowser(t)
	callback := b.visit(t, b.start(t, s, ""))
	for name, h := range map[string]http.Handler{
		"with": s.begin, "without": s.BeginHandler(http.HandlerFunc(gothic.BeginAuthHandler)),
		"callback with": s.callback, "callback without": s.CallbackHandler(s.callback),
	} {
		for header, value := range map[string]string{"Sec-Fetch-Dest": "image", "Sec-Purpose": "prefetch"} {
			r, w := httptest.NewRequest("GET", callback, nil), httptest.NewRecorder()
			r.Header.Set(header, value)
			for _, c := range b.cookies() {
				r.AddCookie(c)
			}
			h.ServeHTTP(w, r)
			assert.Contains(t, []int{http.StatusForbidden, http.StatusServiceUnavailable}, w.Code, name)
			assert.Empty(t, w.Result().Cookies(), name)
		}
	}
	b.visit(t, callback)
	_, err := s.outcome()
	assert.NoError(t, err)
}

// The cookie's prefix depends on the scheme of the redirect URL, not on the connection,
// because TLS may end at a proxy.
func TestHandlersCookie(t *testing.T) {
	for redirect, prefix := range map[string]string{"https://app.example" + callbackPath: "__Host-", "http://127.0.0.1" + callbackPath: ""} {
		platform := newPlatform(t)
		p := newProvider(t, platform, func(c *setup) { c.RedirectURL = redirect })
		gothUse(t, p)
		gothicStore(t)
		w := httptest.NewRecorder()
		p.BeginHandler(http.HandlerFunc(gothic.BeginAuthHandler)).ServeHTTP(w, httptest.NewRequest("GET", "/auth?provider=shangcloud", nil))
		set := make(map[string]*http.Cookie)
		for _, c := range w.Result().Cookies() {
			set[c.Name] = c
		}
		got := set[prefix+"goth-login"]
		require.NotNil(t, got, redirect)
		assert.Equal(t, prefix != "", got.Secure, redirect)
		assert.True(t, got.HttpOnly)
		assert.Equal(t, http.SameSiteLaxMode, got.SameSite)
		assert.Equal(t, "/", got.Path)
		assert.Empty(t, got.Domain)
		assert.Equal(t, 90*60, got.MaxAge)
		assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
		assert.NotContains(t, w.Header().Get("Location"), got.Value)

		// CallbackHandler accepts only the cookie name that BeginHandler has set, with or
		// without the prefix.
		callback := approve(t, platform, w.Header().Get("Location"), 10001)
		for _, name := range []string{"goth-login", "__Host-goth-login"} {
			passed := false
			r := httptest.NewRequest("GET", callbackPath+"?"+callback.Encode(), nil)
			r.AddCookie(&http.Cookie{Name: name, Value: "tossed"}) // a sibling subdomain's cookie comes first
			r.AddCookie(&http.Cookie{Name: name, Value: got.Value})
			w := httptest.NewRecorder()
			p.CallbackHandler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { passed = true })).ServeHTTP(w, r)
			assert.Equal(t, name == prefix+"goth-login", passed, redirect+" "+name)
			assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
			if passed {
				require.Len(t, w.Result().Cookies(), 1)
				assert.Negative(t, w.Result().Cookies()[0].MaxAge)
				assert.Equal(t, prefix != "", w.Result().Cookies()[0].Secure)
			}
		}
	}
}

// Other providers of goth use the same routes. gothic takes a state from the login link if
// the link contains one. Then the author of the link knows the state, and the login must
// fail.
func TestHandlersOtherProviders(t *testing.T) {
	p := newProvider(t, newPlatform(t))
	gothUse(t, github.New("id", "secret", "http://127.0.0.1/auth/github/callback"))
	gothicStore(t)
	begin := p.BeginHandler(http.HandlerFunc(gothic.BeginAuthHandler))
	callback := p.CallbackHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	for params, want := range map[string]int{"": http.StatusTeapot, "&state=evil": http.StatusForbidden} {
		w := httptest.NewRecorder()
		begin.ServeHTTP(w, httptest.NewRequest("GET", "/auth?provider=github"+params, nil))
		require.Equal(t, http.StatusTemporaryRedirect, w.Code)
		back := url.Values{"provider": {"github"}, "code": {"c"}, "state": {query(t, w.Header().Get("Location")).Get("state")}}
		r := httptest.NewRequest("GET", "/callback?"+back.Encode(), nil)
		for _, c := range w.Result().Cookies() {
			r.AddCookie(c)
		}
		w = httptest.NewRecorder()
		callback.ServeHTTP(w, r)
		assert.Equal(t, want, w.Code, params)
	}
}
