package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/quiet"
)

const (
	// MaxKey is the maximum length of a key in bytes, both for states and for users.
	MaxKey = 255

	// callLimit is the time limit of a call whose context has no deadline.
	callLimit = 10 * time.Second

	// conflictRetries limits how often a call is repeated after the database rolled it
	// back because of a conflict with another transaction.
	conflictRetries = 5

	// The pauses between attempts are 5, 10, 20, … 200 ms. Each pause is shortened at
	// random, by up to one half, so that waiting processes do not try at the same moments.
	firstPause   = 5 * time.Millisecond
	longestPause = 200 * time.Millisecond
)

// Config is the configuration of a store. Its zero value is usable.
type Config struct {
	// Table is the name of the table, with or without its schema: "auth.tokens".
	// Each part has up to 58 lower-case letters, digits and '_', and does not begin
	// with a digit. If empty, it is oauth2login_states for [NewStates] and
	// oauth2login_tokens for [NewTokens].
	Table string
}

// none is the element type of channels that carry no data.
type none = struct{}

// table is the common part of States and Tokens.
type table struct {
	db      *sql.DB
	dialect Dialect
	kind    string // "states" or "tokens"
	name    tableName
	create  []string  // the statements of Schema
	writing chan none // holds an element while this process writes to an SQLite file
}

func newTable(db *sql.DB, dialect Dialect, c Config, kind string) (*table, error) {
	if db == nil {
		return nil, quiet.New("sqlstore", kind+": the database is nil")
	}
	if !dialect.known() {
		return nil, quiet.New("sqlstore", fmt.Sprintf("%s: the dialect %v is unknown", kind, dialect))
	}
	if c.Table == "" {
		c.Table = "oauth2login_" + kind
	}
	name, err := parseTableName(c.Table)
	if err != nil {
		return nil, quiet.New("sqlstore", kind+": Config.Table: "+err.Error())
	}
	return &table{db: db, dialect: dialect, kind: kind, name: name, writing: make(chan none, 1)}, nil
}

// format prints the description of a store; t may be nil.
func (t *table) format(f io.Writer, name string) {
	if t == nil {
		_, _ = fmt.Fprintf(f, "sqlstore.%s{}", name)
		return
	}
	_, _ = fmt.Fprintf(f, "sqlstore.%s{%v %s}", name, t.dialect, t.name)
}

func (t *table) schema() string { return strings.Join(t.create, ";\n") + ";\n" }

func (t *table) createTable(ctx context.Context) error {
	ctx, cancel := limited(ctx)
	defer cancel()
	for _, create := range t.create {
		if t.dialect == PostgreSQL {
			// The lock is needed because IF NOT EXISTS fails if another session creates
			// the table at the same moment.
			create = `SELECT pg_advisory_xact_lock(7308327815838786409); ` + create
		}
		if _, err := t.exec(ctx, create); err != nil {
			return t.failed(ctx, "create table", err, false)
		}
	}
	return nil
}

// checkKey returns an error if key is empty or too long. The error does not quote key.
func (t *table) checkKey(name, key string) error {
	switch {
	case key == "":
		return quiet.New("sqlstore", t.kind+": the "+name+" is empty")
	case len(key) > MaxKey:
		return quiet.New("sqlstore", fmt.Sprintf("%s: the %s is longer than %d bytes", t.kind, name, MaxKey))
	}
	return nil
}

// exec runs a statement that changes rows, and returns the number of these rows.
func (t *table) exec(ctx context.Context, statement string, args ...any) (int64, error) {
	return write(ctx, t, func() (int64, error) {
		res, err := t.db.ExecContext(ctx, statement, args...)
		if err != nil {
			return 0, err
		}
		return res.RowsAffected()
	})
}

// read runs f, which must not change the database.
func read[T any](ctx context.Context, t *table, f func() (T, error)) (T, error) {
	return promptly(ctx, nil, func() (T, error) { return retry(ctx, t, f) })
}

// write runs f, which may change the database. SQLite allows one writer at a time, so the
// writers of this process wait in a queue. Without the queue, they would find the file
// locked.
func write[T any](ctx context.Context, t *table, f func() (T, error)) (T, error) {
	return promptly(ctx, nil, func() (v T, err error) {
		if t.dialect == SQLite {
			if err := enter(ctx, t.writing); err != nil {
				return v, err
			}
			defer leave(t.writing)
		}
		return retry(ctx, t, f)
	})
}

// retry runs f, and repeats it if the database reports that f had no effect.
func retry[T any](ctx context.Context, t *table, f func() (T, error)) (T, error) {
	conflicts := 0
	for attempt := 0; ; attempt++ {
		v, err := f()
		switch {
		case err == nil || ctx.Err() != nil:
			return v, err
		case rolledBack(err) && conflicts < conflictRetries:
			conflicts++
		case t.dialect == SQLite && busy(err) && rest(ctx, attempt):
		default:
			return v, err
		}
	}
}

// promptly runs f and returns its result, or the error of ctx as soon as ctx is done. It
// does not rely on f for that, because some drivers ignore the context while they wait. If
// f returns later, promptly passes the result to late, unless late is nil.
func promptly[T any](ctx context.Context, late func(T, error), f func() (T, error)) (v T, err error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
		if late != nil {
			go func() { r := <-done; late(r.v, r.err) }()
		}
		return v, ctx.Err()
	}
}

// limited adds a deadline to ctx if ctx has none.
func limited(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, callLimit)
}

// rest pauses after a failed attempt. The number of the first attempt is 0. rest returns
// false if ctx ended before the pause was over.
func rest(ctx context.Context, attempt int) bool {
	pause := min(firstPause<<min(attempt, 16), longestPause)
	t := time.NewTimer(pause/2 + rand.N(pause/2+1))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// enter puts an element into c. If c is full, it waits until ctx is done.
func enter(ctx context.Context, c chan none) error {
	select {
	case c <- none{}:
		return nil
	default:
	}
	select {
	case c <- none{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func leave(c chan none) { <-c }

// units returns d as a number of units, rounded up.
func units(d, unit time.Duration) int64 { return int64((d-1)/unit + 1) }
