//go:build unported

package shangcloud_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

func TestEndpoint(t *testing.T) {
	want := oauth2.Endpoint{
		AuthURL:       "https://api.yearnstudio.cn/oauth/authorize",
		TokenURL:      "https://api.yearnstudio.cn/oauth/token",
		DeviceAuthURL: "https://api.yearnstudio.cn/oauth/device_authorization",
		AuthStyle:     oauth2.AuthStyleInHeader,
	}
	assert.Equal(t, want, shangcloud.Endpoint)
	assert.Equal(t, want, shangcloud.EndpointAt("https://api.yearnstudio.cn/"))
	assert.Equal(t, "http://127.0.0.1:1/below/oauth/token", shangcloud.EndpointAt("http://127.0.0.1:1/below").TokenURL)
}

// valid is the least that New accepts.
func valid() shangcloud.Config {
	return shangcloud.Config{ClientID: "demo", ClientSecret: "hush-hush", RedirectURL: "https://app.example/callback", StateKeys: stateKeys}
}

// stateKeys are those of all sites. TestSealedLogins has some.
var stateKeys [][]byte

func TestNewDefaults(t *testing.T) {
	c := valid()
	c.Scopes = []string{"user:basic"}
	p, err := shangcloud.New(c)
	require.NoError(t, err)
	c.Scopes[0] = "changed"
	assert.Equal(t, []string{"user:basic"}, p.OAuth2().Scopes, "New takes a copy")

	p, err = shangcloud.New(valid())
	require.NoError(t, err)
	conf := p.OAuth2()
	assert.Equal(t, shangcloud.Endpoint, conf.Endpoint)
	assert.Equal(t, []string{"user:basic"}, conf.Scopes)
	assert.Equal(t, "demo", conf.ClientID)
	assert.Equal(t, "hush-hush", conf.ClientSecret)
	assert.Equal(t, "https://app.example/callback", conf.RedirectURL)

	conf.Scopes[0] = "changed"
	conf.ClientID = "changed"
	assert.Equal(t, []string{"user:basic"}, p.OAuth2().Scopes, "OAuth2 gives a copy")
	assert.Equal(t, "demo", p.OAuth2().ClientID)
}

func TestNewAccepts(t *testing.T) {
	for name, change := range map[string]func(*shangcloud.Config){
		"base URL with a slash":          func(c *shangcloud.Config) { c.BaseURL = "https://staging.example/" },
		"base URL with a path":           func(c *shangcloud.Config) { c.BaseURL = "https://example.com/shangcloud" },
		"base URL http on 127.0.0.1":     func(c *shangcloud.Config) { c.BaseURL = "http://127.0.0.1:8080" },
		"base URL http on ::1":           func(c *shangcloud.Config) { c.BaseURL = "http://[::1]:8080" },
		"base URL http on localhost":     func(c *shangcloud.Config) { c.BaseURL = "http://localhost" },
		"base URL http with the opt-out": func(c *shangcloud.Config) { c.BaseURL = "http://intra.example"; c.AllowHTTP = true },
		"redirect URL http on loopback":  func(c *shangcloud.Config) { c.RedirectURL = "http://localhost:3000/cb" },
		"redirect URL with a query":      func(c *shangcloud.Config) { c.RedirectURL = "https://app.example/cb?p=shangcloud" },
		"redirect URL of an app":         func(c *shangcloud.Config) { c.RedirectURL = "com.example.app:/callback" },
		"redirect URL http with opt-out": func(c *shangcloud.Config) { c.RedirectURL = "http://intra.example/cb"; c.AllowHTTP = true },
		"scopes":                         func(c *shangcloud.Config) { c.Scopes = []string{"user:basic", "var:io", "mmo"} },
		"public client":                  func(c *shangcloud.Config) { c.ClientSecret = "" },
		"no PKCE":                        func(c *shangcloud.Config) { c.DisablePKCE = true },
		"public client's colon":          func(c *shangcloud.Config) { c.ClientID, c.ClientSecret = "a:b", "" },
		"client ID of any characters":    func(c *shangcloud.Config) { c.ClientID = "应用 +/=%" },
	} {
		t.Run(name, func(t *testing.T) {
			c := valid()
			change(&c)
			_, err := shangcloud.New(c)
			assert.NoError(t, err)
		})
	}
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct {
		field  string
		change func(*shangcloud.Config)
	}{
		{"ClientID", func(c *shangcloud.Config) { c.ClientID = "" }},
		{"ClientID", func(c *shangcloud.Config) { c.ClientID = "a\nb" }},
		{"ClientID", func(c *shangcloud.Config) { c.ClientID = "a\x7f" }},
		{"ClientID", func(c *shangcloud.Config) { c.ClientID = "a:b" }},
		{"RedirectURL", func(c *shangcloud.Config) { c.RedirectURL = "" }},
		{"RedirectURL", func(c *shangcloud.Config) { c.RedirectURL = "/callback" }},
		{"RedirectURL", func(c *shangcloud.Config) { c.RedirectURL = "app.example/callback" }},
		{"RedirectURL", func(c *shangcloud.Config) { c.RedirectURL = "//app.example/callback" }},
		{"RedirectURL", func(c *shangcloud.Config) { c.RedirectURL = "https://app.example/callback#frag" }},
		{"RedirectURL", func(c *shangcloud.Config) { c.RedirectURL = "https://app.example/callback#" }},
		{"RedirectURL", func(c *shangcloud.Config) { c.RedirectURL = "https:///callback" }},
		{"RedirectURL", func(c *shangcloud.Config) { c.RedirectURL = "https://u:p@app.example/callback" }},
		{"RedirectURL", func(c *shangcloud.Config) { c.RedirectURL = "https://u:hush-hush@app.example/%zz" }},
		{"RedirectURL", func(c *shangcloud.Config) { c.RedirectURL = "http://app.example/callback" }},
		{"RedirectURL", func(c *shangcloud.Config) { c.RedirectURL = "javascript:alert(1)" }},
		{"RedirectURL", func(c *shangcloud.Config) { c.RedirectURL = "https://app.example/\x7f" }},
		{"RedirectURL", func(c *shangcloud.Config) { c.RedirectURL = "https://app.example/callback " }},
		{"RedirectURL", func(c *shangcloud.Config) { c.RedirectURL = "https://app.example/callback?state=x" }},
		{"RedirectURL", func(c *shangcloud.Config) { c.RedirectURL = "https://app.example:99999/callback" }},
		{"ClientSecret", func(c *shangcloud.Config) { c.ClientSecret = "hush-hush\n" }},
		{"BaseURL", func(c *shangcloud.Config) { c.BaseURL = "https://api.example:99999" }},
		{"BaseURL", func(c *shangcloud.Config) { c.BaseURL = "https://api.example:" }},
		{"BaseURL", func(c *shangcloud.Config) { c.BaseURL = "http://api.yearnstudio.cn" }},
		{"Issuer", func(c *shangcloud.Config) { c.Issuer = "api.yearnstudio.cn" }},
		{"Issuer", func(c *shangcloud.Config) { c.Issuer = "https://api.yearnstudio.cn?x" }},
		{"BaseURL", func(c *shangcloud.Config) { c.BaseURL = "http://127.0.0.1.example" }},
		{"BaseURL", func(c *shangcloud.Config) { c.BaseURL = "http://127.0.0.1@evil.example" }},
		{"BaseURL", func(c *shangcloud.Config) { c.BaseURL = "http://localhost.evil.example" }},
		{"BaseURL", func(c *shangcloud.Config) { c.BaseURL = "http://evil-localhost" }},
		{"BaseURL", func(c *shangcloud.Config) { c.BaseURL = "api.yearnstudio.cn" }},
		{"BaseURL", func(c *shangcloud.Config) { c.BaseURL = "ftp://api.yearnstudio.cn" }},
		{"BaseURL", func(c *shangcloud.Config) { c.BaseURL = "https://" }},
		{"BaseURL", func(c *shangcloud.Config) { c.BaseURL = "https://u:p@example.com" }},
		{"BaseURL", func(c *shangcloud.Config) { c.BaseURL = "https://example.com?x=1" }},
		{"BaseURL", func(c *shangcloud.Config) { c.BaseURL = "https://example.com/#" }},
		{"Scopes", func(c *shangcloud.Config) { c.Scopes = []string{""} }},
		{"Scopes", func(c *shangcloud.Config) { c.Scopes = []string{"user:basic var:io"} }},
		{"Scopes", func(c *shangcloud.Config) { c.Scopes = []string{`a"b`} }},
		{"Scopes", func(c *shangcloud.Config) { c.Scopes = []string{`a\b`} }},
		{"Scopes", func(c *shangcloud.Config) { c.Scopes = []string{"变量"} }},
		{"DisablePKCE", func(c *shangcloud.Config) { c.ClientSecret = ""; c.DisablePKCE = true }},
	} {
		conf := valid()
		c.change(&conf)
		t.Run(fmt.Sprint(c.field, conf), func(t *testing.T) {
			p, err := shangcloud.New(conf)
			assert.Nil(t, p)
			require.Error(t, err)
			assert.True(t, strings.HasPrefix(err.Error(), "shangcloud: Config."+c.field), err.Error())
			assert.NotContains(t, err.Error(), "hush-hush")
		})
	}
}

func TestSetClientSecret(t *testing.T) {
	server := newRecorder(t)
	c := valid()
	c.BaseURL = server.URL
	p, err := shangcloud.New(c)
	require.NoError(t, err)

	authURL, err := p.AuthCodeURL(t.Context())
	require.NoError(t, err)
	p.SetClientSecret("new one") // the login under way goes on with it
	_, err = p.Exchange(t.Context(), queryOf(t, authURL).Get("state"), "code")
	require.NoError(t, err)
	r, err := http.NewRequest("POST", "/", nil)
	require.NoError(t, err)
	r.Header.Set("Authorization", server.take()[0].Headers["Authorization"])
	id, secret, _ := r.BasicAuth()
	assert.Equal(t, "demo", id)
	assert.Equal(t, "new one", secret)
	assert.Equal(t, "new one", p.OAuth2().ClientSecret)

	p.SetClientSecret("")
	assert.Equal(t, oauth2.AuthStyleInParams, p.OAuth2().Endpoint.AuthStyle)
}

func TestSetClientSecretWhileLoginsRun(t *testing.T) {
	server := newRecorder(t)
	c := valid()
	c.BaseURL = server.URL
	p, err := shangcloud.New(c)
	require.NoError(t, err)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			p.SetClientSecret(fmt.Sprint("secret", i))
			authURL, err := p.AuthCodeURL(t.Context())
			if assert.NoError(t, err) {
				_, err = p.Exchange(t.Context(), queryOf(t, authURL).Get("state"), "code")
				assert.NoError(t, err)
			}
		})
	}
	wg.Wait()
	assert.Len(t, server.take(), 16)
}

// TestNothingSecretIsPrinted prints what holds secrets in every way there is.
func TestNothingSecretIsPrinted(t *testing.T) {
	conf := valid()
	p, err := shangcloud.New(conf)
	require.NoError(t, err)
	tok := &oauth2.Token{AccessToken: "hush-hush", RefreshToken: "hush-hush"}
	login := shangcloud.Login{Token: tok, ReturnTo: "/", Value: "hush-hush"}
	apiErr := &shangcloud.APIError{StatusCode: 403, Code: "insufficient_scope", Message: "hush-hush", Body: []byte("hush-hush")}
	for _, v := range []any{
		conf, &conf, []shangcloud.Config{conf}, struct{ C shangcloud.Config }{conf},
		p, struct{ P *shangcloud.Provider }{p}, *p.API(p.TokenSource(tok, nil)), p.API(p.TokenSource(tok, nil)),
		login, &login, struct{ L *shangcloud.Login }{&login},
		p.TokenSource(tok, nil), apiErr, fmt.Errorf("wrapped: %w", apiErr),
	} {
		var out strings.Builder
		for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			fmt.Fprintf(&out, format+"\n", v)
		}
		data, _ := json.Marshal(v)
		out.Write(data)
		slog.New(slog.NewTextHandler(&out, nil)).Info("text", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("json", "v", v)
		assert.NotContains(t, out.String(), "hush", "%T", v)
		assert.NotContains(t, out.String(), "68757368", "%T in hexadecimal", v)
		assert.NotEmpty(t, out.String())
	}
	assert.Equal(t, `shangcloud.Config{ClientID:"demo" RedirectURL:"https://app.example/callback" BaseURL:""}`, fmt.Sprint(conf))
	assert.Equal(t, `shangcloud.Provider{ClientID:"demo" BaseURL:"https://api.yearnstudio.cn"}`, fmt.Sprintf("%#v", p))
	assert.Equal(t, "shangcloud.TokenSource", fmt.Sprintf("%#v", p.TokenSource(tok, nil)))
	assert.Equal(t, `"shangcloud.Login{ReturnTo:\"/\"}"`, fmt.Sprintf("%q", login))
}
