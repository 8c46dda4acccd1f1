package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"sync"
	"time"
)

const (
	// longestHold is the maximum lifetime of a lock. The time-out settings of all
	// databases accept this value.
	longestHold = 24 * time.Hour

	// statementLimit is the time-out of a statement on the lock's connection. It is
	// shorter than the time limit for saving a token, so that a save has time to try
	// another connection.
	statementLimit = 3 * time.Second

	// releaseLimit is the time limit for the release of a lock. If the release takes
	// longer, unlock returns all the same, and the connection is closed, which ends the
	// lock.
	releaseLimit = 2 * time.Second
)

const (
	errLost     harmless = "the connection that held the lock has failed"
	errReleased harmless = "the lock was given back"
)

// lostError reports that a statement on the lock's connection failed, and that the lock
// has ended because of that.
type lostError struct{ cause error }

func (e *lostError) Error() string { return errLost.Error() + ": " + e.cause.Error() }
func (e *lostError) Unwrap() error { return e.cause }

// turn is a queue of calls in this process that want the lock of the same user. Only the
// first call in the queue sends statements to the database.
type turn struct {
	taken chan none // holds an element while a call has its turn
	users int       // number of calls in the queue, including the first; guarded by Tokens.mu
	held  *held     // the lock, while this process holds it; guarded by Tokens.mu
}

// join adds the calling goroutine to the queue of key. The caller calls leave when it has
// finished with the lock.
func (s *Tokens) join(key string) (t *turn, leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t = s.turns[key]
	if t == nil {
		t = &turn{taken: make(chan none, 1)}
		s.turns[key] = t
	}
	t.users++
	return t, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if t.users--; t.users == 0 {
			delete(s.turns, key)
		}
	}
}

// holder returns this process's lock of key. It returns nil if this process does not hold
// the lock, or if the lock is a lease and has no connection.
func (s *Tokens) holder(key string) *held {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.turns[key]; t != nil && t.held != nil && t.held.conn != nil {
		return t.held
	}
	return nil
}

func (s *Tokens) setHeld(t *turn, h *held) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.held = h
}

func (s *Tokens) lock(ctx context.Context, key string, hold time.Duration) (unlock func(), err error) {
	t, leaveQueue := s.join(key)
	if err := enter(ctx, t.taken); err != nil {
		leaveQueue()
		return nil, err
	}
	giveBack := func(h *held, err error) {
		if err == nil {
			h.giveBack()
		}
	}
	h, err := promptly(ctx, giveBack, func() (*held, error) { return s.acquire(ctx, key, hold) })
	if err != nil {
		leave(t.taken)
		leaveQueue()
		return nil, err
	}
	s.setHeld(t, h)
	end := sync.OnceFunc(func() {
		h.giveBack()
		s.setHeld(t, nil)
		leave(t.taken)
		leaveQueue()
	})
	// If this process stops responding, the database ends the lock. If only the caller of
	// LockToken stops, this timer ends the lock and frees the connection.
	lifetime := time.AfterFunc(hold, end)
	return func() {
		lifetime.Stop()
		end()
	}, nil
}

// acquire tries to get the lock until ctx is done. It keeps no connection between two
// attempts. Otherwise the calls for many users would use up the pool while they wait.
func (s *Tokens) acquire(ctx context.Context, key string, hold time.Duration) (*held, error) {
	try := s.tryConn
	if s.table.dialect == SQLite {
		try = s.tryLease
	}
	for attempt := 0; ; attempt++ {
		h, err := try(ctx, key, hold)
		if h != nil || err != nil {
			return h, err
		}
		if !rest(ctx, attempt) {
			return nil, ctx.Err()
		}
	}
}

// held is a lock that this process holds in the database. It is either a session lock on a
// connection that only the lock uses, or a lease in SQLite's lock table.
type held struct {
	conn   *sql.Conn // the connection on which the holder reads and writes; nil for a lease
	commit string    // statements that make a change durable while the lock is held; may be empty
	slot   chan none // holds an element for conn; may be nil

	// free ends the lock and leaves the connection as it was.
	free func(ctx context.Context) error

	busy chan none // holds an element while a statement runs on conn
	over error     // errLost or errReleased; guarded by busy
}

// onHeld runs f on the connection of h.
func onHeld[T any](ctx context.Context, h *held, f func(context.Context, querier) (T, error)) (v T, err error) {
	if err := enter(ctx, h.busy); err != nil {
		return v, err
	}
	return promptly(ctx, nil, func() (v T, err error) {
		defer leave(h.busy)
		if h.over != nil {
			return v, h.over
		}
		// The statement must not end with the caller's ctx: drivers cancel a statement by
		// closing the connection. That would end the lock, although another caller may be
		// holding it.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), statementLimit)
		defer cancel()
		v, err = f(ctx, h.conn)
		if err != nil {
			h.over = errLost
			discard(h.conn)
			err = &lostError{err}
		}
		return v, err
	})
}

// giveBack ends the lock. If necessary, it closes the lock's connection for that.
func (h *held) giveBack() {
	ctx, cancel := context.WithTimeout(context.Background(), releaseLimit)
	defer cancel()
	if enter(ctx, h.busy) != nil { // a statement hangs; statementLimit ends it
		go func() {
			h.busy <- none{}
			h.end(ctx)
		}()
		return
	}
	_, _ = promptly(ctx, nil, func() (none, error) {
		h.end(ctx)
		return none{}, nil
	})
}

// end ends the lock. It is called only once, after its caller has put an element into
// busy.
func (h *held) end(ctx context.Context) {
	defer leave(h.busy)
	if h.slot != nil {
		defer leave(h.slot)
	}
	over := h.over
	h.over = errReleased
	switch {
	case over != nil: // the connection has been closed
	case h.conn == nil:
		_ = h.free(ctx) // if the lease cannot be removed, it ends after its lifetime
	case h.free(ctx) == nil:
		_ = h.conn.Close() // this returns the connection to the pool
	default:
		discard(h.conn)
	}
}

// discard closes the connection to the database. This ends all locks of the connection.
func discard(c *sql.Conn) {
	_ = c.Raw(func(any) error { return driver.ErrBadConn })
	_ = c.Close()
}
