package tokenstore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"sync"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/sqldb"
)

const (
	// lockLifetime is how long a lock can outlive a holder that fell silent. A
	// shangcloud.TokenSource is silent for as long as a refresh takes, 10 seconds
	// at most, and done after 15: the last 5 are for saving.
	lockLifetime = 20 * time.Second

	// statementLimit is what a statement on the lock's connection has. It is less
	// than the 5 seconds for saving a token: then another connection is tried.
	statementLimit = 3 * time.Second

	// releaseLimit is how long giving back a lock may take before it is left to
	// the closing of its connection.
	releaseLimit = 2 * time.Second
)

// What can go wrong with a lock without the database saying so.
const (
	errLost     sqldb.Harmless = "the connection that held the lock has failed"
	errReleased sqldb.Harmless = "the lock was given back"
	errGetLock  sqldb.Harmless = "GET_LOCK failed"
)

// A turn is for those in this process who want the lock of one user. The one whose
// turn it is asks the database for it.
type turn struct {
	taken chan none // holds an element while it is somebody's turn
	users int       // who have it or wait for it; guarded by SQL.mu
	held  *held     // the lock, once it is there; guarded by SQL.mu
}

// holder returns the lock of key if it is held in this process, on a connection.
func (s *SQL) holder(key string) *held {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.turns[key]; t != nil && t.held != nil && t.held.conn != nil {
		return t.held
	}
	return nil
}

func (s *SQL) lock(ctx context.Context, key string) (unlock func(), err error) {
	if err := checkSQLKey(key); err != nil {
		return nil, err
	}
	s.mu.Lock()
	t := s.turns[key]
	if t == nil {
		t = &turn{taken: make(chan none, 1)}
		s.turns[key] = t
	}
	t.users++
	s.mu.Unlock()
	leave := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if t.users--; t.users == 0 {
			delete(s.turns, key)
		}
	}

	if err := enter(ctx, t.taken); err != nil {
		leave()
		return nil, failed(ctx, "lock", err, false)
	}
	h, err := promptly(ctx, func(h *held, err error) {
		if err == nil {
			h.giveBack()
		}
	}, func() (*held, error) { return s.acquire(ctx, key) })
	if err != nil {
		<-t.taken
		leave()
		return nil, failed(ctx, "lock", err, false)
	}
	s.setHeld(t, h)
	return sync.OnceFunc(func() {
		h.giveBack()
		s.setHeld(t, nil)
		<-t.taken
		leave()
	}), nil
}

func (s *SQL) setHeld(t *turn, h *held) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.held = h
}

// held is the database's lock. It is on a connection of its own, through which
// its holder reads and writes, or, if conn is nil, in a row of SQLite's lock table.
type held struct {
	conn *sql.Conn
	// free ends the lock and leaves the connection as it was.
	free func(ctx context.Context, q querier) error

	busy chan none // holds an element while a statement runs on conn
	over error     // errLost or errReleased; for who is in busy
}

// onHeld runs f on the connection of h.
func onHeld[T any](ctx context.Context, h *held, f func(context.Context, querier) (T, error)) (T, error) {
	var none T
	if err := enter(ctx, h.busy); err != nil {
		return none, err
	}
	return promptly(ctx, nil, func() (T, error) {
		defer h.leave()
		if h.over != nil {
			return none, h.over
		}
		// To end a statement drivers close the connection. A caller who gives
		// up must not end the lock with it, which may be another's.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), statementLimit)
		defer cancel()
		v, err := f(ctx, h.conn)
		if err != nil {
			h.over = errLost
			discard(h.conn)
			return none, &lostError{err}
		}
		return v, nil
	})
}

func (h *held) leave() { <-h.busy }

// lostError is a statement that failed, and so ended the lock.
type lostError struct{ cause error }

func (e *lostError) Error() string { return errLost.Error() + ": " + e.cause.Error() }
func (e *lostError) Unwrap() error { return e.cause }

// giveBack ends the lock, at the latest by closing its connection.
func (h *held) giveBack() {
	ctx, cancel := context.WithTimeout(context.Background(), releaseLimit)
	defer cancel()
	if enter(ctx, h.busy) != nil { // a statement hangs; it ends by itself
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

// end is called once, by who is in busy.
func (h *held) end(ctx context.Context) {
	defer h.leave()
	over := h.over
	h.over = errReleased
	switch {
	case over != nil: // discarded
	case h.conn == nil:
		_ = h.free(ctx, nil) // or it ends by its time
	case h.free(ctx, h.conn) == nil:
		_ = h.conn.Close() // back to the pool
	default:
		discard(h.conn)
	}
}

// discard closes the connection to the database, and all locks with it.
func discard(c *sql.Conn) {
	_ = c.Raw(func(any) error { return driver.ErrBadConn })
	_ = c.Close()
}

func (s *SQL) acquire(ctx context.Context, key string) (*held, error) {
	if s.dialect == SQLite {
		return s.lockRow(ctx, key)
	}
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	var free func(context.Context, querier) error
	if s.dialect == PostgreSQL {
		free, err = lockPostgres(ctx, conn, s.is.postgresLock(key))
	} else {
		free, err = lockMySQL(ctx, conn, s.is.mySQLLock(key))
	}
	if err != nil {
		discard(conn) // which may have got the lock at the last moment
		return nil, err
	}
	return newHeld(conn, free), nil
}

func newHeld(conn *sql.Conn, free func(context.Context, querier) error) *held {
	return &held{conn: conn, free: free, busy: make(chan none, 1)}
}

// The lock is the session's, so it survives the commit that makes a save durable.
// The transaction goes on, so a pooler does not give the session to somebody else,
// and the server ends it if nothing is heard for too long. READ COMMITTED: what is
// read is what was committed before the statement, not before the lock was there.
var (
	postgresTimeout = fmt.Sprintf(`SET LOCAL idle_in_transaction_session_timeout = %d`, lockLifetime.Milliseconds())
	postgresBegin   = `BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; ` + postgresTimeout
	postgresCommit  = `COMMIT AND CHAIN; ` + postgresTimeout
)

// lockPostgres sends several statements at once, which drivers can do if there are
// no arguments.
func lockPostgres(ctx context.Context, conn *sql.Conn, lock string) (func(context.Context, querier) error, error) {
	if _, err := conn.ExecContext(ctx, postgresBegin+`; SELECT pg_advisory_lock(`+lock+`)`); err != nil {
		return nil, err
	}
	return func(ctx context.Context, q querier) error {
		_, err := q.ExecContext(ctx, `SELECT pg_advisory_unlock(`+lock+`); COMMIT`)
		return err
	}, nil
}

// lockMySQL waits for a second at a time: not every driver tells the server that
// its client gave up, and until then the server keeps the wait.
func lockMySQL(ctx context.Context, conn *sql.Conn, lock string) (func(context.Context, querier) error, error) {
	_, err := conn.ExecContext(ctx, fmt.Sprintf(`SET @shangcloud_wait_timeout = @@SESSION.wait_timeout, SESSION wait_timeout = %d`, int(lockLifetime.Seconds())))
	if err != nil {
		return nil, err
	}
	for {
		var got sql.NullInt64
		if err := conn.QueryRowContext(ctx, `SELECT GET_LOCK(`+lock+`, 1)`).Scan(&got); err != nil {
			return nil, err
		}
		if !got.Valid {
			return nil, errGetLock
		}
		if got.Int64 == 1 {
			break
		}
	}
	return func(ctx context.Context, q querier) error {
		var freed sql.NullInt64
		if err := q.QueryRowContext(ctx, `SELECT RELEASE_LOCK(`+lock+`)`).Scan(&freed); err != nil {
			return err
		}
		if freed.Int64 != 1 {
			return errLost
		}
		_, err := q.ExecContext(ctx, `SET SESSION wait_timeout = @shangcloud_wait_timeout`)
		return err
	}, nil
}

// lockRow claims the row of key in SQLite's lock table, when nobody has it or its
// time is over. All who share a file share the machine's clock.
func (s *SQL) lockRow(ctx context.Context, key string) (*held, error) {
	owner := rand.Text()
	free := func(ctx context.Context, _ querier) error {
		// The file may be busy for longer than anybody wants to wait for this.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lockLifetime)
		defer cancel()
		_, err := s.exec(ctx, s.is.release, []byte(key), owner)
		return err
	}
	for pause := sqldb.FirstPause; ; pause = min(2*pause, sqldb.LongestPause) {
		claimed, err := s.claimRow(ctx, key, owner)
		switch {
		case err != nil:
			newHeld(nil, free).giveBack() // it may have been claimed at the last moment
			return nil, err
		case claimed:
			return newHeld(nil, free), nil
		}
		if !sqldb.Rest(ctx, pause) {
			return nil, ctx.Err()
		}
	}
}

func (s *SQL) claimRow(ctx context.Context, key, owner string) (bool, error) {
	// Looking costs less than trying: it does not keep a writer from writing.
	taken, err := repeat(ctx, s, func(ctx context.Context, q querier) (n int, err error) {
		err = q.QueryRowContext(ctx, s.is.claimed, []byte(key)).Scan(&n)
		return n, err
	})
	if err != nil || taken > 0 {
		return false, err
	}
	res, err := s.exec(ctx, s.is.claim, []byte(key), owner)
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n > 0, err
}
