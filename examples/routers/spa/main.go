// Spa is a single-page application: a page of JavaScript, and the JSON API that it calls.
//
//	go -C examples/routers run ./spa [-addr 127.0.0.1:8080]
//
// Without SHANGCLOUD_CLIENT_ID and SHANGCLOUD_CLIENT_SECRET, the program uses a stand-in
// for ShangCloud that it runs itself. To use the real platform, register
// http://127.0.0.1:8080/callback there.
//
// The server logs the user in and keeps the tokens. JavaScript can read neither the
// tokens nor the session's ID, which is in an HttpOnly cookie. An attacker's script in
// the page can send requests while the page is open, but it can't steal a token or the
// session.
//
// # How it works
//
// The page requests /api/me. If nobody is signed in, the answer is status 401 and JSON
// with the address of the login. It is never a redirect. The page then opens the login
// itself:
//
//	location.assign(answer.login + "?next=" + encodeURIComponent(location.pathname))
//
// Every request that changes something is a POST. [http.CrossOriginProtection] refuses
// such requests from pages of other sites. The cookie's attribute SameSite=Lax is a
// second protection against them.
//
// # What not to do
//
// fetch("/login") can't work. The fetch follows the redirect to ShangCloud in the
// background, where the user sees no page and can't agree. The browser does not let the
// script read the answer of another site. With {redirect: "manual"}, the script does not
// learn the address either. So nobody can finish such a login. The route /login refuses
// every request that is not a navigation, and the answer says so.
//
// A redirect as the answer of /api/me fails for the same reason: the fetch would follow
// it.
//
// Do not put tokens into localStorage or into the address after the login: every script
// on the page can read them. A login in a hidden frame fails if ShangCloud's page forbids
// frames, or if the browser isolates the cookies of embedded sites.
package main

import (
	"cmp"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"io/fs"
	"log"
	"net/http"
	"os"
	"sync"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/serve"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/alexedwards/scs/v2"
	"golang.org/x/oauth2"
)

//go:embed static
var static embed.FS

func main() {
	site := serve.Start(&oauth2.Config{
		ClientID:     os.Getenv("SHANGCLOUD_CLIENT_ID"),
		ClientSecret: os.Getenv("SHANGCLOUD_CLIENT_SECRET"),
		RedirectURL:  "http://127.0.0.1:8080/callback",
		Scopes:       []string{shangcloud.ScopeUserBasic, shangcloud.ScopeVariables},
	})
	provider, err := shangcloud.New(site.Config, nil)
	site.Run(provider, err, func(p *shangcloud.Provider) http.Handler {
		return newApp(p, false) // on https, secure has to be true
	})
}

const sessionLifetime = 12 * time.Hour

// app is safe for concurrent use.
type app struct {
	provider *shangcloud.Provider
	sessions *scs.SessionManager

	// apis has one entry for each user who has logged in since the program started. A
	// real application has a table of users: see oauth2login.TokenStore.
	mu   sync.Mutex
	apis map[int64]*shangcloud.API
}

func newApp(provider *shangcloud.Provider, secure bool) http.Handler {
	a := &app{provider: provider, sessions: scs.New(), apis: make(map[int64]*shangcloud.API)}
	a.sessions.Lifetime = sessionLifetime
	a.sessions.Cookie.Secure = secure
	a.sessions.Cookie.Name = "session"
	if secure {
		a.sessions.Cookie.Name = "__Host-session"
	}

	pages, err := fs.Sub(static, "static")
	if err != nil {
		panic(err) // the folder is embedded
	}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(pages))
	mux.HandleFunc("GET /login", a.login)
	mux.HandleFunc("GET /callback", a.callback)
	mux.HandleFunc("GET /api/me", a.signedIn(a.me))
	mux.HandleFunc("POST /api/theme", a.signedIn(a.setTheme))
	mux.HandleFunc("POST /api/logout", a.logout)

	// If a browser does not send Sec-Fetch-Site, CrossOriginProtection compares Origin
	// with Host. If a proxy changes Host, name the public origin with AddTrustedOrigin.
	// Clients that are not browsers send neither Sec-Fetch-Site nor Origin. Their
	// requests pass.
	csrf := http.NewCrossOriginProtection()
	csrf.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fail(w, http.StatusForbidden, "cross_origin")
	}))
	return csrf.Handler(secureHeaders(a.sessions.LoadAndSave(mux)))
}

func secureHeaders(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'self'; base-uri 'none'; frame-ancestors 'none'")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		h.ServeHTTP(w, r)
	})
}

func (a *app) login(w http.ResponseWriter, r *http.Request) {
	if err := a.provider.StartLogin(w, r, oauth2login.WithReturnTo(r.FormValue("next"))); err != nil {
		loginFailed(w, err)
	}
}

func (a *app) callback(w http.ResponseWriter, r *http.Request) {
	login, err := a.provider.FinishLogin(w, r)
	if err != nil {
		loginFailed(w, err)
		return
	}
	api := a.provider.API(a.provider.TokenSource(login.Token))
	user, err := api.UserInfo(r.Context())
	if err != nil {
		loginFailed(w, err)
		return
	}
	// The session gets a new ID. So an ID that an attacker planted before the login is
	// worthless.
	if err := a.sessions.RenewToken(r.Context()); err != nil {
		loginFailed(w, err)
		return
	}
	a.mu.Lock()
	a.apis[user.ID] = api
	a.mu.Unlock()
	a.sessions.Put(r.Context(), "uid", user.ID)
	http.Redirect(w, r, login.ReturnTo, http.StatusSeeOther)
}

// loginFailed answers with a page, because login and callback are navigations.
func loginFailed(w http.ResponseWriter, err error) {
	log.Printf("login: %v", err)
	if errors.Is(err, oauth2login.ErrUnavailable) || errors.Is(err, oauth2login.ErrStateStore) {
		http.Error(w, "please try again in a minute", http.StatusServiceUnavailable)
		return
	}
	http.Error(w, "not logged in: please start again", http.StatusForbidden)
}

// signedIn wraps API calls that need a user.
func (a *app) signedIn(h func(http.ResponseWriter, *http.Request, *shangcloud.API)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		api := a.apis[a.sessions.GetInt64(r.Context(), "uid")]
		a.mu.Unlock()
		if api == nil {
			loginRequired(w)
			return
		}
		h(w, r, api)
	}
}

func (a *app) me(w http.ResponseWriter, r *http.Request, api *shangcloud.API) {
	user, err := api.UserInfo(r.Context())
	var theme string
	if err == nil {
		theme, err = variable(r.Context(), api, "theme")
	}
	if err != nil {
		a.callFailed(w, r, err)
		return
	}
	answer(w, http.StatusOK, map[string]any{"id": user.ID, "nickname": user.Nickname, "theme": cmp.Or(theme, "light")})
}

// variable returns "" if the variable does not exist. The platform may report that in
// different ways.
func variable(ctx context.Context, api *shangcloud.API, key string) (string, error) {
	value, err := api.Variable(ctx, key)
	var refused *shangcloud.APIError
	if errors.As(err, &refused) && (refused.StatusCode == http.StatusOK || refused.StatusCode == http.StatusNotFound) {
		return "", nil
	}
	return value, err
}

func (a *app) setTheme(w http.ResponseWriter, r *http.Request, api *shangcloud.API) {
	var in struct{ Theme string }
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<10)).Decode(&in); err != nil || len(in.Theme) > 100 {
		fail(w, http.StatusBadRequest, "bad_request")
		return
	}
	if err := api.SetVariable(r.Context(), "theme", in.Theme); err != nil {
		a.callFailed(w, r, err)
		return
	}
	answer(w, http.StatusOK, map[string]any{})
}

func (a *app) logout(w http.ResponseWriter, r *http.Request) {
	if err := a.sessions.Destroy(r.Context()); err != nil {
		fail(w, http.StatusServiceUnavailable, "unavailable")
		return
	}
	answer(w, http.StatusOK, map[string]any{})
}

func (a *app) callFailed(w http.ResponseWriter, r *http.Request, err error) {
	log.Printf("%s: %v", r.URL.Path, err)
	switch {
	case errors.Is(err, oauth2login.ErrLoginRequired):
		loginRequired(w) // the platform no longer accepts this login
	case errors.Is(err, oauth2login.ErrUnavailable):
		fail(w, http.StatusServiceUnavailable, "unavailable")
	default:
		fail(w, http.StatusBadGateway, "refused")
	}
}

// loginRequired tells the page's script the login address. The script adds the query
// parameter "next", the page to return to, because only the script knows that address.
func loginRequired(w http.ResponseWriter) {
	answer(w, http.StatusUnauthorized, map[string]any{"error": "login_required", "login": "/login"})
}

func fail(w http.ResponseWriter, status int, code string) {
	answer(w, status, map[string]any{"error": code})
}

func answer(w http.ResponseWriter, status int, v map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		log.Print(err)
	}
}
