package main

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"log"
	"net/http"
	"sync"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
)

const (
	sessionLifetime = 12 * time.Hour
	maxSessions     = 10_000
)

// login handles the "Sign in" link.
func (a *app) login(w http.ResponseWriter, r *http.Request) {
	if err := a.provider.StartLogin(w, r); err != nil {
		a.loginFailed(w, r, err)
	}
}

// loginBot starts the login of the bot. The program prints the address of this page for the
// operator. Nobody can guess the address.
func (a *app) loginBot(w http.ResponseWriter, r *http.Request) {
	if subtle.ConstantTimeCompare([]byte(r.PathValue("secret")), []byte(a.botSecret)) != 1 {
		a.notFound(w, r)
		return
	}
	err := a.provider.StartLogin(w, r, oauth2login.WithValue(forBot), oauth2login.WithScopes(shangcloud.ScopeMMO))
	if err != nil {
		a.loginFailed(w, r, err)
	}
}

// forBot marks a login of the bot. The callback gets the mark back with the login, and
// nobody can change it.
const forBot = "bot"

// callback handles the redirect URL, to which ShangCloud sends the browser back.
func (a *app) callback(w http.ResponseWriter, r *http.Request) {
	login, err := a.provider.FinishLogin(w, r)
	switch {
	case err != nil:
	case login.Value == forBot:
		if err = a.bot.signIn(r.Context(), login.Token); err == nil {
			a.showMessage(w, r, http.StatusOK, textsFor(r).BotSignedIn)
			return
		}
	default:
		if err = a.sessions.start(w, r, a.provider, login); err == nil {
			http.Redirect(w, r, "/", http.StatusSeeOther)
			return
		}
	}
	a.loginFailed(w, r, err)
}

// loginFailed answers a login that failed. The library's errors contain no secrets.
func (a *app) loginFailed(w http.ResponseWriter, r *http.Request, err error) {
	t := textsFor(r)
	switch {
	case errors.Is(err, oauth2login.ErrAccessDenied):
		a.showMessage(w, r, http.StatusForbidden, t.Denied)
		return
	case errors.Is(err, oauth2login.ErrStateNotFound), errors.Is(err, oauth2login.ErrWrongBrowser), errors.Is(err, oauth2login.ErrBadCallback):
		if a.sessions.of(r) != nil {
			http.Redirect(w, r, "/", http.StatusSeeOther) // a reload, or a second click
			return
		}
		a.showMessage(w, r, http.StatusBadRequest, t.LoginLost)
		return
	}
	log.Printf("login: %v", err)
	a.showMessage(w, r, http.StatusBadGateway, t.LoginFailed)
}

// logout also ends the person's open pages, so the others see the person leave.
func (a *app) logout(w http.ResponseWriter, r *http.Request) {
	if p := a.sessions.end(w, r); p != nil {
		a.seats.leave(p)
		if err := p.tokens.Delete(r.Context()); err != nil {
			log.Printf("sign out: %v", err)
		}
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// person is somebody who is signed in, in one browser.
type person struct {
	user   *shangcloud.UserInfo
	tokens *oauth2login.TokenSource
	rooms  *mmo.Client
	ends   time.Time
}

// sessions are in memory. They are safe for concurrent use.
type sessions struct {
	cookie http.Cookie // all but the value

	mu   sync.Mutex
	byID map[string]*person
}

func newSessions(https bool) *sessions {
	name := "rooms-session"
	if https {
		name = "__Host-" + name // browsers accept it only from this host, over https
	}
	return &sessions{
		cookie: http.Cookie{Name: name, Path: "/", Secure: https, HttpOnly: true, SameSite: http.SameSiteLaxMode},
		byID:   make(map[string]*person),
	}
}

// start signs a browser in.
func (ss *sessions) start(w http.ResponseWriter, r *http.Request, provider *shangcloud.Provider, login *oauth2login.Login) error {
	tokens := provider.TokenSource(login.Token)
	api := provider.API(tokens)
	user, err := api.UserInfo(r.Context())
	if err != nil {
		return err
	}
	ss.end(w, r)
	id, now := rand.Text(), time.Now()
	ss.mu.Lock()
	for old, p := range ss.byID {
		if len(ss.byID) >= maxSessions && now.After(p.ends) {
			delete(ss.byID, old)
		}
	}
	isFull := len(ss.byID) >= maxSessions
	if !isFull {
		ss.byID[id] = &person{user, tokens, mmo.NewClient(api), now.Add(sessionLifetime)}
	}
	ss.mu.Unlock()
	if isFull {
		return errors.New("too many people are signed in")
	}
	ss.setCookie(w, id, int(sessionLifetime.Seconds()))
	return nil
}

// of returns the person who sent r, or nil.
func (ss *sessions) of(r *http.Request) *person {
	c, err := r.Cookie(ss.cookie.Name)
	if err != nil {
		return nil
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if p := ss.byID[c.Value]; p != nil && time.Now().Before(p.ends) {
		return p
	}
	return nil
}

// end signs the browser out. It returns the person who was signed in, or nil.
func (ss *sessions) end(w http.ResponseWriter, r *http.Request) *person {
	c, err := r.Cookie(ss.cookie.Name)
	if err != nil {
		return nil
	}
	ss.setCookie(w, "", -1)
	ss.mu.Lock()
	defer ss.mu.Unlock()
	p := ss.byID[c.Value]
	delete(ss.byID, c.Value)
	return p
}

func (ss *sessions) setCookie(w http.ResponseWriter, value string, maxAge int) {
	c := ss.cookie
	c.Value, c.MaxAge = value, maxAge
	http.SetCookie(w, &c)
}
