package tokenstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/sqldb"
	"golang.org/x/oauth2"
)

const (
	// MaxSQLKey is the length of the longest user key of a [SQL], in bytes.
	MaxSQLKey = sqldb.MaxKey

	// DefaultTable is the table of a [SQL] that was not given one.
	DefaultTable = "shangcloud_tokens"
)

// SQLConfig is what [NewSQL] makes a [SQL] from, besides the database. Its zero
// value is good. It prints and marshals without its keys.
type SQLConfig struct {
	// Table is the name of the table, or of its schema and the table with a dot
	// in between: lower-case letters, digits and '_', not beginning with a digit,
	// 58 at most of each. If empty, DefaultTable.
	//
	// An encrypted token opens only in a table of the name that it was saved in.
	// The schema does not count.
	Table string

	// Keys encrypt the tokens, with AES-256-GCM. Each is 32 random bytes, kept
	// where a copy of the database is not. The first one encrypts, all of them
	// decrypt. If there are none, tokens are stored as JSON: whoever sees the
	// table, or a backup of it, can use them.
	//
	// To replace a key, first add the new one at the end, everywhere; then move
	// it to the front; then, when every token has been refreshed, remove the old
	// one. A token under a key that is not there cannot be loaded.
	Keys [][]byte `json:"-"`

	// ReadPlaintext accepts tokens that are not encrypted, although there are
	// Keys: those from before the table was encrypted. They are encrypted as
	// they are refreshed; then turn this off. As long as it is on, whoever can
	// write to the table can exchange a user's token for one of their own.
	ReadPlaintext bool
}

// Format prints c without its keys, whatever the verb.
func (c SQLConfig) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "tokenstore.SQLConfig{Table:%q Keys:%d ReadPlaintext:%t}", c.Table, len(c.Keys), c.ReadPlaintext)
}

// SQL keeps the tokens of all users in one table, a row for each, and is made by
// [NewSQL]. It is safe for concurrent use, by any number of processes.
//
//	db, err := sql.Open("pgx", dsn)
//	tokens, err := tokenstore.NewSQL(db, tokenstore.PostgreSQL, tokenstore.SQLConfig{Keys: keys})
//	err = tokens.CreateTable(ctx) // or run what tokens.Schema() returns yourself
//	…
//	src := provider.TokenSource(nil, tokens.User("10001"))
//
// # The database
//
// The application chooses the driver; any for database/sql will do. Its user
// needs SELECT, INSERT, UPDATE and DELETE on the table, in SQLite on the lock
// table too, and nothing for the lock. All processes use the same table, on the
// server that writes: a replica lags behind and knows no locks.
//
// # The lock
//
// It is the database's own and ends with its holder's connection: a process that
// is killed holds nobody up. If the holder falls silent instead, because its
// machine lost power or the network, the database ends the connection, and so the
// lock, after 20 seconds.
//
//   - PostgreSQL: a session's advisory lock, inside of a transaction that stays
//     open (READ COMMITTED, without a snapshot while it waits), so that a pooler
//     like PgBouncer keeps the connection together.
//   - MySQL and MariaDB: GET_LOCK, with wait_timeout lowered while it is held.
//   - SQLite has no such lock. A row in a table of its own says who holds it and
//     until when, 20 seconds at most; others look for it every 5 to 100 ms. A
//     process that was killed holds the others up for the rest of its 20 seconds.
//
// In PostgreSQL and MySQL a lock takes one connection of the pool while it is held:
// for a load, a refresh at the platform, and a save. What its holder loads and
// saves goes through that connection, so a pool of one connection is enough. Of
// the callers in one process one at a time asks the database for a user's lock;
// the others wait for it without a connection.
//
// A connection that breaks between load and save ends the lock early: if another
// process then refreshes the same token, before this one has saved its new one,
// the platform sees a refresh token twice.
//
// # What a call costs
//
// LoadToken and SaveToken are one statement. A refresh is five round trips in
// PostgreSQL (begin and lock, load, save, commit, unlock), six in MySQL, four in
// SQLite. While a token is not due, a [shangcloud.TokenSource] asks nothing.
//
// # When the database is down
//
// Calls fail, at the latest when their context ends, or after 10 seconds if it has
// no deadline. A TokenSource goes on with the token that it has until that expires,
// and then reports [shangcloud.ErrTokenStore]. A new token that could not be saved is
// kept and saved later.
type SQL struct {
	db      *sql.DB
	dialect Dialect
	is      *statements
	sealer  *sealer
	writing chan none // holds an element while this process writes to an SQLite file

	mu    sync.Mutex
	turns map[string]*turn // of user keys whose lock somebody here holds or waits for
}

// NewSQL returns a store in db, which stays the caller's to close. It does not
// connect. An error names the argument or the field that is wrong, and no key.
func NewSQL(db *sql.DB, dialect Dialect, c SQLConfig) (*SQL, error) {
	if db == nil {
		return nil, errors.New("shangcloud: NewSQL: the database is nil")
	}
	if err := dialect.Check(); err != nil {
		return nil, fmt.Errorf("shangcloud: NewSQL: %w", err)
	}
	if dialect == MariaDB {
		dialect = MySQL
	}
	if c.Table == "" {
		c.Table = DefaultTable
	}
	table, err := sqldb.ParseTable(c.Table)
	if err != nil {
		return nil, fmt.Errorf("shangcloud: SQLConfig.Table: %w", err)
	}
	sealer, err := newSealer(c.Keys, c.ReadPlaintext)
	if err != nil {
		return nil, fmt.Errorf("shangcloud: SQLConfig.Keys: %w", err)
	}
	return &SQL{
		db: db, dialect: dialect, is: newStatements(dialect, table), sealer: sealer,
		writing: make(chan none, 1), turns: make(map[string]*turn),
	}, nil
}

// Format prints s without its keys, whatever the verb.
func (s *SQL) Format(f fmt.State, _ rune) {
	if s == nil {
		_, _ = io.WriteString(f, "(*tokenstore.SQL)(nil)")
		return
	}
	_, _ = fmt.Fprintf(f, "tokenstore.SQL{%v %s}", s.dialect, s.is.table)
}

// Schema returns the statements that make the table, each ending with a semicolon,
// for those who keep their schema elsewhere. The columns are
//
//   - user_key, the bytes of the user key: keys are compared byte for byte, whatever
//     the database's collation;
//   - token, encrypted or as JSON;
//   - updated_at, the time of the last save. The store does not read it. The row of
//     a login that is no longer used can be found, and deleted, by it.
func (s *SQL) Schema() string { return strings.Join(s.is.create, ";\n") + ";\n" }

// CreateTable makes the table unless it exists. The database user needs the right
// to. Several processes may call it at the same time.
func (s *SQL) CreateTable(ctx context.Context) error {
	ctx, cancel := sqldb.Limited(ctx)
	defer cancel()
	for _, create := range s.is.create {
		if s.dialect == PostgreSQL {
			// IF NOT EXISTS fails if another session creates it at the same moment.
			create = `SELECT pg_advisory_xact_lock(7308327815838786409); ` + create
		}
		_, err := promptly(ctx, nil, func() (sql.Result, error) { return s.exec(ctx, create) })
		if err != nil {
			return failed(ctx, "create table", err, false)
		}
	}
	return nil
}

// User returns the store of one user's token. The key is what the application
// knows the user by: any string of 1 to [MaxSQLKey] bytes, compared byte for byte.
// With another one, every call fails. All stores of one user are the same.
func (s *SQL) User(key string) *SQLUser { return &SQLUser{s, key} }

// Delete removes a user's token: the user has logged out. It waits for a refresh
// under way, in whichever process, so that this does not bring the token back.
// Token sources with this user's store then report [shangcloud.ErrLoginRequired]
// when their token is due. It is no error if there is nothing to remove.
func (s *SQL) Delete(ctx context.Context, key string) error {
	ctx, cancel := sqldb.Limited(ctx)
	defer cancel()
	unlock, err := s.lock(ctx, key)
	if err != nil {
		return err
	}
	defer unlock()
	return s.remove(ctx, key)
}

func (s *SQL) remove(ctx context.Context, key string) error {
	if err := s.write(ctx, key, s.is.delete, []byte(key)); err != nil {
		return failed(ctx, "delete", err, false)
	}
	return nil
}

// SQLUser is the store of one user's token in a [SQL], which makes it. It is safe
// for concurrent use.
type SQLUser struct {
	sql *SQL
	key string
}

var (
	_ shangcloud.TokenStore  = (*SQLUser)(nil)
	_ shangcloud.TokenLocker = (*SQLUser)(nil)
)

// Format prints u without its user key, whatever the verb.
func (u *SQLUser) Format(f fmt.State, _ rune) {
	if u == nil {
		_, _ = io.WriteString(f, "(*tokenstore.SQLUser)(nil)")
		return
	}
	_, _ = fmt.Fprintf(f, "tokenstore.SQLUser{%v}", u.sql)
}

// LoadToken implements [shangcloud.TokenStore].
func (u *SQLUser) LoadToken(ctx context.Context) (*oauth2.Token, error) {
	if err := checkSQLKey(u.key); err != nil {
		return nil, err
	}
	ctx, cancel := sqldb.Limited(ctx)
	defer cancel()
	data, err := u.sql.read(ctx, u.key)
	if err != nil {
		return nil, failed(ctx, "load", err, false)
	}
	if data == nil {
		return nil, nil
	}
	data, err = u.sql.sealer.open(data, u.sql.is.table.Name, u.key)
	if err != nil {
		return nil, fmt.Errorf("shangcloud: token table: load: %w", err)
	}
	var tok *oauth2.Token
	if json.Unmarshal(data, &tok) != nil {
		// encoding/json quotes what it does not understand.
		return nil, fmt.Errorf("shangcloud: token table: load: %w", errFormat)
	}
	return tok, nil
}

// SaveToken implements [shangcloud.TokenStore]. If tok is nil, it removes the row;
// [SQL.Delete] does the same under the lock.
//
// The text of its error leaves out what the database said beyond a code: some
// drivers quote what was to be stored. It can be had with errors.As.
func (u *SQLUser) SaveToken(ctx context.Context, tok *oauth2.Token) error {
	if err := checkSQLKey(u.key); err != nil {
		return err
	}
	ctx, cancel := sqldb.Limited(ctx)
	defer cancel()
	if tok == nil {
		return u.sql.remove(ctx, u.key)
	}
	data, err := json.Marshal(tok)
	if err != nil {
		return fmt.Errorf("shangcloud: token table: save: %w", err) // a year that JSON can't have
	}
	data = u.sql.sealer.seal(data, u.sql.is.table.Name, u.key)
	args := []any{[]byte(u.key), data}
	if u.sql.dialect == MySQL {
		args = append(args, data)
	}
	if err := u.sql.write(ctx, u.key, u.sql.is.save, args...); err != nil {
		return failed(ctx, "save", err, true)
	}
	return nil
}

// LockToken implements [shangcloud.TokenLocker]. See [SQL] for what the lock is. It
// is not reentrant. A second call of unlock does nothing.
func (u *SQLUser) LockToken(ctx context.Context) (unlock func(), err error) {
	ctx, cancel := sqldb.Limited(ctx)
	defer cancel()
	return u.sql.lock(ctx, u.key)
}

func checkSQLKey(key string) error {
	if err := sqldb.CheckKey(key); err != nil {
		return fmt.Errorf("shangcloud: token table: the user key %w", err)
	}
	return nil
}
