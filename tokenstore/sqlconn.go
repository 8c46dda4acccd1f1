package tokenstore

import (
	"context"
	"database/sql"
	"errors"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/sqldb"
)

// querier is a *sql.DB, or the *sql.Conn that a lock is on.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

type none = struct{}

// read returns the stored bytes, or nil if there is no row.
func (s *SQL) read(ctx context.Context, key string) ([]byte, error) {
	load := func(ctx context.Context, q querier) ([]byte, error) {
		var data []byte
		err := q.QueryRowContext(ctx, s.is.load, []byte(key)).Scan(&data)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return nil, nil
		case err == nil && data == nil:
			data = []byte{} // a row all the same
		}
		return data, err
	}
	if h := s.holder(key); h != nil {
		// Not from another connection if this one fails: the lock would be
		// gone, and with it the right to refresh what was read.
		data, err := onHeld(ctx, h, load)
		if !errors.Is(err, errReleased) {
			return data, err
		}
	}
	return promptly(ctx, nil, func() ([]byte, error) { return repeat(ctx, s, load) })
}

// write runs a statement that changes the row of key, and may run it twice.
func (s *SQL) write(ctx context.Context, key, statement string, args ...any) error {
	if h := s.holder(key); h != nil {
		_, err := onHeld(ctx, h, func(ctx context.Context, q querier) (sql.Result, error) {
			res, err := q.ExecContext(ctx, statement, args...)
			if err == nil && s.dialect == PostgreSQL {
				_, err = q.ExecContext(ctx, postgresCommit)
			}
			return res, err
		})
		if err == nil || ctx.Err() != nil {
			return err
		}
		// The lock is gone, but nobody else has this token.
	}
	_, err := promptly(ctx, nil, func() (sql.Result, error) { return s.exec(ctx, statement, args...) })
	return err
}

// exec runs a statement that changes something on any connection. SQLite has one
// writer at a time: those of a process line up, or they would find the file busy.
func (s *SQL) exec(ctx context.Context, statement string, args ...any) (sql.Result, error) {
	if s.dialect == SQLite {
		if err := enter(ctx, s.writing); err != nil {
			return nil, err
		}
		defer func() { <-s.writing }()
	}
	return repeat(ctx, s, func(ctx context.Context, q querier) (sql.Result, error) {
		return q.ExecContext(ctx, statement, args...)
	})
}

// repeat runs f on any connection, again as long as it finds an SQLite file busy.
func repeat[T any](ctx context.Context, s *SQL, f func(context.Context, querier) (T, error)) (T, error) {
	return sqldb.Repeat(ctx, s.dialect, func() (T, error) { return f(ctx, s.db) })
}

// promptly runs f and returns what it does, or the error of ctx as soon as ctx is
// done: some drivers do not watch it while they wait. What f returns after that is
// handed to late, unless nil.
func promptly[T any](ctx context.Context, late func(T, error), f func() (T, error)) (T, error) {
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
		var none T
		return none, ctx.Err()
	}
}

// failed says why op failed.
func failed(ctx context.Context, op string, err error, secret bool) error {
	return sqldb.Failed(ctx, "token table", op, err, secret)
}
