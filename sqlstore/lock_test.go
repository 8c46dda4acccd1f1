package sqlstore_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/sqlstore"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

const hold = 25 * time.Second

// withSessions are the dialects whose locks end with the connection.
var withSessions = []sqlstore.Dialect{sqlstore.PostgreSQL, sqlstore.MySQL, sqlstore.MariaDB}

// locks reports whether a statement tries to get a lock.
func locks(statement string) bool {
	return strings.Contains(statement, "pg_try_advisory_lock") || strings.Contains(statement, "GET_LOCK") || strings.Contains(statement, "INSERT INTO \"oauth2login_tokens_lock\"")
}

// TestLock_hold: if the holder stops responding, the database ends the lock after the hold
// that the caller asked for.
func TestLock_hold(t *testing.T) {
	for _, c := range []struct {
		dialect sqlstore.Dialect
		hold    time.Duration
		want    string
	}{
		{sqlstore.PostgreSQL, hold, "idle_in_transaction_session_timeout = 25000;"},
		{sqlstore.PostgreSQL, 1500*time.Microsecond + 1, "idle_in_transaction_session_timeout = 2;"},
		{sqlstore.MySQL, hold, "wait_timeout = 25"},
		{sqlstore.MariaDB, 1500 * time.Millisecond, "wait_timeout = 2"},
		{sqlstore.MySQL, 24 * time.Hour, "wait_timeout = 86400"},
	} {
		tokens, seen, _ := scriptedTokens(t, c.dialect, unlocked)
		unlock, err := tokens.User("a").LockToken(t.Context(), c.hold)
		require.NoError(t, err)
		assert.Equal(t, 1, seen.count(c.want), "%v %v", c.dialect, seen.said())
		unlock()
	}
	tokens, seen, _ := scriptedTokens(t, sqlstore.SQLite, unlocked)
	unlock, err := tokens.User("a").LockToken(t.Context(), hold)
	require.NoError(t, err)
	args := seen.args[1]
	assert.Equal(t, int64(25_000), args[len(args)-1].Value)
	unlock()
}

// TestLock_waiting: a waiting caller keeps no connection between two attempts.
func TestLock_waiting(t *testing.T) {
	for _, d := range allDialects {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			taken := true
			tokens, seen, db := scriptedTokens(t, d, func(ctx context.Context, q string) ([]driver.Value, error) {
				mu.Lock()
				defer mu.Unlock()
				switch {
				case !taken:
				case strings.Contains(q, "pg_try_advisory_lock"):
					return nil, nil // no row
				case strings.Contains(q, "GET_LOCK"):
					return []driver.Value{int64(0)}, nil
				case strings.Contains(q, "COUNT(*)"):
					return []driver.Value{int64(1)}, nil
				}
				return unlocked(ctx, q)
			})
			begin := time.Now()
			for i := range 10 {
				go func() {
					unlock, err := tokens.User(fmt.Sprint(i)).LockToken(t.Context(), hold)
					if assert.NoError(t, err) {
						unlock()
					}
				}()
			}
			for range 100 {
				time.Sleep(10*time.Millisecond + 1)
				synctest.Wait()
				assert.Zero(t, db.Stats().InUse)
			}
			tries := max(seen.count("pg_try_advisory_lock"), seen.count("GET_LOCK"), seen.count("COUNT(*)"))
			assert.Greater(t, tries, 10*5, "tries in a second by 10 callers")
			assert.Less(t, tries, 10*20)
			mu.Lock()
			taken = false
			mu.Unlock()
			time.Sleep(200 * time.Millisecond)
			synctest.Wait()
			assert.Zero(t, db.Stats().InUse)
			assert.Less(t, time.Since(begin), 2*time.Second)
			_, closed := seen.connections()
			assert.LessOrEqual(t, closed, 8, "connections are used again") // most connections are reused; the pool keeps two
		})
	}
}

// TestLock_poolShare: locks leave some connections of the pool to other calls.
func TestLock_poolShare(t *testing.T) {
	for conns, want := range map[int]int{0: 40, 1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 10: 8, 100: 40} {
		synctest.Test(t, func(t *testing.T) {
			tokens, _, db := scriptedTokens(t, sqlstore.PostgreSQL, unlocked)
			db.SetMaxOpenConns(conns)
			var wg sync.WaitGroup
			for i := range 40 {
				wg.Go(func() {
					unlock, err := tokens.User(fmt.Sprint(i)).LockToken(t.Context(), hold)
					if assert.NoError(t, err) {
						time.Sleep(100 * time.Millisecond)
						unlock()
					}
				})
			}
			synctest.Wait()
			assert.Equal(t, want, db.Stats().InUse, "%d connections", conns)
			if conns > 1 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				assert.NoError(t, tokens.User("other").DeleteToken(ctx), "other calls do not wait")
				cancel()
			}
			wg.Wait()
		})
	}
}

// TestLock_queue: only one caller at a time asks the database for a user's lock.
func TestLock_queue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens, seen, db := scriptedTokens(t, sqlstore.PostgreSQL, unlocked)
		unlock, err := tokens.User("a").LockToken(t.Context(), hold)
		require.NoError(t, err)
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				unlock, err := tokens.User("a").LockToken(t.Context(), hold)
				if assert.NoError(t, err) {
					time.Sleep(time.Millisecond)
					unlock()
				}
			})
		}
		synctest.Wait()
		assert.Equal(t, 1, db.Stats().InUse)
		assert.Len(t, seen.said(), 1)
		unlock()
		wg.Wait()
		opened, _ := seen.connections()
		assert.Equal(t, 1, opened)
	})
}

// TestLock_lifetime: if nobody releases a lock, it ends after the hold that its caller
// asked for, and its connection becomes free.
func TestLock_lifetime(t *testing.T) {
	for _, d := range allDialects {
		synctest.Test(t, func(t *testing.T) {
			tokens, _, db := scriptedTokens(t, d, unlocked)
			begin := time.Now()
			late, err := tokens.User("a").LockToken(t.Context(), time.Minute)
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			unlock, err := tokens.User("a").LockToken(ctx, time.Minute)
			require.NoError(t, err)
			assert.Equal(t, time.Minute, time.Since(begin))
			late()
			ctx, cancel = context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err = tokens.User("a").LockToken(ctx, time.Minute)
			assert.ErrorIs(t, err, context.DeadlineExceeded, "a late unlock does not end the next lock")
			unlock()
			assert.Zero(t, db.Stats().InUse)
		})
	}
}

// TestLock_lost makes the statements of a held lock fail, one after the other.
func TestLock_lost(t *testing.T) {
	for _, d := range withSessions {
		for _, failing := range []string{"SELECT token", "INSERT", "COMMIT AND CHAIN", "advisory_unlock", "RELEASE_LOCK", "SET SESSION wait_timeout = @"} {
			broken := false
			tokens, seen, db := scriptedTokens(t, d, func(ctx context.Context, q string) ([]driver.Value, error) {
				switch {
				case strings.Contains(q, failing) && !broken:
					broken = true
					return nil, errors.New("broken")
				case strings.HasPrefix(q, "SELECT token"):
					return []driver.Value{[]byte("{}")}, nil
				}
				return unlocked(ctx, q)
			})
			db.SetMaxOpenConns(1)
			u := tokens.User("a")
			unlock, err := u.LockToken(t.Context(), hold)
			require.NoError(t, err)
			_, err = u.LoadToken(t.Context())
			if failing == "SELECT token" {
				assert.ErrorContains(t, err, "the connection that held the lock has failed")
			} else {
				assert.NoError(t, err)
			}
			assert.NoError(t, u.SaveToken(t.Context(), &oauth2.Token{}), "another connection is used after a failed %s", failing)
			unlock()
			unlock()
			assert.Zero(t, db.Stats().InUse)
			_, closed := seen.connections()
			if broken {
				assert.Equal(t, 1, closed, "the connection is not used again: %v %s", d, failing)
			} else {
				assert.Zero(t, closed, "%v %s", d, failing)
			}
			broken = true
			unlock, err = u.LockToken(t.Context(), hold)
			require.NoError(t, err, "%v %s", d, failing)
			unlock()
		}
	}
}

// TestLock_failed: a failed attempt may have got the lock in spite of the error. So the
// connection must be closed.
func TestLock_failed(t *testing.T) {
	for _, d := range withSessions {
		for what, answer := range map[string]answer{
			"error": fails(errors.New("no locks today")),
			"NULL": func(context.Context, string) ([]driver.Value, error) {
				if d == sqlstore.PostgreSQL {
					return nil, errors.New("no locks today")
				}
				return []driver.Value{nil}, nil
			},
			"after the lock": func(ctx context.Context, q string) ([]driver.Value, error) {
				if !locks(q) || d == sqlstore.PostgreSQL {
					return nil, errors.New("not afterwards")
				}
				return unlocked(ctx, q)
			},
			"after a try": func(ctx context.Context, q string) ([]driver.Value, error) {
				if locks(q) && d == sqlstore.PostgreSQL {
					return nil, nil
				}
				return nil, errors.New("no ROLLBACK")
			},
		} {
			tokens, seen, db := scriptedTokens(t, d, answer)
			_, err := tokens.User("a").LockToken(t.Context(), hold)
			assert.ErrorContains(t, err, "sqlstore: tokens: lock: ", what)
			assert.Zero(t, db.Stats().InUse)
			_, closed := seen.connections()
			assert.Equal(t, 1, closed, "%v %s", d, what)
		}
	}
}

// TestLease_failedClaim: a failed attempt may have written the lease in spite of the
// error. So the lease must be deleted.
func TestLease_failedClaim(t *testing.T) {
	tokens, seen, _ := scriptedTokens(t, sqlstore.SQLite, func(ctx context.Context, q string) ([]driver.Value, error) {
		if locks(q) {
			return nil, errors.New("broken")
		}
		return unlocked(ctx, q)
	})
	_, err := tokens.User("a").LockToken(t.Context(), hold)
	assert.ErrorContains(t, err, "sqlstore: tokens: lock: ")
	assert.Equal(t, 1, seen.count("DELETE"))
}

// TestLease_late: the statement for the lease takes too long. LockToken deletes the lease
// and tries again.
func TestLease_late(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		claims := 0
		tokens, seen, _ := scriptedTokens(t, sqlstore.SQLite, func(ctx context.Context, q string) ([]driver.Value, error) {
			if strings.HasPrefix(q, "INSERT") {
				if claims++; claims < 3 {
					time.Sleep(3 * time.Second)
				}
			}
			return unlocked(ctx, q)
		})
		begin := time.Now()
		unlock, err := tokens.User("a").LockToken(t.Context(), hold)
		require.NoError(t, err)
		assert.GreaterOrEqual(t, time.Since(begin), 6*time.Second)
		assert.Equal(t, 3, claims)
		assert.Equal(t, 2, seen.count("DELETE"))
		unlock()
		assert.Equal(t, 3, seen.count("DELETE"))
	})
}

// TestLock_hangingStatement: unlock waits only briefly for a hanging statement. The
// connection is closed when the statement ends.
func TestLock_hangingStatement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens, seen, db := scriptedTokens(t, sqlstore.PostgreSQL, func(ctx context.Context, q string) ([]driver.Value, error) {
			if strings.HasPrefix(q, "INSERT") {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return unlocked(ctx, q)
		})
		unlock, err := tokens.User("a").LockToken(t.Context(), hold)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		assert.ErrorIs(t, tokens.User("a").SaveToken(ctx, &oauth2.Token{}), context.DeadlineExceeded)
		begin := time.Now()
		unlock()
		assert.Equal(t, 2*time.Second, time.Since(begin))
		time.Sleep(time.Second)
		synctest.Wait()
		assert.Zero(t, db.Stats().InUse)
		_, closed := seen.connections()
		assert.Equal(t, 1, closed)
	})
}
