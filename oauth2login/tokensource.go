package oauth2login

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/quiet"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/wire"
	"golang.org/x/oauth2"
)

// errNoRefreshToken means that a token has expired and can't be refreshed.
var errNoRefreshToken = errors.New("oauth2login: no refresh token")

// TokenSource hands out one user's token and refreshes it when it is due.
// [Provider.TokenSource] or [Provider.StoredTokens] makes it. It is safe for concurrent
// use.
//
// A token is due Options.EarlyRefresh before its expiry, or at half of its life if that
// is later. A due token is handed out at once and refreshed in the background. Only an
// expired token makes callers wait. After a failed refresh there is a pause, which grows
// from 1 to 30 seconds. With Retry-After, the provider can ask for up to 5 minutes.
// During the pause, callers of an expired token get the same error at once.
//
// A refreshed token is saved in the store before it is handed out. If the save fails, the
// token is still handed out. It is kept in this process and saved later. docs/tokens.md
// has the details.
type TokenSource struct {
	p     *Provider
	store TokenStore // nil: in memory
	own   *session   // nil: shared with the sources on equal stores

	cur atomic.Pointer[held] // never nil
}

var _ oauth2.TokenSource = (*TokenSource)(nil)

// TokenSource returns a source of one user's tokens. Its first token is tok. It keeps
// refreshed tokens in memory, like x/oauth2's own source.
func (p *Provider) TokenSource(tok *oauth2.Token) *TokenSource {
	s := &TokenSource{p: p, own: new(session)}
	s.cur.Store(s.hold(tok))
	return s
}

// StoredTokens returns a source of one user's tokens. It loads the token from store and
// saves refreshed tokens there. Save a login's first token with [TokenSource.SetToken].
//
// A server makes a source for each request. Sources of one provider on equal stores (==)
// share a running refresh, the pause after a failure, a refusal, and a token that could
// not be saved.
func (p *Provider) StoredTokens(store TokenStore) *TokenSource {
	s := &TokenSource{p: p, store: store}
	s.cur.Store(new(held))
	return s
}

// Format prints s without its token, for every verb.
func (s *TokenSource) Format(f fmt.State, verb rune) {
	quiet.Format(f, verb, "oauth2login.TokenSource")
}

// Token is TokenContext without a context: it implements [oauth2.TokenSource].
func (s *TokenSource) Token() (*oauth2.Token, error) { return s.TokenContext(context.Background()) }

// TokenContext returns a token that is valid now. The caller must not change it.
//
// When ctx ends, the caller stops waiting, but the refresh goes on. If ctx has no
// deadline, the caller waits at most 5 seconds longer than Options.Timeout. Errors:
// [ErrLoginRequired] if the user has to log in again, [ErrClientCredentials] if the
// application's configuration is wrong, [ErrUnavailable] or [ErrTokenStore] if the
// provider or the store failed, and ctx.Err().
func (s *TokenSource) TokenContext(ctx context.Context) (*oauth2.Token, error) {
	h := s.cur.Load()
	if !h.unsaved && !h.isDue(time.Now()) {
		return h.tok, nil
	}
	return s.renew(ctx, nil)
}

// SetToken replaces the token with the token of a new login and saves it now, under the
// lock. If the save fails, the error matches [ErrTokenStore]. Even then this process uses
// the new token, and saves it later.
func (s *TokenSource) SetToken(ctx context.Context, tok *oauth2.Token) error {
	if tok == nil || tok.AccessToken == "" {
		return s.p.errorf("token: SetToken needs a token; Delete logs out")
	}
	return s.replace(ctx, s.hold(tok))
}

// Delete logs the user out: it removes the token from the store and from this source. If
// the store fails, the error matches [ErrTokenStore]. Even then the user is logged out in
// this process, and the token is removed from the store later.
func (s *TokenSource) Delete(ctx context.Context) error { return s.replace(ctx, new(held)) }

func (s *TokenSource) replace(ctx context.Context, h *held) error {
	ctx, cancel := wire.WithLimit(ctx, s.p.waitLimit())
	defer cancel()
	h.unsaved = s.store != nil
	shared := s.acquire()
	defer s.release(shared)
	f := shared.replace(s, h)
	if f == nil {
		return nil
	}
	if err := f.wait(ctx, f.done); err != nil {
		return err
	}
	return f.err
}

// renew returns a token for a caller whose token is due or unsaved. If rejected is not
// nil, the API has rejected this token. renew may return the rejected token if another
// refresh would not help.
func (s *TokenSource) renew(ctx context.Context, rejected *oauth2.Token) (*oauth2.Token, error) {
	shared := s.acquire()
	defer s.release(shared)
	ctx, cancel := wire.WithLimit(ctx, s.p.waitLimit())
	defer cancel()
	for {
		h, f, err := shared.join(s, rejected)
		if err != nil {
			return nil, err
		}
		if f == nil {
			return h.tok, nil
		}
		tok, again, err := s.await(ctx, h, f, rejected)
		if !again {
			return tok, err
		}
		if f.forced {
			rejected = nil
		}
	}
}

// await waits for the token of flight f, which replaces before. again means that the
// caller has to try again. This happens if the new token has already expired, because it
// lives for seconds only or the machine is busy. It also happens if the flight only saved
// the rejected token.
func (s *TokenSource) await(ctx context.Context, before *held, f *flight, rejected *oauth2.Token) (tok *oauth2.Token, again bool, err error) {
	if rejected == nil { // the token that is ready may be the rejected one
		if err := f.wait(ctx, f.ready); err != nil {
			return nil, false, err
		}
		if tok := s.adopt(before, f); tok != nil {
			return tok, false, nil
		}
	}
	if err := f.wait(ctx, f.done); err != nil {
		return nil, false, err
	}
	tok = s.adopt(before, f)
	switch next := f.result.Load(); {
	case tok != nil && tok == rejected && f.err == nil && !f.forced:
		return nil, true, nil
	case tok != nil && (tok != rejected || f.err == nil):
		return tok, false, nil
	case f.err != nil:
		return nil, false, f.err
	case next == nil || next.tok == nil:
		return nil, false, s.noToken()
	}
	return nil, true, nil
}

// adopt makes the result of f the current token, unless a new login came first. It
// returns the current token if that is valid.
func (s *TokenSource) adopt(before *held, f *flight) *oauth2.Token {
	if next := f.result.Load(); next != nil {
		s.cur.CompareAndSwap(before, next)
	}
	if cur := s.cur.Load(); !cur.isExpired(time.Now()) {
		return cur.tok
	}
	return nil
}

// accepted records that the API accepted tok. If the API rejects tok later, a refresh may
// help.
func (s *TokenSource) accepted(tok *oauth2.Token) {
	h := s.cur.Load()
	if h.tok != tok || !h.forced {
		return
	}
	next := *h
	next.forced = false
	s.cur.CompareAndSwap(h, &next)
}

// held is a token with its times and its state. It is never changed, only replaced.
type held struct {
	tok     *oauth2.Token // nil: none
	due     moment        // the time from which the token is refreshed
	expiry  moment        // the time from which the token is invalid
	forced  bool          // the token replaced a rejected one, and the API has not accepted it yet
	saved   bool          // the token is or was in the store
	unsaved bool          // the token is newer than the stored token
	over    *held         // the stored token that this token replaces; nil for a login or a logout
}

// hold returns tok with the times when it is due and when it expires.
func (s *TokenSource) hold(tok *oauth2.Token) *held {
	switch {
	case tok == nil || tok.AccessToken == "":
		return &held{tok: tok}
	case tok.Expiry.IsZero() && tok.ExpiresIn > 0:
		return &held{tok: tok} // the start of its lifetime is unknown, so it counts as expired
	case tok.Expiry.IsZero():
		return &held{tok: tok, due: never, expiry: never}
	}
	early := max(s.p.opts.EarlyRefresh, 0)
	if tok.ExpiresIn > 0 {
		life := min(tok.ExpiresIn, int64(maxLifetime/time.Second))
		early = min(early, time.Duration(life)*time.Second/2)
	}
	now := time.Now()
	return &held{tok: tok, due: momentAt(tok.Expiry.Add(-early), now), expiry: momentAt(tok.Expiry, now)}
}

func (h *held) isDue(now time.Time) bool     { return h.due.reached(now) }
func (h *held) isExpired(now time.Time) bool { return h.expiry.reached(now) }

// is reports whether h holds the same token as other.
func (h *held) is(other *held) bool {
	return h.tok != nil && other.tok != nil && h.tok.AccessToken == other.tok.AccessToken && h.tok.RefreshToken == other.tok.RefreshToken
}

// supersedes reports whether h was refreshed from other, a stored token, and h is not
// saved yet.
func (h *held) supersedes(other *held) bool { return h.over != nil && other.is(h.over) }

func (h *held) refreshToken() string {
	if h.tok == nil {
		return ""
	}
	return h.tok.RefreshToken
}

// moment is a time on the wall clock and on the monotonic clock. It is reached when one
// of the two clocks reaches it. The wall clock may be set back, and the monotonic clock
// stands still while a machine is suspended. Neither of these makes an expired token
// valid again. The zero moment is always reached.
type moment struct {
	wall int64 // Unix nanoseconds
	mono time.Time
}

var never = moment{wall: 1<<63 - 1}

// momentAt returns t as a time on both clocks. A t from a store has no monotonic part.
func momentAt(t, now time.Time) moment {
	m := moment{wall: t.UnixNano(), mono: now.Add(t.Sub(now))}
	if t.Year() > 2261 { // int64 can't count the nanoseconds until then
		m.wall = never.wall
	}
	return m
}

func (m moment) reached(now time.Time) bool {
	return now.UnixNano() >= m.wall || !m.mono.IsZero() && !now.Before(m.mono)
}
