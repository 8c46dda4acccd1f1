package shangcloud

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/speculative"
)

var callbackParams = []string{"state", "code", "error", "error_description", "error_uri", "iss"}

// What a callback may bring. Authorization codes are opaque and of unknown length
// (RFC 6749, section 4.1.2), in practice well below this.
const (
	maxQuery = 16 << 10
	maxParam = 4 << 10
)

// CallbackError is the error that ShangCloud sent the browser back with. It
// matches [ErrAccessDenied] if the user said no, and [ErrUnavailable] if the
// platform reports a failure of its own.
//
// Whoever sends the browser to the callback chooses these texts: show them as
// text, if at all.
type CallbackError struct {
	Code        string // RFC 6749, section 4.1.2.1: access_denied, invalid_scope, …
	Description string // error_description, for the developer; may be empty
	URI         string // error_uri; may be empty
}

// Error gives the code, and no other text of the callback's.
func (e *CallbackError) Error() string {
	code := printableCode(e.Code)
	if code == "" {
		code = "an error of unknown kind"
	}
	return "shangcloud: the login came back with " + code
}

// Is matches ErrAccessDenied and ErrUnavailable.
func (e *CallbackError) Is(target error) bool {
	switch e.Code {
	case "access_denied":
		return target == ErrAccessDenied
	case "server_error", "temporarily_unavailable":
		// They stand for the statuses 500 and 503, which can't be sent in a
		// redirect (RFC 6749, section 4.1.2.1).
		return target == ErrUnavailable
	}
	return false
}

type callback struct {
	state, code string
	err         error // a *CallbackError, instead of a code
}

// parseCallback reads an authorization response. It is strict: a state and either
// a code or an error, each of them once (RFC 6749, section 3.1: "parameters MUST
// NOT be included more than once").
func parseCallback(r *http.Request, issuer string) (callback, error) {
	if r.Method != http.MethodGet {
		return callback{}, fmt.Errorf("%w: the method is not GET", ErrBadCallback)
	}
	if speculative.Is(r) {
		return callback{}, fmt.Errorf("%w: the browser fetches it in advance", ErrBadCallback)
	}
	if len(r.URL.RawQuery) > maxQuery {
		return callback{}, fmt.Errorf("%w: the query is too long", ErrBadCallback)
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return callback{}, fmt.Errorf("%w: the query is not well-formed", ErrBadCallback)
	}
	for _, name := range callbackParams {
		if len(q[name]) > 1 {
			return callback{}, fmt.Errorf("%w: %s is repeated", ErrBadCallback, name)
		}
	}
	// "If the value does not match the expected issuer identifier, clients MUST
	// reject the authorization response."
	// https://www.rfc-editor.org/rfc/rfc9207#section-2.4
	if issuer != "" && q.Has("iss") && q.Get("iss") != issuer {
		return callback{}, fmt.Errorf("%w: it comes from another issuer", ErrBadCallback)
	}
	cb := callback{state: q.Get("state"), code: q.Get("code")}
	if err := checkParam("state", cb.state); err != nil {
		return callback{}, err
	}
	if !q.Has("error") {
		return cb, checkParam("code", cb.code)
	}
	if q.Has("code") {
		return callback{}, fmt.Errorf("%w: both code and error", ErrBadCallback)
	}
	if err := checkParam("error", q.Get("error")); err != nil {
		return callback{}, err
	}
	for _, name := range []string{"error_description", "error_uri"} {
		// Chinese text is beyond what the RFC allows here, and harmless.
		if !isPlainText(q.Get(name)) || len(q.Get(name)) > maxParam {
			return callback{}, fmt.Errorf("%w: %s is not plain text", ErrBadCallback, name)
		}
	}
	cb.err = &CallbackError{Code: q.Get("error"), Description: q.Get("error_description"), URI: q.Get("error_uri")}
	return cb, nil
}

// checkParam demands a value of 1 to maxParam visible ASCII characters or spaces,
// as RFC 6749, appendix A has it for state, code and error.
func checkParam(name, value string) error {
	switch {
	case value == "":
		return fmt.Errorf("%w: no %s", ErrBadCallback, name)
	case len(value) > maxParam:
		return fmt.Errorf("%w: %s is too long", ErrBadCallback, name)
	case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }):
		return fmt.Errorf("%w: %s has impossible characters", ErrBadCallback, name)
	}
	return nil
}

// isPlainText reports whether s is UTF-8 without control characters.
func isPlainText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return r < ' ' || r >= 0x7f && r < 0xa0
	})
}
