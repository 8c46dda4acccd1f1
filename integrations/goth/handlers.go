package gothshangcloud

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
)

const (
	// cookieName is that of the login's cookie, after the prefix. One name for all
	// logins: gothic knows one login of a browser, too.
	cookieName = "goth-login"

	// gothicSession is gothic.SessionName. Applications that use goth without gothic
	// need not import it.
	gothicSession = "_gothic_session"

	// cookieLife is longer than a login may take (Options.LoginLifetime), so that a late
	// callback is told so by Authorize.
	cookieLife = 90 * time.Minute
)

// BeginHandler goes around the handler of the login link, gothic.BeginAuthHandler for
// example. When next redirects to a provider, it sets a cookie that belongs to the state
// in the redirect. [Provider.CallbackHandler] then demands that cookie.
//
// On https its name begins with __Host-: unlike gothic's session, a sibling subdomain can't
// set it. If the redirect URL of p is plain http, as on loopback, it has no prefix.
//
// There is no cookie, and so no login, for a redirect without a state, or with the very
// state of the login request: whoever made the link knows it. next does not see gothic's
// session of before: goth's example tries to complete that in the handler of the login
// link, where it could be a planted one. Requests that are not navigations are refused, as
// [oauth2login.NavigationsOnly] does.
func (p *Provider) BeginHandler(next http.Handler) http.Handler {
	return oauth2login.NavigationsOnly(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		next.ServeHTTP(&beginning{ResponseWriter: w, p: p, given: r.URL.Query().Get("state")}, withoutSession(r))
	}))
}

// CallbackHandler goes around the handler of the redirect URL, which calls
// gothic.CompleteUserAuth. It passes on only callbacks of the login that this browser
// began last, through [Provider.BeginHandler], and deletes the cookie.
//
// It answers everything else itself, in plain text: 403 to a callback of another login or
// browser, 405 to a POST, and what is not a navigation as
// [oauth2login.NavigationsOnly] does. gothic does not see these requests, so its session
// is left for the login that it belongs to.
func (p *Provider) CallbackHandler(next http.Handler) http.Handler {
	return oauth2login.NavigationsOnly(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		if r.Method != http.MethodGet { // gothic takes the parameters of a POST from its body
			w.Header().Set("Allow", http.MethodGet)
			http.Error(w, "Not logged in: the callback has to be a GET request.", http.StatusMethodNotAllowed)
			return
		}
		if !p.begunHere(r) {
			http.Error(w, p.refusal(r), http.StatusForbidden)
			return
		}
		http.SetCookie(w, p.cookie("", -1))
		next.ServeHTTP(w, r)
	}))
}

// withoutSession returns a copy of r without gothic's session.
func withoutSession(r *http.Request) *http.Request {
	out := r.Clone(r.Context())
	out.Header.Del("Cookie")
	for _, c := range r.Cookies() {
		if c.Name != gothicSession {
			out.AddCookie(c)
		}
	}
	return out
}

// begunHere reports whether the browser has the cookie of the callback's state.
func (p *Provider) begunHere(r *http.Request) bool {
	states := r.URL.Query()["state"]
	if len(states) != 1 {
		return false
	}
	want := []byte(cookieValue(states[0]))
	for _, c := range r.CookiesNamed(p.cookie("", 0).Name) {
		if subtle.ConstantTimeCompare([]byte(c.Value), want) == 1 {
			return true
		}
	}
	return false
}

func (p *Provider) refusal(r *http.Request) string {
	if len(r.Cookies()) == 0 {
		return fmt.Sprintf("Not logged in: this browser sent no cookie. It may block cookies, or the login began on another host than %s. Please start again.", p.redirect.Host)
	}
	return "Not logged in: this browser did not begin this login, or has begun another one since. Please start again."
}

// beginning sets the cookie when the answer's header is complete.
type beginning struct {
	http.ResponseWriter
	p     *Provider
	given string // the state that the login request brought
}

// Unwrap is for [http.ResponseController].
func (w *beginning) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w *beginning) WriteHeader(status int) {
	if to, err := url.Parse(w.Header().Get("Location")); err == nil && status >= 300 && status <= 399 {
		states := to.Query()["state"]
		if len(states) == 1 && states[0] != "" && states[0] != w.given {
			http.SetCookie(w, w.p.cookie(cookieValue(states[0]), int(cookieLife.Seconds())))
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

// cookieValue belongs to one state, which is random. With the prefix nobody else can set
// it, so it needs no secret of its own.
func cookieValue(state string) string {
	sum := sha256.Sum256([]byte(state))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (p *Provider) cookie(value string, maxAge int) *http.Cookie {
	secure, name := p.redirect.Scheme != "http", cookieName
	if secure {
		name = "__Host-" + name
	}
	return &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: maxAge,
		HttpOnly: true, Secure: secure,
		SameSite: http.SameSiteLaxMode, // Strict would keep it from the callback
	}
}
