package gothshangcloud_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	gothshangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2/integrations/goth"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"github.com/markbates/goth"
	"github.com/markbates/goth/providers/faux"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

type brokenStates struct{}

var errBroken = errors.New("no such table")

func (brokenStates) Put(context.Context, string, []byte, time.Duration) error { return errBroken }
func (brokenStates) Take(context.Context, string) ([]byte, bool, error)       { return nil, false, errBroken }

// gothUse registers p with goth. At the end of the test, goth forgets all providers.
func gothUse(t *testing.T, p goth.Provider) {
	t.Helper()
	goth.UseProviders(p)
	t.Cleanup(goth.ClearProviders)
}

func TestNew(t *testing.T) {
	t.Parallel()
	p := newProvider(t, newPlatform(t))
	assert.Implements(t, (*goth.Provider)(nil), p)
	assert.Equal(t, "shangcloud", p.Name())
	p.SetName("staging")
	assert.Equal(t, "staging", p.Name())
	assert.True(t, p.RefreshTokenAvailable())
	p.Debug(true)
	assert.Panics(t, func() { gothshangcloud.New(nil) })
}

func TestBeginAuth(t *testing.T) {
	t.Parallel()
	platform := newPlatform(t)
	p := newProvider(t, platform, func(c *setup) { c.Scopes = []string{"user:basic", "var:io"} })
	first, err := p.BeginAuth("test_state")
	require.NoError(t, err)
	u := authURL(t, first)
	assert.True(t, strings.HasPrefix(u, platform.URL+"/oauth/authorize?"), u)
	q := query(t, u)
	assert.Equal(t, "demo", q.Get("client_id"))
	assert.Equal(t, "http://127.0.0.1"+callbackPath, q.Get("redirect_uri"))
	assert.Equal(t, "user:basic var:io", q.Get("scope"))
	assert.Equal(t, "S256", q.Get("code_challenge_method"))
	assert.Regexp(t, `^[A-Za-z0-9_-]{43}\.test_state$`, q.Get("state"))

	second, err := p.BeginAuth("test_state")
	require.NoError(t, err)
	assert.NotEqual(t, q.Get("state"), query(t, authURL(t, second)).Get("state"))
	assert.Regexp(t, `^[A-Za-z0-9_-]{43}$`, query(t, authURL(t, begin(t, p))).Get("state"))

	_, err = newProvider(t, platform, func(c *setup) { c.States = brokenStates{} }).BeginAuth("test_state")
	assert.ErrorIs(t, err, oauth2login.ErrStateStore)
	assert.ErrorIs(t, err, errBroken)
}

func TestSession(t *testing.T) {
	t.Parallel()
	s := new(gothshangcloud.Session)
	assert.Implements(t, (*goth.Session)(nil), s)
	_, err := s.GetAuthURL()
	assert.ErrorContains(t, err, goth.NoAuthUrlErrorMessage)
	assert.Equal(t, `{"AuthURL":"","Cookie":""}`, s.Marshal())
	assert.Equal(t, s.Marshal(), s.String())
	_, err = s.Authorize(newProvider(t, newPlatform(t)), url.Values{"code": {"c"}, "state": {"s"}})
	assert.Error(t, err)
}

func TestSessionFromJSON(t *testing.T) {
	t.Parallel()
	p := newProvider(t, newPlatform(t))
	s, err := p.UnmarshalSession(`{"AuthURL":"https://example.cn/auth_url","AccessToken":"1234567890"}`)
	require.NoError(t, err)
	assert.Equal(t, "https://example.cn/auth_url", authURL(t, s))
	_, err = p.FetchUser(s)
	assert.ErrorContains(t, err, "no access token", "a token is nothing that a browser brings")

	begun := begin(t, p)
	s, err = p.UnmarshalSession(begun.Marshal())
	require.NoError(t, err)
	assert.Equal(t, begun.Marshal(), s.Marshal())

	for _, data := range []string{"", "null and void", `[]`, `"s3cr3t"`, `{"Cookie":["s3cr3t"]}`} {
		_, err := p.UnmarshalSession(data)
		require.Error(t, err, data)
		assert.NotContains(t, err.Error(), "s3cr3t")
	}
}

func TestAuthorize(t *testing.T) {
	t.Parallel()
	platform := newPlatform(t)
	p := newProvider(t, platform, func(c *setup) { c.row = append(c.row, oauth2login.WithIssuer(platform.URL)) })
	s, err := p.BeginAuth("mine")
	require.NoError(t, err)
	good := approve(t, platform, authURL(t, s), 10001)
	good.Set("iss", platform.URL)
	random, _, _ := strings.Cut(good.Get("state"), ".")
	other := query(t, authURL(t, begin(t, p))).Get("state")

	for _, c := range []struct {
		name   string
		params url.Values
		target error
	}{
		{"nothing", url.Values{}, oauth2login.ErrBadCallback},
		{"no state", url.Values{"iss": good["iss"], "code": good["code"]}, oauth2login.ErrBadCallback},
		{"no code", url.Values{"iss": good["iss"], "state": good["state"]}, oauth2login.ErrBadCallback},
		{"code and error", url.Values{"iss": good["iss"], "state": good["state"], "code": good["code"], "error": {"access_denied"}}, oauth2login.ErrBadCallback},
		{"an empty state", url.Values{"iss": good["iss"], "state": {""}, "code": good["code"]}, oauth2login.ErrWrongBrowser},
		{"two states", url.Values{"iss": good["iss"], "state": {good.Get("state"), other}, "code": good["code"]}, oauth2login.ErrBadCallback},
		{"two codes", url.Values{"iss": good["iss"], "state": good["state"], "code": {good.Get("code"), "x"}}, oauth2login.ErrBadCallback},
		{"code and empty error", url.Values{"iss": good["iss"], "state": good["state"], "code": good["code"], "error": {""}}, oauth2login.ErrBadCallback},
		{"no issuer", url.Values{"state": good["state"], "code": good["code"]}, oauth2login.ErrBadCallback},
		{"another issuer", url.Values{"state": good["state"], "code": good["code"], "iss": {"https://evil.example"}}, oauth2login.ErrBadCallback},
		{"two issuers", url.Values{"state": good["state"], "code": good["code"], "iss": {platform.URL, "https://evil.example"}}, oauth2login.ErrBadCallback},
		{"another login's state", url.Values{"iss": good["iss"], "state": {other}, "code": good["code"]}, oauth2login.ErrWrongBrowser},
		{"half of the state", url.Values{"iss": good["iss"], "state": {random}, "code": good["code"]}, oauth2login.ErrWrongBrowser},
		{"another value of the application", url.Values{"iss": good["iss"], "state": {random + ".yours"}, "code": good["code"]}, oauth2login.ErrWrongBrowser},
	} {
		token, err := s.Authorize(p, c.params)
		assert.ErrorIs(t, err, c.target, c.name)
		assert.Empty(t, token, c.name)
	}
	_, err = s.Authorize(new(faux.Provider), good)
	assert.Error(t, err, "another package's provider")
	_, err = s.Authorize((*gothshangcloud.Provider)(nil), good)
	assert.Error(t, err)
	elsewhere := newProvider(t, platform, func(c *setup) { c.RedirectURL = "http://127.0.0.1/other" })
	_, err = s.Authorize(elsewhere, good)
	assert.ErrorIs(t, err, oauth2login.ErrWrongBrowser, "another application of the same platform")
	forged, err := p.UnmarshalSession(`{"AuthURL":"` + authURL(t, s) + `"}`)
	require.NoError(t, err)
	_, err = forged.Authorize(p, good)
	assert.ErrorIs(t, err, oauth2login.ErrWrongBrowser, "the address alone does not finish a login")
	assert.Empty(t, platform.Requests("/oauth/token"))

	token, err := s.Authorize(p, good)
	require.NoError(t, err, "nobody has burnt the state")
	user, err := p.FetchUser(s)
	require.NoError(t, err)
	assert.Equal(t, user.AccessToken, token)

	for range 3 { // a double click, a reload
		again, err := s.Authorize(p, good)
		require.NoError(t, err)
		assert.Equal(t, token, again)
	}
	_, err = s.Authorize(p, good)
	assert.ErrorIs(t, err, oauth2login.ErrStateNotFound)
	assert.Len(t, platform.Requests("/oauth/token"), 1)
}

func TestAuthorizeOnAnotherMachine(t *testing.T) {
	t.Parallel()
	platform := newPlatform(t)
	shared := state.NewMemory(0)
	onHTTPS := func(c *setup) { c.RedirectURL = "https://app.example" + callbackPath }
	withShared := func(c *setup) { c.States = shared }
	a, b := newProvider(t, platform, onHTTPS, withShared), newProvider(t, platform, onHTTPS, withShared)
	alone := newProvider(t, platform, onHTTPS)

	begun := begin(t, a)
	q := approve(t, platform, authURL(t, begun), 10001)
	for p, target := range map[*gothshangcloud.Provider]error{alone: oauth2login.ErrStateNotFound, b: nil} {
		s, err := p.UnmarshalSession(begun.Marshal())
		require.NoError(t, err)
		if _, err = s.Authorize(p, q); target != nil {
			assert.ErrorIs(t, err, target)
			continue
		}
		require.NoError(t, err)
		user, err := p.FetchUser(s)
		require.NoError(t, err)
		assert.Equal(t, "10001", user.UserID)
	}
}

func TestAuthorizeOnce(t *testing.T) {
	t.Parallel()
	platform := newPlatform(t)
	p := newProvider(t, platform)
	begun := begin(t, p)
	q := approve(t, platform, authURL(t, begun), 10001)
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			s := goth.Session(begun)
			if i%2 == 0 {
				var err error
				if s, err = p.UnmarshalSession(begun.Marshal()); !assert.NoError(t, err) {
					return
				}
			}
			p.SetName("shangcloud")
			_, err := s.Authorize(p, q)
			if err == nil {
				won.Add(1)
			} else {
				assert.ErrorIs(t, err, oauth2login.ErrStateNotFound)
			}
			_, _ = p.FetchUser(s)
		})
	}
	wg.Wait()
	assert.GreaterOrEqual(t, won.Load(), int32(1))
	assert.LessOrEqual(t, won.Load(), int32(4), "a repeated callback gets the same login, three times at most")
	assert.Len(t, platform.Requests("/oauth/token"), 1)
}

// authorized returns a session after Authorize.
func authorized(t *testing.T, platform *shangcloudtest.Server, p *gothshangcloud.Provider) *gothshangcloud.Session {
	t.Helper()
	s := begin(t, p)
	_, err := s.Authorize(p, approve(t, platform, authURL(t, s), 10001))
	require.NoError(t, err)
	return s
}

func TestFetchUserRefuses(t *testing.T) {
	t.Parallel()
	platform := newPlatform(t)
	p := newProvider(t, platform)
	for name, s := range map[string]goth.Session{
		"zero": new(gothshangcloud.Session), "begun": begin(t, p), "none": nil,
		"nil": (*gothshangcloud.Session)(nil), "another package's": &faux.Session{AccessToken: "a"},
	} {
		user, err := p.FetchUser(s)
		assert.Error(t, err, name)
		assert.Zero(t, user, name)
	}
	assert.Empty(t, platform.Requests("/api/user/info"))

	s := authorized(t, platform, p)
	for _, body := range []string{`{"uid":0,"nickname":"nobody"}`, `{"nickname":"nobody"}`, `{"uid":-1}`, `{}`, `[]`, ``, `{"uid":1,"uid":2}`} {
		platform.Fault("/api/user/info", shangcloudtest.Fault{Times: 1, Status: http.StatusOK, Body: body})
		user, err := p.FetchUser(s)
		assert.ErrorIs(t, err, oauth2login.ErrUnavailable, body)
		assert.Zero(t, user, body)
	}
	platform.ExpireTokens()
	_, err := p.FetchUser(s)
	assert.ErrorIs(t, err, oauth2login.ErrLoginRequired)
	var refused *shangcloud.APIError
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, http.StatusUnauthorized, refused.StatusCode)
}

func TestFetchUserRawData(t *testing.T) {
	t.Parallel()
	platform := newPlatform(t)
	p := newProvider(t, platform)
	s := authorized(t, platform, p)
	platform.Fault("/api/user/info", shangcloudtest.Fault{Body: `{"uid":9007199254740993,"nickname":"大","mail":null,"avatar":null,"vip":true,"level":7}`})
	user, err := p.FetchUser(s)
	require.NoError(t, err)
	assert.Equal(t, "9007199254740993", user.UserID, "more than a float64 holds")
	assert.Equal(t, map[string]any{"uid": int64(9007199254740993), "nickname": "大", "vip": true, "level": 7.0}, user.RawData)
	assert.Empty(t, user.Email)

	var stored bytes.Buffer
	require.NoError(t, gob.NewEncoder(&stored).Encode(user), "gorilla's sessions are in gob")
	var back goth.User
	require.NoError(t, gob.NewDecoder(&stored).Decode(&back))
	assert.Equal(t, user.RawData, back.RawData)
}

// The user's data come from the configured deployment of ShangCloud.
func TestFetchUserOfADeployment(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ base, mount string }{
		"below a path":           {"https://shangcloud.example/east", "/east"},
		"plain http, on request": {"http://staging.example", ""},
	} {
		platform := newPlatform(t)
		hosts := make(map[string]bool)
		p := newProvider(t, platform, func(conf *setup) {
			conf.Endpoint = shangcloud.EndpointAt(c.base)
			conf.row = append(conf.row, oauth2login.WithPlainHTTP())
			conf.HTTPClient = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				hosts[r.URL.Scheme+"://"+r.URL.Host+" "+r.Host] = true
				out := r.Clone(r.Context())
				out.URL.Path = strings.TrimPrefix(out.URL.Path, c.mount)
				return platform.Transport().RoundTrip(out)
			})}
		})
		user, err := p.FetchUser(authorized(t, platform, p))
		require.NoError(t, err, name)
		assert.Equal(t, "10001", user.UserID, name)
		u, _ := url.Parse(c.base)
		assert.Equal(t, map[string]bool{u.Scheme + "://" + u.Host + " " + u.Host: true}, hosts, name)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// FetchUser must not follow a redirect, because that would send the token to another
// address.
func TestFetchUserFollowsNoRedirect(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("followed") }))
	defer elsewhere.Close()
	platform := newPlatform(t)
	p := newProvider(t, platform)
	s := authorized(t, platform, p)
	platform.Fault("/api/user/info", shangcloudtest.Fault{Redirect: elsewhere.URL})
	_, err := p.FetchUser(s)
	assert.ErrorIs(t, err, oauth2login.ErrUnavailable)
}

func TestRefreshToken(t *testing.T) {
	t.Parallel()
	platform := newPlatform(t)
	p := newProvider(t, platform)
	user, err := p.FetchUser(authorized(t, platform, p))
	require.NoError(t, err)

	next, err := p.RefreshToken(user.RefreshToken)
	require.NoError(t, err)
	assert.True(t, next.Valid())
	assert.NotEqual(t, user.AccessToken, next.AccessToken)
	assert.NotEqual(t, user.RefreshToken, next.RefreshToken, "rotated")
	_, good := platform.UserOf(next.AccessToken, "user:basic")
	assert.True(t, good)

	platform.Fault("/oauth/token", shangcloudtest.Fault{Times: 1, Status: http.StatusServiceUnavailable})
	_, err = p.RefreshToken(next.RefreshToken)
	assert.ErrorIs(t, err, oauth2login.ErrUnavailable)
	assert.NotErrorIs(t, err, oauth2login.ErrLoginRequired)

	platform.Configure(func(c *shangcloudtest.Settings) { c.KeepRefreshTokens = true })
	kept, err := p.RefreshToken(next.RefreshToken)
	require.NoError(t, err)
	assert.Equal(t, next.RefreshToken, kept.RefreshToken, "an answer without one leaves the old one in force")

	_, err = p.RefreshToken(user.RefreshToken)
	assert.ErrorIs(t, err, oauth2login.ErrLoginRequired, "used before")
	var refused *oauth2.RetrieveError
	assert.ErrorAs(t, err, &refused)

	before := len(platform.Requests("/oauth/token"))
	_, err = p.RefreshToken("")
	assert.ErrorIs(t, err, oauth2login.ErrLoginRequired)
	assert.Len(t, platform.Requests("/oauth/token"), before)
}

func TestNothingSecretIsPrinted(t *testing.T) {
	t.Parallel()
	platform := newPlatform(t)
	p := newProvider(t, platform)
	s := authorized(t, platform, p)
	user, err := p.FetchUser(s)
	require.NoError(t, err)
	var kept struct{ Cookie string }
	require.NoError(t, json.Unmarshal([]byte(s.Marshal()), &kept))
	_, cookie, _ := strings.Cut(kept.Cookie, "=")

	var out bytes.Buffer
	for _, v := range []any{p, s} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		b, err := json.Marshal(v)
		require.NoError(t, err)
		out.Write(b)
		hidden := struct{ v any }{v}
		fmt.Fprintf(&out, "%v %+v %#v %s %q %x %d", hidden, hidden, hidden, hidden, hidden, hidden, hidden)
		slog.New(slog.NewTextHandler(&out, nil)).Info("login", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("login", "v", v)
	}
	for what, secret := range map[string]string{
		"client secret": "hush-hush", "access token": user.AccessToken, "refresh token": user.RefreshToken,
		"cookie": cookie, "state": query(t, authURL(t, s)).Get("state"),
		"verifier": platform.Requests("/oauth/token")[0].Form().Get("code_verifier"),
	} {
		require.NotEmpty(t, secret, what)
		assert.NotContains(t, out.String(), secret, what)
		assert.NotContains(t, out.String(), fmt.Sprintf("%x", secret), what)
	}
}
