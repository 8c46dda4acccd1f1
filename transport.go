package shangcloud

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/oauth2"
)

// ErrUnavailable is in the chain of every error that is the platform's doing
// rather than the user's or the application's: it could not be reached, did not
// answer in time, failed (status 429 or 500 and above), redirected, or answered
// with something that is no answer. Trying again later may help.
var ErrUnavailable = errors.New("shangcloud: the platform is unavailable or its answer is unusable")

const (
	// callTimeout ends a call whose context has no deadline, body included.
	// The official clients give up after 10 seconds.
	callTimeout = 10 * time.Second

	// maxTokenBody caps an answer of the OAuth endpoints. Tokens are a few
	// kilobytes; x/oauth2 itself stops reading, silently, at 1 MiB.
	maxTokenBody = 1 << 20

	// assumedLifetime is that of a token whose answer does not say when it
	// expires. x/oauth2 takes such a token to be valid forever.
	assumedLifetime = time.Hour

	// maxLifetime caps what an answer may claim.
	maxLifetime = 365 * 24 * time.Hour
)

// withLimit gives ctx the platform's time-out unless it has a deadline of its own.
func withLimit(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, callTimeout)
}

// defaultTransport is shared by all providers and API clients that were given
// no HTTP client. Go's default transport keeps two idle connections per host;
// everything here goes to one host.
var defaultTransport = sync.OnceValue(func() http.RoundTripper {
	t, ok := http.DefaultTransport.(*http.Transport)
	if !ok { // replaced by the application, for tracing perhaps: its choice holds
		return http.DefaultTransport
	}
	t = t.Clone()
	t.MaxIdleConns = 0 // no limit but the one per host
	t.MaxIdleConnsPerHost = 128
	t.DisableCompression = true // answers are short; a bomb is not unpacked
	return t
})

// pinned returns a copy of hc, or of the default client if hc is nil, that
// follows no redirect: an Authorization header, a code or a refresh token goes
// to the address it was meant for and nowhere else.
func pinned(hc *http.Client) *http.Client {
	if hc == nil {
		hc = &http.Client{Transport: defaultTransport()}
	}
	c := *hc
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

// tokenTransport stands between x/oauth2 and the token endpoint. It sends
// credentials in the form that the platform accepts, and lets only answers
// through that x/oauth2 cannot misunderstand. Other requests pass untouched.
type tokenTransport struct {
	base     http.RoundTripper
	tokenURL *url.URL
}

func (t *tokenTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host != t.tokenURL.Host || req.URL.Path != t.tokenURL.Path || req.URL.Scheme != t.tokenURL.Scheme {
		return t.base.RoundTrip(req)
	}
	ctx, cancel := withLimit(req.Context())
	defer cancel()

	out := req.WithContext(ctx)
	out.Header = req.Header.Clone()
	setRawBasic(out)
	out.Header.Set("Accept", "application/json")
	res, err := t.base.RoundTrip(out)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := readCapped(res.Body, maxTokenBody)
	if err != nil {
		return nil, err
	}
	if ok(res.StatusCode) {
		if body, err = canonicalToken(body); err != nil {
			return nil, err
		}
	}
	// x/oauth2 takes JSON that is labelled text/plain for a form.
	if isObject(body) {
		res.Header.Set("Content-Type", "application/json")
	}
	res.Header.Del("Content-Encoding")
	res.ContentLength = int64(len(body))
	res.Body = io.NopCloser(bytes.NewReader(body))
	// The response may end up in an *oauth2.RetrieveError, and that in a log:
	// it does not carry the credentials of its request along.
	res.Request = &http.Request{Method: req.Method, URL: req.URL}
	return res, nil
}

// setRawBasic replaces x/oauth2's Basic credentials by the same ones unescaped.
//
// x/oauth2 percent-encodes client ID and secret first, as RFC 6749, section
// 2.3.1 has it. ShangCloud compares the plain ones, as all its official clients
// send them.
func setRawBasic(req *http.Request) {
	id, secret, ok := req.BasicAuth()
	if !ok {
		return
	}
	rawID, err1 := url.QueryUnescape(id)
	rawSecret, err2 := url.QueryUnescape(secret)
	if err1 != nil || err2 != nil {
		return // not x/oauth2's doing: left as it is
	}
	req.SetBasicAuth(rawID, rawSecret)
}

// canonicalToken checks the body of a successful token answer and rewrites it so
// that it has one meaning: exact names, a bearer token fit for a header, and a
// lifetime in whole seconds above zero.
//
// An answer that carries an error passes as it is; x/oauth2 makes a
// [oauth2.RetrieveError] of it.
func canonicalToken(body []byte) ([]byte, error) {
	var tok struct {
		AccessToken  string          `json:"access_token"`
		TokenType    string          `json:"token_type"`
		RefreshToken string          `json:"refresh_token"`
		ExpiresIn    json.RawMessage `json:"expires_in"`
		Error        string          `json:"error"`
	}
	if err := decodeObject(body, &tok, "access_token", "token_type", "refresh_token", "expires_in", "error"); err != nil {
		return nil, err
	}
	switch {
	case tok.Error != "":
		return body, nil
	case !headerSafe(tok.AccessToken):
		return nil, badAnswer("no usable access_token")
	// "Bearer in some casing"; x/oauth2 takes a missing type for Bearer as well.
	case tok.TokenType != "" && !strings.EqualFold(tok.TokenType, "Bearer"):
		return nil, badAnswer("token_type is not Bearer")
	}
	seconds := strconv.AppendInt(nil, int64(lifetime(tok.ExpiresIn)/time.Second), 10)
	if bytes.Equal(seconds, tok.ExpiresIn) {
		return body, nil // as it should be
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(body, &all); err != nil {
		return nil, badAnswer("not a JSON object")
	}
	all["expires_in"] = seconds
	return json.Marshal(all)
}

// lifetime reads expires_in so that nothing overflows and nothing is valid
// forever by accident. A number, or a string that holds one, counts in seconds,
// rounded down and at most maxLifetime; zero and negative ones mean one second,
// so that the token is refreshed before its next use. Whatever else stands there,
// and nothing at all, means assumedLifetime.
func lifetime(raw json.RawMessage) time.Duration {
	text := string(raw)
	if s, err := strconv.Unquote(text); err == nil {
		text = strings.TrimSpace(s)
	}
	f, err := strconv.ParseFloat(text, 64)
	switch {
	case errors.Is(err, strconv.ErrSyntax), math.IsNaN(f), math.IsInf(f, 1):
		return assumedLifetime
	case f < 1:
		return time.Second
	case f > maxLifetime.Seconds():
		return maxLifetime
	}
	return time.Duration(f) * time.Second
}

// badAnswerError is an answer with a successful status that is none.
type badAnswerError struct{ text string }

func badAnswer(text string) error { return &badAnswerError{text} }

func (e *badAnswerError) Error() string { return "unusable answer: " + e.text }

// decodeObject reads body, one JSON object and nothing else, into the struct that
// v points to. Each of names, the members that matter, may occur once and in
// exactly this spelling: encoding/json would take the last one in any case.
func decodeObject(body []byte, v any, names ...string) error {
	if !utf8.Valid(body) {
		return badAnswer("not UTF-8")
	}
	if !isObject(body) {
		return badAnswer("not a JSON object")
	}
	if err := json.Unmarshal(body, v); err != nil {
		return badAnswer("not the expected JSON")
	}
	seen := 0 // a bit for each of names
	for key := range topLevelKeys(body) {
		for i, name := range names {
			if !bytes.EqualFold(key, []byte(name)) {
				continue
			}
			if string(key) != name || seen&(1<<i) != 0 {
				return badAnswer("ambiguous JSON")
			}
			seen |= 1 << i
		}
	}
	return nil
}

// isObject reports whether body starts as a JSON object does.
func isObject(body []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{"))
}

// topLevelKeys yields the names of the members of object, which is valid JSON.
func topLevelKeys(object []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		depth, isKey := 0, true
		for i := 0; i < len(object); i++ {
			switch object[i] {
			case '{', '[':
				depth++
			case '}', ']':
				depth--
			case ':':
				isKey = false
			case ',':
				isKey = true
			case '"':
				start := i
				for i++; object[i] != '"'; i++ {
					if object[i] == '\\' {
						i++
					}
				}
				if depth != 1 || !isKey {
					continue
				}
				key := object[start+1 : i]
				if bytes.IndexByte(key, '\\') >= 0 {
					var s string
					if json.Unmarshal(object[start:i+1], &s) != nil {
						return
					}
					key = []byte(s)
				}
				if !yield(key) {
					return
				}
			}
		}
	}
}

// headerSafe reports whether a token can stand in a header as it is: RFC 6749,
// appendix A.12 allows visible ASCII and spaces; a space would make two words
// of one token.
func headerSafe(token string) bool {
	for i := range len(token) {
		if token[i] <= ' ' || token[i] > '~' {
			return false
		}
	}
	return token != ""
}

func ok(status int) bool { return status >= 200 && status <= 299 }

// readCapped reads all of r and fails if that is more than limit bytes.
func readCapped(r io.Reader, limit int64) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(body)) > limit {
		return nil, badAnswer(fmt.Sprintf("longer than %d bytes", limit))
	}
	return body, nil
}

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
	if re := (*oauth2.RetrieveError)(nil); errors.As(err, &re) {
		text, status := "the token endpoint refused", 0
		if re.Response != nil {
			status = re.Response.StatusCode
			text += fmt.Sprintf(": status %d", status)
		}
		if code := printableCode(re.ErrorCode); code != "" {
			text += " " + code
		}
		causes := []error{err}
		if unavailable(status) {
			causes = append(causes, ErrUnavailable)
		}
		return &callError{op, text, causes}
	}
	return &callError{op, plainText(err), []error{err, ErrUnavailable}}
}

// unavailable reports whether a status is the platform's failure rather than its
// considered answer.
func unavailable(status int) bool {
	return status >= 500 || status == http.StatusTooManyRequests || (status >= 300 && status <= 399)
}

// plainText describes an error of net/http in words that cannot quote the other
// side: net/http prints a malformed status line, for one.
func plainText(err error) string {
	var (
		bad  *badAnswerError
		op   *net.OpError
		dns  *net.DNSError
		cert *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &bad):
		return bad.Error()
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return "timed out"
	case errors.As(err, &op):
		return op.Error()
	case errors.As(err, &dns):
		return dns.Error()
	case errors.As(err, &cert):
		return cert.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed"
	}
	return "the request failed"
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

var codePattern = regexp.MustCompile(`^[a-z_]{1,64}$`)

// printableCode returns code if it looks like an OAuth error code, all of which
// are lower-case words (RFC 6749, section 11.4.1): a token does not pass for one.
func printableCode(code string) string {
	if codePattern.MatchString(code) {
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
