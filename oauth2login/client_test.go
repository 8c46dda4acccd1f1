package oauth2login_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// userInfo asks the platform for the user, and returns the status.
func (s *site) userInfo(ctx context.Context, src oauth2.TokenSource) (int, error) {
	return post(ctx, s.Client(src), s.platform.URL+"/api/user/info", strings.NewReader("{}"))
}

func post(ctx context.Context, hc *http.Client, address string, body io.Reader) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, body)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := hc.Do(req)
	if err != nil {
		return 0, err
	}
	return res.StatusCode, res.Body.Close()
}

func TestClientOrigins(t *testing.T) {
	s := newSite(t)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("a request has left for elsewhere")
	}))
	defer elsewhere.Close()
	src := s.TokenSource(issue(s.platform))
	for _, address := range []string{
		elsewhere.URL, "http://api.example/",
		strings.Replace(s.platform.URL, "//", "//evil-", 1), strings.Replace(s.platform.URL, "http:", "https:", 1),
	} {
		_, err := post(t.Context(), s.Client(src), address, nil)
		assert.ErrorContains(t, err, "the token is for", address)
	}
	for _, status := range []int{301, 302, 303, 307, 308} {
		s.platform.Fault("/api/user/info", shangcloudtest.Fault{Times: 1, Status: status, Redirect: elsewhere.URL})
		got, err := s.userInfo(t.Context(), src)
		require.NoError(t, err)
		assert.Equal(t, status, got, "the answer is handed on, not followed")
	}
	_, err := post(t.Context(), s.Client(src, "%"), s.platform.URL, nil)
	assert.ErrorContains(t, err, "the token is for", "an origin that can't be parsed")
	_, err = post(t.Context(), s.Client(src, elsewhere.URL), s.platform.URL, nil)
	assert.ErrorContains(t, err, "the token is for", "the token endpoint is not among the origins")
	got, err := post(t.Context(), s.Client(src, elsewhere.URL, strings.ToUpper(s.platform.URL)), s.platform.URL+"/api/user/info", strings.NewReader("{}"))
	require.NoError(t, err)
	assert.Equal(t, http.StatusOK, got, "the second origin")
}

// A token is not sent over plain http, unless the provider's configuration allows it.
func TestClientPlainHTTP(t *testing.T) {
	tok := oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "access"})
	sent := 0
	c := valid("https://provider.example")
	c.HTTPClient = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		sent++
		return &http.Response{StatusCode: http.StatusOK, Header: make(http.Header), Body: http.NoBody, Request: r}, nil
	})}
	_, err := post(t.Context(), c.provider(t).Client(tok, "http://api.example"), "http://api.example/", nil)
	assert.ErrorContains(t, err, "the token is for")
	assert.Zero(t, sent)
	c.row = append(c.row, oauth2login.WithPlainHTTP())
	_, err = post(t.Context(), c.provider(t).Client(tok, "http://api.example"), "http://api.example/", nil)
	require.NoError(t, err)
	assert.Equal(t, 1, sent)
}

// A request may go to the right host, but name another host in its Host header or its
// URL. A proxy would forward the request to that other host.
func TestClientForeignHost(t *testing.T) {
	s := newSite(t)
	platform := mustParse(s.platform.URL)
	for name, change := range map[string]func(*http.Request){
		"Host":                func(r *http.Request) { r.Host = "evil.example" },
		"Host, another port":  func(r *http.Request) { r.Host = "127.0.0.1:1" },
		"Host, without port":  func(r *http.Request) { r.Host = "127.0.0.1" },
		"Host, a dot":         func(r *http.Request) { r.Host += "." },
		"Host, two":           func(r *http.Request) { r.Host += ",evil.example" },
		"Host, a line end":    func(r *http.Request) { r.Host += "\r\nX: y" },
		"Host, a user":        func(r *http.Request) { r.Host = "evil@" + r.Host },
		"opaque":              func(r *http.Request) { r.URL.Opaque = "//evil.example/" },
		"opaque, a path":      func(r *http.Request) { r.URL.Opaque = "/api/user/info" },
		"opaque, same origin": func(r *http.Request) { r.URL.Opaque = "//" + r.URL.Host + "/api/user/info" },
		"opaque, an address":  func(r *http.Request) { r.URL.Opaque = "http://evil.example/" },
		"user":                func(r *http.Request) { r.URL.User = url.User("evil") },
	} {
		req, err := http.NewRequest(http.MethodGet, s.platform.URL+"/api/user/info", nil)
		require.NoError(t, err)
		change(req)
		_, err = s.Client(s.TokenSource(issue(s.platform))).Do(req)
		assert.ErrorContains(t, err, "another host than its URL", name)
	}
	assert.Empty(t, s.platform.Requests())
	req, err := http.NewRequest(http.MethodPost, s.platform.URL+"/api/user/info", strings.NewReader("{}"))
	require.NoError(t, err)
	req.Host = strings.ToUpper(platform.Host)
	res, err := s.Client(s.TokenSource(issue(s.platform))).Do(req)
	require.NoError(t, err)
	assert.NoError(t, res.Body.Close())
}

// The token appears neither in the caller's request nor in the answer's Request field.
func TestClientRequestStays(t *testing.T) {
	s := newSite(t)
	req, err := http.NewRequest(http.MethodPost, s.platform.URL+"/api/user/info", strings.NewReader("{}"))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	res, err := s.Client(s.TokenSource(issue(s.platform))).Do(req)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	assert.Equal(t, http.StatusOK, res.StatusCode)
	assert.Empty(t, req.Header.Get("Authorization"))
	assert.Same(t, req, res.Request)

	// The token is replaced, so the request is sent twice.
	req.Body = io.NopCloser(strings.NewReader("{}"))
	res, err = s.Client(s.TokenSource(issueExpired(s.platform))).Do(req)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	assert.Equal(t, http.StatusOK, res.StatusCode)
	assert.Same(t, req, res.Request)
	assert.Empty(t, req.Header.Get("Authorization"))
}

// issueExpired returns tokens that the platform no longer accepts, although their expiry
// is in the future.
func issueExpired(platform *shangcloudtest.Server) *oauth2.Token {
	tok := issue(platform)
	platform.ExpireTokens()
	return tok
}

// The cookie jar of Options.HTTPClient is not used, because all users would share it.
func TestClientJar(t *testing.T) {
	s := newSite(t)
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	jar.SetCookies(mustParse(s.platform.URL), []*http.Cookie{{Name: "user", Value: "another"}})
	s = newSiteAt(t, s.platform, func(c *setup) { c.HTTPClient = &http.Client{Jar: jar} })
	status, err := s.userInfo(t.Context(), s.TokenSource(issue(s.platform)))
	require.NoError(t, err)
	assert.Equal(t, http.StatusOK, status)
	b := newBrowser(t)
	_, err = b.finish(s, authorize(t, b.start(t, s)))
	require.NoError(t, err)
	for _, path := range []string{"/api/user/info", "/oauth/token"} {
		require.Len(t, s.platform.Requests(path), 1)
		assert.Empty(t, s.platform.Requests(path)[0].Header.Get("Cookie"), path)
	}
}

func TestClientRepeatsAfter401(t *testing.T) {
	s := newSite(t)
	src := s.TokenSource(issue(s.platform))
	old, err := src.Token()
	require.NoError(t, err)
	s.platform.ExpireTokens() // earlier than expires_in said

	status, err := s.userInfo(t.Context(), src)
	require.NoError(t, err)
	assert.Equal(t, http.StatusOK, status)
	assert.Equal(t, 1, s.tokenRequests())
	assert.Len(t, s.platform.Requests("/api/user/info"), 2)
	next, err := src.Token()
	require.NoError(t, err)
	assert.NotEqual(t, old.AccessToken, next.AccessToken)
}

// If the API rejects the new token too, the caller gets the second 401. The requests that
// follow start no further refresh.
func TestClientSecond401(t *testing.T) {
	s := newSite(t)
	src := s.TokenSource(issue(s.platform))
	s.platform.Fault("/api/user/info", shangcloudtest.Fault{Status: 401, Body: `{"error":"invalid_token"}`})
	for range 5 {
		status, err := s.userInfo(t.Context(), src)
		require.NoError(t, err)
		assert.Equal(t, http.StatusUnauthorized, status)
	}
	assert.Equal(t, 1, s.tokenRequests())
	assert.Len(t, s.platform.Requests("/api/user/info"), 6)
}

// The platform accepts each new token at first, and rejects it before its expiry. The
// client replaces each of these tokens.
func TestClientTokensEndEarly(t *testing.T) {
	inBubble(t, func(t *testing.T, s *site) {
		src := s.TokenSource(issue(s.platform))
		for i := range 4 {
			s.platform.ExpireTokens()
			status, err := s.userInfo(t.Context(), src)
			require.NoError(t, err)
			assert.Equal(t, http.StatusOK, status)
			assert.Equal(t, i+1, s.tokenRequests())
			time.Sleep(time.Minute)
		}
	})
}

// A request whose body can't be read again is sent only once.
func TestClientBodyOnce(t *testing.T) {
	s := newSite(t)
	hc := s.Client(s.TokenSource(issue(s.platform)))
	s.platform.ExpireTokens()
	status, err := post(t.Context(), hc, s.platform.URL+"/api/user/info", io.MultiReader(strings.NewReader(`{}`)))
	require.NoError(t, err)
	assert.Equal(t, http.StatusUnauthorized, status)
	assert.Zero(t, s.tokenRequests())

	s.platform.Fault("/oauth/token", shangcloudtest.Fault{Times: 1, Status: 503})
	_, err = post(t.Context(), hc, s.platform.URL+"/api/user/info", strings.NewReader(`{}`))
	assert.ErrorIs(t, err, oauth2login.ErrUnavailable, "the reason why there is no new token")
}

func TestClientRevokedToken(t *testing.T) {
	s := newSite(t)
	src := s.TokenSource(issue(s.platform))
	s.platform.Revoke(10001)
	for range 3 {
		_, err := s.userInfo(t.Context(), src)
		assert.ErrorIs(t, err, oauth2login.ErrLoginRequired)
	}
	assert.Equal(t, 1, s.tokenRequests(), "the refusal is remembered")
	_, err := s.userInfo(t.Context(), s.TokenSource(nil))
	assert.ErrorIs(t, err, oauth2login.ErrLoginRequired)
}

func TestClientContext(t *testing.T) {
	s := newSite(t)
	tok := issue(s.platform)
	tok.Expiry = time.Now().Add(-time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	s.platform.Fault("/oauth/token", shangcloudtest.Fault{Before: func(*http.Request) { cancel() }, Hang: true})
	_, err := s.userInfo(ctx, s.TokenSource(tok))
	assert.ErrorIs(t, err, context.Canceled)
}

func TestClientForeignSources(t *testing.T) {
	s := newSite(t)
	for name, src := range map[string]oauth2.TokenSource{
		"static":   oauth2.StaticTokenSource(issue(s.platform)),
		"x/oauth2": s.OAuth2().TokenSource(s.ClientContext(t.Context()), issue(s.platform)),
	} {
		status, err := s.userInfo(t.Context(), src)
		require.NoError(t, err, name)
		assert.Equal(t, http.StatusOK, status, name)
	}
	broken := errors.New("hush: the session is gone")
	for name, src := range map[string]oauth2.TokenSource{
		"none":             nil,
		"nil token":        sourceFunc(func() (*oauth2.Token, error) { return nil, nil }),
		"empty token":      sourceFunc(func() (*oauth2.Token, error) { return new(oauth2.Token), nil }),
		"error":            sourceFunc(func() (*oauth2.Token, error) { return nil, broken }),
		"panic":            sourceFunc(func() (*oauth2.Token, error) { panic("hush") }),
		"x/oauth2's empty": s.OAuth2().TokenSource(t.Context(), nil),
	} {
		_, err := s.userInfo(t.Context(), src)
		require.Error(t, err, name)
		assert.NotErrorIs(t, err, oauth2login.ErrUnavailable, name)
		assert.Equal(t, name == "error", errors.Is(err, broken), name)
		assert.NotContains(t, err.Error(), "hush", name)
	}
	assert.Len(t, s.platform.Requests("/api/user/info"), 2, "nothing is sent without a token")
}

// Text that the application adds to an error of this package is not printed. errors.Is
// still finds the error.
func TestClientWrappedError(t *testing.T) {
	s := newSite(t)
	ours := s.TokenSource(nil)
	_, err := s.userInfo(t.Context(), sourceFunc(func() (*oauth2.Token, error) {
		tok, err := ours.Token()
		return tok, fmt.Errorf("after token hush: %w", err)
	}))
	assert.ErrorIs(t, err, oauth2login.ErrLoginRequired)
	assert.NotContains(t, err.Error(), "hush")
	assert.ErrorContains(t, err, "no refresh token")
}

// The repeated request uses the same connection as the first.
func TestClientKeepsConnections(t *testing.T) {
	var conns, calls atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/oauth/token":
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprintf(w, `{"access_token":"new-%d","token_type":"Bearer","refresh_token":"r","expires_in":3600}`, calls.Load())
		case calls.Add(1)%2 == 1:
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, strings.Repeat(" ", 10_000))
		}
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	p := valid(server.URL).provider(t)
	for range 10 {
		src := p.TokenSource(&oauth2.Token{AccessToken: "old", RefreshToken: "r", Expiry: time.Now().Add(time.Hour)})
		status, err := post(t.Context(), p.Client(src), server.URL, strings.NewReader("{}"))
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, status)
	}
	assert.Equal(t, int64(20), calls.Load())
	assert.LessOrEqual(t, conns.Load(), int64(2), "one for the calls, one for the token endpoint")
}

// endless is a body that has no end.
type endless struct{ closed *atomic.Int32 }

func (e endless) Read(p []byte) (int, error) { clear(p); return len(p), nil }
func (e endless) Close() error               { e.closed.Add(1); return nil }

// A request is repeated with a new token even if the body of the 401 answer has no end.
func TestClientLongRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var closed atomic.Int32
		s := valid("https://provider.example")
		s.HTTPClient = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			res := &http.Response{StatusCode: 200, Header: make(http.Header), Request: r,
				Body: io.NopCloser(strings.NewReader(`{"access_token":"new","token_type":"Bearer","expires_in":3600}`))}
			if r.Header.Get("Authorization") == "Bearer old" {
				res.StatusCode, res.Body = http.StatusUnauthorized, endless{&closed}
			}
			return res, nil
		})}
		p := s.provider(t)
		src := p.TokenSource(&oauth2.Token{AccessToken: "old", RefreshToken: "r", Expiry: time.Now().Add(time.Hour)})
		status, err := post(t.Context(), p.Client(src), "https://provider.example/api", nil)
		require.NoError(t, err)
		assert.Equal(t, http.StatusOK, status)
		assert.Equal(t, int32(1), closed.Load())
	})
}
