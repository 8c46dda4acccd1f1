package main

import (
	"errors"
	"log"
	"net/http"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"golang.org/x/oauth2"
)

// This file contains the login. It is the same for all providers.

// signIn handles the "Continue with …" links.
func (a *app) signIn(w http.ResponseWriter, r *http.Request, p *provider) {
	next := oauth2login.LocalPath(r.URL.Query().Get("next"), accountPath)
	if a.store.sessionOf(a.cookie(r)) != nil {
		http.Redirect(w, r, next, http.StatusFound) // a link on another site cannot change who is signed in
	} else if err := p.login.StartLogin(w, r, oauth2login.WithReturnTo(next)); err != nil {
		a.loginFailed(w, r, p, err)
	}
}

// link adds an identity to the account that is signed in. It accepts only a form. A link
// on a page would not be safe, because another site could contain the same link.
func (a *app) link(w http.ResponseWriter, r *http.Request, p *provider, s *session) {
	to, err := p.login.LoginURL(w, r, oauth2login.WithReturnTo(accountPath), oauth2login.WithValue(s.account.id))
	if err != nil {
		a.loginFailed(w, r, p, err)
		return
	}
	a.leave(w, r, p, to)
}

// callback handles the redirect URL of each provider. Each provider has a separate path.
func (a *app) callback(w http.ResponseWriter, r *http.Request, p *provider) {
	login, err := p.login.FinishLogin(w, r)
	if err != nil {
		a.loginFailed(w, r, p, err)
		return
	}
	u, err := p.User(r.Context(), p.login.Client(oauth2.StaticTokenSource(login.Token), origin(p.API)), p.API)
	if err == nil && login.Value != "" {
		err = a.store.linkAndSay(a.cookie(r), login.Value, p, u)
	} else if err == nil {
		a.setCookie(w, a.store.signIn(a.cookie(r), p, u), sessionLifetime)
	}
	if err != nil {
		a.loginFailed(w, r, p, err)
		return
	}
	http.Redirect(w, r, login.ReturnTo, http.StatusSeeOther)
}

// loginFailed answers a callback whose login failed, with a page or a redirect.
func (a *app) loginFailed(w http.ResponseWriter, r *http.Request, p *provider, err error) {
	t, status := textsFor(r), http.StatusBadGateway
	over := errors.Is(err, oauth2login.ErrStateNotFound) || errors.Is(err, oauth2login.ErrWrongBrowser)
	if over && a.store.say(a.cookie(r), noticeOver) {
		http.Redirect(w, r, accountPath, http.StatusSeeOther) // a reload or a second click: the first callback most likely succeeded
		return
	}
	_, denied := errors.AsType[*oauth2login.CallbackError](err)
	_, refused := errors.AsType[*oauth2.RetrieveError](err)
	say := t.Unavailable
	switch {
	case over:
		status, say = http.StatusBadRequest, t.LoginLost
	case errors.Is(err, oauth2login.ErrBadCallback):
		status, say = http.StatusBadRequest, t.BadCallback
	case errors.Is(err, oauth2login.ErrAccessDenied):
		status, say = http.StatusForbidden, t.Denied
	case errors.Is(err, errOtherAccount):
		status, say = http.StatusConflict, t.OtherAccount
	case errors.Is(err, errNotSignedIn):
		status, say = http.StatusForbidden, t.NotSignedIn
	case (denied || refused) && !errors.Is(err, oauth2login.ErrUnavailable):
		say = t.Refused
	}
	log.Print(err)
	a.showMessage(w, r, status, message{text: say, Provider: p.Name})
}
