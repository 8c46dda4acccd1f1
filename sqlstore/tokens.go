package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/quiet"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"golang.org/x/oauth2"
)

// Tokens keeps users' tokens in a table of a database, one row for each user of one
// provider. It is safe for concurrent use, by any number of processes.
//
// The lock on a token is a lock of the database. It ends when the connection of its holder
// ends. If the holder stops responding, it ends after the time that the holder asked for.
// In PostgreSQL, MySQL and MariaDB a held lock takes one connection of the pool. A process
// that waits for a lock takes none. Locks leave a quarter of the pool to other calls.
//
// A load and a save are one statement each. A call without a deadline ends after 10
// seconds. See docs/sql.md for the lock and for failures of the database.
type Tokens struct {
	table     *table
	stmts     tokenStatements
	lockConns func() chan none // limits the connections that locks take; nil: no limit

	mu    sync.Mutex
	turns map[string]*turn // of the users whose lock this process holds or waits for
}

// NewTokens returns a store in a table of db. It does not connect, and it never closes
// db. All processes must use the server that accepts writes, not a replica. Call
// db.SetMaxOpenConns before the first lock is taken.
func NewTokens(db *sql.DB, dialect Dialect, c Config) (*Tokens, error) {
	t, err := newTable(db, dialect, c, "tokens")
	if err != nil {
		return nil, err
	}
	s := &Tokens{table: t, turns: make(map[string]*turn)}
	s.stmts, t.create = newTokenStatements(dialect, t.name)
	s.lockConns = sync.OnceValue(func() chan none {
		most := db.Stats().MaxOpenConnections
		if most == 0 {
			return nil
		}
		return make(chan none, max(1, most-max(1, most/4)))
	})
	return s, nil
}

// Format prints the dialect and the table, whatever the verb.
func (s *Tokens) Format(f fmt.State, _ rune) { s.format(f, "Tokens") }

func (s *Tokens) format(f io.Writer, name string) {
	var t *table
	if s != nil {
		t = s.table
	}
	t.format(f, name)
}

// Schema returns the statements that create the table, and in SQLite its lock table.
// Each ends with a semicolon and a line feed. The columns are
//
//   - user_key, the bytes of the key, compared byte for byte;
//   - token, as JSON;
//   - updated_at, the time of the last save. The store does not read it. It shows which
//     rows are no longer used.
func (s *Tokens) Schema() string { return s.table.schema() }

// CreateTable creates the table, and in SQLite its lock table, unless they exist. The
// database user needs the right to do so. Several processes may call it at the same
// time.
func (s *Tokens) CreateTable(ctx context.Context) error { return s.table.createTable(ctx) }

// User returns the store of one user's token. The key is the application's name for the
// user. It has 1 to [MaxKey] bytes, which may have any value, and is compared byte for
// byte. If the key is empty or too long, every call on the store returns an error. Stores
// that one Tokens returns for the same key are equal (==).
func (s *Tokens) User(key string) UserTokens { return UserTokens{s, key} }

// UserTokens is the store of one user's token, made by [Tokens.User]. It is safe for
// concurrent use. Every call on the zero value returns an error.
type UserTokens struct {
	tokens *Tokens
	key    string
}

var (
	_ oauth2login.TokenStore  = UserTokens{}
	_ oauth2login.TokenLocker = UserTokens{}
)

// Format prints the dialect and the table, whatever the verb. It does not print the
// user's key.
func (u UserTokens) Format(f fmt.State, _ rune) { u.tokens.format(f, "UserTokens") }

// LoadToken implements [oauth2login.TokenStore].
func (u UserTokens) LoadToken(ctx context.Context) (*oauth2.Token, error) {
	if err := u.check(); err != nil {
		return nil, err
	}
	ctx, cancel := limited(ctx)
	defer cancel()
	data, err := u.tokens.load(ctx, u.key)
	if err != nil {
		return nil, u.tokens.table.failed(ctx, "load", err, false)
	}
	if data == nil {
		return nil, nil
	}
	tok, err := tokenstore.Unmarshal(data)
	if err != nil {
		return nil, quiet.New("sqlstore", "tokens: load: "+quiet.Describe(err), err)
	}
	return tok, nil
}

// SaveToken implements [oauth2login.TokenStore]. A nil token is an error. The text of an
// error does not contain the token, but the causes of the error may.
func (u UserTokens) SaveToken(ctx context.Context, tok *oauth2.Token) error {
	if err := u.check(); err != nil {
		return err
	}
	ctx, cancel := limited(ctx)
	defer cancel()
	data, err := tokenstore.Marshal(tok)
	if err != nil {
		return quiet.New("sqlstore", "tokens: save: "+quiet.Describe(err), err)
	}
	args := []any{[]byte(u.key), data}
	if u.tokens.stmts.saveTwice {
		args = append(args, data)
	}
	if err := u.tokens.change(ctx, u.key, u.tokens.stmts.save, args...); err != nil {
		return u.tokens.table.failed(ctx, "save", err, true)
	}
	return nil
}

// DeleteToken implements [oauth2login.TokenStore]. It does not wait for the lock. Use
// [oauth2login.TokenSource.Delete], which waits, so that no refresh brings the token back.
func (u UserTokens) DeleteToken(ctx context.Context) error {
	if err := u.check(); err != nil {
		return err
	}
	ctx, cancel := limited(ctx)
	defer cancel()
	if err := u.tokens.change(ctx, u.key, u.tokens.stmts.delete, []byte(u.key)); err != nil {
		return u.tokens.table.failed(ctx, "delete", err, false)
	}
	return nil
}

// LockToken implements [oauth2login.TokenLocker]; hold is between one millisecond and one
// day. The lock is not reentrant. It ends after hold, and a later call of unlock does
// nothing. If the lock's connection fails, LoadToken returns an error until unlock is
// called. During that time, SaveToken and DeleteToken use another connection.
func (u UserTokens) LockToken(ctx context.Context, hold time.Duration) (unlock func(), err error) {
	if err := u.check(); err != nil {
		return nil, err
	}
	if hold < time.Millisecond || hold > longestHold {
		return nil, quiet.New("sqlstore", fmt.Sprintf("tokens: lock: a lock cannot be held for %v", hold))
	}
	ctx, cancel := limited(ctx)
	defer cancel()
	unlock, err = u.tokens.lock(ctx, u.key, hold)
	if err != nil {
		return nil, u.tokens.table.failed(ctx, "lock", err, false)
	}
	return unlock, nil
}

func (u UserTokens) check() error {
	if u.tokens == nil {
		return quiet.New("sqlstore", "tokens: a zero UserTokens is no store: call Tokens.User")
	}
	return u.tokens.table.checkKey("user key", u.key)
}

// querier is implemented by *sql.DB and by *sql.Conn, the connection of a lock.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// load returns the stored bytes, or nil if there is no row.
func (s *Tokens) load(ctx context.Context, key string) ([]byte, error) {
	load := func(ctx context.Context, q querier) ([]byte, error) {
		data := []byte{} // not nil, even if the row contains no bytes
		err := q.QueryRowContext(ctx, s.stmts.load, []byte(key)).Scan(&data)
		if errors.Is(err, sql.ErrNoRows) {
			return nil, nil
		}
		return data, err
	}
	if h := s.holder(key); h != nil {
		// If the lock's connection fails, the lock has ended, and the caller may no longer
		// use the refresh token. So load does not try another connection.
		data, err := onHeld(ctx, h, load)
		if !errors.Is(err, errReleased) {
			return data, err
		}
	}
	return read(ctx, s.table, func() ([]byte, error) { return load(ctx, s.table.db) })
}

// change runs a statement that changes the row of key. After an error, it may run the
// statement a second time.
func (s *Tokens) change(ctx context.Context, key, statement string, args ...any) error {
	if h := s.holder(key); h != nil {
		_, err := onHeld(ctx, h, func(ctx context.Context, q querier) (none, error) {
			_, err := q.ExecContext(ctx, statement, args...)
			if err == nil && h.commit != "" {
				_, err = q.ExecContext(ctx, h.commit)
			}
			return none{}, err
		})
		if err == nil || ctx.Err() != nil {
			return err
		}
		// The lock has ended. The statement still has to run, because only this process
		// has the new token.
	}
	_, err := s.table.exec(ctx, statement, args...)
	return err
}

// tokenStatements are the SQL statements of Tokens.
type tokenStatements struct {
	load, save, delete string
	saveTwice          bool // the arguments of save contain the token twice

	leased, lease, release string // SQLite's lock
}

func newTokenStatements(d Dialect, name tableName) (s tokenStatements, create []string) {
	t := name.quoted(d, "")
	switch d {
	case PostgreSQL:
		create = []string{`CREATE TABLE IF NOT EXISTS ` + t + ` (
	user_key   bytea PRIMARY KEY,
	token      bytea NOT NULL,
	updated_at timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP
)`}
		s.load = `SELECT token FROM ` + t + ` WHERE user_key = $1`
		s.save = `INSERT INTO ` + t + ` (user_key, token) VALUES ($1, $2) ` +
			`ON CONFLICT (user_key) DO UPDATE SET token = excluded.token, updated_at = CURRENT_TIMESTAMP`
		s.delete = `DELETE FROM ` + t + ` WHERE user_key = $1`
	case MySQL, MariaDB:
		create = []string{`CREATE TABLE IF NOT EXISTS ` + t + ` (
	user_key   varbinary(255) NOT NULL PRIMARY KEY,
	token      mediumblob NOT NULL,
	updated_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP
) ENGINE=InnoDB`}
		s.load = `SELECT token FROM ` + t + ` WHERE user_key = ?`
		// MySQL and MariaDB have no common syntax for the inserted value, so the statement
		// gets the token twice.
		s.saveTwice = true
		s.save = `INSERT INTO ` + t + ` (user_key, token) VALUES (?, ?) ` +
			`ON DUPLICATE KEY UPDATE token = ?, updated_at = CURRENT_TIMESTAMP`
		s.delete = `DELETE FROM ` + t + ` WHERE user_key = ?`
	case SQLite:
		create = []string{`CREATE TABLE IF NOT EXISTS ` + t + ` (
	user_key   BLOB NOT NULL PRIMARY KEY,
	token      BLOB NOT NULL,
	updated_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
)`, s.sqliteLease(name)}
		s.load = `SELECT token FROM ` + t + ` WHERE user_key = ?`
		s.save = `INSERT INTO ` + t + ` (user_key, token) VALUES (?, ?) ` +
			`ON CONFLICT (user_key) DO UPDATE SET token = excluded.token, updated_at = CURRENT_TIMESTAMP`
		s.delete = `DELETE FROM ` + t + ` WHERE user_key = ?`
	}
	return s, create
}
