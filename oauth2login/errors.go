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

// Errors that callers tell apart with errors.Is. The text of the errors that wrap them
// begins with the provider's host and quotes nothing secret.
var (
	// ErrUnavailable means that the provider could not be reached, did not answer in
	// time, failed (status 429, 500 and above), redirected, or gave an unusable
	// answer. Answer 503; a later try may succeed.
	ErrUnavailable = wire.ErrUnavailable

	// ErrBadCallback is a request that no login leads to: a parameter is missing,
	// repeated, too long or malformed, or the request is not a navigation. The state
	// was not redeemed.
	ErrBadCallback = errors.New("oauth2login: malformed callback")

	// ErrStateNotFound is a state that is unknown, has expired, or was used already.
	// The user can log in again.
	ErrStateNotFound = errors.New("oauth2login: login state unknown, expired or used")

	// ErrWrongBrowser is a callback without the cookie of its login: another browser
	// started the login, or the login is finished and the page was reloaded. The state
	// stays valid for its owner.
	ErrWrongBrowser = errors.New("oauth2login: this browser did not start the login, or no longer has its cookie")

	// ErrNoCookies is an ErrWrongBrowser without any cookie: the browser may block
	// cookies, or the login started on another host than that of the redirect URL.
	ErrNoCookies = fmt.Errorf("%w: it sent no cookie at all", ErrWrongBrowser)

	// ErrCrossSite is a request for [Provider.LoginURL] that does not come from a page
	// of the same origin.
	ErrCrossSite = errors.New("oauth2login: the request does not come from a page of this site")

	// ErrAccessDenied means that the user said no.
	ErrAccessDenied = errors.New("oauth2login: the user denied access")

	// ErrLoginExpired means that the user did not finish a device or local login in time.
	ErrLoginExpired = errors.New("oauth2login: the user did not finish the login in time")

	// ErrStateStore is a state store that failed. The login is refused: answer 503.
	ErrStateStore = errors.New("oauth2login: the state store failed")

	// ErrTokenStore is a token store that failed while no valid token was at hand.
	ErrTokenStore = errors.New("oauth2login: the token store failed")

	// ErrLoginRequired means that only the user can help: no token is stored, the token
	// has expired and has no refresh token, or the provider refused the refresh token.
	// Then the [*oauth2.RetrieveError] is in the chain.
	ErrLoginRequired = errors.New("oauth2login: the user has to log in again")

	// ErrClientCredentials means that the provider refused the client ID or the client
	// secret. The application's configuration is wrong; no user can help.
	ErrClientCredentials = errors.New("oauth2login: the provider refused the client credentials")
)

// CallbackError is the error that the provider sent the browser back with. It matches
// [ErrAccessDenied] if the user said no, and [ErrUnavailable] if the provider reports a
// failure of its own.
//
// Anyone can send a browser to the callback: show these texts as text, if at all. Package
// fmt prints them if a CallbackError stands in an unexported field of a struct.
type CallbackError struct {
	Code        string // RFC 6749, section 4.1.2.1: access_denied, invalid_scope, …
	Description string // error_description, for developers; empty unless it is plain text
	URI         string // error_uri; may be empty
}

// Error gives the code if it is a known one, and no other text of the callback.
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

// MarshalJSON writes the code if it is a known one.
func (e CallbackError) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]string{"Code": quiet.Code(e.Code)})
}

// LoginError is a login that failed after its state was redeemed: the user said no, or
// the provider refused the code. It tells where the user was.
//
// It prints no value; but package fmt prints the fields if a LoginError stands in an
// unexported field of a struct.
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

// errorf returns an error of p with a harmless text.
func (p *Provider) errorf(text string, causes ...error) error {
	return quiet.New(p.where, text, causes...)
}

// isRefusal returns the answer of a token endpoint that considered the request and
// refused it. A server that is out of order does not know.
func isRefusal(err error) (*oauth2.RetrieveError, bool) {
	re, ok := errors.AsType[*oauth2.RetrieveError](err)
	return re, ok && !errors.Is(err, ErrUnavailable)
}

// refusesClient reports whether an answer refuses the client's credentials. Some providers
// have a code of their own for that, and status 401.
func refusesClient(status int, code string) bool {
	switch code {
	case "invalid_client", "incorrect_client_credentials", "unauthorized_client":
		return true
	}
	return status == http.StatusUnauthorized && quiet.Code(code) == ""
}

// mayRefuseStyle reports whether an answer may be due to the place of the credentials. A
// provider that looks into the form only may miss the client ID there: LinkedIn calls
// that invalid_request, Facebook and Twitch have no code for it.
func mayRefuseStyle(status int, code string) bool {
	return refusesClient(status, code) ||
		status == http.StatusBadRequest && (code == "invalid_request" || quiet.Code(code) == "")
}
