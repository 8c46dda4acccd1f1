package webapp

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/runtest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/serve"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// startRun runs the program and returns the address that it prints.
func startRun(t *testing.T, getenv func(string) string) (home string) {
	t.Helper()
	return runtest.Home(t, func(ctx context.Context, out io.Writer) error { return Run(ctx, "127.0.0.1:0", getenv, out, nil) })
}

// The program as a newcomer starts it: without any settings.
func TestRunDemo(t *testing.T) {
	home := startRun(t, runtest.Env())
	b := newBrowser(t)
	page := b.get(home)
	assert.Contains(t, page.body, english.DemoPlatform)

	consent := b.get(home + "/login")
	action, err := consent.Request.URL.Parse("consent")
	require.NoError(t, err)
	page = b.post(action.String(), consent.form("user", "10001", "decision", "allow"))
	assert.Contains(t, page.body, "林小满")
	assert.Contains(t, b.get(home+"/variable?key=greeting").value(t), "你好，世界\nHello")

	_, rest, _ := strings.Cut(page.body, `class="avatar" src="`)
	avatar, _, _ := strings.Cut(rest, `"`)
	picture := b.get(avatar)
	assert.Equal(t, 200, picture.StatusCode)
	assert.Equal(t, "image/svg+xml", picture.Header.Get("Content-Type"))
}

func TestRunReal(t *testing.T) {
	home := startRun(t, runtest.Env("SHANGCLOUD_CLIENT_ID", "id", "SHANGCLOUD_CLIENT_SECRET", secret,
		"SHANGCLOUD_BASE_URL", "https://staging.example.com/"))
	b := newBrowser(t)
	page := b.get(home)
	assert.Contains(t, page.body, "https://staging.example.com")
	assert.NotContains(t, page.body, english.DemoPlatform)
	assert.NotContains(t, page.body, secret)
	b.stay()
	to, err := url.Parse(b.get(home + "/login").Header.Get("Location"))
	require.NoError(t, err)
	assert.Equal(t, "staging.example.com", to.Host)
	assert.Equal(t, home+"/callback", to.Query().Get("redirect_uri"))
	assert.Equal(t, "user:basic var:io", to.Query().Get("scope"))
}

func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	err = Run(t.Context(), l.Addr().String(), runtest.Env(), io.Discard, nil)
	require.Error(t, err)
	assert.Contains(t, err.Error(), l.Addr().String())
	assert.Contains(t, err.Error(), "-addr 127.0.0.1:0")
}

func TestHalfSet(t *testing.T) {
	for name, c := range map[string]struct {
		env  []string
		says string
	}{
		"secret only":   {[]string{"SHANGCLOUD_CLIENT_SECRET", secret}, "SHANGCLOUD_CLIENT_ID is not set"},
		"base URL only": {[]string{"SHANGCLOUD_BASE_URL", "https://x.example"}, "SHANGCLOUD_CLIENT_ID is not set"},
		"ID only":       {[]string{"SHANGCLOUD_CLIENT_ID", "id"}, "SHANGCLOUD_CLIENT_SECRET is not set"},
		"bad base URL": {[]string{"SHANGCLOUD_CLIENT_ID", "id", "SHANGCLOUD_CLIENT_SECRET", secret,
			"SHANGCLOUD_BASE_URL", "http://x.example"}, "Endpoint.AuthURL"},
		"callback at the start page": {[]string{"SHANGCLOUD_CLIENT_ID", "id", "SHANGCLOUD_CLIENT_SECRET", secret,
			"SHANGCLOUD_REDIRECT_URL", "https://x.example/"}, "/callback"},
	} {
		t.Run(name, func(t *testing.T) {
			err := Run(t.Context(), "127.0.0.1:0", runtest.Env(c.env...), io.Discard, nil)
			require.Error(t, err)
			assert.Contains(t, err.Error(), c.says)
			assert.NotContains(t, err.Error(), secret)
		})
	}
}

func TestCheckCallback(t *testing.T) {
	for s, ok := range map[string]bool{
		"https://x.example/callback":      true,
		"https://x.example/auth/cb.php":   true,
		"http://127.0.0.1:1/login/return": true,
		"https://x.example":               false,
		"https://x.example/":              false,
		"https://x.example/login":         false,
		"https://x.example/a//b":          false,
		"https://x.example/a/../b":        false,
		"https://x.example/{a}":           false,
		"https://x.example/a%2Fb":         false,
		"com.example.app:/callback":       false,
	} {
		u, err := url.Parse(s)
		require.NoError(t, err)
		assert.Equal(t, ok, checkCallback(u) == nil, s)
	}
}

func newHTTPSApp(t *testing.T, dataDir string) *app {
	a, err := newApp(serve.Settings{Config: oauth2.Config{ClientID: "id", ClientSecret: secret, RedirectURL: "https://x.example/auth/cb"}, BaseURL: shangcloud.DefaultBaseURL, DataDir: dataDir}, nil, false)
	require.NoError(t, err)
	return a
}

// addSession signs a browser in without a platform.
func addSession(t *testing.T, ss *sessions, w http.ResponseWriter) {
	id := rand.Text()
	s, err := ss.open(id)
	require.NoError(t, err)
	s.User = &shangcloud.UserInfo{ID: 1}
	require.NoError(t, s.tokens.SetToken(t.Context(), &oauth2.Token{AccessToken: "at"}))
	require.NoError(t, ss.add(w, id, s))
}

// Behind a proxy that speaks https, the cookies are for https only.
func TestHTTPS(t *testing.T) {
	a := newHTTPSApp(t, "")
	w := httptest.NewRecorder()
	addSession(t, a.sessions, w)
	c := w.Result().Cookies()[0]
	assert.True(t, strings.HasPrefix(c.Name, "__Host-"))
	assert.True(t, c.Secure && c.HttpOnly)
	assert.Equal(t, http.SameSiteLaxMode, c.SameSite)

	w = httptest.NewRecorder()
	a.ServeHTTP(w, httptest.NewRequest("GET", "http://127.0.0.1:8080/auth/cb", nil))
	assert.Equal(t, 400, w.Code, "the callback is where the redirect URL says")
}

func TestSessionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ss := newHTTPSApp(t, "").sessions
		start := func() *http.Request {
			w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
			addSession(t, ss, w)
			r.AddCookie(w.Result().Cookies()[0])
			return r
		}
		first := start()
		assert.NotNil(t, ss.of(first))
		time.Sleep(sessionLifetime - time.Nanosecond) // no real time passes: synctest
		assert.NotNil(t, ss.of(first))
		time.Sleep(time.Nanosecond)
		assert.Nil(t, ss.of(first))
		assert.Empty(t, ss.byID)

		oldest := start()
		time.Sleep(time.Nanosecond)
		for range maxSessions {
			start()
		}
		assert.Len(t, ss.byID, maxSessions)
		assert.Nil(t, ss.of(oldest))
	})
}

// A restart keeps the sessions that have not ended. It removes all data of sessions that
// have ended.
func TestSessionsRestart(t *testing.T) {
	dir := t.TempDir()
	start := func() (cookie *http.Cookie) {
		w := httptest.NewRecorder()
		addSession(t, newHTTPSApp(t, dir).sessions, w)
		return w.Result().Cookies()[0]
	}
	request := func(c *http.Cookie) *http.Request {
		r := httptest.NewRequest("GET", "/", nil)
		r.AddCookie(c)
		return r
	}
	first, second := start(), start()
	ss := newHTTPSApp(t, dir).sessions
	restored := ss.of(request(first))
	require.NotNil(t, restored)
	assert.Same(t, restored, ss.of(request(first)))
	assert.Equal(t, int64(1), restored.User.ID)
	tok, err := restored.tokens.Token()
	require.NoError(t, err)
	assert.Equal(t, "at", tok.AccessToken)
	assert.Nil(t, ss.of(request(&http.Cookie{Name: first.Name, Value: "../" + second.Value})))

	ss.end(httptest.NewRecorder(), request(first))
	ss.end(httptest.NewRecorder(), request(second))
	for _, c := range []*http.Cookie{first, second} {
		assert.Nil(t, newHTTPSApp(t, dir).sessions.of(request(c)))
	}

	third := start()
	names, err := filepath.Glob(filepath.Join(dir, "*"+sessionFile))
	require.NoError(t, err)
	require.Len(t, names, 1)
	long := time.Now().Add(-sessionLifetime)
	require.NoError(t, os.Chtimes(names[0], long, long))
	assert.Nil(t, newHTTPSApp(t, dir).sessions.of(request(third)))
	left, err := filepath.Glob(filepath.Join(dir, "*.token"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

// A sign-in that fails leaves no token behind.
func TestSessionsStartFails(t *testing.T) {
	s := newSite(t)
	s.app.sessions.dir = t.TempDir()
	s.platform.Fault("/api/user/info", shangcloudtest.Fault{Times: 1, Status: 503})
	newBrowser(t).signIn(s, "/login")
	left, err := filepath.Glob(filepath.Join(s.app.sessions.dir, "*"+tokenFile))
	require.NoError(t, err)
	assert.Empty(t, left)
	assert.Empty(t, s.app.sessions.byID)
	newBrowser(t).signIn(s, "/login")
	left, err = filepath.Glob(filepath.Join(s.app.sessions.dir, "*"+tokenFile))
	require.NoError(t, err)
	assert.Len(t, left, 1)
}

func TestSessionRemembersKeys(t *testing.T) {
	var s session
	for i := range 2 * maxTouched {
		s.touch(string(rune('0' + i)))
	}
	s.touch("a")
	s.touch("b")
	s.touch("a")
	assert.Len(t, s.keys(), maxTouched)
	assert.Equal(t, []string{"a", "b"}, s.keys()[:2])
}

func TestAllTextsAreThere(t *testing.T) {
	for _, lang := range languages {
		v := reflect.ValueOf(*lang)
		for i := range v.NumField() {
			name := lang.Lang + " " + v.Type().Field(i).Name
			switch field := v.Field(i).Interface().(type) {
			case string:
				assert.NotEmpty(t, field, name)
			case text:
				assert.NotEmpty(t, field.Title, name)
				assert.NotEmpty(t, field.Text, name)
			case []string:
				assert.Len(t, field, len(english.Feature), name)
			}
		}
	}
}

// Without settings, the copies of examples/cluster and their platform are in one process.
func TestRunCopies(t *testing.T) {
	for name, c := range map[string]struct {
		share *oauth2login.Options
		says  string
	}{
		"a shared key":   {&oauth2login.Options{StateKeys: [][]byte{bytes.Repeat([]byte{7}, 32)}}, "林小满"},
		"nothing shared": {nil, english.LoginLost.Title},
	} {
		t.Run(name, func(t *testing.T) {
			home := runtest.Home(t, func(ctx context.Context, out io.Writer) error {
				return RunCopies(ctx, "127.0.0.1:0", runtest.Env(), out, c.share)
			})
			b := newBrowser(t)
			consent := b.get(home + "/login")
			action, err := consent.Request.URL.Parse("consent")
			require.NoError(t, err)
			page := b.post(action.String(), consent.form("user", "10001", "decision", "allow"))
			assert.Contains(t, page.body, c.says)
		})
	}
	err := RunCopies(t.Context(), "127.0.0.1:0", runtest.Env("SHANGCLOUD_CLIENT_SECRET", secret), io.Discard, nil)
	require.ErrorContains(t, err, "SHANGCLOUD_CLIENT_ID is not set")
}
