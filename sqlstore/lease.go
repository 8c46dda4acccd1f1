package sqlstore

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"
)

// clockStep is how far in the future a lease may begin, because the clock may be set
// back. A lease that begins later counts as ended.
const clockStep = time.Minute

// maxLeaseAge is how old a lease may be when its holder gets it. The time of a lease
// starts with its SQL statement, which may take seconds on a busy disk. An older lease is
// given back, because it would end before its holder expects.
const maxLeaseAge = 2 * time.Second

// sqliteLease sets the statements of SQLite's lock, and returns the statement that
// creates its table. SQLite has no lock that ends with a connection. So a row says who
// has the lock and until when. All processes that share a file use the clock of the same
// machine.
func (s *tokenStatements) sqliteLease(name tableName) (create string) {
	locks := name.quoted(SQLite, "_lock")
	// The statement itself reads the clock, because the call may have waited for other
	// writers.
	leased := fmt.Sprintf(`until > %s AND since <= %s + %d`, sqliteNow, sqliteNow, clockStep.Milliseconds())
	s.leased = `SELECT COUNT(*) FROM ` + locks + ` WHERE user_key = ? AND ` + leased
	s.lease = `INSERT INTO ` + locks + ` (user_key, owner, since, until) VALUES (?, ?, ` + sqliteNow + `, ` + sqliteNow + ` + ?) ` +
		`ON CONFLICT (user_key) DO UPDATE SET owner = excluded.owner, since = excluded.since, until = excluded.until ` +
		`WHERE NOT (` + leased + `)`
	s.release = `DELETE FROM ` + locks + ` WHERE user_key = ? AND owner = ?`
	return `CREATE TABLE IF NOT EXISTS ` + locks + ` (
	user_key BLOB NOT NULL PRIMARY KEY,
	owner    TEXT NOT NULL,
	since    INTEGER NOT NULL,
	until    INTEGER NOT NULL
)`
}

// tryLease tries to lock key in SQLite. It returns nil if another process holds the
// lock.
func (s *Tokens) tryLease(ctx context.Context, key string, hold time.Duration) (*held, error) {
	// A read costs less than an attempt to lock, and does not block writers.
	n, err := read(ctx, s.table, func() (n int, err error) {
		err = s.table.db.QueryRowContext(ctx, s.stmts.leased, []byte(key)).Scan(&n)
		return n, err
	})
	if err != nil || n > 0 {
		return nil, err
	}
	owner := rand.Text()
	h := &held{busy: make(chan none, 1), free: func(ctx context.Context) error {
		// The file may be busy for longer than unlock waits.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hold)
		defer cancel()
		_, err := s.table.exec(ctx, s.stmts.release, []byte(key), owner)
		return err
	}}
	var sent time.Time
	got, err := write(ctx, s.table, func() (int64, error) {
		sent = time.Now()
		res, err := s.table.db.ExecContext(ctx, s.stmts.lease, []byte(key), owner, units(hold, time.Millisecond))
		if err != nil {
			return 0, err
		}
		return res.RowsAffected()
	})
	switch {
	case err != nil:
		h.giveBack() // it may have got the lock at the last moment
		return nil, err
	case got == 0:
		return nil, nil
	case time.Since(sent) > maxLeaseAge:
		h.giveBack()
		return nil, nil
	}
	return h, nil
}
