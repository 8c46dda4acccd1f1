package browser

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/webapp"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// site is a running application, and its platform.
type site struct {
	home     string // the application's URL, with a slash at the end
	platform string // the platform's URL, with a slash at the end
	states   *states
}

func (s site) at(path string) string { return s.home + strings.TrimPrefix(path, "/") }

// states stores login states in memory, and counts them. While over is set, all states
// count as expired.
type states struct {
	state.Memory
	puts atomic.Int32
	over atomic.Bool
}

func (s *states) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	s.puts.Add(1)
	return s.Memory.Put(ctx, key, value, ttl)
}

func (s *states) Take(ctx context.Context, key string) ([]byte, bool, error) {
	value, found, err := s.Memory.Take(ctx, key)
	if s.over.Load() {
		return nil, false, err
	}
	return value, found, err
}

// newSite runs the application without settings. The application then starts a platform
// itself.
func newSite(t *testing.T) site {
	t.Helper()
	s := site{states: new(states)}
	lines := run(t, nil, &oauth2login.Options{States: s.states})
	s.home, s.platform = lines["Open"], lines["Platform"]
	return s
}

// run runs the application. It returns the addresses that the application prints. The key
// of each address is the first word of its line.
func run(t *testing.T, env map[string]string, options *oauth2login.Options) map[string]string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := webapp.Run(ctx, "127.0.0.1:0", func(name string) string { return env[name] }, w, options)
		w.CloseWithError(err)
		ended <- err
	}()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-ended, "the end of the application")
	})
	lines := make(map[string]string)
	for scan := bufio.NewScanner(r); lines["Stop"] == ""; {
		require.True(t, scan.Scan(), "the application printed no address: %v", scan.Err())
		word, rest, _ := strings.Cut(scan.Text(), " ")
		fields := strings.Fields(rest)
		lines[word] = strings.TrimSuffix(fields[len(fields)-1], ",")
		if word == "Listening" {
			lines[word] = fields[0]
		}
	}
	go io.Copy(io.Discard, r)
	return lines
}

const (
	appHost      = "login.app.test"
	siblingHost  = "evil.app.test" // the attacker's host, on the same site
	strangerHost = "evil.test"     // the attacker's host, on another site
	platformHost = "accounts.platform.test"
)

// newSecureSite runs the application and the platform as in production: over https, on
// separate hosts, with the application behind a proxy. If change is not nil, it is called
// for each answer of the application.
func newSecureSite(t *testing.T, change func(*http.Response) error) site {
	t.Helper()
	states := new(states)
	s := newSiteBehind(t, serve, change, &oauth2login.Options{States: states})
	s.states = states
	return s
}

// newSiteBehind is like [newSecureSite], but serveApp serves the application, and the
// application gets options. It does not set the field states of the site.
func newSiteBehind(t *testing.T, serveApp func(*testing.T, string, http.Handler) string,
	change func(*http.Response) error, options *oauth2login.Options) site {
	t.Helper()
	platform := shangcloudtest.NewServer(t)
	s := site{platform: serve(t, platformHost, platform)}

	var proxy httputil.ReverseProxy
	s.home = serveApp(t, appHost, &proxy)
	const id, secret = "weblogin", "of the test"
	platform.AddClient(shangcloudtest.Client{ID: id, Secret: secret, RedirectURIs: []string{s.at("callback")}})
	platform.AddUser(shangcloudtest.User{ID: 10001, Nickname: "林小满", Email: "xiaoman@example.com"})
	platform.SetVariable(10001, "greeting", "你好，世界\nHello, world")

	env := map[string]string{
		"SHANGCLOUD_CLIENT_ID": id, "SHANGCLOUD_CLIENT_SECRET": secret,
		"SHANGCLOUD_REDIRECT_URL": s.at("callback"), "SHANGCLOUD_BASE_URL": s.platform,
	}
	options.HTTPClient = &http.Client{Transport: newTransport(t)}
	lines := run(t, env, options)
	inner := &url.URL{Scheme: "http", Host: lines["Listening"]}
	proxy.Rewrite = func(r *httputil.ProxyRequest) { r.SetURL(inner) }
	proxy.ModifyResponse = change
	return s
}

// replace replaces the status, the headers and the body of an application's answer.
func replace(r *http.Response, contentType, body string) {
	r.Body.Close()
	r.StatusCode, r.ContentLength = http.StatusOK, -1
	r.Header = http.Header{"Content-Type": {contentType}}
	r.Body = io.NopCloser(strings.NewReader(body))
}

// newTransport accepts the tests' certificate, and sends every request to this machine.
func newTransport(t *testing.T) *http.Transport {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(certificate().Leaf)
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			return new(net.Dialer).DialContext(ctx, network, "127.0.0.1:"+port)
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// serve serves handler over https, and returns its URL, with a slash at the end.
func serve(t *testing.T, host string, handler http.Handler) string {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate()}}
	server.StartTLS()
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	require.NoError(t, err)
	return "https://" + net.JoinHostPort(host, port) + "/"
}

// certificate is a self-signed certificate for the hosts above. Each run makes a new one.
var certificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{appHost, siblingHost, strangerHost, platformHost},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(48 * time.Hour),
		IsCA:         true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
})
