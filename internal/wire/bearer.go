package wire

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/quiet"
	"golang.org/x/oauth2"
)

const (
	// maxDrain caps how many bytes of an answer are read and discarded before the request
	// is repeated. net/http can use the connection again only after the answer has been
	// read.
	maxDrain = 64 << 10

	// maxResends caps how often net/http resends a request with a token.
	maxResends = 3
)

// A Source returns tokens, and replaces tokens that the server rejected.
type Source interface {
	// Token returns a token that is valid now.
	Token(ctx context.Context) (*oauth2.Token, error)
	// Replace returns another token after the server rejected a token with status 401. If
	// there is no other token, Replace returns rejected.
	Replace(ctx context.Context, rejected *oauth2.Token) (*oauth2.Token, error)
	// Accepted tells the source that the server accepted tok.
	Accepted(tok *oauth2.Token)
}

// Bearer is like oauth2.Transport, but it sends tokens to Origins only, and Source gets
// the request's context.
type Bearer struct {
	Source  Source
	Base    http.RoundTripper
	Limit   time.Duration // time-out of a request whose context has no deadline
	Where   string        // begins the text of errors
	Remedy  string        // ends the text of some errors: it says how to allow another origin
	Origins []string      // the allowed origins, as Origin returns them
	Bare    bool          // send the token alone, without its type
}

// RoundTrip implements http.RoundTripper. The field Request of the answer is req, which
// does not contain the token.
func (t *Bearer) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := t.check(req); err != nil {
		closeBody(req)
		return nil, err
	}
	res, err := Limited(req, t.Limit, t.roundTrip)
	if err != nil {
		return nil, err
	}
	res.Request = req
	return res, nil
}

// check refuses a request to an origin that is not one of Origins, because the request
// would send the token there. It checks the Host header as well as the URL.
func (t *Bearer) check(req *http.Request) error {
	if t.Source == nil {
		return quiet.New(t.Where, "client: made without a token source")
	}
	if !slices.Contains(t.Origins, Origin(req.URL)) {
		return quiet.New(t.Where, "client: the token is for "+strings.Join(t.Origins, " and ")+" only"+t.Remedy)
	}
	if req.URL.Opaque != "" || req.URL.User != nil || req.Host != "" && !strings.EqualFold(req.Host, req.URL.Host) {
		return quiet.New(t.Where, "client: the request names another host than its URL")
	}
	return nil
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

func (t *Bearer) roundTrip(req *http.Request) (*http.Response, error) {
	tok, err := t.Source.Token(req.Context())
	if err != nil {
		closeBody(req)
		return nil, err
	}
	res, err := t.send(req, tok)
	if err != nil {
		return nil, err
	}
	replayable := req.Body == nil || req.Body == http.NoBody || req.GetBody != nil
	if res.StatusCode != http.StatusUnauthorized || !replayable {
		return res, nil
	}
	next, err := t.Source.Replace(req.Context(), tok)
	if err == nil && next == tok {
		return res, nil
	}
	_, _ = io.CopyN(io.Discard, res.Body, maxDrain)
	_ = res.Body.Close()
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

// send sends a copy of req with the token. A RoundTripper must not change req.
func (t *Bearer) send(req *http.Request, tok *oauth2.Token) (*http.Response, error) {
	out := *req
	out.Header = req.Header.Clone()
	if out.Header == nil {
		out.Header = make(http.Header)
	}
	if out.Header.Get("Accept-Encoding") == "" {
		// Without this header the server may use any coding (RFC 9110, section 12.5.3).
		out.Header.Set("Accept-Encoding", "identity")
	}
	if t.Bare {
		out.Header.Set("Authorization", tok.AccessToken)
	} else {
		tok.SetAuthHeader(&out)
	}
	res, err := Send(t.Base, &out, maxResends)
	if err == nil && res.StatusCode != http.StatusUnauthorized {
		t.Source.Accepted(tok)
	}
	return res, err
}

// Plain adapts a token source of x/oauth2 or of the application. Concurrent calls of Token
// share one call of the source. If the source hangs, only that one call hangs.
type Plain struct {
	Where  string
	Source oauth2.TokenSource

	mu   sync.Mutex
	call *plainCall // the running call of the source, or nil
}

type plainCall struct {
	done chan struct{}
	tok  *oauth2.Token
	err  error
}

// Token returns a token of the source. It stops waiting for the source when ctx ends.
func (p *Plain) Token(ctx context.Context) (*oauth2.Token, error) {
	call := p.join()
	select {
	case <-call.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	switch {
	case call.err != nil:
		return nil, p.failed(call.err)
	case call.tok == nil || call.tok.AccessToken == "":
		return nil, quiet.New(p.Where, "token: the token source returned none")
	}
	return call.tok, nil
}

// join returns the running call of the source. If there is none, join starts a call.
func (p *Plain) join() *plainCall {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.call == nil {
		call := &plainCall{done: make(chan struct{})}
		p.call = call
		go func() {
			call.tok, call.err = Await(context.Background(), p.Source.Token, nil)
			p.mu.Lock()
			defer p.mu.Unlock()
			p.call = nil
			close(call.done)
		}()
	}
	return p.call
}

// ErrForeign means that code of the application panicked or ended its goroutine.
var ErrForeign = errors.New("code of the application failed")

// failed wraps an error that comes from the source itself. It returns an error of this
// module or of the network unchanged.
func (p *Plain) failed(err error) error {
	_, own := errors.AsType[*quiet.Error](err)
	_, refused := errors.AsType[*oauth2.RetrieveError](err)
	_, sending := errors.AsType[*url.Error](err)
	if own || refused || sending {
		return err
	}
	return quiet.New(p.Where, "token: the token source failed", err)
}

// Replace returns rejected, because there is no other token.
func (p *Plain) Replace(_ context.Context, rejected *oauth2.Token) (*oauth2.Token, error) {
	return rejected, nil
}

// Accepted does nothing.
func (p *Plain) Accepted(*oauth2.Token) {}

// Prompt is a transport that returns as soon as the request's context ends, even if Base is
// still running. For example, the transport of x/oauth2 does not pass the context on to a
// refresh.
type Prompt struct{ Base http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t Prompt) RoundTrip(req *http.Request) (*http.Response, error) {
	out := *req
	return Await(req.Context(),
		func() (*http.Response, error) { return Send(t.Base, &out, maxResends) },
		func(res *http.Response) { _ = res.Body.Close() })
}

// Await returns the result of f, or ctx.Err() as soon as ctx is done. If f returns later
// without an error, Await passes the result of f to drop, unless drop is nil. f is code of
// the application: if f panics, Await returns an error.
func Await[T any](ctx context.Context, f func() (T, error), drop func(T)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		r := result{err: quiet.New("", "it ended the goroutine that called it", ErrForeign)}
		defer func() {
			if recover() != nil {
				r.err = quiet.New("", "it panicked", ErrForeign)
			}
			done <- r
		}()
		r.v, r.err = f()
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
