package wire_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/wire"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func respond(r *http.Request, status int) *http.Response {
	return &http.Response{StatusCode: status, Header: make(http.Header), Body: io.NopCloser(strings.NewReader("")), Request: r}
}

// source returns the token "old" and, after a 401, the token "new".
type source struct {
	wire.Source
	err      error
	accepted string
}

func (s *source) Token(context.Context) (*oauth2.Token, error) {
	return &oauth2.Token{AccessToken: "old"}, nil
}

func (s *source) Replace(context.Context, *oauth2.Token) (*oauth2.Token, error) {
	return &oauth2.Token{AccessToken: "new"}, s.err
}

func (s *source) Accepted(tok *oauth2.Token) { s.accepted = tok.AccessToken }

func TestBearer(t *testing.T) {
	var sent []string
	src := new(source)
	b := &wire.Bearer{Source: src, Limit: time.Minute, Origins: []string{"https://api.example"}, Where: "place", Base: roundTripper(func(r *http.Request) (*http.Response, error) {
		body, err := io.ReadAll(r.Body)
		sent = append(sent, r.Header.Get("Authorization")+" "+string(body))
		if r.Header.Get("Authorization") == "Bearer old" {
			return respond(r, http.StatusUnauthorized), err
		}
		return respond(r, http.StatusOK), err
	})}
	request := func() *http.Request {
		req, err := http.NewRequest(http.MethodPost, "https://api.example/x", strings.NewReader("body"))
		require.NoError(t, err)
		return req
	}
	req := request()
	res, err := b.RoundTrip(req)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	assert.Equal(t, []string{"Bearer old body", "Bearer new body"}, sent)
	assert.Same(t, req, res.Request)
	assert.Empty(t, req.Header)
	assert.Equal(t, "new", src.accepted)

	src.err = errors.New("hush")
	_, err = b.RoundTrip(request())
	assert.ErrorIs(t, err, src.err)
	assert.NotContains(t, err.Error(), "hush")

	sent = nil
	for _, change := range []func(*http.Request){
		func(r *http.Request) { r.Host = "evil.example" },
		func(r *http.Request) { r.URL.Opaque = "//evil.example/" },
		func(r *http.Request) { r.URL.Host = "evil.example" },
		func(r *http.Request) { r.URL.Scheme = "http" },
	} {
		req := request()
		change(req)
		_, err := b.RoundTrip(req)
		assert.ErrorContains(t, err, "place: client: ")
	}
	assert.Empty(t, sent)
}

func TestAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		dropped := 0
		_, err := wire.Await(ctx, func() (int, error) { time.Sleep(time.Minute); return 7, nil }, func(v int) { dropped = v })
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		time.Sleep(time.Hour)
		synctest.Wait()
		assert.Equal(t, 7, dropped)
		_, err = wire.Await(t.Context(), func() (int, error) { panic("hush") }, nil)
		assert.ErrorIs(t, err, wire.ErrForeign)
		assert.NotContains(t, err.Error(), "hush")
	})
}

type tokenFunc func() (*oauth2.Token, error)

func (f tokenFunc) Token() (*oauth2.Token, error) { return f() }

func TestPlain(t *testing.T) {
	refused := &oauth2.RetrieveError{ErrorCode: "invalid_grant"}
	hush := errors.New("hush")
	for _, c := range []struct {
		tok  *oauth2.Token
		err  error
		text string
	}{
		{&oauth2.Token{AccessToken: "a"}, nil, ""},
		{nil, nil, "place: token: the token source returned none"},
		{new(oauth2.Token), nil, "place: token: the token source returned none"},
		{nil, hush, "place: token: the token source failed"},
		{nil, refused, refused.Error()},
	} {
		p := &wire.Plain{Where: "place", Source: tokenFunc(func() (*oauth2.Token, error) { return c.tok, c.err })}
		tok, err := p.Token(t.Context())
		if c.text != "" {
			assert.EqualError(t, err, c.text)
			continue
		}
		require.NoError(t, err)
		again, err := p.Replace(t.Context(), tok)
		require.NoError(t, err)
		assert.Same(t, tok, again, "it has no other token")
		p.Accepted(tok)
	}
}

// Prompt returns in time, although its base transport ignores the context.
func TestPrompt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://a.example", nil)
		require.NoError(t, err)
		_, err = wire.Prompt{Base: roundTripper(func(r *http.Request) (*http.Response, error) {
			time.Sleep(time.Minute)
			return respond(r, 200), nil
		})}.RoundTrip(req)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		time.Sleep(time.Hour)
	})
}
