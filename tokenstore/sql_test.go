package tokenstore_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// The real databases are tested in module tests. Here is what needs none.

// script is a driver whose connections answer each statement with what a test says.
type script struct {
	mu     sync.Mutex
	said   []string
	opened int
	closed int
	answer func(ctx context.Context, statement string) ([]driver.Value, error) // one row, or none
}

func (s *script) Connect(context.Context) (driver.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened++
	return &scriptConn{s}, nil
}
func (s *script) Driver() driver.Driver { return nil }

func (s *script) statements() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.said...)
}

func (s *script) say(ctx context.Context, statement string) ([]driver.Value, error) {
	s.mu.Lock()
	s.said = append(s.said, statement)
	s.mu.Unlock()
	return s.answer(ctx, statement)
}

type scriptConn struct{ s *script }

func (c *scriptConn) Prepare(string) (driver.Stmt, error) { return nil, errors.New("not here") }
func (c *scriptConn) Begin() (driver.Tx, error)           { return nil, errors.New("not here") }
func (c *scriptConn) Close() error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.s.closed++
	return nil
}

func (c *scriptConn) ExecContext(ctx context.Context, q string, _ []driver.NamedValue) (driver.Result, error) {
	_, err := c.s.say(ctx, q)
	return driver.RowsAffected(1), err
}

func (c *scriptConn) QueryContext(ctx context.Context, q string, _ []driver.NamedValue) (driver.Rows, error) {
	row, err := c.s.say(ctx, q)
	return &scriptRows{row}, err
}

type scriptRows struct{ row []driver.Value }

func (r *scriptRows) Columns() []string { return []string{"x"} }
func (r *scriptRows) Close() error      { return nil }
func (r *scriptRows) Next(dest []driver.Value) error {
	if r.row == nil {
		return io.EOF
	}
	copy(dest, r.row)
	r.row = nil
	return nil
}

func scripted(t *testing.T, d tokenstore.Dialect, answer func(ctx context.Context, statement string) ([]driver.Value, error)) (*tokenstore.SQL, *script, *sql.DB) {
	s := &script{answer: answer}
	db := sql.OpenDB(s)
	t.Cleanup(func() { _ = db.Close() })
	store, err := tokenstore.NewSQL(db, d, tokenstore.SQLConfig{})
	require.NoError(t, err)
	return store, s, db
}

func silence(context.Context, string) ([]driver.Value, error) { return nil, nil }

func TestNewSQLChecks(t *testing.T) {
	db := sql.OpenDB(&script{answer: silence})
	defer db.Close()
	key := []byte(strings.Repeat("hush", 8))
	for _, table := range []string{"t", "_", "order", "a.b", "_1._2", strings.Repeat("a", 58), strings.Repeat("a", 58) + "." + strings.Repeat("b", 58)} {
		_, err := tokenstore.NewSQL(db, tokenstore.PostgreSQL, tokenstore.SQLConfig{Table: table, Keys: [][]byte{key}})
		assert.NoError(t, err, table)
	}
	for _, table := range []string{
		" ", "T", "a b", "a;b", "a'b", `a"b`, "a`b", "a--", "a/*", "a\x00", "a\n", "a\nb", "\na", "1a", "a-b", "a$", "a.", ".a", "a.b.c", "a..b", "ä", "ａ",
		"shangcloud_tokens; DROP TABLE users", `t" (user_key) VALUES ('`, "t WHERE 1=1", strings.Repeat("a", 59), "a." + strings.Repeat("b", 59),
	} {
		_, err := tokenstore.NewSQL(db, tokenstore.PostgreSQL, tokenstore.SQLConfig{Table: table})
		assert.ErrorContains(t, err, "SQLConfig.Table", "%q", table)
	}
	for _, d := range []tokenstore.Dialect{0, -1, 5} {
		_, err := tokenstore.NewSQL(db, d, tokenstore.SQLConfig{})
		assert.ErrorContains(t, err, "dialect")
	}
	_, err := tokenstore.NewSQL(nil, tokenstore.SQLite, tokenstore.SQLConfig{})
	assert.ErrorContains(t, err, "database is nil")
	_, err = tokenstore.NewSQL(db, tokenstore.SQLite, tokenstore.SQLConfig{Keys: [][]byte{key, key[:16]}})
	assert.ErrorContains(t, err, "SQLConfig.Keys: key 1 has 16 bytes")
	assert.NotContains(t, err.Error(), "hush")
}

func TestSQLPrintsNoSecrets(t *testing.T) {
	db := sql.OpenDB(&script{answer: silence})
	defer db.Close()
	key := []byte(strings.Repeat("hush", 8))
	c := tokenstore.SQLConfig{Keys: [][]byte{key}}
	s, err := tokenstore.NewSQL(db, tokenstore.MySQL, c)
	require.NoError(t, err)
	for _, v := range []any{c, &c, s, s.User("somebody"), (*tokenstore.SQL)(nil), (*tokenstore.SQLUser)(nil), struct{ C, S, U any }{c, s, s.User("somebody")}} {
		asJSON, err := json.Marshal(v)
		require.NoError(t, err)
		text := fmt.Sprintf("%v %+v %#v %s %q %d %x %s", v, v, v, v, v, v, v, asJSON)
		for _, secret := range []string{"hush", "68757368", "104 117", "0x68", "aHVzaGh1", "somebody"} {
			assert.NotContains(t, text, secret)
		}
	}
	assert.Equal(t, "tokenstore.SQL{MySQL shangcloud_tokens}", fmt.Sprint(s))
}

func TestSQLSchema(t *testing.T) {
	db := sql.OpenDB(&script{answer: silence})
	defer db.Close()
	for _, d := range []tokenstore.Dialect{tokenstore.PostgreSQL, tokenstore.MySQL, tokenstore.SQLite} {
		s, err := tokenstore.NewSQL(db, d, tokenstore.SQLConfig{Table: "app.tokens"})
		require.NoError(t, err)
		assert.Contains(t, s.Schema(), "CREATE TABLE IF NOT EXISTS", d)
		assert.True(t, strings.HasSuffix(s.Schema(), ");\n") || d == tokenstore.MySQL, d)
	}
}

// TestSQLErrors has drivers quote what they were given.
func TestSQLErrors(t *testing.T) {
	tok := &oauth2.Token{AccessToken: "hush-hush"}
	quoting := errors.New(`cannot encode {"access_token":"hush-hush"}`)
	for _, d := range []tokenstore.Dialect{tokenstore.PostgreSQL, tokenstore.MySQL, tokenstore.SQLite} {
		s, _, _ := scripted(t, d, func(context.Context, string) ([]driver.Value, error) { return nil, quoting })
		err := s.User("a").SaveToken(t.Context(), tok)
		assert.EqualError(t, err, "shangcloud: token table: save: the statement failed")
		assert.ErrorIs(t, err, quoting, "it can be had")
		assert.NotContains(t, fmt.Sprintf("%v %+v %#v %q", err, err, err, err), "hush")
	}
	s, _, _ := scripted(t, tokenstore.MySQL, func(context.Context, string) ([]driver.Value, error) {
		return nil, errors.New("Error 1366 (22007): Incorrect value: 'hush-hush'")
	})
	assert.EqualError(t, s.User("a").SaveToken(t.Context(), tok), "shangcloud: token table: save: Error 1366 (22007)")
	_, err := s.User("a").LoadToken(t.Context())
	assert.ErrorContains(t, err, "Incorrect value", "nothing secret was sent")

	s, _, _ = scripted(t, tokenstore.MySQL, func(context.Context, string) ([]driver.Value, error) {
		return []driver.Value{[]byte(`{"access_token":{"hush":1}}`)}, nil
	})
	_, err = s.User("a").LoadToken(t.Context())
	assert.EqualError(t, err, "shangcloud: token table: load: what is stored is not a token")
	year := &oauth2.Token{AccessToken: "hush", Expiry: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}
	err = s.User("a").SaveToken(t.Context(), year)
	assert.ErrorContains(t, err, "year")
	assert.NotContains(t, err.Error(), "hush")
}

// TestSQLDriverThatDoesNotListen has a driver that ignores contexts.
func TestSQLDriverThatDoesNotListen(t *testing.T) {
	for _, d := range []tokenstore.Dialect{tokenstore.PostgreSQL, tokenstore.MySQL, tokenstore.SQLite} {
		synctest.Test(t, func(t *testing.T) {
			s, script, db := scripted(t, d, func(context.Context, string) ([]driver.Value, error) {
				time.Sleep(time.Minute)
				return []driver.Value{int64(1)}, nil
			})
			for name, call := range map[string]func(context.Context) error{
				"load":   func(ctx context.Context) error { _, err := s.User("a").LoadToken(ctx); return err },
				"save":   func(ctx context.Context) error { return s.User("a").SaveToken(ctx, &oauth2.Token{}) },
				"remove": func(ctx context.Context) error { return s.User("a").SaveToken(ctx, nil) },
				"lock":   func(ctx context.Context) error { _, err := s.User("a").LockToken(ctx); return err },
				"delete": func(ctx context.Context) error { return s.Delete(ctx, "a") },
				"create": s.CreateTable,
			} {
				start := time.Now()
				assert.ErrorIs(t, call(t.Context()), context.DeadlineExceeded, name)
				assert.Equal(t, 10*time.Second, time.Since(start), name)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				start = time.Now()
				assert.ErrorIs(t, call(ctx), context.DeadlineExceeded, name)
				assert.Equal(t, time.Second, time.Since(start), name)
				cancel()
			}
			time.Sleep(time.Hour)
			assert.Zero(t, db.Stats().InUse, "what came late was given back")
			_ = script
		})
	}
}

// TestSQLLostLock has the statements under the lock fail, one after the other.
func TestSQLLostLock(t *testing.T) {
	for _, d := range []tokenstore.Dialect{tokenstore.PostgreSQL, tokenstore.MySQL} {
		for _, failing := range []string{"SELECT token", "INSERT", "COMMIT AND CHAIN", "unlock", "RELEASE_LOCK", "SET SESSION wait_timeout = @"} {
			broken := false
			s, script, db := scripted(t, d, func(_ context.Context, q string) ([]driver.Value, error) {
				switch {
				case strings.Contains(q, failing) && !broken:
					broken = true
					return nil, errors.New("broken")
				case strings.HasPrefix(q, "SELECT token"):
					return []driver.Value{[]byte("{}")}, nil
				}
				return []driver.Value{int64(1)}, nil
			})
			db.SetMaxOpenConns(1)
			u := s.User("a")
			unlock, err := u.LockToken(t.Context())
			require.NoError(t, err)
			_, err = u.LoadToken(t.Context())
			if failing == "SELECT token" {
				assert.ErrorContains(t, err, "held the lock has failed")
			} else {
				assert.NoError(t, err)
			}
			assert.NoError(t, u.SaveToken(t.Context(), &oauth2.Token{}), "by another connection if need be: %s", failing)
			unlock()
			unlock()
			assert.Zero(t, db.Stats().InUse)
			if broken {
				assert.Equal(t, 1, script.closed, "a connection with a lock is not used again: %v %s", d, failing)
			} else {
				assert.Zero(t, script.closed, "%v %s", d, failing)
			}
			broken = true
			unlock, err = u.LockToken(t.Context())
			require.NoError(t, err, "%v %s", d, failing)
			unlock()
		}
	}
}

// TestSQLFailedLock gives back the connection of a lock that was not got.
func TestSQLFailedLock(t *testing.T) {
	for _, d := range []tokenstore.Dialect{tokenstore.PostgreSQL, tokenstore.MySQL} {
		for what, row := range map[string][]driver.Value{"an error": nil, "NULL": {nil}} {
			s, script, db := scripted(t, d, func(_ context.Context, q string) ([]driver.Value, error) {
				if what == "an error" || d == tokenstore.PostgreSQL {
					return nil, errors.New("no locks today")
				}
				return row, nil
			})
			_, err := s.User("a").LockToken(t.Context())
			assert.ErrorContains(t, err, "shangcloud: token table: lock: ", what)
			assert.Zero(t, db.Stats().InUse)
			assert.Equal(t, 1, script.closed)
		}
	}
}

// TestSQLCallersLineUp has one caller at a time ask the database for a user's lock.
func TestSQLCallersLineUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, script, db := scripted(t, tokenstore.PostgreSQL, silence)
		unlock, err := s.User("a").LockToken(t.Context())
		require.NoError(t, err)
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				unlock, err := s.User("a").LockToken(t.Context())
				if assert.NoError(t, err) {
					time.Sleep(time.Millisecond)
					unlock()
				}
			})
		}
		synctest.Wait()
		assert.Equal(t, 1, db.Stats().InUse)
		assert.Len(t, script.statements(), 1)
		unlock()
		wg.Wait()
		assert.Equal(t, 1, script.opened)
	})
}
