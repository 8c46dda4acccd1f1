package shangcloud_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

func TestNew(t *testing.T) {
	conf := &oauth2.Config{ClientID: "demo", ClientSecret: "hush-hush", RedirectURL: "https://app.example/callback"}
	p, err := shangcloud.New(conf, nil)
	require.NoError(t, err)
	assert.Equal(t, shangcloud.Endpoint, p.OAuth2().Endpoint)
	assert.Equal(t, []string{shangcloud.ScopeUserBasic}, p.OAuth2().Scopes)
	assert.Empty(t, conf.Scopes, "the caller's config is not changed")

	conf.Scopes = []string{shangcloud.ScopeVariables}
	conf.Endpoint = shangcloud.EndpointAt("https://staging.example/below/")
	p, err = shangcloud.New(conf, nil)
	require.NoError(t, err)
	assert.Equal(t, []string{"var:io"}, p.OAuth2().Scopes)
	assert.Equal(t, "https://staging.example/below/oauth/token", p.OAuth2().Endpoint.TokenURL)
}

func TestNewRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		conf *oauth2.Config
		text string
	}{
		"no config":            {nil, "shangcloud: the oauth2.Config is nil"},
		"no client ID":         {&oauth2.Config{RedirectURL: "https://app.example/"}, "shangcloud: oauth2login: ClientID is empty"},
		"no redirect URL":      {&oauth2.Config{ClientID: "a"}, "shangcloud: oauth2login: RedirectURL: not an absolute URL"},
		"another provider":     {&oauth2.Config{ClientID: "a", Endpoint: oauth2.Endpoint{TokenURL: "https://github.com/login/oauth/access_token"}}, "shangcloud: Endpoint.TokenURL is not that of a ShangCloud deployment; use EndpointAt"},
		"plain http":           {&oauth2.Config{ClientID: "a", RedirectURL: "https://app.example/", Endpoint: shangcloud.EndpointAt("http://intra.example")}, "shangcloud: oauth2login: Endpoint.AuthURL: plain http is for loopback hosts only"},
		"a colon and a secret": {&oauth2.Config{ClientID: "a:b", ClientSecret: "c", RedirectURL: "https://app.example/"}, "shangcloud: oauth2login: ClientID contains a colon, which raw HTTP Basic can't carry"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := shangcloud.New(c.conf, nil)
			assert.Nil(t, p)
			assert.EqualError(t, err, c.text)
		})
	}
}

// finish runs a login of a browser that keeps its cookies.
func finish(t *testing.T, p *shangcloud.Provider, platform *shangcloudtest.Server) (*oauth2login.Login, error) {
	t.Helper()
	start := httptest.NewRecorder()
	require.NoError(t, p.StartLogin(start, httptest.NewRequest("GET", "/login", nil), oauth2login.WithReturnTo("/album")))
	back, err := platform.Approve(start.Header().Get("Location"), 10001)
	require.NoError(t, err)
	r := httptest.NewRequest("GET", back, nil)
	for _, c := range start.Result().Cookies() {
		r.AddCookie(c)
	}
	return p.FinishLogin(httptest.NewRecorder(), r)
}

func TestProviderLogin(t *testing.T) {
	platform := newPlatform(t)
	p := newProvider(t, platform)
	login, err := finish(t, p, platform)
	require.NoError(t, err)
	assert.Equal(t, "/album", login.ReturnTo)
	assert.Equal(t, []string{"user:basic"}, login.Scopes)
	user, err := p.API(p.TokenSource(login.Token)).UserInfo(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "小明", user.Nickname)
}

func TestProviderQuirks(t *testing.T) {
	platform := newPlatform(t)
	const id, secret = "应用 +/=%", "s:+/= %&密"
	platform.AddClient(shangcloudtest.Client{ID: id, Secret: secret, RedirectURIs: []string{"https://app.example/callback"}})
	platform.Configure(func(s *shangcloudtest.Settings) { s.ExpiresIn = shangcloudtest.ExpiresInAbsent })
	conf := config(platform.URL)
	conf.ClientID, conf.ClientSecret = id, secret

	p, err := shangcloud.New(conf, nil)
	require.NoError(t, err)
	login, err := finish(t, p, platform)
	require.NoError(t, err, "client ID and secret are sent as they are")
	assert.InDelta(t, time.Hour, time.Until(login.Token.Expiry), float64(time.Minute), "an hour is assumed")

	p, err = shangcloud.New(conf, nil, oauth2login.WithAssumedLifetime(time.Minute))
	require.NoError(t, err)
	login, err = finish(t, p, platform)
	require.NoError(t, err)
	assert.Less(t, time.Until(login.Token.Expiry), 2*time.Minute, "the application's option wins")
}

func TestProviderPublicClient(t *testing.T) {
	platform := newPlatform(t)
	platform.AddClient(shangcloudtest.Client{ID: "game", RedirectURIs: []string{"https://app.example/callback"}})
	conf := config(platform.URL)
	conf.ClientID, conf.ClientSecret = "game", ""
	p, err := shangcloud.New(conf, nil)
	require.NoError(t, err)
	_, err = finish(t, p, platform)
	require.NoError(t, err)
	assert.NotContains(t, platform.Requests("/oauth/token")[0].Header, "Authorization")
}

func TestProviderAPIStaysAtItsDeployment(t *testing.T) {
	platform := newPlatform(t)
	hc := newProvider(t, platform).Client(oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "at"}))
	req, err := http.NewRequestWithContext(t.Context(), "GET", shangcloud.DefaultBaseURL, nil)
	require.NoError(t, err)
	_, err = hc.Do(req)
	assert.ErrorContains(t, err, "the token is for "+platform.URL+" only; pass the other origin to Provider.Client")
}
