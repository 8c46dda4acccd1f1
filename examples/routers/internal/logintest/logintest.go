// Package logintest is the common test of all router examples. It connects a browser, an
// application and a stand-in for ShangCloud over real HTTP.
package logintest

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/routers/internal/browser"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// Run tests an application that answers /login and /callback.
func Run(t *testing.T, routes func(*shangcloud.Provider) http.Handler) {
	t.Run("login", func(t *testing.T) {
		s := newSite(t, routes)
		page := s.Visit(t, s.address+"/login?next="+s.StopAt)
		assert.Equal(t, http.StatusSeeOther, page.Status)
		assert.Equal(t, s.StopAt, page.Location)
		assert.Len(t, s.platform.Requests("/oauth/token"), 1)
		// The router's ResponseWriter keeps the headers that the library sets.
		assert.Equal(t, "no-store", page.Header.Get("Cache-Control"))
		assert.Empty(t, s.Cookies(t, s.address), "the login's cookie is cleared")
	})
	t.Run("return path of another site", func(t *testing.T) {
		s := newSite(t, routes)
		s.StopAt = "/"
		page := s.Visit(t, s.address+"/login?next=//evil.example/")
		assert.Equal(t, http.StatusSeeOther, page.Status)
		assert.Equal(t, "/", page.Location)
	})
	t.Run("denied", func(t *testing.T) {
		s := newSite(t, routes)
		s.platform.AutoDeny()
		s.answers(t, "/login", http.StatusForbidden)
		assert.Empty(t, s.platform.Requests("/oauth/token"))

		s.platform.AutoApprove(10001)
		s.logsIn(t)
	})
	t.Run("callback without cookie", func(t *testing.T) {
		s := newSite(t, routes)
		s.StopAt = "/callback"
		back := s.Visit(t, s.address+"/login").Location
		require.True(t, strings.HasPrefix(back, s.address+"/callback?"))

		page := browser.New(t, nil).Visit(t, back)
		assert.Equal(t, http.StatusForbidden, page.Status)
		assert.Contains(t, page.Body, "start again")
		assert.Empty(t, s.platform.Requests("/oauth/token"))

		// A request from another browser does not use up the login. The browser that
		// started it can still finish it.
		s.StopAt = "/"
		assert.Equal(t, http.StatusSeeOther, s.Visit(t, back).Status)
	})
	t.Run("not a callback", func(t *testing.T) {
		s := newSite(t, routes)
		s.answers(t, "/callback", http.StatusForbidden)
	})
	t.Run("state store fails at the start", func(t *testing.T) {
		s := newSite(t, routes)
		s.states.failPut = true
		page := s.answers(t, "/login", http.StatusServiceUnavailable)
		assert.Empty(t, page.Cookies)
		assert.Empty(t, s.platform.Requests(), "nobody is sent to a login that can't end well")
		s.states.failPut = false
		s.logsIn(t)
	})
	t.Run("state store fails at the end", func(t *testing.T) {
		s := newSite(t, routes)
		s.states.failTake = true
		s.answers(t, "/login", http.StatusServiceUnavailable)
		assert.Empty(t, s.platform.Requests("/oauth/token"))
		s.states.failTake = false
		s.logsIn(t)
	})
	t.Run("platform fails", func(t *testing.T) {
		s := newSite(t, routes)
		s.platform.Fault("/oauth/token", shangcloudtest.Fault{Times: 1, Status: http.StatusInternalServerError})
		s.answers(t, "/login", http.StatusServiceUnavailable)
		s.logsIn(t)
	})
	t.Run("platform refuses", func(t *testing.T) {
		s := newSite(t, routes)
		s.platform.Fault("/oauth/token", shangcloudtest.Fault{Status: http.StatusBadRequest, Body: `{"error":"invalid_grant"}`})
		s.answers(t, "/login", http.StatusForbidden)
	})
}

// site is an application that listens, with its platform and one user's browser.
type site struct {
	*browser.Browser
	address  string
	platform *shangcloudtest.Server
	states   *brittleStore
}

func newSite(t *testing.T, routes func(*shangcloud.Provider) http.Handler) *site {
	t.Helper()
	platform := shangcloudtest.NewServer(t)
	app := httptest.NewUnstartedServer(nil)
	s := &site{browser.New(t, nil), "http://" + app.Listener.Addr().String(), platform, new(brittleStore)}
	s.StopAt = "/album"

	platform.AddClient(shangcloudtest.Client{ID: "demo", Secret: "hush-hush", RedirectURIs: []string{s.address + "/callback"}})
	platform.AddUser(shangcloudtest.User{ID: 10001, Nickname: "小明"})
	platform.AutoApprove(10001)
	provider, err := shangcloud.New(&oauth2.Config{
		ClientID: "demo", ClientSecret: "hush-hush", RedirectURL: s.address + "/callback",
		Endpoint: shangcloud.EndpointAt(platform.URL),
	}, &oauth2login.Options{States: s.states})
	require.NoError(t, err)
	app.Config.Handler = routes(provider)
	app.Start()
	t.Cleanup(app.Close)
	return s
}

// logsIn runs a whole login, which must succeed.
func (s *site) logsIn(t *testing.T) {
	t.Helper()
	page := s.Visit(t, s.address+"/login?next="+s.StopAt)
	assert.Equal(t, http.StatusSeeOther, page.Status)
	assert.Equal(t, s.StopAt, page.Location)
}

// answers requests a page. The page must have the status and tell the user what to do.
func (s *site) answers(t *testing.T, path string, status int) browser.Page {
	t.Helper()
	page := s.Visit(t, s.address+path)
	assert.Equal(t, status, page.Status)
	want := map[int]string{http.StatusForbidden: "start again", http.StatusServiceUnavailable: "try again in a minute"}[status]
	assert.Contains(t, page.Body, want)
	assert.NotContains(t, page.Body, "shangcloud:", "errors are for the log")
	return page
}

// brittleStore is a state store that a test can make fail between two requests.
type brittleStore struct {
	state.Memory
	failPut, failTake bool
}

var errDown = errors.New("the database is down")

func (s *brittleStore) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if s.failPut {
		return errDown
	}
	return s.Memory.Put(ctx, key, value, ttl)
}

func (s *brittleStore) Take(ctx context.Context, key string) ([]byte, bool, error) {
	if s.failTake {
		return nil, false, errDown
	}
	return s.Memory.Take(ctx, key)
}
