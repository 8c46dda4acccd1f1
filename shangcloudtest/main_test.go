package shangcloudtest_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
)

const (
	webClient    = "demo-client" // a confidential client
	webSecret    = "demo-secret"
	publicClient = "game-client"
	callback     = "http://127.0.0.1:8080/oauth/callback"
	uid          = int64(10001)
	otherUID     = int64(10002)

	formType = "application/x-www-form-urlencoded"

	// The example of RFC 7636, appendix B.
	verifier  = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
)

var (
	everyScope = []string{"user:basic", "var:io", "mmo"}
	nonceField = regexp.MustCompile(`name="nonce" value="([^"]+)"`)
)

// populate adds the clients and users of the tests to a server.
func populate(s *shangcloudtest.Server) *shangcloudtest.Server {
	s.AddClient(shangcloudtest.Client{ID: webClient, Secret: webSecret, RedirectURIs: []string{callback}})
	s.AddClient(shangcloudtest.Client{ID: publicClient, RedirectURIs: []string{"http://127.0.0.1/callback", "com.example.game:/callback"}})
	s.AddUser(shangcloudtest.User{ID: uid, Nickname: "小云", Email: "yun@example.com", AvatarURL: "https://cdn.example.com/1.png"})
	s.AddUser(shangcloudtest.User{ID: otherUID, Nickname: "Ada", Email: "ada@example.com"})
	return s
}

// platform starts a server with the clients and users of the tests.
func platform(t *testing.T) *shangcloudtest.Server {
	t.Helper()
	return populate(shangcloudtest.NewServer(t))
}

// config is the configuration of the confidential client.
func config(s *shangcloudtest.Server) *oauth2.Config {
	return &oauth2.Config{
		ClientID: webClient, ClientSecret: webSecret, RedirectURL: callback, Scopes: everyScope,
		Endpoint: endpoint(s, oauth2.AuthStyleInHeader),
	}
}

// publicConfig is the configuration of the public client.
func publicConfig(s *shangcloudtest.Server) *oauth2.Config {
	return &oauth2.Config{
		ClientID: publicClient, RedirectURL: "http://127.0.0.1:49152/callback", Scopes: []string{"openid", "profile", "mmo"},
		Endpoint: endpoint(s, oauth2.AuthStyleInParams),
	}
}

func endpoint(s *shangcloudtest.Server, style oauth2.AuthStyle) oauth2.Endpoint {
	return oauth2.Endpoint{
		AuthURL: s.URL + "/oauth/authorize", TokenURL: s.URL + "/oauth/token",
		DeviceAuthURL: s.URL + "/oauth/device_authorization", AuthStyle: style,
	}
}

// inProcess returns a context with which x/oauth2 uses the server's Transport.
func inProcess(s *shangcloudtest.Server) context.Context {
	return context.WithValue(context.Background(), oauth2.HTTPClient, &http.Client{Transport: s.Transport()})
}

// approve allows an authorization request and returns the code and the state.
func approve(t *testing.T, s *shangcloudtest.Server, authURL string) (code, state string) {
	t.Helper()
	back, err := s.Approve(authURL, uid)
	require.NoError(t, err)
	u, err := url.Parse(back)
	require.NoError(t, err)
	require.Empty(t, u.Query().Get("error"))
	require.NotEmpty(t, u.Query().Get("code"))
	return u.Query().Get("code"), u.Query().Get("state")
}

// login returns the token of a new login.
func login(t *testing.T, s *shangcloudtest.Server) *oauth2.Token {
	t.Helper()
	code, _ := approve(t, s, config(s).AuthCodeURL("state-1"))
	tok, err := config(s).Exchange(context.Background(), code)
	require.NoError(t, err)
	return tok
}

// answer is an HTTP answer with its whole body.
type answer struct {
	status int
	header http.Header
	body   string
}

// value returns a member of a JSON answer, or nil.
func (a answer) value(t *testing.T, name string) any {
	t.Helper()
	var v map[string]any
	require.NoError(t, json.Unmarshal([]byte(a.body), &v), a.body)
	return v[name]
}

// send sends one request and follows no redirect. The headers are pairs of name and value.
func send(t *testing.T, method, address, body string, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequest(method, address, strings.NewReader(body))
	require.NoError(t, err)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := (&http.Client{CheckRedirect: noRedirect}).Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	read, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return answer{resp.StatusCode, resp.Header, string(read)}
}

// noRedirect is a CheckRedirect function.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// redeem sends a form to the token endpoint as the confidential client.
func redeem(t *testing.T, s *shangcloudtest.Server, form url.Values) answer {
	t.Helper()
	return send(t, "POST", s.URL+"/oauth/token", form.Encode(), "Content-Type", formType, "Authorization", basic(webClient, webSecret))
}

// call sends an API call.
func call(t *testing.T, s *shangcloudtest.Server, path, accessToken, body string) answer {
	t.Helper()
	return send(t, "POST", s.URL+path, body, "Content-Type", "application/json", "Authorization", "Bearer "+accessToken)
}

// basic returns a Basic header without percent-encoding.
func basic(id, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret))
}

// refresh sends a refresh token to the token endpoint.
func refresh(t *testing.T, s *shangcloudtest.Server, token string, scope ...string) answer {
	t.Helper()
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}
	if scope != nil {
		form["scope"] = scope
	}
	return redeem(t, s, form)
}

// askDevice starts a device login of the public client.
func askDevice(t *testing.T, s *shangcloudtest.Server, query string) answer {
	t.Helper()
	return send(t, "POST", s.URL+"/oauth/device_authorization", "client_id="+publicClient+query, "Content-Type", formType)
}

// poll sends one poll of a device login.
func poll(t *testing.T, s *shangcloudtest.Server, deviceCode any, query string) answer {
	t.Helper()
	form := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {deviceCode.(string)}, "client_id": {publicClient}}
	return send(t, "POST", s.URL+"/oauth/token", form.Encode()+query, "Content-Type", formType)
}

// getInProcess sends a GET request without a network and returns the status.
func getInProcess(t *testing.T, s *shangcloudtest.Server, path string) int {
	t.Helper()
	req, err := http.NewRequest("GET", s.URL+path, nil)
	require.NoError(t, err)
	resp, err := s.Transport().RoundTrip(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode
}

// clock is a clock that a test moves. It is safe for concurrent use.
type clock chan time.Time

// newClock sets the clock of a server.
func newClock(s *shangcloudtest.Server) clock {
	c := make(clock, 1)
	c <- time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	s.Configure(func(set *shangcloudtest.Settings) { set.Now = func() time.Time { return c.add(0) } })
	return c
}

// add moves the clock and returns the new time.
func (c clock) add(d time.Duration) time.Time {
	now := (<-c).Add(d)
	c <- now
	return now
}

// fakeTB records the failures and cleanup functions of a test.
type fakeTB struct {
	failures []string
	cleanups []func()
}

func (f *fakeTB) Helper() {}

func (f *fakeTB) Cleanup(c func()) { f.cleanups = append(f.cleanups, c) }

func (f *fakeTB) Errorf(format string, args ...any) {
	f.failures = append(f.failures, fmt.Sprintf(format, args...))
}

func (f *fakeTB) Fatalf(format string, args ...any) { panic("not expected") }
