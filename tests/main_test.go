package tests

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/sqlstore"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tests/internal/servers"
	"github.com/go-sql-driver/mysql"
	"github.com/redis/go-redis/v9/logging"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
	_ "modernc.org/sqlite"
)

func TestMain(m *testing.M) {
	if job := os.Getenv(jobVariable); job != "" {
		os.Exit(work(job)) // this process is a child of a test
	}
	// Most tests spend their time waiting. So even a machine with two cores can run 8
	// tests at a time.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	// Without these calls, the drivers would log every connection that a test breaks.
	logging.Disable()
	_ = mysql.SetLogger(log.New(io.Discard, "", 0))
	code := m.Run()
	servers.Stop()
	os.Exit(code)
}

var long = os.Getenv("SHANGCLOUD_LONG_TESTS") == "1"

// A database is a dialect and one way to connect to it.
type database struct {
	name    string
	dialect sqlstore.Dialect
	driver  string
	dsn     func(t testing.TB) string
}

var (
	postgreSQL = database{"PostgreSQL", sqlstore.PostgreSQL, "pgx", servers.Postgres}
	pgBouncer  = database{"PgBouncer", sqlstore.PostgreSQL, "pgx", servers.PgBouncer}
	mariaDB    = database{"MariaDB", sqlstore.MariaDB, "mysql", servers.MySQL}
	sqLite     = database{"SQLite", sqlstore.SQLite, "sqlite", newSQLite}

	databases = withPooler(postgreSQL, mariaDB, sqLite)
)

// newSQLite returns the DSN of a new database. Like the servers in these tests, SQLite
// does not wait for the disk. Written data survives a crash of the process, but not a
// crash of the machine.
func newSQLite(t testing.TB) string {
	return "file:" + filepath.Join(t.TempDir(), "tokens.db") + "?_pragma=synchronous(OFF)"
}

// withPooler adds PgBouncer in the long run only, because it makes every test slower.
func withPooler(which ...database) []database {
	if long {
		which = append(which, pgBouncer)
	}
	return which
}

// onEach runs f for each of several databases in parallel.
func onEach(t *testing.T, which []database, f func(t *testing.T, d database)) {
	t.Helper()
	t.Parallel()
	for _, d := range which {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			f(t, d)
		})
	}
}

// open opens a pool of at most conns connections. At the end of the test, it checks that
// all connections were returned.
func open(t testing.TB, d database, dsn string, conns int) *sql.DB {
	t.Helper()
	db, err := openPool(d.driver, dsn, conns)
	require.NoError(t, err)
	t.Cleanup(func() {
		for begin := time.Now(); db.Stats().InUse > 0 && time.Since(begin) < patience; {
			time.Sleep(10 * time.Millisecond)
		}
		assert.Zero(t, db.Stats().InUse, "connections that were not given back")
		assert.NoError(t, db.Close())
	})
	return db
}

func openPool(driver, dsn string, conns int) (*sql.DB, error) {
	db, err := sql.Open(driver, dsn)
	if err == nil {
		db.SetMaxOpenConns(conns)
		db.SetMaxIdleConns(conns)
	}
	return db, err
}

var tables atomic.Int64

// newTable returns a name for a table that no other test uses, in this run or in another
// run. At the end of the test, it drops the table.
func newTable(t testing.TB, db *sql.DB) string {
	name := fmt.Sprintf("tokens_%d_%d_%d", os.Getpid(), time.Now().UnixNano(), tables.Add(1))
	t.Cleanup(func() {
		_, err := db.Exec("DROP TABLE IF EXISTS " + name)
		assert.NoError(t, err)
	})
	return name
}

const (
	// patience is the limit for something that must happen, even on the slowest machine.
	// Benchmarks measure how long it really takes.
	patience = time.Minute

	// hold is how long a lock may be held. It is far longer than patience. So if a lock
	// becomes free during a test, it was released, or its connection has ended. Tests of
	// the hold itself use other values.
	hold = 15 * time.Minute
)

// newTokens returns a store in a new table, the pool of the store, and the name of the
// table.
func newTokens(t testing.TB, d database, conns int) (*sqlstore.Tokens, *sql.DB, string) {
	t.Helper()
	db := open(t, d, d.dsn(t), conns)
	table := newTable(t, db)
	return sameTokens(t, d, db, table), db, table
}

// sameTokens returns a store in a table that another process may have created.
func sameTokens(t testing.TB, d database, db *sql.DB, table string) *sqlstore.Tokens {
	t.Helper()
	s := openTokens(t, d, db, table)
	require.NoError(t, s.CreateTable(patient(t)))
	return s
}

// openTokens returns a store in a table. It does not create the table.
func openTokens(t testing.TB, d database, db *sql.DB, table string) *sqlstore.Tokens {
	t.Helper()
	s, err := sqlstore.NewTokens(db, d.dialect, sqlstore.Config{Table: table})
	require.NoError(t, err)
	return s
}

func key(n byte) []byte { return []byte(strings.Repeat(string('a'+rune(n)), 32)) }

func token(name string) *oauth2.Token {
	return &oauth2.Token{
		AccessToken: "access-" + name, TokenType: "Bearer", RefreshToken: "refresh-" + name,
		Expiry: time.Date(2031, 2, 3, 4, 5, 6, 789012345, time.UTC), ExpiresIn: 3600,
	}
}

// ends fails the test if f takes longer than patience. f takes longer if it wrongly waits
// for the end of a hold, or for a server that never answers.
func ends(t testing.TB, f func()) {
	t.Helper()
	begin := time.Now()
	f()
	assert.Less(t, time.Since(begin), patience)
}

// patient returns a context for a call that has to succeed, even on a slow machine.
// Without a deadline in the context, sqlstore would give up after 10 seconds.
func patient(t testing.TB) context.Context { return timeout(t, patience) }

func timeout(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), d)
	t.Cleanup(cancel)
	return ctx
}

// raw returns the stored bytes of the only row of a table.
func raw(t testing.TB, db *sql.DB, table string) []byte {
	t.Helper()
	var data []byte
	require.NoError(t, db.QueryRow("SELECT token FROM "+table).Scan(&data))
	return data
}

// set replaces the stored bytes of the only row of a table.
func set(t testing.TB, d database, db *sql.DB, table string, data []byte) {
	t.Helper()
	place := "?"
	if d.dialect == sqlstore.PostgreSQL {
		place = "$1"
	}
	_, err := db.Exec("UPDATE "+table+" SET token = "+place, data)
	require.NoError(t, err)
}
