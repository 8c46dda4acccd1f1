package tests

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state/statetest"
	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// stateDatabases are those of the token store, with the dialect that takes from
// MariaDB what it can, and the one that takes it for a MySQL.
var stateDatabases = func() (list []database) {
	for _, d := range databases {
		if d.name == mariaDB.name {
			d.dialect = state.MariaDB
			list = append(list, d)
			d.name, d.dialect = "MySQL", state.MySQL
		}
		list = append(list, d)
	}
	return list
}()

// newStates returns a store in a new table, and its pool.
func newStates(t testing.TB, d database, dsn string, conns int) (*state.SQL, *sql.DB, string) {
	t.Helper()
	db := open(t, d, dsn, conns)
	table := newTable(t, db)
	return sameStates(t, d, db, table), db, table
}

func sameStates(t testing.TB, d database, db *sql.DB, table string) *state.SQL {
	t.Helper()
	s, err := state.NewSQL(db, d.dialect, state.SQLConfig{Table: table})
	require.NoError(t, err)
	require.NoError(t, s.CreateTable(t.Context()))
	return s
}

func TestSQLState(t *testing.T) {
	onEach(t, stateDatabases, func(t *testing.T, d database) {
		var dbs sync.Map // of the stores
		statetest.Run(t, statetest.Backend{
			Open: func(t *testing.T) (a, b state.Store) {
				dsn := d.dsn(t)
				first, db, table := newStates(t, d, dsn, 8)
				dbs.Store(first, [2]any{db, table})
				return first, sameStates(t, d, open(t, d, dsn, 8), table)
			},
			Down: func(t *testing.T) state.Store {
				s, err := state.NewSQL(open(t, d, unreachable(t, d), 2), d.dialect, state.SQLConfig{})
				require.NoError(t, err)
				return s
			},
			Count: func(t *testing.T, a state.Store) (n int) {
				_, err := a.(*state.SQL).DeleteExpired(t.Context())
				require.NoError(t, err)
				v, _ := dbs.Load(a)
				place := v.([2]any)
				require.NoError(t, place[0].(*sql.DB).QueryRow("SELECT COUNT(*) FROM "+place[1].(string)).Scan(&n))
				return n
			},
		})
	})
}

// unreachable is an address where no database is.
func unreachable(t testing.TB, d database) string {
	t.Helper()
	switch d.dialect {
	case state.PostgreSQL:
		return "postgres://nobody@127.0.0.1:1/none?sslmode=disable"
	case state.SQLite:
		return filepath.Join(t.TempDir(), "not", "there", "states.db")
	}
	return "nobody@tcp(127.0.0.1:1)/none"
}

// TestSQLStateIsolation has sessions that run everything at the strictest level.
func TestSQLStateIsolation(t *testing.T) {
	onEach(t, stateDatabases, func(t *testing.T, d database) {
		dsn := d.dsn(t)
		strict := dsn
		switch d.dialect {
		case state.PostgreSQL:
			strict = with(t, dsn, map[string]string{"default_transaction_isolation": "serializable"})
			if d.name == pgBouncer.name {
				t.Skip("PgBouncer takes no such parameter")
			}
		case state.MariaDB, state.MySQL:
			conf, err := mysql.ParseDSN(dsn)
			require.NoError(t, err)
			conf.Params = map[string]string{"tx_isolation": "'SERIALIZABLE'"}
			strict = conf.FormatDSN()
		}
		s, _, table := newStates(t, d, dsn, 4)
		stores := []*state.SQL{s, sameStates(t, d, open(t, d, strict, 8), table), sameStates(t, d, open(t, d, strict, 8), table)}
		for round := range 20 {
			key := fmt.Sprint("key", round)
			require.NoError(t, stores[round%3].Put(t.Context(), key, []byte("value"), time.Minute))
			var wg sync.WaitGroup
			var found, failed atomic.Int64
			for i := range 12 {
				wg.Go(func() {
					_, ok, err := stores[i%3].Take(t.Context(), key)
					if err != nil {
						failed.Add(1)
					}
					if ok {
						found.Add(1)
					}
					// Others start at the same time.
					assert.NoError(t, stores[i%3].Put(t.Context(), fmt.Sprint("other", round, i), []byte("value"), time.Minute))
				})
			}
			wg.Wait()
			assert.Equal(t, int64(1), found.Load())
			assert.Zero(t, failed.Load(), "conflicts are tried again")
		}
	})
}

// TestSQLStateSweeps has logins that nobody finishes: as others start, they go, by an
// index and in batches.
func TestSQLStateSweeps(t *testing.T) {
	onEach(t, stateDatabases, func(t *testing.T, d database) {
		s, db, table := newStates(t, d, d.dsn(t), 4)
		const abandoned = 1000
		for i := range abandoned {
			require.NoError(t, s.Put(t.Context(), fmt.Sprint("gone", i), []byte("value"), time.Hour))
		}
		past := "UPDATE " + table + " SET expires_at = '2001-01-01 00:00:00'"
		if d.dialect == state.SQLite {
			past = "UPDATE " + table + " SET expires_at = 1"
		}
		_, err := db.Exec(past)
		require.NoError(t, err)
		count := func() (n int) {
			require.NoError(t, db.QueryRow("SELECT COUNT(*) FROM "+table).Scan(&n))
			return n
		}
		require.Equal(t, abandoned, count())
		most := abandoned
		for i := range 400 {
			require.NoError(t, s.Put(t.Context(), fmt.Sprint("new", i), []byte("value"), time.Hour))
			now := count()
			assert.LessOrEqual(t, most-now, 400, "a Put removes a bounded number")
			most = now
		}
		assert.Equal(t, 400, count(), "what is alive stays")

		_, err = db.Exec(past)
		require.NoError(t, err)
		n, err := s.DeleteExpired(t.Context())
		require.NoError(t, err)
		assert.Equal(t, int64(400), n)
		assert.Zero(t, count())

		// Two processes at once, among logins.
		for i := range abandoned {
			require.NoError(t, s.Put(t.Context(), fmt.Sprint("gone", i), []byte("value"), time.Hour))
		}
		_, err = db.Exec(past)
		require.NoError(t, err)
		var wg sync.WaitGroup
		var total atomic.Int64
		for i := range 4 {
			wg.Go(func() {
				n, err := s.DeleteExpired(t.Context())
				assert.NoError(t, err)
				total.Add(n)
				for j := range 50 {
					key := fmt.Sprint("login", i, " ", j)
					assert.NoError(t, s.Put(t.Context(), key, []byte("value"), time.Minute))
					_, found, err := s.Take(t.Context(), key)
					assert.NoError(t, err)
					assert.True(t, found)
				}
			})
		}
		wg.Wait()
		rest, err := s.DeleteExpired(t.Context())
		require.NoError(t, err)
		assert.Equal(t, int64(abandoned), total.Load()+rest)
	})
}

// TestSQLStateUsesItsIndexes asks the databases how they would find rows.
func TestSQLStateUsesItsIndexes(t *testing.T) {
	onEach(t, stateDatabases, func(t *testing.T, d database) {
		s, db, table := newStates(t, d, d.dsn(t), 4)
		for i := range 2000 {
			require.NoError(t, s.Put(t.Context(), fmt.Sprint("key", i), []byte("value"), time.Hour))
		}
		var explain, analyze string
		switch d.dialect {
		case state.PostgreSQL:
			analyze = "ANALYZE " + table
			explain = "EXPLAIN SELECT ctid FROM " + table + " WHERE expires_at <= now() ORDER BY expires_at LIMIT 400 FOR UPDATE SKIP LOCKED"
		case state.SQLite:
			analyze = "ANALYZE"
			explain = "EXPLAIN QUERY PLAN DELETE FROM " + table + " WHERE rowid IN (SELECT rowid FROM " + table + " WHERE expires_at <= 5 ORDER BY expires_at LIMIT 400)"
		default:
			analyze = "ANALYZE TABLE " + table
			explain = "EXPLAIN DELETE FROM " + table + " WHERE expires_at <= UTC_TIMESTAMP(6) ORDER BY expires_at LIMIT 400"
		}
		rows, err := db.Query(analyze)
		require.NoError(t, err)
		require.NoError(t, rows.Close())
		rows, err = db.Query(explain)
		require.NoError(t, err)
		defer rows.Close()
		columns, err := rows.Columns()
		require.NoError(t, err)
		var plan strings.Builder
		for rows.Next() {
			fields := make([]any, len(columns))
			for i := range fields {
				fields[i] = new(sql.NullString)
			}
			require.NoError(t, rows.Scan(fields...))
			for _, f := range fields {
				plan.WriteString(f.(*sql.NullString).String + " ")
			}
		}
		require.NoError(t, rows.Err())
		assert.Contains(t, plan.String(), table+"_exp")
		assert.NotContains(t, plan.String(), "Seq Scan")
		assert.NotContains(t, plan.String(), "SCAN")
	})
}

// TestSQLStatePermissions has a database user with the rights that the documentation
// names.
func TestSQLStatePermissions(t *testing.T) {
	onEach(t, stateDatabases, func(t *testing.T, d database) {
		if d.dialect == state.SQLite || d.name == pgBouncer.name {
			t.Skip("it knows no users of its own")
		}
		dsn := d.dsn(t)
		_, db, table := newStates(t, d, dsn, 4)
		exec := func(statement string) {
			t.Helper()
			_, err := db.Exec(statement)
			require.NoError(t, err)
		}
		role := "s" + table[len(table)-20:]
		if d.dialect == state.PostgreSQL {
			exec("CREATE ROLE " + role + " LOGIN PASSWORD 'pw'")
			t.Cleanup(func() { exec("DROP OWNED BY " + role + "; DROP ROLE " + role) })
			u, err := url.Parse(dsn)
			require.NoError(t, err)
			u.User = url.UserPassword(role, "pw")
			dsn = u.String()
		} else {
			exec("CREATE USER " + role + " IDENTIFIED BY 'pw'")
			t.Cleanup(func() { exec("DROP USER " + role) })
			conf, err := mysql.ParseDSN(dsn)
			require.NoError(t, err)
			conf.User, conf.Passwd = role, "pw"
			dsn = conf.FormatDSN()
		}
		exec("GRANT SELECT, INSERT, UPDATE, DELETE ON " + table + " TO " + role)
		limited := open(t, d, dsn, 4)
		s, err := state.NewSQL(limited, d.dialect, state.SQLConfig{Table: table})
		require.NoError(t, err)
		require.NoError(t, s.Put(t.Context(), "key", []byte("value"), time.Minute))
		require.NoError(t, s.Put(t.Context(), "key", []byte("again"), time.Minute))
		value, found, err := s.Take(t.Context(), "key")
		require.NoError(t, err)
		assert.True(t, found)
		assert.Equal(t, "again", string(value))
		_, err = s.DeleteExpired(t.Context())
		require.NoError(t, err)
		require.NoError(t, limited.Close()) // a role in use can't be dropped
	})
}

func TestSQLStateSchemaByHand(t *testing.T) {
	onEach(t, stateDatabases, func(t *testing.T, d database) {
		db := open(t, d, d.dsn(t), 4)
		s, err := state.NewSQL(db, d.dialect, state.SQLConfig{Table: newTable(t, db)})
		require.NoError(t, err)
		require.Error(t, s.Put(t.Context(), "key", []byte("value"), time.Minute), "no table yet")
		_, found, err := s.Take(t.Context(), "key")
		require.Error(t, err)
		assert.False(t, found)
		for range 2 {
			for statement := range strings.SplitAfterSeq(s.Schema(), ";\n") {
				if statement != "" {
					_, err := db.Exec(statement)
					require.NoError(t, err)
				}
			}
		}
		require.NoError(t, s.Put(t.Context(), "key", []byte("value"), time.Minute))

		var wg sync.WaitGroup
		table := newTable(t, db)
		for range 6 { // from everywhere at once
			wg.Go(func() {
				s, err := state.NewSQL(db, d.dialect, state.SQLConfig{Table: table})
				require.NoError(t, err)
				assert.NoError(t, s.CreateTable(t.Context()))
			})
		}
		wg.Wait()
	})
}

// TestSQLStateTableNames uses a word of the language, a schema, and a long name.
func TestSQLStateTableNames(t *testing.T) {
	onEach(t, stateDatabases, func(t *testing.T, d database) {
		dsn := d.dsn(t)
		db := open(t, d, dsn, 4)
		schema := map[state.Dialect]string{state.PostgreSQL: "public", state.SQLite: "main"}[d.dialect]
		if schema == "" {
			conf, err := mysql.ParseDSN(dsn)
			require.NoError(t, err)
			schema = conf.DBName
		}
		name := newTable(t, db)
		for _, table := range []string{schema + "." + name, (newTable(t, db) + strings.Repeat("x", 58))[:58]} {
			s := sameStates(t, d, db, table)
			require.NoError(t, s.Put(t.Context(), "key", []byte(table), time.Minute))
			value, found, err := s.Take(t.Context(), "key")
			require.NoError(t, err)
			assert.True(t, found)
			assert.Equal(t, table, string(value))
			if table[:len(schema)] != schema {
				_, err := db.Exec("DROP TABLE " + table)
				require.NoError(t, err)
			}
		}
		for _, bad := range []string{"States", "a b", "a;b", `a"b`, "a`b", "a.b.c", ".a", "1a", strings.Repeat("a", 59)} {
			_, err := state.NewSQL(db, d.dialect, state.SQLConfig{Table: bad})
			assert.ErrorContains(t, err, "SQLConfig.Table", bad)
		}
	})
}

// TestSQLStateTimeZones has sessions in other parts of the world.
func TestSQLStateTimeZones(t *testing.T) {
	onEach(t, []database{stateDatabases[0], stateDatabases[1]}, func(t *testing.T, d database) {
		dsn := d.dsn(t)
		s, _, table := newStates(t, d, dsn, 4)
		var stores []*state.SQL
		for _, zone := range []string{"+14:00", "-11:00"} {
			there := dsn
			if d.dialect == state.PostgreSQL {
				there = with(t, dsn, map[string]string{"timezone": zone})
			} else {
				conf, err := mysql.ParseDSN(dsn)
				require.NoError(t, err)
				conf.Params = map[string]string{"time_zone": "'" + strings.Replace(zone, "+14", "+12", 1) + "'"}
				there = conf.FormatDSN()
			}
			stores = append(stores, sameStates(t, d, open(t, d, there, 2), table))
		}
		require.NoError(t, stores[0].Put(t.Context(), "east", []byte("v"), time.Minute))
		require.NoError(t, stores[1].Put(t.Context(), "west", []byte("v"), time.Minute))
		n, err := s.DeleteExpired(t.Context())
		require.NoError(t, err)
		assert.Zero(t, n)
		for i, key := range []string{"east", "west"} {
			_, found, err := stores[1-i].Take(t.Context(), key)
			require.NoError(t, err)
			assert.True(t, found, key)
		}
	})
}

// TestSQLStateServerFallsSilent: contexts end calls, also where nothing comes back.
func TestSQLStateServerFallsSilent(t *testing.T) {
	onEach(t, []database{stateDatabases[0], stateDatabases[1], stateDatabases[2]}, func(t *testing.T, d database) {
		dsn := d.dsn(t)
		_, _, table := newStates(t, d, dsn, 4)
		p := newProxy(t, database{dialect: proxied(d)}, dsn)
		db := open(t, d, p.dsn, 4)
		s, err := state.NewSQL(db, d.dialect, state.SQLConfig{Table: table})
		require.NoError(t, err)
		require.NoError(t, s.Put(t.Context(), "key", []byte("value"), time.Minute))
		p.swallow()
		within(t, 3*time.Second, func() {
			value, found, err := s.Take(timeout(t, 300*time.Millisecond), "key")
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.ErrorContains(t, err, "timed out")
			assert.False(t, found)
			assert.Nil(t, value)
		})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(200*time.Millisecond, cancel)
		within(t, 3*time.Second, func() {
			assert.Eventually(t, func() bool {
				err := s.Put(ctx, "other", []byte("value"), time.Minute)
				return errors.Is(err, context.Canceled)
			}, 3*time.Second, time.Millisecond)
		})
		p.drop()
		assert.Eventually(t, func() bool {
			return s.Put(timeout(t, time.Second), "new", []byte("value"), time.Minute) == nil
		}, 10*time.Second, 10*time.Millisecond, "it comes back by itself")
	})
}

// proxied is the dialect that newProxy knows a database by.
func proxied(d database) state.Dialect {
	if d.dialect == state.MariaDB {
		return state.MySQL
	}
	return d.dialect
}

// BenchmarkStateSQL is a whole login: a Put and the Take of the same key, beside the
// pool that is given the same two statements.
func BenchmarkStateSQL(b *testing.B) {
	for _, d := range stateDatabases {
		if d.name == "MySQL" || d.name == pgBouncer.name {
			continue
		}
		b.Run(d.name, func(b *testing.B) {
			ctx := timeout(b, time.Hour) // a login always has a deadline
			db := open(b, d, d.dsn(b), 16)
			s := sameStates(b, d, db, newTable(b, db))
			value := make([]byte, 200)
			store := func(key string) error {
				if err := s.Put(ctx, key, value, 5*time.Minute); err != nil {
					return err
				}
				_, found, err := s.Take(ctx, key)
				return mustFind(found, err)
			}
			table := newTable(b, db)
			sameStates(b, d, db, table)
			place, now, then := "?", "UTC_TIMESTAMP(6)", "UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND"
			put := "REPLACE INTO %s (state_key, value, expires_at) VALUES (?, ?, %s)"
			switch d.dialect {
			case state.PostgreSQL:
				place, now, then = "$1", "clock_timestamp()", "clock_timestamp() + $3::bigint * interval '1 microsecond'"
				put = "INSERT INTO %s (state_key, value, expires_at) VALUES ($1, $2, %s) ON CONFLICT (state_key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at"
			case state.SQLite:
				now = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
				then = now + " + ?"
				put = "INSERT INTO %s (state_key, value, expires_at) VALUES (?, ?, %s) ON CONFLICT (state_key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at"
			}
			put = fmt.Sprintf(put, table, then)
			take := "DELETE FROM " + table + " WHERE state_key = " + place + " RETURNING value, expires_at > " + now
			var writing sync.Mutex // SQLite has one writer at a time, whoever asks
			benchmarkState(b, store, func(key string) error {
				if d.dialect == state.SQLite {
					writing.Lock()
					defer writing.Unlock()
				}
				if _, err := db.ExecContext(ctx, put, []byte(key), value, int64(300_000_000)); err != nil {
					return err
				}
				var got []byte
				var alive bool
				return db.QueryRowContext(ctx, take, []byte(key)).Scan(&got, &alive)
			})
		})
	}
}

// TestSQLStateCommitFails: a state counts as taken when the database has committed
// that, which is after it has sent the row.
func TestSQLStateCommitFails(t *testing.T) {
	t.Parallel()
	s, db, table := newStates(t, postgreSQL, postgreSQL.dsn(t), 4)
	_, err := db.Exec(`CREATE FUNCTION ` + table + `_f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
		CREATE CONSTRAINT TRIGGER late AFTER DELETE ON ` + table + ` DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ` + table + `_f()`)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := db.Exec(`DROP FUNCTION ` + table + `_f() CASCADE`)
		assert.NoError(t, err)
	})
	require.NoError(t, s.Put(t.Context(), "key", []byte("value"), time.Minute))
	value, found, err := s.Take(t.Context(), "key")
	assert.Error(t, err)
	assert.False(t, found)
	assert.Nil(t, value)
	var n int
	require.NoError(t, db.QueryRow("SELECT COUNT(*) FROM "+table).Scan(&n))
	assert.Equal(t, 1, n)
}
