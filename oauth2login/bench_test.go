package oauth2login_test

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"golang.org/x/oauth2"
)

// benchServer is a provider that answers at once and does as little work as possible. It
// counts the connections that clients open.
func benchServer(b *testing.B, withTLS bool) (baseURL string, conns *atomic.Int64) {
	b.Helper()
	conns = new(atomic.Int64)
	answer := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, body)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/oauth/token", answer(`{"access_token":"at-1","refresh_token":"rt-1","token_type":"Bearer","expires_in":3600}`))
	mux.HandleFunc("/user", answer(`{"id":10001}`))
	server := httptest.NewUnstartedServer(mux)
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	if withTLS {
		server.StartTLS() // HTTP/1.1: httptest offers HTTP/2 only when asked
	} else {
		server.Start()
	}
	b.Cleanup(server.Close)
	return server.URL, conns
}

// BenchmarkLogin runs whole logins, 64 at a time: the start, the exchange, and a request
// with the token. It compares the default HTTP client of this package with code by hand
// that makes a new http.Client for every call, as the platform's own Go SDK does.
func BenchmarkLogin(b *testing.B) {
	for _, scheme := range []string{"https", "http"} {
		b.Run(scheme+"/oauth2login", func(b *testing.B) {
			baseURL, conns := benchServer(b, scheme == "https")
			p := valid(baseURL).provider(b)
			benchLogins(b, conns, func() error { return loginWithProvider(p, baseURL) })
		})
		b.Run(scheme+"/client-per-call", func(b *testing.B) {
			baseURL, conns := benchServer(b, scheme == "https")
			var states sync.Map
			benchLogins(b, conns, func() error { return loginByHand(&states, baseURL) })
		})
	}
}

func benchLogins(b *testing.B, conns *atomic.Int64, login func() error) {
	b.Helper()
	b.ReportAllocs()
	// 64 users log in at once, in each round.
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

// header is a ResponseWriter that does almost no work.
type header http.Header

func (h header) Header() http.Header         { return http.Header(h) }
func (h header) Write(p []byte) (int, error) { return len(p), nil }
func (h header) WriteHeader(int)             {}

func loginWithProvider(p *oauth2login.Provider, baseURL string) error {
	w := header{}
	r, err := http.NewRequest(http.MethodGet, "/login", nil)
	if err != nil {
		return err
	}
	if err := p.StartLogin(w, r); err != nil {
		return err
	}
	_, state, _ := strings.Cut(w.Header().Get("Location"), "&state=")
	r, err = http.NewRequest(http.MethodGet, "/callback?code=code-1&state="+state[:43], nil)
	if err != nil {
		return err
	}
	cookie, _, _ := strings.Cut(w.Header().Get("Set-Cookie"), ";")
	r.Header.Set("Cookie", cookie)
	login, err := p.FinishLogin(header{}, r)
	if err != nil {
		return err
	}
	return askUser(p.Client(p.TokenSource(login.Token)), baseURL, "")
}

// loginByHand runs the same login as loginWithProvider, with handlers that use no
// library.
func loginByHand(states *sync.Map, baseURL string) error {
	r, err := http.NewRequest(http.MethodGet, "/login", nil)
	if err != nil {
		return err
	}
	state := rand.Text()
	states.Store(state, true)
	http.Redirect(header{}, r, baseURL+"/oauth/authorize?"+url.Values{"response_type": {"code"}, "state": {state},
		"client_id": {"demo"}, "redirect_uri": {"https://app.example/callback"}, "scope": {"user:basic"}}.Encode(), http.StatusFound)

	r, err = http.NewRequest(http.MethodGet, "/callback?code=code-1&state="+state, nil)
	if err != nil {
		return err
	}
	if _, ok := states.LoadAndDelete(r.FormValue("state")); !ok {
		return errors.New("the state is lost")
	}
	form := url.Values{"grant_type": {"authorization_code"}, "code": {r.FormValue("code")}, "redirect_uri": {"https://app.example/callback"}}
	req, err := http.NewRequest(http.MethodPost, baseURL+"/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth("demo", "hush-hush")
	var tok oauth2.Token
	if err := callAndDecode(&http.Client{Timeout: 10 * time.Second}, req, &tok); err != nil {
		return err
	}
	return askUser(&http.Client{Timeout: 10 * time.Second}, baseURL, tok.Type()+" "+tok.AccessToken)
}

func askUser(hc *http.Client, baseURL, authorization string) error {
	req, err := http.NewRequest(http.MethodGet, baseURL+"/user", nil)
	if err != nil {
		return err
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	var user struct{ ID int }
	return callAndDecode(hc, req, &user)
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

// BenchmarkToken measures how long it takes to get a valid token. It compares this
// package with x/oauth2's source, and with the least possible work: one look at the
// clock.
func BenchmarkToken(b *testing.B) {
	p := valid("https://provider.example").provider(b)
	tok := &oauth2.Token{AccessToken: "at-1", RefreshToken: "rt-1", Expiry: time.Now().Add(24 * time.Hour)}
	due := tok.Expiry.Add(-time.Minute)
	for _, c := range []struct {
		name  string
		token func() (*oauth2.Token, error)
	}{
		{"oauth2login", p.TokenSource(tok).Token},
		{"reuse", oauth2.ReuseTokenSource(tok, nil).Token},
		{"floor", func() (*oauth2.Token, error) {
			if time.Now().Before(due) {
				return tok, nil
			}
			return nil, nil
		}},
	} {
		b.Run("serial/"+c.name, func(b *testing.B) { benchSerial(b, c.token) })
		b.Run("parallel8/"+c.name, func(b *testing.B) { benchParallel(b, c.token) })
	}
}

// BenchmarkTokenDue lets 8 callers ask at once for a token that is due for refresh but
// valid for another 50 seconds. The refresh hangs. The benchmark reports how long the
// slowest caller waited.
func BenchmarkTokenDue(b *testing.B) {
	answer := make(chan struct{})
	s := valid("https://provider.example")
	s.HTTPClient = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		<-answer
		return nil, io.ErrUnexpectedEOF
	})}
	s.Logger = slog.New(slog.DiscardHandler)
	p := s.provider(b)
	var slowest []time.Duration
	for b.Loop() {
		source := p.TokenSource(&oauth2.Token{AccessToken: "at-1", RefreshToken: "rt-1", Expiry: time.Now().Add(50 * time.Second)})
		var waited [8]time.Duration
		var wg sync.WaitGroup
		for i := range waited {
			wg.Go(func() {
				begun := time.Now()
				if _, err := source.Token(); err != nil {
					b.Error(err)
				}
				waited[i] = time.Since(begun)
			})
		}
		wg.Wait()
		slowest = append(slowest, slices.Max(waited[:]))
	}
	close(answer)
	slices.Sort(slowest)
	b.ReportMetric(float64(slowest[len(slowest)/2].Nanoseconds()), "ns/slowest")
	b.ReportMetric(float64(slowest[len(slowest)-1].Nanoseconds()), "ns/worst")
}

func benchSerial(b *testing.B, token func() (*oauth2.Token, error)) {
	b.Helper()
	b.ReportAllocs()
	for b.Loop() {
		if got, err := token(); got == nil || err != nil {
			b.Fatal(err)
		}
	}
}

func benchParallel(b *testing.B, token func() (*oauth2.Token, error)) {
	b.Helper()
	b.ReportAllocs()
	b.SetParallelism(max(1, 8/runtime.GOMAXPROCS(0)))
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if got, err := token(); got == nil || err != nil {
				b.Error(err)
			}
		}
	})
}
