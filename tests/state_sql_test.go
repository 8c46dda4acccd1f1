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

	"github.com/YearnstudioHorizon/shangcloud-oauth2/sqlstore"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state/statetest"
	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// stateDatabases are the databases of the token store's tests, and additionally MariaDB
// with the dialect MySQL.
var stateDatabases = func() (list []database) {
	for _, d := range databases {
		list = append(list, d)
		if d.name == mariaDB.name {
			d.name, d.dialect = "MySQL", sqlstore.MySQL
			list = append(list, d)
		}
	}
	return list
}()

// newStates returns a store in a new table, the pool of the store, and the name of the
// table.
func newStates(t testing.TB, d database, dsn string, conns int) (*sqlstore.States, *sql.DB, string) {
	t.Helper()
	db := open(t, d, dsn, conns)
	table := newTable(t, db)
	return sameStates(t, d, db, table), db, table
}

func sameStates(t testing.TB, d database, db *sql.DB, table string) *sqlstore.States {
	t.Helper()
	s, err := sqlstore.NewStates(db, d.dialect, sqlstore.Config{Table: table})
	require.NoError(t, err)
	require.NoError(t, s.CreateTable(patient(t)))
	return s
}

func TestStates(t *testing.T) {
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
				s, err := sqlstore.NewStates(open(t, d, unreachable(t, d), 2), d.dialect, sqlstore.Config{})
				require.NoError(t, err)
				return s
			},
			Count: func(t *testing.T, a state.Store) (n int) {
				_, err := a.(*sqlstore.States).DeleteExpired(patient(t))
				require.NoError(t, err)
				v, _ := dbs.Load(a)
				place := v.([2]any)
				require.NoError(t, place[0].(*sql.DB).QueryRow("SELECT COUNT(*) FROM "+place[1].(string)).Scan(&n))
				return n
			},
		})
	})
}

// unreachable returns the DSN of a server that does not exist.
func unreachable(t testing.TB, d database) string {
	t.Helper()
	switch d.dialect {
	case sqlstore.PostgreSQL:
		return "postgres://nobody@127.0.0.1:1/none?sslmode=disable"
	case sqlstore.SQLite:
		return filepath.Join(t.TempDir(), "not", "there", "states.db")
	}
	return "nobody@tcp(127.0.0.1:1)/none"
}

// TestStates_isolation uses sessions with the strictest isolation level.
func TestStates_isolation(t *testing.T) {
	onEach(t, stateDatabases, func(t *testing.T, d database) {
		dsn := d.dsn(t)
		strict := dsn
		switch d.dialect {
		case sqlstore.PostgreSQL:
			strict = with(t, dsn, map[string]string{"default_transaction_isolation": "serializable"})
			if d.name == pgBouncer.name {
				t.Skip("PgBouncer takes no such parameter")
			}
		case sqlstore.MariaDB, sqlstore.MySQL:
			conf, err := mysql.ParseDSN(dsn)
			require.NoError(t, err)
			conf.Params = map[string]string{"tx_isolation": "'SERIALIZABLE'"}
			strict = conf.FormatDSN()
		}
		s, _, table := newStates(t, d, dsn, 4)
		stores := []*sqlstore.States{s, sameStates(t, d, open(t, d, strict, 8), table), sameStates(t, d, open(t, d, strict, 8), table)}
		for round := range 20 {
			key := fmt.Sprint("key", round)
			require.NoError(t, stores[round%3].Put(patient(t), key, []byte("value"), time.Minute))
			var wg sync.WaitGroup
			var found, failed atomic.Int64
			for i := range 12 {
				wg.Go(func() {
					_, ok, err := stores[i%3].Take(patient(t), key)
					if err != nil {
						failed.Add(1)
					}
					if ok {
						found.Add(1)
					}
					// Other logins start at the same time.
					assert.NoError(t, stores[i%3].Put(patient(t), fmt.Sprint("other", round, i), []byte("value"), time.Minute))
				})
			}
			wg.Wait()
			assert.Equal(t, int64(1), found.Load())
			assert.Zero(t, failed.Load(), "conflicts are tried again")
		}
	})
}

// addLogins adds n pending logins with one statement.
func addLogins(t *testing.T, d database, db *sql.DB, table string, n int, expires time.Time) {
	t.Helper()
	end := expires.Format("'2006-01-02 15:04:05'")
	if d.dialect == sqlstore.SQLite {
		end = fmt.Sprint(expires.UnixMilli())
	}
	var rows []string
	for i := range n {
		rows = append(rows, "("+literal(d, fmt.Sprint("added", i))+", "+literal(d, "value")+", "+end+")")
	}
	_, err := db.Exec("INSERT INTO " + table + " (state_key, value, expires_at) VALUES " + strings.Join(rows, ", "))
	require.NoError(t, err)
}

// TestStates_sweep adds logins that nobody finishes. While other logins start, the store
// removes the expired logins in batches.
func TestStates_sweep(t *testing.T) {
	onEach(t, stateDatabases, func(t *testing.T, d database) {
		s, db, table := newStates(t, d, d.dsn(t), 4)
		past := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
		const abandoned, batch = 1000, 400
		addLogins(t, d, db, table, abandoned, past)
		count := func() (n int) {
			require.NoError(t, db.QueryRow("SELECT COUNT(*) FROM "+table).Scan(&n))
			return n
		}
		require.Equal(t, abandoned, count())
		most := abandoned
		later := 0
		for begin := time.Now(); most > later; later++ { // one Put of 100 removes a batch
			require.NoError(t, s.Put(patient(t), fmt.Sprint("new", later), []byte("value"), time.Hour))
			now := count()
			assert.LessOrEqual(t, most-now, batch, "a Put removes a bounded number")
			assert.Greater(t, now, later, "what is alive stays")
			most = now
			require.Less(t, time.Since(begin), 2*patience, "nothing is removed")
		}

		addLogins(t, d, db, table, abandoned, past)
		n, err := s.DeleteExpired(patient(t))
		require.NoError(t, err)
		assert.Equal(t, int64(abandoned), n)
		assert.Equal(t, later, count())

		// Several processes remove the expired logins at once, while other logins run.
		addLogins(t, d, db, table, abandoned, past)
		var wg sync.WaitGroup
		var total atomic.Int64
		for i := range 4 {
			wg.Go(func() {
				n, err := s.DeleteExpired(patient(t))
				assert.NoError(t, err)
				total.Add(n)
				for j := range 20 {
					key := fmt.Sprint("login", i, " ", j)
					assert.NoError(t, s.Put(patient(t), key, []byte("value"), time.Minute))
					_, found, err := s.Take(patient(t), key)
					assert.NoError(t, err)
					assert.True(t, found)
				}
			})
		}
		wg.Wait()
		rest, err := s.DeleteExpired(patient(t))
		require.NoError(t, err)
		assert.Equal(t, int64(abandoned), total.Load()+rest)
	})
}

// TestStates_index checks the query plans: each database must use the index to find
// expired rows.
func TestStates_index(t *testing.T) {
	onEach(t, stateDatabases, func(t *testing.T, d database) {
		_, db, table := newStates(t, d, d.dsn(t), 4)
		addLogins(t, d, db, table, 2000, time.Now().AddDate(1, 0, 0))
		var explain, analyze string
		switch d.dialect {
		case sqlstore.PostgreSQL:
			analyze = "ANALYZE " + table
			explain = "EXPLAIN SELECT ctid FROM " + table + " WHERE expires_at <= now() ORDER BY expires_at LIMIT 400 FOR UPDATE SKIP LOCKED"
		case sqlstore.SQLite:
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

// TestStates_rights connects as a database user with the rights that docs/sql.md lists.
func TestStates_rights(t *testing.T) {
	onEach(t, stateDatabases, func(t *testing.T, d database) {
		if d.dialect == sqlstore.SQLite || d.name == pgBouncer.name {
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
		if d.dialect == sqlstore.PostgreSQL {
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
		s, err := sqlstore.NewStates(limited, d.dialect, sqlstore.Config{Table: table})
		require.NoError(t, err)
		require.NoError(t, s.Put(patient(t), "key", []byte("value"), time.Minute))
		require.NoError(t, s.Put(patient(t), "key", []byte("again"), time.Minute))
		value, found, err := s.Take(patient(t), "key")
		require.NoError(t, err)
		assert.True(t, found)
		assert.Equal(t, "again", string(value))
		_, err = s.DeleteExpired(patient(t))
		require.NoError(t, err)
		require.NoError(t, limited.Close()) // a role in use can't be dropped
	})
}

// TestStatesSchema runs the statements of Schema, as a migration would.
func TestStatesSchema(t *testing.T) {
	onEach(t, stateDatabases, func(t *testing.T, d database) {
		db := open(t, d, d.dsn(t), 4)
		s, err := sqlstore.NewStates(db, d.dialect, sqlstore.Config{Table: newTable(t, db)})
		require.NoError(t, err)
		require.ErrorContains(t, s.Put(patient(t), "key", []byte("value"), time.Minute), "call CreateTable")
		_, found, err := s.Take(patient(t), "key")
		require.ErrorContains(t, err, "call CreateTable")
		assert.False(t, found)
		for range 2 {
			for statement := range strings.SplitAfterSeq(s.Schema(), ";\n") {
				if statement != "" {
					_, err := db.Exec(statement)
					require.NoError(t, err)
				}
			}
		}
		require.NoError(t, s.Put(patient(t), "key", []byte("value"), time.Minute))

		var wg sync.WaitGroup
		table := newTable(t, db)
		for range 6 { // from all machines at once
			wg.Go(func() {
				s, err := sqlstore.NewStates(db, d.dialect, sqlstore.Config{Table: table})
				require.NoError(t, err)
				assert.NoError(t, s.CreateTable(patient(t)))
			})
		}
		wg.Wait()
	})
}

// TestStates_tableNames covers a name with a schema, and a long name.
func TestStates_tableNames(t *testing.T) {
	onEach(t, stateDatabases, func(t *testing.T, d database) {
		dsn := d.dsn(t)
		db := open(t, d, dsn, 4)
		schema := map[sqlstore.Dialect]string{sqlstore.PostgreSQL: "public", sqlstore.SQLite: "main"}[d.dialect]
		if schema == "" {
			conf, err := mysql.ParseDSN(dsn)
			require.NoError(t, err)
			schema = conf.DBName
		}
		name := newTable(t, db)
		for _, table := range []string{schema + "." + name, (newTable(t, db) + strings.Repeat("x", 58))[:58]} {
			s := sameStates(t, d, db, table)
			require.NoError(t, s.Put(patient(t), "key", []byte(table), time.Minute))
			value, found, err := s.Take(patient(t), "key")
			require.NoError(t, err)
			assert.True(t, found)
			assert.Equal(t, table, string(value))
			if table[:len(schema)] != schema {
				_, err := db.Exec("DROP TABLE " + table)
				require.NoError(t, err)
			}
		}
	})
}

// TestStates_timeZones uses sessions with different time zones.
func TestStates_timeZones(t *testing.T) {
	onEach(t, []database{stateDatabases[0], stateDatabases[1]}, func(t *testing.T, d database) {
		dsn := d.dsn(t)
		s, _, table := newStates(t, d, dsn, 4)
		var stores []*sqlstore.States
		for _, zone := range []string{"+14:00", "-11:00"} {
			there := dsn
			if d.dialect == sqlstore.PostgreSQL {
				there = with(t, dsn, map[string]string{"timezone": zone})
			} else {
				conf, err := mysql.ParseDSN(dsn)
				require.NoError(t, err)
				conf.Params = map[string]string{"time_zone": "'" + strings.Replace(zone, "+14", "+12", 1) + "'"}
				there = conf.FormatDSN()
			}
			stores = append(stores, sameStates(t, d, open(t, d, there, 2), table))
		}
		require.NoError(t, stores[0].Put(patient(t), "east", []byte("v"), time.Minute))
		require.NoError(t, stores[1].Put(patient(t), "west", []byte("v"), time.Minute))
		n, err := s.DeleteExpired(patient(t))
		require.NoError(t, err)
		assert.Zero(t, n)
		for i, key := range []string{"east", "west"} {
			_, found, err := stores[1-i].Take(patient(t), key)
			require.NoError(t, err)
			assert.True(t, found, key)
		}
	})
}

// TestStates_silentServer: if the server does not answer, a call ends with its context.
func TestStates_silentServer(t *testing.T) {
	onEach(t, []database{stateDatabases[0], stateDatabases[1], stateDatabases[2]}, func(t *testing.T, d database) {
		dsn := d.dsn(t)
		_, _, table := newStates(t, d, dsn, 4)
		p := newProxy(t, d, dsn)
		db := open(t, d, p.dsn, 4)
		s, err := sqlstore.NewStates(db, d.dialect, sqlstore.Config{Table: table})
		require.NoError(t, err)
		require.NoError(t, s.Put(patient(t), "key", []byte("value"), time.Minute))
		p.swallow()
		ends(t, func() {
			value, found, err := s.Take(timeout(t, 300*time.Millisecond), "key")
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.ErrorContains(t, err, "timed out")
			assert.False(t, found)
			assert.Nil(t, value)
		})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(200*time.Millisecond, cancel)
		ends(t, func() {
			assert.Eventually(t, func() bool {
				err := s.Put(ctx, "other", []byte("value"), time.Minute)
				return errors.Is(err, context.Canceled)
			}, patience, time.Millisecond)
		})
		p.drop()
		assert.Eventually(t, func() bool {
			return s.Put(timeout(t, patience/6), "new", []byte("value"), time.Minute) == nil
		}, patience, 10*time.Millisecond, "it comes back by itself")
	})
}

// BenchmarkStates measures a whole login: a Put and a Take of the same key. It compares
// the store with the same two statements on a pool.
func BenchmarkStates(b *testing.B) {
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
			case sqlstore.PostgreSQL:
				place, now, then = "$1", "clock_timestamp()", "clock_timestamp() + $3::bigint * interval '1 microsecond'"
				put = "INSERT INTO %s (state_key, value, expires_at) VALUES ($1, $2, %s) ON CONFLICT (state_key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at"
			case sqlstore.SQLite:
				now = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
				then = now + " + ?"
				put = "INSERT INTO %s (state_key, value, expires_at) VALUES (?, ?, %s) ON CONFLICT (state_key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at"
			}
			put = fmt.Sprintf(put, table, then)
			take := "DELETE FROM " + table + " WHERE state_key = " + place + " RETURNING value, expires_at > " + now
			var writing sync.Mutex // SQLite allows one writer at a time
			benchmarkState(b, store, func(key string) error {
				if d.dialect == sqlstore.SQLite {
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

// TestStatesTake_failedCommit: the server sends the row before it commits the removal.
// Here, the commit fails, so Take must return an error.
func TestStatesTake_failedCommit(t *testing.T) {
	t.Parallel()
	s, db, table := newStates(t, postgreSQL, postgreSQL.dsn(t), 4)
	_, err := db.Exec(`CREATE FUNCTION ` + table + `_f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
		CREATE CONSTRAINT TRIGGER late AFTER DELETE ON ` + table + ` DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ` + table + `_f()`)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := db.Exec(`DROP FUNCTION ` + table + `_f() CASCADE`)
		assert.NoError(t, err)
	})
	require.NoError(t, s.Put(patient(t), "key", []byte("value"), time.Minute))
	value, found, err := s.Take(patient(t), "key")
	assert.Error(t, err)
	assert.False(t, found)
	assert.Nil(t, value)
	var n int
	require.NoError(t, db.QueryRow("SELECT COUNT(*) FROM "+table).Scan(&n))
	assert.Equal(t, 1, n)
}
