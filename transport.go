package shangcloud

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"
)

const (
	// callTimeout ends a call whose context has no deadline, body included.
	// The official clients give up after 10 seconds.
	callTimeout = 10 * time.Second

	// maxTokenBody caps an answer of the OAuth endpoints. Tokens are a few
	// kilobytes; x/oauth2 itself stops reading, silently, at 1 MiB.
	maxTokenBody = 1 << 20

	// maxHeader caps the headers of an answer; net/http's own cap is 10 MiB.
	maxHeader = 64 << 10
)

// withLimit gives ctx the platform's time-out unless it has a deadline of its own.
func withLimit(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, callTimeout)
}

// limited sends req within the platform's time-out unless its context has a
// deadline. The time for the body counts, and ends when that is closed.
func limited(req *http.Request, send func(*http.Request) (*http.Response, error)) (*http.Response, error) {
	if _, ok := req.Context().Deadline(); ok {
		return finite(send(req))
	}
	ctx, cancel := context.WithTimeout(req.Context(), callTimeout)
	res, err := finite(send(req.WithContext(ctx)))
	if err != nil {
		cancel()
		return nil, err
	}
	res.Body = &limitedBody{res.Body, cancel}
	return res, nil
}

// finite refuses an answer with status 101: net/http hands the connection over with
// it, asked for or not, and then no context ends the reading of its body.
func finite(res *http.Response, err error) (*http.Response, error) {
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		return res, err
	}
	res.Body.Close()
	return nil, badAnswer("it switches to another protocol")
}

type limitedBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b *limitedBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
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
	t.MaxResponseHeaderBytes = maxHeader
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
// through that x/oauth2 cannot misunderstand. Other requests only get a time-out.
type tokenTransport struct {
	base     http.RoundTripper
	tokenURL *url.URL
}

func (t *tokenTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host != t.tokenURL.Host || req.URL.Path != t.tokenURL.Path || req.URL.Scheme != t.tokenURL.Scheme {
		return limited(req, t.base.RoundTrip)
	}
	ctx, cancel := withLimit(req.Context())
	defer cancel()

	out := req.WithContext(ctx)
	out.Header = req.Header.Clone()
	setRawBasic(out)
	out.Header.Set("Accept", "application/json")
	return readAnswer(t.base, out, canonicalToken)
}

// readAnswer sends req to an endpoint of OAuth and reads all of the answer, which
// canonical checks and rewrites if it is a successful one. req is the caller's own copy.
func readAnswer(base http.RoundTripper, req *http.Request, canonical func([]byte) ([]byte, error)) (*http.Response, error) {
	// Without it net/http can't send the body again, which it would do as often as
	// an HTTP/2 server says that it has not looked at it.
	req.GetBody = nil
	res, err := finite(base.RoundTrip(req))
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := readCapped(res.Body, maxTokenBody)
	if err != nil {
		return nil, err
	}
	if isSuccess(res.StatusCode) {
		if body, err = canonical(body); err != nil {
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
