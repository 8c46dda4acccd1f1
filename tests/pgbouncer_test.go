package tests

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/sqlstore"
	_ "github.com/lib/pq" // the driver "postgres"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// throughPgBouncer lists the settings of docs/sql.md for PgBouncer with transaction
// pooling.
var throughPgBouncer = []struct {
	name, driver, setting string
	works                 bool
}{
	{"pgx exec", "pgx", "default_query_exec_mode=exec", true},
	{"pgx simple_protocol", "pgx", "default_query_exec_mode=simple_protocol", true},
	{"pgx default", "pgx", "", false},
	{"pgx cache_describe", "pgx", "default_query_exec_mode=cache_describe", true},
	{"lib/pq binary_parameters", "postgres", "binary_parameters=yes", true},
	{"lib/pq default", "postgres", "", false},
}

// TestPgBouncer runs many logins and refreshes at once. The tests use more connections to
// PgBouncer than PgBouncer has to the server.
func TestPgBouncer(t *testing.T) {
	t.Parallel()
	for _, c := range throughPgBouncer {
		t.Run(c.name, func(t *testing.T) {
			u, err := url.Parse(pgBouncer.dsn(t))
			require.NoError(t, err)
			u.RawQuery = "sslmode=disable&" + c.setting
			failures := manyCalls(t, open(t, database{driver: c.driver}, u.String(), 40))
			if !c.works {
				require.NotEmpty(t, failures)
			}
			for _, err := range failures {
				// On a busy machine a statement may take longer than its time-out of 3
				// seconds.
				if !c.works {
					namesSetting(t, err)
				} else if !errors.Is(err, context.DeadlineExceeded) {
					assert.Fail(t, "a setting that works", "%s", describe(err))
				}
			}
			if c.works {
				assert.Less(t, len(failures), pgBouncerWorkers, "everything fails")
			}
		})
	}
}

// namesSetting checks an error that occurs because PgBouncer has mixed up prepared
// statements. The error text must name the setting that helps.
func namesSetting(t *testing.T, err error) {
	t.Helper()
	text := err.Error()
	if strings.Contains(text, "42P05") || strings.Contains(text, "26000") || strings.Contains(text, "08P01") {
		assert.Contains(t, text, "default_query_exec_mode=exec (pgx) or binary_parameters=yes (lib/pq)")
		return
	}
	t.Logf("another consequence: %v", err)
}

// pgBouncerWorkers is greater than the number of connections from PgBouncer to the server.
const pgBouncerWorkers = 40

// manyCalls lets 40 workers log in and refresh tokens. It returns their errors.
func manyCalls(t *testing.T, db *sql.DB) (failures []error) {
	t.Helper()
	direct := open(t, postgreSQL, postgreSQL.dsn(t), 2)
	states, err := sqlstore.NewStates(db, sqlstore.PostgreSQL, sqlstore.Config{Table: newTable(t, direct)})
	require.NoError(t, err)
	require.NoError(t, states.CreateTable(patient(t)))
	tokens, err := sqlstore.NewTokens(db, sqlstore.PostgreSQL, sqlstore.Config{Table: newTable(t, direct)})
	require.NoError(t, err)
	require.NoError(t, tokens.CreateTable(patient(t)))
	rounds := 3
	if long {
		rounds = 8
	}
	errs := make(chan error, pgBouncerWorkers)
	for worker := range pgBouncerWorkers {
		go func() {
			var err error
			for round := 0; round < rounds && err == nil; round++ {
				key := fmt.Sprintf("%d-%d", worker, round)
				err = errors.Join(loginOnce(patient(t), states, key), refreshOnce(patient(t), tokens.User(key)))
			}
			errs <- err
		}()
	}
	for range pgBouncerWorkers {
		if err := <-errs; err != nil {
			failures = append(failures, err)
		}
	}
	return failures
}

func loginOnce(ctx context.Context, states *sqlstore.States, key string) error {
	if err := states.Put(ctx, key, []byte("\x00value"), time.Minute); err != nil {
		return err
	}
	value, found, err := states.Take(ctx, key)
	if err == nil && (!found || string(value) != "\x00value") {
		err = fmt.Errorf("took %q %t", value, found)
	}
	return err
}

func refreshOnce(ctx context.Context, u sqlstore.UserTokens) error {
	unlock, err := u.LockToken(ctx, hold)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := u.LoadToken(ctx); err != nil {
		return err
	}
	if err := u.SaveToken(ctx, token("a")); err != nil {
		return err
	}
	tok, err := u.LoadToken(ctx)
	if err == nil && (tok == nil || tok.AccessToken != token("a").AccessToken) {
		err = errors.New("the token was lost")
	}
	return err
}
