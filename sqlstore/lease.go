package sqlstore

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"
)

// clockStep limits how far in the future a lease may begin. After the clock is set back,
// the beginning of an existing lease is in the future. If the beginning is more than
// clockStep ahead, the lease counts as ended.
const clockStep = time.Minute

// maxLeaseAge is the longest time that the statement for a lease may take. The lifetime of
// the lease begins during the statement, which may take seconds on a busy disk. If the
// statement takes longer than maxLeaseAge, LockToken gives the lease back, because the
// lease would end too early for its holder.
const maxLeaseAge = 2 * time.Second

// sqliteLease sets the statements of SQLite's lock, and returns the statement that creates
// its table. SQLite has no lock that ends with a connection. So a row in a table contains
// the holder of the lock and the end of the lock. All processes that share a file use the
// clock of the same machine.
func (s *tokenStatements) sqliteLease(name tableName) (create string) {
	locks := name.quoted(SQLite, "_lock")
	// The statements read the clock themselves. If the time were an argument, it could be
	// outdated, because the call may have waited for other writers.
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
	// Reading first is cheaper than trying to write the lease, and does not block writers.
	n, err := read(ctx, s.table, func() (n int, err error) {
		err = s.table.db.QueryRowContext(ctx, s.stmts.leased, []byte(key)).Scan(&n)
		return n, err
	})
	if err != nil || n > 0 {
		return nil, err
	}
	owner := rand.Text()
	h := &held{busy: make(chan none, 1), free: func(ctx context.Context) error {
		// The deletion may continue after unlock has returned, because the file may be
		// busy for longer than unlock waits.
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
		h.giveBack() // the statement may have written the lease in spite of the error
		return nil, err
	case got == 0:
		return nil, nil
	case time.Since(sent) > maxLeaseAge:
		h.giveBack()
		return nil, nil
	}
	return h, nil
}
