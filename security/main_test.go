package security_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// setup is the configuration of a test's provider.
type setup struct {
	oauth2.Config
	oauth2login.Options
	row []oauth2login.ProviderOption
}

// valid returns a setup for an application at https://app.example.
func valid() *setup {
	return &setup{Config: oauth2.Config{ClientID: "demo", ClientSecret: "hush-hush", RedirectURL: "https://app.example/callback"}}
}

func (s *setup) provider(t testing.TB) *shangcloud.Provider {
	t.Helper()
	p, err := shangcloud.New(&s.Config, &s.Options, s.row...)
	require.NoError(t, err)
	return p
}

// sealedWith returns a change to a setup. With this change, the cookie of a login contains
// the login itself, encrypted.
func sealedWith(keys ...string) func(*setup) {
	return func(c *setup) {
		for _, key := range keys {
			c.StateKeys = append(c.StateKeys, []byte(strings.Repeat(key, 32)))
		}
	}
}

// countingStore counts calls.
type countingStore struct {
	state.Store
	calls int
}

func (s *countingStore) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	s.calls++
	return s.Store.Put(ctx, key, value, ttl)
}

func (s *countingStore) Take(ctx context.Context, key string) ([]byte, bool, error) {
	s.calls++
	return s.Store.Take(ctx, key)
}

// site is an application with one provider.
type site struct {
	*shangcloud.Provider
	platform *shangcloudtest.Server
	redirect string
}

func register(platform *shangcloudtest.Server) {
	platform.AddClient(shangcloudtest.Client{ID: "demo", Secret: "hush-hush", RedirectURIs: []string{"https://app.example/callback"}})
	platform.AddUser(shangcloudtest.User{ID: 10001, Nickname: "小明", Email: "ming@example.cn", AvatarURL: "https://example.cn/a.png"})
	platform.AutoApprove(10001)
}

func newSite(t *testing.T, changes ...func(*setup)) *site {
	t.Helper()
	platform := shangcloudtest.NewServer(t)
	register(platform)
	return newSiteAt(t, platform, changes...)
}

func newSiteAt(t *testing.T, platform *shangcloudtest.Server, changes ...func(*setup)) *site {
	t.Helper()
	s := valid()
	s.Endpoint = shangcloud.EndpointAt(platform.URL)
	for _, change := range changes {
		change(s)
	}
	return &site{s.provider(t), platform, s.RedirectURL}
}

// inBubble runs f in a synctest bubble. The site and its platform use the fake clock of the
// bubble. They need no network.
func inBubble(t *testing.T, f func(t *testing.T, s *site), changes ...func(*setup)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		platform := shangcloudtest.New()
		defer platform.Close()
		register(platform)
		changes := append([]func(*setup){func(s *setup) { s.HTTPClient = &http.Client{Transport: platform.Transport()} }}, changes...)
		f(t, newSiteAt(t, platform, changes...))
		synctest.Wait()
	})
}

func (s *site) tokenRequests() int { return len(s.platform.Requests("/oauth/token")) }

// issue returns tokens of user 10001 without a login.
func issue(platform *shangcloudtest.Server) *oauth2.Token {
	access, refresh := platform.Issue("demo", 10001, "user:basic", "var:io")
	return &oauth2.Token{AccessToken: access, RefreshToken: refresh, TokenType: "bearer", Expiry: time.Now().Add(time.Hour)}
}

// loginCookie is the prefix of the names of login cookies.
const loginCookie = "__Host-oauth2login-"

// partsOf splits the value of a login cookie. head is the provider and the start time.
// secret is a random text that only this browser has. sealed is the encrypted login, or ""
// if a store has the login.
func partsOf(value string) (head, secret, sealed string) {
	parts := strings.SplitN(value, ".", 4)
	if len(parts) == 4 {
		sealed = parts[3]
	}
	return parts[0] + "." + parts[1], parts[2], sealed
}

// browser plays a browser with a cookie jar.
type browser struct{ jar http.CookieJar }

func newBrowser(t *testing.T) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return &browser{jar: jar}
}

// request returns a request with the cookies that b has for address.
func (b *browser) request(method, address string) *http.Request {
	r := httptest.NewRequest(method, address, nil)
	for _, c := range b.jar.Cookies(r.URL) {
		r.AddCookie(c)
	}
	return r
}

// start starts a login and returns the address to which the library sends the browser.
func (b *browser) start(t *testing.T, s *site, opts ...oauth2login.LoginOption) string {
	t.Helper()
	r := b.request("GET", "https://app.example/login")
	w := httptest.NewRecorder()
	require.NoError(t, s.StartLogin(w, r, opts...))
	b.jar.SetCookies(r.URL, w.Result().Cookies())
	return w.Header().Get("Location")
}

// finish sends the browser to the callback.
func (b *browser) finish(s *site, callbackURL string) (*oauth2login.Login, error) {
	r := b.request("GET", callbackURL)
	w := httptest.NewRecorder()
	login, err := s.FinishLogin(w, r)
	b.jar.SetCookies(r.URL, w.Result().Cookies())
	return login, err
}

// authorize opens authURL and returns the callback URL to which the platform sends the
// browser.
func authorize(t *testing.T, authURL string) (callbackURL string) {
	t.Helper()
	res, err := http.DefaultTransport.RoundTrip(httptest.NewRequest("GET", authURL, nil))
	require.NoError(t, err)
	defer res.Body.Close()
	require.NotEmpty(t, res.Header.Get("Location"), "status %d", res.StatusCode)
	return res.Header.Get("Location")
}

func mustParse(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return u
}

// roundTripper is a function that implements http.RoundTripper.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A network has a single server, which answers the requests to every address. It records
// connections and requests. It is in memory, so it works in a synctest bubble with a fake
// clock.
type network struct {
	*http.Transport
	answer func(c net.Conn, r *http.Request, body []byte) // answers a request
	tls    *tls.Config                                    // the server's configuration; nil: plain http
	wrap   func(net.Conn) net.Conn                        // wraps the client's end of a connection

	mu       sync.Mutex
	dialled  []string
	requests []sentRequest
	conns    []net.Conn // both ends, because a handshake may outlive its request
	serving  sync.WaitGroup
	open     atomic.Int32 // connections that the client has not closed
}

type sentRequest struct {
	*http.Request
	body []byte
}

// certificate is the certificate of package httptest. It is valid for example.com and
// 127.0.0.1.
var certificate = sync.OnceValues(func() (tls.Certificate, *x509.CertPool) {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return server.TLS.Certificates[0], roots
})

func newNetwork(t *testing.T, answer func(net.Conn, *http.Request, []byte)) *network {
	n := &network{Transport: new(http.Transport), answer: answer}
	n.DialContext = n.dial
	n.DisableCompression = true
	n.MaxResponseHeaderBytes = 1 << 20 // net/http's default takes ten times as long
	t.Cleanup(n.close)
	return n
}

// close closes the connections and waits for the goroutines that serve them.
func (n *network) close() {
	n.CloseIdleConnections()
	n.mu.Lock()
	for _, c := range n.conns {
		c.Close()
	}
	n.mu.Unlock()
	n.serving.Wait()
}

// secure makes the server use TLS. If trusted is false, the client does not trust the
// server's certificate.
func (n *network) secure(trusted bool) {
	cert, roots := certificate()
	if !trusted {
		roots = x509.NewCertPool()
	}
	n.tls = &tls.Config{Certificates: []tls.Certificate{cert}}
	n.TLSClientConfig = &tls.Config{RootCAs: roots}
}

func (n *network) dial(_ context.Context, _, address string) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dialled = append(n.dialled, address)
	client, server := net.Pipe()
	if n.tls != nil {
		server = tls.Server(server, n.tls)
	}
	n.serving.Go(func() { n.serve(server) })
	if n.wrap != nil {
		client = n.wrap(client)
	}
	n.conns = append(n.conns, server, client)
	n.open.Add(1)
	return &openConn{Conn: client, n: n}, nil
}

// openConn is the client's end of a connection. The network counts it as open until the
// client closes it.
type openConn struct {
	net.Conn
	n      *network
	closed sync.Once
}

func (c *openConn) Close() error {
	c.closed.Do(func() { c.n.open.Add(-1) })
	return c.Conn.Close()
}

// serve answers requests until the client or the function answer closes the connection.
func (n *network) serve(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		n.mu.Lock()
		n.requests = append(n.requests, sentRequest{r, body})
		n.mu.Unlock()
		out := &meter{Conn: c}
		n.answer(out, r, body)
		if out.closed {
			return
		}
	}
}

func (n *network) sent() (dialled []string, requests []sentRequest) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dialled, n.requests
}

// meter is a connection that fails after it has sent 64 MiB, so that a test with an endless
// answer ends.
type meter struct {
	net.Conn
	n      int
	closed bool
}

func (m *meter) Write(p []byte) (int, error) {
	if m.n += len(p); m.n > 64<<20 {
		return 0, io.ErrShortWrite
	}
	return m.Conn.Write(p)
}

func (m *meter) Close() error {
	m.closed = true
	return m.Conn.Close()
}

// trickle writes text at one byte per second. Then it writes spaces until the client closes
// the connection, at most for an hour.
func trickle(w io.Writer, text string) {
	for i := range 3600 {
		b := byte(' ')
		if i < len(text) {
			b = text[i]
		}
		if _, err := w.Write([]byte{b}); err != nil {
			return
		}
		time.Sleep(time.Second)
	}
}

// flood writes b again and again until the client closes the connection.
func flood(w io.Writer, b string) {
	block := bytes.Repeat([]byte(b), 64<<10/len(b))
	for {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

// forget clears the recorded connections and requests.
func (n *network) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dialled, n.requests, n.conns = nil, nil, nil
}

func formOf(r sentRequest) url.Values {
	form, _ := url.ParseQuery(string(r.body))
	return form
}
