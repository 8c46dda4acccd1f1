package oauth2login

import (
	"context"
	"net/http"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/wire"
	"golang.org/x/oauth2"
)

// Client returns an HTTP client that adds the tokens of src to requests to origins, each
// a scheme and a host such as "https://api.github.com". Without origins it is the origin
// of the token endpoint. Requests to any other origin fail, also those that only name
// another one in their Host header, and redirects are not followed.
//
// Answers are asked for as they are: a request without Accept-Encoding gets "identity".
//
// If src is a [*TokenSource], a wait for a refresh ends with the request's context. A
// request that is answered with 401 is repeated once with a new token, provided that its
// body can be sent again ([http.Request.GetBody]).
//
// An origin has to be https or on a loopback host, as the URLs of [New] are. Requests to
// any other one fail, unless [WithPlainHTTP] allows it.
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

// renewed is a TokenSource as package wire sees it.
type renewed struct{ s *TokenSource }

func (r renewed) Token(ctx context.Context) (*oauth2.Token, error) { return r.s.TokenContext(ctx) }

func (r renewed) Replace(ctx context.Context, rejected *oauth2.Token) (*oauth2.Token, error) {
	return r.s.renew(ctx, rejected)
}

func (r renewed) Accepted(tok *oauth2.Token) { r.s.accepted(tok) }
