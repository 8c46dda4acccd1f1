package oauth2login_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// atLoopback sets a redirect URL on the loopback address with port 0, which means any
// free port.
func atLoopback(s *setup) { s.RedirectURL = "http://127.0.0.1:0/callback" }

// localBrowser is a browser that follows redirects and keeps cookies.
func localBrowser(t *testing.T) *http.Client {
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return &http.Client{Jar: jar, Transport: &http.Transport{DisableKeepAlives: true}}
}

// visit returns the page that a browser finds at an address.
func visit(browser *http.Client, address string) (status int, page string, err error) {
	res, err := browser.Get(address)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res.StatusCode, string(body), err
}

func TestLocalLogin(t *testing.T) {
	for name, c := range map[string]struct {
		redirect string
		language string
		page     string
	}{
		"any port":  {"http://127.0.0.1:0/callback", "en", "You are signed in"},
		"IPv6":      {"http://[::1]:0/callback", "zh-CN,zh;q=0.9", "登录成功"},
		"localhost": {"http://localhost:0/callback", "", "You are signed in"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, func(s *setup) { s.RedirectURL = c.redirect })
			host := mustParse(c.redirect).Hostname()
			if l, err := net.Listen("tcp", net.JoinHostPort(host, "0")); err != nil {
				t.Skipf("this machine has no %s", host)
			} else {
				require.NoError(t, l.Close())
			}
			client := shangcloudtest.Client{ID: "demo", Secret: "hush-hush", RedirectURIs: []string{"http://127.0.0.1/callback", "http://[::1]/callback"}}
			var last string
			login, err := s.LocalLogin(t.Context(), func(address string) error {
				last = address
				client.RedirectURIs = append(client.RedirectURIs, siblingOf(address, "/callback"))
				s.platform.AddClient(client)
				req, err := http.NewRequest("GET", address, nil)
				if err != nil {
					return err
				}
				req.Header.Set("Accept-Language", c.language)
				res, err := localBrowser(t).Do(req)
				if err != nil {
					return err
				}
				defer res.Body.Close()
				page, err := io.ReadAll(res.Body)
				assert.Contains(t, string(page), c.page)
				assert.NotContains(t, res.Request.URL.Path, "start")
				return err
			})
			require.NoError(t, err)
			user, known := s.platform.UserOf(login.Token.AccessToken, "user:basic")
			assert.True(t, known)
			assert.EqualValues(t, 10001, user.ID)
			assert.Equal(t, "/", login.ReturnTo)
			assert.Equal(t, []string{"user:basic"}, login.Scopes)
			assert.NotContains(t, last, "state")
			_, err = net.Dial("tcp", mustParse(last).Host)
			assert.Error(t, err, "nobody listens any more")
		})
	}
}

func TestLocalLoginEnds(t *testing.T) {
	broken := errors.New("no browser here")
	for name, c := range map[string]struct {
		open func(t *testing.T, s *site, address string, cancel context.CancelFunc) error
		is   error
		page string
	}{
		"the user says no": {func(t *testing.T, s *site, address string, _ context.CancelFunc) error {
			s.platform.AutoDeny()
			_, page, err := visit(localBrowser(t), address)
			assert.Contains(t, page, "You declined")
			return err
		}, oauth2login.ErrAccessDenied, ""},
		"the exchange fails": {func(t *testing.T, s *site, address string, _ context.CancelFunc) error {
			s.platform.Fault("/oauth/token", shangcloudtest.Fault{Status: 503})
			_, page, err := visit(localBrowser(t), address)
			assert.Contains(t, page, "The login failed")
			return err
		}, oauth2login.ErrUnavailable, ""},
		"the connection is cut": {func(t *testing.T, s *site, address string, _ context.CancelFunc) error {
			s.platform.Fault("/oauth/token", shangcloudtest.Fault{Drop: true})
			_, _, err := visit(localBrowser(t), address)
			return err
		}, oauth2login.ErrUnavailable, ""},
		"open fails although the browser is there": {func(t *testing.T, s *site, address string, _ context.CancelFunc) error {
			browser := localBrowser(t)
			browser.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			res, err := browser.Get(address)
			if !assert.NoError(t, err) {
				return err
			}
			_ = res.Body.Close()
			go func() {
				browser.CheckRedirect = nil
				_, _, _ = visit(browser, res.Header.Get("Location")) // LocalLogin has the result
			}()
			return broken
		}, nil, ""},
		"no browser": {func(*testing.T, *site, string, context.CancelFunc) error { return broken }, broken, ""},
		"the caller gives up": {func(_ *testing.T, _ *site, _ string, cancel context.CancelFunc) error {
			cancel()
			return nil
		}, context.Canceled, ""},
		"the caller gives up in mid-exchange": {func(t *testing.T, s *site, address string, cancel context.CancelFunc) error {
			s.platform.Fault("/oauth/token", shangcloudtest.Fault{Before: func(*http.Request) { cancel() }})
			_, page, err := visit(localBrowser(t), address)
			assert.Contains(t, page, "You are signed in")
			return err
		}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, atLoopback)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			opened := make(chan struct{})
			login, err := s.LocalLogin(ctx, func(address string) error {
				defer close(opened)
				return c.open(t, s, address, cancel)
			})
			<-opened
			if c.is == nil {
				require.NoError(t, err)
				assert.NotEmpty(t, login.Token.AccessToken)
				return
			}
			assert.Nil(t, login)
			assert.ErrorIs(t, err, c.is)
		})
	}
}

func TestLocalLoginForeignCode(t *testing.T) {
	s := newSite(t, atLoopback)
	_, err := s.LocalLogin(t.Context(), func(string) error { panic("hush") })
	assert.ErrorContains(t, err, "the browser could not be opened: it panicked")
	_, err = s.LocalLogin(t.Context(), func(string) error { runtime.Goexit(); return nil })
	assert.ErrorContains(t, err, "the browser could not be opened")
	_, err = s.LocalLogin(t.Context(), nil)
	assert.ErrorContains(t, err, "open is nil")
	s = newSite(t, func(s *setup) { s.LoginLifetime = time.Second })
	_, err = s.LocalLogin(t.Context(), func(string) error { return nil })
	assert.ErrorContains(t, err, "RedirectURL is not plain http on 127.0.0.1")
}

func TestLocalLoginExpires(t *testing.T) {
	s := newSite(t, atLoopback, func(s *setup) { s.LoginLifetime = time.Second })
	_, err := s.LocalLogin(t.Context(), func(string) error { return nil })
	assert.ErrorIs(t, err, oauth2login.ErrLoginExpired)
	assert.ErrorContains(t, err, "the user did not finish it in time")
}

func TestLocalLoginPortInUse(t *testing.T) {
	for _, redirect := range []string{"http://127.0.0.1:%s/callback", "http://localhost:%s/callback"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		_, port, err := net.SplitHostPort(l.Addr().String())
		require.NoError(t, err)
		s := newSite(t, func(s *setup) { s.RedirectURL = fmt.Sprintf(redirect, port) })
		_, err = s.LocalLogin(t.Context(), func(string) error { return errors.New("must not be opened") })
		assert.ErrorContains(t, err, "the redirect URL's port is not to be had: listen tcp 127.0.0.1:"+port)
		var op *net.OpError
		assert.ErrorAs(t, err, &op)
		require.NoError(t, l.Close())
	}
}

// StartLogin refuses port 0, because no browser could return to it.
func TestStartLoginPort0(t *testing.T) {
	s := newSite(t, atLoopback)
	err := s.StartLogin(nil, requestWith("", ""))
	assert.ErrorContains(t, err, "port 0 is for LocalLogin only")
	_, err = s.StartUnbound(t.Context())
	assert.ErrorContains(t, err, "port 0 is for LocalLogin only")
}

// strangers returns requests that reach the login's port but do not belong to the login.
// They come from other browsers, pages or programs. state is the login's state.
func strangers(state string) map[string]*http.Request {
	to := func(method, target string, headers ...string) *http.Request {
		u := mustParse("http://127.0.0.1:0" + target)
		r := &http.Request{Method: method, URL: u, Header: make(http.Header)}
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		r.Host = r.Header.Get("Host")
		return r
	}
	return map[string]*http.Request{
		"favicon":                 to("GET", "/favicon.ico"),
		"start page":              to("GET", "/"),
		"robots":                  to("GET", "/robots.txt"),
		"prefetch":                to("GET", "/start", "Sec-Purpose", "prefetch"),
		"image":                   to("GET", "/start", "Sec-Fetch-Dest", "image", "Sec-Fetch-Mode", "no-cors"),
		"frame":                   to("GET", "/start", "Sec-Fetch-Dest", "iframe", "Sec-Fetch-Mode", "navigate"),
		"preview":                 to("HEAD", "/start"),
		"form":                    to("POST", "/start"),
		"rebound name":            to("GET", "/start", "Host", "evil.example"),
		"rebound name, our port":  to("GET", "/callback?state="+state+"&code=x", "Host", "evil.example:80"),
		"empty callback":          to("GET", "/callback"),
		"old tab":                 to("GET", "/callback?state=old&code=x"),
		"old tab's No":            to("GET", "/callback?state=old&error=access_denied"),
		"code of another browser": to("GET", "/callback?state="+state+"&code=x"),
		"No of another browser":   to("GET", "/callback?state="+state+"&error=access_denied"),
		"forged cookie":           to("GET", "/callback?state="+state+"&code=x", "Cookie", "oauth2login-local-"+state[:8]+"=x"),
		"repeated parameters":     to("GET", "/callback?state="+state+"&state=x&code=x"),
		"form_post":               to("POST", "/callback?state="+state+"&code=x"),
		"script":                  to("GET", "/callback?state="+state+"&code=x", "Sec-Fetch-Dest", "script", "Sec-Fetch-Mode", "cors"),
		"another method":          to("DELETE", "/callback?state="+state+"&code=x"),
		"dots":                    to("GET", "/x/../callback?state="+state+"&code=x"),
		"long path":               to("GET", "/"+strings.Repeat("x", 10_000)),
		"long header":             to("GET", "/", "X-Long", strings.Repeat("x", 100_000)),
	}
}

// attack sends each request of strangers to the port of address, several times. It also
// sends data that is not HTTP.
func attack(t *testing.T, address, state string, times int) {
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	here := mustParse(address)
	var wg sync.WaitGroup
	for name, r := range strangers(state) {
		wg.Go(func() {
			for range times {
				r := r.Clone(context.Background())
				r.URL.Host = here.Host
				if r.URL.Path == "/start" {
					r.URL.Path = here.Path
				}
				res, err := client.Do(r)
				if err != nil {
					continue // the server may close the connection without reading everything
				}
				assert.NotEqual(t, http.StatusFound, res.StatusCode, name)
				assert.NotEqual(t, http.StatusOK, res.StatusCode, name)
				assert.Empty(t, res.Cookies(), name)
				_ = res.Body.Close()
			}
		})
	}
	for name, bytes := range map[string]string{"silence": "", "noise": "\x00\x01\r\n\r\n", "TLS": "\x16\x03\x01\x02\x00\x01", "half a request": "GET /call"} {
		wg.Go(func() {
			for range times {
				conn, err := net.Dial("tcp", here.Host)
				if !assert.NoError(t, err, name) {
					return
				}
				_, _ = io.WriteString(conn, bytes)
				_ = conn.Close()
			}
		})
	}
	wg.Wait()
}

// TestLocalLoginUnderFire runs three logins at once, each on its own port. Foreign
// requests reach each port before the browser opens the address, and again while the
// browser is at the provider.
func TestLocalLoginUnderFire(t *testing.T) {
	s := newSite(t, atLoopback)
	s.platform.AutoApprove(0)
	shared := localBrowser(t) // one browser for all logins: cookies are shared between ports
	shared.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		return http.ErrUseLastResponse
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			var port string
			login, err := s.LocalLogin(t.Context(), func(address string) error {
				port = mustParse(address).Host
				attack(t, address, strings.Repeat("0", 43), 7)
				res, err := shared.Get(address)
				if err != nil {
					return err
				}
				_ = res.Body.Close()
				authURL := res.Header.Get("Location")
				attack(t, address, queryOf(t, authURL).Get("state"), 7)
				status, page, err := visit(localBrowser(t), address)
				assert.NoError(t, err)
				assert.Equal(t, http.StatusForbidden, status, "another browser")
				assert.Contains(t, page, "no login of this browser")
				status, _, err = visit(shared, address)
				assert.NoError(t, err)
				assert.Equal(t, http.StatusFound, status, "the same browser, which reloads")

				callback, err := s.platform.Approve(authURL, 10001)
				if err != nil {
					return err
				}
				var callbacks sync.WaitGroup
				for range 3 {
					callbacks.Go(func() {
						if status, page, err := visit(shared, callback); err == nil { // a late callback may find the port closed
							assert.Equal(t, http.StatusOK, status)
							assert.Contains(t, page, "You are signed in")
						}
					})
				}
				callbacks.Wait()
				return nil
			})
			if !assert.NoError(t, err) {
				return
			}
			assert.NotEmpty(t, login.Token.AccessToken)
			_, err = net.Dial("tcp", port)
			assert.Error(t, err, "nobody listens any more")
		})
	}
	wg.Wait()
	assert.Equal(t, 3, s.tokenRequests(), "one for each login")
	assert.Eventually(t, func() bool {
		stacks := make([]byte, 1<<20)
		return !strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "localLogin")
	}, time.Minute, 10*time.Millisecond, "no goroutine is left")
}

// LocalLogin checks a provider's iss parameter, too (RFC 9207).
func TestLocalLoginIssuer(t *testing.T) {
	s := newSite(t, atLoopback, func(s *setup) { s.row = append(s.row, oauth2login.WithIssuer("https://issuer.example")) })
	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.LocalLogin(ctx, func(address string) error {
		status, page, err := visit(localBrowser(t), address)
		assert.Equal(t, http.StatusBadRequest, status)
		assert.Contains(t, page, "no login of this browser")
		cancel()
		return err
	})
	assert.ErrorIs(t, err, context.Canceled)
	assert.Zero(t, s.tokenRequests())
}

// The request's context can end while the code is still being exchanged: at a time-out of
// the server, or when the browser closes its side of the connection. The browser must still
// get the page with the result.
func TestLocalLoginPageOfASlowExchange(t *testing.T) {
	s := newSite(t, atLoopback)
	asked, read := make(chan struct{}), make(chan struct{})
	s.platform.Fault("/oauth/token", shangcloudtest.Fault{Times: 1, Before: func(*http.Request) {
		close(asked)
		select {
		case <-read: // the page did not wait
		case <-time.After(200 * time.Millisecond):
		}
	}, Status: 503})
	_, err := s.LocalLogin(t.Context(), func(address string) error {
		browser := localBrowser(t)
		browser.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		res, err := browser.Get(address)
		if err != nil {
			return err
		}
		_ = res.Body.Close()
		callback, err := s.platform.Approve(res.Header.Get("Location"), 10001)
		if err != nil {
			return err
		}
		var first sync.WaitGroup
		first.Go(func() { _, _, _ = visit(browser, callback) })
		<-asked
		conn, err := net.Dial("tcp", mustParse(address).Host)
		if err != nil {
			return err
		}
		defer conn.Close()
		_, _ = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nCookie: %s\r\n\r\n", mustParse(callback).RequestURI(), mustParse(address).Host,
			res.Cookies()[0].Name+"="+res.Cookies()[0].Value)
		assert.NoError(t, conn.(*net.TCPConn).CloseWrite())
		page, _ := io.ReadAll(conn)
		close(read)
		assert.Contains(t, string(page), "The login failed")
		first.Wait()
		return nil
	})
	assert.ErrorIs(t, err, oauth2login.ErrUnavailable)
}

func TestLocalLoginGivenUpBefore(t *testing.T) {
	s := newSite(t, atLoopback)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	opened := make(chan struct{}, 1)
	_, err := s.LocalLogin(ctx, func(string) error { opened <- struct{}{}; return nil })
	assert.ErrorIs(t, err, context.Canceled)
	runtime.Gosched()
	assert.Empty(t, opened, "no browser opens")
}
