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
	// resultLife is how long the result of a finished login is kept. A browser may repeat
	// its callback: after a double click, after a reload, or because a phone sends the
	// request again.
	resultLife = 5 * time.Second

	// maxRepeats is how often a result is handed out again.
	maxRepeats = 3

	// maxResults is how many results are kept. Beyond that, a repeated callback fails.
	maxResults = 4096
)

// results are the results of callbacks that are running or have just finished.
type results struct {
	where string // begins the text of errors: see package quiet
	mu    sync.Mutex
	byKey map[resultKey]*result
}

// resultKey is a hash of the cookie's secret, the state, and the code or error. Only the
// browser that sent the first callback can know all of them.
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
	done  chan struct{}
	login *Login // set before done is closed
	err   error

	// Guarded by the mutex of results.
	finished bool
	left     int        // how often the result can be handed out again
	waiting  []*waiting // the callbacks that wait for the result, the newest last
}

// waiting is a repeated callback that waits for the first callback. If many are still
// waiting at the end, only the newest get the result: a browser shows the answer to its
// last request, and has often cancelled the earlier requests.
type waiting struct{ served bool }

// do runs finish for the first callback with a key. A repeated callback waits for that
// result and gets a copy. If it can get no copy, it runs finish itself, unless ctx has
// ended. A result is kept only if finish reports that the state was redeemed.
func (s *results) do(ctx context.Context, key resultKey, finish func() (login *Login, redeemed bool, err error)) (login *Login, err error) {
	r, first := s.join(key)
	switch {
	case first:
		return s.first(key, r, finish)
	case r != nil && s.await(ctx, r):
		return r.copy()
	case ctx.Err() != nil:
		return nil, quiet.New(s.where, "callback: "+quiet.Describe(ctx.Err()), ctx.Err())
	}
	login, _, err = finish()
	return login, err
}

// first runs finish and stores its outcome in r, the result of key.
func (s *results) first(key resultKey, r *result, finish func() (*Login, bool, error)) (login *Login, err error) {
	redeemed := false
	r.err = errors.New("oauth2login: the callback that came first did not end")
	defer func() { // runs even if the application's transport panics
		s.serve(r)
		if !redeemed {
			s.forget(key)
			return
		}
		time.AfterFunc(resultLife, func() { s.forget(key) })
	}()
	login, redeemed, r.err = finish()
	if r.err == nil {
		r.login = cloneLogin(login) // the caller may change its copy
	}
	return login, r.err
}

// join returns the result of key. If first is true, the caller has to produce it. join
// returns nil if no more results can be kept.
func (s *results) join(key resultKey) (r *result, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.byKey[key]; r != nil || len(s.byKey) >= maxResults {
		return r, false
	}
	if s.byKey == nil {
		s.byKey = make(map[resultKey]*result)
	}
	r = &result{done: make(chan struct{}), left: maxRepeats}
	s.byKey[key] = r
	return r, true
}

// await reports whether a repeated callback gets a copy of r. It waits for r to be
// finished, or for the end of ctx.
func (s *results) await(ctx context.Context, r *result) bool {
	s.mu.Lock()
	if r.finished {
		defer s.mu.Unlock()
		if r.left == 0 {
			return false
		}
		r.left--
		return true
	}
	w := new(waiting)
	r.waiting = append(r.waiting, w)
	s.mu.Unlock()

	select {
	case <-r.done:
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r.waiting = slices.DeleteFunc(r.waiting, func(other *waiting) bool { return other == w })
	return w.served
}

// serve hands r to the newest callbacks that wait for it.
func (s *results) serve(r *result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.finished = true
	for _, w := range r.waiting[max(0, len(r.waiting)-r.left):] {
		w.served = true
		r.left--
	}
	close(r.done)
}

func (s *results) forget(key resultKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byKey, key)
}

// copy returns the caller's own copy of a finished result.
func (r *result) copy() (*Login, error) {
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
