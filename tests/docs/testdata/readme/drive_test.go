package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/sqlstore"
	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	"github.com/gorilla/sessions"
	"github.com/labstack/echo/v5"
	"github.com/markbates/goth/gothic"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
	_ "modernc.org/sqlite"
)

// The parts, in order: those of docs/sql.md, docs/clusters.md, the README and docs/ways.md.
const (
	openTokens = iota
	redisStates
	saveToken
	useToken
	routers
	several
	plain
	gothRow
	device
	local
	partCount
)

// The generated files fill parts. Each part returns the variables that it defines.
var (
	parts []func() map[string]any
	ran   [partCount]bool
)

func run(t *testing.T, part int) map[string]any {
	t.Helper()
	require.Len(t, parts, partCount, "the pages have other parts than this test knows")
	ran[part] = true
	if platform != nil {
		access, refresh := platform.Issue(id, uid, shangcloud.ScopeUserBasic, shangcloud.ScopeVariables)
		token = &oauth2.Token{AccessToken: access, RefreshToken: refresh, Expiry: time.Now().Add(time.Hour)}
		login.Token = token
	}
	defined := parts[part]()
	if err := defined["err"]; err != nil {
		require.NoError(t, err.(error))
	}
	return defined
}

// The parts use these variables as if the application had defined them.
var (
	ctx        = context.WithValue(context.Background(), oauth2.HTTPClient, &http.Client{Transport: toPlatform{}})
	id, secret = "app", "s3cret"
	platform   *shangcloudtest.Server // nil in a second process
	base       string                 // of the platform
	shared     = &oauth2login.Options{HTTPClient: &http.Client{Transport: toPlatform{}}}
	conf       = &oauth2.Config{ClientID: id, ClientSecret: secret, RedirectURL: home + "/callback"}

	provider *shangcloud.Provider
	mux      = http.NewServeMux()
	router   = chi.NewRouter()
	engine   = newEngine()
	e        = echo.New()
	callback http.Handler

	startLogin http.HandlerFunc

	w      *httptest.ResponseRecorder
	r      = httptest.NewRequest("GET", "/", nil)
	uid    = int64(10001)
	user   = &shangcloud.UserInfo{ID: uid}
	token  *oauth2.Token
	login  = &oauth2login.Login{}
	tokens *sqlstore.Tokens
)

const home = "https://app.example"

func newEngine() *gin.Engine {
	gin.SetMode(gin.ReleaseMode)
	return gin.New()
}

func TestMain(m *testing.M) {
	base = os.Getenv("PLATFORM")
	if base == "" {
		startPlatform()
	}
	conf.Endpoint = shangcloud.EndpointAt(base)
	provider = newProvider(home + "/callback")
	code := m.Run()
	if platform != nil && code == 0 {
		for part, done := range ran {
			if !done {
				log.Fatalf("part %d was not run", part)
			}
		}
	}
	os.Exit(code)
}

func startPlatform() {
	var err error
	if platform, err = shangcloudtest.Start(""); err != nil {
		log.Fatal(err)
	}
	base = platform.URL
	platform.AddClient(shangcloudtest.Client{ID: id, Secret: secret,
		RedirectURIs: []string{home + "/callback", home + "/callback/github", home + "/auth/shangcloud/callback", "http://127.0.0.1/callback"}})
	platform.AddUser(shangcloudtest.User{ID: uid, Nickname: "小明"})
	platform.SetVariable(uid, "theme", "dark")
	platform.Configure(func(s *shangcloudtest.Settings) { s.DeviceInterval = time.Second })
	platform.Handle("/user", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // api.github.com
		user, ok := platform.UserOf(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), shangcloud.ScopeUserBasic)
		if !ok {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprintf(w, `{"id":%d}`, user.ID)
	}))
}

func newProvider(redirect string) *shangcloud.Provider {
	p, err := shangcloud.New(&oauth2.Config{ClientID: id, ClientSecret: secret, RedirectURL: redirect,
		Endpoint: shangcloud.EndpointAt(base)}, shared)
	if err != nil {
		log.Fatal(err)
	}
	return p
}

// toPlatform redirects requests for ShangCloud and GitHub to the platform. It allows
// device logins as soon as they start.
type toPlatform struct{}

var githubPaths = map[string]string{"/login/oauth/authorize": "/oauth/authorize", "/login/oauth/access_token": "/oauth/token"}

func (toPlatform) RoundTrip(req *http.Request) (*http.Response, error) {
	to, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	req = req.Clone(req.Context())
	req.URL.Scheme, req.URL.Host, req.Host = to.Scheme, to.Host, to.Host
	if path := githubPaths[req.URL.Path]; path != "" {
		req.URL.Path = path
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil || req.URL.Path != "/oauth/device_authorization" {
		return res, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	var answer struct {
		UserCode string `json:"user_code"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	return res, platform.ApproveDevice(answer.UserCode, uid)
}

// logIn opens a login page as a browser does, lets the user allow the login, and visits
// the callback. If finish is not nil, finish handles the callback instead of site.
func logIn(t *testing.T, site http.Handler, page string, finish func(http.ResponseWriter, *http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	start, end := httptest.NewRecorder(), httptest.NewRecorder()
	site.ServeHTTP(start, httptest.NewRequest("GET", home+page, nil))
	require.Contains(t, []int{http.StatusFound, http.StatusTemporaryRedirect}, start.Code, start.Body)
	to, err := url.Parse(start.Header().Get("Location"))
	require.NoError(t, err)
	if path := githubPaths[to.Path]; path != "" {
		to.Path = path
	}
	back, err := platform.Approve(to.String(), uid)
	require.NoError(t, err)
	r := httptest.NewRequest("GET", back, nil)
	for _, cookie := range start.Result().Cookies() {
		r.AddCookie(cookie)
	}
	if finish == nil {
		finish = site.ServeHTTP
	}
	finish(end, r)
	return end
}

func TestRouters(t *testing.T) {
	app := site(provider) // with sessions, and both handlers
	startLogin = app.ServeHTTP
	run(t, routers)
	router.Get("/callback", app.ServeHTTP)
	engine.GET("/callback", gin.WrapH(app))
	e.GET("/callback", echo.WrapHandler(app))
	for name, handler := range map[string]http.Handler{"chi": router, "gin": engine, "Echo": e} {
		t.Run(name, func(t *testing.T) {
			end := logIn(t, handler, "/login?next=/album", nil)
			assert.Equal(t, "/album", end.Header().Get("Location"), end.Body)
		})
	}
}

// One process saves a token. Two more processes use the token, one after the other, each
// after the access token has expired. A refresh token works only once, so the last process
// must find the token that the process before it has saved.
func TestTokens(t *testing.T) {
	if platform == nil {
		tokens = run(t, openTokens)["tokens"].(*sqlstore.Tokens)
		assert.Equal(t, "dark", run(t, useToken)["theme"])
		return
	}
	t.Chdir(t.TempDir())
	tokens = run(t, openTokens)["tokens"].(*sqlstore.Tokens)
	run(t, saveToken)
	for range 2 {
		platform.ExpireTokens()
		program, err := os.Executable()
		require.NoError(t, err)
		second := exec.Command(program, "-test.run=^TestTokens$")
		second.Env = append(os.Environ(), "PLATFORM="+base)
		out, err := second.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	ran[useToken] = true
	require.NoError(t, provider.StoredTokens(tokens.User("10001")).Delete(t.Context()))
	w = httptest.NewRecorder()
	assert.ErrorIs(t, parts[useToken]()["err"].(error), oauth2login.ErrLoginRequired)
	assert.Equal(t, "/login", w.Header().Get("Location"))
}

func TestSeveralProviders(t *testing.T) {
	defined := run(t, several)
	github, hc := defined["github"].(*oauth2login.Provider), defined["hc"].(*http.Client)
	start := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.NoError(t, github.StartLogin(w, r))
	})
	logIn(t, start, "/login/github", func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "/callback/github", r.URL.Path)
		login, err := github.FinishLogin(w, r)
		require.NoError(t, err)
		assert.NotEmpty(t, login.Token.AccessToken)
	})
	res, err := hc.Get("https://api.github.com/user")
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	assert.Equal(t, `{"id":10001}`, string(body))
}

func TestPlain(t *testing.T) {
	defined := run(t, plain)
	assert.Equal(t, uid, defined["user"].(*shangcloud.UserInfo).ID)
	conf := defined["conf"].(*oauth2.Config)
	back, err := platform.Approve(conf.AuthCodeURL("state"), uid)
	require.NoError(t, err)
	query, err := url.Parse(back)
	require.NoError(t, err)
	tok, err := conf.Exchange(ctx, query.Query().Get("code"))
	require.NoError(t, err)
	assert.True(t, tok.Valid())
}

func TestGoth(t *testing.T) {
	cookies := sessions.NewCookieStore(make([]byte, 32))
	cookies.Options = &sessions.Options{Path: "/", MaxAge: 300, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	gothic.Store = cookies
	provider = newProvider(home + "/auth/shangcloud/callback")
	callback = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, err := gothic.CompleteUserAuth(w, r)
		if err != nil {
			loginFailed(w, err)
			return
		}
		fmt.Fprint(w, user.UserID)
	})
	run(t, gothRow)
	assert.Equal(t, "10001", logIn(t, mux, "/auth/shangcloud", nil).Body.String())
}

func TestDevice(t *testing.T) {
	login := run(t, device)["login"].(*oauth2login.Login)
	assert.True(t, login.Token.Valid())
}

// The part prints the address that a browser opens.
func TestLocal(t *testing.T) {
	provider = newProvider("http://127.0.0.1:0/callback")
	platform.AutoApprove(uid)
	out, in, err := os.Pipe()
	require.NoError(t, err)
	stdout := os.Stdout
	os.Stdout = in
	defer func() { os.Stdout = stdout }()
	go func() {
		line, _ := bufio.NewReader(out).ReadString('\n')
		jar, _ := cookiejar.New(nil)
		res, err := (&http.Client{Jar: jar}).Get(line[strings.Index(line, "http") : len(line)-1])
		if err == nil {
			_ = res.Body.Close()
		}
	}()
	login := run(t, local)["login"].(*oauth2login.Login)
	assert.True(t, login.Token.Valid())
}

// A login starts on one machine and ends on another.
func TestRedisStates(t *testing.T) {
	if os.Getenv("REDIS") == "" {
		ran[redisStates] = true
		t.Skip("there is no Redis")
	}
	one := site(run(t, redisStates)["provider"].(*shangcloud.Provider))
	two := site(run(t, redisStates)["provider"].(*shangcloud.Provider))
	end := logIn(t, one, "/login?next=/album", two.ServeHTTP)
	assert.Equal(t, "/album", end.Header().Get("Location"), end.Body)
}
