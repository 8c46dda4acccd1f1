package shangcloud

import (
	"context"
	"errors"
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
	return limited(req, t.roundTrip)
}

func (t *authTransport) roundTrip(req *http.Request) (*http.Response, error) {
	tok, err := t.token(req)
	if err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	res, err := t.send(req, tok)
	if err != nil {
		return nil, err
	}
	src, ok := t.src.(*TokenSource)
	if res.StatusCode != http.StatusUnauthorized {
		if ok {
			src.accepted(tok)
		}
		return res, nil
	}
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
	if res, err = t.send(&again, next); err == nil && res.StatusCode != http.StatusUnauthorized {
		src.accepted(next)
	}
	return res, err
}

func (t *authTransport) token(req *http.Request) (*oauth2.Token, error) {
	if req.URL.Scheme != t.to.Scheme || req.URL.Host != t.to.Host {
		return nil, &callError{"client", "the token is for " + t.to.Host + " only", nil}
	}
	if t.src == nil {
		return nil, &callError{"client", "made without a token source", nil}
	}
	ctx := req.Context()
	var tok *oauth2.Token
	var err error
	if s, ok := t.src.(interface {
		TokenContext(context.Context) (*oauth2.Token, error)
	}); ok {
		tok, err = s.TokenContext(ctx)
	} else {
		tok, err = await(ctx, t.src.Token, nil)
	}
	switch {
	case err != nil:
		return nil, sourceFailed(err)
	case tok == nil || tok.AccessToken == "":
		return nil, &callError{"token", "the token source returned none", nil}
	}
	return tok, nil
}

// sourceFailed says of an error of a token source that is not ours, and did not
// come from the platform, that it is the source's: nothing is known of its text.
func sourceFailed(err error) error {
	var (
		own     *callError
		refused *oauth2.RetrieveError
		sending *url.Error
	)
	if errors.As(err, &own) || errors.As(err, &refused) || errors.As(err, &sending) {
		return err
	}
	return &callError{"token", "the token source failed", []error{err}}
}

// await returns what f does, or ctx.Err() as soon as ctx is done; what f returns
// after that goes to drop, if that is not nil. It is for code that takes no
// context, or does not heed it: x/oauth2's token sources.
func await[T any](ctx context.Context, f func() (T, error), drop func(T)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
		if drop != nil {
			go func() {
				if r := <-done; r.err == nil {
					drop(r.v)
				}
			}()
		}
		var none T
		return none, ctx.Err()
	}
}

// promptTransport ends with the request's context, which x/oauth2's transport,
// somewhere in base perhaps, does not pass on to the refresh of its token.
type promptTransport struct{ base http.RoundTripper }

func (t promptTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	out := *req
	limitResends(&out, maxResends)
	return received(await(req.Context(),
		func() (*http.Response, error) { return t.base.RoundTrip(&out) },
		func(res *http.Response) { res.Body.Close() }))
}

// send leaves req as it is, as a RoundTripper must.
func (t *authTransport) send(req *http.Request, tok *oauth2.Token) (*http.Response, error) {
	out := *req
	out.Header = req.Header.Clone()
	tok.SetAuthHeader(&out)
	limitResends(&out, maxResends)
	return t.base.RoundTrip(&out)
}
