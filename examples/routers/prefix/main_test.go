package main

import (
	"bytes"
	"html"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/routers/internal/browser"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// portal is an application at https://app.example.com/portal. A proxy ends TLS and
// forwards the requests to the application's instances in turn.
type portal struct {
	*browser.Browser
	platform *shangcloudtest.Server
	visits   []*atomic.Int32 // requests to each instance
}

const publicURL = "https://app.example.com/portal"

type proxySettings struct {
	keepPrefix bool
	forward    func(r *http.Request) // changes what the backend gets
	cookiePath string                // if not "", the proxy replaces the cookies' Path with it
}

func newPortal(t *testing.T, settings proxySettings, options ...*oauth2login.Options) *portal {
	t.Helper()
	s := &portal{platform: shangcloudtest.NewServer(t)}
	s.platform.AddClient(shangcloudtest.Client{ID: "demo", Secret: "hush-hush", RedirectURIs: []string{publicURL + "/callback"}})
	s.platform.AddUser(shangcloudtest.User{ID: 10001, Nickname: "小明"})
	s.platform.AutoApprove(10001)

	var backends []*url.URL
	for _, o := range options {
		provider, err := shangcloud.New(&oauth2.Config{
			ClientID: "demo", ClientSecret: "hush-hush", RedirectURL: publicURL + "/callback",
			Endpoint: shangcloud.EndpointAt(s.platform.URL),
		}, o)
		require.NoError(t, err)
		app, visits := routes(provider, "/portal"), new(atomic.Int32)
		backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			visits.Add(1)
			assert.Nil(t, r.TLS)
			assert.Equal(t, settings.keepPrefix, strings.HasPrefix(r.URL.Path, "/portal/"), r.URL.Path)
			app.ServeHTTP(w, r)
		}))
		t.Cleanup(backend.Close)
		address, err := url.Parse(backend.URL)
		require.NoError(t, err)
		backends, s.visits = append(backends, address), append(s.visits, visits)
	}

	var turn atomic.Uint32
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			// The proxy sets Host to the backend's address, and sets no X-Forwarded header.
			r.SetURL(backends[int(turn.Add(1)-1)%len(backends)])
			if settings.forward != nil {
				settings.forward(r.Out)
			}
		},
		ModifyResponse: func(res *http.Response) error {
			if settings.cookiePath == "" {
				return nil
			}
			for i, c := range res.Header["Set-Cookie"] {
				res.Header["Set-Cookie"][i] = strings.Replace(c, "Path=/", "Path="+settings.cookiePath, 1)
			}
			return nil
		},
	}
	var front http.Handler = proxy
	if !settings.keepPrefix {
		front = http.StripPrefix("/portal", proxy)
	}
	mux := http.NewServeMux() // the rest of the host is not ours
	mux.Handle("/portal/", front)
	outside := httptest.NewTLSServer(mux)
	t.Cleanup(outside.Close)
	// This client sends requests for example.com and its subdomains to the test server.
	s.Browser = browser.New(t, outside.Client().Transport)
	return s
}

var href = regexp.MustCompile(`href="([^"]*)"`)

// signIn clicks on the sign-in link of a page.
func (s *portal) signIn(t *testing.T, path string) browser.Page {
	t.Helper()
	start := s.Visit(t, publicURL+path)
	link := href.FindStringSubmatch(start.Body)
	require.NotNil(t, link, start.Body)
	target, err := start.Address.Parse(html.UnescapeString(link[1]))
	require.NoError(t, err)
	return s.Visit(t, target.String())
}

func TestBehindAProxy(t *testing.T) {
	for name, settings := range map[string]proxySettings{
		"prefix stripped": {},
		"prefix kept":     {keepPrefix: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newPortal(t, settings, nil)
			page := s.signIn(t, "/album?page=2")
			assert.Equal(t, http.StatusOK, page.Status)
			assert.Equal(t, publicURL+"/album?page=2", page.Address.String())
			assert.Empty(t, s.Cookies(t, publicURL))

			page = s.Visit(t, publicURL+"/login")
			assert.Equal(t, publicURL+"/", page.Address.String(), "without a path to return to")
		})
	}
}

// The backend receives plain http, but the browser gets the cookie of an https site.
func TestCookieIsThatOfThePublicAddress(t *testing.T) {
	s := newPortal(t, proxySettings{}, nil)
	s.platform.AutoApprove(0) // the consent page stays
	page := s.Visit(t, publicURL+"/login?next=/portal/album")
	require.Equal(t, http.StatusOK, page.Status)
	require.Len(t, s.Cookies(t, publicURL), 1, "a browser that is strict about __Host- keeps it")
	assert.True(t, strings.HasPrefix(s.Cookies(t, publicURL)[0].Name, "__Host-"))
	assert.Len(t, s.Cookies(t, "https://app.example.com/"), 1, "Path=/")
	assert.Empty(t, s.Cookies(t, "http://app.example.com/"), "Secure")
	assert.Empty(t, s.Cookies(t, "https://other.example.com/"), "this host only")
}

func TestForwardedHeadersChangeNothing(t *testing.T) {
	s := newPortal(t, proxySettings{forward: func(r *http.Request) {
		for _, name := range []string{"X-Forwarded-Host", "X-Forwarded-Server", "X-Original-Host"} {
			r.Header.Set(name, "evil.example")
		}
		r.Header.Set("X-Forwarded-Proto", "http")
		r.Header.Set("X-Forwarded-Prefix", "//evil.example")
		r.Header.Set("Forwarded", "host=evil.example;proto=http")
	}}, nil)
	page := s.signIn(t, "/album")
	assert.Equal(t, publicURL+"/album", page.Address.String())
	for _, r := range s.platform.Requests("/oauth/authorize") {
		assert.Equal(t, publicURL+"/callback", r.Query().Get("redirect_uri"))
	}
}

// A proxy that changes the cookie's path breaks logins, as the documentation says.
func TestProxyMustLeaveTheCookiesPath(t *testing.T) {
	s := newPortal(t, proxySettings{cookiePath: "/portal/"}, nil)
	page := s.signIn(t, "/album")
	assert.Equal(t, http.StatusForbidden, page.Status)
	assert.Empty(t, s.platform.Requests("/oauth/token"))
}

// The requests of one login go to the application's instances in turn.
func TestSeveralInstances(t *testing.T) {
	shared := state.NewMemory(0) // in production, a store with a server behind it
	keys := [][]byte{bytes.Repeat([]byte{7}, 32)}
	for name, test := range map[string]struct {
		one, two *oauth2login.Options
		status   int
	}{
		"shared store":     {&oauth2login.Options{States: shared}, &oauth2login.Options{States: shared}, http.StatusOK},
		"shared keys":      {&oauth2login.Options{StateKeys: keys}, &oauth2login.Options{StateKeys: keys}, http.StatusOK},
		"neither":          {nil, nil, http.StatusForbidden},
		"one store, keys":  {&oauth2login.Options{States: shared}, &oauth2login.Options{StateKeys: keys}, http.StatusForbidden},
		"different keys":   {&oauth2login.Options{StateKeys: keys}, &oauth2login.Options{StateKeys: [][]byte{bytes.Repeat([]byte{8}, 32)}}, http.StatusForbidden},
		"different stores": {&oauth2login.Options{States: state.NewMemory(0)}, &oauth2login.Options{States: state.NewMemory(0)}, http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			s := newPortal(t, proxySettings{}, test.one, test.two)
			page := s.Visit(t, publicURL+"/login?next=/portal/album")
			assert.Equal(t, test.status, page.Status)
			assert.Positive(t, s.visits[0].Load())
			assert.Positive(t, s.visits[1].Load())
			if test.status == http.StatusOK {
				assert.Equal(t, publicURL+"/album", page.Address.String())
			}
		})
	}
}

// The headers of an answer fit into the proxy buffer of 8 KB that the documentation
// recommends.
func TestHeadersOfSealedLogins(t *testing.T) {
	provider, err := shangcloud.New(&oauth2.Config{
		ClientID: "demo", ClientSecret: "hush-hush", RedirectURL: publicURL + "/callback",
	}, &oauth2login.Options{StateKeys: [][]byte{bytes.Repeat([]byte{7}, 32)}})
	require.NoError(t, err)
	w := httptest.NewRecorder()
	next := "/portal/" + strings.Repeat("a", 1870)
	routes(provider, "/portal").ServeHTTP(w, httptest.NewRequest("GET", "/login?next="+next, nil))
	var header bytes.Buffer
	require.NoError(t, w.Result().Header.Write(&header))
	assert.Contains(t, header.String(), "__Host-")
	assert.Greater(t, header.Len(), 3<<10, "it is worth a word in the documentation")
	assert.Less(t, header.Len(), 8<<10)
}
