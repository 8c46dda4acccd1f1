package oauth2login

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/wire"
	"golang.org/x/oauth2"
)

// The limits of a refresh. R is Options.Timeout.
const (
	// storeLimit is how long a store may take for one call.
	storeLimit = 3 * time.Second

	// maxLockAge is how old a lock may be when a refresh request begins. A lock gets
	// older if loading is slow or the machine sleeps. Then it is released and taken
	// again.
	maxLockAge = 4 * time.Second

	// saveLimit is how long saving is tried under the lock. The pause between two tries
	// starts at firstSavePause and doubles.
	saveLimit      = 8 * time.Second
	firstSavePause = 50 * time.Millisecond

	// holdMargin is how much longer than Options.Timeout a lock has to stay valid.
	holdMargin = maxLockAge + saveLimit + 3*time.Second

	// waitMargin is how much longer than Options.Timeout a caller without a deadline waits.
	waitMargin = 5 * time.Second

	// lookEvery is how often the store is read while a flight waits for the lock, or
	// during a pause.
	lookEvery = time.Second

	// The pause after a failure doubles from firstPause to maxPause, ± 25 %. A provider
	// can ask for more with Retry-After, up to maxAskedPause.
	firstPause    = time.Second
	maxPause      = 30 * time.Second
	maxAskedPause = 5 * time.Minute

	// forcedPause is the shortest time between two refreshes for answers with 401.
	forcedPause = 30 * time.Second

	// refusalLife is how long a refused refresh token is remembered.
	refusalLife = 10 * time.Minute

	// maxSessions is how many pauses and refusals of users are remembered.
	maxSessions = 10_000
)

// hold returns how long a lock has to stay valid.
func (p *Provider) hold() time.Duration { return p.opts.Timeout + holdMargin }

func (p *Provider) waitLimit() time.Duration { return p.opts.Timeout + waitMargin }

// session is the state of all token sources whose stores are equal (==). It exists while
// something is pending: a flight, a token to be saved, a pause or a refusal.
type session struct {
	key  any // in sessions.byStore
	refs int // guarded by sessions.mu; a caller that locks mu must be counted here or hold sessions.mu

	mu      sync.Mutex   // guards the fields below
	source  *TokenSource // the source that started the newest flight
	flight  *flight      // the newest refresh or save under way, or nil
	unsaved *held        // newer than the stored token; a held without a token is a logout
	pause   pause
	refusal refusal
	forced  time.Time // before this time, a 401 causes no refresh
	lookAt  time.Time // before this time, a pause does not read the store
}

// pause is the time without refreshes after failed attempts.
type pause struct {
	failures int
	until    time.Time
	err      error // of the last attempt
	last     *held // the token that was to be refreshed
}

// refusal is a refresh token that the provider refused.
type refusal struct {
	token string
	err   error
	until time.Time
}

// sessions are the sessions of a provider, by store.
type sessions struct {
	mu      sync.Mutex
	byStore map[any]*session
	sweepAt int // the number of sessions at which sweep runs
}

// acquire returns the session of s. The session exists at least until release.
func (s *TokenSource) acquire() *session {
	if s.own != nil {
		return s.own
	}
	all := &s.p.sessions
	all.mu.Lock()
	defer all.mu.Unlock()
	key := s.sessionKey()
	shared := all.byStore[key]
	if shared == nil {
		if len(all.byStore) >= max(all.sweepAt, 64) {
			all.sweep()
		}
		if all.byStore == nil {
			all.byStore = make(map[any]*session)
		}
		shared = &session{key: key}
		all.byStore[key] = shared
	}
	shared.refs++
	return shared
}

// sessionKey returns the store. If stores of its type can't be compared, it returns the
// source.
func (s *TokenSource) sessionKey() any {
	if reflect.ValueOf(s.store).Comparable() {
		return s.store
	}
	return s
}

func (s *TokenSource) release(shared *session) {
	if shared == s.own {
		return
	}
	s.p.sessions.release(shared)
}

func (all *sessions) release(shared *session) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if shared.refs--; shared.refs == 0 && !shared.isPending(time.Now()) {
		delete(all.byStore, shared.key)
	}
}

// acquireAll returns all sessions. Each exists at least until its release.
func (all *sessions) acquireAll() []*session {
	all.mu.Lock()
	defer all.mu.Unlock()
	shared := slices.Collect(maps.Values(all.byStore))
	for _, one := range shared {
		one.refs++
	}
	return shared
}

// sweep removes sessions in which nothing is pending. If there are still too many, it
// also removes sessions with only a pause or a refusal. It never removes a flight or a
// token to be saved.
func (all *sessions) sweep() {
	now := time.Now()
	for key, shared := range all.byStore {
		if shared.refs == 0 && !shared.isPending(now) {
			delete(all.byStore, key)
		}
	}
	for key, shared := range all.byStore {
		if len(all.byStore) < maxSessions {
			break
		}
		if shared.refs == 0 && !shared.isBusy() {
			delete(all.byStore, key)
		}
	}
	all.sweepAt = 2 * len(all.byStore)
}

func (shared *session) isBusy() bool {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	return shared.flight != nil || shared.unsaved != nil
}

func (shared *session) isPending(now time.Time) bool {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	return shared.flight != nil || shared.unsaved != nil || now.Before(shared.pause.until) ||
		now.Before(shared.refusal.until) || now.Before(shared.forced)
}

// flight is one refresh or save that any number of callers wait for.
type flight struct {
	source *TokenSource
	shared *session
	base   *held // the token to refresh or save
	after  *flight
	forced bool  // the API rejected base
	look   error // if not nil, only read the store; the error if there is no good token

	saveOnly bool // base is new: the flight saves it, even if it is due

	saves atomic.Int32 // running saves and deletions, including those that timed out

	seen  *held  // the newest known token; set when the store was read
	asked string // the refresh token that was sent

	isReady bool
	ready   chan struct{}        // closed when result holds a token that can be used, or at the end
	done    chan struct{}        // closed at the end
	result  atomic.Pointer[held] // nil: there is no token
	err     error                // set before done is closed
}

// wait waits for event. It returns an error if ctx ends first.
func (f *flight) wait(ctx context.Context, event <-chan struct{}) error {
	select {
	case <-event:
		return nil
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			return f.source.p.errorf("token: given up by the caller", ctx.Err())
		}
		return f.source.p.errorf("token: timed out", ctx.Err(), ErrUnavailable)
	}
}

// current returns the current token of s. s may still mark a token as unsaved that
// another source has saved or replaced meanwhile. current corrects this. The caller holds
// shared.mu.
func (shared *session) current(s *TokenSource) *held {
	h := s.cur.Load()
	switch {
	case shared.unsaved != nil:
		h = shared.unsaved
		s.cur.Store(h)
	case h.unsaved:
		h = h.afterSave(nil)
		s.cur.Store(h)
	}
	return h
}

// join returns a token to hand out, an error, or a flight to wait for. With a flight it
// also returns the current token, which stays in use until the flight ends.
func (shared *session) join(s *TokenSource, rejected *oauth2.Token) (*held, *flight, error) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	h := shared.current(s)
	if rejected != nil && h.tok == rejected {
		return shared.joinRejected(s, h)
	}
	now := time.Now()
	switch valid := !h.isExpired(now); {
	case s.store == nil && shared.refusedLocked(h) != nil:
		return s.usable(h, shared.refusedLocked(h))
	case s.store == nil && h.refreshToken() == "" && h.isDue(now):
		return s.usable(h, s.noToken())
	case rejected != nil && valid, !h.unsaved && !h.isDue(now):
		return h, nil, nil // another caller was faster
	case shared.flight != nil && valid:
		return h, nil, nil
	case shared.flight != nil && shared.flight.look == nil:
		return h, shared.flight, nil
	case now.Before(shared.pause.until):
		return shared.rest(s, h, now)
	default:
		f := shared.takeOff(s, h, &flight{})
		if valid {
			return h, nil, nil
		}
		return h, f, nil
	}
}

// joinRejected is join for a caller whose token the API has rejected.
func (shared *session) joinRejected(s *TokenSource, h *held) (*held, *flight, error) {
	now, refused := time.Now(), shared.refusedLocked(h)
	switch {
	case refused != nil && s.store == nil:
		return nil, nil, refused
	case refused == nil && (h.forced || now.Before(shared.forced)):
		return h, nil, nil // a new token was rejected as well
	case shared.flight != nil && shared.flight.look == nil:
		return h, shared.flight, nil
	case now.Before(shared.pause.until):
		return nil, nil, shared.pause.err
	}
	shared.forced = now.Add(forcedPause)
	return h, shared.takeOff(s, h, &flight{forced: true}), nil
}

// rest answers a caller during a pause, without waiting. From time to time it starts a
// flight that reads the store: another process may have refreshed the token, or the user
// may have logged in again.
func (shared *session) rest(s *TokenSource, h *held, now time.Time) (*held, *flight, error) {
	if s.store != nil && shared.flight == nil && !h.unsaved && !now.Before(shared.lookAt) {
		shared.lookAt = now.Add(lookEvery)
		shared.takeOff(s, h, &flight{look: shared.pause.err})
	}
	if h.isExpired(now) && shared.pause.last != nil {
		h = shared.pause.last
	}
	return s.usable(h, shared.pause.err)
}

// usable returns h, or err if h has expired.
func (s *TokenSource) usable(h *held, err error) (*held, *flight, error) {
	if h.isExpired(time.Now()) {
		return nil, nil, err
	}
	return h, nil, nil
}

// replace makes h the current token and starts a flight that saves it. The new flight
// begins when the running flight has ended. Otherwise the running flight could overwrite
// h in the store.
func (shared *session) replace(s *TokenSource, h *held) *flight {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	shared.pause, shared.refusal, shared.forced = pause{}, refusal{}, time.Time{}
	s.cur.Store(h)
	if s.store == nil {
		shared.flight = nil // the result of a running flight does not concern h
		return nil
	}
	shared.unsaved = h
	return shared.takeOff(s, h, &flight{after: shared.flight, saveOnly: true})
}

// takeOff starts a flight. The caller holds shared.mu.
func (shared *session) takeOff(s *TokenSource, base *held, f *flight) *flight {
	f.source, f.shared, f.base = s, shared, base
	f.ready, f.done = make(chan struct{}), make(chan struct{})
	shared.source, shared.flight = s, f
	s.retain(shared)
	go f.fly()
	return f
}

// retain adds a reference to a session that the caller already uses.
func (s *TokenSource) retain(shared *session) {
	if shared == s.own {
		return
	}
	s.p.sessions.mu.Lock()
	defer s.p.sessions.mu.Unlock()
	shared.refs++
}

// landed records the result of f. If a newer flight has started, it ignores the result.
func (shared *session) landed(f *flight, next *held, err error) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.flight != f {
		return
	}
	shared.flight = nil
	if next != nil {
		f.source.cur.Store(next)
		shared.unsaved = nil
		if next.unsaved {
			shared.unsaved = next
		}
	}
	now := time.Now()
	switch {
	case err == nil:
		shared.pause, shared.refusal = pause{}, refusal{}
	case f.look != nil:
		if next != nil {
			shared.pause.last = next
		}
	case isRefused(err):
		shared.pause = pause{}
		if f.asked != "" {
			shared.refusal = refusal{f.asked, err, now.Add(refusalLife)}
		}
	case errors.Is(err, ErrLoginRequired): // no request was sent
		shared.pause = pause{}
		if f.seen != nil && !f.seen.isExpired(now) {
			shared.pause = pause{until: now.Add(lookEvery), err: err, last: f.seen}
		}
	default:
		last := next
		if last == nil {
			last = f.seen
		}
		shared.pause = shared.pause.after(err, last, now)
	}
}

// after returns the pause after one more failure.
func (p pause) after(err error, last *held, now time.Time) pause {
	length := min(firstPause<<min(p.failures, 10), maxPause)
	length = length*3/4 + rand.N(length/2) // ± 25 %, so that processes do not ask all at once
	if re, ok := errors.AsType[*oauth2.RetrieveError](err); ok && re.Response != nil {
		asked := min(wire.RetryAfter(re.Response.Header, now), maxAskedPause)
		length = max(length, asked)
	}
	return pause{p.failures + 1, now.Add(length), err, last}
}

// refused returns the remembered refusal of the refresh token of h.
func (shared *session) refused(h *held) error {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	return shared.refusedLocked(h)
}

func (shared *session) refusedLocked(h *held) error {
	if shared.refusal.err != nil && shared.refusal.token == h.refreshToken() && time.Now().Before(shared.refusal.until) {
		return shared.refusal.err
	}
	return nil
}

// saving returns the running flight if a token is not saved yet. If no flight is running
// and start is true, saving starts one.
func (shared *session) saving(start bool) *flight {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.unsaved == nil {
		return nil
	}
	if shared.flight != nil || !start {
		return shared.flight
	}
	return shared.takeOff(shared.source, shared.unsaved, &flight{saveOnly: true})
}
