package security_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// recording is testdata/python-1.2.0.json: the requests that the platform's own Python
// client sends.
type recording struct {
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`
	RedirectURI  string `json:"redirect_uri"`
	Scope        string
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	Requests     []struct {
		Name, URL string
		Requests  []wireRequest
	}
}

type wireRequest struct {
	Method, Target, Body string
	Headers              map[string]string
}

func readRecording(t *testing.T) recording {
	t.Helper()
	data, err := os.ReadFile("testdata/python-1.2.0.json")
	require.NoError(t, err)
	var rec recording
	require.NoError(t, json.Unmarshal(data, &rec))
	return rec
}

// recorder is a server that gives minimal answers, and keeps the requests.
type recorder struct {
	*httptest.Server
	mu   sync.Mutex
	seen []wireRequest
}

func newRecorder(t *testing.T) *recorder {
	rec := new(recorder)
	rec.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		headers := map[string]string{}
		for name := range r.Header {
			headers[name] = r.Header.Get(name)
		}
		rec.mu.Lock()
		rec.seen = append(rec.seen, wireRequest{r.Method, r.URL.RequestURI(), string(body), headers})
		rec.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/oauth/token":
			io.WriteString(w, `{"access_token":"at-1","refresh_token":"rt-1","token_type":"Bearer","expires_in":3600}`)
		case "/api/user/info":
			io.WriteString(w, `{"uid":10001,"nickname":"n","mail":"m","avatar":"a"}`)
		default:
			io.WriteString(w, `{"value":"v"}`)
		}
	}))
	t.Cleanup(rec.Close)
	return rec
}

func (r *recorder) take() []wireRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := r.seen
	r.seen = nil
	return seen
}

// TestWire makes each recorded call of the platform's own client with this library. The
// library's request must be the same as the recorded request.
func TestWire(t *testing.T) {
	rec := readRecording(t)
	server := newRecorder(t)
	p, err := shangcloud.New(&oauth2.Config{
		ClientID:     rec.ClientID,
		ClientSecret: rec.ClientSecret,
		RedirectURL:  rec.RedirectURI,
		Scopes:       strings.Fields(rec.Scope),
		Endpoint:     shangcloud.EndpointAt(server.URL),
	}, nil)
	require.NoError(t, err)
	api := p.API(oauth2.StaticTokenSource(&oauth2.Token{AccessToken: rec.AccessToken, TokenType: rec.TokenType}))
	ctx := context.Background()

	calls := map[string]func(t *testing.T){
		"exchange": func(t *testing.T) {
			authURL, err := p.StartUnbound(ctx)
			require.NoError(t, err)
			_, err = p.FinishUnbound(ctx, url.Values{"state": {queryOf(t, authURL).Get("state")}, "code": {"code-1"}})
			require.NoError(t, err)
		},
		"user info": func(t *testing.T) {
			_, err := api.UserInfo(ctx)
			require.NoError(t, err)
		},
		"variable write": func(t *testing.T) {
			require.NoError(t, api.SetVariable(ctx, "theme", "dark"))
		},
		"variable write unicode": func(t *testing.T) {
			require.NoError(t, api.SetVariable(ctx, "键 1", "值\"\\\n<&>\u2028😀"))
		},
		"variable read": func(t *testing.T) {
			_, err := api.Variable(ctx, "theme")
			require.NoError(t, err)
		},
		"variable delete": func(t *testing.T) {
			require.NoError(t, api.DeleteVariable(ctx, "theme"))
		},
	}
	tested := 0
	for _, want := range rec.Requests {
		if strings.HasPrefix(want.Name, "room ") {
			continue // package mmo has them
		}
		t.Run(want.Name, func(t *testing.T) {
			if want.Name == "authorize url" {
				authURL, err := p.StartUnbound(ctx)
				require.NoError(t, err)
				got, recorded := queryOf(t, authURL), queryOf(t, want.URL)
				assert.Equal(t, "S256", got.Get("code_challenge_method"))
				assert.NotEmpty(t, got.Get("state"))
				for _, name := range []string{"code_challenge", "code_challenge_method", "state"} {
					got.Del(name)
					recorded.Del(name)
				}
				assert.Equal(t, recorded, got)
				assert.True(t, strings.HasPrefix(authURL, server.URL+"/oauth/authorize?"))
				return
			}
			require.Contains(t, calls, want.Name)
			calls[want.Name](t)
			seen := server.take()
			require.Len(t, want.Requests, 1)
			require.Len(t, seen, 1)
			assertSameRequest(t, want.Requests[0], seen[0])
		})
		tested++
	}
	require.Equal(t, 7, tested)
}

func assertSameRequest(t *testing.T, want, got wireRequest) {
	t.Helper()
	assert.Equal(t, want.Method, got.Method)
	assert.Equal(t, want.Target, got.Target)
	for name, value := range want.Headers {
		assert.Equal(t, value, got.Headers[http.CanonicalHeaderKey(name)], name)
	}
	if want.Headers["Content-Type"] == "application/json" {
		assert.JSONEq(t, want.Body, got.Body)
		return
	}
	wantForm, err := url.ParseQuery(want.Body)
	require.NoError(t, err)
	gotForm, err := url.ParseQuery(got.Body)
	require.NoError(t, err)
	assert.NotEmpty(t, gotForm.Get("code_verifier"))
	gotForm.Del("code_verifier")
	assert.Equal(t, wantForm, gotForm)
}

func queryOf(t *testing.T, rawURL string) url.Values {
	t.Helper()
	_, query, found := strings.Cut(rawURL, "?")
	require.True(t, found, "no query")
	v, err := url.ParseQuery(query)
	require.NoError(t, err)
	return v
}

// TestRawBasic sends client credentials in an exchange and in a refresh. The provider must
// not escape them, although x/oauth2 would.
func TestRawBasic(t *testing.T) {
	for _, c := range []struct{ name, id, secret string }{
		{"plain", "demo", "secret-1._~"},
		{"reserved", "id+/=%", "s+/=:%25 &?"},
		{"Chinese", "应用", "密钥 😀"},
		{"escaped already", "a%2Bb", "%"},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := newRecorder(t)
			p, err := shangcloud.New(&oauth2.Config{
				ClientID: c.id, ClientSecret: c.secret,
				RedirectURL: "https://app.example/callback", Endpoint: shangcloud.EndpointAt(server.URL),
			}, nil)
			require.NoError(t, err)
			ctx := context.Background()
			authURL, err := p.StartUnbound(ctx)
			require.NoError(t, err)
			assert.Equal(t, c.id, queryOf(t, authURL).Get("client_id"))
			login, err := p.FinishUnbound(ctx, url.Values{"state": {queryOf(t, authURL).Get("state")}, "code": {"code"}})
			require.NoError(t, err)

			tok := login.Token
			tok.Expiry = tok.Expiry.AddDate(-1, 0, 0)
			_, err = p.TokenSource(tok).Token()
			require.NoError(t, err)

			seen := server.take()
			require.Len(t, seen, 2)
			want := "Basic " + base64.StdEncoding.EncodeToString([]byte(c.id+":"+c.secret))
			for _, req := range seen {
				assert.Equal(t, want, req.Headers["Authorization"])
				assert.NotContains(t, req.Body, "client_")
			}
			assert.Contains(t, seen[1].Body, "grant_type=refresh_token&refresh_token=rt-1")
		})
	}
}

// TestDefaultClientCapsHeaders: a server answers with large headers, once below the limit
// and once above it.
func TestDefaultClientCapsHeaders(t *testing.T) {
	for size, ok := range map[int]bool{60 << 10: true, 65 << 10: false} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("x", size))
			io.WriteString(w, `{"value":"v"}`)
		}))
		c := valid()
		c.Endpoint = shangcloud.EndpointAt(server.URL)
		_, err := c.provider(t).API(oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "at"})).Variable(t.Context(), "key")
		if ok {
			assert.NoError(t, err)
		} else {
			assert.ErrorIs(t, err, oauth2login.ErrUnavailable)
		}
		server.Close()
	}
}

// TestDefaultClientKeepsItsConnections makes 64 calls at a time, twice. The second round
// uses the connections of the first.
func TestDefaultClientKeepsItsConnections(t *testing.T) {
	const calls = 64
	var conns atomic.Int64
	var arrived sync.WaitGroup
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "identity", r.Header.Get("Accept-Encoding"), "no compression, so no bomb")
		arrived.Done()
		arrived.Wait()
		io.WriteString(w, `{"value":"v"}`)
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	c := valid()
	c.Endpoint = shangcloud.EndpointAt(server.URL)
	api := c.provider(t).API(oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "at"}))
	for range 2 {
		arrived.Add(calls)
		var done sync.WaitGroup
		for range calls {
			done.Go(func() {
				_, err := api.Variable(context.Background(), "key")
				assert.NoError(t, err)
			})
		}
		done.Wait()
	}
	assert.Less(t, conns.Load(), int64(calls+calls/10))
}

func TestPublicClientSendsNoHeader(t *testing.T) {
	server := newRecorder(t)
	p, err := shangcloud.New(&oauth2.Config{
		ClientID: "game+1", RedirectURL: "http://127.0.0.1/callback", Endpoint: shangcloud.EndpointAt(server.URL),
	}, nil)
	require.NoError(t, err)
	ctx := context.Background()
	authURL, err := p.StartUnbound(ctx)
	require.NoError(t, err)
	login, err := p.FinishUnbound(ctx, url.Values{"state": {queryOf(t, authURL).Get("state")}, "code": {"code"}})
	require.NoError(t, err)
	tok := login.Token
	tok.Expiry = tok.Expiry.AddDate(-1, 0, 0)
	_, err = p.TokenSource(tok).Token()
	require.NoError(t, err)
	seen := server.take()
	require.Len(t, seen, 2)
	for _, req := range seen {
		assert.NotContains(t, req.Headers, "Authorization")
		form, err := url.ParseQuery(req.Body)
		require.NoError(t, err)
		assert.Equal(t, []string{"game+1"}, form["client_id"])
		assert.NotContains(t, form, "client_secret")
	}
}
