// Package wire sends requests to servers that may send wrong or hostile answers.
//
// It follows no redirects. It limits how often net/http resends a request. It sends tokens
// only to configured origins. It reads an answer only up to a limit, and returns an error
// for an ambiguous answer. Its errors print nothing that the server sent.
package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/quiet"
	"golang.org/x/oauth2"
)

// maxHeader caps the size of the headers of an answer. The default of net/http is 10 MiB.
const maxHeader = 64 << 10

// defaultTransport is the transport of all providers and API clients that were made without
// an http.Client. It keeps more idle connections for each host than the default of
// net/http, which keeps two.
var defaultTransport = sync.OnceValue(func() http.RoundTripper {
	t, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return http.DefaultTransport // the program has replaced it, for tracing perhaps
	}
	t = t.Clone()
	t.MaxIdleConns = 0 // only the limit for each host counts
	t.MaxIdleConnsPerHost = 128
	t.MaxResponseHeaderBytes = maxHeader
	t.DisableCompression = true // answers are short
	return t
})

// Client returns a copy of hc that follows no redirects and keeps no cookies. A redirect
// would send codes, secrets and tokens to another address. All users would share the
// cookies. If hc is nil, the copy uses defaultTransport.
func Client(hc *http.Client) *http.Client {
	if hc == nil {
		hc = &http.Client{Transport: defaultTransport()}
	}
	c := *hc
	c.Jar = nil
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

// Transport returns the transport of hc, or http.DefaultTransport if hc has none.
func Transport(hc *http.Client) http.RoundTripper {
	if hc.Transport == nil {
		return http.DefaultTransport
	}
	return hc.Transport
}

// WithLimit adds a time-out to a context that has no deadline.
func WithLimit(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, limit)
}

// Send sends req. It changes req, so req must be the caller's own copy. net/http may resend
// the body after a lost connection, or after an HTTP/2 server refuses the stream. It does
// so at most resends times. For requests with a code or a refresh token, resends must be 0.
// The error prints nothing that the server sent.
//
// Send rejects status 101 and drops a malformed Location.
func Send(rt http.RoundTripper, req *http.Request, resends int32) (*http.Response, error) {
	capResends(req, resends)
	res, err := rt.RoundTrip(req)
	if err != nil {
		return nil, harmless(err)
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		// net/http returns the connection as the body, even if the request did not ask for
		// another protocol. The context could then no longer end a read of the body.
		_ = res.Body.Close()
		return nil, Unusable("it switches to another protocol")
	}
	if _, err := url.Parse(res.Header.Get("Location")); err != nil {
		res.Header.Del("Location") // the error of http.Client would quote it
	}
	return res, nil
}

// harmless wraps err in an error that prints no text of err that may be secret.
func harmless(err error) error {
	if own, ok := err.(*quiet.Error); ok { // not errors.As: an error that wraps a quiet.Error may print secrets
		return own
	}
	return quiet.New("", quiet.Describe(err), err)
}

// ErrUnavailable is oauth2login.ErrUnavailable, and documented there.
var ErrUnavailable = errors.New("oauth2login: the provider is unavailable or its answer is unusable")

// Failed returns the error of a call that failed because of err. The returned error matches
// ErrUnavailable, except in three cases: the caller gave up, the token source failed, or
// the server refused the request.
func Failed(ctx context.Context, where, op string, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return quiet.New(where, op+": given up by the caller", ctx.Err(), err)
	}
	if own, ok := quiet.Placed(err); ok {
		return quiet.New(where, op+": "+own.SafeText(), err)
	}
	causes := []error{err}
	if re, ok := errors.AsType[*oauth2.RetrieveError](err); !ok || re.Response == nil || Unavailable(re.Response.StatusCode) {
		causes = append(causes, ErrUnavailable)
	}
	return quiet.New(where, op+": "+quiet.Describe(err), causes...)
}

// capResends limits how often net/http resends the body. The parameter most is the limit.
// If it is 0, net/http does not resend a body that it has read, because the server may have
// received the body.
//
// Only if most is 0, capResends wraps the body. net/http does not know the type of the
// wrapper, so it sends the headers first and reads the body later. If it then finds the
// connection closed, the body is still unread, and net/http can resend it. Without the
// wrapper, net/http sends headers and body together, so that the connection cannot fail
// between them. After such a failure net/http would not retry.
func capResends(req *http.Request, most int32) {
	again := req.GetBody
	if req.Body == nil || req.Body == http.NoBody || again == nil {
		return
	}
	if most == 0 {
		sendOnce(req)
		return
	}
	var resends atomic.Int32
	req.GetBody = func() (io.ReadCloser, error) {
		if resends.Add(1) > most {
			return nil, errResent
		}
		return again()
	}
}

var errResent = errors.New("the request may have been received")

func sendOnce(req *http.Request) {
	again := req.GetBody
	var read atomic.Bool
	req.Body = &watchedBody{req.Body, &read}
	req.GetBody = func() (io.ReadCloser, error) {
		if read.Load() {
			return nil, errResent
		}
		body, err := again()
		return &watchedBody{body, &read}, err
	}
}

// watchedBody records whether net/http has read the body. A body that was read may have
// been sent.
type watchedBody struct {
	io.ReadCloser
	read *atomic.Bool
}

func (b *watchedBody) Read(p []byte) (int, error) {
	b.read.Store(true)
	return b.ReadCloser.Read(p)
}

// Limited sends req with a time-out, unless its context has a deadline. The time-out also
// covers reading the body, and ends when the body is closed.
func Limited(req *http.Request, limit time.Duration, send func(*http.Request) (*http.Response, error)) (*http.Response, error) {
	ctx, cancel := WithLimit(req.Context(), limit)
	res, err := send(req.WithContext(ctx))
	if err != nil {
		cancel()
		return nil, harmless(err)
	}
	res.Body = &limitedBody{res.Body, cancel}
	return res, nil
}

type limitedBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b *limitedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		err = harmless(err)
	}
	return n, err
}

func (b *limitedBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

// ParseURL parses the URL of a server. The URL must be absolute, without user info and
// fragment. Its scheme must be https, or http on a loopback host. With plainHTTP, http is
// allowed on every host.
func ParseURL(s string, plainHTTP bool) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || strings.ContainsAny(s, " {}"):
		return nil, errors.New("not a URL")
	case !u.IsAbs():
		return nil, errors.New("not an absolute URL")
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("scheme %q is not https", u.Scheme)
	case u.Opaque != "":
		return nil, errors.New("has no host")
	case strings.Contains(s, "#"):
		return nil, errors.New("has a fragment")
	case u.User != nil:
		return nil, errors.New("has a user name in it")
	}
	return u, checkHost(u, plainHTTP)
}

func checkHost(u *url.URL, plainHTTP bool) error {
	host := u.Hostname()
	_, err := strconv.ParseUint(u.Port(), 10, 16)
	switch {
	case host == "":
		return errors.New("has no host")
	case strings.HasPrefix(host, "."), strings.Contains(host, ".."):
		return errors.New("has an empty label in its host")
	case u.Port() != "" && err != nil, strings.HasSuffix(u.Host, ":"): // net/http drops an empty port
		return errors.New("has an impossible port")
	case u.Scheme == "http" && !plainHTTP && !IsLoopback(host):
		return errors.New("plain http is for loopback hosts only")
	}
	return nil
}

// IsLoopback reports whether host is "localhost" or a loopback address. host has no port.
func IsLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback() || strings.EqualFold(host, "localhost")
}

// Origin returns the scheme and the host of u, so that origins can be compared.
func Origin(u *url.URL) string { return u.Scheme + "://" + strings.ToLower(u.Host) }
