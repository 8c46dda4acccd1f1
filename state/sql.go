package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/sqldb"
)

// Dialect is a kind of database.
type Dialect = sqldb.Dialect

// The dialects, and how they take a state.
const (
	// PostgreSQL is version 12 and newer, through any driver. DELETE … RETURNING.
	PostgreSQL = sqldb.PostgreSQL

	// MariaDB is version 10.5 and newer. DELETE … RETURNING.
	MariaDB = sqldb.MariaDB

	// MySQL is version 5.7 and newer. It can't do that: a transaction locks the
	// row, reads it and deletes it. MariaDB understands that too.
	MySQL = sqldb.MySQL

	// SQLite is version 3.35 and newer, in a file on a local disk. DELETE … RETURNING.
	SQLite = sqldb.SQLite
)

const (
	// DefaultTable is the table of a [SQL] that was not given one.
	DefaultTable = "shangcloud_states"

	// MaxSQLKey is the length of the longest key of a [SQL], in bytes.
	MaxSQLKey = sqldb.MaxKey

	// Every sweepPuts-th Put removes at most sweepRows expired rows: more than
	// were put since, so that they get fewer, and few enough not to be noticed.
	sweepPuts  = 100
	sweepRows  = 400
	sweepLimit = time.Second

	// retries is how often a transaction that the database has rolled back, for a
	// conflict with another one, is tried again.
	retries = 5
)

// SQLConfig is what [NewSQL] makes a [SQL] from, besides the database. Its zero
// value is good.
type SQLConfig struct {
	// Table is the name of the table, or of its schema and the table with a dot
	// in between: lower-case letters, digits and '_', not beginning with a digit,
	// 58 at most of each. If empty, DefaultTable.
	Table string
}

// SQL is a [Store] in one table of a database that several machines share. It is
// made by [NewSQL] and safe for concurrent use, by any number of machines.
//
//	db, err := sql.Open("pgx", dsn)
//	states, err := state.NewSQL(db, state.PostgreSQL, state.SQLConfig{})
//	err = states.CreateTable(ctx) // or run what states.Schema() returns yourself
//	…
//	provider, err := shangcloud.New(shangcloud.Config{States: states, …})
//
// # The database
//
// The application chooses the driver; any for database/sql will do that obeys
// contexts and does not report driver.ErrBadConn for a statement that may have been
// carried out, as pgx, go-sql-driver/mysql and modernc.org/sqlite do. Its user needs
// SELECT, INSERT, UPDATE and DELETE on the table. All machines use the same table on the
// server that writes: a replica lags behind. A pooler like PgBouncer may pool
// transactions. Entries expire by the database's clock.
//
// # What a login costs
//
// One statement when it starts and one when it comes back; with the dialect MySQL,
// the second is a transaction of two statements, in five round trips. A row is about
// 300 bytes.
//
// # Expired rows
//
// Those of logins that nobody finished are removed as others start: every hundredth
// Put of a process removes up to 400 of them, found by an index. Who wants them gone
// although nobody logs in calls [SQL.DeleteExpired] now and then. There is no
// goroutine behind a SQL.
//
// # When the database is down
//
// Both calls fail, at the latest when their context ends, or after 10 seconds if it
// has no deadline. The login is refused with shangcloud.ErrStateStore, a reason to
// answer 503; it is never accepted, and never said not to be found. A Take of which
// it is not known whether it was carried out is an error as well, and the user starts
// again. When the database is back, so is the store.
type SQL struct {
	dialect Dialect
	table   sqldb.Table
	is      *statements
	puts    atomic.Uint64

	// Package fmt does not follow an atomic.Pointer: some drivers' pools know a
	// password.
	db atomic.Pointer[sql.DB]

	writing chan struct{} // holds an element while this process writes to an SQLite file
}

var _ Store = (*SQL)(nil)

// NewSQL returns a store in db, which stays the caller's to close. It does not
// connect. An error names the argument or the field that is wrong.
func NewSQL(db *sql.DB, dialect Dialect, c SQLConfig) (*SQL, error) {
	if db == nil {
		return nil, errors.New("shangcloud: NewSQL: the database is nil")
	}
	if err := dialect.Check(); err != nil {
		return nil, fmt.Errorf("shangcloud: NewSQL: %w", err)
	}
	if c.Table == "" {
		c.Table = DefaultTable
	}
	table, err := sqldb.ParseTable(c.Table)
	if err != nil {
		return nil, fmt.Errorf("shangcloud: SQLConfig.Table: %w", err)
	}
	s := &SQL{dialect: dialect, table: table, is: newStatements(dialect, table), writing: make(chan struct{}, 1)}
	s.db.Store(db)
	s.puts.Store(rand.Uint64N(sweepPuts)) // processes that end soon take part
	return s, nil
}

// Format prints s without its database, whatever the verb.
func (s *SQL) Format(f fmt.State, _ rune) {
	if s == nil {
		_, _ = io.WriteString(f, "(*state.SQL)(nil)")
		return
	}
	_, _ = fmt.Fprintf(f, "state.SQL{%v %s}", s.dialect, s.table)
}

// Schema returns the statements that make the table and its index, each ending
// with a semicolon, for those who keep their schema elsewhere. The columns are
//
//   - state_key, the bytes of the key: keys are compared byte for byte, whatever the
//     database's collation;
//   - value, what the login has to remember, the PKCE verifier among it;
//   - expires_at, by the database's clock: in SQLite milliseconds since 1970, in
//     MySQL and MariaDB in UTC.
func (s *SQL) Schema() string { return strings.Join(s.is.create, ";\n") + ";\n" }

// CreateTable makes the table and its index unless they exist. The database user
// needs the right to. Several processes may call it at the same time.
func (s *SQL) CreateTable(ctx context.Context) error {
	ctx, cancel := sqldb.Limited(ctx)
	defer cancel()
	for _, create := range s.is.create {
		if s.dialect == PostgreSQL {
			// IF NOT EXISTS fails if another session creates it at the same moment.
			create = `SELECT pg_advisory_xact_lock(7308327815838786409); ` + create
		}
		if _, err := s.exec(ctx, create); err != nil {
			return s.failed(ctx, "create table", err)
		}
	}
	return nil
}

// Put implements [Store], with a key of 1 to [MaxSQLKey] bytes of any kind; another
// one is an error. The time to live is in whole microseconds, rounded up; in
// milliseconds in SQLite.
func (s *SQL) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if err := checkSQLKey(key); err != nil {
		return err
	}
	ctx, cancel := sqldb.Limited(ctx)
	defer cancel()
	var err error
	if ttl <= 0 {
		_, err = s.exec(ctx, s.is.delete, []byte(key))
	} else {
		if value == nil {
			value = []byte{} // not NULL
		}
		_, err = s.exec(ctx, s.is.put, []byte(key), value, int64((ttl-1)/s.is.unit+1))
	}
	if err != nil {
		return s.failed(ctx, "put", err)
	}
	if s.puts.Add(1)%sweepPuts == 0 {
		ctx, cancel := context.WithTimeout(ctx, sweepLimit)
		defer cancel()
		// What fails here will fail again, where it matters.
		_, _ = s.exec(ctx, s.is.sweep, sweepRows)
	}
	return nil
}

// Take implements [Store], with keys as for Put.
func (s *SQL) Take(ctx context.Context, key string) (value []byte, found bool, err error) {
	if err := checkSQLKey(key); err != nil {
		return nil, false, err
	}
	ctx, cancel := sqldb.Limited(ctx)
	defer cancel()
	take := s.takeRow
	if s.dialect == MySQL {
		take = s.takeInTransaction
	}
	type row struct {
		value []byte
		found bool
	}
	taken, err := again(ctx, s, func() (row, error) {
		value, alive, err := take(ctx, []byte(key))
		if errors.Is(err, sql.ErrNoRows) {
			return row{}, nil
		}
		return row{value, alive}, err
	})
	if err != nil {
		return nil, false, s.failed(ctx, "take", err)
	}
	if !taken.found {
		return nil, false, nil // it is removed if it has expired
	}
	return taken.value, true, nil
}

// DeleteExpired removes the rows that have expired, in batches of some hundreds, and
// returns how many there were. To call it is up to the application: see [SQL].
func (s *SQL) DeleteExpired(ctx context.Context) (int64, error) {
	ctx, cancel := sqldb.Limited(ctx)
	defer cancel()
	for total := int64(0); ; {
		n, err := s.exec(ctx, s.is.sweep, sweepRows)
		if err != nil {
			return total, s.failed(ctx, "delete expired", err)
		}
		if total += n; n < sweepRows {
			return total, nil
		}
	}
}

// exec runs a statement that changes something, and returns how many rows it did.
func (s *SQL) exec(ctx context.Context, statement string, args ...any) (int64, error) {
	return again(ctx, s, func() (int64, error) {
		res, err := s.db.Load().ExecContext(ctx, statement, args...)
		if err != nil {
			return 0, err
		}
		return res.RowsAffected()
	})
}

// takeRow takes a row in one statement.
func (s *SQL) takeRow(ctx context.Context, key []byte) (value []byte, alive bool, err error) {
	err = s.db.Load().QueryRowContext(ctx, s.is.take, key).Scan(&value, &alive)
	return value, alive, err
}

// takeInTransaction is for MySQL. The row is locked before it is read, so that of
// two transactions the second one finds it gone. At READ COMMITTED a row that is not
// there locks nothing: no gap that others want to put into.
func (s *SQL) takeInTransaction(ctx context.Context, key []byte) (value []byte, alive bool, err error) {
	tx, err := s.db.Load().BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return nil, false, err
	}
	defer tx.Rollback()
	if err := tx.QueryRowContext(ctx, s.is.take, key).Scan(&value, &alive); err != nil {
		return nil, false, err
	}
	if _, err := tx.ExecContext(ctx, s.is.delete, key); err != nil {
		return nil, false, err
	}
	return value, alive, tx.Commit()
}

// again runs f, and runs it again if the database says that it has rolled back all
// of it. SQLite has one writer at a time: those of a process line up, or they would
// find the file busy.
func again[T any](ctx context.Context, s *SQL, f func() (T, error)) (v T, err error) {
	if s.dialect == SQLite {
		select {
		case s.writing <- struct{}{}:
			defer func() { <-s.writing }()
		case <-ctx.Done():
			return v, ctx.Err()
		}
	}
	for try := 0; ; try++ {
		v, err = sqldb.Repeat(ctx, s.dialect, f)
		if err == nil || try == retries || !sqldb.RolledBack(err) || ctx.Err() != nil {
			return v, err
		}
	}
}

// failed explains err. Statements have secrets among their arguments.
func (s *SQL) failed(ctx context.Context, op string, err error) error {
	return sqldb.Failed(ctx, "state table", op, err, true)
}

func checkSQLKey(key string) error {
	if err := sqldb.CheckKey(key); err != nil {
		return fmt.Errorf("shangcloud: state table: the key %w", err)
	}
	return nil
}

// statements are what a [SQL] says to its database. Nothing but the checked name
// of the table is ever written into their text: keys and values are arguments.
type statements struct {
	create             []string
	put, delete, sweep string
	take               string        // returns the value, and whether it has not expired
	unit               time.Duration // of the time to live
}

func newStatements(d Dialect, table sqldb.Table) *statements {
	s := &statements{unit: time.Microsecond}
	t, index := table.Quoted(d, ""), sqldb.Table{Name: table.Name}.Quoted(d, "_exp")
	switch d {
	case PostgreSQL:
		s.create = []string{
			`CREATE TABLE IF NOT EXISTS ` + t + ` (
	state_key  bytea PRIMARY KEY,
	value      bytea NOT NULL,
	expires_at timestamptz NOT NULL
)`,
			`CREATE INDEX IF NOT EXISTS ` + index + ` ON ` + t + ` (expires_at)`,
		}
		s.put = `INSERT INTO ` + t + ` (state_key, value, expires_at) ` +
			`VALUES ($1, $2, clock_timestamp() + $3::bigint * interval '1 microsecond') ` +
			`ON CONFLICT (state_key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at`
		s.delete = `DELETE FROM ` + t + ` WHERE state_key = $1`
		s.take = s.delete + ` RETURNING value, expires_at > clock_timestamp()`
		// now() is that of the statement's beginning and, other than
		// clock_timestamp(), can be looked up in an index. Rows that another
		// process is removing are left to it.
		s.sweep = `DELETE FROM ` + t + ` WHERE ctid = ANY (ARRAY(SELECT ctid FROM ` + t +
			` WHERE expires_at <= now() ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED))`
	case MySQL, MariaDB:
		s.create = []string{`CREATE TABLE IF NOT EXISTS ` + t + ` (
	state_key  varbinary(255) NOT NULL PRIMARY KEY,
	value      mediumblob NOT NULL,
	expires_at datetime(6) NOT NULL,
	INDEX ` + index + ` (expires_at)
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
		const now = `CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)` // Unix milliseconds
		s.unit = time.Millisecond
		s.create = []string{
			`CREATE TABLE IF NOT EXISTS ` + t + ` (
	state_key  BLOB NOT NULL PRIMARY KEY,
	value      BLOB NOT NULL,
	expires_at INTEGER NOT NULL
)`,
			`CREATE INDEX IF NOT EXISTS ` + table.Quoted(d, "_exp") + ` ON ` + sqldb.Table{Name: table.Name}.Quoted(d, "") + ` (expires_at)`,
		}
		s.put = `INSERT INTO ` + t + ` (state_key, value, expires_at) VALUES (?, ?, ` + now + ` + ?) ` +
			`ON CONFLICT (state_key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at`
		s.delete = `DELETE FROM ` + t + ` WHERE state_key = ?`
		s.take = s.delete + ` RETURNING value, expires_at > ` + now
		s.sweep = `DELETE FROM ` + t + ` WHERE rowid IN (SELECT rowid FROM ` + t +
			` WHERE expires_at <= ` + now + ` ORDER BY expires_at LIMIT ?)`
	}
	return s
}
