package shangcloud

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/oauth2"
)

// ErrUnavailable is in the chain of every error that is the platform's doing
// rather than the user's or the application's: it could not be reached, did not
// answer in time, failed (status 429 or 500 and above), redirected, or answered
// with something that is no answer. Trying again later may help. How much later, if the
// platform says so, is [APIError.RetryAfter] for the API, and the header Retry-After of
// [oauth2.RetrieveError.Response] for tokens.
var ErrUnavailable = errors.New("shangcloud: the platform is unavailable or its answer is unusable")

// callError is a failed call of the platform. Its text is made of what is known
// to be harmless. The causes, which may quote the platform's answer, are there
// for errors.Is and errors.As and are not printed.
type callError struct {
	op, text string
	causes   []error
}

func (e *callError) Error() string   { return "shangcloud: " + e.op + ": " + e.text }
func (e *callError) Unwrap() []error { return e.causes }

// Format prints the text for every verb: %#v would dig out the causes.
func (e *callError) Format(f fmt.State, verb rune) { formatText(f, verb, e.Error()) }

// callFailed explains why a call of the platform failed, by err, which came from
// x/oauth2 or net/http.
func callFailed(ctx context.Context, op string, err error) error {
	// The caller's own giving up is no failure of the platform.
	if errors.Is(ctx.Err(), context.Canceled) {
		return &callError{op, "given up by the caller", []error{ctx.Err(), err}}
	}
	if own := (*callError)(nil); errors.As(err, &own) { // from our own token source
		return &callError{op, own.op + ": " + own.text, []error{err}}
	}
	causes := []error{err}
	if re := (*oauth2.RetrieveError)(nil); !errors.As(err, &re) || unavailable(statusOf(re)) {
		causes = append(causes, ErrUnavailable)
	}
	return &callError{op, plainText(err), causes}
}

func statusOf(re *oauth2.RetrieveError) int {
	if re.Response == nil {
		return 0
	}
	return re.Response.StatusCode
}

// sentError is why a request has no answer. net/http's own text can quote the other
// side, and that what it was sent; it is not printed.
type sentError struct{ cause error }

// quiet returns err, whatever its text, as an error that can be printed.
func quiet(err error) error {
	switch err.(type) {
	case *callError, *sentError:
		return err
	}
	return &sentError{err}
}

func (e *sentError) Error() string { return "shangcloud: " + plainText(e.cause) }
func (e *sentError) Unwrap() error { return e.cause }

// Timeout is what url.Error asks for.
func (e *sentError) Timeout() bool { return isTimeout(e.cause) }

// Format prints the text for every verb: %#v would dig out the cause.
func (e *sentError) Format(f fmt.State, verb rune) { formatText(f, verb, e.Error()) }

// unavailable reports whether a status is the platform's failure rather than its
// considered answer.
func unavailable(status int) bool {
	return status >= 500 || status == http.StatusTooManyRequests || (status >= 300 && status <= 399)
}

// plainText describes an error of net/http or x/oauth2 in words that cannot quote the
// other side: net/http prints a malformed status line, for one, and x/oauth2 the body.
func plainText(err error) string {
	var (
		own  *callError
		bad  *badAnswerError
		re   *oauth2.RetrieveError
		op   *net.OpError
		dns  *net.DNSError
		cert *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &own):
		return own.op + ": " + own.text
	case errors.As(err, &bad):
		return bad.Error()
	case errors.As(err, &re):
		text := "the token endpoint refused"
		if status := statusOf(re); status != 0 {
			text += fmt.Sprintf(": status %d", status)
		}
		return strings.TrimSuffix(text+" "+printableCode(re.ErrorCode), " ")
	case errors.Is(err, context.Canceled):
		return "given up by the caller"
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return "timed out"
	case errors.As(err, &cert): // its text quotes the certificate
		return "the server's certificate is not good for its name, or not trusted"
	case errors.As(err, &op):
		return op.Error()
	case errors.As(err, &dns):
		return dns.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed"
	}
	return unspoken
}

// unspoken stands for an error whose text nothing is known of.
const unspoken = "the request failed"

// storeText describes an error of the application's store, which may quote what was to
// be stored: the type of its innermost error tells where to look.
func storeText(err error) string {
	if text := plainText(err); text != unspoken {
		return text
	}
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return fmt.Sprintf("it failed with %T", err)
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// codePattern is what error codes look like: lower-case words.
var codePattern = regexp.MustCompile(`^[a-z_]{1,64}$`)

// printableCode returns code if it is one that a standard names. Another one may
// be anything, a token that a hostile server sends back included.
func printableCode(code string) string {
	switch code {
	case "invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type",
		"invalid_scope", "access_denied", "unsupported_response_type", "server_error", "temporarily_unavailable", // RFC 6749
		"invalid_token", "insufficient_scope", // RFC 6750
		"authorization_pending", "slow_down", "expired_token": // RFC 8628
		return code
	}
	return ""
}

// formatText writes text as fmt would, whatever the verb.
func formatText(f fmt.State, verb rune, text string) {
	if verb == 'q' {
		text = strconv.Quote(text)
	}
	io.WriteString(f, text)
}
