package oauth2login_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
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

// A common mistake: the login starts on another host than that of the redirect URL. A
// line in the log reports the mistake before the callback fails. Behind a proxy the hosts
// may differ.
func TestStartLoginOtherHost(t *testing.T) {
	for _, c := range []struct {
		redirect, host string
		warned         bool
	}{
		{"http://127.0.0.1/callback", "localhost", true},
		{"http://127.0.0.1/callback", "localhost:8080", true},
		{"http://127.0.0.1/callback", "127.0.0.1:8080", false}, // cookies do not know ports
		{"http://127.0.0.1/callback", "app.internal", false},
		{"https://app.example/callback", "localhost:8080", false},
	} {
		var log bytes.Buffer
		s := newSite(t, func(s *setup) {
			s.RedirectURL, s.Logger = c.redirect, slog.New(slog.NewTextHandler(&log, nil))
		})
		for range 2 {
			r := httptest.NewRequest("GET", "/login", nil)
			r.Host = c.host
			require.NoError(t, s.StartLogin(httptest.NewRecorder(), r))
		}
		if c.warned {
			assert.Equal(t, 1, strings.Count(log.String(), "\n"), log.String())
			assert.Contains(t, log.String(), c.host)
		} else {
			assert.Empty(t, log.String(), "%v", c)
		}
	}
}

func TestStatesAreRandom(t *testing.T) {
	s, b := newSite(t), newBrowser(t)
	seen := map[string]bool{}
	places := map[string]bool{} // which characters were seen at which position
	for range 50 {
		cookie, state := started(t, s.Provider)
		_, secret, _ := partsOf(cookie.Value)
		assert.GreaterOrEqual(t, len(secret), 26, "of 5 bits each")
		for i := range state {
			places[fmt.Sprint("state ", i, state[i:i+1])] = true
		}
		for i := range secret {
			places[fmt.Sprint("secret ", i, secret[i:i+1])] = true
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
	// 50 random characters from an alphabet of 32 contain 25 different ones on average,
	// and from an alphabet of 64 they contain 34. A secret has 26 positions, a state 43.
	// At the last position of a state, only 16 characters are possible.
	assert.Greater(t, len(places), 43*20+26*15)
}

func TestLoginWithoutPKCE(t *testing.T) { storedAndSealed(t, testLoginWithoutPKCE) }

func testLoginWithoutPKCE(t *testing.T, kind func(*setup)) {
	s, b := newSite(t, kind, func(c *setup) { c.row = append(c.row, oauth2login.WithoutPKCE()) }), newBrowser(t)
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

func TestStateWorksOnce(t *testing.T) { storedAndSealed(t, testStateWorksOnce) }

func testStateWorksOnce(t *testing.T, kind func(*setup)) {
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
	}, kind)
}

// TestStateExpires lets the browser return before and after the state expires.
func TestStateExpires(t *testing.T) {
	for after, ok := range map[time.Duration]bool{5*time.Minute - time.Second: true, 5 * time.Minute: false, 24 * time.Hour: false} {
		inBubble(t, func(t *testing.T, s *site) {
			r := httptest.NewRequest("GET", "https://app.example/login", nil)
			w := httptest.NewRecorder()
			require.NoError(t, s.StartLogin(w, r))
			cookie := w.Result().Cookies()[0]
			assert.Equal(t, 35*60, cookie.MaxAge)
			state := queryOf(t, w.Header().Get("Location")).Get("state")
			time.Sleep(after) // as if the browser kept the cookie longer than it was told to

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

// TestLoginCSRF sends a valid state and code from browsers that did not start the login.
// All are refused without a request to the platform. The owner can still finish the
// login.
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

// TestCodeInjection: an attacker has stolen a code before it was redeemed, and sends it
// in the callback of another login. PKCE detects that.
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

// TestProvidersOfOneText: the settings of two providers differ, but are the same text if
// they are joined without separators. The providers are still different.
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
			// Put the secret of each provider's login into the cookie of the other
			// provider's login.
			r := httptest.NewRequest("GET", callbackURL, nil)
			for _, c := range b.jar.Cookies(mustParse(live.redirect)) {
				for _, d := range b.jar.Cookies(mustParse(live.redirect)) {
					_, secret, _ := partsOf(c.Value)
					head, _, _ := partsOf(d.Value)
					r.AddCookie(&http.Cookie{Name: d.Name, Value: head + "." + secret})
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

// The error text names the cause. FinishLogin checks for a late callback, a reload and
// another host before it blames the cookies.
func TestCallbackCauses(t *testing.T) { storedAndSealed(t, testCallbackCauses) }

func testCallbackCauses(t *testing.T, kind func(*setup)) {
	const late, finished, other = "too late: the login ", "the login is finished already", "another redirect URL"
	both := func(r *http.Request) { r.Host = "localhost:8080" }
	for name, c := range map[string]struct {
		after  time.Duration
		change func(*http.Request) // changes the callback request
		want   error               // nil: a login
		texts  []string
		not    string
	}{
		"in time":                {4 * time.Minute, nil, nil, nil, ""},
		"another host, a proxy":  {0, both, nil, nil, ""},
		"plain http, a proxy":    {0, func(r *http.Request) { r.URL.Scheme, r.TLS = "http", nil }, nil, nil, ""},
		"too late":               {6 * time.Minute, nil, oauth2login.ErrStateNotFound, []string{late}, "cookie"},
		"much too late":          {34 * time.Minute, nil, oauth2login.ErrStateNotFound, []string{late}, "cookie"},
		"so late, no cookie":     {36 * time.Minute, nil, oauth2login.ErrNoCookies, []string{"sent no cookie", "older than 35m0s"}, "seen"},
		"no cookie":              {0, withoutCookies, oauth2login.ErrNoCookies, []string{"sent no cookie; it may block cookies"}, "seen"},
		"no cookie, other port":  {0, change(withoutCookies, func(r *http.Request) { r.Host = "APP.example:8443" }), oauth2login.ErrNoCookies, []string{"sent no cookie"}, "seen"},
		"no cookie, other host":  {0, change(withoutCookies, both), oauth2login.ErrNoCookies, []string{`(seen "localhost:8080", expected "app.example")`}, other},
		"another browser":        {0, withOtherCookies, oauth2login.ErrWrongBrowser, []string{"did not start the login"}, "seen"},
		"other cookies and host": {0, change(withOtherCookies, both), oauth2login.ErrWrongBrowser, []string{`(seen "localhost:8080", expected "app.example")`}, other},
		"an unknown state":       {0, func(r *http.Request) { r.URL.RawQuery = "code=c&state=mine" }, oauth2login.ErrStateNotFound, []string{"belongs to no login"}, "late"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *site) {
				b := newBrowser(t)
				authURL := b.start(t, s)
				time.Sleep(c.after) // the user waits for a code by mail, or uses a second factor
				callbackURL, err := s.platform.Approve(authURL, 10001)
				require.NoError(t, err)
				r := b.request("GET", callbackURL)
				if c.change != nil {
					c.change(r)
				}
				_, err = s.FinishLogin(httptest.NewRecorder(), r)
				if c.want == nil {
					require.NoError(t, err)
					return
				}
				require.ErrorIs(t, err, c.want)
				assert.Equal(t, c.want == oauth2login.ErrNoCookies, errors.Is(err, oauth2login.ErrNoCookies))
				for _, text := range c.texts {
					assert.ErrorContains(t, err, text)
				}
				if c.not != "" {
					assert.NotContains(t, err.Error(), c.not)
				}
			}, kind)
		})
	}
	t.Run("reloaded", func(t *testing.T) {
		inBubble(t, func(t *testing.T, s *site) {
			b := newBrowser(t)
			callbackURL, err := s.platform.Approve(b.start(t, s), 10001)
			require.NoError(t, err)
			kept := b.request("GET", callbackURL)
			_, err = b.finish(s, callbackURL)
			require.NoError(t, err)
			time.Sleep(6 * time.Second)
			for _, r := range []*http.Request{b.request("GET", callbackURL), kept} {
				_, err = s.FinishLogin(httptest.NewRecorder(), r)
				assert.ErrorIs(t, err, oauth2login.ErrStateNotFound)
				assert.ErrorContains(t, err, finished)
				assert.NotContains(t, err.Error(), "late")
			}
		}, kind)
	})
	t.Run("several hosts", func(t *testing.T) {
		s := newSite(t, kind, func(c *setup) {
			c.row = append(c.row, oauth2login.WithRedirectURLs("https://b.example/callback"))
		})
		callbackURL := authorize(t, newBrowser(t).start(t, s))
		for host, hint := range map[string]bool{"app.example": false, "b.example": false, "B.example:443": false, "c.example": true} {
			r := httptest.NewRequest("GET", callbackURL, nil)
			r.Host = host
			_, err := s.FinishLogin(httptest.NewRecorder(), r)
			require.ErrorIs(t, err, oauth2login.ErrNoCookies)
			assert.Equal(t, hint, strings.Contains(err.Error(), `(seen "c.example", expected "app.example" or that of another redirect URL)`), err.Error())
		}
	})
}

// change combines several changes of a request.
func change(changes ...func(*http.Request)) func(*http.Request) {
	return func(r *http.Request) {
		for _, c := range changes {
			c(r)
		}
	}
}

func withoutCookies(r *http.Request) { r.Header.Del("Cookie") }

func withOtherCookies(r *http.Request) { r.Header.Set("Cookie", "session=1") }

// Options.LoginLifetime is an hour at most. The cookie outlives the login.
func TestLoginLifetime(t *testing.T) { storedAndSealed(t, testLoginLifetime) }

func testLoginLifetime(t *testing.T, kind func(*setup)) {
	for after, want := range map[time.Duration]error{
		time.Hour - time.Second: oauth2login.ErrAccessDenied, time.Hour: oauth2login.ErrStateNotFound,
		89 * time.Minute: oauth2login.ErrStateNotFound, 91 * time.Minute: oauth2login.ErrNoCookies,
	} {
		inBubble(t, func(t *testing.T, s *site) {
			b := newBrowser(t)
			state := queryOf(t, b.start(t, s)).Get("state")
			time.Sleep(after)
			_, err := b.finish(s, s.redirect+"?error=access_denied&state="+state)
			assert.ErrorIs(t, err, want, after)
		}, kind, func(c *setup) { c.LoginLifetime = time.Hour })
	}
}
