package oauth2login_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
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

func TestSealedOnManyMachines(t *testing.T) {
	platform := newPlatform(t)
	one, two := newSiteAt(t, platform, sealedWith("1")), newSiteAt(t, platform, sealedWith("1"))
	b := newBrowser(t)
	callbackURL := authorize(t, b.start(t, one, oauth2login.WithReturnTo("/a"), oauth2login.WithValue("v")))
	cookies := b.jar.Cookies(mustParse(one.redirect))
	login, err := b.finish(two, callbackURL)
	require.NoError(t, err)
	assert.Equal(t, "/a", login.ReturnTo)
	assert.Equal(t, "v", login.Value)

	_, err = b.finish(one, callbackURL)
	assert.ErrorIs(t, err, oauth2login.ErrWrongBrowser, "the cookie is gone")
	_, err = b.finish(two, callbackURL)
	assert.ErrorIs(t, err, oauth2login.ErrStateNotFound, "this machine has redeemed the state")
	assert.Equal(t, 1, two.tokenRequests())

	// A limit of sealed logins: another machine does not know that the state was
	// redeemed. There the platform refuses the code.
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
			assert.ErrorIs(t, err, oauth2login.ErrStateNotFound, c.name)
		}
	}
}

func TestStateKeysAreChecked(t *testing.T) {
	for name, change := range map[string]func(*setup){
		"no key":      func(c *setup) { c.StateKeys = [][]byte{} },
		"short":       func(c *setup) { c.StateKeys = [][]byte{stateKey("1")[:16]} },
		"long":        func(c *setup) { c.StateKeys = [][]byte{append(stateKey("1"), '1')} },
		"second":      func(c *setup) { c.StateKeys = [][]byte{stateKey("1"), nil} },
		"zeros":       func(c *setup) { c.StateKeys = [][]byte{make([]byte, 32)} },
		"twice":       sealedWith("1", "1"),
		"and a store": func(c *setup) { sealedWith("1")(c); c.States = state.NewMemory(0) },
	} {
		c := valid("https://shangcloud.test")
		change(c)
		_, err := oauth2login.New(&c.Config, &c.Options)
		assert.ErrorContains(t, err, "Options.StateKeys", name)
		assert.NotContains(t, fmt.Sprint(err), "1111")
	}
}

// TestSealedNeedsABrowser: an unbound login has no cookie, so it cannot be sealed in one.
func TestSealedNeedsABrowser(t *testing.T) {
	s := newSite(t, sealedWith("1"))
	_, err := s.StartUnbound(t.Context())
	assert.ErrorContains(t, err, "Options.States")
	_, err = s.FinishUnbound(t.Context(), url.Values{"state": {"ABCDEFGHIJKLMNOPQRSTUVWXYZ"}, "code": {"code"}})
	assert.ErrorIs(t, err, oauth2login.ErrStateNotFound)
}

// TestSealedIsSealed: the browser can neither read nor change a sealed login, nor use it
// in place of another one.
func TestSealedIsSealed(t *testing.T) {
	platform := newPlatform(t)
	platform.AddClient(shangcloudtest.Client{ID: "second", Secret: "hush-hush", RedirectURIs: []string{"https://app.example/callback"}})
	s, b := newSite(t, sealedWith("1")), newBrowser(t)
	callbackURL := authorize(t, b.start(t, s, oauth2login.WithReturnTo("/readable-path"), oauth2login.WithValue("readable-value")))
	own := b.jar.Cookies(mustParse(s.redirect))[0]
	head, secret, sealed := partsOf(own.Value)
	bare := head + "." + secret
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
		require.ErrorIs(t, try(bare+"."+base64.RawURLEncoding.EncodeToString(bad)), oauth2login.ErrStateNotFound, "byte %d", i)
	}
	other := newBrowser(t)
	other.start(t, s)
	_, _, foreign := partsOf(other.jar.Cookies(mustParse(s.redirect))[0].Value)
	for name, value := range map[string]string{
		"nothing":              bare,
		"empty":                bare + ".",
		"not base64":           bare + ".!!",
		"another encoding":     bare + "." + sealed + "=",
		"another login's":      bare + "." + foreign,
		"twice":                own.Value + "." + sealed,
		"plain":                bare + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"v":"x","e":99999999999999}`)),
		"too long":             bare + "." + strings.Repeat("A", 4096),
		"another key's":        bare + "." + base64.RawURLEncoding.EncodeToString(append([]byte{1, 1, 2, 3, 4, 5, 6, 7, 8}, data[9:]...)),
		"without its last bit": bare + "." + sealed[:len(sealed)-1],
	} {
		assert.ErrorIs(t, try(value), oauth2login.ErrStateNotFound, name)
	}
	assert.Zero(t, s.tokenRequests())
	assert.NoError(t, try(own.Value), "it is still good")
}

func TestSealedForOneProvider(t *testing.T) {
	platform := newPlatform(t)
	platform.AddClient(shangcloudtest.Client{ID: "second", Secret: "hush-hush", RedirectURIs: []string{"https://app.example/callback"}})
	live := newSiteAt(t, platform, sealedWith("1"))
	other := newSiteAt(t, platform, sealedWith("1"), func(c *setup) { c.ClientID = "second" })
	b := newBrowser(t)
	b.start(t, live)
	_, _, liveSealed := partsOf(b.jar.Cookies(mustParse(live.redirect))[0].Value)

	b = newBrowser(t)
	callbackURL := authorize(t, b.start(t, other))
	own := b.jar.Cookies(mustParse(other.redirect))[0]
	head, secret, _ := partsOf(own.Value)
	r := httptest.NewRequest("GET", callbackURL, nil)
	r.AddCookie(&http.Cookie{Name: own.Name, Value: head + "." + secret + "." + liveSealed})
	_, err := other.FinishLogin(httptest.NewRecorder(), r)
	assert.ErrorIs(t, err, oauth2login.ErrStateNotFound)
	_, err = b.finish(other, callbackURL)
	assert.NoError(t, err)
}

func TestSealedExpires(t *testing.T) {
	for after, ok := range map[time.Duration]bool{5*time.Minute - time.Second: true, 5 * time.Minute: false, 24 * time.Hour: false} {
		inBubble(t, func(t *testing.T, s *site) {
			cookie, state := started(t, s.Provider)
			time.Sleep(after)
			_, err := s.FinishLogin(httptest.NewRecorder(), requestWith("error=access_denied&state="+state, cookie.String()))
			want := oauth2login.ErrStateNotFound
			if ok {
				want = oauth2login.ErrAccessDenied
			}
			assert.ErrorIs(t, err, want, after)
			if after == 24*time.Hour {
				assert.ErrorContains(t, err, "callback: too late: the login expired 23h55m0s ago by this machine's clock")
			}
		}, sealedWith("1"))
	}
}

// TestSealedFits uses the longest possible value of everything.
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
		require.NoError(t, s.StartLogin(w, r, oauth2login.WithReturnTo(c.returnTo), oauth2login.WithValue(c.value)), c.name)
		assert.Less(t, len(w.Header().Get("Set-Cookie")), 3500, c.name)
		b.keep(r, w)
		login, err := b.finish(s, authorize(t, w.Header().Get("Location")))
		require.NoError(t, err, c.name)
		assert.Equal(t, c.want, login.ReturnTo, c.name)
		assert.Equal(t, c.value, login.Value, c.name)
	}
}

// Scopes can't be dropped as a return path can. The error says what is too long.
func TestSealedScopesTooLong(t *testing.T) {
	s := newSite(t, sealedWith("1"))
	w := httptest.NewRecorder()
	err := s.StartLogin(w, httptest.NewRequest("GET", "/login", nil), oauth2login.WithScopes(strings.Repeat("s", 3000)))
	assert.ErrorContains(t, err, "WithScopes: too long for a cookie")
	assert.Empty(t, w.Header())
}

func FuzzSealedCookie(f *testing.F) {
	c := valid("https://shangcloud.test")
	sealedWith("1")(c)
	p := c.provider(f)
	w := httptest.NewRecorder()
	require.NoError(f, p.StartLogin(w, httptest.NewRequest("GET", "https://app.example/login", nil)))
	cookie := w.Result().Cookies()[0]
	location := mustParse(w.Header().Get("Location"))
	head, secret, good := partsOf(cookie.Value)
	callbackURL := "https://app.example/callback?error=access_denied&state=" + location.Query().Get("state")
	for _, seed := range []string{"", ".", good, good[:20], good + ".", good + "=", "AQ", strings.Repeat("A", 52), strings.Repeat("A", 3073)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, sealed string) {
		if sealed == good {
			return
		}
		r := httptest.NewRequest("GET", callbackURL, nil)
		r.Header.Set("Cookie", cookie.Name+"="+head+"."+secret+"."+sealed)
		_, err := p.FinishLogin(httptest.NewRecorder(), r)
		// A space or a semicolon ends the cookie's value. If the part before it is the
		// original value, the login is valid.
		if end := strings.IndexAny(sealed, "; "); end >= 0 && sealed[:end] == good {
			return
		}
		require.Error(t, err)
		assert.NotErrorIs(t, err, oauth2login.ErrAccessDenied, "%q opens", sealed)
	})
}

// Somebody who can read the store learns nothing from it. Somebody who can write to it
// can forge nothing.
func TestStoredIsSealed(t *testing.T) {
	store := &recordingStore{Store: state.NewMemory(0)}
	s, b := newSite(t, func(c *setup) { c.States = store }), newBrowser(t)
	callbackURL := authorize(t, b.start(t, s, oauth2login.WithReturnTo("/readable-path"), oauth2login.WithValue("readable-value")))
	require.Len(t, store.put, 1)
	assert.NotContains(t, store.put[0], "readable")
	assert.NotContains(t, store.put[0], `"v"`)
	_, err := b.finish(s, callbackURL)
	require.NoError(t, err)
	assert.NotContains(t, store.put[0], s.platform.Requests("/oauth/token")[0].Form().Get("code_verifier"))

	for name, forge := range map[string]func([]byte) []byte{
		"plain":           func([]byte) []byte { return []byte(`{"r":"/forged","d":"dmljdGlt","e":99999999999999}`) },
		"another login's": func([]byte) []byte { return []byte(store.put[0][44:]) },
		"cut":             func(v []byte) []byte { return v[:len(v)-1] },
		"one bit":         func(v []byte) []byte { v = bytes.Clone(v); v[len(v)/2] ^= 1; return v },
		"empty":           func([]byte) []byte { return nil },
	} {
		s, b := newSite(t, func(c *setup) { c.States = forgingStore{state.NewMemory(0), forge} }), newBrowser(t)
		login, err := b.finish(s, authorize(t, b.start(t, s)))
		assert.Nil(t, login, name)
		assert.ErrorIs(t, err, oauth2login.ErrStateStore, name)
		assert.Zero(t, s.tokenRequests(), name)
	}
}

// forgingStore is a store that an attacker can write to, such as a Redis or a table.
type forgingStore struct {
	*state.Memory
	forge func([]byte) []byte
}

func (s forgingStore) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	return s.Memory.Put(ctx, key, s.forge(value), ttl)
}

// writableStore lets a test replace its entries.
type writableStore struct {
	*state.Memory
	keys    []string // in the order of the logins
	entries map[string][]byte
	reuse   map[string]string // for a key, the key whose entry is returned instead
}

func (s *writableStore) Put(_ context.Context, key string, value []byte, _ time.Duration) error {
	s.keys = append(s.keys, key)
	s.entries[key] = value
	return nil
}

func (s *writableStore) Take(_ context.Context, key string) ([]byte, bool, error) {
	if other, ok := s.reuse[key]; ok {
		key = other
	}
	entry, found := s.entries[key]
	return entry, found, nil // the entry is not removed
}

// An attacker who can write to the store replays the entry of another login. The other
// login was started in the attacker's browser, or in the same browser, or without a
// browser.
func TestStoredEntryOfAnotherLogin(t *testing.T) {
	for name, other := range map[string]func(t *testing.T, s *site, victim *browser){
		"of the attacker's browser": func(t *testing.T, s *site, _ *browser) {
			newBrowser(t).start(t, s, oauth2login.WithReturnTo("/evil"), oauth2login.WithValue("evil"))
		},
		"of the same browser": func(t *testing.T, s *site, victim *browser) {
			victim.start(t, s, oauth2login.WithReturnTo("/evil"), oauth2login.WithValue("evil"))
		},
		"unbound": func(t *testing.T, s *site, _ *browser) {
			_, err := s.StartUnbound(t.Context(), oauth2login.WithReturnTo("/evil"), oauth2login.WithValue("evil"))
			require.NoError(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := &writableStore{entries: map[string][]byte{}, reuse: map[string]string{}}
			s, victim := newSite(t, func(c *setup) { c.States = store }), newBrowser(t)
			other(t, s, victim)
			callbackURL := authorize(t, victim.start(t, s))
			store.reuse[store.keys[1]] = store.keys[0]
			_, err := victim.finish(s, callbackURL)
			assert.ErrorIs(t, err, oauth2login.ErrStateStore)
			assert.Zero(t, s.tokenRequests())

			delete(store.reuse, store.keys[1])
			login, err := victim.finish(s, callbackURL)
			require.NoError(t, err)
			assert.Equal(t, "/", login.ReturnTo)
			assert.Empty(t, login.Value)
		})
	}
}

// After a login, an attacker puts its entry back into the store. This process does not
// redeem the entry again, not even for the right browser.
func TestStoredEntryPutBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		platform := shangcloudtest.New()
		defer platform.Close()
		register(platform)
		store := &writableStore{entries: map[string][]byte{}}
		s := newSiteAt(t, platform, func(c *setup) {
			c.States, c.HTTPClient = store, &http.Client{Transport: platform.Transport()}
		})
		b := newBrowser(t)
		callbackURL, err := platform.Approve(b.start(t, s), 10001)
		require.NoError(t, err)
		kept := b.request("GET", callbackURL)
		_, err = b.finish(s, callbackURL)
		require.NoError(t, err)
		for _, after := range []time.Duration{6 * time.Second, 4 * time.Minute, 20 * time.Minute} {
			time.Sleep(after) // first the results are forgotten, then the redeemed states
			_, err = s.FinishLogin(httptest.NewRecorder(), kept)
			assert.ErrorIs(t, err, oauth2login.ErrStateNotFound, after)
		}
		assert.Equal(t, 1, s.tokenRequests())
		synctest.Wait()
	})
}

// Anybody can make a flood of finished logins without the platform. No state must work
// twice because of the flood: the process refuses a state if it can't know whether the
// state was used.
func TestRedeemedFlood_logins(t *testing.T) {
	if os.Getenv("SHANGCLOUD_LONG_TESTS") != "1" {
		t.Skip("110,000 logins: set SHANGCLOUD_LONG_TESTS=1")
	}
	inBubble(t, func(t *testing.T, s *site) {
		deny := func() func() error {
			cookie, state := started(t, s.Provider)
			time.Sleep(time.Microsecond)
			return func() error {
				_, err := s.FinishLogin(httptest.NewRecorder(), requestWith("error=access_denied&state="+state, cookie.String()))
				return err
			}
		}
		first := deny()
		require.ErrorIs(t, first(), oauth2login.ErrAccessDenied)
		time.Sleep(10 * time.Second)
		require.ErrorIs(t, first(), oauth2login.ErrStateNotFound)
		for range 110_000 {
			require.ErrorIs(t, deny()(), oauth2login.ErrAccessDenied)
		}
		assert.ErrorIs(t, first(), oauth2login.ErrStateNotFound, "after the flood")
		assert.ErrorIs(t, deny()(), oauth2login.ErrAccessDenied, "a login of now is finished")
	}, sealedWith("1"))
}

// TestStoreHoldsNoStates: somebody who can read the store can't finish logins.
func TestStoreHoldsNoStates(t *testing.T) {
	store := &recordingStore{Store: state.NewMemory(0)}
	s := newSite(t, func(c *setup) { c.States = store })
	cookie, browserState := started(t, s.Provider)
	_, secret, _ := partsOf(cookie.Value)
	authURL, err := s.StartUnbound(t.Context())
	require.NoError(t, err)
	require.Len(t, store.put, 2)
	for _, put := range store.put {
		for _, secret := range []string{secret, browserState, queryOf(t, authURL).Get("state")} {
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

// countingStore counts calls, and fails on demand.
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

// rewritingStore returns other data than it was given.
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
