// Package quiet makes errors and values that print no secret.
//
// Errors of net/http, of x/oauth2, and of other people's code can quote what a server
// sent, for example a token or a client secret. An [Error] keeps such errors as causes
// for errors.Is and errors.As, but prints only its own text.
package quiet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strconv"

	"golang.org/x/oauth2"
)

// Error is an error whose text is known to be harmless.
type Error struct {
	where  string // the package, and the provider if there is one
	text   string
	causes []error
}

// New returns an error that prints as "where: text". The causes are not printed.
func New(where, text string, causes ...error) *Error { return &Error{where, text, causes} }

func (e *Error) Error() string {
	if e.where == "" {
		return e.text
	}
	return e.where + ": " + e.text
}

func (e *Error) Unwrap() []error { return e.causes }

// SafeText returns the text without where. Errors that wrap this error put it into their
// own text.
func (e *Error) SafeText() string { return e.text }

// Placed returns the outermost Error in the chain of err that has a non-empty where.
func Placed(err error) (*Error, bool) {
	e, ok := errors.AsType[*Error](err)
	for ok && e.where == "" {
		e, ok = errors.AsType[*Error](errors.Join(e.causes...))
	}
	return e, ok
}

// Timeout reports whether one of the causes is a time-out. The method Timeout of url.Error
// calls it.
func (e *Error) Timeout() bool {
	for _, cause := range e.causes {
		if isTimeout(cause) {
			return true
		}
	}
	return false
}

// Format prints the text for every verb. Without it %#v would print the causes.
func (e *Error) Format(f fmt.State, verb rune) { Format(f, verb, e.Error()) }

// Format writes text, whatever the verb. With the verb q it quotes text. A Format method
// that calls it prints nothing else.
func Format(f fmt.State, verb rune, text string) {
	if verb == 'q' {
		text = strconv.Quote(text)
	}
	_, _ = io.WriteString(f, text)
}

// Unknown is what Describe returns for an error that it does not recognize.
const Unknown = "the request failed"

// Describe returns harmless words for any error.
//
// If an error in the chain has a method SafeText, Describe uses the text of that method.
// The errors of this module's stores have it.
func Describe(err error) string {
	if safe, ok := errors.AsType[interface {
		error
		SafeText() string
	}](err); ok {
		return safe.SafeText()
	}
	if re, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		return refusal(re)
	}
	return describeCall(err)
}

// describeCall is Describe for the errors of net/http and of files.
func describeCall(err error) string {
	switch {
	case errors.Is(err, context.Canceled):
		return "given up by the caller"
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return "timed out"
	}
	if cert, ok := errors.AsType[*tls.CertificateVerificationError](err); ok { // its text quotes the certificate
		if invalid, ok := errors.AsType[x509.CertificateInvalidError](cert); ok && invalid.Reason == x509.Expired {
			return "the server's certificate has expired or is not valid yet, by this machine's clock"
		}
		return "the server's certificate is not valid for its name, or not trusted"
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Error()
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return dns.Error()
	}
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Error()
	}
	if link, ok := errors.AsType[*os.LinkError](err); ok {
		return link.Error()
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "the connection was closed"
	}
	return Unknown
}

// DescribeForeign is Describe for errors of the application's own code. If Describe does
// not recognize the error, DescribeForeign names the type of the innermost error. That
// tells an operator where to look.
func DescribeForeign(err error) string {
	if text := Describe(err); text != Unknown {
		return text
	}
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return fmt.Sprintf("it failed with %T", err)
}

func refusal(re *oauth2.RetrieveError) string {
	text := "the token endpoint refused"
	if re.Response != nil {
		text += fmt.Sprintf(": status %d", re.Response.StatusCode)
	}
	if code := Code(re.ErrorCode); code != "" {
		text += " " + code
	}
	return text
}

// Code returns code if a standard or a well-known provider defines it, and otherwise "".
// An unknown code may be anything, for example a token that a hostile server sends back.
func Code(code string) string {
	switch code {
	case "invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type",
		"invalid_scope", "access_denied", "unsupported_response_type", "server_error", "temporarily_unavailable", // RFC 6749
		"invalid_token", "insufficient_scope", // RFC 6750
		"authorization_pending", "slow_down", "expired_token", // RFC 8628
		"bad_refresh_token", "bad_verification_code", "incorrect_client_credentials", "redirect_uri_mismatch", // GitHub
		"user_cancelled_login", "user_cancelled_authorize", // LinkedIn
		"interaction_required", "login_required", "consent_required", "account_selection_required": // OpenID Connect Core, section 3.1.2.6
		return code
	}
	return ""
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && t.Timeout()
}
