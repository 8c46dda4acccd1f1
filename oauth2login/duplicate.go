package oauth2login

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/quiet"
)

const (
	// resultLife is how long a finished login is kept for a browser that repeats its
	// callback: a double click, a reload, a phone that sends the request again.
	resultLife = 5 * time.Second

	// maxRepeats is how often a result is handed out again.
	maxRepeats = 3

	// maxResults is how many results are kept. Beyond that, a repeated callback fails.
	maxResults = 4096
)

// results are the logins that callbacks are finishing, or have just finished.
type results struct {
	where string // the place in errors: see package quiet
	mu    sync.Mutex
	byKey map[resultKey]*result
}

// resultKey is a hash of the cookie's secret, the state and the code: only the browser
// that sent the first callback can know all of them.
type resultKey [sha256.Size]byte

func (at statePlace) resultKey(cb callback) resultKey {
	h := sha256.New()
	for _, part := range []string{at.secret, cb.state, cb.code} {
		_, _ = h.Write(append([]byte(part), 0))
	}
	if cb.err != nil {
		_, _ = h.Write([]byte(cb.err.Code))
	}
	return resultKey(h.Sum(nil))
}

type result struct {
	repeats int
	done    chan struct{}
	login   *Login // set before done is closed
	err     error
}

// do runs finish for the first callback of a key. A repeated callback waits for its
// result and gets a copy. A result is kept if finish says that the state was redeemed.
func (s *results) do(ctx context.Context, key resultKey, finish func() (login *Login, redeemed bool, err error)) (login *Login, err error) {
	r, first := s.join(key)
	if r == nil {
		login, _, err = finish()
		return login, err
	}
	if !first {
		return r.copy(ctx, s.where)
	}
	redeemed := false
	r.err = errors.New("oauth2login: the callback that came first did not end")
	defer func() { // also if the application's transport panics
		close(r.done)
		if !redeemed {
			s.forget(key)
			return
		}
		time.AfterFunc(resultLife, func() { s.forget(key) })
	}()
	login, redeemed, r.err = finish()
	if r.err == nil {
		r.login = cloneLogin(login) // the caller may change its own
	}
	return login, r.err
}

// join returns the result of key, and whether the caller has to make it. It returns nil if
// no more results can be kept, or this one was handed out too often.
func (s *results) join(key resultKey) (r *result, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.byKey[key]; r != nil {
		if r.repeats++; r.repeats > maxRepeats {
			return nil, false
		}
		return r, false
	}
	if len(s.byKey) >= maxResults {
		return nil, false
	}
	if s.byKey == nil {
		s.byKey = make(map[resultKey]*result)
	}
	r = &result{done: make(chan struct{})}
	s.byKey[key] = r
	return r, true
}

func (s *results) forget(key resultKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byKey, key)
}

func (r *result) copy(ctx context.Context, where string) (*Login, error) {
	select {
	case <-r.done:
	case <-ctx.Done():
		return nil, quiet.New(where, "callback: "+quiet.Describe(ctx.Err()), ctx.Err())
	}
	if r.err != nil {
		return nil, r.err
	}
	login := cloneLogin(r.login)
	login.Repeated = true
	return login, nil
}

func cloneLogin(l *Login) *Login {
	c, tok := *l, *l.Token
	c.Token, c.Scopes = &tok, slices.Clone(l.Scopes)
	return &c
}
