package tokenstore

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/sqldb"
)

// Dialect is a kind of database.
type Dialect = sqldb.Dialect

const (
	// PostgreSQL is version 12 and newer, through any driver: pgx and lib/pq,
	// say. A connection pooler in between, PgBouncer for one, may pool
	// transactions; pooling single statements will not do.
	PostgreSQL = sqldb.PostgreSQL

	// MySQL is MySQL 5.7 and newer, and MariaDB 10.2 and newer. Of a cluster
	// with several nodes that write (Galera, group replication), all
	// processes must use the same node: others do not see the lock.
	MySQL = sqldb.MySQL

	// MariaDB is the same as MySQL here. For login states it is not.
	MariaDB = sqldb.MariaDB

	// SQLite is version 3.24 and newer, in a file on a local disk.
	SQLite = sqldb.SQLite
)

// statements are what a [SQL] says to its database. Nothing but the checked name
// of the table is ever written into their text: keys and tokens are arguments.
type statements struct {
	create             []string
	load, save, delete string

	claimed, claim, release string // SQLite's lock

	dialect Dialect
	table   sqldb.Table
}

func newStatements(d Dialect, table sqldb.Table) *statements {
	s := &statements{dialect: d, table: table}
	switch d {
	case PostgreSQL:
		s.postgreSQL()
	case MySQL:
		s.mySQL()
	case SQLite:
		s.sqLite()
	}
	return s
}

func (s *statements) postgreSQL() {
	t := s.table.Quoted(s.dialect, "")
	s.create = []string{`CREATE TABLE IF NOT EXISTS ` + t + ` (
	user_key   bytea PRIMARY KEY,
	token      bytea NOT NULL,
	updated_at timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP
)`}
	s.load = `SELECT token FROM ` + t + ` WHERE user_key = $1`
	s.save = `INSERT INTO ` + t + ` (user_key, token) VALUES ($1, $2) ` +
		`ON CONFLICT (user_key) DO UPDATE SET token = excluded.token, updated_at = CURRENT_TIMESTAMP`
	s.delete = `DELETE FROM ` + t + ` WHERE user_key = $1`
}

func (s *statements) mySQL() {
	t := s.table.Quoted(s.dialect, "")
	s.create = []string{`CREATE TABLE IF NOT EXISTS ` + t + ` (
	user_key   varbinary(255) NOT NULL PRIMARY KEY,
	token      mediumblob NOT NULL,
	updated_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP
) ENGINE=InnoDB`}
	s.load = `SELECT token FROM ` + t + ` WHERE user_key = ?`
	// The token is sent twice: MySQL and MariaDB have no common way to refer to it.
	s.save = `INSERT INTO ` + t + ` (user_key, token) VALUES (?, ?) ` +
		`ON DUPLICATE KEY UPDATE token = ?, updated_at = CURRENT_TIMESTAMP`
	s.delete = `DELETE FROM ` + t + ` WHERE user_key = ?`
}

func (s *statements) sqLite() {
	t, locks := s.table.Quoted(s.dialect, ""), s.table.Quoted(s.dialect, "_lock")
	s.create = []string{
		`CREATE TABLE IF NOT EXISTS ` + t + ` (
	user_key   BLOB NOT NULL PRIMARY KEY,
	token      BLOB NOT NULL,
	updated_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
)`,
		`CREATE TABLE IF NOT EXISTS ` + locks + ` (
	user_key BLOB NOT NULL PRIMARY KEY,
	owner    TEXT NOT NULL,
	until    INTEGER NOT NULL
)`,
	}
	s.load = `SELECT token FROM ` + t + ` WHERE user_key = ?`
	s.save = `INSERT INTO ` + t + ` (user_key, token) VALUES (?, ?) ` +
		`ON CONFLICT (user_key) DO UPDATE SET token = excluded.token, updated_at = CURRENT_TIMESTAMP`
	s.delete = `DELETE FROM ` + t + ` WHERE user_key = ?`
	// The time is that of the statement, not of the call: it may have waited for
	// others to finish writing. An end further ahead than a lock can last is from
	// before the clock was set back, by more than a minute.
	const now = `CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)` // Unix milliseconds
	taken := fmt.Sprintf(`until > %s AND until <= %s + %d`, now, now, (lockLifetime + time.Minute).Milliseconds())
	s.claimed = `SELECT COUNT(*) FROM ` + locks + ` WHERE user_key = ? AND ` + taken
	s.claim = fmt.Sprintf(`INSERT INTO %s (user_key, owner, until) VALUES (?, ?, %s + %d) `, locks, now, lockLifetime.Milliseconds()) +
		`ON CONFLICT (user_key) DO UPDATE SET owner = excluded.owner, until = excluded.until WHERE NOT (` + taken + `)`
	s.release = `DELETE FROM ` + locks + ` WHERE user_key = ? AND owner = ?`
}

// lockHash is what a user's lock is known by to the database. That two users
// share one is a matter of 2⁻⁶⁴ and would make them wait for each other, no more.
func (s *statements) lockHash(key string) []byte {
	h := sha256.Sum256([]byte(s.table.Name + "\x00" + key))
	return h[:]
}

// postgresLock is an expression for the number of a user's lock. The table's own
// number is part of it: tables in several schemas do not share locks.
func (s *statements) postgresLock(key string) string {
	return fmt.Sprintf(`'%d'::bigint # '%s'::regclass::oid::bigint`,
		int64(binary.BigEndian.Uint64(s.lockHash(key))), s.table.Quoted(s.dialect, ""))
}

// mySQLLock is an expression for the name of a user's lock, of 56 characters; 64
// are allowed. Names are the whole server's, hence the database's among them.
func (s *statements) mySQLLock(key string) string {
	database := `LOWER(COALESCE(DATABASE(), ''))`
	if s.table.Schema != "" {
		database = `'` + s.table.Schema + `'`
	}
	return fmt.Sprintf(`SHA2(CONCAT('shangcloud.', %s, '.%s'), 224)`, database, hex.EncodeToString(s.lockHash(key)))
}
