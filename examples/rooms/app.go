package main

import (
	"context"
	"crypto/rand"
	"embed"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/page"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/serve"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo"
)

//go:embed templates/*.html style.css room.js favicon.svg
var files embed.FS

var pages = page.Parse(files, "welcome.html", "room.html", "message.html")

// app is the web application. It is safe for concurrent use.
type app struct {
	provider  *shangcloud.Provider
	redirect  *url.URL // the redirect URL
	platform  string
	isDemo    bool
	plaintext bool

	sessions  *sessions
	seats     seats
	lobby     *lobby
	bot       *bot
	botSecret string

	handler http.Handler
}

// newApp returns an application. When ctx ends, the streams of all open pages end.
func newApp(ctx context.Context, settings serve.Settings, isDemo, plaintext bool) (*app, error) {
	provider, redirect, err := settings.New(nil)
	if err != nil {
		return nil, err
	}
	if err := checkCallback(redirect); err != nil {
		return nil, err
	}
	tokens, err := botTokens(provider, settings.DataDir)
	if err != nil {
		return nil, err
	}
	a := &app{
		provider: provider, redirect: redirect, platform: settings.BaseURL, isDemo: isDemo, plaintext: plaintext,
		sessions: newSessions(redirect.Scheme == "https"), lobby: newLobby(), botSecret: rand.Text(),
	}
	a.bot = &bot{
		name: "Pixel (bot)", tokens: tokens, rooms: mmo.NewClient(provider.API(tokens)), lobby: a.lobby, plaintext: plaintext,
		signedIn: make(chan struct{}, 1), met: make(map[string]string),
	}

	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", a.start)
	mux.HandleFunc("GET /login", a.login)
	mux.HandleFunc("GET /bot/{secret}", a.loginBot)
	mux.HandleFunc("GET "+redirect.EscapedPath(), a.callback)
	mux.HandleFunc("POST /logout", a.logout)
	mux.HandleFunc("GET /events", a.signedIn(func(w http.ResponseWriter, r *http.Request, p *person) { a.events(ctx, w, r, p) }))
	mux.HandleFunc("POST /say", a.signedIn(a.post))
	mux.HandleFunc("GET /style.css", pages.Style)
	mux.HandleFunc("GET /room.js", pages.File("room.js"))
	mux.HandleFunc("GET /favicon.svg", pages.File("favicon.svg"))
	mux.HandleFunc("/", a.notFound)

	// protection refuses posts from other sites.
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(a.foreign))
	a.handler = protection.Handler(mux)
	return a, nil
}

var callbackPath = regexp.MustCompile(`^/(?:[A-Za-z0-9_-]+/)*[A-Za-z0-9_-]+$`)

// checkCallback makes sure that no other page has the path of the callback.
func checkCallback(u *url.URL) error {
	path := u.EscapedPath()
	if u.Host == "" || !callbackPath.MatchString(path) || strings.HasPrefix(path, "/bot/") || slices.Contains([]string{"/login", "/logout", "/events", "/say"}, path) {
		return fmt.Errorf("the redirect URL %s can't be served: its path has to be one of its own, such as /callback", u.Redacted())
	}
	return nil
}

func (a *app) home() string   { return a.redirect.Scheme + "://" + a.redirect.Host + "/" }
func (a *app) botURL() string { return a.home() + "bot/" + a.botSecret }

// ServeHTTP sets the headers that every answer has.
func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	page.SetHeaders(w, "script-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; ")
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	if reads && a.redirect.Scheme == "http" && !strings.EqualFold(strings.TrimSuffix(r.Host, ":80"), strings.TrimSuffix(a.redirect.Host, ":80")) {
		// localhost and 127.0.0.1 are two hosts: the login's cookie would be lost.
		http.Redirect(w, r, a.home()+strings.TrimPrefix(r.URL.RequestURI(), "/"), http.StatusFound)
		return
	}
	page.RememberLanguage(w, r, english.Lang, chinese.Lang)
	a.handler.ServeHTTP(w, r)
}

// signedIn wraps the handlers that a page's script calls. It refuses requests of people who
// are not signed in.
func (a *app) signedIn(handler func(http.ResponseWriter, *http.Request, *person)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if p := a.sessions.of(r); p != nil {
			handler(w, r, p)
			return
		}
		http.Error(w, "not signed in", http.StatusUnauthorized)
	}
}

func (a *app) start(w http.ResponseWriter, r *http.Request) {
	if p := a.sessions.of(r); p != nil {
		a.render(w, r, http.StatusOK, "room.html", roomPage{boardWidth, boardHeight, maxText})
		return
	}
	a.render(w, r, http.StatusOK, "welcome.html", nil)
}

func (a *app) foreign(w http.ResponseWriter, r *http.Request) {
	a.showMessage(w, r, http.StatusForbidden, textsFor(r).Foreign)
}

func (a *app) notFound(w http.ResponseWriter, r *http.Request) {
	a.showMessage(w, r, http.StatusNotFound, textsFor(r).NotFound)
}

// roomPage is the data of room.html.
type roomPage struct{ Width, Height, MaxText int }

// view is the data of layout.html.
type view struct {
	T        *texts
	Platform string
	Demo     bool
	SignedIn bool
	LangURL  string // this page's address in the other language
	Data     any    // the template's own
}

func (a *app) showMessage(w http.ResponseWriter, r *http.Request, status int, m text) {
	a.render(w, r, status, "message.html", m)
}

func (a *app) render(w http.ResponseWriter, r *http.Request, status int, name string, data any) {
	t := textsFor(r)
	pages.Show(w, status, name, t.Lang, view{
		T: t, Platform: a.platform, Demo: a.isDemo, SignedIn: a.sessions.of(r) != nil,
		LangURL: page.LanguageURL(r, status, t.OtherLang), Data: data,
	})
}
