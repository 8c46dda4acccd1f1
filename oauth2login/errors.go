package oauth2login

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/quiet"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/wire"
	"golang.org/x/oauth2"
)

// Callers distinguish these errors with errors.Is. The errors that this package returns
// wrap them. The text of a returned error begins with the provider's host and quotes no
// secret.
var (
	// ErrUnavailable means that the provider could not be reached, did not answer in
	// time, failed (status 429, 500 and above), redirected, or gave an unusable
	// answer. Answer 503; a later try may succeed.
	ErrUnavailable = wire.ErrUnavailable

	// ErrBadCallback means that the request can't come from a login: a parameter is
	// missing, repeated, too long or malformed, or the request is not a navigation. The
	// state was not redeemed.
	ErrBadCallback = errors.New("oauth2login: malformed callback")

	// ErrStateNotFound means that the state is unknown, has expired, or was used already.
	// The user can log in again.
	ErrStateNotFound = errors.New("oauth2login: login state unknown, expired or used")

	// ErrWrongBrowser means that the callback came without the cookie of its login.
	// Either another browser started the login, or the login is finished and the page was
	// reloaded. The state stays valid for the browser that started the login.
	ErrWrongBrowser = errors.New("oauth2login: this browser did not start the login, or no longer has its cookie")

	// ErrNoCookies is an ErrWrongBrowser for a request without any cookie. The browser
	// may block cookies, or the login started on a host other than that of the redirect
	// URL.
	ErrNoCookies = fmt.Errorf("%w: it sent no cookie at all", ErrWrongBrowser)

	// ErrCrossSite means that a request for [Provider.LoginURL] does not come from a page
	// of the same origin.
	ErrCrossSite = errors.New("oauth2login: the request does not come from a page of this site")

	// ErrAccessDenied means that the user denied access.
	ErrAccessDenied = errors.New("oauth2login: the user denied access")

	// ErrLoginExpired means that the user did not finish a device or local login in time.
	ErrLoginExpired = errors.New("oauth2login: the user did not finish the login in time")

	// ErrStateStore means that the state store failed. The login is refused: answer 503.
	ErrStateStore = errors.New("oauth2login: the state store failed")

	// ErrTokenStore means that the token store failed. A call for a token returns
	// ErrTokenStore only if there is no valid token. If SetToken or Delete returns it,
	// the change still applies in this process.
	ErrTokenStore = errors.New("oauth2login: the token store failed")

	// ErrLoginRequired means that the user has to log in again: no token is stored, the
	// token has expired and has no refresh token, or the provider refused the refresh
	// token. If the provider refused, [errors.As] finds its [*oauth2.RetrieveError].
	ErrLoginRequired = errors.New("oauth2login: the user has to log in again")

	// ErrClientCredentials means that the provider refused the client ID or the client
	// secret. The application's configuration is wrong; no user can help.
	ErrClientCredentials = errors.New("oauth2login: the provider refused the client credentials")
)

// CallbackError is the error that the provider sent in the callback, instead of a code.
// It matches [ErrAccessDenied] if the user denied access, and [ErrUnavailable] if the
// provider reports that it failed.
//
// Anyone can send a browser to the callback with any text, so escape these texts if you
// show them. Package fmt prints them if a CallbackError is in an unexported field of a
// struct.
type CallbackError struct {
	Code        string // RFC 6749, section 4.1.2.1: access_denied, invalid_scope, …
	Description string // error_description, for developers; empty unless it is plain text
	URI         string // error_uri; may be empty
}

// Error returns a text with the code, if the code is a known one. It quotes no other text
// of the callback.
func (e *CallbackError) Error() string {
	code := quiet.Code(e.Code)
	if code == "" {
		code = "an unknown error"
	}
	return "the login came back with " + code
}

// Is matches ErrAccessDenied and ErrUnavailable.
func (e *CallbackError) Is(target error) bool {
	switch e.Code {
	case "access_denied", "user_cancelled_login", "user_cancelled_authorize": // the last two are LinkedIn's
		return target == ErrAccessDenied
	case "server_error", "temporarily_unavailable":
		// A redirect can't carry the statuses 500 and 503 (RFC 6749, section 4.1.2.1).
		return target == ErrUnavailable
	}
	return false
}

// Format prints the text of Error for every verb.
func (e CallbackError) Format(f fmt.State, verb rune) { quiet.Format(f, verb, e.Error()) }

// MarshalJSON writes the code if it is a known one, and nothing else.
func (e CallbackError) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]string{"Code": quiet.Code(e.Code)})
}

// LoginError is the error of a login that failed after its state was redeemed. For
// example, the user denied access, or the provider refused the code. It has the return
// path and the value of the login.
//
// LoginError prints without Value. But package fmt prints all fields if a LoginError is
// in an unexported field of a struct.
type LoginError struct {
	ReturnTo string // the local path of [WithReturnTo], or "/"
	Value    string // the value of [WithValue]
	Err      error  // why the login failed
}

// Error is the text of Err.
func (e *LoginError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *LoginError) Unwrap() error { return e.Err }

// Format prints the text of Error for every verb.
func (e LoginError) Format(f fmt.State, verb rune) { quiet.Format(f, verb, e.Error()) }

// MarshalJSON writes ReturnTo only.
func (e LoginError) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]string{"ReturnTo": e.ReturnTo})
}

// errorf returns an error whose text begins with the provider's host. text must contain
// no secret.
func (p *Provider) errorf(text string, causes ...error) error {
	return quiet.New(p.where, text, causes...)
}

// isRefusal returns the error answer of an OAuth endpoint, and whether it is a refusal.
// The answer of a server that failed (ErrUnavailable) is not a refusal.
func isRefusal(err error) (*oauth2.RetrieveError, bool) {
	re, ok := errors.AsType[*oauth2.RetrieveError](err)
	return re, ok && !errors.Is(err, ErrUnavailable)
}

// refusesClient reports whether an answer refuses the client's credentials. Some
// providers send status 401 with an error code of their own.
func refusesClient(status int, code string) bool {
	switch code {
	case "invalid_client", "incorrect_client_credentials", "unauthorized_client":
		return true
	}
	return status == http.StatusUnauthorized && quiet.Code(code) == ""
}

// mayRefuseStyle reports whether the provider may have refused because of where the
// credentials were sent: in HTTP Basic or in the form. A provider that reads only the
// form may miss the client ID. LinkedIn then answers invalid_request. Facebook and Twitch
// send no error code for this.
func mayRefuseStyle(status int, code string) bool {
	return refusesClient(status, code) ||
		status == http.StatusBadRequest && (code == "invalid_request" || quiet.Code(code) == "")
}
