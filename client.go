package shangcloud

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"golang.org/x/oauth2"
)

// maxDrain is how much of an answer is read, to keep its connection, before the
// request is repeated.
const maxDrain = 64 << 10

// Client returns an HTTP client that adds src's token to requests to p's
// deployment, for [NewAPI] and for calls of the platform that this library does
// not know. Requests to any other host fail: the token goes nowhere else, and
// redirects are not followed.
//
// If src is a [*TokenSource], waiting for a refresh ends with the request's
// context, and a request that is answered with 401 is repeated once with a new
// token, provided that its body can be sent again ([http.Request.GetBody]). If
// there is no new token to be had, the request fails with the reason, as in
// [TokenSource.TokenContext].
func (p *Provider) Client(src oauth2.TokenSource) *http.Client {
	c := *p.http
	c.Transport = &authTransport{src: src, base: transportOf(p.http), to: p.base}
	return &c
}

// API returns a client of the deployment's API that authorizes with src.
func (p *Provider) API(src oauth2.TokenSource) *API {
	return &API{http: p.Client(src), base: p.conf.BaseURL}
}

// authTransport is oauth2.Transport for one host, with the request's context.
type authTransport struct {
	src  oauth2.TokenSource
	base http.RoundTripper
	to   *url.URL
}

func (t *authTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	tok, err := t.token(req)
	if err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	res, err := t.send(req, tok)
	if err != nil || res.StatusCode != http.StatusUnauthorized {
		return res, err
	}
	src, ok := t.src.(*TokenSource)
	replayable := req.Body == nil || req.Body == http.NoBody || req.GetBody != nil
	if !ok || !replayable {
		return res, nil
	}
	next, err := src.refreshed(req.Context(), tok)
	if err == nil && next == tok {
		return res, nil // it is new already
	}
	io.CopyN(io.Discard, res.Body, maxDrain)
	res.Body.Close()
	if err != nil {
		return nil, err
	}
	again := *req
	if req.GetBody != nil {
		if again.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
	return t.send(&again, next)
}

func (t *authTransport) token(req *http.Request) (*oauth2.Token, error) {
	if req.URL.Scheme != t.to.Scheme || req.URL.Host != t.to.Host {
		return nil, fmt.Errorf("shangcloud: the token is for %s only", t.to.Host)
	}
	if t.src == nil {
		return nil, errors.New("shangcloud: Client was made without a token source")
	}
	if s, ok := t.src.(interface {
		TokenContext(context.Context) (*oauth2.Token, error)
	}); ok {
		return s.TokenContext(req.Context())
	}
	return t.src.Token()
}

// send leaves req as it is, as a RoundTripper must.
func (t *authTransport) send(req *http.Request, tok *oauth2.Token) (*http.Response, error) {
	out := *req
	out.Header = req.Header.Clone()
	tok.SetAuthHeader(&out)
	return t.base.RoundTrip(&out)
}
