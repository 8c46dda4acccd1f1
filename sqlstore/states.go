package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
)

const (
	// Every hundredth Put (sweepPuts) removes at most sweepRows expired rows. sweepRows is
	// greater than sweepPuts, so that the number of expired rows decreases. It is small,
	// so that a sweep is fast.
	sweepPuts  = 100
	sweepRows  = 400
	sweepLimit = time.Second
)

// States is a [state.Store] in a table of a database. It is safe for concurrent use, by
// any number of processes.
//
// A login costs one statement when it starts and one when the browser returns. With
// [MySQL], Take is a transaction of two statements, because MySQL can't delete and return
// a row in one statement. Rows expire by the database's clock. Every hundredth Put of a
// process removes expired rows. A call without a deadline ends after 10 seconds.
//
// While the database is down, every call is an error. Take also returns an error if its
// outcome is unknown. The login is then refused, and the user has to start again. See
// docs/sql.md.
type States struct {
	table *table
	stmts stateStatements
	puts  atomic.Uint64
}

var _ state.Store = (*States)(nil)

// NewStates returns a store in a table of db. It does not connect, and it never closes
// db. All processes must use the server that accepts writes, not a replica.
func NewStates(db *sql.DB, dialect Dialect, c Config) (*States, error) {
	t, err := newTable(db, dialect, c, "states")
	if err != nil {
		return nil, err
	}
	s := &States{table: t}
	s.stmts, t.create = newStateStatements(dialect, t.name)
	// The counter starts at a random number, so that short-lived processes also remove
	// expired rows.
	s.puts.Store(rand.Uint64N(sweepPuts))
	return s, nil
}

// Format prints the dialect and the table, whatever the verb.
func (s *States) Format(f fmt.State, _ rune) {
	var t *table
	if s != nil {
		t = s.table
	}
	t.format(f, "States")
}

// Schema returns the statements that create the table and its index, each ending with
// a semicolon and a line feed, for applications that manage their schema themselves.
// The columns are
//
//   - state_key, the bytes of the key, compared byte for byte;
//   - value, what the login has to remember;
//   - expires_at, by the database's clock: milliseconds since 1970 in SQLite, UTC in
//     MySQL and MariaDB.
func (s *States) Schema() string { return s.table.schema() }

// CreateTable creates the table and its index unless they exist. The database user
// needs the right to do so. Several processes may call it at the same time.
func (s *States) CreateTable(ctx context.Context) error { return s.table.createTable(ctx) }

// Put implements [state.Store]. A key has 1 to [MaxKey] bytes, which may have any value.
// Put returns an error for other keys. The time to live is rounded up to microseconds, in
// SQLite to milliseconds.
func (s *States) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if err := s.table.checkKey("key", key); err != nil {
		return err
	}
	ctx, cancel := limited(ctx)
	defer cancel()
	var err error
	if ttl <= 0 {
		_, err = s.table.exec(ctx, s.stmts.delete, []byte(key))
	} else {
		// value is copied, because a driver that ignores ctx may still read the slice
		// after Put has returned.
		stored := append([]byte{}, value...)
		_, err = s.table.exec(ctx, s.stmts.put, []byte(key), stored, units(ttl, s.stmts.unit))
	}
	if err != nil {
		return s.table.failed(ctx, "put", err, true)
	}
	if s.puts.Add(1)%sweepPuts == 0 {
		ctx, cancel := context.WithTimeout(ctx, sweepLimit)
		defer cancel()
		_, _ = s.table.exec(ctx, s.stmts.sweep, sweepRows) // an error does not matter: the value has been stored
	}
	return nil
}

// takenRow is a row that Take has removed.
type takenRow struct {
	value []byte
	found bool // false if the row had expired
}

// Take implements [state.Store]. Like Put, it accepts keys of 1 to [MaxKey] bytes.
func (s *States) Take(ctx context.Context, key string) (value []byte, found bool, err error) {
	if err := s.table.checkKey("key", key); err != nil {
		return nil, false, err
	}
	ctx, cancel := limited(ctx)
	defer cancel()
	take := s.takeRow
	if s.table.dialect == MySQL {
		take = s.takeInTransaction
	}
	row, err := write(ctx, s.table, func() (takenRow, error) {
		row, err := take(ctx, []byte(key))
		if errors.Is(err, sql.ErrNoRows) {
			return takenRow{}, nil
		}
		return row, err
	})
	if err != nil {
		return nil, false, s.table.failed(ctx, "take", err, true)
	}
	if !row.found {
		return nil, false, nil
	}
	return row.value, true, nil
}

// takeRow deletes and returns a row with one statement.
func (s *States) takeRow(ctx context.Context, key []byte) (row takenRow, err error) {
	err = s.table.db.QueryRowContext(ctx, s.stmts.take, key).Scan(&row.value, &row.found)
	return row, err
}

// takeInTransaction does the same as takeRow, for MySQL. It locks the row while it reads
// the row. So if two transactions take the same row, the second finds nothing. At READ
// COMMITTED, the search for a missing row locks no gap. Such a lock would block the
// inserts of others.
func (s *States) takeInTransaction(ctx context.Context, key []byte) (row takenRow, err error) {
	tx, err := s.table.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return takenRow{}, err
	}
	defer tx.Rollback()
	if err := tx.QueryRowContext(ctx, s.stmts.take, key).Scan(&row.value, &row.found); err != nil {
		return takenRow{}, err
	}
	if _, err := tx.ExecContext(ctx, s.stmts.delete, key); err != nil {
		return takenRow{}, err
	}
	return row, tx.Commit()
}

// DeleteExpired removes all expired rows, in batches of some hundreds, and returns their
// number. Call it periodically if expired rows should also be removed while nobody logs
// in.
func (s *States) DeleteExpired(ctx context.Context) (int64, error) {
	ctx, cancel := limited(ctx)
	defer cancel()
	for total := int64(0); ; {
		n, err := s.table.exec(ctx, s.stmts.sweep, sweepRows)
		if err != nil {
			return total, s.table.failed(ctx, "delete expired", err, true)
		}
		if total += n; n < sweepRows {
			return total, nil
		}
	}
}

// stateStatements are the SQL statements of States.
type stateStatements struct {
	put, delete, sweep string
	take               string        // returns the value, and whether it has not expired
	unit               time.Duration // of the time to live
}

func newStateStatements(d Dialect, name tableName) (s stateStatements, create []string) {
	s.unit = time.Microsecond
	t := name.quoted(d, "")
	switch d {
	case PostgreSQL:
		create = []string{
			`CREATE TABLE IF NOT EXISTS ` + t + ` (
	state_key  bytea PRIMARY KEY,
	value      bytea NOT NULL,
	expires_at timestamptz NOT NULL
)`,
			`CREATE INDEX IF NOT EXISTS ` + name.unqualified().quoted(d, "_exp") + ` ON ` + t + ` (expires_at)`,
		}
		s.put = `INSERT INTO ` + t + ` (state_key, value, expires_at) ` +
			`VALUES ($1, $2, clock_timestamp() + $3::bigint * interval '1 microsecond') ` +
			`ON CONFLICT (state_key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at`
		s.delete = `DELETE FROM ` + t + ` WHERE state_key = $1`
		s.take = s.delete + ` RETURNING value, expires_at > clock_timestamp()`
		// PostgreSQL can use the index with now(), the time at which the transaction
		// began, but not with clock_timestamp(). SKIP LOCKED leaves rows to the process
		// that is already removing them.
		s.sweep = `DELETE FROM ` + t + ` WHERE ctid = ANY (ARRAY(SELECT ctid FROM ` + t +
			` WHERE expires_at <= now() ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED))`
	case MySQL, MariaDB:
		create = []string{`CREATE TABLE IF NOT EXISTS ` + t + ` (
	state_key  varbinary(255) NOT NULL PRIMARY KEY,
	value      mediumblob NOT NULL,
	expires_at datetime(6) NOT NULL,
	INDEX ` + name.unqualified().quoted(d, "_exp") + ` (expires_at)
) ENGINE=InnoDB`}
		s.put = `REPLACE INTO ` + t + ` (state_key, value, expires_at) ` +
			`VALUES (?, ?, UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND)`
		s.delete = `DELETE FROM ` + t + ` WHERE state_key = ?`
		s.take = s.delete + ` RETURNING value, expires_at > UTC_TIMESTAMP(6)`
		if d == MySQL {
			s.take = `SELECT value, expires_at > UTC_TIMESTAMP(6) FROM ` + t + ` WHERE state_key = ? FOR UPDATE`
		}
		s.sweep = `DELETE FROM ` + t + ` WHERE expires_at <= UTC_TIMESTAMP(6) ORDER BY expires_at LIMIT ?`
	case SQLite:
		s.unit = time.Millisecond
		create = []string{
			`CREATE TABLE IF NOT EXISTS ` + t + ` (
	state_key  BLOB NOT NULL PRIMARY KEY,
	value      BLOB NOT NULL,
	expires_at INTEGER NOT NULL
)`,
			`CREATE INDEX IF NOT EXISTS ` + name.quoted(d, "_exp") + ` ON ` + name.unqualified().quoted(d, "") + ` (expires_at)`,
		}
		s.put = `INSERT INTO ` + t + ` (state_key, value, expires_at) VALUES (?, ?, ` + sqliteNow + ` + ?) ` +
			`ON CONFLICT (state_key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at`
		s.delete = `DELETE FROM ` + t + ` WHERE state_key = ?`
		s.take = s.delete + ` RETURNING value, expires_at > ` + sqliteNow
		s.sweep = `DELETE FROM ` + t + ` WHERE rowid IN (SELECT rowid FROM ` + t +
			` WHERE expires_at <= ` + sqliteNow + ` ORDER BY expires_at LIMIT ?)`
	}
	return s, create
}
