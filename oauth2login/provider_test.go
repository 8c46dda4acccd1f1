package oauth2login_test

import (
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// TestBadConfig passes what New has to refuse. The error names the field.
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

// assertNotNew makes sure that New refuses its arguments, names the field and keeps the
// secret.
func assertNotNew(t *testing.T, field string, conf *oauth2.Config, shared *oauth2login.Options, row ...oauth2login.ProviderOption) {
	t.Helper()
	p, err := oauth2login.New(conf, shared, row...)
	require.ErrorContains(t, err, field)
	assert.Nil(t, p)
	assert.NotContains(t, err.Error(), imitatedSecret)
}
