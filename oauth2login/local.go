package oauth2login

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/quiet"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/wire"
)

const (
	// lastPage is how long the browser has to fetch the last page of a local login.
	lastPage = 2 * time.Second

	// sharedPortTries is how often listen tries to find a port that is free on two
	// addresses.
	sharedPortTries = 10
)

// LocalLogin logs a user in through the browser of this machine, for a program without a
// web server (RFC 8252, section 7.3). Until it returns, it listens at the first redirect
// URL that is plain http on 127.0.0.1, [::1] or localhost. Port 0 takes any free port. If a
// provider does not allow that, name the registered port.
//
// It calls open once with an address on this machine. open asks the system to open the
// address, or shows it to the user, and may wait. Only the first browser that opens the
// address can finish the login. Tell the user which account was logged in:
// docs/ways.md says why.
//
// The login ends when ctx ends, and after Options.LoginLifetime. Errors:
// [ErrAccessDenied]; [ErrLoginExpired]; the error of open, unless a browser has come; the
// errors of [Provider.FinishLogin] for the exchange; the error of ctx. If the code was
// already sent to the provider, LocalLogin waits for the answer.
func (p *Provider) LocalLogin(ctx context.Context, open func(address string) error) (*Login, error) {
	begun := time.Now()
	login, err := p.localLogin(ctx, open)
	p.observe(ctx, "local", begun, err)
	return login, err
}

func (p *Provider) localLogin(ctx context.Context, open func(address string) error) (*Login, error) {
	if open == nil {
		return nil, p.errorf("local login: open is nil")
	}
	redirect := p.localRedirect()
	if redirect == nil {
		return nil, p.errorf("local login: RedirectURL is not plain http on 127.0.0.1, [::1] or localhost")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, p.opts.LoginLifetime, ErrLoginExpired)
	defer cancel()
	if ctx.Err() != nil {
		return nil, p.localGivenUp(ctx) // do not open a browser
	}
	listeners, err := p.listen(ctx, redirect)
	if err != nil {
		return nil, err
	}
	l := p.newLocalLogin(redirect)
	end := l.serve(listeners)
	defer end()
	opened := make(chan error, 1)
	go func() {
		_, err := wire.Await(ctx, func() (struct{}, error) { return struct{}{}, open(l.address()) }, nil)
		opened <- err
	}()
	select {
	case <-l.done:
	case err := <-opened:
		if err != nil && ctx.Err() == nil && !l.hasBrowser() {
			l.giveUp(p.errorf("local login: the browser could not be opened: "+quiet.DescribeForeign(err), err))
		}
	case <-ctx.Done():
	}
	select {
	case <-l.done:
	case <-ctx.Done():
		l.giveUp(p.localGivenUp(ctx))
		<-l.done // if the code was sent, this takes at most Options.Timeout
	}
	return l.result, l.err
}

func (p *Provider) localGivenUp(ctx context.Context) error {
	if errors.Is(context.Cause(ctx), ErrLoginExpired) {
		return p.errorf("local login: the user did not finish it in time", ErrLoginExpired)
	}
	return p.errorf("local login: "+quiet.Describe(ctx.Err()), ctx.Err())
}

// localRedirect returns a copy of the redirect URL to listen at, or nil.
func (p *Provider) localRedirect() *url.URL {
	for _, redirect := range p.redirects {
		if u, err := url.Parse(redirect); err == nil && u.Scheme == "http" && wire.IsLoopback(u.Hostname()) {
			return u
		}
	}
	return nil
}

// listen listens at the host and port of u. If the port is 0, it sets the port of u to a
// free port. For localhost a browser may use 127.0.0.1 or ::1. If this machine has both,
// the port has to be free on both. Otherwise another program could listen at one of them
// and get the code.
func (p *Provider) listen(ctx context.Context, u *url.URL) (listeners []net.Listener, err error) {
	hosts := []string{u.Hostname()}
	if strings.EqualFold(u.Hostname(), "localhost") {
		hosts = []string{"127.0.0.1", "::1"}
	}
	anyPort := u.Port() == "0"
	for try := 1; ; try++ {
		listeners, err = listenAt(ctx, hosts, u.Port())
		if err == nil {
			break
		}
		if !anyPort || len(hosts) == 1 || try == sharedPortTries {
			return nil, p.errorf("local login: the redirect URL's port is not to be had: "+quiet.Describe(err), err)
		}
	}
	if anyPort {
		u.Host = net.JoinHostPort(u.Hostname(), portOf(listeners[0]))
	}
	return listeners, nil
}

func portOf(l net.Listener) string {
	_, port, _ := net.SplitHostPort(l.Addr().String()) // the address of a listener always has a port
	return port
}

// listenAt listens at the same port of all hosts. If there are several hosts, it skips
// those that this machine does not have.
func listenAt(ctx context.Context, hosts []string, port string) (listeners []net.Listener, err error) {
	if port == "" {
		port = "80"
	}
	var config net.ListenConfig
	for _, host := range hosts {
		l, err := config.Listen(ctx, "tcp", net.JoinHostPort(host, port))
		if err != nil && len(hosts) > 1 && !canListen(ctx, host) {
			continue // a machine without IPv6, or without IPv4
		}
		if err != nil {
			for _, l := range listeners {
				_ = l.Close()
			}
			return nil, err
		}
		listeners = append(listeners, l)
		port = portOf(l)
	}
	if len(listeners) == 0 {
		return nil, errors.New("this machine has no loopback address")
	}
	return listeners, nil
}

func canListen(ctx context.Context, host string) bool {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
	if err == nil {
		_ = l.Close()
	}
	return err == nil
}

// localLogin is one login on this machine. It serves two addresses. The start address
// binds the login to a browser and redirects this browser to the provider. The other
// address is the redirect URL. A list of processes can show only the start address, which
// contains neither the state nor the code challenge. With these two, an attacker could
// log this program in to the attacker's account.
type localLogin struct {
	p        *Provider
	redirect *url.URL
	start    string // the path that binds the login to a browser
	secret   string // of the browser's cookie
	state    string
	pending  *pendingLogin

	mu    sync.Mutex
	bound bool // a browser has the cookie
	taken bool // the callback has come, or the login was given up

	done   chan struct{} // closed when result and err are set
	result *Login
	err    error
}

func (p *Provider) newLocalLogin(redirect *url.URL) *localLogin {
	l := &localLogin{p: p, redirect: redirect, start: "/" + rand.Text(), secret: rand.Text(), pending: new(pendingLogin), done: make(chan struct{})}
	l.state = p.hash("local", l.secret)
	l.pending.Redirect = redirect.String()
	p.begin(l.pending)
	return l
}

func (l *localLogin) address() string {
	return (&url.URL{Scheme: "http", Host: l.redirect.Host, Path: l.start}).String()
}

// take marks the login as taken. It reports whether this call was the first.
func (l *localLogin) take() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := !l.taken
	l.taken = true
	return first
}

// hasBrowser reports whether a browser has opened the start address. If it has, an error
// of open does not matter: some programs that open browsers fail although the browser has
// started.
func (l *localLogin) hasBrowser() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bound
}

// giveUp ends the login, unless its callback has come.
func (l *localLogin) giveUp(err error) {
	if l.take() {
		l.err = err
		close(l.done)
	}
}

// serve answers requests until end is called. end waits for the last page. When end
// returns, the ports are closed and the goroutines have ended.
func (l *localLogin) serve(listeners []net.Listener) (end func()) {
	server := &http.Server{
		Handler:           l,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       5 * time.Second,
		MaxHeaderBytes:    maxQuery + 32<<10,
		ErrorLog:          log.New(io.Discard, "", 0), // otherwise any program could fill the log
	}
	server.SetKeepAlivesEnabled(false)
	var serving sync.WaitGroup
	for _, listener := range listeners {
		serving.Go(func() { _ = server.Serve(listener) })
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), lastPage)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			_ = server.Close()
		}
		serving.Wait()
	}
}

// ServeHTTP answers all requests to the port, from the login's browser and from others.
func (l *localLogin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	switch {
	case !strings.EqualFold(strings.TrimSuffix(r.Host, ":80"), strings.TrimSuffix(l.redirect.Host, ":80")):
		// The Host header has a foreign name that resolves to this machine (DNS
		// rebinding).
		http.Error(w, "This is another host.", http.StatusMisdirectedRequest)
	case r.URL.Path == l.start:
		l.bind(w, r)
	case r.URL.Path == "/"+strings.TrimPrefix(l.redirect.Path, "/"):
		l.callback(w, r)
	default:
		http.NotFound(w, r)
	}
}

// bind binds the login to the first browser that opens the start address, and redirects
// this browser to the provider.
func (l *localLogin) bind(w http.ResponseWriter, r *http.Request) {
	if status := notNavigation(r); status != 0 {
		answerShortly(w, status)
		return
	}
	if r.Method != http.MethodGet {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	l.mu.Lock()
	first := !l.bound
	l.bound = true
	l.mu.Unlock()
	if !first && !l.isBound(r) {
		showLocal(w, r, http.StatusForbidden, localForeign)
		return
	}
	l.setCookie(w, l.secret, int(l.p.opts.LoginLifetime.Seconds()))
	w.Header().Set("Location", l.p.authURL(l.state, l.pending))
	w.WriteHeader(http.StatusFound)
}

// cookieName is different for every login: browsers send a cookie to all ports of a host.
func (l *localLogin) cookieName() string { return cookieName + "local-" + l.state[:8] }

func (l *localLogin) setCookie(w http.ResponseWriter, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{
		Name: l.cookieName(), Value: value, Path: "/", MaxAge: maxAge, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}

func (l *localLogin) isBound(r *http.Request) bool {
	for _, c := range r.CookiesNamed(l.cookieName()) {
		if subtle.ConstantTimeCompare([]byte(c.Value), []byte(l.secret)) == 1 {
			return true
		}
	}
	return false
}

// callback finishes the login if r comes from the browser that began it. A repeated
// callback waits for the first, and gets the same page.
func (l *localLogin) callback(w http.ResponseWriter, r *http.Request) {
	cb, err := l.p.callbackRequest(r)
	if err != nil || !l.isBound(r) || subtle.ConstantTimeCompare([]byte(cb.state), []byte(l.state)) != 1 {
		showLocal(w, r, http.StatusBadRequest, localForeign)
		return
	}
	if l.take() {
		l.result, l.err = wire.Await(context.Background(), func() (*Login, error) { return l.p.finish(r.Context(), cb, l.pending) }, nil)
		close(l.done)
	}
	// Wait for the exchange, which Options.Timeout limits. The end of r.Context() does
	// not end the wait, because the server's ReadTimeout may end that context earlier.
	<-l.done
	l.setCookie(w, "", -1)
	switch {
	case l.err == nil:
		showLocal(w, r, http.StatusOK, localDone)
	case errors.Is(l.err, ErrAccessDenied):
		showLocal(w, r, http.StatusOK, localDenied)
	default:
		showLocal(w, r, http.StatusOK, localFailed)
	}
}

// localPage is what a page says, in English and in Chinese.
type localPage struct{ title, text, titleZh, textZh string }

var (
	localDone    = localPage{"You are signed in", "You can close this page and go back to the program.", "登录成功", "可以关闭本页面，回到程序继续操作。"}
	localDenied  = localPage{"You declined", "Nothing was shared. You can close this page.", "你已拒绝授权", "没有共享任何信息。可以关闭本页面。"}
	localFailed  = localPage{"The login failed", "The program tells why. You can close this page.", "登录失败", "原因请看程序中的提示。可以关闭本页面。"}
	localForeign = localPage{"This page belongs to no login of this browser", "Please start the login in the program again.", "此页面不属于本浏览器中的登录", "请在程序中重新开始登录。"}
)

func showLocal(w http.ResponseWriter, r *http.Request, status int, page localPage) {
	lang, title, text := "en", page.title, page.text
	if strings.HasPrefix(strings.ToLower(r.Header.Get("Accept-Language")), "zh") {
		lang, title, text = "zh-CN", page.titleZh, page.textZh
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `<!DOCTYPE html>
<html lang="%s">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>%s</title>
</head>
<body>
<h1>%s</h1>
<p>%s</p>
</body>
</html>
`, lang, title, title, text)
}
