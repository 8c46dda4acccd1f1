package oauth2login_test

import (
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// TestMain makes Go's default transport trust the certificate of package httptest. The
// transport of this package is based on it.
func TestMain(m *testing.M) {
	server := httptest.NewTLSServer(nil)
	server.Close()
	http.DefaultTransport.(*http.Transport).TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	os.Exit(m.Run())
}

// setup is the configuration of a test's provider.
type setup struct {
	oauth2.Config
	oauth2login.Options
	row []oauth2login.ProviderOption
}

// valid returns a setup for an application at https://app.example, and a platform at
// baseURL.
func valid(baseURL string) *setup {
	return &setup{
		Config: oauth2.Config{
			ClientID: "demo", ClientSecret: "hush-hush", RedirectURL: "https://app.example/callback",
			Scopes: []string{"user:basic"}, Endpoint: endpointAt(baseURL),
		},
		row: []oauth2login.ProviderOption{oauth2login.WithRawBasicAuth(), oauth2login.WithAssumedLifetime(time.Hour)},
	}
}

func endpointAt(baseURL string) oauth2.Endpoint {
	return oauth2.Endpoint{
		AuthURL: baseURL + "/oauth/authorize", TokenURL: baseURL + "/oauth/token",
		DeviceAuthURL: baseURL + "/oauth/device_authorization", AuthStyle: oauth2.AuthStyleInHeader,
	}
}

func (s *setup) provider(t testing.TB) *oauth2login.Provider {
	t.Helper()
	p, err := oauth2login.New(&s.Config, &s.Options, s.row...)
	require.NoError(t, err)
	return p
}

// site is an application with one provider. Tests call its handlers through browsers that
// keep cookies as real ones do.
type site struct {
	*oauth2login.Provider
	platform *shangcloudtest.Server
	redirect string
}

// newPlatform starts a platform that knows the client "demo" and the user 10001, who
// approves of everything at once.
func newPlatform(t *testing.T) *shangcloudtest.Server {
	t.Helper()
	platform := shangcloudtest.NewServer(t)
	register(platform)
	return platform
}

func register(platform *shangcloudtest.Server) {
	platform.AddClient(shangcloudtest.Client{
		ID: "demo", Secret: "hush-hush",
		RedirectURIs: []string{"https://app.example/callback", "https://app.example/other", "http://127.0.0.1/callback", "HTTP://127.0.0.1/callback"},
	})
	platform.AddUser(shangcloudtest.User{ID: 10001, Nickname: "小明", Email: "ming@example.cn", AvatarURL: "https://example.cn/a.png"})
	platform.AutoApprove(10001)
}

func newSite(t *testing.T, changes ...func(*setup)) *site {
	t.Helper()
	return newSiteAt(t, newPlatform(t), changes...)
}

func newSiteAt(t *testing.T, platform *shangcloudtest.Server, changes ...func(*setup)) *site {
	t.Helper()
	s := valid(platform.URL)
	for _, change := range changes {
		change(s)
	}
	return &site{s.provider(t), platform, s.RedirectURL}
}

// storedAndSealed runs a test twice: with logins in a store, and with logins sealed in
// cookies.
func storedAndSealed(t *testing.T, test func(t *testing.T, kind func(*setup))) {
	t.Run("stored", func(t *testing.T) { test(t, func(*setup) {}) })
	t.Run("sealed", func(t *testing.T) { test(t, sealedWith("1")) })
}

func stateKey(c string) []byte { return []byte(strings.Repeat(c, 32)) }

// sealedWith makes logins travel sealed in their cookies.
func sealedWith(keys ...string) func(*setup) {
	return func(c *setup) {
		for _, key := range keys {
			c.StateKeys = append(c.StateKeys, stateKey(key))
		}
	}
}

// inBubble runs f in a synctest bubble, whose fake clock the site and its platform use.
// The platform needs no network.
func inBubble(t *testing.T, f func(t *testing.T, s *site), changes ...func(*setup)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		platform := shangcloudtest.New()
		defer platform.Close()
		register(platform)
		changes := append([]func(*setup){func(s *setup) { s.HTTPClient = &http.Client{Transport: platform.Transport()} }}, changes...)
		f(t, newSiteAt(t, platform, changes...))
		synctest.Wait()
	})
}

func (s *site) tokenRequests() int { return len(s.platform.Requests("/oauth/token")) }

// issue returns tokens of user 10001 without a login.
func issue(platform *shangcloudtest.Server) *oauth2.Token {
	access, refresh := platform.Issue("demo", 10001, "user:basic", "var:io")
	return &oauth2.Token{AccessToken: access, RefreshToken: refresh, TokenType: "bearer", Expiry: time.Now().Add(time.Hour)}
}

// browser is a cookie jar that visits sites.
type browser struct {
	jar    http.CookieJar
	forged string // if not "", the cookie value that it sends to the callback
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return &browser{jar: jar}
}

// request makes a request with the cookies that b has for its address.
func (b *browser) request(method, address string) *http.Request {
	r := httptest.NewRequest(method, address, nil)
	for _, c := range b.jar.Cookies(r.URL) {
		r.AddCookie(c)
	}
	return r
}

// keep stores the cookies of an answer.
func (b *browser) keep(r *http.Request, w *httptest.ResponseRecorder) {
	b.jar.SetCookies(r.URL, w.Result().Cookies())
}

// start begins a login and returns the address that the browser is sent to.
func (b *browser) start(t *testing.T, s *site, opts ...oauth2login.LoginOption) string {
	t.Helper()
	r := b.request("GET", siblingOf(s.redirect, "/login"))
	w := httptest.NewRecorder()
	require.NoError(t, s.StartLogin(w, r, opts...))
	require.Equal(t, http.StatusFound, w.Code)
	b.keep(r, w)
	return w.Header().Get("Location")
}

// finish sends the browser to the callback.
func (b *browser) finish(s *site, callbackURL string) (*oauth2login.Login, error) {
	r := b.request("GET", callbackURL)
	w := httptest.NewRecorder()
	login, err := s.FinishLogin(w, r)
	b.keep(r, w)
	return login, err
}

// started begins a login in a new browser, and returns its cookie and state.
func started(t testing.TB, p *oauth2login.Provider, opts ...oauth2login.LoginOption) (cookie *http.Cookie, state string) {
	t.Helper()
	w := httptest.NewRecorder()
	require.NoError(t, p.StartLogin(w, httptest.NewRequest("GET", "/login", nil), opts...))
	return w.Result().Cookies()[0], queryOf(t, w.Header().Get("Location")).Get("state")
}

// partsOf splits the value of a login's cookie. head is the provider and the start time.
// sealed is the encrypted login, or "" for a stored one.
func partsOf(value string) (head, secret, sealed string) {
	parts := strings.SplitN(value, ".", 4)
	if len(parts) == 4 {
		sealed = parts[3]
	}
	return parts[0] + "." + parts[1], parts[2], sealed
}

// requestWith is a callback with a query and a Cookie header.
func requestWith(query, cookies string) *http.Request {
	r := httptest.NewRequest("GET", "/callback", nil)
	r.URL.RawQuery = query
	if cookies != "" {
		r.Header.Set("Cookie", cookies)
	}
	return r
}

// authorize follows the address to the platform, and returns the address that the
// platform sends the browser back to.
func authorize(t *testing.T, authURL string) (callbackURL string) {
	t.Helper()
	res, err := http.DefaultTransport.RoundTrip(httptest.NewRequest("GET", authURL, nil))
	require.NoError(t, err)
	defer res.Body.Close()
	require.NotEmpty(t, res.Header.Get("Location"), "status %d", res.StatusCode)
	return res.Header.Get("Location")
}

func siblingOf(address, path string) string {
	return mustParse(address).ResolveReference(&url.URL{Path: path}).String()
}

func mustParse(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return u
}

func queryOf(t testing.TB, address string) url.Values {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	return u.Query()
}

// roundTripper is an http.RoundTripper from a function.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
