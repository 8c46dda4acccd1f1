package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/page"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
)

const (
	accountPath = "/account"
	maxForm     = 16 << 10

	sessionCookie = "multiprovider-session"
)

// app is the web application. It is safe for concurrent use.
type app struct {
	home      string // the address for browsers, without a slash at the end
	providers []*provider
	store     *store
	images    string // allowed sources of avatars, for the Content-Security-Policy
	handler   http.Handler
}

func newApp(home string, rows []*provider) (*app, error) {
	a := &app{home: home, providers: rows, store: newStore(), images: "'self' https:"}
	for _, p := range rows {
		var err error
		if p.login, err = oauth2login.New(&p.Config, nil, p.Options...); err != nil {
			return nil, fmt.Errorf("%s: %w", p.Name, err)
		}
		if p.StandIn {
			a.images += " " + origin(p.API)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", a.start)
	mux.HandleFunc("GET /login/{provider}", a.row(a.signIn))
	mux.Handle("GET /callback/{provider}", oauth2login.NavigationsOnly(a.row(a.callback)))
	mux.HandleFunc("GET "+accountPath, a.signedIn(a.account))
	mux.HandleFunc("POST /link/{provider}", a.signedIn(func(w http.ResponseWriter, r *http.Request, s *session) {
		a.row(func(w http.ResponseWriter, r *http.Request, p *provider) { a.link(w, r, p, s) })(w, r)
	}))
	mux.HandleFunc("POST /unlink", a.signedIn(a.unlink))
	mux.HandleFunc("POST /logout", a.signedIn(a.logout))
	mux.HandleFunc("GET /style.css", pages.Style)
	mux.HandleFunc("GET /favicon.svg", pages.File("favicon.svg"))
	mux.HandleFunc("/", a.notFound)

	// Most browsers send the origin of a request, so forms of other sites are refused
	// here. For browsers that send no origin, every form contains a token: see signedIn.
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(a.foreignForm))
	a.handler = protection.Handler(mux)
	return a, nil
}

// shutdown waits for pending requests to the providers.
func (a *app) shutdown(ctx context.Context) error {
	var failed error
	for _, p := range a.providers {
		failed = errors.Join(failed, p.login.Shutdown(ctx))
	}
	return failed
}

// ServeHTTP sets the headers that every answer has.
func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	page.SetHeaders(w, "img-src "+a.images+"; form-action 'self'; ")
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	if reads && !a.https() && !strings.EqualFold(r.Host, strings.TrimPrefix(a.home, "http://")) {
		// The browser is at localhost, but the redirect URLs say 127.0.0.1. The login's
		// cookie would be lost. (With https there is a proxy in front, which may change
		// Host.)
		http.Redirect(w, r, a.home+r.URL.RequestURI(), http.StatusFound)
		return
	}
	page.RememberLanguage(w, r, english.Lang, chinese.Lang)
	a.handler.ServeHTTP(w, r)
}

// signedIn wraps handlers that need a session. It checks the token of forms.
func (a *app) signedIn(page func(http.ResponseWriter, *http.Request, *session)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		s := a.store.sessionOf(a.cookie(r))
		switch {
		case s == nil && r.Method == http.MethodPost:
			a.showMessage(w, r, http.StatusUnauthorized, message{text: textsFor(r).SessionEnded})
		case s == nil:
			http.Redirect(w, r, "/?"+url.Values{"next": {r.URL.RequestURI()}}.Encode(), http.StatusFound)
		case r.Method == http.MethodPost && !s.hasToken(r.PostFormValue("token")):
			a.foreignForm(w, r)
		default:
			page(w, r, s)
		}
	}
}

// start shows the first page, with a sign-in link for every provider.
func (a *app) start(w http.ResponseWriter, r *http.Request) {
	next := oauth2login.LocalPath(r.URL.Query().Get("next"), accountPath)
	if a.store.sessionOf(a.cookie(r)) != nil {
		http.Redirect(w, r, next, http.StatusFound)
		return
	}
	a.render(w, r, http.StatusOK, "start.html", startPage{a.providers, next})
}

func (a *app) account(w http.ResponseWriter, r *http.Request, s *session) {
	v := accountPage{Providers: a.providers, Account: s.account.id}
	for _, i := range a.store.identities(s.account) {
		if source := origin(i.Avatar); !strings.HasPrefix(source, "https://") && !strings.Contains(" "+a.images+" ", " "+source+" ") {
			i.Avatar = "" // our Content-Security-Policy would block it
		}
		v.Identities = append(v.Identities, identityView{i, i.key() == s.with})
	}
	a.render(w, r, http.StatusOK, "account.html", v)
}

func (a *app) unlink(w http.ResponseWriter, r *http.Request, s *session) {
	switch err := a.store.unlink(s, key{r.PostFormValue("provider"), r.PostFormValue("subject")}); err {
	case nil:
		a.store.say(s.id, noticeUnlinked)
		http.Redirect(w, r, accountPath, http.StatusSeeOther)
	case errLast:
		a.showMessage(w, r, http.StatusConflict, message{text: textsFor(r).Last})
	default:
		a.showMessage(w, r, http.StatusUnauthorized, message{text: textsFor(r).SessionEnded})
	}
}

func (a *app) logout(w http.ResponseWriter, r *http.Request, s *session) {
	a.store.signOut(s.id)
	a.setCookie(w, "", -time.Second)
	http.Redirect(w, r, "/?signed-out", http.StatusSeeOther)
}

func (a *app) foreignForm(w http.ResponseWriter, r *http.Request) {
	a.showMessage(w, r, http.StatusForbidden, message{text: textsFor(r).ForeignForm})
}

func (a *app) notFound(w http.ResponseWriter, r *http.Request) {
	a.showMessage(w, r, http.StatusNotFound, message{text: textsFor(r).NotFound})
}

// row wraps the handlers of a provider's pages. The path of a request names the provider.
func (a *app) row(page func(http.ResponseWriter, *http.Request, *provider)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for _, p := range a.providers {
			if p.ID == r.PathValue("provider") {
				page(w, r, p)
				return
			}
		}
		a.notFound(w, r)
	}
}

func (a *app) https() bool { return strings.HasPrefix(a.home, "https:") }

// cookieName returns the name of the session cookie. On https it has the prefix __Host-:
// browsers then accept the cookie only from this host and over https.
func (a *app) cookieName() string {
	if a.https() {
		return "__Host-" + sessionCookie
	}
	return sessionCookie
}

// cookie returns the session's ID, or "".
func (a *app) cookie(r *http.Request) string {
	c, err := r.Cookie(a.cookieName())
	if err != nil {
		return ""
	}
	return c.Value
}

func (a *app) setCookie(w http.ResponseWriter, sessionID string, lifetime time.Duration) {
	http.SetCookie(w, &http.Cookie{
		Name: a.cookieName(), Value: sessionID, Path: "/", MaxAge: int(lifetime.Seconds()),
		Secure: a.https(), HttpOnly: true,
		// Not Strict: the redirect from a provider comes from another site.
		SameSite: http.SameSiteLaxMode,
	})
}

// leave sends the browser to a provider after a form. It does not use an HTTP redirect:
// Chromium applies form-action to all redirects after a form, including those of the
// provider.
func (a *app) leave(w http.ResponseWriter, r *http.Request, p *provider, to string) {
	w.Header().Set("Refresh", "0; url="+to)
	a.showMessage(w, r, http.StatusOK, message{text: textsFor(r).Leaving, Provider: p.Name, Continue: to})
}
