package oauth2login_test

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// TestBadConfig passes configurations that New must refuse. The error names the field.
func TestBadConfig(t *testing.T) {
	badURLs := map[string]string{
		"relative":         "/oauth",
		"script":           "javascript:alert(1)",
		"plain http":       "http://provider.example/oauth",
		"fragment":         "https://provider.example/oauth#top",
		"template":         "https://provider.example/{tenant}/oauth",
		"user info":        "https://user@provider.example/oauth",
		"empty host label": "https://provider..example/oauth",
		"no host":          "https:///oauth",
		"no URL":           "https://provider.example/%zz",
		"space":            "https://provider.example/o auth",
	}
	fields := map[string]func(*oauth2.Config) *string{
		"Endpoint.AuthURL":       func(c *oauth2.Config) *string { return &c.Endpoint.AuthURL },
		"Endpoint.TokenURL":      func(c *oauth2.Config) *string { return &c.Endpoint.TokenURL },
		"Endpoint.DeviceAuthURL": func(c *oauth2.Config) *string { return &c.Endpoint.DeviceAuthURL },
		"RedirectURL":            func(c *oauth2.Config) *string { return &c.RedirectURL },
	}
	ownParams := map[string]string{
		"Endpoint.AuthURL": "state", "Endpoint.TokenURL": "code", "Endpoint.DeviceAuthURL": "client_id", "RedirectURL": "state",
	}
	for field, of := range fields {
		try := func(name, value string) {
			t.Run(field+"/"+name, func(t *testing.T) {
				conf := imitateGitHub(t).config("one")
				*of(conf) = value
				assertNotNew(t, field, conf, nil)
			})
		}
		for name, address := range badURLs {
			try(name, address)
		}
		try("a parameter of ours", "https://provider.example/oauth?"+ownParams[field]+"=x")
		if field != "Endpoint.DeviceAuthURL" {
			try("empty", "")
		}
	}
	t.Run("nil", func(t *testing.T) { assertNotNew(t, "oauth2.Config is nil", nil, nil) })
	for field, change := range map[string]func(*oauth2.Config){
		"ClientID":           func(c *oauth2.Config) { c.ClientID = "" },
		"ClientID contains":  func(c *oauth2.Config) { c.ClientID = "a\nb" },
		"ClientSecret":       func(c *oauth2.Config) { c.ClientSecret = imitatedSecret + "\n" },
		"Endpoint.AuthStyle": func(c *oauth2.Config) { c.Endpoint.AuthStyle = 7 },
		"Scopes":             func(c *oauth2.Config) { c.Scopes = []string{"two words"} },
	} {
		t.Run(field, func(t *testing.T) {
			conf := imitateGitHub(t).config("one")
			change(conf)
			assertNotNew(t, field, conf, nil)
		})
	}
}

func TestBadOptions(t *testing.T) {
	key := make([]byte, 32)
	for name, c := range map[string]struct {
		field  string
		shared oauth2login.Options
	}{
		"lifetime/negative":  {"Options.LoginLifetime", oauth2login.Options{LoginLifetime: -1}},
		"lifetime/too long":  {"Options.LoginLifetime", oauth2login.Options{LoginLifetime: 2 * time.Hour}},
		"time-out/too short": {"Options.Timeout", oauth2login.Options{Timeout: time.Millisecond}},
		"time-out/too long":  {"Options.Timeout", oauth2login.Options{Timeout: time.Hour}},
		"keys/none":          {"Options.StateKeys", oauth2login.Options{StateKeys: [][]byte{}}},
		"keys/short":         {"Options.StateKeys", oauth2login.Options{StateKeys: [][]byte{key, key[:31]}}},
		"keys/long":          {"Options.StateKeys", oauth2login.Options{StateKeys: [][]byte{make([]byte, 33)}}},
		"keys and a store":   {"Options.StateKeys", oauth2login.Options{StateKeys: [][]byte{key}, States: state.NewMemory(0)}},
	} {
		t.Run(name, func(t *testing.T) {
			assertNotNew(t, c.field, imitateGitHub(t).config("one"), &c.shared)
		})
	}
	publicClient := func(c *oauth2.Config) { c.ClientSecret = "" }
	for name, c := range map[string]struct {
		field  string
		option oauth2login.ProviderOption
		change func(*oauth2.Config)
	}{
		"issuer/relative":             {"WithIssuer", oauth2login.WithIssuer("accounts"), nil},
		"issuer/query":                {"WithIssuer", oauth2login.WithIssuer("https://provider.example/?a=b"), nil},
		"redirect URL/relative":       {"WithRedirectURLs", oauth2login.WithRedirectURLs("/callback"), nil},
		"redirect URL/parameter":      {"WithRedirectURLs", oauth2login.WithRedirectURLs("https://app.example/?code=c"), nil},
		"redirect URL/http and https": {"WithRedirectURLs", oauth2login.WithRedirectURLs("http://127.0.0.1/callback"), nil},
		"assumed lifetime/negative":   {"WithAssumedLifetime", oauth2login.WithAssumedLifetime(-1), nil},
		"assumed lifetime/too long":   {"WithAssumedLifetime", oauth2login.WithAssumedLifetime(9000 * time.Hour), nil},
		"no PKCE and no secret":       {"WithoutPKCE", oauth2login.WithoutPKCE(), publicClient},
		"raw Basic and a colon":       {"ClientID", oauth2login.WithRawBasicAuth(), func(c *oauth2.Config) { c.ClientID = "a:b" }},
	} {
		t.Run(name, func(t *testing.T) {
			conf := imitateGitHub(t).config("one")
			if c.change != nil {
				c.change(conf)
			}
			assertNotNew(t, c.field, conf, nil, c.option)
		})
	}
}

// assertNotNew checks that New refuses its arguments, and that the error names the field
// and does not contain the secret.
func assertNotNew(t *testing.T, field string, conf *oauth2.Config, shared *oauth2login.Options, row ...oauth2login.ProviderOption) {
	t.Helper()
	p, err := oauth2login.New(conf, shared, row...)
	require.ErrorContains(t, err, field)
	assert.Nil(t, p)
	assert.NotContains(t, err.Error(), imitatedSecret)
}

func TestNewAccepts(t *testing.T) {
	for name, change := range map[string]func(*setup){
		"http on 127.0.0.1":           func(c *setup) { c.Endpoint = endpointAt("http://127.0.0.1:8080") },
		"http on ::1":                 func(c *setup) { c.Endpoint = endpointAt("http://[::1]:8080") },
		"http on localhost":           func(c *setup) { c.Endpoint, c.RedirectURL = endpointAt("http://localhost"), "http://localhost:3000/cb" },
		"endpoint with a query":       func(c *setup) { c.Endpoint.AuthURL += "?tenant=a" },
		"no device endpoint":          func(c *setup) { c.Endpoint.DeviceAuthURL = "" },
		"redirect URL with a query":   func(c *setup) { c.RedirectURL += "?p=provider" },
		"redirect URL of an app":      func(c *setup) { c.RedirectURL = "com.example.app:/callback" },
		"public client":               func(c *setup) { c.ClientSecret = "" },
		"public client with a colon":  func(c *setup) { c.ClientID, c.ClientSecret = "a:b", "" },
		"client ID of any characters": func(c *setup) { c.ClientID = "应用 +/=%" },
		"no scopes":                   func(c *setup) { c.Scopes = nil },
		"http on every host": func(c *setup) {
			c.Endpoint, c.RedirectURL = endpointAt("http://intra.example"), "http://intra.example/cb"
			c.row = append(c.row, oauth2login.WithPlainHTTP())
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := valid("https://provider.example")
			change(c)
			_, err := oauth2login.New(&c.Config, &c.Options, c.row...)
			assert.NoError(t, err)
		})
	}
}

// New copies the application's configuration, and OAuth2 returns a copy.
func TestConfigIsCopied(t *testing.T) {
	c := valid("https://provider.example")
	p := c.provider(t)
	want := c.Config
	want.Scopes = []string{"user:basic"}
	c.Scopes[0], c.ClientID = "changed", "changed"
	got := p.OAuth2()
	assert.Equal(t, &want, got)
	got.Scopes[0], got.ClientID = "changed", "changed"
	assert.Equal(t, &want, p.OAuth2())
}

// OAuth2 never returns AuthStyle 0, with which x/oauth2 would send a code twice.
func TestOAuth2AuthStyle(t *testing.T) {
	for name, c := range map[string]struct {
		secret      string
		style, want oauth2.AuthStyle
	}{
		"unknown":       {"hush-hush", oauth2.AuthStyleAutoDetect, oauth2.AuthStyleInHeader},
		"header":        {"hush-hush", oauth2.AuthStyleInHeader, oauth2.AuthStyleInHeader},
		"form":          {"hush-hush", oauth2.AuthStyleInParams, oauth2.AuthStyleInParams},
		"public client": {"", oauth2.AuthStyleInHeader, oauth2.AuthStyleInParams},
	} {
		conf := valid("https://provider.example")
		conf.ClientSecret, conf.Endpoint.AuthStyle = c.secret, c.style
		assert.Equal(t, c.want, conf.provider(t).OAuth2().Endpoint.AuthStyle, name)
	}
}

func TestSetClientSecret(t *testing.T) {
	s, b := newSite(t, func(c *setup) { c.ClientSecret = "old" }), newBrowser(t)
	callbackURL := authorize(t, b.start(t, s))
	require.NoError(t, s.SetClientSecret("hush-hush"))
	_, err := b.finish(s, callbackURL)
	require.NoError(t, err, "the login under way goes on")
	assert.Equal(t, "hush-hush", s.OAuth2().ClientSecret)

	err = s.SetClientSecret("unusable\n")
	require.ErrorContains(t, err, "ClientSecret")
	assert.NotContains(t, err.Error(), "unusable")
	assert.Equal(t, "hush-hush", s.OAuth2().ClientSecret)

	require.NoError(t, s.SetClientSecret(""))
	assert.Equal(t, oauth2.AuthStyleInParams, s.OAuth2().Endpoint.AuthStyle)
}

// SetClientSecret makes the same checks as New. If it returns an error, it changes nothing.
func TestSetClientSecretRefuses(t *testing.T) {
	colon := func(c *setup) { c.ClientID = "a:b" }
	styles := func(row ...oauth2login.ProviderOption) func(*setup) { return func(c *setup) { c.row = row } }
	for name, c := range map[string]struct {
		change func(*setup)
		secret string
	}{
		"line feed":             {styles(), "bad secret\n"},
		"carriage return":       {styles(), "bad\rsecret"},
		"NUL":                   {styles(), "bad\x00secret"},
		"DEL":                   {styles(), "bad secret\x7f"},
		"none, without PKCE":    {styles(oauth2login.WithoutPKCE()), ""},
		"raw Basic and a colon": {func(c *setup) { styles(oauth2login.WithRawBasicAuth())(c); colon(c) }, "bad secret"},
	} {
		t.Run(name, func(t *testing.T) {
			conf := valid("https://provider.example")
			c.change(conf)
			conf.ClientSecret = c.secret
			_, refused := oauth2login.New(&conf.Config, nil, conf.row...)
			require.Error(t, refused)

			conf.ClientSecret = "good"
			if conf.ClientID == "a:b" {
				conf.ClientSecret = "" // a public client becomes a confidential one
			}
			p := conf.provider(t)
			err := p.SetClientSecret(c.secret)
			require.Error(t, err)
			_, reason, _ := strings.Cut(refused.Error(), ": ")
			assert.ErrorContains(t, err, reason)
			assert.NotContains(t, err.Error(), "bad")
			assert.Equal(t, conf.ClientSecret, p.OAuth2().ClientSecret)
		})
	}
}

func TestSetClientSecretWhileLoginsRun(t *testing.T) {
	s := newSite(t)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			assert.NoError(t, s.SetClientSecret(fmt.Sprint("secret", i)))
			w := httptest.NewRecorder()
			assert.NoError(t, s.StartLogin(w, httptest.NewRequest("GET", "/login", nil)))
			r := httptest.NewRequest("GET", s.redirect+"?code=c&state="+mustParse(w.Header().Get("Location")).Query().Get("state"), nil)
			r.AddCookie(w.Result().Cookies()[0])
			_, err := s.FinishLogin(httptest.NewRecorder(), r)
			assert.ErrorIs(t, err, oauth2login.ErrClientCredentials)
		})
	}
	wg.Wait()
	assert.Equal(t, 16, s.tokenRequests())
}
