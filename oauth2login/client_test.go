//go:build unported

package shangcloud_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// issue returns a token of user 10001's that is good for another hour.
func issue(platform *shangcloudtest.Server) *oauth2.Token {
	access, refresh := platform.Issue("demo", 10001, "user:basic", "var:io")
	return &oauth2.Token{AccessToken: access, RefreshToken: refresh, TokenType: "bearer", Expiry: time.Now().Add(time.Hour)}
}

func TestClientGoesToThePlatformOnly(t *testing.T) {
	s := newSite(t)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("a request has left for elsewhere")
	}))
	defer elsewhere.Close()
	hc := s.Client(s.TokenSource(issue(s.platform), nil))
	for _, address := range []string{elsewhere.URL, strings.Replace(s.platform.URL, "//", "//evil-", 1), strings.Replace(s.platform.URL, "http:", "https:", 1), "http://api.yearnstudio.cn/"} {
		_, err := hc.Post(address, "application/json", strings.NewReader("{}"))
		assert.ErrorContains(t, err, "the token is for", address)
	}

	for _, status := range []int{301, 302, 303, 307, 308} {
		s.platform.Fault("/api/user/info", shangcloudtest.Fault{Times: 1, Status: status, Redirect: elsewhere.URL})
		res, err := hc.Post(s.platform.URL+"/api/user/info", "application/json", strings.NewReader("{}"))
		require.NoError(t, err)
		res.Body.Close()
		assert.Equal(t, status, res.StatusCode, "the answer is handed on, not followed")
	}
	req, err := http.NewRequest("POST", s.platform.URL+"/api/user/info", strings.NewReader("{}"))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	s.platform.ClearFaults()
	res, err := hc.Do(req)
	require.NoError(t, err)
	res.Body.Close()
	assert.Equal(t, 200, res.StatusCode)
	assert.Empty(t, req.Header.Get("Authorization"), "the caller's request is left as it was")

	// The same through plain x/oauth2, whose client sends the token everywhere.
	plain := (&oauth2.Config{}).Client(t.Context(), issue(s.platform))
	s.platform.Fault("/api/user/info", shangcloudtest.Fault{Status: 307, Redirect: elsewhere.URL})
	_, err = shangcloud.NewAPI(plain, shangcloud.WithBaseURL(s.platform.URL)).UserInfo(t.Context())
	assert.ErrorIs(t, err, shangcloud.ErrUnavailable)
}

func TestClientRefreshesOnceAfter401(t *testing.T) {
	s := newSite(t)
	src := s.TokenSource(issue(s.platform), nil)
	old, err := src.Token()
	require.NoError(t, err)
	s.platform.ExpireTokens() // earlier than we were told

	require.NoError(t, s.API(src).SetVariable(t.Context(), "key", "value"))
	assert.Equal(t, "value", s.platform.Variables(10001)["key"])
	assert.Equal(t, 1, s.tokenRequests())
	assert.Len(t, s.platform.Requests("/api/varibles"), 2)
	next, err := src.Token()
	require.NoError(t, err)
	assert.NotEqual(t, old.AccessToken, next.AccessToken)
}

// TestConnectionsAreKeptAfter401: the repeated request goes over the connection of
// the first.
func TestConnectionsAreKeptAfter401(t *testing.T) {
	var conns, calls atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/oauth/token":
			fmt.Fprintf(w, `{"access_token":"new-%d","token_type":"Bearer","refresh_token":"r","expires_in":3600}`, calls.Load())
		case calls.Add(1)%2 == 1:
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, strings.Repeat(" ", 10_000))
		default:
			fmt.Fprint(w, `{"value":"v"}`)
		}
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	c := valid()
	c.BaseURL = server.URL
	p, err := shangcloud.New(c)
	require.NoError(t, err)
	api := p.API(p.TokenSource(&oauth2.Token{AccessToken: "old", RefreshToken: "r", Expiry: time.Now().Add(time.Hour)}, nil))
	for range 10 {
		_, err := api.Variable(t.Context(), "key")
		require.NoError(t, err)
	}
	assert.Equal(t, int64(20), calls.Load())
	assert.LessOrEqual(t, conns.Load(), int64(2), "one for the calls, one for the token endpoint")
}

func TestClientGivesUpAfterASecond401(t *testing.T) {
	s := newSite(t)
	api := s.API(s.TokenSource(issue(s.platform), nil))
	s.platform.Fault("/api/user/info", shangcloudtest.Fault{Status: 401, Body: `{"error":"invalid_token"}`})
	for range 5 {
		_, err := api.UserInfo(t.Context())
		var ae *shangcloud.APIError
		require.ErrorAs(t, err, &ae)
		assert.Equal(t, 401, ae.StatusCode)
	}
	assert.Equal(t, 1, s.tokenRequests(), "one refresh, not one for each request")
	assert.Len(t, s.platform.Requests("/api/user/info"), 6)
}

// TestTokensThatEndEarlyAgainAndAgain has the platform end each token before its
// time: each is replaced, for each had been accepted before.
func TestTokensThatEndEarlyAgainAndAgain(t *testing.T) {
	s := newSite(t)
	api := s.API(s.TokenSource(issue(s.platform), nil))
	for i := range 4 {
		s.platform.ExpireTokens()
		_, err := api.UserInfo(t.Context())
		require.NoError(t, err)
		assert.Equal(t, i+1, s.tokenRequests())
	}
}

func TestClientDoesNotRepeatWhatItCannot(t *testing.T) {
	s := newSite(t)
	hc := s.Client(s.TokenSource(issue(s.platform), nil))
	s.platform.ExpireTokens()
	body := io.MultiReader(strings.NewReader(`{}`)) // net/http knows no way to read this again
	res, err := hc.Post(s.platform.URL+"/api/user/info", "application/json", body)
	require.NoError(t, err)
	defer res.Body.Close()
	assert.Equal(t, 401, res.StatusCode)
	assert.Zero(t, s.tokenRequests())

	s.platform.Fault("/oauth/token", shangcloudtest.Fault{Times: 1, Status: 503})
	_, err = hc.Post(s.platform.URL+"/api/user/info", "application/json", strings.NewReader(`{}`))
	assert.ErrorIs(t, err, shangcloud.ErrUnavailable, "why there is no new token")
}

func TestRevokedLogin(t *testing.T) {
	s := newSite(t)
	api := s.API(s.TokenSource(issue(s.platform), nil))
	s.platform.Revoke(10001)
	for range 2 {
		_, err := api.UserInfo(t.Context())
		assert.ErrorIs(t, err, shangcloud.ErrLoginRequired)
	}
	assert.Equal(t, 1, s.tokenRequests())
	_, err := s.API(oauth2.StaticTokenSource(issue(s.platform))).UserInfo(t.Context())
	require.NoError(t, err)
	_, err = s.API(oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "other"})).UserInfo(t.Context())
	assert.ErrorIs(t, err, shangcloud.ErrLoginRequired)
}

func TestClientObeysTheRequestsContext(t *testing.T) {
	s := newSite(t)
	tok := issue(s.platform)
	tok.Expiry = time.Now().Add(-time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	s.platform.Fault("/oauth/token", shangcloudtest.Fault{Before: func(*http.Request) { cancel() }, Hang: true})
	_, err := s.API(s.TokenSource(tok, nil)).UserInfo(ctx)
	assert.ErrorIs(t, err, context.Canceled)
}

type sourceFunc func() (*oauth2.Token, error)

func (f sourceFunc) Token() (*oauth2.Token, error) { return f() }

func TestClientOfOtherSources(t *testing.T) {
	s := newSite(t)
	for name, src := range map[string]oauth2.TokenSource{
		"static": oauth2.StaticTokenSource(issue(s.platform)),
		"plain":  s.OAuth2().TokenSource(s.ClientContext(t.Context()), issue(s.platform)),
	} {
		u, err := s.API(src).UserInfo(t.Context())
		require.NoError(t, err, name)
		assert.Equal(t, int64(10001), u.ID)
	}
	broken := errors.New("hush: the session is gone")
	for name, src := range map[string]oauth2.TokenSource{
		"none":          nil,
		"a nil token":   sourceFunc(func() (*oauth2.Token, error) { return nil, nil }),
		"an empty one":  sourceFunc(func() (*oauth2.Token, error) { return new(oauth2.Token), nil }),
		"a broken one":  sourceFunc(func() (*oauth2.Token, error) { return nil, broken }),
		"plain, in use": s.OAuth2().TokenSource(t.Context(), nil),
	} {
		_, err := s.API(src).UserInfo(t.Context())
		require.Error(t, err, name)
		assert.NotErrorIs(t, err, shangcloud.ErrUnavailable, name)
		assert.Equal(t, name == "a broken one", errors.Is(err, broken), name)
		assert.NotContains(t, err.Error(), "hush", name)
	}
	assert.Len(t, s.platform.Requests("/api/user/info"), 2, "nothing is sent without a token")
	down := s.OAuth2()
	down.Endpoint.TokenURL = "http://127.0.0.1:1/"
	_, err := s.API(down.TokenSource(t.Context(), &oauth2.Token{RefreshToken: "rt"})).UserInfo(t.Context())
	assert.ErrorIs(t, err, shangcloud.ErrUnavailable)
	_, err = s.API(s.TokenSource(nil, nil)).UserInfo(t.Context())
	assert.ErrorIs(t, err, shangcloud.ErrLoginRequired)
}

// TestClientOfATalkativeSource: what an application adds to one of our errors is not
// printed either, though the error can still be told.
func TestClientOfATalkativeSource(t *testing.T) {
	s := newSite(t)
	ours := s.TokenSource(nil, nil)
	_, err := s.Client(sourceFunc(func() (*oauth2.Token, error) {
		tok, err := ours.Token()
		return tok, fmt.Errorf("after token hush: %w", err)
	})).Get(s.platform.URL)
	assert.ErrorIs(t, err, shangcloud.ErrLoginRequired)
	assert.NotContains(t, err.Error(), "hush")
	assert.ErrorContains(t, err, "no refresh token")
}

// TestNewAPIOfOtherSources: what x/oauth2's own client finds wrong with its token is
// not the platform's doing.
func TestNewAPIOfOtherSources(t *testing.T) {
	s := newSite(t)
	broken := errors.New("hush: the session is gone")
	for name, src := range map[string]oauth2.TokenSource{
		"expired":      s.OAuth2().TokenSource(t.Context(), &oauth2.Token{AccessToken: "at", Expiry: time.Unix(1, 0)}),
		"an empty one": sourceFunc(func() (*oauth2.Token, error) { return new(oauth2.Token), nil }),
		"a broken one": sourceFunc(func() (*oauth2.Token, error) { return nil, broken }),
		"none":         nil,
	} {
		api := shangcloud.NewAPI(&http.Client{Transport: &oauth2.Transport{Source: src}}, shangcloud.WithBaseURL(s.platform.URL))
		_, err := api.UserInfo(t.Context())
		require.Error(t, err, name)
		assert.NotErrorIs(t, err, shangcloud.ErrUnavailable, name)
		assert.Equal(t, name == "a broken one", errors.Is(err, broken), name)
		assert.NotContains(t, err.Error(), "hush", name)
	}
	assert.Empty(t, s.platform.Requests(), "nothing is sent without a token")
}

// TestNewAPIOfASlowClient has a transport around x/oauth2's that heeds no context: the
// call ends all the same, and nothing is left open by what comes later.
func TestNewAPIOfASlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closed := 0
		slow := roundTripper(func(r *http.Request) (*http.Response, error) {
			time.Sleep(time.Minute)
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: closing{strings.NewReader(`{"uid":1}`), &closed}, Request: r}, nil
		})
		start := time.Now()
		_, err := shangcloud.NewAPI(&http.Client{Transport: slow}).UserInfo(t.Context())
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.ErrorIs(t, err, shangcloud.ErrUnavailable)
		assert.Equal(t, 10*time.Second, time.Since(start))
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Equal(t, 1, closed)
	})
}

type closing struct {
	io.Reader
	times *int
}

func (c closing) Close() error { *c.times++; return nil }

// TestLongRefusalIsClosed: a request is repeated with a new token, whatever else is
// said with the refusal of the old one.
func TestLongRefusalIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, func(c net.Conn, r *http.Request, _ []byte) {
			switch {
			case r.URL.Path == "/oauth/token":
				say(c, 200, asJSON, goodToken)
			case r.Header.Get("Authorization") == "Bearer old":
				fmt.Fprint(c, "HTTP/1.1 401 x\r\n\r\n")
				flood(c, " ")
			default:
				say(c, 200, asJSON, goodUser)
			}
		})
		c := valid()
		c.BaseURL, c.HTTPClient = "http://127.0.0.1:8000", &http.Client{Transport: n}
		p, err := shangcloud.New(c)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_, err = p.API(p.TokenSource(&oauth2.Token{AccessToken: "old", RefreshToken: "rt", Expiry: time.Now().Add(time.Hour)}, nil)).UserInfo(ctx)
		require.NoError(t, err)
		n.CloseIdleConnections()
		synctest.Wait()
		assert.Zero(t, n.open.Load())
	})
}
