package tests

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/sqlstore"
	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

func TestTokens_roundTrip(t *testing.T) {
	onEach(t, databases, func(t *testing.T, d database) {
		{
			s, _, _ := newTokens(t, d, 10)
			u, ctx := s.User("10001"), patient(t)
			tok, err := u.LoadToken(ctx)
			require.NoError(t, err)
			assert.Nil(t, tok, "none yet")

			for _, want := range []*oauth2.Token{
				token("a"),
				{AccessToken: "only"},
				{AccessToken: `quote " ' \ ; -- \x00 小云 ` + strings.Repeat("long ", 50_000), RefreshToken: "\x00\x1a\\%_", Expiry: time.Now().Add(time.Hour).Round(0)},
			} {
				require.NoError(t, u.SaveToken(ctx, want))
				got, err := s.User("10001").LoadToken(ctx)
				require.NoError(t, err)
				assert.True(t, want.Expiry.Equal(got.Expiry), "%v %v", want.Expiry, got.Expiry)
				got.Expiry = want.Expiry
				assert.Equal(t, want, got)
			}

			require.NoError(t, u.DeleteToken(ctx))
			tok, err = u.LoadToken(ctx)
			require.NoError(t, err)
			assert.Nil(t, tok)
		}
	})
}

// TestTokens_keys uses keys that a careless store would confuse with each other, or
// execute as SQL.
func TestTokens_keys(t *testing.T) {
	onEach(t, databases, func(t *testing.T, d database) {
		s, db, table := newTokens(t, d, 10)
		keys := []string{
			"a", "A", "a ", " a", "a  ", "á", "a\u0301", "ａ", "ß", "ss", "SS", "i", "İ", "ı", "\x00", "a\x00", "a\x00b",
			"'", "''", `"`, "`", `\`, `\'`, "%", "_", "?", "$1", ":a", "@a", "a;b", "--", "/*", "0x61", `\x61`, "1", "01", "1.0", "NULL", "TRUE",
			"'; DROP TABLE " + table + "; --", `"); DELETE FROM ` + table + `; --`,
			"小明", "👩‍👩‍👧", "\u202e", "\xff\xfe", strings.Repeat("k", sqlstore.MaxKey), strings.Repeat("k", sqlstore.MaxKey-1),
		}
		for i, k := range keys {
			require.NoError(t, s.User(k).SaveToken(patient(t), token(fmt.Sprint(i))), "%q", k)
		}
		for i, k := range keys {
			tok, err := s.User(k).LoadToken(patient(t))
			require.NoError(t, err, "%q", k)
			require.NotNil(t, tok, "%q", k)
			assert.Equal(t, token(fmt.Sprint(i)).AccessToken, tok.AccessToken, "%q", k)
		}
		// All users can be locked at the same time, as long as the pool has enough
		// connections.
		for i := 0; i < len(keys); i += 3 {
			var unlocks []func()
			for _, k := range keys[i:min(i+3, len(keys))] {
				unlock, err := s.User(k).LockToken(patient(t), hold)
				require.NoError(t, err, "%q", k)
				unlocks = append(unlocks, unlock)
			}
			for _, unlock := range unlocks {
				unlock()
			}
		}
		for i, k := range keys {
			require.NoError(t, s.User(k).DeleteToken(patient(t)))
			var n int
			require.NoError(t, db.QueryRow("SELECT COUNT(*) FROM "+table).Scan(&n))
			assert.Equal(t, len(keys)-i-1, n, "%q", k)
		}

		for _, k := range []string{"", strings.Repeat("k", sqlstore.MaxKey+1)} {
			_, err := s.User(k).LoadToken(patient(t))
			assert.ErrorContains(t, err, "user key")
			assert.ErrorContains(t, s.User(k).SaveToken(patient(t), token("a")), "user key")
			assert.ErrorContains(t, s.User(k).DeleteToken(patient(t)), "user key")
			_, err = s.User(k).LockToken(patient(t), hold)
			assert.ErrorContains(t, err, "user key")
		}
	})
}

// TestTokens_tableNames covers an SQL keyword, a name with a schema, and a long name.
func TestTokens_tableNames(t *testing.T) {
	onEach(t, databases, func(t *testing.T, d database) {
		dsn := d.dsn(t)
		db := open(t, d, dsn, 10)
		schema := "main"
		switch d.dialect {
		case sqlstore.PostgreSQL:
			schema = "public"
		case sqlstore.MariaDB:
			conf, err := mysql.ParseDSN(dsn)
			require.NoError(t, err)
			schema = conf.DBName
		}
		name := newTable(t, db)
		longest := (name + strings.Repeat("x", 58))[:58]
		for _, table := range []string{"order", schema + "." + name, longest} {
			if d.name == pgBouncer.name && table == "order" {
				continue // PgBouncer leads to the same database, in which the PostgreSQL test uses this table
			}
			s := sameTokens(t, d, db, table)
			require.NoError(t, s.User("a").SaveToken(patient(t), token(table)))
			unlock, err := s.User("a").LockToken(patient(t), hold)
			require.NoError(t, err)
			unlock()
			tok, err := s.User("a").LoadToken(patient(t))
			require.NoError(t, err)
			assert.Equal(t, token(table).AccessToken, tok.AccessToken)
			q := `"`
			if d.driver == "mysql" {
				q = "`"
			}
			if table != schema+"."+name {
				_, err = db.Exec("DROP TABLE " + q + table + q)
				require.NoError(t, err)
			}
		}

		// A table's locks are the same, whether its name contains the schema or not.
		plain := sameTokens(t, d, db, name)
		qualified := sameTokens(t, d, db, schema+"."+name)
		tok, err := plain.User("a").LoadToken(patient(t))
		require.NoError(t, err)
		assert.Equal(t, token(schema+"."+name).AccessToken, tok.AccessToken)
		unlock, err := plain.User("a").LockToken(patient(t), hold)
		require.NoError(t, err)
		defer unlock()
		_, err = qualified.User("a").LockToken(timeout(t, 300*time.Millisecond), hold)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

// TestTokensSchema runs the statements of Schema, as a migration would.
func TestTokensSchema(t *testing.T) {
	onEach(t, databases, func(t *testing.T, d database) {
		db := open(t, d, d.dsn(t), 10)
		s, err := sqlstore.NewTokens(db, d.dialect, sqlstore.Config{Table: newTable(t, db)})
		require.NoError(t, err)
		err = s.User("a").SaveToken(patient(t), token("a"))
		require.ErrorContains(t, err, "call CreateTable")
		_, err = s.User("a").LoadToken(patient(t))
		require.ErrorContains(t, err, "call CreateTable")
		if d.driver != "mysql" { // MySQL's locks need no table
			_, err = s.User("a").LockToken(patient(t), hold)
			require.ErrorContains(t, err, "call CreateTable")
		}
		for range 2 {
			for statement := range strings.SplitAfterSeq(s.Schema(), ";\n") {
				if statement != "" {
					_, err := db.Exec(statement)
					require.NoError(t, err)
				}
			}
		}
		require.NoError(t, s.User("a").SaveToken(patient(t), token("a")))
		assert.NoError(t, s.CreateTable(patient(t)), "it is there")
		tok, err := s.User("a").LoadToken(patient(t))
		require.NoError(t, err)
		assert.Equal(t, token("a").AccessToken, tok.AccessToken)
	})
}

func TestTokensCreateTable_concurrent(t *testing.T) {
	onEach(t, databases, func(t *testing.T, d database) {
		dsn := d.dsn(t)
		db := open(t, d, dsn, 10)
		for range 5 {
			table := newTable(t, db)
			var wg sync.WaitGroup
			for range 8 {
				other := open(t, d, dsn, 1)
				s, err := sqlstore.NewTokens(other, d.dialect, sqlstore.Config{Table: table})
				require.NoError(t, err)
				wg.Go(func() { assert.NoError(t, s.CreateTable(patient(t))) })
			}
			wg.Wait()
		}
	})
}

// TestTokens_rights connects as two database users. One has the rights that docs/sql.md
// lists, the other does not.
func TestTokens_rights(t *testing.T) {
	onEach(t, []database{postgreSQL, mariaDB}, func(t *testing.T, d database) {
		s, db, table := newTokens(t, d, 10)
		require.NoError(t, s.User("a").SaveToken(patient(t), token("a")))
		role, dsn := "r"+table, d.dsn(t)
		exec := func(statement string) {
			_, err := db.Exec(statement)
			require.NoError(t, err)
		}
		if d.driver == "mysql" {
			conf, err := mysql.ParseDSN(dsn)
			require.NoError(t, err)
			role = role[len(role)-20:]
			exec("CREATE USER " + role + " IDENTIFIED BY 'pw'")
			t.Cleanup(func() { exec("DROP USER " + role) })
			exec("GRANT SELECT, INSERT, UPDATE, DELETE ON " + table + " TO " + role)
			conf.User, conf.Passwd = role, "pw"
			dsn = conf.FormatDSN()
		} else {
			exec("CREATE ROLE " + role + " LOGIN PASSWORD 'pw'")
			t.Cleanup(func() { exec("DROP OWNED BY " + role + "; DROP ROLE " + role) })
			exec("GRANT SELECT, INSERT, UPDATE, DELETE ON " + table + " TO " + role)
			u, err := url.Parse(dsn)
			require.NoError(t, err)
			u.User = url.UserPassword(role, "pw")
			dsn = u.String()
		}
		limited := open(t, d, dsn, 10)
		s, err := sqlstore.NewTokens(limited, d.dialect, sqlstore.Config{Table: table})
		require.NoError(t, err)
		unlock, err := s.User("a").LockToken(patient(t), hold)
		require.NoError(t, err)
		_, err = s.User("a").LoadToken(patient(t))
		assert.NoError(t, err)
		assert.NoError(t, s.User("a").SaveToken(patient(t), token("b")))
		unlock()
		assert.NoError(t, s.User("a").DeleteToken(patient(t)))
		exec("REVOKE INSERT ON " + table + " FROM " + role)
		assert.ErrorContains(t, s.User("a").SaveToken(patient(t), token("c")), "lacks a right")
		require.NoError(t, limited.Close()) // a role in use can't be dropped
	})
}

// TestTokens_updatedAt: updated_at shows which rows are no longer used.
func TestTokens_updatedAt(t *testing.T) {
	onEach(t, databases, func(t *testing.T, d database) {
		s, db, table := newTokens(t, d, 10)
		require.NoError(t, s.User("a").SaveToken(patient(t), token("a")))
		_, err := db.Exec("UPDATE " + table + " SET updated_at = '2001-01-01 00:00:00'")
		require.NoError(t, err)
		count := func() (n int) {
			require.NoError(t, db.QueryRow("SELECT COUNT(*) FROM "+table+" WHERE updated_at < '2002-01-01 00:00:00'").Scan(&n))
			return n
		}
		assert.Equal(t, 1, count())
		require.NoError(t, s.User("a").SaveToken(patient(t), token("b")))
		assert.Equal(t, 0, count())
	})
}

// TestTokensError makes the database refuse a token, and checks that no printed error
// contains the token.
func TestTokensError(t *testing.T) {
	onEach(t, databases, func(t *testing.T, d database) {
		s, db, table := newTokens(t, d, 10)
		// The columns are too small for any token. Drivers and databases quote such a
		// value in their errors.
		drop := func() {
			_, err := db.Exec("DROP TABLE " + table)
			require.NoError(t, err)
		}
		var errs []error
		for _, columns := range []string{
			"user_key integer primary key, token integer, updated_at integer",
			"user_key varchar(255) primary key, token date, updated_at integer",
			"user_key varchar(255) primary key, token varchar(5) check (length(token) < 6), updated_at integer",
		} {
			drop()
			_, err := db.Exec("CREATE TABLE " + table + " (" + columns + ")")
			require.NoError(t, err)
			errs = append(errs, s.User("a").SaveToken(patient(t), token("a")))
			unlock, err := s.User("a").LockToken(patient(t), hold)
			require.NoError(t, err)
			errs = append(errs, s.User("a").SaveToken(patient(t), token("a")))
			unlock()
		}
		text := fmt.Sprintf("%v %+v %#v %s %q %v %+v %#v", s, s, s, s.User("a"), s.User("a"), s, errs, s.User("a"))
		for _, err := range errs {
			text += fmt.Sprintf("\n%v %+v %#v %q %s", err, err, err, err, err)
		}
		for _, secret := range []string{"access-a", "refresh-a", "616363657373", "0x61", "[97 97", "97, 97", "{\""} {
			assert.NotContains(t, text, secret)
		}
		if d.dialect != sqlstore.SQLite { // SQLite's columns accept any value
			assert.Error(t, errs[0])
		}
	})
}

// TestTokensDelete: while one process refreshes a token, another process waits for the
// lock to delete the token. The token must stay deleted.
func TestTokensDelete(t *testing.T) {
	onEach(t, databases, func(t *testing.T, d database) {
		dsn := d.dsn(t)
		one := open(t, d, dsn, 10)
		table := newTable(t, one)
		s := sameTokens(t, d, one, table)
		other := sameTokens(t, d, open(t, d, dsn, 10), table)
		require.NoError(t, s.User("a").DeleteToken(patient(t)), "there is no token")

		require.NoError(t, s.User("a").SaveToken(patient(t), token("old")))
		unlock, err := other.User("a").LockToken(patient(t), hold)
		require.NoError(t, err)
		done := make(chan error)
		go func() {
			unlock, err := s.User("a").LockToken(patient(t), hold)
			if err == nil {
				err = s.User("a").DeleteToken(patient(t))
				unlock()
			}
			done <- err
		}()
		select {
		case <-done:
			t.Fatal("it did not wait")
		case <-time.After(300 * time.Millisecond):
		}
		require.NoError(t, other.User("a").SaveToken(patient(t), token("new")))
		unlock()
		require.NoError(t, <-done)
		tok, err := s.User("a").LoadToken(patient(t))
		require.NoError(t, err)
		assert.Nil(t, tok)
		assert.Empty(t, lockRows(t, d, one, table))
	})
}

// lockRows returns the keys in SQLite's lock table.
func lockRows(t testing.TB, d database, db *sql.DB, table string) (keys []string) {
	if d.dialect != sqlstore.SQLite {
		return nil
	}
	rows, err := db.Query("SELECT user_key FROM " + table + "_lock")
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var k string
		require.NoError(t, rows.Scan(&k))
		keys = append(keys, k)
	}
	require.NoError(t, rows.Err())
	return keys
}
