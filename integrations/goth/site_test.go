package gothshangcloud_test

import (
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	gothshangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2/integrations/goth"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/gorilla/sessions"
	"github.com/markbates/goth"
	"github.com/markbates/goth/gothic"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

const callbackPath = "/auth/shangcloud/callback"

// newPlatform starts a platform that knows the client "demo" and two users.
func newPlatform(t *testing.T) *shangcloudtest.Server {
	t.Helper()
	platform := shangcloudtest.NewServer(t)
	platform.AddClient(shangcloudtest.Client{
		ID: "demo", Secret: "hush-hush",
		RedirectURIs: []string{"http://127.0.0.1" + callbackPath, "http://127.0.0.1/other", "https://app.example" + callbackPath},
	})
	platform.AddUser(shangcloudtest.User{ID: 10001, Nickname: "小明", Email: "ming@example.cn", AvatarURL: "https://example.cn/a.png"})
	platform.AddUser(shangcloudtest.User{ID: 666, Nickname: "Mallory"})
	return platform
}

// setup is the configuration of a provider.
type setup struct {
	oauth2.Config
	oauth2login.Options
	row []oauth2login.ProviderOption
}

func newProvider(t *testing.T, platform *shangcloudtest.Server, changes ...func(*setup)) *gothshangcloud.Provider {
	t.Helper()
	c := setup{Config: oauth2.Config{
		ClientID: "demo", ClientSecret: "hush-hush",
		RedirectURL: "http://127.0.0.1" + callbackPath, Endpoint: shangcloud.EndpointAt(platform.URL),
	}}
	for _, change := range changes {
		change(&c)
	}
	p, err := shangcloud.New(&c.Config, &c.Options, c.row...)
	require.NoError(t, err)
	return gothshangcloud.New(p)
}

// begin starts a login without gothic.
func begin(t *testing.T, p *gothshangcloud.Provider) *gothshangcloud.Session {
	t.Helper()
	s, err := p.BeginAuth("")
	require.NoError(t, err)
	return s.(*gothshangcloud.Session)
}

func authURL(t *testing.T, s goth.Session) string {
	t.Helper()
	u, err := s.GetAuthURL()
	require.NoError(t, err)
	return u
}

// approve lets the user allow the login, and returns the parameters of the callback.
func approve(t *testing.T, platform *shangcloudtest.Server, authURL string, uid int64) url.Values {
	t.Helper()
	back, err := platform.Approve(authURL, uid)
	require.NoError(t, err)
	return query(t, back)
}

func query(t *testing.T, address string) url.Values {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	return u.Query()
}

// site is a running application with gothic's handlers. gothic keeps its settings in
// package variables, so tests with a site do not run in parallel.
type site struct {
	*gothshangcloud.Provider
	platform *shangcloudtest.Server
	url      string

	begin, callback http.Handler // a test may wrap them

	mu   sync.Mutex
	user goth.User // result of the last callback
	err  error
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{platform: newPlatform(t)}
	mux := http.NewServeMux()
	mux.HandleFunc("/auth/{provider}", func(w http.ResponseWriter, r *http.Request) { s.begin.ServeHTTP(w, r) })
	mux.HandleFunc("/auth/{provider}/callback", func(w http.ResponseWriter, r *http.Request) { s.callback.ServeHTTP(w, r) })
	s.begin = oauth2login.NavigationsOnly(http.HandlerFunc(gothic.BeginAuthHandler))
	s.callback = oauth2login.NavigationsOnly(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.user, s.err = gothic.CompleteUserAuth(w, r); s.err != nil {
			http.Error(w, s.err.Error(), http.StatusForbidden)
			return
		}
		w.Write([]byte("hello " + s.user.NickName))
	}))
	app := httptest.NewServer(mux)
	t.Cleanup(app.Close)
	s.url = app.URL
	s.Provider = newProvider(t, s.platform, func(c *setup) { c.RedirectURL = app.URL + callbackPath })

	gothicStore(t)
	gothUse(t, s.Provider)
	return s
}

// gothicStore gives gothic a session store until the test ends.
func gothicStore(t *testing.T) {
	t.Helper()
	before := gothic.Store
	store := sessions.NewCookieStore([]byte("a key of 32 bytes, at least that"))
	store.Options = &sessions.Options{Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode}
	gothic.Store = store
	t.Cleanup(func() { gothic.Store = before })
}

// outcome returns the result of the last callback.
func (s *site) outcome() (goth.User, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.user, s.err
}

func (s *site) tokenRequests() int { return len(s.platform.Requests("/oauth/token")) }

// browser keeps cookies. It does not follow redirects by itself.
type browser struct {
	http.Client
	app     *url.URL
	answers []*http.Response
}

func (s *site) newBrowser(t *testing.T) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	app, err := url.Parse(s.url)
	require.NoError(t, err)
	b := &browser{app: app}
	b.Jar = jar
	b.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return b
}

// visit opens an address. If the answer is a redirect, visit returns the new address.
func (b *browser) visit(t *testing.T, address string) (location string) {
	t.Helper()
	res, err := b.Get(address)
	require.NoError(t, err)
	res.Body.Close()
	b.answers = append(b.answers, res)
	return res.Header.Get("Location")
}

// start begins a login and returns the address of the platform's page.
func (b *browser) start(t *testing.T, s *site, query string) string {
	t.Helper()
	to := b.visit(t, s.url+"/auth/shangcloud"+query)
	require.NotEmpty(t, to)
	return to
}

func (b *browser) cookies() []*http.Cookie { return b.Jar.Cookies(b.app) }

// sessions decodes the sessions that gothic has sent to the browser so far. Anyone who
// has the cookies can do so; the test uses gothic's own function.
func (b *browser) sessions(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, res := range b.answers {
		for _, c := range res.Cookies() {
			r := httptest.NewRequest("GET", b.app.String(), nil)
			r.AddCookie(c)
			if v, err := gothic.GetFromSession("shangcloud", r); err == nil {
				all = append(all, v)
			}
		}
	}
	return all
}
