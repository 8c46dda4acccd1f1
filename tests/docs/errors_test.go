package docs

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
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

// site is an application. A test can make its settings wrong.
type site struct {
	platform *shangcloudtest.Server
	conf     oauth2.Config
	options  oauth2login.Options
	request  func(*http.Request) // changes the callback
	cookies  bool                // whether the browser sends cookies
	host     string              // where the login starts
	unshared bool                // the login ends on another machine, which has a separate state store
	log      bytes.Buffer        // of options.Logger
}

func newSite(t *testing.T) *site {
	s := &site{platform: shangcloudtest.NewServer(t), cookies: true, host: "127.0.0.1:8080"}
	s.platform.AddClient(shangcloudtest.Client{
		ID: "app", Secret: "s3cret", RedirectURIs: []string{"http://127.0.0.1/callback"}, Scopes: []string{"user:basic"},
	})
	s.platform.AddUser(shangcloudtest.User{ID: 10001})
	s.conf = oauth2.Config{
		ClientID: "app", ClientSecret: "s3cret", RedirectURL: "http://127.0.0.1:8080/callback",
		Endpoint: shangcloud.EndpointAt(s.platform.URL),
	}
	s.options.Logger = slog.New(slog.NewTextHandler(&s.log, nil))
	s.request = func(*http.Request) {}
	return s
}

func (s *site) provider(t *testing.T) *shangcloud.Provider {
	t.Helper()
	p, err := shangcloud.New(&s.conf, &s.options)
	require.NoError(t, err)
	return p
}

// start begins a login and returns the callback request of the user's browser.
func (s *site) start(p *shangcloud.Provider) (*http.Request, error) {
	w := httptest.NewRecorder()
	if err := p.StartLogin(w, httptest.NewRequest(http.MethodGet, "http://"+s.host+"/login", nil)); err != nil {
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

// logIn returns the error of a login, or of an API call after the login.
func (s *site) logIn() error {
	p, err := shangcloud.New(&s.conf, &s.options)
	if err != nil {
		return err
	}
	r, err := s.start(p)
	if err != nil {
		return err
	}
	if s.unshared {
		if p, err = shangcloud.New(&s.conf, &s.options); err != nil {
			return err
		}
	}
	login, err := p.FinishLogin(httptest.NewRecorder(), r)
	if err != nil {
		return err
	}
	_, err = p.API(oauth2.StaticTokenSource(login.Token)).Variable(context.Background(), "theme")
	return err
}

// A mistake is a wrong setting or another fault. It causes an error. The first table of
// docs/trouble.md explains the errors of wrong settings. One of its two tables explains
// the other errors.
type mistake struct {
	name    string
	setting bool
	make    func(*testing.T, *site) error
}

// inSettings is a mistake in the settings of a site.
func inSettings(name string, spoil func(*site)) mistake {
	return mistake{name, true, func(_ *testing.T, s *site) error {
		spoil(s)
		return s.logIn()
	}}
}

// elsewhere is a mistake outside the settings of the site.
func elsewhere(name string, spoil func(*site)) mistake {
	m := inSettings(name, spoil)
	m.setting = false
	return m
}

var mistakes = []mistake{
	inSettings("no client ID", func(s *site) { s.conf.ClientID = "" }),
	inSettings("no secret", func(s *site) { s.conf.ClientSecret = "" }),
	inSettings("wrong secret", func(s *site) { s.conf.ClientSecret = "wrong" }),
	inSettings("localhost", func(s *site) { s.cookies, s.host = false, "localhost:8080" }),
	inSettings("cookies blocked", func(s *site) { s.cookies = false }),
	inSettings("wrong scope", func(s *site) { s.conf.Scopes = []string{"mmo"} }),
	inSettings("wrong redirect URL", func(s *site) { s.conf.RedirectURL += "/" }),
	inSettings("http for https", func(s *site) { s.conf.RedirectURL = "http://app.example/callback" }),
	inSettings("http for the platform", func(s *site) { s.conf.Endpoint = shangcloud.EndpointAt("http://staging.example") }),
	{"no table", true, func(t *testing.T, s *site) error {
		var err error
		s.options.States, err = sqlstore.NewStates(openDB(t, "sqlite", filepath.Join(t.TempDir(), "app.db")), sqlstore.SQLite, sqlstore.Config{})
		require.NoError(t, err)
		return s.logIn()
	}},
	{"no table of tokens", true, func(t *testing.T, s *site) error {
		tokens, err := sqlstore.NewTokens(openDB(t, "sqlite", filepath.Join(t.TempDir(), "app.db")), sqlstore.SQLite, sqlstore.Config{})
		require.NoError(t, err)
		return s.provider(t).StoredTokens(tokens.User("10001")).SetToken(t.Context(), &oauth2.Token{AccessToken: "a"})
	}},
	{"Redis without a password", true, func(t *testing.T, s *site) error {
		s.options.States = redisstore.NewStates(redisAt(t, lockedRedis(t)))
		return s.logIn()
	}},
	{"a read-only token file", true, readOnlyFile},
	inSettings("the platform is down", func(s *site) { s.conf.Endpoint.TokenURL = "http://127.0.0.1:1/oauth/token" }),
	inSettings("the platform is unknown", func(s *site) {
		s.options.HTTPClient = &http.Client{Transport: unknownHost{}}
	}),
	{"Redis is down", true, func(t *testing.T, s *site) error {
		s.options.States = redisstore.NewStates(redisAt(t, "127.0.0.1:1"))
		return s.logIn()
	}},
	{"the database is down", true, func(t *testing.T, s *site) error {
		var err error
		s.options.States, err = sqlstore.NewStates(openDB(t, "pgx", "postgres://app@127.0.0.1:1/app?sslmode=disable"), sqlstore.PostgreSQL, sqlstore.Config{})
		require.NoError(t, err)
		return s.logIn()
	}},
	{"the clock is an hour ahead", true, func(t *testing.T, _ *site) error { return betweenClocks(t, 0, time.Hour) }},
	{"the clock is an hour behind", true, func(t *testing.T, _ *site) error { return betweenClocks(t, time.Hour, 0) }},
	inSettings("a proxy gzips", func(s *site) {
		var zipped bytes.Buffer
		z := gzip.NewWriter(&zipped)
		_, _ = io.WriteString(z, `{"access_token":"a","token_type":"Bearer"}`)
		_ = z.Close()
		s.platform.Fault("/oauth/token", shangcloudtest.Fault{Status: http.StatusOK, Body: zipped.String()})
	}),
	inSettings("a proxy compresses", func(s *site) {
		s.platform.Fault("/oauth/token", shangcloudtest.Fault{Status: http.StatusOK, Header: http.Header{"Content-Encoding": {"br"}}, Body: "?"})
	}),
	inSettings("somebody else answers", func(s *site) {
		s.platform.Fault("/oauth/token", shangcloudtest.Fault{Status: http.StatusOK, Body: "<html>Please pay"})
	}),
	inSettings("states that are not shared", func(s *site) { s.unshared = true }),

	elsewhere("a line feed in the secret", func(s *site) { s.conf.ClientSecret += "\n" }),
	elsewhere("another browser", func(s *site) {
		s.cookies = false
		s.request = func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "session", Value: "1"}) }
	}),
	{"a reload", false, func(t *testing.T, s *site) error {
		p := s.provider(t)
		r, err := s.start(p)
		require.NoError(t, err)
		_, err = p.FinishLogin(httptest.NewRecorder(), r)
		require.NoError(t, err)
		_, err = p.FinishLogin(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, r.URL.String(), nil))
		return err
	}},
	elsewhere("another application's state", func(s *site) {
		s.request = func(r *http.Request) {
			q := r.URL.Query()
			q.Set("state", "unknown")
			r.URL.RawQuery = q.Encode()
		}
	}),
	elsewhere("fetch", func(s *site) { s.request = func(r *http.Request) { r.Header.Set("Sec-Fetch-Mode", "cors") } }),
	elsewhere("no scope for variables", func(*site) {}),
	{"a token file for everybody", false, func(t *testing.T, s *site) error {
		if runtime.GOOS == "windows" {
			return errors.New("is open to others") // Windows has no file modes
		}
		path := filepath.Join(t.TempDir(), "token.json")
		require.NoError(t, os.WriteFile(path, []byte("{}"), 0o644))
		file, err := tokenstore.NewFile(path)
		require.NoError(t, err)
		_, err = s.provider(t).StoredTokens(file).Token()
		return err
	}},
	elsewhere("the platform is slow", func(s *site) {
		s.options.Timeout = time.Second
		s.platform.Fault("/oauth/token", shangcloudtest.Fault{Hang: true})
	}),
	{"another certificate", false, func(t *testing.T, s *site) error {
		server := httptest.NewTLSServer(s.platform)
		t.Cleanup(server.Close)
		s.conf.Endpoint = shangcloud.EndpointAt(server.URL)
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		return s.logIn()
	}},
	{"another host", false, func(t *testing.T, s *site) error {
		p := s.provider(t)
		_, err := p.Client(oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "a"})).Get("https://api.other.example/") //nolint:bodyclose
		return err
	}},
	{"a revoked login", false, func(t *testing.T, s *site) error {
		access, refresh := s.platform.Issue("app", 10001)
		s.platform.Revoke(10001)
		_, err := s.provider(t).TokenSource(&oauth2.Token{AccessToken: access, RefreshToken: refresh, Expiry: time.Now()}).Token()
		return err
	}},
	{"after Shutdown", false, func(t *testing.T, s *site) error {
		p := s.provider(t)
		require.NoError(t, p.Shutdown(t.Context()))
		_, err := p.TokenSource(&oauth2.Token{AccessToken: "a", RefreshToken: "r", Expiry: time.Now()}).Token()
		return err
	}},
}

func openDB(t *testing.T, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func redisAt(t *testing.T, address string) *redis.Client {
	client := redis.NewClient(&redis.Options{Addr: address, ContextTimeoutEnabled: true, MaxRetries: -1})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// betweenClocks returns the error of a login that starts on one machine and ends on
// another. The clock of the first machine is ahead of the bubble's clock by first, the
// clock of the second machine by second.
func betweenClocks(t *testing.T, first, second time.Duration) error {
	platform := shangcloudtest.New()
	t.Cleanup(func() { _ = platform.Close() })
	machine := func() *shangcloud.Provider {
		p, err := shangcloud.New(&oauth2.Config{
			ClientID: "app", ClientSecret: "s3cret", RedirectURL: "https://app.example/callback",
		}, &oauth2login.Options{StateKeys: [][]byte{[]byte("a key that all of the machines know")[:32]}, HTTPClient: &http.Client{Transport: platform.Transport()}})
		require.NoError(t, err)
		return p
	}
	start := httptest.NewRecorder()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(first)
		require.NoError(t, machine().StartLogin(start, httptest.NewRequest(http.MethodGet, "/login", nil)))
	})
	to, err := url.Parse(start.Header().Get("Location"))
	require.NoError(t, err)
	r := httptest.NewRequest(http.MethodGet, "/callback?code=c&state="+to.Query().Get("state"), nil)
	r.AddCookie(start.Result().Cookies()[0])
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(second)
		_, err = machine().FinishLogin(httptest.NewRecorder(), r)
	})
	return err
}

// readOnlyFile refreshes a token in a file that can't be written. It returns the text of
// the log as an error.
func readOnlyFile(t *testing.T, s *site) error {
	if runtime.GOOS == "windows" {
		return errors.New("the token store can't be written") // Windows has no file modes
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "token.json")
	_, refresh := s.platform.Issue("app", 10001)
	text, err := tokenstore.Marshal(&oauth2.Token{AccessToken: "a", RefreshToken: refresh, Expiry: time.Now()})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, text, 0o600))
	require.NoError(t, os.Chmod(dir, 0o555))
	t.Cleanup(func() { _ = os.Chmod(dir, 0o755) })
	if os.Geteuid() == 0 {
		return readOnlyFileOfNobody(t, s, path)
	}
	file, err := tokenstore.NewFile(path)
	require.NoError(t, err)
	_, err = s.provider(t).StoredTokens(file).Token()
	require.NoError(t, err, "the token is refreshed all the same")
	return errors.New(s.log.String())
}

// unknownHost is a network in which the resolver does not find the host.
type unknownHost struct{}

func (unknownHost) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, &net.DNSError{Err: "no such host", Name: "api.yearnstudio.cn", IsNotFound: true}
}

// lockedRedis is a server that answers every command like a Redis that requires a password.
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

// refuseAll refuses all commands. A command is an array of strings:
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

// errorTexts returns the error texts in each row of a table. If a row names several
// errors, commas separate them.
func errorTexts(t *testing.T, page, title string) (rows [][]string) {
	t.Helper()
	_, section, found := strings.Cut(read(t, page), title+"\n")
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
	require.NotEmpty(t, rows)
	return rows
}

// explains reports whether one line of a log contains all texts of a row.
func explains(row []string, log string) bool {
	for line := range strings.Lines(log) {
		all := true
		for _, text := range row {
			all = all && strings.Contains(line, text)
		}
		if all {
			return true
		}
	}
	return false
}

// Each wrong setting must cause a log line that the first table of docs/trouble.md
// explains. Each other mistake must cause a log line that one of its two tables explains.
// Every error in these tables and in the READMEs must occur.
func TestErrorsOfThePages(t *testing.T) {
	logged := make(map[string]string)
	for _, m := range mistakes {
		t.Run(m.name, func(t *testing.T) {
			s := newSite(t)
			err := m.make(t, s)
			require.Error(t, err)
			logged[m.name] = s.log.String() + "\n" + err.Error()
		})
	}
	for _, of := range []struct{ readme, title, settings, rest string }{
		{"README.md", "## If it does not work", "## Settings", "## Other causes"},
		{"README.zh-CN.md", "## 排查问题", "## 设置", "## 其他原因"},
	} {
		t.Run(of.readme, func(t *testing.T) {
			trouble := linked(of.readme, "trouble")
			frequent, settings, rest := errorTexts(t, of.readme, of.title), errorTexts(t, trouble, of.settings), errorTexts(t, trouble, of.rest)
			for _, m := range mistakes {
				rows := settings
				if !m.setting {
					rows = slices.Concat(settings, rest)
				}
				assert.True(t, slices.ContainsFunc(rows, func(row []string) bool { return explains(row, logged[m.name]) }),
					"%s: not explained: %s", m.name, logged[m.name])
			}
			for _, row := range slices.Concat(frequent, settings, rest) {
				real := false
				for _, log := range logged {
					real = real || explains(row, log)
				}
				assert.True(t, real, "no error says %q", row)
			}
		})
	}
}
