package shangcloud

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// callTimeout ends a call whose context has no deadline, body included.
	// The official clients give up after 10 seconds.
	callTimeout = 10 * time.Second

	// maxTokenBody caps an answer of the OAuth endpoints. Tokens are a few
	// kilobytes; x/oauth2 itself stops reading, silently, at 1 MiB.
	maxTokenBody = 1 << 20

	// maxResends is how often net/http may repeat a call of the API that an HTTP/2
	// server did not look at, as one that is restarted says.
	maxResends = 3

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
	ctx, cancel := withLimit(req.Context())
	res, err := received(send(req.WithContext(ctx)))
	if err != nil {
		cancel()
		return nil, quiet(err)
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
		err = quiet(err)
	}
	return n, err
}

func (b *limitedBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

// received is what every answer has to pass.
func received(res *http.Response, err error) (*http.Response, error) {
	if err != nil {
		return nil, err
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		// net/http hands the connection over, asked for or not, and then no
		// context ends the reading of the body.
		res.Body.Close()
		return nil, badAnswer("it switches to another protocol")
	}
	if _, err := url.Parse(res.Header.Get("Location")); err != nil {
		// http.Client reads it before it asks whether to follow it, and its error
		// quotes it.
		res.Header.Del("Location")
	}
	return res, nil
}

// limitResends has net/http send the body of req, which is the caller's own copy, at
// most that often again. It would send it as often as an HTTP/2 server says that it has
// not looked at it. What has been read may have been sent.
func limitResends(req *http.Request, most int32) {
	again := req.GetBody
	if req.Body == nil || req.Body == http.NoBody || again == nil {
		return
	}
	var read atomic.Bool
	var resends atomic.Int32
	req.Body = &notingBody{req.Body, &read}
	req.GetBody = func() (io.ReadCloser, error) {
		if read.Load() && resends.Add(1) > most {
			return nil, errors.New("the request may have been received")
		}
		body, err := again()
		return &notingBody{body, &read}, err
	}
}

// notingBody notes that it has been read.
type notingBody struct {
	io.ReadCloser
	read *atomic.Bool
}

func (b *notingBody) Read(p []byte) (int, error) {
	b.read.Store(true)
	return b.ReadCloser.Read(p)
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

// oauthTransport stands between x/oauth2 and the platform's OAuth endpoints. It sends
// credentials in the form that the platform accepts, and lets only answers
// through that x/oauth2 cannot misunderstand. Other requests only get a time-out.
type oauthTransport struct {
	base            http.RoundTripper
	token, device   *url.URL
	canonicalDevice func(body []byte) ([]byte, error)
}

func (t *oauthTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	canonical := canonicalToken
	isToken := isEndpoint(t.token, req.URL)
	switch {
	case isToken:
	case isEndpoint(t.device, req.URL):
		canonical = t.canonicalDevice
	default:
		return limited(req, t.base.RoundTrip)
	}
	ctx, cancel := withLimit(req.Context())
	defer cancel()

	out := req.WithContext(ctx)
	out.Header = req.Header.Clone()
	if isToken {
		setRawBasic(out)
	}
	out.Header.Set("Accept", "application/json")
	return readAnswer(t.base, out, canonical)
}

func isEndpoint(endpoint, u *url.URL) bool {
	return u.Scheme == endpoint.Scheme && u.Host == endpoint.Host && u.Path == endpoint.Path
}

// readAnswer sends req to an endpoint of OAuth and reads all of the answer, which
// canonical checks and rewrites if it is a successful one. req is the caller's own copy.
func readAnswer(base http.RoundTripper, req *http.Request, canonical func([]byte) ([]byte, error)) (*http.Response, error) {
	limitResends(req, 0) // an authorization code is sent once
	res, err := received(base.RoundTrip(req))
	if err != nil {
		return nil, quiet(err)
	}
	defer res.Body.Close()
	body, err := readBody(res, maxTokenBody)
	if err == nil && isSuccess(res.StatusCode) {
		body, err = canonical(body)
	}
	if err != nil {
		return nil, quiet(err)
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
