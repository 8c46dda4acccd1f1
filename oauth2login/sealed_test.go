//go:build unported

package shangcloud_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

func stateKey(c string) []byte { return []byte(strings.Repeat(c, 32)) }

// sealedWith has logins travel in their cookies.
func sealedWith(keys ...string) func(*shangcloud.Config) {
	return func(c *shangcloud.Config) {
		c.StateKeys = nil
		for _, key := range keys {
			c.StateKeys = append(c.StateKeys, stateKey(key))
		}
	}
}

// TestSealedLogins holds logins without a store to the same promises.
func TestSealedLogins(t *testing.T) {
	stateKeys = [][]byte{stateKey("1")}
	defer func() { stateKeys = nil }()
	for name, test := range map[string]func(*testing.T){
		"Login":               TestLogin,
		"LoginCookie":         TestLoginCookie,
		"LoginWithoutPKCE":    TestLoginWithoutPKCE,
		"LoginOptions":        TestLoginOptions,
		"ReturnTo":            TestReturnTo,
		"TabsInAnyOrder":      TestTabsInAnyOrder,
		"FullCookieJar":       TestFullCookieJar,
		"StateWorksOnce":      TestStateWorksOnce,
		"ConcurrentCallbacks": TestConcurrentCallbacks,
		"LoginCSRF":           TestLoginCSRF,
		"PostedCallback":      TestPostedCallback,
		"CookieOfANeighbour":  TestCookieOfANeighbour,
		"Denied":              TestDenied,
		"CallbackErrors":      TestCallbackErrors,
		"ExchangeFails":       TestExchangeFails,
	} {
		t.Run(name, test)
	}
}

func TestSealedOnManyMachines(t *testing.T) {
	platform := newPlatform(t)
	one, two := newSiteAt(t, platform, sealedWith("1")), newSiteAt(t, platform, sealedWith("1"))
	b := newBrowser(t)
	callbackURL := authorize(t, b.start(t, one, shangcloud.WithReturnTo("/a"), shangcloud.WithValue("v")))
	cookies := b.jar.Cookies(mustParse(one.redirect))
	login, err := b.finish(two, callbackURL)
	require.NoError(t, err)
	assert.Equal(t, "/a", login.ReturnTo)
	assert.Equal(t, "v", login.Value)

	_, err = b.finish(one, callbackURL)
	assert.ErrorIs(t, err, shangcloud.ErrWrongBrowser, "the cookie is gone")
	b.jar.SetCookies(mustParse(one.redirect), cookies)
	_, err = b.finish(two, callbackURL)
	assert.ErrorIs(t, err, shangcloud.ErrStateNotFound, "this machine has redeemed the state")
	assert.Equal(t, 1, two.tokenRequests())

	// What is lost: another machine does not know, and it is the platform that
	// refuses the code.
	b.jar.SetCookies(mustParse(one.redirect), cookies)
	_, err = b.finish(one, callbackURL)
	var re *oauth2.RetrieveError
	require.ErrorAs(t, err, &re)
	assert.Equal(t, "invalid_grant", re.ErrorCode)
}

func TestStateKeysRotate(t *testing.T) {
	platform := newPlatform(t)
	old, added := newSiteAt(t, platform, sealedWith("1")), newSiteAt(t, platform, sealedWith("1", "2"))
	moved, removed := newSiteAt(t, platform, sealedWith("2", "1")), newSiteAt(t, platform, sealedWith("2"))
	for _, c := range []struct {
		name       string
		start, end *site
		ok         bool
	}{
		{"new key only read so far", added, old, true},
		{"new key writes", moved, added, true},
		{"old key still read", old, moved, true},
		{"old key removed", added, removed, false},
		{"new key alone", moved, removed, true},
		{"new key not known yet", moved, old, false},
	} {
		b := newBrowser(t)
		_, err := b.finish(c.end, authorize(t, b.start(t, c.start)))
		if c.ok {
			assert.NoError(t, err, c.name)
		} else {
			assert.ErrorIs(t, err, shangcloud.ErrStateNotFound, c.name)
		}
	}
}

func TestStateKeysAreChecked(t *testing.T) {
	for name, change := range map[string]func(*shangcloud.Config){
		"no key":      func(c *shangcloud.Config) { c.StateKeys = [][]byte{} },
		"short":       func(c *shangcloud.Config) { c.StateKeys = [][]byte{stateKey("1")[:16]} },
		"long":        func(c *shangcloud.Config) { c.StateKeys = [][]byte{append(stateKey("1"), '1')} },
		"second":      func(c *shangcloud.Config) { c.StateKeys = [][]byte{stateKey("1"), nil} },
		"zeros":       func(c *shangcloud.Config) { c.StateKeys = [][]byte{make([]byte, 32)} },
		"twice":       sealedWith("1", "1"),
		"and a store": func(c *shangcloud.Config) { sealedWith("1")(c); c.States = state.NewMemory(0) },
	} {
		c := valid()
		change(&c)
		_, err := shangcloud.New(c)
		assert.ErrorContains(t, err, "Config.StateKeys", name)
		assert.NotContains(t, fmt.Sprint(err), "1111")
	}
}

// TestSealedNeedsABrowser: there is no cookie to travel in.
func TestSealedNeedsABrowser(t *testing.T) {
	s := newSite(t, sealedWith("1"))
	_, err := s.AuthCodeURL(t.Context())
	assert.ErrorContains(t, err, "Config.States")
	_, err = s.Exchange(t.Context(), "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "code")
	assert.ErrorIs(t, err, shangcloud.ErrStateNotFound)
}

// TestSealedIsSealed: the browser can neither read the login nor change it, nor put
// it in another one's place.
func TestSealedIsSealed(t *testing.T) {
	platform := newPlatform(t)
	platform.AddClient(shangcloudtest.Client{ID: "second", Secret: "hush-hush", RedirectURIs: []string{"https://app.example/callback"}})
	s, b := newSite(t, sealedWith("1")), newBrowser(t)
	callbackURL := authorize(t, b.start(t, s, shangcloud.WithReturnTo("/readable-path"), shangcloud.WithValue("readable-value")))
	own := b.jar.Cookies(mustParse(s.redirect))[0]
	secret, sealed, found := strings.Cut(own.Value, ".")
	require.True(t, found)
	data, err := base64.RawURLEncoding.DecodeString(sealed)
	require.NoError(t, err)
	assert.NotContains(t, string(data), "readable")
	assert.NotContains(t, string(data), base64.StdEncoding.EncodeToString([]byte("readable-value")))
	assert.NotContains(t, string(data), `"v"`)
	assert.Len(t, queryOf(t, callbackURL).Get("state"), 43, "the state is as short as ever")

	try := func(value string) error {
		r := httptest.NewRequest("GET", callbackURL, nil)
		r.AddCookie(&http.Cookie{Name: own.Name, Value: value})
		_, err := s.FinishLogin(httptest.NewRecorder(), r)
		return err
	}
	for i := range data {
		bad := bytes.Clone(data)
		bad[i] ^= 1
		require.ErrorIs(t, try(secret+"."+base64.RawURLEncoding.EncodeToString(bad)), shangcloud.ErrStateNotFound, "byte %d", i)
	}
	other := newBrowser(t)
	other.start(t, s)
	_, foreign, _ := strings.Cut(other.jar.Cookies(mustParse(s.redirect))[0].Value, ".")
	for name, value := range map[string]string{
		"nothing":              secret,
		"empty":                secret + ".",
		"not base64":           secret + ".!!",
		"another encoding":     secret + "." + sealed + "=",
		"another login's":      secret + "." + foreign,
		"twice":                own.Value + "." + sealed,
		"plain":                secret + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"v":"x","e":99999999999999}`)),
		"too long":             secret + "." + strings.Repeat("A", 4096),
		"another key's":        secret + "." + base64.RawURLEncoding.EncodeToString(append([]byte{1, 1, 2, 3, 4, 5, 6, 7, 8}, data[9:]...)),
		"without its last bit": secret + "." + sealed[:len(sealed)-1],
	} {
		assert.ErrorIs(t, try(value), shangcloud.ErrStateNotFound, name)
	}
	assert.Zero(t, s.tokenRequests())
	assert.NoError(t, try(own.Value), "it is still good")
}

func TestSealedForOneProvider(t *testing.T) {
	platform := newPlatform(t)
	platform.AddClient(shangcloudtest.Client{ID: "second", Secret: "hush-hush", RedirectURIs: []string{"https://app.example/callback"}})
	live := newSiteAt(t, platform, sealedWith("1"))
	other := newSiteAt(t, platform, sealedWith("1"), func(c *shangcloud.Config) { c.ClientID = "second" })
	b := newBrowser(t)
	b.start(t, live)
	liveSealed := b.jar.Cookies(mustParse(live.redirect))[0].Value
	_, liveSealed, _ = strings.Cut(liveSealed, ".")

	b = newBrowser(t)
	callbackURL := authorize(t, b.start(t, other))
	own := b.jar.Cookies(mustParse(other.redirect))[0]
	secret, _, _ := strings.Cut(own.Value, ".")
	r := httptest.NewRequest("GET", callbackURL, nil)
	r.AddCookie(&http.Cookie{Name: own.Name, Value: secret + "." + liveSealed})
	_, err := other.FinishLogin(httptest.NewRecorder(), r)
	assert.ErrorIs(t, err, shangcloud.ErrStateNotFound)
	_, err = b.finish(other, callbackURL)
	assert.NoError(t, err)
}

func TestSealedExpires(t *testing.T) {
	stateKeys = [][]byte{stateKey("1")}
	defer func() { stateKeys = nil }()
	TestStateExpires(t)
}

// TestSealedFits has the longest of everything.
func TestSealedFits(t *testing.T) {
	s := newSite(t, sealedWith("1"))
	value := strings.Repeat("\xff", 1024)
	for _, c := range []struct {
		name, returnTo, value, want string
	}{
		{"path and value", "/" + strings.Repeat("p", 600), value, "/" + strings.Repeat("p", 600)},
		{"long path", "/" + strings.Repeat("p", 1900), "", "/" + strings.Repeat("p", 1900)},
		{"markup", "/?" + strings.Repeat("<&>", 600), "", "/?" + strings.Repeat("<&>", 600)},
		{"longest path", "/" + strings.Repeat("p", 2047), value, "/"},
		{"quotes", "/?" + strings.Repeat(`"`, 2000), value, "/"},
	} {
		b := newBrowser(t)
		r := b.request("GET", siblingOf(s.redirect, "/login"))
		w := httptest.NewRecorder()
		require.NoError(t, s.StartLogin(w, r, shangcloud.WithReturnTo(c.returnTo), shangcloud.WithValue(c.value)), c.name)
		assert.Less(t, len(w.Header().Get("Set-Cookie")), 3500, c.name)
		b.keep(r, w)
		login, err := b.finish(s, authorize(t, w.Header().Get("Location")))
		require.NoError(t, err, c.name)
		assert.Equal(t, c.want, login.ReturnTo, c.name)
		assert.Equal(t, c.value, login.Value, c.name)
	}
}

// TestSealedCookiesDoNotPileUp abandons long logins.
func TestSealedCookiesDoNotPileUp(t *testing.T) {
	s, b := newSite(t, sealedWith("1")), newBrowser(t)
	for i := range 40 {
		b.start(t, s, shangcloud.WithReturnTo("/"+strings.Repeat("p", i*40)))
		size := 0
		for _, c := range b.jar.Cookies(mustParse(s.redirect)) {
			size += len(c.Name) + len(c.Value)
		}
		assert.LessOrEqual(t, size, 4096, i)
	}
	_, err := b.finish(s, authorize(t, b.start(t, s)))
	assert.NoError(t, err)
}

func FuzzSealedCookie(f *testing.F) {
	c := valid()
	sealedWith("1")(&c)
	p, err := shangcloud.New(c)
	require.NoError(f, err)
	w := httptest.NewRecorder()
	require.NoError(f, p.StartLogin(w, httptest.NewRequest("GET", "https://app.example/login", nil)))
	cookie := w.Result().Cookies()[0]
	location := mustParse(w.Header().Get("Location"))
	secret, good, _ := strings.Cut(cookie.Value, ".")
	callbackURL := "https://app.example/callback?error=access_denied&state=" + location.Query().Get("state")
	for _, seed := range []string{"", ".", good, good[:20], good + ".", good + "=", "AQ", strings.Repeat("A", 52), strings.Repeat("A", 3073)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, sealed string) {
		if sealed == good {
			return
		}
		r := httptest.NewRequest("GET", callbackURL, nil)
		r.Header.Set("Cookie", cookie.Name+"="+secret+"."+sealed)
		_, err := p.FinishLogin(httptest.NewRecorder(), r)
		// What ends the value of a cookie ends what was sealed, too.
		if end := strings.IndexAny(sealed, "; "); end >= 0 && sealed[:end] == good {
			return
		}
		require.Error(t, err)
		assert.NotErrorIs(t, err, shangcloud.ErrAccessDenied, "%q opens", sealed)
	})
}
