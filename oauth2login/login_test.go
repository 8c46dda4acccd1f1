package oauth2login_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

func TestLogin(t *testing.T) { storedAndSealed(t, testLogin) }

func testLogin(t *testing.T, kind func(*setup)) {
	s, b := newSite(t, kind), newBrowser(t)
	value := "账户 7\x00\xff\n"
	authURL := b.start(t, s, oauth2login.WithReturnTo("/album?page=2#last"), oauth2login.WithValue(value))
	login, err := b.finish(s, authorize(t, authURL))
	require.NoError(t, err)
	assert.Equal(t, "/album?page=2#last", login.ReturnTo)
	assert.Equal(t, value, login.Value)
	assert.True(t, login.Token.Valid())
	assert.NotEmpty(t, login.Token.RefreshToken)
	assert.WithinDuration(t, time.Now().Add(time.Hour), login.Token.Expiry, time.Minute)
	assert.Empty(t, b.jar.Cookies(mustParse(s.redirect)), "the login's cookie is gone")

	asked, redeemed := queryOf(t, authURL), s.platform.Requests("/oauth/token")[0].Form()
	assert.Equal(t, s.redirect, asked.Get("redirect_uri"), "as registered, exactly")
	assert.Equal(t, s.redirect, redeemed.Get("redirect_uri"))
	assert.Equal(t, "S256", asked.Get("code_challenge_method"))
	assert.Equal(t, oauth2.S256ChallengeFromVerifier(redeemed.Get("code_verifier")), asked.Get("code_challenge"))

	assert.Equal(t, []string{"user:basic"}, login.Scopes)
	assert.Empty(t, login.Nonce)
	assert.False(t, login.Repeated)
}

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

func TestStatesAreRandom(t *testing.T) {
	s, b := newSite(t), newBrowser(t)
	seen := map[string]bool{}
	places := map[string]bool{} // and what has stood there
	for range 50 {
		cookie, state := started(t, s.Provider)
		assert.GreaterOrEqual(t, len(cookie.Value), 26, "of 5 bits each")
		for i := range state {
			places[fmt.Sprint("state ", i, state[i:i+1])] = true
		}
		for i := range cookie.Value {
			places[fmt.Sprint("secret ", i, cookie.Value[i:i+1])] = true
		}
		for _, name := range []string{"state", "code_challenge"} {
			v := queryOf(t, b.start(t, s)).Get(name)
			assert.Len(t, v, 43)
			assert.False(t, seen[v])
			seen[v] = true
		}
		authURL, err := s.StartUnbound(t.Context())
		require.NoError(t, err)
		v := queryOf(t, authURL).Get("state")
		assert.GreaterOrEqual(t, len(v), 26)
		assert.False(t, seen[v])
		seen[v] = true
	}
	// Of 32 or 64 characters 50 draws show 25 or 34 in the mean, at each place of 43 or
	// 26; the last of 43 has 16 only.
	assert.Greater(t, len(places), 43*20+26*15)
}

func TestLoginWithoutPKCE(t *testing.T) {
	s, b := newSite(t, func(c *setup) { c.row = append(c.row, oauth2login.WithoutPKCE()) }), newBrowser(t)
	authURL := b.start(t, s)
	assert.NotContains(t, queryOf(t, authURL), "code_challenge")
	_, err := b.finish(s, authorize(t, authURL))
	require.NoError(t, err)
	assert.NotContains(t, s.platform.Requests("/oauth/token")[0].Form(), "code_verifier")

	assert.Error(t, s.SetClientSecret(""), "a public client can't do without")
}

func TestLoginOptions(t *testing.T) { storedAndSealed(t, testLoginOptions) }

func testLoginOptions(t *testing.T, kind func(*setup)) {
	s, b := newSite(t, kind), newBrowser(t)
	q := queryOf(t, b.start(t, s,
		oauth2login.WithScopes("user:basic", "var:io"),
		oauth2login.WithAuthCodeOptions(oauth2.ApprovalForce, oauth2.SetAuthURLParam("ui_locales", "zh")),
		oauth2login.WithAuthCodeOptions(
			oauth2.SetAuthURLParam("state", "mine"),
			oauth2.SetAuthURLParam("redirect_uri", "https://evil.example/"),
			oauth2.SetAuthURLParam("client_id", "mine"),
			oauth2.SetAuthURLParam("scope", "mine"),
			oauth2.SetAuthURLParam("response_type", "token"),
			oauth2.SetAuthURLParam("code_challenge", "mine"),
			oauth2.SetAuthURLParam("code_challenge_method", "plain"),
		)))
	assert.Equal(t, "user:basic var:io", q.Get("scope"))
	assert.Equal(t, "consent", q.Get("prompt"))
	assert.Equal(t, "zh", q.Get("ui_locales"))
	assert.Equal(t, s.redirect, q.Get("redirect_uri"))
	assert.Equal(t, "demo", q.Get("client_id"))
	assert.Equal(t, "code", q.Get("response_type"))
	assert.Equal(t, "S256", q.Get("code_challenge_method"))
	assert.Len(t, q.Get("state"), 43)
	assert.Len(t, q.Get("code_challenge"), 43)

	for name, opt := range map[string]oauth2login.LoginOption{
		"a scope that is none": oauth2login.WithScopes("a b"),
		"a value too long":     oauth2login.WithValue(strings.Repeat("x", 1025)),
	} {
		w := httptest.NewRecorder()
		err := s.StartLogin(w, httptest.NewRequest("GET", "/login", nil), opt)
		require.Error(t, err, name)
		assert.Empty(t, w.Header(), "%s: nothing is written", name)
	}
	_, err := s.StartUnbound(t.Context(), oauth2login.WithScopes("a b"))
	assert.Error(t, err)
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

func TestTabsInAnyOrder(t *testing.T) { storedAndSealed(t, testTabsInAnyOrder) }

func testTabsInAnyOrder(t *testing.T, kind func(*setup)) {
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 2, 0}} {
		s, b := newSite(t, kind), newBrowser(t)
		var callbacks []string
		for i := range 3 {
			callbacks = append(callbacks, authorize(t, b.start(t, s, oauth2login.WithValue(fmt.Sprint(i)))))
		}
		for _, i := range order {
			login, err := b.finish(s, callbacks[i])
			require.NoError(t, err)
			assert.Equal(t, fmt.Sprint(i), login.Value)
		}
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

// TestStoreHoldsNoStates: who can read the store can't finish logins.
func TestStoreHoldsNoStates(t *testing.T) {
	store := &recordingStore{Store: state.NewMemory(0)}
	s := newSite(t, func(c *setup) { c.States = store })
	cookie, browserState := started(t, s.Provider)
	authURL, err := s.StartUnbound(t.Context())
	require.NoError(t, err)
	require.Len(t, store.put, 2)
	for _, put := range store.put {
		for _, secret := range []string{cookie.Value, browserState, queryOf(t, authURL).Get("state")} {
			assert.NotContains(t, put, secret)
		}
	}
}

type recordingStore struct {
	state.Store
	put []string
}

func (r *recordingStore) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	r.put = append(r.put, key+" "+string(value))
	return r.Store.Put(ctx, key, value, ttl)
}

func TestStateWorksOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, s *site) {
		cookie, state := started(t, s.Provider)
		query := "error=access_denied&state=" + state
		_, err := s.FinishLogin(httptest.NewRecorder(), requestWith(query, cookie.String()))
		assert.ErrorIs(t, err, oauth2login.ErrAccessDenied)
		time.Sleep(6 * time.Second) // a repeated callback gets the same answer for 5 seconds
		for _, cookies := range []string{"", cookie.String()} {
			_, err = s.FinishLogin(httptest.NewRecorder(), requestWith(query, cookies))
			assert.ErrorIs(t, err, oauth2login.ErrStateNotFound, cookies)
			assert.ErrorContains(t, err, "finished already")
		}
	})
}

// TestStateExpires has the browser come back after a while.
func TestStateExpires(t *testing.T) {
	for after, ok := range map[time.Duration]bool{5*time.Minute - time.Second: true, 5 * time.Minute: false, 24 * time.Hour: false} {
		inBubble(t, func(t *testing.T, s *site) {
			r := httptest.NewRequest("GET", "https://app.example/login", nil)
			w := httptest.NewRecorder()
			require.NoError(t, s.StartLogin(w, r))
			cookie := w.Result().Cookies()[0]
			assert.Equal(t, 35*60, cookie.MaxAge)
			state := queryOf(t, w.Header().Get("Location")).Get("state")
			time.Sleep(after) // the browser keeps the cookie for longer than it was told to

			r = httptest.NewRequest("GET", "https://app.example/callback?error=access_denied&state="+state, nil)
			r.AddCookie(cookie)
			w = httptest.NewRecorder()
			_, err := s.FinishLogin(w, r)
			if ok {
				assert.ErrorIs(t, err, oauth2login.ErrAccessDenied, after)
			} else {
				assert.ErrorIs(t, err, oauth2login.ErrStateNotFound, after)
			}
			require.Len(t, w.Result().Cookies(), 1)
			assert.Negative(t, w.Result().Cookies()[0].MaxAge, "the cookie goes with the state")
		})
	}
}

// TestLoginCSRF brings a valid state and code to browsers that did not start the
// login. None gets in, no request is made, and the owner's login still completes.
func TestLoginCSRF(t *testing.T) { storedAndSealed(t, testLoginCSRF) }

func testLoginCSRF(t *testing.T, kind func(*setup)) {
	for name, victim := range map[string]func(t *testing.T, s *site, b *browser){
		"no cookie":              func(*testing.T, *site, *browser) {},
		"another login's cookie": func(t *testing.T, s *site, b *browser) { b.start(t, s) },
		"another login's cookie under this login's name": func(t *testing.T, s *site, b *browser) {
			b.start(t, s)
			others := b.jar.Cookies(mustParse(s.redirect))
			require.Len(t, others, 1)
			b.forged = others[0].Value
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, owner, other := newSite(t, kind), newBrowser(t), newBrowser(t)
			callbackURL := authorize(t, owner.start(t, s))
			victim(t, s, other)
			r := other.request("GET", callbackURL)
			if other.forged != "" {
				r.AddCookie(&http.Cookie{Name: owner.jar.Cookies(mustParse(s.redirect))[0].Name, Value: other.forged})
			}
			login, err := s.FinishLogin(httptest.NewRecorder(), r)
			assert.Nil(t, login)
			assert.ErrorIs(t, err, oauth2login.ErrWrongBrowser)
			assert.Zero(t, s.tokenRequests())

			_, err = owner.finish(s, callbackURL)
			assert.NoError(t, err)
		})
	}
}

// TestCodeInjection has an attacker who got hold of somebody's code, before it was
// redeemed, bring it back in a login of their own: PKCE gives it away.
func TestCodeInjection(t *testing.T) { storedAndSealed(t, testCodeInjection) }

func testCodeInjection(t *testing.T, kind func(*setup)) {
	s, victim, attacker := newSite(t, kind), newBrowser(t), newBrowser(t)
	stolen := queryOf(t, authorize(t, victim.start(t, s))).Get("code")
	own := queryOf(t, attacker.start(t, s)).Get("state")
	login, err := attacker.finish(s, s.redirect+"?code="+stolen+"&state="+own)
	assert.Nil(t, login)
	var refused *oauth2.RetrieveError
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, "invalid_grant", refused.ErrorCode)
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

// TestProvidersOfOneText: what tells providers apart is not the same when it is joined.
func TestProvidersOfOneText(t *testing.T) {
	store := state.NewMemory(0)
	var sites []*oauth2login.Provider
	for _, names := range [][2]string{{"https://api.example/a", "bc"}, {"https://api.example/ab", "c"}} {
		c := valid("https://api.example")
		c.Endpoint.TokenURL, c.ClientID, c.States = names[0], names[1], store
		sites = append(sites, c.provider(t))
	}
	cookie, state := started(t, sites[0])
	finish := func(p *oauth2login.Provider) error {
		_, err := p.FinishLogin(httptest.NewRecorder(), requestWith("error=access_denied&state="+state, cookie.Name+"="+cookie.Value))
		return err
	}
	assert.ErrorIs(t, finish(sites[1]), oauth2login.ErrWrongBrowser)
	assert.ErrorIs(t, finish(sites[0]), oauth2login.ErrAccessDenied)
}

func TestTwoProvidersOnOneStore(t *testing.T) {
	platform := newPlatform(t)
	platform.AddClient(shangcloudtest.Client{ID: "second", Secret: "hush-hush", RedirectURIs: []string{"https://app.example/callback"}})
	staging := newPlatform(t)
	store := state.NewMemory(0)
	shared := func(c *setup) { c.States = store }
	live := newSiteAt(t, platform, shared)
	for name, other := range map[string]*site{
		"another application":  newSiteAt(t, platform, shared, func(c *setup) { c.ClientID = "second" }),
		"another deployment":   newSiteAt(t, staging, shared),
		"another redirect URL": newSiteAt(t, platform, shared, func(c *setup) { c.RedirectURL = "https://app.example/other" }),
	} {
		t.Run(name, func(t *testing.T) {
			b := newBrowser(t)
			liveURL, otherURL := b.start(t, live), b.start(t, other)
			callbackURL := authorize(t, liveURL)

			before := other.tokenRequests()
			_, err := b.finish(other, callbackURL)
			assert.ErrorIs(t, err, oauth2login.ErrWrongBrowser)
			// With the cookie renamed to what the other provider looks for.
			r := httptest.NewRequest("GET", callbackURL, nil)
			for _, c := range b.jar.Cookies(mustParse(live.redirect)) {
				for _, d := range b.jar.Cookies(mustParse(live.redirect)) {
					prefix := d.Name[:len("__Host-oauth2login-12345678-")]
					r.AddCookie(&http.Cookie{Name: prefix + queryOf(t, callbackURL).Get("state")[:8], Value: c.Value})
				}
			}
			_, err = other.FinishLogin(httptest.NewRecorder(), r)
			assert.ErrorIs(t, err, oauth2login.ErrWrongBrowser)
			assert.Equal(t, before, other.tokenRequests())

			_, err = b.finish(live, callbackURL)
			assert.NoError(t, err)
			_, err = b.finish(other, authorize(t, otherURL))
			assert.NoError(t, err)
		})
	}
}

func TestTwoMachines(t *testing.T) {
	platform, store := newPlatform(t), state.NewMemory(0)
	shared := func(c *setup) { c.States = store }
	one, two := newSiteAt(t, platform, shared), newSiteAt(t, platform, shared)
	b := newBrowser(t)
	_, err := b.finish(two, authorize(t, b.start(t, one)))
	assert.NoError(t, err)
}

func TestDenied(t *testing.T) { storedAndSealed(t, testDenied) }

func testDenied(t *testing.T, kind func(*setup)) {
	s, b := newSite(t, kind), newBrowser(t)
	s.platform.AutoDeny()
	callbackURL := authorize(t, b.start(t, s, oauth2login.WithReturnTo("/cart"), oauth2login.WithValue("order 9")))
	login, err := b.finish(s, callbackURL)
	assert.Nil(t, login)
	assert.ErrorIs(t, err, oauth2login.ErrAccessDenied)
	failed, ok := errors.AsType[*oauth2login.LoginError](err)
	require.True(t, ok)
	assert.Equal(t, "/cart", failed.ReturnTo, "a No keeps the place")
	assert.Equal(t, "order 9", failed.Value)
	var ce *oauth2login.CallbackError
	require.ErrorAs(t, err, &ce)
	assert.Equal(t, "access_denied", ce.Code)
	assert.NotEmpty(t, ce.Description)
	assert.Zero(t, s.tokenRequests())

	_, err = newBrowser(t).finish(s, callbackURL)
	assert.ErrorIs(t, err, oauth2login.ErrStateNotFound, "the state was redeemed all the same")
}

func TestCallbackErrors(t *testing.T) { storedAndSealed(t, testCallbackErrors) }

func testCallbackErrors(t *testing.T, kind func(*setup)) {
	s, b := newSite(t, kind), newBrowser(t)
	for code, text := range map[string]string{
		"temporarily_unavailable": ": the login came back with temporarily_unavailable",
		"server_error":            ": the login came back with server_error",
		"invalid_scope":           ": the login came back with invalid_scope",
		"Some <b>thing</b>!":      ": the login came back with an unknown error",
	} {
		state := queryOf(t, b.start(t, s)).Get("state")
		q := url.Values{"state": {state}, "error": {code}, "error_description": {"说明"}, "error_uri": {"https://e.example/"}}
		_, err := b.finish(s, s.redirect+"?"+q.Encode())
		var ce *oauth2login.CallbackError
		require.ErrorAs(t, err, &ce)
		assert.Equal(t, &oauth2login.CallbackError{Code: code, Description: "说明", URI: "https://e.example/"}, ce)
		assert.NotErrorIs(t, err, oauth2login.ErrAccessDenied)
		assert.Equal(t, code == "server_error" || code == "temporarily_unavailable", errors.Is(err, oauth2login.ErrUnavailable))
		assert.Equal(t, "oauth2login: "+mustParse(s.platform.URL).Host+text, err.Error())
	}
}

// countingStore counts calls and can fail.
type countingStore struct {
	state.Store
	mu    sync.Mutex
	calls int
	fail  error
}

func (s *countingStore) called() (fail error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	return s.fail
}

func (s *countingStore) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if err := s.called(); err != nil {
		return err
	}
	return s.Store.Put(ctx, key, value, ttl)
}

func (s *countingStore) Take(ctx context.Context, key string) ([]byte, bool, error) {
	if err := s.called(); err != nil {
		return nil, false, err
	}
	return s.Store.Take(ctx, key)
}

func TestCallbackMalformed(t *testing.T) {
	store := &countingStore{Store: state.NewMemory(0)}
	s, b := newSite(t, func(c *setup) { c.States = store }), newBrowser(t)
	good := queryOf(t, authorize(t, b.start(t, s)))
	state, code := good.Get("state"), good.Get("code")
	store.calls = 0
	for name, c := range map[string]struct {
		query string
		want  error
	}{
		"nothing":               {"", oauth2login.ErrBadCallback},
		"no state":              {"code=" + code, oauth2login.ErrBadCallback},
		"empty state":           {"state=&code=" + code, oauth2login.ErrBadCallback},
		"no code":               {"state=" + state, oauth2login.ErrBadCallback},
		"empty code":            {"code=&state=" + state, oauth2login.ErrBadCallback},
		"two states":            {"state=x&code=" + code + "&state=" + state, oauth2login.ErrBadCallback},
		"two codes":             {"code=x&code=" + code + "&state=" + state, oauth2login.ErrBadCallback},
		"two errors":            {"error=x&error=y&state=" + state, oauth2login.ErrBadCallback},
		"code and error":        {"error=x&code=" + code + "&state=" + state, oauth2login.ErrBadCallback},
		"empty error":           {"error=&state=" + state, oauth2login.ErrBadCallback},
		"state of 1 MiB":        {"code=" + code + "&state=" + strings.Repeat("a", 1<<20), oauth2login.ErrBadCallback},
		"code of 5000":          {"state=" + state + "&code=" + strings.Repeat("a", 5000), oauth2login.ErrBadCallback},
		"state with NUL":        {"code=" + code + "&state=a%00b", oauth2login.ErrBadCallback},
		"state with a newline":  {"code=" + code + "&state=a%0Ab", oauth2login.ErrBadCallback},
		"state beyond ASCII":    {"code=" + code + "&state=%E7%8A%B6", oauth2login.ErrBadCallback},
		"code with NUL":         {"state=" + state + "&code=%00", oauth2login.ErrBadCallback},
		"code with DEL":         {"state=" + state + "&code=a%7F", oauth2login.ErrBadCallback},
		"error with CR":         {"state=" + state + "&error=a%0D", oauth2login.ErrBadCallback},
		"two descriptions":      {"state=" + state + "&error=a&error_description=b&error_description=b", oauth2login.ErrBadCallback},
		"two URIs":              {"state=" + state + "&error=a&error_uri=b&error_uri=b", oauth2login.ErrBadCallback},
		"error and empty code":  {"state=" + state + "&error=a&code=", oauth2login.ErrBadCallback},
		"bad escape":            {"code=" + code + "&state=%zz" + state, oauth2login.ErrBadCallback},
		"semicolons":            {"code=" + code + ";state=" + state, oauth2login.ErrBadCallback},
		"a state of no form":    {"code=" + code + "&state=" + state[:42], oauth2login.ErrStateNotFound},
		"a state of other form": {"code=" + code + "&state=" + state[:42] + "!", oauth2login.ErrStateNotFound},
	} {
		r := b.request("GET", s.redirect)
		r.URL.RawQuery = c.query
		w := httptest.NewRecorder()
		login, err := s.FinishLogin(w, r)
		assert.Nil(t, login, name)
		assert.ErrorIs(t, err, c.want, name)
		assert.Equal(t, "no-store", w.Header().Get("Cache-Control"), name)
		assert.NotContains(t, err.Error(), state[:20], name)
		assert.NotContains(t, err.Error(), code, name)
	}
	for _, method := range []string{"POST", "HEAD", "PUT"} {
		_, err := s.FinishLogin(httptest.NewRecorder(), b.request(method, s.redirect+"?"+good.Encode()))
		assert.ErrorIs(t, err, oauth2login.ErrBadCallback, method)
	}
	assert.Zero(t, store.calls, "the store is not asked")
	assert.Zero(t, s.tokenRequests())

	_, err := b.finish(s, s.redirect+"?"+good.Encode())
	assert.NoError(t, err, "none of this has burned the state")
}

// TestPostedCallback has the answer come as a form (response_mode=form_post, which is
// not offered), with and without the cookies that browsers leave out of such requests.
func TestCallbackPosted(t *testing.T) { storedAndSealed(t, testCallbackPosted) }

func testCallbackPosted(t *testing.T, kind func(*setup)) {
	s, b := newSite(t, kind), newBrowser(t)
	callbackURL := authorize(t, b.start(t, s))
	form := queryOf(t, callbackURL).Encode()
	for name, address := range map[string]string{"in the body": s.redirect, "in the query": callbackURL, "in both": callbackURL} {
		for _, from := range []*browser{b, newBrowser(t)} {
			r := from.request("POST", address)
			if name != "in the query" {
				r.Body = io.NopCloser(strings.NewReader(form))
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			}
			w := httptest.NewRecorder()
			login, err := s.FinishLogin(w, r)
			assert.Nil(t, login, name)
			assert.ErrorIs(t, err, oauth2login.ErrBadCallback, name)
			assert.Empty(t, w.Result().Cookies(), name)
		}
	}
	assert.Zero(t, s.tokenRequests())
	_, err := b.finish(s, callbackURL)
	assert.NoError(t, err, "the state has not been redeemed")
}

// TestIssuer mixes up the answers of two providers. (RFC 9207)
func TestIssuer(t *testing.T) {
	const issuer = "https://api.example"
	s, b := newSite(t, func(c *setup) { c.row = append(c.row, oauth2login.WithIssuer(issuer)) }), newBrowser(t)
	for query, ok := range map[string]bool{
		"":                                       false, // it has to be there
		"&iss=" + url.QueryEscape(issuer):        true,
		"&iss=" + url.QueryEscape(issuer+"/"):    false, // compared as it is
		"&iss=https%3A%2F%2Fevil.example":        false,
		"&iss=":                                  false,
		"&iss=https://api.example&iss=https://x": false,
	} {
		callbackURL := authorize(t, b.start(t, s))
		before := s.tokenRequests()
		_, err := b.finish(s, callbackURL+query)
		if ok {
			assert.NoError(t, err, query)
			continue
		}
		assert.ErrorIs(t, err, oauth2login.ErrBadCallback, query)
		assert.Equal(t, before, s.tokenRequests())
		_, err = b.finish(s, callbackURL+"&iss="+url.QueryEscape(issuer))
		assert.NoError(t, err, "the state has not been redeemed")
	}
	s = newSite(t)
	_, err := b.finish(s, authorize(t, b.start(t, s))+"&iss=whatever")
	assert.NoError(t, err, "not configured, not looked at")
}

// TestRequestsOfNobody are those that no user asked for: link previews, and browsers
// that look ahead. They start no login and burn no state.
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

func TestBrowserWithoutCookies(t *testing.T) {
	s, b := newSite(t), newBrowser(t)
	callbackURL := authorize(t, b.start(t, s))
	_, err := newBrowser(t).finish(s, callbackURL)
	assert.ErrorIs(t, err, oauth2login.ErrWrongBrowser)
	assert.ErrorIs(t, err, oauth2login.ErrNoCookies)
	r := httptest.NewRequest("GET", callbackURL, nil)
	r.AddCookie(&http.Cookie{Name: "session", Value: "other"})
	_, err = s.FinishLogin(httptest.NewRecorder(), r)
	assert.ErrorIs(t, err, oauth2login.ErrWrongBrowser)
	assert.NotErrorIs(t, err, oauth2login.ErrNoCookies)
}

func TestStateStoreDown(t *testing.T) {
	store := &countingStore{Store: state.NewMemory(0)}
	s, b := newSite(t, func(c *setup) { c.States = store }), newBrowser(t)
	callbackURL := authorize(t, b.start(t, s))

	down := errors.New("connection refused: value hush")
	store.fail = down
	w := httptest.NewRecorder()
	err := s.StartLogin(w, httptest.NewRequest("GET", "/login", nil))
	assert.ErrorIs(t, err, oauth2login.ErrStateStore)
	assert.ErrorIs(t, err, down)
	assert.NotContains(t, fmt.Sprintf("%v %+v %#v", err, err, err), "hush")
	assert.Empty(t, w.Header(), "no redirect, no cookie")
	_, err = s.StartUnbound(t.Context())
	assert.ErrorIs(t, err, oauth2login.ErrStateStore)

	_, err = b.finish(s, callbackURL)
	assert.ErrorIs(t, err, oauth2login.ErrStateStore)
	assert.NotErrorIs(t, err, oauth2login.ErrStateNotFound)
	assert.Zero(t, s.tokenRequests())

	store.fail = nil
	_, err = b.finish(s, callbackURL)
	assert.NoError(t, err, "the login completes when the store is back")
}

// TestStateStoreHangs shows that a login does not wait for its store for ever.
func TestStateStoreHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := valid("https://shangcloud.test")
		c.States = hangingStore{}
		p := c.provider(t)
		back := httptest.NewRequest("GET", "/callback?code=c&state="+strings.Repeat("A", 43), nil)
		for name, call := range map[string]func() error{
			"StartLogin":   func() error { return p.StartLogin(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)) },
			"StartUnbound": func() error { _, err := p.StartUnbound(context.Background()); return err },
			"FinishUnbound": func() error {
				_, err := p.FinishUnbound(context.Background(), url.Values{"state": {strings.Repeat("A", 26)}, "code": {"c"}})
				return err
			},
		} {
			start := time.Now()
			err := call()
			assert.ErrorIs(t, err, oauth2login.ErrStateStore, name)
			assert.ErrorIs(t, err, context.DeadlineExceeded, name)
			assert.Equal(t, 3*time.Second, time.Since(start), name)
		}
		_, err := p.FinishLogin(httptest.NewRecorder(), back)
		assert.ErrorIs(t, err, oauth2login.ErrWrongBrowser, "the store is not even asked")
	})
}

type hangingStore struct{}

func (hangingStore) Put(ctx context.Context, _ string, _ []byte, _ time.Duration) error {
	<-ctx.Done()
	return ctx.Err()
}

func (hangingStore) Take(ctx context.Context, _ string) ([]byte, bool, error) {
	<-ctx.Done()
	return nil, false, ctx.Err()
}

// rewritingStore returns something else than it was given.
type rewritingStore struct{ state.Store }

func (s rewritingStore) Take(ctx context.Context, key string) ([]byte, bool, error) {
	return []byte("not what was stored"), true, nil
}

func TestStateStoreLies(t *testing.T) {
	s, b := newSite(t, func(c *setup) { c.States = rewritingStore{state.NewMemory(0)} }), newBrowser(t)
	_, err := b.finish(s, authorize(t, b.start(t, s)))
	assert.ErrorIs(t, err, oauth2login.ErrStateStore)
	assert.Zero(t, s.tokenRequests())
}

func TestExchangeFails(t *testing.T) {
	for name, c := range map[string]struct {
		fault       shangcloudtest.Fault
		unavailable bool
		status      int // of the *oauth2.RetrieveError
		code        string
	}{
		"refused":           {shangcloudtest.Fault{Status: 400, Body: `{"error":"invalid_grant","error_description":"hush"}`}, false, 400, "invalid_grant"},
		"wrong credentials": {shangcloudtest.Fault{Status: 401, Body: `{"error":"invalid_client"}`}, false, 401, "invalid_client"},
		"refused in HTML":   {shangcloudtest.Fault{Status: 403, Body: `<html>hush`}, false, 403, ""},
		"error with 200":    {shangcloudtest.Fault{Status: 200, Body: `{"error":"invalid_grant"}`}, false, 200, "invalid_grant"},
		"error labelled text": {shangcloudtest.Fault{Status: 400, Body: `{"error":"invalid_grant"}`,
			Header: http.Header{"Content-Type": {"text/plain"}}}, false, 400, "invalid_grant"},
		"too many": {shangcloudtest.Fault{Status: 429, Body: `{}`}, true, 429, ""},
		"down":     {shangcloudtest.Fault{Status: 503, Body: `hush`}, true, 503, ""},
		"redirect": {shangcloudtest.Fault{Status: 307, Redirect: "/oauth/token"}, true, 307, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, b := newSite(t), newBrowser(t)
			callbackURL := authorize(t, b.start(t, s))
			s.platform.Fault("/oauth/token", c.fault)
			login, err := b.finish(s, callbackURL)
			assert.Nil(t, login)
			require.Error(t, err)
			assert.Equal(t, c.unavailable, errors.Is(err, oauth2login.ErrUnavailable), "%v", err)
			var re *oauth2.RetrieveError
			require.ErrorAs(t, err, &re)
			assert.Equal(t, c.status, re.Response.StatusCode)
			assert.Equal(t, c.code, re.ErrorCode)
			assert.Empty(t, re.Response.Request.Header, "the request's credentials are not kept")
			assert.NotContains(t, fmt.Sprintf("%v %+v %#v %s %q", err, err, err, err, err), "hush")
			assert.Equal(t, 1, s.tokenRequests(), "the code is sent once")
		})
	}
}

func TestPlatformOutOfReach(t *testing.T) {
	s, b := newSite(t), newBrowser(t)
	callbackURL := authorize(t, b.start(t, s))
	s.platform.Close()
	_, err := b.finish(s, callbackURL)
	assert.ErrorIs(t, err, oauth2login.ErrUnavailable)
	assert.NotContains(t, err.Error(), queryOf(t, callbackURL).Get("code"))
}
