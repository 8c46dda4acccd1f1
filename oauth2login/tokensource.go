package oauth2login

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/quiet"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/wire"
	"golang.org/x/oauth2"
)

// errNoRefreshToken tells apart a token that can still be used until it expires.
var errNoRefreshToken = errors.New("oauth2login: no refresh token")

const (
	// The pause after a failed attempt doubles from firstPause to maxPause.
	firstPause = time.Second
	maxPause   = 30 * time.Second

	// saveTimeout is what saving a token has for itself. Nothing that went
	// before may use it up: a token that was rotated has to be saved.
	saveTimeout = 5 * time.Second

	// lockMargin is how much longer than a request a lock has to hold.
	lockMargin = 15 * time.Second

	// A refused refresh token may have been used by another process that has
	// not saved its new one yet. The store is read again rereads times, after
	// a pause that doubles from firstReread: 1.5 seconds in all.
	rereads     = 4
	firstReread = 100 * time.Millisecond
)

// TokenSource hands out one user's token and refreshes it when it is due. It is
// made by [Provider.TokenSource] and safe for concurrent use.
//
// A token is due [Options.EarlyRefresh] before it expires, or at half of its life if
// that is later. Until it has expired for real nobody has to wait: one caller
// refreshes, the others get the old token at once. If the provider can't be reached
// meanwhile, the old token is handed out, and the next attempt waits for 1 second,
// then 2, up to 30.
//
// With a store, a token that is due is first looked for there: another process may
// have refreshed it. A new token is saved before it is handed out. If that fails,
// it is handed out all the same, the failure is logged to [Options.Logger], and
// saving is tried again with the next call, then after the pauses above.
type TokenSource struct {
	p     *Provider
	store TokenStore // nil: none

	cur atomic.Pointer[held] // never nil

	mu     sync.Mutex // guards what follows, and writes to cur
	flight *flight    // the refresh under way, or nil
	gone   error      // the provider's refusal of cur; it is not asked again
	pause  pause      // after an attempt that failed
}

var _ oauth2.TokenSource = (*TokenSource)(nil)

// held is a token and what is known of it. It does not change.
type held struct {
	tok     *oauth2.Token // nil: none
	due     moment        // refresh from here on
	expiry  moment        // invalid from here on
	forced  bool          // it is the answer to a 401, and has not been accepted yet
	saved   bool          // it is, or was, in the store
	unsaved bool          // it is newer than what is in the store
}

// newHeld works out when tok is due, early before its expiry.
func newHeld(tok *oauth2.Token, early time.Duration) *held {
	if tok == nil || tok.AccessToken == "" {
		return &held{tok: tok}
	}
	h := &held{tok: tok, due: never, expiry: never}
	if !tok.Expiry.IsZero() {
		now := time.Now()
		h.expiry = momentAt(tok.Expiry, now)
		h.due = momentAt(tok.Expiry.Add(-early), now)
	}
	return h
}

func (h *held) isDue(now time.Time) bool     { return h.due.reached(now) }
func (h *held) isExpired(now time.Time) bool { return h.expiry.reached(now) }

// has reports whether h holds tok, as it is.
func (h *held) has(tok *oauth2.Token) bool {
	return h.tok != nil && tok != nil && h.tok.AccessToken == tok.AccessToken && h.tok.RefreshToken == tok.RefreshToken
}

// moment is a time on the wall clock and on the monotonic clock. It is reached as
// soon as one of them says so: a wall clock that is set back does not revive a
// token, nor does a machine that was suspended, whose monotonic clock stood still.
// The zero moment has been reached.
type moment struct {
	wall int64 // Unix nanoseconds
	mono time.Time
}

var never = moment{wall: 1<<63 - 1}

// momentAt is t, which comes without the monotonic clock where it comes from a store,
// as both clocks will show it if neither is touched from now on.
func momentAt(t, now time.Time) moment {
	m := moment{wall: t.UnixNano(), mono: now.Add(t.Sub(now))}
	if t.Year() > 2261 { // what nanoseconds can't count would wrap around
		m.wall = never.wall
	}
	return m
}

func (m moment) reached(now time.Time) bool {
	return now.UnixNano() >= m.wall || !m.mono.IsZero() && !now.Before(m.mono)
}

// flight is one refresh that any number of callers wait for.
type flight struct {
	where string
	done  chan struct{}
	err   error // set before done is closed
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

// TokenSource returns a source of one user's tokens that begins with tok and keeps
// refreshed tokens in memory, like x/oauth2's own.
func (p *Provider) TokenSource(tok *oauth2.Token) *TokenSource { return p.newSource(tok, nil) }

// StoredTokens returns a source of one user's tokens that begins with what store holds.
// Refreshed tokens are saved there. Save a login's first token with
// [TokenSource.SetToken].
func (p *Provider) StoredTokens(store TokenStore) *TokenSource { return p.newSource(nil, store) }

func (p *Provider) newSource(tok *oauth2.Token, store TokenStore) *TokenSource {
	s := &TokenSource{p: p, store: store}
	s.cur.Store(s.hold(tok))
	return s
}

func (s *TokenSource) hold(tok *oauth2.Token) *held {
	early := max(s.p.opts.EarlyRefresh, 0)
	if tok != nil && tok.ExpiresIn > 0 {
		life := min(tok.ExpiresIn, int64(maxLifetime/time.Second))
		early = min(early, time.Duration(life)*time.Second/2)
	}
	return newHeld(tok, early)
}

// Format prints s without its token, whatever the verb.
func (s *TokenSource) Format(f fmt.State, verb rune) {
	quiet.Format(f, verb, "oauth2login.TokenSource")
}

// Token is TokenContext without a context: it implements [oauth2.TokenSource].
func (s *TokenSource) Token() (*oauth2.Token, error) { return s.TokenContext(context.Background()) }

// TokenContext returns a token that is valid now. The caller must not change it.
//
// A caller whose ctx ends stops waiting, at the latest after 10 seconds if it has
// no deadline; the refresh goes on for the others, with a time-out of its own. The
// error matches [ErrLoginRequired] if only the user can help, [ErrUnavailable] or
// [ErrTokenStore] if the provider or the store is at fault, and ctx.Err().
func (s *TokenSource) TokenContext(ctx context.Context) (*oauth2.Token, error) {
	h := s.cur.Load()
	if !h.unsaved && !h.isDue(time.Now()) {
		return h.tok, nil
	}
	return s.refreshed(ctx, nil)
}

// SetToken replaces the token by that of a new login, and saves it. The error
// matches [ErrTokenStore] if that failed; the token is in force and kept all the
// same, and saved with a later call of TokenContext.
func (s *TokenSource) SetToken(ctx context.Context, tok *oauth2.Token) error {
	if tok == nil || tok.AccessToken == "" {
		return s.p.errorf("token: SetToken needs a token; Delete logs out")
	}
	return s.set(ctx, tok)
}

// Delete logs the user out: it removes the token from the store and from this source.
// The error matches [ErrTokenStore] if that failed; the user is logged out in this
// process all the same.
func (s *TokenSource) Delete(ctx context.Context) error { return s.set(ctx, nil) }

func (s *TokenSource) set(ctx context.Context, tok *oauth2.Token) error {
	ctx, cancel := wire.WithLimit(ctx, s.p.opts.Timeout)
	defer cancel()
	for {
		s.mu.Lock()
		f := s.flight
		if f == nil {
			break
		}
		s.mu.Unlock()
		// What is under way must not save its token after ours.
		if err := f.wait(ctx); err != nil {
			return err
		}
	}
	h := s.hold(tok)
	h.unsaved = s.store != nil
	s.cur.Store(h)
	s.gone, s.pause = nil, pause{}
	if s.store == nil {
		s.mu.Unlock()
		return nil
	}
	f := s.takeOff(h, false)
	s.mu.Unlock()
	if err := f.wait(ctx); err != nil {
		return err
	}
	return f.err
}

// wait returns nil when f has ended, and otherwise why it was not waited for.
func (f *flight) wait(ctx context.Context) error {
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			return quiet.New(f.where, "token: given up by the caller", ctx.Err())
		}
		return quiet.New(f.where, "token: timed out", ctx.Err(), ErrUnavailable)
	}
}

// refreshed returns the present token after a refresh, or before it if that can
// do no harm. If rejected is not nil, the provider did not take this token, which
// is replaced whatever the clock says.
func (s *TokenSource) refreshed(ctx context.Context, rejected *oauth2.Token) (*oauth2.Token, error) {
	ctx, cancel := wire.WithLimit(ctx, s.p.opts.Timeout)
	defer cancel()
	now := time.Now()
	s.mu.Lock()
	h := s.cur.Load()
	forced := rejected != nil && rejected == h.tok
	switch {
	case s.gone != nil && (s.store == nil || now.Before(s.pause.until)):
		defer s.mu.Unlock()
		return nil, s.gone
	case s.gone != nil:
		// The user may have logged in again, in another process.
	case forced && h.forced, !forced && !h.unsaved && !h.isDue(now):
		// A new token was rejected as well; or another caller was faster.
		s.mu.Unlock()
		return h.tok, nil
	}
	valid := !forced && !h.isExpired(now) && s.gone == nil
	if valid && (s.flight != nil || now.Before(s.pause.until)) {
		s.mu.Unlock()
		return h.tok, nil
	}
	f := s.flight
	if f == nil {
		f = s.takeOff(h, forced)
	}
	s.mu.Unlock()

	err := f.wait(ctx)
	if err == nil {
		err = f.err
	}
	switch tok := s.cur.Load().tok; {
	case err == nil && tok == nil:
		return nil, s.noToken()
	case err == nil:
		return tok, nil
	case valid && (!errors.Is(err, ErrLoginRequired) || errors.Is(err, errNoRefreshToken)):
		return h.tok, nil
	}
	return nil, err
}

// accepted notes that the provider took tok: should it reject it later, a refresh
// is worth another try.
func (s *TokenSource) accepted(tok *oauth2.Token) {
	h := s.cur.Load()
	if h.tok != tok || !h.forced {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur.Load() == h {
		next := *h
		next.forced = false
		s.cur.Store(&next)
	}
}

// takeOff starts a flight for h. The caller holds s.mu, and there is none.
func (s *TokenSource) takeOff(h *held, forced bool) *flight {
	f := &flight{where: s.p.where, done: make(chan struct{})}
	s.flight = f
	go s.fly(f, h, forced, s.gone)
	return f
}

// fly brings h up to date for all who wait for f. It belongs to none of them: it
// has a context of its own.
func (s *TokenSource) fly(f *flight, h *held, forced bool, gone error) {
	ctx, cancel := context.WithTimeout(context.Background(), s.p.opts.Timeout)
	defer cancel()
	next, err := s.update(ctx, h, forced, gone)

	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.pause, s.gone = pause{}, nil
		s.cur.Store(next)
	default:
		if refused(err) {
			s.gone = err
		}
		s.pause.grow(time.Now())
	}
	s.flight, f.err = nil, err
	close(f.done)
}

// update returns what is to be held after h: what another process has stored, or
// the answer to a refresh. If gone is not nil, h was refused with it before.
func (s *TokenSource) update(ctx context.Context, h *held, forced bool, gone error) (*held, error) {
	if s.store == nil {
		return s.refresh(ctx, h, forced)
	}
	locker, locking := s.store.(TokenLocker)
	if locking {
		unlock, err := locker.LockToken(ctx, s.p.opts.Timeout+lockMargin)
		if err != nil {
			return nil, s.storeFailed("lock", err)
		}
		defer unlock()
	}
	due := forced || h.isDue(time.Now())
	switch {
	case !h.unsaved, gone != nil:
		newer, err := s.stored(ctx, h)
		if err != nil {
			return nil, err
		}
		switch {
		case newer.has(h.tok) && gone != nil:
			return nil, gone
		case !newer.has(h.tok) && !newer.isDue(time.Now()):
			return newer, nil
		}
		h = newer
	default:
		err := s.save(ctx, h.tok)
		if !due || h.tok == nil {
			return h.afterSave(err), err
		}
		h = h.afterSave(err)
	}
	for {
		next, err := s.refresh(ctx, h, forced)
		if err == nil {
			return next.afterSave(s.save(ctx, next.tok)), nil
		}
		if !refused(err) {
			return nil, err
		}
		// Another process may have used this refresh token: then its new
		// token is in the store or, if there is no lock, will be soon.
		newer := s.awaitNewer(ctx, h, locking)
		if newer == nil {
			return nil, err
		}
		if !newer.isDue(time.Now()) {
			return newer, nil
		}
		h = newer
	}
}

// refresh makes a refresh request for h. An answer without a refresh token leaves
// the old one in force; x/oauth2 keeps it.
func (s *TokenSource) refresh(ctx context.Context, h *held, forced bool) (*held, error) {
	if h.tok == nil || h.tok.RefreshToken == "" {
		return nil, s.noToken()
	}
	src := s.p.OAuth2().TokenSource(s.p.ClientContext(ctx), &oauth2.Token{RefreshToken: h.tok.RefreshToken})
	tok, err := src.Token()
	if err != nil {
		return nil, s.refreshFailed(ctx, err)
	}
	next := s.hold(tok)
	next.forced = forced
	return next, nil
}

func (s *TokenSource) refreshFailed(ctx context.Context, err error) error {
	err = s.p.callFailed(ctx, "refresh", err)
	// "invalid_grant: The provided authorization grant … or refresh token is
	// invalid, expired, revoked …" https://www.rfc-editor.org/rfc/rfc6749#section-5.2
	if re, ok := isRefusal(err); ok && (re.ErrorCode == "invalid_grant" || re.ErrorCode == "bad_refresh_token") {
		return s.p.errorf("refresh: refused by the provider: the user has to log in again", ErrLoginRequired, err)
	}
	return err
}

func (s *TokenSource) noToken() error {
	return s.p.errorf("token: there is none that is valid, and no refresh token", ErrLoginRequired, errNoRefreshToken)
}

// refused reports whether the provider said, in so many words, that the login is over.
func refused(err error) bool {
	var re *oauth2.RetrieveError
	return errors.Is(err, ErrLoginRequired) && errors.As(err, &re)
}

// stored returns what is in the store, or h if that is still the best there is.
func (s *TokenSource) stored(ctx context.Context, h *held) (*held, error) {
	tok, err := s.store.LoadToken(ctx)
	if err != nil {
		return nil, s.storeFailed("load", err)
	}
	if tok == nil || tok.AccessToken == "" {
		if h.saved {
			return nil, s.p.errorf("token: no longer stored: the user has logged out", ErrLoginRequired)
		}
		return h, nil
	}
	newer := s.hold(tok)
	newer.saved = true
	if h.tok != nil && newer.isDue(time.Now()) && tok.Expiry.Before(h.tok.Expiry) {
		return h, nil // a replica that lags behind: its refresh token has been used
	}
	return newer, nil
}

// awaitNewer reads the store until it holds another token than h, or nil: at once
// under a lock, and otherwise for 1.5 seconds.
func (s *TokenSource) awaitNewer(ctx context.Context, h *held, locked bool) *held {
	wait := firstReread
	for try := 0; ; try++ {
		if newer, err := s.stored(ctx, h); err == nil && !newer.has(h.tok) {
			return newer
		}
		if locked || try == rereads {
			return nil
		}
		select {
		case <-time.After(wait):
			wait *= 2
		case <-ctx.Done():
			return nil
		}
	}
}

// save keeps a token that nobody else has.
func (s *TokenSource) save(ctx context.Context, tok *oauth2.Token) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	var err error
	if tok == nil {
		err = s.store.DeleteToken(ctx)
	} else {
		err = s.store.SaveToken(ctx, tok)
	}
	if err == nil {
		return nil
	}
	err = s.storeFailed("save", err)
	s.p.opts.Logger.WarnContext(ctx, "oauth2login: a token could not be saved; it is kept, and saving is tried again", "error", err)
	return err
}

func (h *held) afterSave(err error) *held {
	next := *h
	next.saved, next.unsaved = h.saved || err == nil, err != nil
	return &next
}

func (s *TokenSource) storeFailed(what string, err error) error {
	return s.p.errorf("token store: "+what+": "+quiet.DescribeForeign(err), err, ErrTokenStore)
}
