package tests

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/sqlstore"
	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// withLocks are the databases whose locks end with the connection.
var withLocks = withPooler(postgreSQL, mariaDB)

// TestTokensLock_poolOfOne refreshes the tokens of many users at the same time, through a
// pool of one connection.
func TestTokensLock_poolOfOne(t *testing.T) {
	onEach(t, databases, func(t *testing.T, d database) {
		s, db, _ := newTokens(t, d, 1)
		var wg sync.WaitGroup
		for i := range 20 {
			u := s.User(fmt.Sprint(i % 10))
			wg.Go(func() {
				ctx := patient(t)
				unlock, err := u.LockToken(ctx, hold)
				if !assert.NoError(t, err) {
					return
				}
				defer unlock()
				_, err = u.LoadToken(ctx)
				assert.NoError(t, err)
				assert.NoError(t, u.SaveToken(ctx, token("a")))
				tok, err := u.LoadToken(ctx)
				assert.NoError(t, err)
				assert.NotNil(t, tok)
			})
		}
		wg.Wait()
		assert.LessOrEqual(t, db.Stats().OpenConnections, 1)
	})
}

// TestTokensLock_savesAreCommitted: the holder of the lock saves a token. Another process
// must be able to read that token before the lock is released.
func TestTokensLock_savesAreCommitted(t *testing.T) {
	onEach(t, databases, func(t *testing.T, d database) {
		dsn := d.dsn(t)
		db := open(t, d, dsn, 10)
		table := newTable(t, db)
		s := sameTokens(t, d, db, table)
		other := sameTokens(t, d, open(t, d, dsn, 10), table)
		unlock, err := s.User("a").LockToken(patient(t), hold)
		require.NoError(t, err)
		defer unlock()
		for _, name := range []string{"one", "two"} {
			require.NoError(t, s.User("a").SaveToken(patient(t), token(name)))
			tok, err := other.User("a").LoadToken(patient(t))
			require.NoError(t, err)
			assert.Equal(t, token(name).AccessToken, tok.AccessToken)
			_, err = other.User("a").LockToken(timeout(t, 200*time.Millisecond), hold)
			assert.ErrorIs(t, err, context.DeadlineExceeded, "saving has ended the lock")
		}
		require.NoError(t, other.User("a").SaveToken(patient(t), token("elsewhere")))
		tok, err := s.User("a").LoadToken(patient(t))
		require.NoError(t, err)
		assert.Equal(t, token("elsewhere").AccessToken, tok.AccessToken, "the holder sees what others have committed")
	})
}

// TestTokensLock_isolation uses sessions whose transactions are serializable by default,
// and in PostgreSQL also read-only. In a serializable transaction, a caller that waits for
// the lock would later read old data, from the time at which its wait began.
func TestTokensLock_isolation(t *testing.T) {
	onEach(t, []database{postgreSQL, mariaDB}, func(t *testing.T, d database) {
		dsn := d.dsn(t)
		db := open(t, d, dsn, 10)
		table := newTable(t, db)
		s := sameTokens(t, d, db, table)
		strict := with(t, dsn, map[string]string{
			"default_transaction_isolation": "serializable", "default_transaction_read_only": "on", "default_transaction_deferrable": "on",
		})
		if d.driver == "mysql" {
			var name, value string // tx_isolation in older versions
			require.NoError(t, db.QueryRow("SHOW VARIABLES WHERE Variable_name IN ('tx_isolation', 'transaction_isolation')").Scan(&name, &value))
			conf, err := mysql.ParseDSN(dsn)
			require.NoError(t, err)
			conf.Params = map[string]string{name: "'SERIALIZABLE'"}
			strict = conf.FormatDSN()
		}
		waiter := openTokens(t, d, open(t, d, strict, 10), table)
		require.NoError(t, s.User("a").SaveToken(patient(t), token("old")))
		unlock, err := s.User("a").LockToken(patient(t), hold)
		require.NoError(t, err)
		done := make(chan error)
		go func() {
			unlock, err := waiter.User("a").LockToken(patient(t), hold)
			if err != nil {
				done <- err
				return
			}
			defer unlock()
			tok, err := waiter.User("a").LoadToken(patient(t))
			if err == nil && tok.AccessToken != token("new").AccessToken {
				err = fmt.Errorf("read what was there before the lock")
			}
			if err == nil {
				err = waiter.User("a").SaveToken(patient(t), token("newer"))
			}
			done <- err
		}()
		time.Sleep(300 * time.Millisecond) // let the goroutine wait for the lock
		require.NoError(t, s.User("a").SaveToken(patient(t), token("new")))
		unlock()
		require.NoError(t, <-done)
		tok, err := s.User("a").LoadToken(patient(t))
		require.NoError(t, err)
		assert.Equal(t, token("newer").AccessToken, tok.AccessToken)
	})
}

// with adds parameters to the DSN of a PostgreSQL.
func with(t testing.TB, dsn string, params map[string]string) string {
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	q := u.Query()
	for k, v := range params {
		q.Set(k, v)
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// named returns a DSN and the function kill. kill ends the connections that were opened
// with the DSN, as an administrator, a server crash or a network fault would. In
// PostgreSQL, a name marks these connections. In MariaDB, kill ends all connections that
// were opened after the call of named.
func named(t testing.TB, d database, dsn string, db *sql.DB) (marked string, kill func()) {
	if d.dialect == sqlstore.PostgreSQL {
		name := fmt.Sprintf("mark%d", time.Now().UnixNano())
		return with(t, dsn, map[string]string{"application_name": name}), func() {
			var n int
			require.NoError(t, db.QueryRow("SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1", name).Scan(&n))
			require.NotZero(t, n)
		}
	}
	before := connections(t, db)
	return dsn, func() {
		killed := 0
		for id := range connections(t, db) {
			if !before[id] {
				if _, err := db.Exec(fmt.Sprintf("KILL %d", id)); err == nil {
					killed++
				}
			}
		}
		require.NotZero(t, killed)
	}
}

// connections returns the idle connections of MariaDB.
func connections(t testing.TB, db *sql.DB) map[int64]bool {
	rows, err := db.Query("SELECT id FROM information_schema.processlist WHERE command = 'Sleep'")
	require.NoError(t, err)
	defer rows.Close()
	ids := make(map[int64]bool)
	for rows.Next() {
		var id int64
		require.NoError(t, rows.Scan(&id))
		ids[id] = true
	}
	require.NoError(t, rows.Err())
	return ids
}

// TestTokensLock_brokenConnection: if the lock's connection breaks, the lock ends. A save
// uses another connection, a load returns an error, and no connection is left behind.
func TestTokensLock_brokenConnection(t *testing.T) {
	if !long {
		t.Skip("ends all new connections of MariaDB, so it runs alone: set SHANGCLOUD_LONG_TESTS=1")
	}
	// This test does not run in parallel, because it ends all new connections of MariaDB.
	for _, d := range withLocks {
		t.Run(d.name, func(t *testing.T) {
			for _, conns := range []int{1, 10} {
				dsn := d.dsn(t)
				db := open(t, d, dsn, 2)
				table := newTable(t, db)
				other := sameTokens(t, d, db, table)
				require.NoError(t, other.User("a").SaveToken(patient(t), token("old")))
				unlock, err := other.User("warm-up").LockToken(patient(t), hold)
				require.NoError(t, err)
				unlock()

				marked, kill := named(t, d, dsn, db)
				pool := open(t, d, marked, conns)
				s := openTokens(t, d, pool, table)
				u := s.User("a")
				unlock, err = u.LockToken(patient(t), hold)
				require.NoError(t, err)
				_, err = u.LoadToken(patient(t))
				require.NoError(t, err)
				kill()
				unlockOther, err := other.User("a").LockToken(patient(t), hold)
				require.NoError(t, err, "the lock ends with its connection")
				unlockOther()
				require.NoError(t, u.SaveToken(patient(t), token("new")), "another connection takes over")
				_, err = u.LoadToken(patient(t))
				assert.ErrorContains(t, err, "held the lock has failed", "this would be taken for the right to refresh")
				unlock()
				unlock() // a second call does nothing
				tok, err := u.LoadToken(patient(t))
				require.NoError(t, err)
				assert.Equal(t, token("new").AccessToken, tok.AccessToken)

				// Here, a load is the first call that uses the broken connection.
				unlock, err = u.LockToken(patient(t), hold)
				require.NoError(t, err)
				kill()
				_, err = u.LoadToken(patient(t))
				assert.Error(t, err)
				unlock()
				// Here, unlock is the first call that uses the broken connection.
				unlock, err = u.LockToken(patient(t), hold)
				require.NoError(t, err)
				kill()
				unlock()
				assert.Zero(t, pool.Stats().InUse)
				unlock, err = u.LockToken(patient(t), hold)
				require.NoError(t, err)
				unlock()
			}
		})
	}
}

// TestTokensLock_connectionState: a released lock leaves no session state on its
// connection.
func TestTokensLock_connectionState(t *testing.T) {
	onEach(t, []database{postgreSQL, mariaDB}, func(t *testing.T, d database) {
		s, db, _ := newTokens(t, d, 1)
		look := func() (text string) {
			query := "SELECT CONCAT(CONNECTION_ID(), ' ', @@SESSION.wait_timeout, ' ', @@autocommit)"
			if d.dialect == sqlstore.PostgreSQL {
				query = `SELECT concat(pg_backend_pid(), current_setting('idle_in_transaction_session_timeout'),
					(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
					now() = statement_timestamp())`
			}
			require.NoError(t, db.QueryRow(query).Scan(&text))
			return text
		}
		if d.driver == "mysql" {
			_, err := db.Exec("SET SESSION wait_timeout = 777")
			require.NoError(t, err)
		}
		before := look()
		for range 3 {
			unlock, err := s.User("a").LockToken(patient(t), hold)
			require.NoError(t, err)
			require.NoError(t, s.User("a").SaveToken(patient(t), token("a")))
			unlock()
		}
		assert.Equal(t, before, look())
	})
}

// TestTokensLock_cancelledLoads: a cancelled load does not end the lock.
func TestTokensLock_cancelledLoads(t *testing.T) {
	onEach(t, databases, func(t *testing.T, d database) {
		dsn := d.dsn(t)
		db := open(t, d, dsn, 4)
		table := newTable(t, db)
		s := sameTokens(t, d, db, table)
		other := sameTokens(t, d, open(t, d, dsn, 4), table)
		unlock, err := s.User("a").LockToken(patient(t), hold)
		require.NoError(t, err)
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*20*time.Microsecond)
				defer cancel()
				_, _ = s.User("a").LoadToken(ctx)
			})
		}
		wg.Wait()
		_, err = other.User("a").LockToken(timeout(t, 300*time.Millisecond), hold)
		assert.ErrorIs(t, err, context.DeadlineExceeded, "the lock is gone")
		_, err = s.User("a").LoadToken(patient(t))
		assert.NoError(t, err)
		unlock()
	})
}

// TestTokensLock_cancelledWaits: cancelled waits leave no locks, connections or goroutines.
func TestTokensLock_cancelledWaits(t *testing.T) {
	// This test does not run in parallel, because it counts goroutines.
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			dsn := d.dsn(t)
			db := open(t, d, dsn, 10)
			table := newTable(t, db)
			s := sameTokens(t, d, db, table)
			pool := open(t, d, dsn, 10)
			other := sameTokens(t, d, pool, table)
			before := runtime.NumGoroutine()
			unlock, err := s.User("a").LockToken(patient(t), hold)
			require.NoError(t, err)
			var wg sync.WaitGroup
			for i := range 50 {
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(10+i*10)*time.Millisecond)
					defer cancel()
					_, err := other.User("a").LockToken(ctx, hold)
					assert.ErrorIs(t, err, context.DeadlineExceeded)
				})
			}
			ends(t, wg.Wait)
			unlock()
			// Here, callers give up at about the same moment at which the lock becomes
			// free.
			for i := range 100 {
				unlock, err := s.User("a").LockToken(patient(t), hold)
				require.NoError(t, err, "%d", i)
				done := make(chan struct{})
				go func() {
					defer close(done)
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*100*time.Microsecond)
					defer cancel()
					if unlock, err := other.User("a").LockToken(ctx, hold); err == nil {
						unlock()
					}
				}()
				time.Sleep(time.Duration(i%10) * 500 * time.Microsecond)
				unlock()
				<-done
			}
			unlock, err = s.User("a").LockToken(patient(t), hold)
			require.NoError(t, err)
			unlock()
			assert.Eventually(t, func() bool { return len(lockRows(t, d, db, table)) == 0 }, patience, 10*time.Millisecond)
			assert.Eventually(t, func() bool { return pool.Stats().InUse == 0 }, patience, 10*time.Millisecond)
			// Pools and drivers keep some goroutines for each connection.
			allowed := before + 2*20
			assert.Eventually(t, func() bool { return runtime.NumGoroutine() <= allowed }, patience, 10*time.Millisecond,
				"%d goroutines before", before)
		})
	}
}

// TestTokensLock_manyUsers holds the locks of many users at once.
func TestTokensLock_manyUsers(t *testing.T) {
	onEach(t, databases, func(t *testing.T, d database) {
		s, _, _ := newTokens(t, d, 40)
		n := 30
		if d.name == pgBouncer.name {
			n = 3 // all tests share the 20 connections of PgBouncer
		}
		for i := range n {
			unlock, err := s.User(fmt.Sprint(i)).LockToken(patient(t), hold)
			require.NoError(t, err)
			defer unlock()
		}
	})
}

// TestTokensLock_smallPool: one process holds 40 locks. In another process, 40 callers
// wait for these locks, with a pool of 5 connections.
func TestTokensLock_smallPool(t *testing.T) {
	onEach(t, []database{postgreSQL, mariaDB, sqLite}, func(t *testing.T, d database) {
		const users, conns = 40, 5
		dsn := d.dsn(t)
		db := open(t, d, dsn, 60)
		table := newTable(t, db)
		holder := sameTokens(t, d, db, table)
		pool := open(t, d, dsn, conns)
		waiter := sameTokens(t, d, pool, table)
		var unlocks []func()
		for i := range users {
			unlock, err := holder.User(fmt.Sprint(i)).LockToken(patient(t), hold)
			require.NoError(t, err)
			unlocks = append(unlocks, unlock)
		}
		// The waiting callers have a longer time limit than the other calls. The hold is
		// even longer.
		var wg sync.WaitGroup
		for i := range users {
			wg.Go(func() {
				u, ctx := waiter.User(fmt.Sprint(i)), timeout(t, 5*patience)
				unlock, err := u.LockToken(ctx, hold)
				if assert.NoError(t, err) {
					assert.NoError(t, u.SaveToken(ctx, token("new")))
					unlock()
				}
			})
		}
		for range 20 { // other calls do not wait behind the waiters
			_, err := waiter.User("other").LoadToken(patient(t))
			assert.NoError(t, err)
			time.Sleep(20 * time.Millisecond)
		}
		for _, unlock := range unlocks {
			unlock()
		}
		wg.Wait()
	})
}

// TestTokensLock_hold: if the holder of a lock stops responding, the database ends the
// lock after the hold that the holder asked for.
func TestTokensLock_hold(t *testing.T) {
	onEach(t, []database{postgreSQL, mariaDB}, func(t *testing.T, d database) {
		dsn := d.dsn(t)
		db := open(t, d, dsn, 4)
		table := newTable(t, db)
		other := sameTokens(t, d, db, table)
		p := newProxy(t, d, dsn)
		s := openTokens(t, d, open(t, d, p.dsn, 4), table)
		const short = 2 * time.Second
		begin := time.Now()
		unlock, err := s.User("a").LockToken(patient(t), short)
		require.NoError(t, err)
		p.swallow()
		unlockOther, err := other.User("a").LockToken(patient(t), hold)
		require.NoError(t, err, "the server ends a silent lock")
		assert.GreaterOrEqual(t, time.Since(begin), short, "but not early")
		unlock()
		_, err = s.User("a").LockToken(timeout(t, 300*time.Millisecond), hold)
		assert.ErrorIs(t, err, context.DeadlineExceeded, "a late unlock does not end the next holder's lock")
		unlockOther()
	})
}

// TestTokensLock_tables: tables with different names, schemas or databases have separate
// locks.
func TestTokensLock_tables(t *testing.T) {
	onEach(t, databases, func(t *testing.T, d database) {
		s, db, table := newTokens(t, d, 10)
		unlock, err := s.User("a").LockToken(patient(t), hold)
		require.NoError(t, err)
		defer unlock()
		free := func(s *sqlstore.Tokens) {
			unlock, err := s.User("a").LockToken(patient(t), hold)
			require.NoError(t, err)
			unlock()
		}
		free(sameTokens(t, d, db, newTable(t, db)))
		if d.dialect == sqlstore.SQLite {
			return // this database has no schemas
		}
		schema := strings.Replace(table, "tokens", "other", 1)
		_, err = db.Exec("CREATE SCHEMA " + schema)
		require.NoError(t, err)
		defer func() {
			drop := "DROP SCHEMA " + schema
			if d.dialect == sqlstore.PostgreSQL {
				drop += " CASCADE"
			}
			_, err := db.Exec(drop)
			assert.NoError(t, err)
		}()
		free(sameTokens(t, d, db, schema+"."+table))
	})
}

// TestTokensLease covers leases whose holders died, and leases that begin in the future
// because the clock was set back.
func TestTokensLease(t *testing.T) {
	t.Parallel()
	s, db, table := newTokens(t, sqLite, 10)
	leave := func(since, until time.Duration) (end time.Time) {
		now := time.Now()
		end = now.Add(until).Truncate(time.Millisecond)
		_, err := db.Exec("INSERT INTO "+table+"_lock (user_key, owner, since, until) VALUES (?, 'dead', ?, ?)",
			[]byte("a"), now.Add(since).UnixMilli(), end.UnixMilli())
		require.NoError(t, err)
		return end
	}
	lock := func() {
		unlock, err := s.User("a").LockToken(patient(t), hold)
		require.NoError(t, err)
		unlock()
	}
	end := leave(-time.Hour, 700*time.Millisecond)
	lock()
	assert.False(t, time.Now().Before(end), "a lease is not over before its end")
	leave(-2*time.Hour, -time.Hour)
	lock()
	leave(time.Hour, 2*time.Hour) // the clock was set back by an hour
	lock()
	leave(30*time.Second, time.Hour) // the clock was set back by less than a minute
	_, err := s.User("a").LockToken(timeout(t, 300*time.Millisecond), hold)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = db.Exec("DELETE FROM " + table + "_lock")
	require.NoError(t, err)

	before := time.Now()
	unlock, err := s.User("a").LockToken(patient(t), hold)
	require.NoError(t, err)
	after := time.Now()
	var until int64
	require.NoError(t, db.QueryRow("SELECT until FROM "+table+"_lock").Scan(&until))
	const rounding = 2 // milliseconds
	assert.GreaterOrEqual(t, until, before.Add(hold).UnixMilli()-rounding)
	assert.LessOrEqual(t, until, after.Add(hold).UnixMilli()+rounding)

	// A late unlock does not end the lock of the next holder.
	_, err = db.Exec("UPDATE " + table + "_lock SET owner = 'next'")
	require.NoError(t, err)
	unlock()
	assert.Equal(t, []string{"a"}, lockRows(t, sqLite, db, table))
}

// TestTokens_busySQLite writes while another connection has locked the file. A call must
// end with its context, even if SQLite itself would wait longer.
func TestTokens_busySQLite(t *testing.T) {
	for name, options := range map[string]string{"does not wait": "", "waits": "&_pragma=busy_timeout(600000)", "WAL": "&_pragma=journal_mode(WAL)"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := sqLite.dsn(t) + options
			db := open(t, sqLite, dsn, 10)
			s := sameTokens(t, sqLite, db, newTable(t, db))
			blocker, err := open(t, sqLite, dsn, 1).Conn(t.Context())
			require.NoError(t, err)
			defer blocker.Close()
			exec := func(statement string) {
				_, err := blocker.ExecContext(context.WithoutCancel(t.Context()), statement)
				require.NoError(t, err)
			}
			exec("BEGIN EXCLUSIVE")
			for call, f := range map[string]func(context.Context) error{
				"save": func(ctx context.Context) error { return s.User("a").SaveToken(ctx, token("a")) },
				"lock": func(ctx context.Context) error { _, err := s.User("a").LockToken(ctx, hold); return err },
			} {
				ends(t, func() { assert.ErrorIs(t, f(timeout(t, 300*time.Millisecond)), context.DeadlineExceeded, call) })
			}
			time.AfterFunc(500*time.Millisecond, func() { exec("COMMIT") })
			require.NoError(t, s.User("b").SaveToken(patient(t), token("b")))
			unlock, err := s.User("a").LockToken(patient(t), hold)
			require.NoError(t, err, "a claim that was given up is not left behind")
			unlock()
		})
	}
}
