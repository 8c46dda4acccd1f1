//go:build unported

package shangcloud_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"golang.org/x/oauth2"
)

// TestMain lets Go's default transport, and with it this library's, trust the
// certificate of package httptest.
func TestMain(m *testing.M) {
	server := httptest.NewTLSServer(nil)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	server.Close()
	t := http.DefaultTransport.(*http.Transport)
	t.TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	t.TLSClientConfig.RootCAs = roots
	os.Exit(m.Run())
}

// benchPlatform answers at once, with as little work as possible, and counts the
// connections made to it.
func benchPlatform(b *testing.B, tls bool) (baseURL string, conns *atomic.Int64) {
	conns = new(atomic.Int64)
	answer := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, body)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/oauth/token", answer(`{"access_token":"at-1","refresh_token":"rt-1","token_type":"Bearer","expires_in":3600}`))
	mux.HandleFunc("/api/user/info", answer(`{"uid":10001,"nickname":"小明","mail":"ming@example.cn","avatar":"https://example.cn/a.png"}`))
	mux.HandleFunc("/api/varibles", answer(`{"value":"dark"}`))
	server := httptest.NewUnstartedServer(mux)
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	if tls {
		server.StartTLS() // HTTP/1.1: httptest offers HTTP/2 only when asked
	} else {
		server.Start()
	}
	b.Cleanup(server.Close)
	return server.URL, conns
}

// BenchmarkLogin runs whole logins, 64 at a time: the exchange, then the user's
// profile and a variable. It does so with this library's default HTTP client, and in the way of the platform's own Go SDK,
// which makes an http.Client on Go's default transport for every call.
func BenchmarkLogin(b *testing.B) {
	for _, tls := range []bool{true, false} {
		name := "http"
		if tls {
			name = "https"
		}
		b.Run(name+"/shangcloud", func(b *testing.B) {
			baseURL, conns := benchPlatform(b, tls)
			c := valid()
			c.BaseURL = baseURL
			p, err := shangcloud.New(c)
			if err != nil {
				b.Fatal(err)
			}
			benchLogins(b, conns, func() error { return loginWithProvider(p) })
		})
		b.Run(name+"/client-per-call", func(b *testing.B) {
			baseURL, conns := benchPlatform(b, tls)
			var states sync.Map
			benchLogins(b, conns, func() error { return loginClientPerCall(&states, baseURL) })
		})
	}
}

func benchLogins(b *testing.B, conns *atomic.Int64, login func() error) {
	b.ReportAllocs()
	// 64 users come at once, again and again.
	for n := b.N; n > 0; n -= 64 {
		var wg sync.WaitGroup
		for range min(n, 64) {
			wg.Go(func() {
				if err := login(); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "logins/s")
	b.ReportMetric(float64(conns.Load())/float64(b.N), "conns/login")
}

// header is a ResponseWriter that costs next to nothing.
type header http.Header

func (h header) Header() http.Header         { return http.Header(h) }
func (h header) Write(p []byte) (int, error) { return len(p), nil }
func (h header) WriteHeader(int)             {}

func loginWithProvider(p *shangcloud.Provider) error {
	w := header{}
	r, err := http.NewRequest("GET", "/login", nil)
	if err != nil {
		return err
	}
	if err := p.StartLogin(w, r); err != nil {
		return err
	}
	_, state, _ := strings.Cut(w.Header().Get("Location"), "&state=")
	r, err = http.NewRequest("GET", "/callback?code=code-1&state="+state[:43], nil)
	if err != nil {
		return err
	}
	cookie, _, _ := strings.Cut(w.Header().Get("Set-Cookie"), ";")
	r.Header.Set("Cookie", cookie)
	login, err := p.FinishLogin(header{}, r)
	if err != nil {
		return err
	}
	api := p.API(p.TokenSource(login.Token, nil))
	if _, err = api.UserInfo(context.Background()); err != nil {
		return err
	}
	_, err = api.Variable(context.Background(), "theme")
	return err
}

// loginClientPerCall is the same login in two handlers as one writes them with
// the platform's Go SDK.
func loginClientPerCall(states *sync.Map, baseURL string) error {
	w := header{}
	r, err := http.NewRequest("GET", "/login", nil)
	if err != nil {
		return err
	}
	state := rand.Text()
	states.Store(state, true)
	http.Redirect(w, r, baseURL+"/oauth/authorize?"+url.Values{"response_type": {"code"}, "state": {state},
		"client_id": {"demo"}, "redirect_uri": {"https://app.example/callback"}, "scope": {"user:basic"}}.Encode(), http.StatusFound)

	r, err = http.NewRequest("GET", "/callback?code=code-1&state="+state, nil)
	if err != nil {
		return err
	}
	if _, ok := states.LoadAndDelete(r.FormValue("state")); !ok {
		return fmt.Errorf("state lost")
	}
	form := url.Values{"grant_type": {"authorization_code"}, "code": {r.FormValue("code")}, "redirect_uri": {"https://app.example/callback"}}
	req, err := http.NewRequest("POST", baseURL+"/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth("demo", "hush-hush")
	var tok oauth2.Token
	if err := callAndDecode(&http.Client{Timeout: 10 * time.Second}, req, &tok); err != nil {
		return err
	}
	if _, err = handWrittenUserInfo(&http.Client{Timeout: 10 * time.Second}, baseURL, &tok); err != nil {
		return err
	}
	_, err = handWrittenVariable(&http.Client{Timeout: 10 * time.Second}, baseURL, &tok)
	return err
}

func callAndDecode(hc *http.Client, req *http.Request, v any) error {
	res, err := hc.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	return json.Unmarshal(body, v)
}

func handWrittenUserInfo(hc *http.Client, baseURL string, tok *oauth2.Token) (*shangcloud.UserInfo, error) {
	req, err := http.NewRequest("POST", baseURL+"/api/user/info", strings.NewReader("{}"))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", tok.Type()+" "+tok.AccessToken)
	u := new(shangcloud.UserInfo)
	return u, callAndDecode(hc, req, u)
}

func handWrittenVariable(hc *http.Client, baseURL string, tok *oauth2.Token) (string, error) {
	in, err := json.Marshal(map[string]string{"key": "theme", "action": "read", "value": ""})
	if err != nil {
		return "", err
	}
	req, err := http.NewRequest("POST", baseURL+"/api/varibles", strings.NewReader(string(in)))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", tok.Type()+" "+tok.AccessToken)
	var out struct{ Value, Error string }
	return out.Value, callAndDecode(hc, req, &out)
}

// BenchmarkAPI measures calls beside the same ones hand-written on an http.Client
// with a time-out.
func BenchmarkAPI(b *testing.B) {
	baseURL, _ := benchPlatform(b, false)
	tok := &oauth2.Token{AccessToken: "at-1", TokenType: "Bearer", Expiry: time.Now().Add(time.Hour)}
	c := valid()
	c.BaseURL = baseURL
	p, err := shangcloud.New(c)
	if err != nil {
		b.Fatal(err)
	}
	api := p.API(p.TokenSource(tok, nil))
	plain := &http.Client{Timeout: 10 * time.Second}
	ctx := context.Background()
	for name, call := range map[string]func() error{
		"user-info/shangcloud":   func() error { _, err := api.UserInfo(ctx); return err },
		"user-info/hand-written": func() error { _, err := handWrittenUserInfo(plain, baseURL, tok); return err },
		"variable/shangcloud":    func() error { _, err := api.Variable(ctx, "theme"); return err },
		"variable/hand-written":  func() error { _, err := handWrittenVariable(plain, baseURL, tok); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := call(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkToken hands out a valid token, beside x/oauth2's source and beside the
// least that can be done: to look at the clock and compare.
func BenchmarkToken(b *testing.B) {
	p, err := shangcloud.New(valid())
	if err != nil {
		b.Fatal(err)
	}
	tok := &oauth2.Token{AccessToken: "at-1", RefreshToken: "rt-1", Expiry: time.Now().Add(24 * time.Hour)}
	due := tok.Expiry.Add(-time.Minute)
	for _, c := range []struct {
		name  string
		token func() (*oauth2.Token, error)
	}{
		{"shangcloud", p.TokenSource(tok, nil).Token},
		{"reuse", oauth2.ReuseTokenSource(tok, nil).Token},
		{"floor", func() (*oauth2.Token, error) {
			if time.Now().Before(due) {
				return tok, nil
			}
			return nil, nil
		}},
	} {
		b.Run("serial/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if got, err := c.token(); got == nil || err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("parallel8/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(max(1, 8/runtime.GOMAXPROCS(0)))
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if got, err := c.token(); got == nil || err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
