package webapp

import (
	"errors"
	"log"
	"net/http"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
)

// This file is the login. An application of yours needs a provider, made once
//
//	provider, err := shangcloud.New(&oauth2.Config{…}, nil)
//
// and the two handlers that follow.

// login is where the "Sign in" link leads.
func (a *app) login(w http.ResponseWriter, r *http.Request) {
	// Whatever the query says, WithReturnTo makes a path on this site of it.
	err := a.provider.StartLogin(w, r, oauth2login.WithReturnTo(r.URL.Query().Get("next")))
	if err != nil {
		a.loginFailed(w, r, err)
	}
}

// callback is where ShangCloud sends the browser back to.
func (a *app) callback(w http.ResponseWriter, r *http.Request) {
	login, err := a.provider.FinishLogin(w, r)
	if err != nil {
		a.loginFailed(w, r, err)
		return
	}
	// The session has a token source of its own, provider.StoredTokens, and asks who the
	// user is: see session.go.
	if err := a.sessions.start(w, r, login.Token); err != nil {
		a.loginFailed(w, r, err)
		return
	}
	http.Redirect(w, r, login.ReturnTo, http.StatusSeeOther)
}

// loginFailed answers a callback whose login failed, with a page or a redirect. The
// library's error texts contain no secrets, so they can be logged.
func (a *app) loginFailed(w http.ResponseWriter, r *http.Request, err error) {
	t := textsFor(r)
	switch {
	case errors.Is(err, oauth2login.ErrAccessDenied):
		a.showMessage(w, r, http.StatusForbidden, message{text: t.Denied, SignIn: true})
		return
	case errors.Is(err, oauth2login.ErrStateNotFound), errors.Is(err, oauth2login.ErrWrongBrowser):
		if a.sessions.of(r) != nil {
			// A second click, the back button, a reload: the login went well.
			http.Redirect(w, r, "/", http.StatusSeeOther)
			return
		}
		a.showMessage(w, r, http.StatusBadRequest, message{text: t.LoginLost, SignIn: true})
		return
	}

	log.Printf("login: %v", err)
	switch {
	case errors.Is(err, oauth2login.ErrBadCallback):
		a.showMessage(w, r, http.StatusBadRequest, message{text: t.BadCallback, SignIn: true})
	case errors.Is(err, oauth2login.ErrStateStore):
		a.showMessage(w, r, http.StatusServiceUnavailable, message{text: t.Unavailable, SignIn: true})
	case errors.Is(err, oauth2login.ErrUnavailable):
		a.showMessage(w, r, http.StatusBadGateway, message{text: t.Unavailable, SignIn: true})
	default:
		// *oauth2login.CallbackError and *oauth2.RetrieveError: ShangCloud refuses
		// this application, for a wrong secret or scope perhaps. The user can do
		// nothing about it; whoever reads the log can.
		a.showMessage(w, r, http.StatusBadGateway, message{text: t.Refused, SignIn: true})
	}
}
