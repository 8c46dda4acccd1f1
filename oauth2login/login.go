package oauth2login

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/quiet"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/wire"
	"golang.org/x/oauth2"
)

// maxValue is the longest value of WithValue, in bytes.
const maxValue = 1 << 10

// Login is a finished login. It prints and marshals without its token, value and nonce;
// but package fmt prints value and nonce if a Login stands in an unexported field of a
// struct.
type Login struct {
	// Token is what the provider issued: never nil, never without an AccessToken.
	Token *oauth2.Token

	// ReturnTo is the local path of WithReturnTo, or "/".
	ReturnTo string

	// Value is the value of WithValue, byte for byte, or "".
	Value string

	// Scopes are the granted scopes: those that the provider names, or else those that
	// were requested (RFC 6749, section 5.1).
	Scopes []string

	// Nonce is the nonce that the ID token must have if the scope openid was requested.
	// Otherwise it is "". Pass it to the verifier of Token.Extra("id_token").
	Nonce string

	// Repeated means that this is a copy: the browser sent its callback twice, and
	// another call returned the same login.
	Repeated bool
}

// Format prints l without its token, value and nonce, for every verb.
func (l Login) Format(f fmt.State, verb rune) {
	quiet.Format(f, verb, fmt.Sprintf("oauth2login.Login{ReturnTo:%q Scopes:%q}", l.ReturnTo, l.Scopes))
}

// MarshalJSON writes l without its token, value and nonce.
func (l Login) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{"ReturnTo": l.ReturnTo, "Scopes": l.Scopes})
}

// A LoginOption changes one login. See the With… functions.
type LoginOption func(*pendingLogin)

// WithReturnTo sets the local path to send the user to after the login. It comes back in
// [Login.ReturnTo]. You can pass it from the request unchecked: if [LocalPath] refuses
// the path, "/" is used.
func WithReturnTo(localPath string) LoginOption {
	return func(l *pendingLogin) { l.ReturnTo = LocalPath(localPath, "/") }
}

// WithValue adds a value of the application, for example the account to link. It comes
// back in [Login.Value]; the browser never sees it. More than 1024 bytes are an error.
func WithValue(value string) LoginOption {
	return func(l *pendingLogin) { l.Value = []byte(value) }
}

// WithScopes asks for these scopes instead of those of the oauth2.Config.
func WithScopes(scopes ...string) LoginOption {
	return func(l *pendingLogin) { l.Scopes = slices.Clone(scopes) }
}

// WithRedirectURL selects the redirect URL of this login. It must be the URL of the
// oauth2.Config or one of [WithRedirectURLs]. Any other URL is an error. An
// application that serves several hosts selects from its own list of hosts. Never pass a
// URL built from a request.
func WithRedirectURL(url string) LoginOption {
	return func(l *pendingLogin) { l.Redirect = url }
}

// WithAuthCodeOptions adds parameters to the authorization URL. The options can't change
// the parameters that this package sets, such as state, redirect_uri and code_challenge.
func WithAuthCodeOptions(opts ...oauth2.AuthCodeOption) LoginOption {
	return func(l *pendingLogin) { l.params = append(l.params, opts...) }
}

// StartLogin redirects the browser to the provider. It remembers a new state for
// Options.LoginLifetime and binds it to this browser with a cookie.
//
// Serve it on the host of the redirect URL: a browser does not send the cookie to another
// host. Behind a proxy, the request may name another host. One browser can have 20
// pending logins on a host, with cookies of 4 KB in total. Beyond that, a new login drops
// the oldest logins, but never the newest login of another provider. If several logins
// start at once, one may replace another. A request that is not a navigation gets a short
// answer and starts no login: see [NavigationsOnly].
//
// On an error nothing was written to w. [ErrStateStore]: answer 503. Any other error is a
// wrong option. StartLogin is safe for concurrent use.
func (p *Provider) StartLogin(w http.ResponseWriter, r *http.Request, opts ...LoginOption) error {
	if status := notNavigation(r); status != 0 {
		answerShortly(w, status)
		return nil
	}
	to, err := p.start(w, r, opts)
	if err != nil {
		return err
	}
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusFound)
	return nil
}

// LoginURL does the same as [Provider.StartLogin], without the redirect. It sets the
// cookie and returns the address to send the browser to. Use it for forms that link an
// account, and for single-page applications. It accepts only unsafe methods, such as
// POST, from pages of the same origin. Any other request fails with [ErrCrossSite].
func (p *Provider) LoginURL(w http.ResponseWriter, r *http.Request, opts ...LoginOption) (string, error) {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return "", p.errorf("login URL: the method is "+r.Method+", use POST", ErrCrossSite)
	}
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		return "", p.errorf("login URL: the request comes from another origin", ErrCrossSite, err)
	}
	return p.start(w, r, opts)
}

// start begins a login in the browser of r and returns the authorization URL.
func (p *Provider) start(w http.ResponseWriter, r *http.Request, opts []LoginOption) (string, error) {
	l, err := p.newLogin(opts)
	if err != nil {
		return "", err
	}
	at := p.browserPlace(rand.Text()) // 130 random bits; RFC 6749, section 10.10 asks for 128
	carry, err := p.pending.keep(r.Context(), at.place, l)
	if err != nil {
		return "", p.placed(err, at.key)
	}
	p.setLoginCookie(w, r, at.secret, carry)
	w.Header().Set("Cache-Control", "no-store")
	p.warnOtherHost(r)
	return p.authURL(at.state, l), nil
}

// warnOtherHost logs once that a login starts on another loopback name than that of the
// redirect URL, for example on localhost instead of 127.0.0.1. It does not warn about
// other hosts, because behind a proxy they may differ.
func (p *Provider) warnOtherHost(r *http.Request) {
	here := url.URL{Host: r.Host}
	there := url.URL{Host: p.redirectHosts[0]}
	if p.hostHint(r) == "" || !wire.IsLoopback(here.Hostname()) || !wire.IsLoopback(there.Hostname()) {
		return
	}
	p.otherHost.Do(func() {
		p.opts.Logger.WarnContext(r.Context(), "oauth2login: the login starts on another host than that of the redirect URL; the browser keeps its cookie there",
			"seen", r.Host, "expected", p.redirectHosts[0])
	})
}

// The two kinds of logins. They differ in what a callback needs to redeem the state.
const (
	browserLogin = "browser" // the cookie must match
	unboundLogin = "unbound" // the state alone is enough
)

type statePlace struct {
	place
	state string
}

// browserPlace derives a state from the secret in a browser's cookie. The secret of a
// callback is checked before the store is asked. So another browser can't use up the
// state. A forged pair of cookie and state costs one store lookup.
func (p *Provider) browserPlace(secret string) statePlace {
	return p.placeOf(browserLogin, p.hash("state", secret), secret)
}

func (p *Provider) placeOf(kind, state, secret string) statePlace {
	return statePlace{place{p.id, kind, p.hash(kind, state), secret}, state}
}

// placed adds the provider's host and an explanation to an error of redeem. key is the
// key of the login.
func (p *Provider) placed(err error, key string) error {
	switch {
	case !errors.Is(err, ErrStateNotFound):
		return p.errorf(quiet.Describe(err), err)
	case p.pending.isRedeemed(key):
		return p.errorf("callback: the login is finished already; the page was reloaded, or opened again", err)
	}
	if own, ok := errors.AsType[*quiet.Error](err); ok {
		return p.errorf("callback: "+own.SafeText(), err)
	}
	return p.errorf(fmt.Sprintf("callback: too late: the login has expired (after %v), or the process that started it does not share its states with this one",
		p.opts.LoginLifetime), err)
}

// unknownState is the error for a state that no provider with this configuration made.
func (p *Provider) unknownState() error {
	return p.errorf("callback: the state belongs to no login of this application", ErrStateNotFound)
}

// newLogin makes a pending login from options. It checks the options first.
func (p *Provider) newLogin(opts []LoginOption) (*pendingLogin, error) {
	l := new(pendingLogin)
	for _, opt := range opts {
		opt(l)
	}
	if len(l.Value) > maxValue {
		return nil, p.errorf(fmt.Sprintf("WithValue: more than %d bytes", maxValue))
	}
	if err := checkScopes(l.Scopes); err != nil {
		return nil, p.errorf("WithScopes: " + err.Error())
	}
	if l.Redirect != "" && !slices.Contains(p.redirects, l.Redirect) {
		return nil, p.errorf("WithRedirectURL: not one of the provider's redirect URLs")
	}
	if u, err := url.Parse(cmp.Or(l.Redirect, p.redirects[0])); err == nil && u.Port() == "0" {
		return nil, p.errorf("RedirectURL: port 0 is for LocalLogin only")
	}
	if l.Redirect == p.redirects[0] {
		l.Redirect = ""
	}
	p.begin(l)
	return l, nil
}

// begin sets the fields that are new in every login: verifier, nonce and expiry.
func (p *Provider) begin(l *pendingLogin) {
	if p.usesPKCE() {
		l.Verifier = oauth2.GenerateVerifier()
	}
	if slices.Contains(p.scopes(l), "openid") {
		l.Nonce = rand.Text()
	}
	l.Expires = time.Now().Add(p.opts.LoginLifetime).UnixMilli()
}

func (p *Provider) scopes(l *pendingLogin) []string {
	if len(l.Scopes) > 0 {
		return l.Scopes
	}
	return p.conf.Scopes
}

func (p *Provider) usesPKCE() bool { return !p.row.noPKCE || *p.secret.Load() == "" }

// authURL returns the address to send the browser to.
func (p *Provider) authURL(stateParam string, l *pendingLogin) string {
	conf := p.configFor(l)
	params := slices.Concat(p.row.params, l.params)
	if len(params) > 0 {
		// x/oauth2 lets these parameters replace its own. So the parameters that this
		// package sets come last and replace all others.
		params = append(params,
			oauth2.SetAuthURLParam("response_type", "code"),
			oauth2.SetAuthURLParam("client_id", conf.ClientID),
			oauth2.SetAuthURLParam("redirect_uri", conf.RedirectURL),
			oauth2.SetAuthURLParam("state", stateParam),
		)
		if len(conf.Scopes) > 0 {
			params = append(params, oauth2.SetAuthURLParam("scope", strings.Join(conf.Scopes, " ")))
		}
	}
	if l.Nonce != "" {
		params = append(params, oauth2.SetAuthURLParam("nonce", l.Nonce))
	}
	if l.Verifier != "" {
		params = append(params, oauth2.S256ChallengeOption(l.Verifier))
	}
	return conf.AuthCodeURL(stateParam, params...)
}

// configFor returns the oauth2.Config for one login.
func (p *Provider) configFor(l *pendingLogin) *oauth2.Config {
	conf := p.OAuth2()
	conf.Scopes = p.scopes(l)
	if l.Redirect != "" {
		conf.RedirectURL = l.Redirect
	}
	return conf
}

// FinishLogin handles the browser's return to the redirect URL. It redeems the state and
// then exchanges the code for a token. Both happen once. It sets headers of w, for
// example to delete the login's cookie. The caller writes the answer.
//
// Only the browser that StartLogin answered can redeem the state, and only for the
// provider of the login. After that, the exchange goes on even if the browser
// disconnects. It takes at most Options.Timeout. The browser may repeat its callback
// during the exchange and in the 5 seconds after the exchange. It then gets the same
// result with Login.Repeated set, three times at most.
//
// The error tells what to say to the user:
//
//   - [ErrAccessDenied]: the user denied access. [*CallbackError] has every error that
//     came back in the callback.
//   - [ErrStateNotFound], [ErrWrongBrowser], [ErrNoCookies]: start again.
//   - [ErrBadCallback]: the request is not a callback.
//   - [ErrUnavailable], [ErrStateStore]: answer 503.
//   - [ErrClientCredentials], [*oauth2.RetrieveError]: the token endpoint refused.
//
// After the state was redeemed, every error is a [*LoginError], which has the return path
// and the value of the login.
func (p *Provider) FinishLogin(w http.ResponseWriter, r *http.Request) (*Login, error) {
	begun := time.Now()
	login, err := p.finishLogin(w, r)
	p.observe(r.Context(), "login", begun, err)
	return login, err
}

func (p *Provider) finishLogin(w http.ResponseWriter, r *http.Request) (*Login, error) {
	w.Header().Set("Cache-Control", "no-store")
	cb, err := p.callbackRequest(r)
	if err != nil {
		return nil, err
	}
	if !isBrowserState(cb.state) {
		return nil, p.unknownState()
	}
	at, cookie, err := p.startedHere(r, cb.state)
	if err != nil {
		return nil, err
	}
	login, err := p.results.do(r.Context(), at.resultKey(cb), func() (*Login, bool, error) {
		l, err := p.pending.redeem(r.Context(), at.place, cookie.carry)
		if err != nil {
			return nil, false, p.placed(err, at.key)
		}
		login, err := p.finish(r.Context(), cb, l)
		return login, true, err
	})
	if !errors.Is(err, ErrStateStore) { // otherwise the state may still be there
		// Another login that started in the meantime normally has a cookie with another
		// name. If it had to use this name, its cookie is deleted as well, and the user
		// has to start that login again.
		p.deleteCookie(w, cookie.slot)
	}
	return login, err
}

// finish completes a login whose state was redeemed.
func (p *Provider) finish(ctx context.Context, cb callback, l *pendingLogin) (*Login, error) {
	login := &Login{ReturnTo: LocalPath(l.ReturnTo, "/"), Value: string(l.Value), Nonce: l.Nonce}
	failed := func(err error) (*Login, error) {
		return nil, &LoginError{login.ReturnTo, login.Value, err}
	}
	if cb.err != nil {
		return failed(p.errorf(cb.err.Error(), cb.err))
	}
	tok, err := p.redeemCode(ctx, cb.code, l)
	if err != nil {
		return failed(err)
	}
	login.Token, login.Scopes = tok, grantedScopes(tok, p.scopes(l))
	return login, nil
}

// grantedScopes returns the scopes in the token answer, or requested if there are none.
// Most providers separate scopes with spaces, GitHub with commas. Twitch sends an array.
func grantedScopes(tok *oauth2.Token, requested []string) []string {
	var scopes []string
	switch granted := tok.Extra("scope").(type) {
	case string:
		scopes = strings.FieldsFunc(granted, func(r rune) bool { return r == ' ' || r == ',' })
	case []any:
		for _, scope := range granted {
			if s, ok := scope.(string); ok {
				scopes = append(scopes, s)
			}
		}
	}
	if len(scopes) == 0 {
		return slices.Clone(requested)
	}
	return scopes
}

// isBrowserState reports whether s has the form of a state of browserPlace.
func isBrowserState(s string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(b) == sha256.Size
}

// startedHere finds the cookie of the login that has this state.
func (p *Provider) startedHere(r *http.Request, state string) (at statePlace, c loginCookie, err error) {
	for _, c := range p.loginCookies(r) {
		if c.provider != p.shortID() {
			continue
		}
		at := p.browserPlace(c.secret)
		if subtle.ConstantTimeCompare([]byte(at.state), []byte(state)) == 1 {
			return at, c, nil
		}
	}
	if key := p.placeOf(browserLogin, state, "").key; p.pending.isRedeemed(key) {
		return at, c, p.placed(ErrStateNotFound, key)
	}
	if len(r.Cookies()) > 0 {
		return at, c, p.errorf("callback: this browser did not start the login, or no longer has its cookie"+p.hostHint(r), ErrWrongBrowser)
	}
	return at, c, p.errorf(fmt.Sprintf("callback: the browser sent no cookie%s; it may block cookies, or the login is older than %v",
		p.hostHint(r), p.cookieLife()), ErrNoCookies)
}

// hostHint explains a missing cookie if no redirect URL names the host that r came to.
// For cookies, localhost and 127.0.0.1 are different hosts, and ports do not matter. This
// is only a hint: behind a proxy, r.Host may differ for a good reason.
func (p *Provider) hostHint(r *http.Request) string {
	hostname := func(host string) string { return strings.ToLower((&url.URL{Host: host}).Hostname()) }
	if r.Host == "" || slices.ContainsFunc(p.redirectHosts, func(host string) bool { return hostname(host) == hostname(r.Host) }) {
		return ""
	}
	others := ""
	if len(p.redirectHosts) > 1 {
		others = " or that of another redirect URL"
	}
	return fmt.Sprintf("; a login has to start on the host of the redirect URL (seen %.100q, expected %q%s)", r.Host, p.redirectHosts[0], others)
}
