package webapp

import (
	"errors"
	"log"
	"net/http"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
)

// This file contains the login. Your application needs a provider, which it creates once:
//
//	provider, err := shangcloud.New(&oauth2.Config{…}, nil)
//
// It also needs the two handlers that follow.

// login handles the "Sign in" link.
func (a *app) login(w http.ResponseWriter, r *http.Request) {
	// WithReturnTo accepts only a path on this site, whatever the query says.
	err := a.provider.StartLogin(w, r, oauth2login.WithReturnTo(r.URL.Query().Get("next")))
	if err != nil {
		a.loginFailed(w, r, err)
	}
}

// callback handles the redirect URL, to which ShangCloud sends the browser back.
func (a *app) callback(w http.ResponseWriter, r *http.Request) {
	login, err := a.provider.FinishLogin(w, r)
	if err != nil {
		a.loginFailed(w, r, err)
		return
	}
	// start gives the session its own token source, provider.StoredTokens. It calls
	// UserInfo to find out who the user is: see session.go.
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
			// The user clicked twice, went back or reloaded: the login has succeeded
			// before.
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
		// *oauth2login.CallbackError and *oauth2.RetrieveError: ShangCloud refuses this
		// application, perhaps because of a wrong secret or scope. The user can do
		// nothing about it. The log tells the operator.
		a.showMessage(w, r, http.StatusBadGateway, message{text: t.Refused, SignIn: true})
	}
}
