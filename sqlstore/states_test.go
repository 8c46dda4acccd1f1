package sqlstore_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/sqlstore"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// stored answers with a row of a state that has not expired.
func stored(context.Context, string) ([]driver.Value, error) {
	return []driver.Value{[]byte("value"), true}, nil
}

func TestStatesTake_statements(t *testing.T) {
	for _, d := range allDialects {
		states, seen := scriptedStates(t, d, stored)
		value, found, err := states.Take(t.Context(), "key")
		require.NoError(t, err)
		assert.True(t, found)
		assert.Equal(t, "value", string(value))
		said := seen.said()
		if d == sqlstore.MySQL {
			require.Len(t, said, 4)
			assert.Equal(t, "BEGIN Read Committed", said[0])
			assert.Contains(t, said[1], "FOR UPDATE")
			assert.Contains(t, said[2], "DELETE")
			assert.Equal(t, "COMMIT", said[3])
			continue
		}
		require.Len(t, said, 1)
		assert.Contains(t, said[0], "RETURNING")
	}
}

func TestStatesTake_expired(t *testing.T) {
	for _, d := range allDialects {
		states, seen := scriptedStates(t, d, func(context.Context, string) ([]driver.Value, error) {
			return []driver.Value{[]byte("value"), int64(0)}, nil
		})
		value, found, err := states.Take(t.Context(), "key")
		require.NoError(t, err)
		assert.False(t, found)
		assert.Nil(t, value)
		assert.Equal(t, 1, seen.count("DELETE"), "the row is removed")
	}
}

// TestStatesTake_failedTransaction: after a failed transaction, Take can't know whether
// the row was removed. So it must return an error.
func TestStatesTake_failedTransaction(t *testing.T) {
	for _, failing := range []string{"BEGIN", "SELECT", "DELETE", "COMMIT"} {
		lost := errors.New("invalid connection")
		states, seen := scriptedStates(t, sqlstore.MySQL, func(ctx context.Context, statement string) ([]driver.Value, error) {
			if strings.HasPrefix(statement, failing) {
				return nil, lost
			}
			return stored(ctx, statement)
		})
		value, found, err := states.Take(t.Context(), "key")
		assert.ErrorIs(t, err, lost, failing)
		assert.False(t, found)
		assert.Nil(t, value)
		assert.LessOrEqual(t, seen.count("COMMIT"), 1)
	}
}

func TestStatesPut_arguments(t *testing.T) {
	for _, d := range allDialects {
		states, seen := scriptedStates(t, d, stored)
		for ttl, want := range map[time.Duration][2]int64{ // in microseconds, in milliseconds
			1: {1, 1}, time.Microsecond: {1, 1}, time.Millisecond + 1: {1001, 2}, time.Minute: {60e6, 60e3}, 1<<63 - 1: {9223372036854776, 9223372036855},
		} {
			seen.forget()
			require.NoError(t, states.Put(t.Context(), "key", nil, ttl))
			args := seen.args[0]
			require.Len(t, args, 3)
			assert.Equal(t, []byte("key"), args[0].Value)
			assert.Equal(t, []byte{}, args[1].Value, "not NULL")
			if d == sqlstore.SQLite {
				assert.Equal(t, want[1], args[2].Value)
			} else {
				assert.Equal(t, want[0], args[2].Value)
			}
		}
		seen.forget()
		require.NoError(t, states.Put(t.Context(), "key", []byte("value"), 0))
		assert.Contains(t, seen.said()[0], "DELETE")
	}
}

func TestStatesKey_refused(t *testing.T) {
	states, seen := scriptedStates(t, sqlstore.PostgreSQL, stored)
	for _, key := range []string{"", strings.Repeat("k", sqlstore.MaxKey+1)} {
		assert.ErrorContains(t, states.Put(t.Context(), key, nil, time.Minute), "sqlstore: states: the key is ")
		_, found, err := states.Take(t.Context(), key)
		assert.ErrorContains(t, err, "sqlstore: states: the key is ")
		assert.False(t, found)
	}
	assert.Empty(t, seen.said())
}

// TestRetry_conflict: a call is repeated if the database reports that it has rolled the
// call back.
func TestRetry_conflict(t *testing.T) {
	for _, c := range []struct {
		err   error
		tries int
	}{
		{sqlState("40001"), 6},
		{sqlState("40P01"), 6},
		{sqlState("40003"), 1}, // the outcome is unknown, so the call is not repeated
		{sqlState("57P01"), 1},
		{errors.New("Error 1213 (40001): Deadlock found when trying to get lock"), 6},
		{errors.New("Error 1205 (HY000): Lock wait timeout exceeded"), 1},
		{errors.New("unexpected EOF"), 1},
	} {
		for _, d := range []sqlstore.Dialect{sqlstore.PostgreSQL, sqlstore.MariaDB} {
			states, seen := scriptedStates(t, d, fails(c.err))
			_, found, err := states.Take(t.Context(), "key")
			assert.ErrorIs(t, err, c.err)
			assert.False(t, found)
			assert.Len(t, seen.said(), c.tries, "%v", c.err)

			tokens, seen, _ := scriptedTokens(t, d, fails(c.err))
			assert.ErrorIs(t, tokens.User("a").DeleteToken(t.Context()), c.err)
			assert.Len(t, seen.said(), c.tries, "%v", c.err)
		}
	}
	tries := 0
	states, _ := scriptedStates(t, sqlstore.PostgreSQL, func(ctx context.Context, statement string) ([]driver.Value, error) {
		if tries++; tries < 3 {
			return nil, sqlState("40001")
		}
		return stored(ctx, statement)
	})
	_, found, err := states.Take(t.Context(), "key")
	require.NoError(t, err)
	assert.True(t, found)
}

// TestRetry_busySQLite: the file is locked, because another process is writing to it.
func TestRetry_busySQLite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		states, _ := scriptedStates(t, sqlstore.SQLite, func(ctx context.Context, statement string) ([]driver.Value, error) {
			if time.Since(begin) < time.Second {
				return nil, errors.New("database is locked (5) (SQLITE_BUSY)")
			}
			return stored(ctx, statement)
		})
		_, found, err := states.Take(t.Context(), "key")
		require.NoError(t, err)
		assert.True(t, found)

		begin = time.Now().Add(time.Hour)
		called := time.Now()
		_, found, err = states.Take(context.Background(), "key")
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.False(t, found)
		assert.Equal(t, 10*time.Second, time.Since(called), "the limit without a deadline")

		// While a writer of this process waits for the file, the next writer waits only
		// until its own context ends.
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		go states.Put(context.Background(), "key", nil, time.Minute)
		synctest.Wait()
		assert.ErrorIs(t, states.Put(ctx, "key", nil, time.Minute), context.DeadlineExceeded)
		time.Sleep(10 * time.Second) // until the first writer gives up
	})
}

func TestStatesSweep(t *testing.T) {
	for _, d := range allDialects {
		states, seen := scriptedStates(t, d, func(_ context.Context, statement string) ([]driver.Value, error) {
			if strings.Contains(statement, "LIMIT") {
				return nil, errors.New("a failed sweep is no failed Put")
			}
			return make([]driver.Value, 1), nil
		})
		for range 1000 {
			require.NoError(t, states.Put(t.Context(), "key", nil, time.Minute))
		}
		assert.Equal(t, 10, seen.count("LIMIT"))
		_, err := states.DeleteExpired(t.Context())
		assert.Error(t, err)
	}
}

func TestStatesDeleteExpired_batches(t *testing.T) {
	left := 1000
	states, seen := scriptedStates(t, sqlstore.PostgreSQL, func(context.Context, string) ([]driver.Value, error) {
		n := min(left, 400)
		left -= n
		return make([]driver.Value, n), nil
	})
	n, err := states.DeleteExpired(t.Context())
	require.NoError(t, err)
	assert.Equal(t, int64(1000), n)
	assert.Len(t, seen.said(), 3)
}

func TestStatesFormat(t *testing.T) {
	for _, cause := range []error{sqlState("22P02"), errors.New("Error 1366 (22007): Incorrect value: 'hush-hush'"), errors.New("near 'hush-hush'")} {
		states, _ := scriptedStates(t, sqlstore.PostgreSQL, fails(cause))
		errs := []error{states.Put(t.Context(), "hush-key", []byte("hush-value"), time.Minute)}
		_, _, err := states.Take(t.Context(), "hush-key")
		for _, err := range append(errs, err) {
			assert.ErrorIs(t, err, cause)
			assert.NotContains(t, fmt.Sprintf("%v %+v %#v %s %q", err, err, err, err, err), "hush")
		}
		assert.NotContains(t, fmt.Sprintf("%v %+v %#v %s", states, states, states, (*sqlstore.States)(nil)), "hush")
		assert.Equal(t, "sqlstore.States{}", fmt.Sprint((*sqlstore.States)(nil)))
		assert.Equal(t, "sqlstore.States{}", fmt.Sprint(new(sqlstore.States)))
		assert.Equal(t, "sqlstore.States{PostgreSQL oauth2login_states}", fmt.Sprint(states))
	}
}
