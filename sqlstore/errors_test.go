package sqlstore_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/sqlstore"
	"github.com/stretchr/testify/assert"
	"golang.org/x/oauth2"
)

// sqliteError is an error like those of modernc.org/sqlite.
type sqliteError struct{ text string }

func (e *sqliteError) Error() string { return e.text }
func (e *sqliteError) Code() int     { return 1 }

// postgresError is an error like those of pgx.
type postgresError struct{ code, text string }

func (e *postgresError) Error() string    { return "ERROR: " + e.text + " (SQLSTATE " + e.code + ")" }
func (e *postgresError) SQLState() string { return e.code }

// TestErrorText lets two calls fail with the same database error. The arguments of one
// call contain a secret. The arguments of the other call do not.
func TestErrorText(t *testing.T) {
	const (
		missing  = " (the table does not exist: call CreateTable, or run the statements that Schema returns)"
		rights   = " (the database user lacks a right: docs/sql.md lists those that it needs)"
		password = " (the database refuses the user name or the password)"
		pooler   = " (behind PgBouncer, add default_query_exec_mode=exec (pgx) or binary_parameters=yes (lib/pq) to the DSN)"
	)
	for _, c := range []struct {
		name       string
		err        error
		save, load string
	}{
		{"PostgreSQL", &postgresError{"22P02", "hush"}, `SQLSTATE "22P02"`, "ERROR: hush (SQLSTATE 22P02)"},
		{"PostgreSQL wrapped", fmt.Errorf("hush: %w", &postgresError{"22P02", "no"}), `SQLSTATE "22P02"`, "ERROR: no (SQLSTATE 22P02)"},
		{"PostgreSQL no table", &postgresError{"42P01", "no t"}, `SQLSTATE "42P01"` + missing, "ERROR: no t (SQLSTATE 42P01)" + missing},
		{"PostgreSQL no right", &postgresError{"42501", "no"}, `SQLSTATE "42501"` + rights, "ERROR: no (SQLSTATE 42501)" + rights},
		{"PostgreSQL password", &postgresError{"28P01", "no"}, `SQLSTATE "28P01"` + password, "ERROR: no (SQLSTATE 28P01)" + password},
		{"statement exists", &postgresError{"42P05", "no"}, `SQLSTATE "42P05"` + pooler, "ERROR: no (SQLSTATE 42P05)" + pooler},
		{"statement is missing", &postgresError{"26000", "no"}, `SQLSTATE "26000"` + pooler, "ERROR: no (SQLSTATE 26000)" + pooler},
		{"another statement", &postgresError{"08P01", "bind message supplies 1"}, `SQLSTATE "08P01"` + pooler, "ERROR: bind message supplies 1 (SQLSTATE 08P01)" + pooler},
		{"PgBouncer", &postgresError{"08P01", "no such database"}, `SQLSTATE "08P01"`, "ERROR: no such database (SQLSTATE 08P01)"},
		{"MySQL", errors.New("Error 1366 (22007): hush"), "Error 1366 (22007)", "Error 1366 (22007): hush"},
		{"MySQL no table", errors.New("Error 1146 (42S02): no t"), "Error 1146 (42S02)" + missing, "Error 1146 (42S02): no t" + missing},
		{"MySQL no right", errors.New("Error 1142 (42000): no"), "Error 1142 (42000)" + rights, "Error 1142 (42000): no" + rights},
		{"MySQL password", errors.New("Error 1045 (28000): no"), "Error 1045 (28000)" + password, "Error 1045 (28000): no" + password},
		{"MySQL no state", errors.New("Error 1366: hush"), "Error 1366", "Error 1366: hush"},
		{"SQLite", &sqliteError{"hush (1)"}, "SQLite code 1", "hush (1)"},
		{"SQLite no table", &sqliteError{"no such table: t (1)"}, "SQLite code 1" + missing, "no such table: t (1)" + missing},
		{"no table, no code", errors.New("no such table: t"), "it failed with *errors.errorString" + missing, "it failed with *errors.errorString" + missing},
		{"network", &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("refused")}, "dial tcp: refused", "dial tcp: refused"},
		{"closed pool", errors.New("sql: database is closed"), "sql: database is closed", "sql: database is closed"},
		{"lost connection", fmt.Errorf("hush: %w", errors.New("invalid connection")), "invalid connection", "invalid connection"},
		{"unknown", errors.New("hush"), "it failed with *errors.errorString", "it failed with *errors.errorString"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tokens, _, _ := scriptedTokens(t, sqlstore.MySQL, fails(c.err))
			err := tokens.User("a").SaveToken(t.Context(), &oauth2.Token{AccessToken: "hush"})
			assert.EqualError(t, err, "sqlstore: tokens: save: "+c.save)
			assert.ErrorIs(t, err, c.err)
			assert.NotContains(t, fmt.Sprintf("%v %+v %#v %q", err, err, err, err), "hush")

			_, err = tokens.User("a").LoadToken(t.Context())
			assert.EqualError(t, err, "sqlstore: tokens: load: "+c.load)
			assert.ErrorIs(t, err, c.err)

			// The key of a state is secret as well.
			states, _ := scriptedStates(t, sqlstore.MySQL, fails(c.err))
			assert.EqualError(t, states.Put(t.Context(), "hush", nil, time.Minute), "sqlstore: states: put: "+c.save)
			_, _, err = states.Take(t.Context(), "hush")
			assert.EqualError(t, err, "sqlstore: states: take: "+c.save)
		})
	}
}

// TestErrorText_context: if the context has ended, the error text says so and does not
// contain the driver's text.
func TestErrorText_context(t *testing.T) {
	tokens, _, _ := scriptedTokens(t, sqlstore.MySQL, func(ctx context.Context, _ string) ([]driver.Value, error) {
		<-ctx.Done()
		return nil, errors.New("hush")
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := tokens.User("a").LoadToken(ctx)
	assert.EqualError(t, err, "sqlstore: tokens: load: given up by the caller")
	assert.ErrorIs(t, err, context.Canceled)

	ctx, cancel = context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	_, err = tokens.User("a").LoadToken(ctx)
	assert.EqualError(t, err, "sqlstore: tokens: load: timed out")
	assert.ErrorIs(t, err, context.DeadlineExceeded)
}

// lateTimer is a context whose deadline has passed, but whose timer has not run yet.
type lateTimer struct{ context.Context }

func (lateTimer) Deadline() (time.Time, bool) { return time.Now().Add(-time.Millisecond), true }

func TestErrorText_driverNoticesTheDeadlineFirst(t *testing.T) {
	tokens, _, _ := scriptedTokens(t, sqlstore.MySQL, func(context.Context, string) ([]driver.Value, error) {
		return nil, &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}
	})
	_, err := tokens.User("a").LoadToken(lateTimer{t.Context()})
	assert.EqualError(t, err, "sqlstore: tokens: load: timed out")
	assert.ErrorIs(t, err, context.DeadlineExceeded)
}
