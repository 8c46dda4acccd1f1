package oauth2login

import (
	"context"
	"net/http"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/wire"
	"golang.org/x/oauth2"
)

// Client returns an HTTP client that adds the token of src to its requests. It sends
// requests only to origins. An origin is a scheme and a host, such as
// "https://api.github.com". Without the argument origins, it sends requests only to the
// origin of the token endpoint. A request to any other origin fails. So does a request
// whose Host header names another origin. Redirects are not followed.
//
// The client asks for uncompressed answers: a request without Accept-Encoding gets
// "identity".
//
// If src is a [*TokenSource], the end of a request's context also ends its wait for a
// refresh. A request that is answered with 401 is repeated once with a new token, if its
// body can be sent again ([http.Request.GetBody]).
//
// Requests must go to https or to a loopback host, like the URLs of [New]. Other requests
// fail, unless [WithPlainHTTP] allows them.
func (p *Provider) Client(src oauth2.TokenSource, origins ...string) *http.Client {
	bearer := &wire.Bearer{
		Base: wire.Transport(p.http), Limit: p.opts.Timeout, Where: p.where,
		Remedy: "; pass the other origin to Provider.Client",
	}
	for _, origin := range origins {
		if u, err := wire.ParseURL(origin, p.row.plainHTTP); err == nil {
			bearer.Origins = append(bearer.Origins, wire.Origin(u))
		}
	}
	if len(origins) == 0 {
		bearer.Origins = []string{wire.Origin(p.tokenURL)}
	}
	switch src := src.(type) {
	case nil:
	case *TokenSource:
		bearer.Source = renewed{src}
	default:
		bearer.Source = &wire.Plain{Where: p.where, Source: src}
	}
	c := *p.http
	c.Transport = bearer
	return &c
}

// renewed adapts a TokenSource to the interface of package wire.
type renewed struct{ s *TokenSource }

func (r renewed) Token(ctx context.Context) (*oauth2.Token, error) { return r.s.TokenContext(ctx) }

func (r renewed) Replace(ctx context.Context, rejected *oauth2.Token) (*oauth2.Token, error) {
	return r.s.renew(ctx, rejected)
}

func (r renewed) Accepted(tok *oauth2.Token) { r.s.accepted(tok) }
