package shangcloudtest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
)

func TestNewServerUnknownPath(t *testing.T) {
	tb := new(fakeTB)
	s := shangcloudtest.NewServer(tb)
	a := send(t, "POST", s.URL+"/api/variables?key=secret", "{}") // the platform spells it "varibles"
	assert.Equal(t, http.StatusNotFound, a.status)
	assert.Equal(t, "not_found", a.value(t, "error"))
	assert.Equal(t, []string{"shangcloudtest: unexpected request: POST /api/variables"}, tb.failures)

	s.Fault("/fault", shangcloudtest.Fault{Status: 404})
	send(t, "GET", s.URL+"/fault", "")
	send(t, "GET", s.URL+"/favicon.ico", "")
	assert.Len(t, tb.failures, 1)

	for _, cleanup := range tb.cleanups {
		cleanup()
	}
	_, err := http.Get(s.URL)
	assert.Error(t, err, "closed")
	assert.Equal(t, http.StatusNotFound, getInProcess(t, s, "/late"))
	assert.Len(t, tb.failures, 1, "a closed server reports nothing to the test")

	assert.Equal(t, http.StatusNotFound, getInProcess(t, shangcloudtest.New(), "/unknown"))
}

func TestStart(t *testing.T) {
	s, err := shangcloudtest.Start(":0")
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(s.URL, "http://127.0.0.1:"), s.URL)
	_, err = shangcloudtest.Start(strings.TrimPrefix(s.URL, "http://"))
	assert.ErrorContains(t, err, "shangcloudtest: ", "the port is taken")
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	require.NoError(t, shangcloudtest.New().Close())
}

// Some clients of the platform use HTTP/1.0 and header names in lower case.
func TestServerHTTP10(t *testing.T) {
	s := platform(t)
	access, _ := s.Issue(webClient, uid)
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "POST /api/user/info HTTP/1.0\r\ncontent-type: application/json\r\nauthorization: bearer %s\r\ncontent-length: 5\r\n\r\n{ } \n", access)
	require.NoError(t, err)
	all, err := io.ReadAll(conn)
	require.NoError(t, err)
	assert.Contains(t, string(all), "200 OK")
	assert.Contains(t, string(all), `"uid":10001`)
}

func TestFormatPrintsNoSecret(t *testing.T) {
	s := platform(t)
	tok := login(t, s)
	call(t, s, "/api/user/info", tok.AccessToken, "{}")
	client := shangcloudtest.Client{ID: webClient, Secret: webSecret, RedirectURIs: []string{callback}}
	requests := s.Requests()
	var out bytes.Buffer
	logs := []*slog.Logger{slog.New(slog.NewTextHandler(&out, nil)), slog.New(slog.NewJSONHandler(&out, nil))}
	for _, v := range []any{s, client, &client, []shangcloudtest.Client{client}, requests, requests[len(requests)-1], &requests[0]} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		encoded, err := json.Marshal(v)
		require.NoError(t, err)
		out.Write(encoded)
		for _, l := range logs {
			l.Info("seen", "value", v)
		}
	}
	assert.Contains(t, out.String(), s.URL)
	assert.Contains(t, out.String(), webClient)
	assert.Contains(t, out.String(), "POST /oauth/token")
	code := ""
	for _, r := range requests {
		if r.Path == "/oauth/token" {
			code = r.Form().Get("code")
		}
	}
	for _, secret := range []string{webSecret, tok.AccessToken, tok.RefreshToken, code, basic(webClient, webSecret)} {
		require.NotEmpty(t, secret)
		assert.NotContains(t, out.String(), secret)
		assert.NotContains(t, out.String(), fmt.Sprintf("%x", secret))
	}
	assert.Equal(t, "<nil>", fmt.Sprint((*shangcloudtest.Server)(nil)))
}

// Several goroutines use one server, for the race detector.
func TestServerConcurrentUse(t *testing.T) {
	s := platform(t)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := range 4 {
				code, _ := approve(t, s, config(s).AuthCodeURL("s"))
				tok, err := config(s).Exchange(t.Context(), code)
				if !assert.NoError(t, err) {
					return
				}
				body := fmt.Sprintf(`{"key":"k%d","action":"write","value":"v"}`, i)
				assert.Equal(t, http.StatusOK, call(t, s, "/api/varibles", tok.AccessToken, body).status)
				assert.Equal(t, http.StatusOK, refresh(t, s, tok.RefreshToken).status)
			}
		})
	}
	for range 4 {
		wg.Go(func() {
			for range 16 {
				s.AddUser(shangcloudtest.User{ID: 7, Nickname: "x"})
				s.AddClient(shangcloudtest.Client{ID: "x", Secret: "x"})
				s.Issue("x", 7)
				s.Revoke(7)
				s.Configure(func(set *shangcloudtest.Settings) { set.TokenType = "bearer" })
				s.Fault("/nowhere", shangcloudtest.Fault{Times: 1})
				s.Handle("/elsewhere", http.NotFoundHandler())
				s.SetVariable(uid, "k", "v")
				_, _, _ = s.Requests(), s.Variables(uid), fmt.Sprint(s)
			}
		})
	}
	wg.Wait()
	assert.Len(t, s.Variables(uid), 5)
}

func BenchmarkLogin(b *testing.B) {
	s, err := shangcloudtest.Start("")
	require.NoError(b, err)
	defer s.Close()
	populate(s)
	s.AutoApprove(uid)
	client := &http.Client{CheckRedirect: noRedirect, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	b.SetParallelism(32)
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		conf := config(s)
		for p.Next() {
			resp, err := client.Get(conf.AuthCodeURL("s"))
			if err != nil {
				b.Error(err)
				return
			}
			resp.Body.Close()
			back, _ := resp.Location()
			req, _ := http.NewRequest("POST", s.URL+"/oauth/token", strings.NewReader("grant_type=authorization_code&redirect_uri=http%3A%2F%2F127.0.0.1%3A8080%2Foauth%2Fcallback&code="+back.Query().Get("code")))
			req.Header.Set("Content-Type", formType)
			req.Header.Set("Authorization", basic(webClient, webSecret))
			resp, err = client.Do(req)
			if err != nil || resp.StatusCode != 200 {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	})
}
