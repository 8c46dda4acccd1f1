package oauth2login

import (
	"context"
	"crypto/rand"
	"net/url"
	"time"
)

// StartUnbound starts a login that is not bound to a browser. Anybody who has the URL can
// log in. Anybody who comes back with the state is taken for the user. In a web
// application use [Provider.StartLogin].
//
// Use it for a URL that the user gets by mail or chat. StartUnbound remembers a new state
// for Options.LoginLifetime. Someone who has both the URL and the state store can read
// the data of the login. Errors are those of StartLogin. With Options.StateKeys,
// StartUnbound always fails, because there is no cookie to keep the login in.
func (p *Provider) StartUnbound(ctx context.Context, opts ...LoginOption) (string, error) {
	if p.opts.States == nil {
		return "", p.errorf("StartUnbound needs Options.States: with StateKeys a login is kept in its browser's cookie")
	}
	l, err := p.newLogin(opts)
	if err != nil {
		return "", err
	}
	stateParam := rand.Text() // 130 random bits; RFC 6749, section 10.10 asks for 128
	at := p.placeOf(unboundLogin, stateParam, stateParam).place
	if _, err := p.pending.keep(ctx, at, l); err != nil {
		return "", p.placed(err, at.key)
	}
	return p.authURL(stateParam, l), nil
}

// FinishUnbound finishes a login of [Provider.StartUnbound]. It does not check which
// browser comes back: the state alone is enough. query is the whole query of the
// callback.
//
// A state works once, even if the exchange fails. States of StartLogin are not found,
// because they belong to a browser. Errors are those of [Provider.FinishLogin].
func (p *Provider) FinishUnbound(ctx context.Context, query url.Values) (*Login, error) {
	begun := time.Now()
	login, err := p.finishUnbound(ctx, query)
	p.observe(ctx, "login", begun, err)
	return login, err
}

func (p *Provider) finishUnbound(ctx context.Context, query url.Values) (*Login, error) {
	cb, err := p.parseCallback(query)
	if err != nil {
		return nil, err
	}
	if len(cb.state) != len(rand.Text()) || p.opts.States == nil {
		return nil, p.unknownState()
	}
	at := p.placeOf(unboundLogin, cb.state, cb.state).place
	l, err := p.pending.redeem(ctx, at, "")
	if err != nil {
		return nil, p.placed(err, at.key)
	}
	return p.finish(ctx, cb, l)
}
