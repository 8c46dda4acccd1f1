package browser

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/storage"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// serveByNginx is like [serve], but nginx serves the handler, with its default limits for
// headers.
func serveByNginx(t *testing.T, host string, handler http.Handler) string {
	t.Helper()
	nginx, err := exec.LookPath("nginx")
	if err != nil { // an account's PATH often lacks the directory
		nginx, err = exec.LookPath("/usr/sbin/nginx")
	}
	if err != nil {
		unavailable(t, "needs nginx (apt-get install nginx-light)")
	}
	inner := httptest.NewServer(handler)
	t.Cleanup(inner.Close)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	socket, err := listener.(*net.TCPListener).File()
	require.NoError(t, err)
	require.NoError(t, listener.Close())

	dir := t.TempDir()
	write := func(name string, text []byte) {
		t.Helper()
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	cert := certificate()
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	require.NoError(t, err)
	write("cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}))
	write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	write("nginx.conf", fmt.Appendf(nil, `
daemon off;
user root; # whom dir belongs to, if the tests run as root
error_log stderr;
pid pid;
events {}
http {
	access_log off;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	server {
		listen %s ssl;
		ssl_certificate cert.pem;
		ssl_certificate_key key.pem;
		location / {
			proxy_pass %s;
		}
	}
}
`, listener.Addr(), inner.URL))

	var log strings.Builder
	cmd := exec.Command(nginx, "-e", "stderr", "-p", dir, "-c", filepath.Join(dir, "nginx.conf"))
	cmd.Stdout, cmd.Stderr = &log, &log
	// nginx inherits the listening socket, as it does when its binary is upgraded. So no
	// other process can take the port, and requests wait until nginx has started.
	cmd.ExtraFiles = []*os.File{socket}
	cmd.Env = []string{"NGINX=3;"}
	require.NoError(t, cmd.Start())
	require.NoError(t, socket.Close())
	t.Cleanup(func() {
		assert.NoError(t, cmd.Process.Signal(os.Interrupt))
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("nginx: %s", log.String())
		}
	})
	_, port, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(t, err)
	return "https://" + net.JoinHostPort(host, port) + "/"
}

// flood is how many requests an attacker makes.
const flood = 400

// nginx refuses large headers. A login still works after a hostile page has made 400
// requests.
func TestNginxFloodOfFetches(t *testing.T) {
	t.Parallel()
	answers := make(chan *http.Response, 2*flood)
	states := new(states)
	s := newSiteBehind(t, serveByNginx, func(r *http.Response) error {
		if r.Request.URL.Query().Has("flood") {
			answers <- r
		}
		return nil
	}, &oauth2login.Options{States: states})
	page := serve(t, siblingHost, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `<!DOCTYPE html><link rel=icon href="data:,"><script>
			for (let i = 0; i < %d; i++) fetch("%slogin?flood=" + i, {mode: "no-cors", credentials: "include"});
		</script>`, flood, s.home)
	}))
	b := newPerson(t)
	b.faulty = true
	b.visit(page)
	end := time.After(limit)
	for range flood {
		select {
		case r := <-answers:
			assert.Equal(t, http.StatusForbidden, r.StatusCode)
		case <-end:
			require.Fail(t, "the requests do not arrive")
		}
	}
	assert.Zero(t, states.puts.Load())
	assert.Empty(t, b.cookies())
	b.login(s)
}

// Older browsers do not send Sec-Fetch headers, so each of the 400 requests starts a
// login. All requests are sent at once, so none of them carries a cookie that another one
// has set. A later login still works.
func TestNginxFloodOfStarts(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]*oauth2login.Options{
		"stored": {},
		"sealed": {StateKeys: [][]byte{bytes.Repeat([]byte("k"), 32)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSiteBehind(t, serveByNginx, nil, options)
			b := newPerson(t)
			b.keep(s, startAll(t, s.at("login")))
			b.login(s)
		})
	}
}

// startAll requests address, and returns the cookies of all answers.
func startAll(t *testing.T, address string) []*http.Cookie {
	t.Helper()
	transport := newTransport(t)
	transport.MaxConnsPerHost, transport.MaxIdleConnsPerHost = 50, 50
	answers := make(chan []*http.Cookie, flood)
	for range flood {
		go func() {
			var cookies []*http.Cookie
			defer func() { answers <- cookies }()
			r, err := http.NewRequest(http.MethodGet, address, nil)
			if !assert.NoError(t, err) {
				return
			}
			answer, err := transport.RoundTrip(r)
			if !assert.NoError(t, err) {
				return
			}
			answer.Body.Close()
			assert.Equal(t, http.StatusFound, answer.StatusCode)
			cookies = answer.Cookies()
		}()
	}
	var all []*http.Cookie
	for range flood {
		all = append(all, <-answers...)
	}
	require.Len(t, all, flood)
	return all
}

// keep stores cookies in the browser, as if the application had set them.
func (b *tab) keep(s site, cookies []*http.Cookie) {
	b.t.Helper()
	params := storage.SetCookiesParams{BrowserContextID: chromedp.FromContext(b.ctx).BrowserContextID}
	for _, c := range cookies {
		params.Cookies = append(params.Cookies, &network.CookieParam{
			Name: c.Name, Value: c.Value, URL: s.home, Path: c.Path, Secure: c.Secure, HTTPOnly: c.HttpOnly,
			SameSite: network.CookieSameSiteLax,
			Expires:  cdp.TimeSinceEpoch(time.Now().Unix() + int64(c.MaxAge)),
		})
	}
	_, err := chromedp.CallBrowser(b.ctx, storage.SetCookies, params)
	require.NoError(b.t, err)
}
