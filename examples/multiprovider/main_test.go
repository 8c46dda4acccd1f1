package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/runtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const secret = "s3cret-of-the-test"

// startRun runs the program and returns the address that it prints.
func startRun(t *testing.T, getenv func(string) string) (home string) {
	t.Helper()
	return runtest.Home(t, func(ctx context.Context, out io.Writer) error { return run(ctx, "127.0.0.1:0", "", getenv, out) })
}

// The program as a newcomer starts it: without any settings.
func TestRunWithNothingSet(t *testing.T) {
	s := &site{url: startRun(t, runtest.Env())}
	b := newBrowser(t)
	page := b.get(s.url)
	assert.Equal(t, 3, strings.Count(page.body, "("+english.StandIn+")"))
	assert.Contains(t, page.body, english.UseReal)
	account := b.signIn(s, "shangcloud", 0).account()
	assert.NotEmpty(t, account)
	assert.Equal(t, account, b.link(s, "github", 1).account())
}

// Setting a provider's credentials replaces the stand-in of this provider only.
func TestRealProviders(t *testing.T) {
	hosts := map[string]string{"github": "github.com", "google": "accounts.google.com", "shangcloud": "api.yearnstudio.cn"}
	scopes := map[string]string{"github": "", "google": "openid profile email", "shangcloud": "user:basic"}
	for _, set := range [][]string{{"github"}, {"google"}, {"shangcloud"}, {"github", "google", "shangcloud"}} {
		t.Run(strings.Join(set, " "), func(t *testing.T) {
			var pairs []string
			isSet := make(map[string]bool)
			for _, p := range set {
				pairs = append(pairs, strings.ToUpper(p)+"_CLIENT_ID", "id-of-"+p, strings.ToUpper(p)+"_CLIENT_SECRET", secret)
				isSet[p] = true
			}
			home := startRun(t, runtest.Env(pairs...))
			page := newBrowser(t).get(home)
			assert.Equal(t, 3-len(set), strings.Count(page.body, "("+english.StandIn+")"))
			assert.NotContains(t, page.body, secret)
			for _, p := range everyProvider {
				to, err := url.Parse(newBrowser(t).stay(home + "/login/" + p).Header.Get("Location"))
				require.NoError(t, err)
				q := to.Query()
				assert.Equal(t, home+"/callback/"+p, q.Get("redirect_uri"))
				assert.Equal(t, scopes[p], q.Get("scope"))
				assert.Equal(t, "S256", q.Get("code_challenge_method"))
				if isSet[p] {
					assert.Equal(t, "https://"+hosts[p], origin(to.String()))
					assert.Equal(t, "id-of-"+p, q.Get("client_id"))
				} else {
					assert.Equal(t, "127.0.0.1", to.Hostname())
				}
			}
		})
	}

	// With credentials, the API requests also go to the real providers.
	rows := table()
	require.NoError(t, configure(rows, "https://app.example", runtest.Env("GITHUB_CLIENT_ID", "a", "GITHUB_CLIENT_SECRET", "b",
		"GOOGLE_CLIENT_ID", "a", "GOOGLE_CLIENT_SECRET", "b",
		"SHANGCLOUD_CLIENT_ID", "a", "SHANGCLOUD_CLIENT_SECRET", "b", "SHANGCLOUD_BASE_URL", "https://staging.example")))
	stop, err := startStandIns(rows)
	require.NoError(t, err)
	defer stop()
	for _, p := range rows {
		assert.False(t, p.StandIn)
		assert.Equal(t, "b", p.Config.ClientSecret)
		for _, u := range []string{p.API, p.Config.Endpoint.TokenURL} {
			assert.True(t, strings.HasPrefix(u, "https://"), u)
		}
	}
	assert.Equal(t, "https://staging.example", rows[2].API)
	assert.Equal(t, shangcloud.EndpointAt("https://staging.example"), rows[2].Config.Endpoint)
}

func TestConfigure(t *testing.T) {
	for name, c := range map[string]struct {
		env  []string
		says string
	}{
		"ID only":           {[]string{"GITHUB_CLIENT_ID", "id"}, "set both GITHUB_CLIENT_ID and GITHUB_CLIENT_SECRET"},
		"secret only":       {[]string{"GOOGLE_CLIENT_SECRET", secret}, "set both GOOGLE_CLIENT_ID"},
		"base URL only":     {[]string{"SHANGCLOUD_BASE_URL", "https://x.example"}, "SHANGCLOUD_CLIENT_ID is not"},
		"insecure base URL": {[]string{"SHANGCLOUD_CLIENT_ID", "id", "SHANGCLOUD_CLIENT_SECRET", secret, "SHANGCLOUD_BASE_URL", "http://x.example"}, "https"},
	} {
		t.Run(name, func(t *testing.T) {
			err := run(t.Context(), "127.0.0.1:0", "", runtest.Env(c.env...), io.Discard)
			require.Error(t, err)
			assert.Contains(t, err.Error(), c.says)
			assert.NotContains(t, err.Error(), secret)
		})
	}
}

func TestHome(t *testing.T) {
	for s, want := range map[string]string{
		"https://App.example/":   "https://app.example",
		"http://127.0.0.1:8080":  "http://127.0.0.1:8080",
		"http://localhost:80":    "http://localhost",
		"http://[::1]:8080":      "http://[::1]:8080",
		"http://app.example":     "",
		"http://192.168.0.1:80":  "",
		"https://app.example/a":  "",
		"https://app.example?a":  "",
		"https://a@app.example/": "",
		"app.example":            "",
		"":                       "",
	} {
		got, err := checkHome(s)
		assert.Equal(t, want, got, s)
		assert.Equal(t, want == "", err != nil, s)
	}
}

func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	err = run(t.Context(), l.Addr().String(), "", runtest.Env(), io.Discard)
	require.Error(t, err)
	assert.Contains(t, err.Error(), l.Addr().String())
	assert.Contains(t, err.Error(), "-addr 127.0.0.1:0")
}

// Behind a proxy that speaks https, the cookies are for https only.
func TestHTTPS(t *testing.T) {
	rows := table()
	require.NoError(t, configure(rows, "https://app.example", runtest.Env()))
	stop, err := startStandIns(rows)
	require.NoError(t, err)
	defer stop()
	a, err := newApp("https://app.example", rows)
	require.NoError(t, err)
	w := httptest.NewRecorder()
	a.ServeHTTP(w, httptest.NewRequest("GET", "http://127.0.0.1:8080/login/github", nil))
	a.setCookie(w, "x", sessionLifetime)
	cookies := (&http.Response{Header: w.Header()}).Cookies()
	require.Len(t, cookies, 2)
	for _, c := range cookies {
		assert.True(t, strings.HasPrefix(c.Name, "__Host-"))
		assert.True(t, c.Secure && c.HttpOnly && c.Path == "/" && c.Domain == "")
	}
	assert.Contains(t, w.Header().Get("Location"), "redirect_uri=https%3A%2F%2Fapp.example%2Fcallback%2Fgithub")
}

func TestAllTextsAreThere(t *testing.T) {
	for _, lang := range []*texts{&english, &chinese} {
		v := reflect.ValueOf(*lang)
		for i := range v.NumField() {
			name := lang.Lang + " " + v.Type().Field(i).Name
			switch field := v.Field(i).Interface().(type) {
			case string:
				assert.NotEmpty(t, field, name)
			case text:
				assert.NotEmpty(t, field.Title, name)
				assert.NotEmpty(t, field.Text, name)
			case map[notice]string:
				assert.Len(t, field, 5, name)
			}
		}
	}
}
