package shangcloud

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"
)

// ErrLoginRequired means that there is no token and no way to get one without
// the user: nothing is stored, the token has expired and came without a refresh
// token, or the platform refused the refresh token (then the
// [*oauth2.RetrieveError] is in the chain too). Send the user to log in again.
var ErrLoginRequired = errors.New("shangcloud: the user has to log in again")

const (
	// earlyRefresh is how long before its time a token is taken for expired,
	// as in the platform's reference SDK.
	earlyRefresh = 60 * time.Second

	// The pause after a failed attempt doubles from firstPause to maxPause.
	firstPause = time.Second
	maxPause   = 30 * time.Second
)

// Expired reports whether tok is to be refreshed before it is used: it is nil or
// empty, or expires within 60 seconds, as in the platform's reference SDK. A token
// with a zero Expiry does not expire, by x/oauth2's convention; the ones that this
// library gets always have one.
func Expired(tok *oauth2.Token) bool {
	return newHeld(tok, earlyRefresh).isDue(time.Now())
}

// TokenStore keeps the token of one user: a row of the application's users table,
// say. Its methods must be safe for concurrent use and return soon after ctx is
// done. Tokens are secrets: they do not belong into logs or the texts of errors.
type TokenStore interface {
	// LoadToken returns the token saved last, or nil and no error if there is
	// none. The caller does not change it.
	LoadToken(ctx context.Context) (*oauth2.Token, error)

	// SaveToken replaces the stored token. It must keep all exported fields,
	// as encoding/json does.
	SaveToken(ctx context.Context, tok *oauth2.Token) error
}

// TokenSource hands out one user's token and refreshes it when it is due. It is
// made by [Provider.TokenSource] and safe for concurrent use.
//
// A token is due 60 seconds before it expires, or at half of its life if that is
// shorter than two minutes. Until it has expired for real nobody has to wait: one
// caller refreshes, the others get the old token at once. If the platform can't be
// reached meanwhile, the old token is handed out, and the next attempt waits for 1
// second, then 2, up to 30.
type TokenSource struct {
	p     *Provider
	store TokenStore // nil: none

	cur atomic.Pointer[held] // never nil

	mu     sync.Mutex // guards what follows, and writes to cur
	flight *flight    // the refresh under way, or nil
	gone   error      // the platform's refusal; nothing more is asked of it
	pause  pause      // after a refresh that failed
}

var _ oauth2.TokenSource = (*TokenSource)(nil)

// held is a token and the times that matter, worked out once.
type held struct {
	tok    *oauth2.Token // nil: none
	due    moment        // refresh from here on
	expiry moment        // invalid from here on
	forced bool          // it is the answer to a 401
}

// newHeld works out when tok is due, early before its expiry.
func newHeld(tok *oauth2.Token, early time.Duration) *held {
	if tok == nil || tok.AccessToken == "" {
		return &held{tok: tok}
	}
	h := &held{tok: tok, due: never, expiry: never}
	if !tok.Expiry.IsZero() {
		h.expiry = momentAt(tok.Expiry)
		h.due = momentAt(tok.Expiry.Add(-early))
	}
	return h
}

func (h *held) isDue(now time.Time) bool     { return h.due.reached(now) }
func (h *held) isExpired(now time.Time) bool { return h.expiry.reached(now) }

// moment is a time on the wall clock and, where it is known, on the monotonic
// clock. It is reached as soon as one of them says so: a wall clock that is set
// back does not revive a token, nor does a machine that was suspended, whose
// monotonic clock stood still. The zero moment has been reached.
type moment struct {
	wall int64 // Unix nanoseconds
	mono time.Time
}

var never = moment{wall: 1<<63 - 1}

func momentAt(t time.Time) moment { return moment{wall: t.UnixNano(), mono: t} }

func (m moment) reached(now time.Time) bool {
	return now.UnixNano() >= m.wall || !m.mono.IsZero() && !now.Before(m.mono)
}

// flight is one refresh that any number of callers wait for.
type flight struct {
	done chan struct{}
	err  error // set before done is closed
}

// pause grows with every failure in a row.
type pause struct {
	length time.Duration
	until  time.Time
}

func (p *pause) grow(now time.Time) {
	p.length = min(max(2*p.length, firstPause), maxPause)
	p.until = now.Add(p.length)
}

// TokenSource returns a source of one user's tokens. It begins with tok or, if
// tok is nil, with what store holds. Every refreshed token is saved in store
// before it is handed out; store may be nil, and then a refreshed token lives as
// long as the source does.
func (p *Provider) TokenSource(tok *oauth2.Token, store TokenStore) *TokenSource {
	s := &TokenSource{p: p, store: store}
	s.cur.Store(newHeld(tok, earlyRefresh))
	return s
}

// Format prints s without its token, whatever the verb.
func (s *TokenSource) Format(f fmt.State, verb rune) { formatText(f, verb, "shangcloud.TokenSource") }

// Token is TokenContext without a context: it implements [oauth2.TokenSource].
// It returns within 10 seconds.
func (s *TokenSource) Token() (*oauth2.Token, error) { return s.TokenContext(context.Background()) }

// TokenContext returns a token that is valid now. The caller must not change it.
//
// A caller whose ctx ends stops waiting; the refresh goes on for the others, for
// 10 seconds at most. The error matches [ErrLoginRequired] if only the user can
// help, [ErrUnavailable] if the platform is at fault, and ctx.Err().
func (s *TokenSource) TokenContext(ctx context.Context) (*oauth2.Token, error) {
	h := s.cur.Load()
	if now := time.Now(); !h.isDue(now) {
		return h.tok, nil
	}
	return s.refreshed(ctx, nil)
}

// refreshed returns the present token after a refresh, or before it if that can
// do no harm. If rejected is not nil, the platform did not take this token, which
// is replaced whatever the clock says.
func (s *TokenSource) refreshed(ctx context.Context, rejected *oauth2.Token) (*oauth2.Token, error) {
	now := time.Now()
	s.mu.Lock()
	h := s.cur.Load()
	forced := rejected != nil && rejected == h.tok
	switch {
	case s.gone != nil:
		s.mu.Unlock()
		return nil, s.gone
	case !forced && !h.isDue(now), forced && h.forced:
		// Another caller was faster; or a new token was rejected as well.
		s.mu.Unlock()
		return h.tok, nil
	}
	valid := !forced && !h.isExpired(now)
	if valid && (s.flight != nil || now.Before(s.pause.until)) {
		s.mu.Unlock()
		return h.tok, nil
	}
	f := s.flight
	if f == nil {
		f = &flight{done: make(chan struct{})}
		s.flight = f
		go s.fly(f, h, forced)
	}
	s.mu.Unlock()

	select {
	case <-f.done:
	case <-ctx.Done():
		if valid {
			return h.tok, nil
		}
		return nil, &callError{"token", "given up by the caller", []error{ctx.Err()}}
	}
	if f.err == nil {
		return s.cur.Load().tok, nil
	}
	if valid && !errors.Is(f.err, ErrLoginRequired) {
		return h.tok, nil
	}
	return nil, f.err
}

// fly refreshes h for all who wait for f. It belongs to none of them: it has a
// context of its own.
func (s *TokenSource) fly(f *flight, h *held, forced bool) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	next, err := s.refresh(ctx, h, forced)

	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.pause = pause{}
		s.cur.Store(next)
	case errors.Is(err, ErrLoginRequired):
		s.gone = err
	default:
		s.pause.grow(time.Now())
	}
	s.flight, f.err = nil, err
	close(f.done)
}

func (s *TokenSource) refresh(ctx context.Context, h *held, forced bool) (*held, error) {
	if h.tok == nil || h.tok.RefreshToken == "" {
		return nil, &callError{"token", "expired, and there is no refresh token", []error{ErrLoginRequired}}
	}
	tok, err := s.p.refreshToken(ctx, h.tok.RefreshToken)
	if err != nil {
		return nil, err
	}
	next := newHeld(tok, min(earlyRefresh, time.Duration(tok.ExpiresIn)*time.Second/2))
	next.forced = forced
	return next, nil
}

// refreshToken sends one refresh request. An answer without a refresh token
// leaves the old one in force; x/oauth2 keeps it.
func (p *Provider) refreshToken(ctx context.Context, refreshToken string) (*oauth2.Token, error) {
	src := p.OAuth2().TokenSource(p.ClientContext(ctx), &oauth2.Token{RefreshToken: refreshToken})
	tok, err := src.Token()
	if err == nil {
		return tok, nil
	}
	err = callFailed(ctx, "refresh", err)
	// "invalid_grant: The provided authorization grant … or refresh token is
	// invalid, expired, revoked …" https://www.rfc-editor.org/rfc/rfc6749#section-5.2
	if re := (*oauth2.RetrieveError)(nil); errors.As(err, &re) && re.ErrorCode == "invalid_grant" {
		err = &callError{"refresh", "the platform refused the refresh token: the user has to log in again", []error{ErrLoginRequired, err}}
	}
	return nil, err
}
