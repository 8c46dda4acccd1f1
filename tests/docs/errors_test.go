package docs

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/redisstore"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/sqlstore"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
	_ "modernc.org/sqlite"
)

func TestMain(m *testing.M) {
	logging.Disable()
	os.Exit(m.Run())
}

// site is an application with settings that a test can spoil.
type site struct {
	platform *shangcloudtest.Server
	conf     oauth2.Config
	options  oauth2login.Options
	request  func(*http.Request) // changes the callback
	cookies  bool                // the browser sends them
}

func newSite(t *testing.T) *site {
	s := &site{platform: shangcloudtest.NewServer(t), cookies: true}
	s.platform.AddClient(shangcloudtest.Client{
		ID: "app", Secret: "s3cret", RedirectURIs: []string{"http://127.0.0.1/callback"}, Scopes: []string{"user:basic"},
	})
	s.platform.AddUser(shangcloudtest.User{ID: 10001})
	s.conf = oauth2.Config{
		ClientID: "app", ClientSecret: "s3cret", RedirectURL: "http://127.0.0.1:8080/callback",
		Endpoint: shangcloud.EndpointAt(s.platform.URL),
	}
	s.options.Logger = slog.New(slog.DiscardHandler)
	s.request = func(*http.Request) {}
	return s
}

func (s *site) provider(t *testing.T) *shangcloud.Provider {
	t.Helper()
	p, err := shangcloud.New(&s.conf, &s.options)
	require.NoError(t, err)
	return p
}

// start begins a login and returns the callback that the user comes back with.
func (s *site) start(p *shangcloud.Provider) (*http.Request, error) {
	w := httptest.NewRecorder()
	if err := p.StartLogin(w, httptest.NewRequest(http.MethodGet, "/login", nil)); err != nil {
		return nil, err
	}
	back, err := s.platform.Approve(w.Header().Get("Location"), 10001)
	if err != nil {
		return nil, err
	}
	r := httptest.NewRequest(http.MethodGet, back, nil)
	for _, c := range w.Result().Cookies() {
		if s.cookies {
			r.AddCookie(c)
		}
	}
	s.request(r)
	return r, nil
}

// logIn returns the error of a login, and of a call of the API after it.
func (s *site) logIn() error {
	p, err := shangcloud.New(&s.conf, &s.options)
	if err != nil {
		return err
	}
	r, err := s.start(p)
	if err != nil {
		return err
	}
	login, err := p.FinishLogin(httptest.NewRecorder(), r)
	if err != nil {
		return err
	}
	_, err = p.API(oauth2.StaticTokenSource(login.Token)).Variable(context.Background(), "theme")
	return err
}

// A mistake is a wrong setting, or what else goes wrong, and the error that comes of it.
type mistake struct {
	name string
	make func(*testing.T, *site) error
}

// setting is a mistake in the settings of a site.
func setting(name string, spoil func(*site)) mistake {
	return mistake{name, func(_ *testing.T, s *site) error {
		spoil(s)
		return s.logIn()
	}}
}

var mistakes = []mistake{
	setting("no client ID", func(s *site) { s.conf.ClientID = "" }),
	setting("a line feed in the secret", func(s *site) { s.conf.ClientSecret += "\n" }),
	setting("http", func(s *site) { s.conf.RedirectURL = "http://app.example/callback" }),
	setting("wrong secret", func(s *site) { s.conf.ClientSecret = "wrong" }),
	setting("localhost", func(s *site) {
		s.cookies = false
		s.request = func(r *http.Request) { r.Host = "localhost:8080" }
	}),
	setting("another browser", func(s *site) {
		s.cookies = false
		s.request = func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "session", Value: "1"}) }
	}),
	setting("another application's state", func(s *site) {
		s.request = func(r *http.Request) {
			q := r.URL.Query()
			q.Set("state", "unknown")
			r.URL.RawQuery = q.Encode()
		}
	}),
	{"a machine that does not share states", func(t *testing.T, s *site) error {
		r, err := s.start(s.provider(t))
		require.NoError(t, err)
		_, err = s.provider(t).FinishLogin(httptest.NewRecorder(), r)
		return err
	}},
	{"a reload", func(t *testing.T, s *site) error {
		p := s.provider(t)
		r, err := s.start(p)
		require.NoError(t, err)
		_, err = p.FinishLogin(httptest.NewRecorder(), r)
		require.NoError(t, err)
		_, err = p.FinishLogin(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, r.URL.String(), nil))
		return err
	}},
	setting("fetch", func(s *site) { s.request = func(r *http.Request) { r.Header.Set("Sec-Fetch-Mode", "cors") } }),
	setting("wrong scope", func(s *site) { s.conf.Scopes = []string{"mmo"} }),
	setting("no scope for variables", func(*site) {}),
	{"no table", func(t *testing.T, s *site) error {
		db, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "app.db"))
		require.NoError(t, err)
		t.Cleanup(func() { _ = db.Close() })
		s.options.States, err = sqlstore.NewStates(db, sqlstore.SQLite, sqlstore.Config{})
		require.NoError(t, err)
		return s.logIn()
	}},
	{"Redis without a password", func(t *testing.T, s *site) error {
		client := redis.NewClient(&redis.Options{Addr: lockedRedis(t), ContextTimeoutEnabled: true})
		t.Cleanup(func() { _ = client.Close() })
		s.options.States = redisstore.NewStates(client)
		return s.logIn()
	}},
	{"a token file for everybody", func(t *testing.T, s *site) error {
		if runtime.GOOS == "windows" {
			return errors.New("is open to others") // Windows has no modes
		}
		path := filepath.Join(t.TempDir(), "token.json")
		require.NoError(t, os.WriteFile(path, []byte("{}"), 0o644))
		file, err := tokenstore.NewFile(path)
		require.NoError(t, err)
		_, err = s.provider(t).StoredTokens(file).Token()
		return err
	}},
	setting("the platform is down", func(s *site) { s.conf.Endpoint.TokenURL = "http://127.0.0.1:1/oauth/token" }),
	setting("the platform is unknown", func(s *site) {
		s.options.HTTPClient = &http.Client{Transport: unknownHost{}}
	}),
	setting("the platform is slow", func(s *site) {
		s.options.Timeout = time.Second
		s.platform.Fault("/oauth/token", shangcloudtest.Fault{Hang: true})
	}),
	setting("somebody else answers", func(s *site) {
		s.platform.Fault("/oauth/token", shangcloudtest.Fault{Status: http.StatusOK, Body: "<html>Please pay"})
	}),
	{"another host", func(t *testing.T, s *site) error {
		p := s.provider(t)
		_, err := p.Client(oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "a"})).Get("https://api.other.example/") //nolint:bodyclose
		return err
	}},
	{"a revoked login", func(t *testing.T, s *site) error {
		access, refresh := s.platform.Issue("app", 10001)
		s.platform.Revoke(10001)
		_, err := s.provider(t).TokenSource(&oauth2.Token{AccessToken: access, RefreshToken: refresh, Expiry: time.Now()}).Token()
		return err
	}},
	{"after Shutdown", func(t *testing.T, s *site) error {
		p := s.provider(t)
		require.NoError(t, p.Shutdown(t.Context()))
		_, err := p.TokenSource(&oauth2.Token{AccessToken: "a", RefreshToken: "r", Expiry: time.Now()}).Token()
		return err
	}},
}

// unknownHost is a network whose resolver does not know the host.
type unknownHost struct{}

func (unknownHost) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, &net.DNSError{Err: "no such host", Name: "api.yearnstudio.cn", IsNotFound: true}
}

// lockedRedis is a server that answers every command as a Redis that wants a password.
func lockedRedis(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go refuseAll(conn)
		}
	}()
	return listener.Addr().String()
}

// refuseAll answers commands, which are arrays of strings:
// https://redis.io/docs/latest/develop/reference/protocol-spec/
func refuseAll(conn io.ReadWriteCloser) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		var n int
		if _, err := fmt.Fscanf(in, "*%d\r\n", &n); err != nil {
			return
		}
		for range 2 * n {
			if _, err := in.ReadString('\n'); err != nil {
				return
			}
		}
		if _, err := io.WriteString(conn, "-NOAUTH Authentication required.\r\n"); err != nil {
			return
		}
	}
}

var quoted = regexp.MustCompile("`([^`]+)`")

// errorTexts returns, for each row of the table "If it does not work", the texts that an
// error has. A row may name several errors; then they stand between commas.
func errorTexts(t *testing.T, page, title string) (rows [][]string) {
	t.Helper()
	_, section, found := strings.Cut(read(t, page), "\n## "+title+"\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	for _, line := range strings.Split(section, "\n") {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		cell, _, _ := strings.Cut(line[2:], " | ")
		for _, one := range regexp.MustCompile("`, `|`、`").Split(cell, -1) {
			var texts []string
			for _, text := range quoted.FindAllStringSubmatch("`"+strings.Trim(one, "`")+"`", -1) {
				texts = append(texts, text[1])
			}
			rows = append(rows, texts)
		}
	}
	return rows
}

func holds(text string, parts []string) bool {
	for _, part := range parts {
		if !strings.Contains(text, part) {
			return false
		}
	}
	return true
}

// Each mistake leads to an error that the READMEs name, and each error that they name
// exists.
func TestErrorsOfTheREADMEs(t *testing.T) {
	found := make(map[string]string)
	for _, m := range mistakes {
		t.Run(m.name, func(t *testing.T) {
			err := m.make(t, newSite(t))
			require.Error(t, err)
			found[m.name] = err.Error()
		})
	}
	for page, title := range map[string]string{"README.md": "If it does not work", "README.zh-CN.md": "排查问题"} {
		t.Run(page, func(t *testing.T) {
			rows := errorTexts(t, page, title)
			require.NotEmpty(t, rows)
			explained := make(map[string]bool)
			for _, row := range rows {
				real := false
				for name, text := range found {
					if holds(text, row) {
						explained[name], real = true, true
					}
				}
				assert.True(t, real, "no error says %q", row)
			}
			for name, text := range found {
				assert.True(t, explained[name], "%s: not explained: %s", name, text)
			}
		})
	}
}
