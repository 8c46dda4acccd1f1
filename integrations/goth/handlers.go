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
	// cookieName is the name of the login's cookie, without the prefix __Host-. All logins
	// use this name: gothic, too, keeps only one login for each browser.
	cookieName = "goth-login"

	// gothicSession has the value of gothic.SessionName. The value is copied here because
	// applications can use goth without importing gothic.
	gothicSession = "_gothic_session"

	// cookieLife is longer than a login may take (Options.LoginLifetime). So a late
	// callback still has its cookie, and Authorize reports that the callback is late.
	cookieLife = 90 * time.Minute
)

// BeginHandler wraps the handler of the login link, for example gothic.BeginAuthHandler.
// When next redirects to a provider, BeginHandler sets a cookie that belongs to the state
// in the redirect. [Provider.CallbackHandler] then requires that cookie.
//
// If the redirect URL of p is https, the cookie's name begins with __Host-. A sibling
// subdomain can't set such a cookie, although it can set gothic's session cookie. If the
// redirect URL is plain http, as on loopback, the name has no prefix.
//
// BeginHandler sets no cookie if the redirect has no state. It also sets no cookie if the
// login request already had the same state, because then the author of the login link
// knows the state. Without the cookie the login fails.
//
// next does not see the gothic session that the browser sends. goth's example tries to
// complete that session in the handler of the login link, but an attacker may have planted
// it. Like [oauth2login.NavigationsOnly], BeginHandler refuses requests that are not
// navigations.
func (p *Provider) BeginHandler(next http.Handler) http.Handler {
	return oauth2login.NavigationsOnly(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		next.ServeHTTP(&beginning{ResponseWriter: w, p: p, given: r.URL.Query().Get("state")}, withoutSession(r))
	}))
}

// CallbackHandler wraps next, the handler of the redirect URL, which calls
// gothic.CompleteUserAuth. A callback reaches next only if it belongs to the login that
// this browser began last through [Provider.BeginHandler]. CallbackHandler then deletes
// the cookie.
//
// CallbackHandler answers all other requests itself, in plain text. A callback of another
// login or browser gets status 403, and a POST gets 405. Like
// [oauth2login.NavigationsOnly], CallbackHandler refuses requests that are not
// navigations. gothic sees none of these requests, so they do not use up the session of a
// pending login.
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

// begunHere reports whether the browser sent the cookie that belongs to the callback's
// state.
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

// beginning is a ResponseWriter that sets the cookie just before the header is written.
type beginning struct {
	http.ResponseWriter
	p     *Provider
	given string // the state that the login request brought
}

// Unwrap lets [http.ResponseController] use the underlying ResponseWriter.
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

// cookieValue returns a hash of the state. No key is needed: the state is random, and no
// other host can set a cookie with the prefix __Host-.
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
		SameSite: http.SameSiteLaxMode, // with Strict, the callback would come without the cookie
	}
}
