package state_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The tests against real databases are in the module tests.

// script is a database that answers every statement with a function.
type script struct {
	answer func(ctx context.Context, statement string) ([]driver.Value, error)

	mu   sync.Mutex
	seen []string
	args [][]driver.NamedValue
}

func (s *script) say(ctx context.Context, statement string, args []driver.NamedValue) ([]driver.Value, error) {
	s.mu.Lock()
	s.seen = append(s.seen, statement)
	s.args = append(s.args, args)
	s.mu.Unlock()
	return s.answer(ctx, statement)
}

// count counts the statements that begin with a word.
func (s *script) count(word string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, statement := range s.seen {
		if strings.HasPrefix(statement, word) {
			n++
		}
	}
	return n
}

func (s *script) Connect(context.Context) (driver.Conn, error) { return &scriptConn{s}, nil }
func (s *script) Driver() driver.Driver                        { return nil }

type scriptConn struct{ s *script }

func (c *scriptConn) Prepare(string) (driver.Stmt, error) { return nil, errors.New("not prepared") }
func (c *scriptConn) Begin() (driver.Tx, error)           { return nil, errors.New("without options") }
func (c *scriptConn) Close() error                        { return nil }

func (c *scriptConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	_, err := c.s.say(ctx, fmt.Sprintf("BEGIN %v", sql.IsolationLevel(opts.Isolation)), nil)
	return scriptTx{c.s}, err
}

func (c *scriptConn) ExecContext(ctx context.Context, q string, args []driver.NamedValue) (driver.Result, error) {
	row, err := c.s.say(ctx, q, args)
	return driver.RowsAffected(len(row)), err
}

func (c *scriptConn) QueryContext(ctx context.Context, q string, args []driver.NamedValue) (driver.Rows, error) {
	row, err := c.s.say(ctx, q, args)
	return &scriptRows{row}, err
}

type scriptTx struct{ s *script }

func (tx scriptTx) Commit() error {
	_, err := tx.s.say(context.Background(), "COMMIT", nil)
	return err
}

func (tx scriptTx) Rollback() error {
	_, err := tx.s.say(context.Background(), "ROLLBACK", nil)
	return err
}

type scriptRows struct{ row []driver.Value }

func (r *scriptRows) Columns() []string { return []string{"value", "alive"} }
func (r *scriptRows) Close() error      { return nil }
func (r *scriptRows) Next(dest []driver.Value) error {
	if r.row == nil {
		return io.EOF
	}
	copy(dest, r.row)
	r.row = nil
	return nil
}

func scripted(t *testing.T, d state.Dialect, answer func(ctx context.Context, statement string) ([]driver.Value, error)) (*state.SQL, *script) {
	t.Helper()
	s := &script{answer: answer}
	db := sql.OpenDB(s)
	t.Cleanup(func() { _ = db.Close() })
	store, err := state.NewSQL(db, d, state.SQLConfig{})
	require.NoError(t, err)
	return store, s
}

var allDialects = []state.Dialect{state.PostgreSQL, state.MariaDB, state.MySQL, state.SQLite}

func one(context.Context, string) ([]driver.Value, error) {
	return []driver.Value{[]byte("value"), true}, nil
}

func TestSQLTakesInOneStatement(t *testing.T) {
	for _, d := range allDialects {
		s, db := scripted(t, d, one)
		value, found, err := s.Take(t.Context(), "key")
		require.NoError(t, err)
		assert.True(t, found)
		assert.Equal(t, "value", string(value))
		if d == state.MySQL {
			require.Len(t, db.seen, 4)
			assert.Equal(t, "BEGIN Read Committed", db.seen[0])
			assert.Contains(t, db.seen[1], "FOR UPDATE")
			assert.Contains(t, db.seen[2], "DELETE")
			assert.Equal(t, "COMMIT", db.seen[3])
			continue
		}
		require.Len(t, db.seen, 1)
		assert.Contains(t, db.seen[0], "RETURNING")
	}
}

func TestSQLPut(t *testing.T) {
	for _, d := range allDialects {
		s, db := scripted(t, d, one)
		for ttl, want := range map[time.Duration][2]int64{ // microseconds, milliseconds
			1: {1, 1}, time.Microsecond: {1, 1}, time.Millisecond + 1: {1001, 2}, time.Minute: {60e6, 60e3}, 1<<63 - 1: {9223372036854776, 9223372036855},
		} {
			db.seen, db.args = nil, nil
			require.NoError(t, s.Put(t.Context(), "key", nil, ttl))
			args := db.args[0]
			require.Len(t, args, 3)
			assert.Equal(t, []byte("key"), args[0].Value)
			assert.Equal(t, []byte{}, args[1].Value, "not NULL")
			if d == state.SQLite {
				assert.Equal(t, want[1], args[2].Value)
			} else {
				assert.Equal(t, want[0], args[2].Value)
			}
		}
		db.seen = nil
		require.NoError(t, s.Put(t.Context(), "key", []byte("value"), 0))
		assert.Contains(t, db.seen[0], "DELETE")
	}
}

// TestSQLTriesAgain what the database has rolled back, and nothing else.
func TestSQLTriesAgain(t *testing.T) {
	for _, c := range []struct {
		err   error
		tries int
	}{
		{sqlState("40001"), 6},
		{sqlState("40P01"), 6},
		{sqlState("40003"), 1}, // it may have been carried out
		{sqlState("57P01"), 1},
		{errors.New("Error 1213 (40001): Deadlock found when trying to get lock"), 6},
		{errors.New("Error 1205 (HY000): Lock wait timeout exceeded"), 1},
		{errors.New("unexpected EOF"), 1},
	} {
		for _, d := range []state.Dialect{state.PostgreSQL, state.MariaDB} {
			s, db := scripted(t, d, func(context.Context, string) ([]driver.Value, error) { return nil, c.err })
			_, found, err := s.Take(t.Context(), "key")
			assert.ErrorIs(t, err, c.err)
			assert.False(t, found)
			assert.Equal(t, c.tries, len(db.seen), "%v", c.err)
		}
	}
	tries := 0
	s, _ := scripted(t, state.PostgreSQL, func(context.Context, string) ([]driver.Value, error) {
		if tries++; tries < 3 {
			return nil, sqlState("40001")
		}
		return []driver.Value{[]byte("value"), true}, nil
	})
	_, found, err := s.Take(t.Context(), "key")
	require.NoError(t, err)
	assert.True(t, found)
}

type sqlState string

func (s sqlState) Error() string    { return "ERROR: hush-hush" }
func (s sqlState) SQLState() string { return string(s) }

// TestSQLCommitFails: whether the row is gone is not known.
func TestSQLCommitFails(t *testing.T) {
	for _, failing := range []string{"BEGIN", "SELECT", "DELETE", "COMMIT"} {
		lost := errors.New("invalid connection")
		s, db := scripted(t, state.MySQL, func(ctx context.Context, statement string) ([]driver.Value, error) {
			if strings.HasPrefix(statement, failing) {
				return nil, lost
			}
			return one(ctx, statement)
		})
		value, found, err := s.Take(t.Context(), "key")
		assert.ErrorIs(t, err, lost, failing)
		assert.False(t, found)
		assert.Nil(t, value)
		assert.LessOrEqual(t, db.count("COMMIT"), 1)
	}
}

func TestSQLExpired(t *testing.T) {
	for _, d := range allDialects {
		s, db := scripted(t, d, func(context.Context, string) ([]driver.Value, error) {
			return []driver.Value{[]byte("value"), int64(0)}, nil
		})
		value, found, err := s.Take(t.Context(), "key")
		require.NoError(t, err)
		assert.False(t, found)
		assert.Nil(t, value)
		assert.Equal(t, 1, db.count("DELETE"), "it is removed all the same")
	}
}

// TestSQLiteFileIsBusy because another process writes to it.
func TestSQLiteFileIsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		s, _ := scripted(t, state.SQLite, func(ctx context.Context, statement string) ([]driver.Value, error) {
			if time.Since(begin) < time.Second {
				return nil, errors.New("database is locked (5) (SQLITE_BUSY)")
			}
			return one(ctx, statement)
		})
		_, found, err := s.Take(t.Context(), "key")
		require.NoError(t, err)
		assert.True(t, found)

		begin = time.Now().Add(time.Hour)
		called := time.Now()
		_, found, err = s.Take(context.Background(), "key")
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.False(t, found)
		assert.Equal(t, 10*time.Second, time.Since(called), "without a deadline, 10 seconds")

		// Who can't write does not wait for who does, for longer than it may.
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		go s.Put(context.Background(), "key", nil, time.Minute)
		synctest.Wait()
		assert.ErrorIs(t, s.Put(ctx, "key", nil, time.Minute), context.DeadlineExceeded)
		time.Sleep(10 * time.Second) // the other one gives up, too
	})
}

func TestSQLSweeps(t *testing.T) {
	for _, d := range allDialects {
		s, db := scripted(t, d, func(_ context.Context, statement string) ([]driver.Value, error) {
			if strings.Contains(statement, "LIMIT") {
				return nil, errors.New("it is not for a Put to fail over this")
			}
			return make([]driver.Value, 1), nil
		})
		for range 1000 {
			require.NoError(t, s.Put(t.Context(), "key", nil, time.Minute))
		}
		sweeps := 0
		for _, statement := range db.seen {
			if strings.Contains(statement, "LIMIT") {
				sweeps++
			}
		}
		assert.Equal(t, 10, sweeps)
		_, err := s.DeleteExpired(t.Context())
		assert.Error(t, err)
	}
	left := 1000
	s, _ := scripted(t, state.PostgreSQL, func(context.Context, string) ([]driver.Value, error) {
		n := min(left, 400)
		left -= n
		return make([]driver.Value, n), nil
	})
	n, err := s.DeleteExpired(t.Context())
	require.NoError(t, err)
	assert.Equal(t, int64(1000), n)
}

func TestNewSQLChecks(t *testing.T) {
	db := sql.OpenDB(&script{answer: one})
	defer db.Close()
	for _, table := range []string{"t", "order", "a.b", strings.Repeat("a", 58) + "." + strings.Repeat("b", 58)} {
		_, err := state.NewSQL(db, state.MySQL, state.SQLConfig{Table: table})
		assert.NoError(t, err, table)
	}
	for _, table := range []string{" ", "T", "a b", "a;b", `a"b`, "a`b", "a--", "a\n", "1a", "a.", ".a", "a.b.c", "ä", "states; DROP TABLE users", strings.Repeat("a", 59)} {
		_, err := state.NewSQL(db, state.MySQL, state.SQLConfig{Table: table})
		assert.ErrorContains(t, err, "SQLConfig.Table", "%q", table)
	}
	for _, d := range []state.Dialect{0, -1, 5} {
		_, err := state.NewSQL(db, d, state.SQLConfig{})
		assert.ErrorContains(t, err, "dialect")
	}
	_, err := state.NewSQL(nil, state.SQLite, state.SQLConfig{})
	assert.ErrorContains(t, err, "database is nil")

	s, seen := scripted(t, state.PostgreSQL, one)
	for _, key := range []string{"", strings.Repeat("k", 256)} {
		assert.ErrorContains(t, s.Put(t.Context(), key, nil, time.Minute), "the key is")
		_, found, err := s.Take(t.Context(), key)
		assert.ErrorContains(t, err, "the key is")
		assert.False(t, found)
	}
	assert.Empty(t, seen.seen)
}

func TestSQLSchema(t *testing.T) {
	for _, d := range allDialects {
		s, db := scripted(t, d, one)
		require.NoError(t, s.CreateTable(t.Context()))
		assert.Len(t, db.seen, strings.Count(s.Schema(), ";\n"))
		assert.Contains(t, s.Schema(), "shangcloud_states")
		assert.Contains(t, s.Schema(), "shangcloud_states_exp")
	}
	s, _ := scripted(t, state.SQLite, func(context.Context, string) ([]driver.Value, error) { return nil, errors.New("read only") })
	assert.Error(t, s.CreateTable(t.Context()))
}

// TestSQLTellsNothing: drivers quote what was sent.
func TestSQLTellsNothing(t *testing.T) {
	for _, cause := range []error{sqlState("22P02"), errors.New("Error 1366 (22007): Incorrect value: 'hush-hush'"), errors.New("near 'hush-hush'")} {
		s, _ := scripted(t, state.PostgreSQL, func(context.Context, string) ([]driver.Value, error) { return nil, cause })
		errs := []error{s.Put(t.Context(), "hush-key", []byte("hush-value"), time.Minute)}
		_, _, err := s.Take(t.Context(), "hush-key")
		for _, err := range append(errs, err) {
			assert.ErrorIs(t, err, cause)
			assert.NotContains(t, fmt.Sprintf("%v %+v %#v %s %q", err, err, err, err, err), "hush")
		}
		assert.NotContains(t, fmt.Sprintf("%v %+v %#v %s", s, s, s, (*state.SQL)(nil)), "hush")
		assert.Equal(t, "state.SQL{PostgreSQL shangcloud_states}", fmt.Sprint(s))
	}
}
