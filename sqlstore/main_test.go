package sqlstore_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/sqlstore"
	"github.com/stretchr/testify/require"
)

// The tests against real databases are in the module tests.

var allDialects = []sqlstore.Dialect{sqlstore.PostgreSQL, sqlstore.MariaDB, sqlstore.MySQL, sqlstore.SQLite}

// answer is a scripted database's answer to a statement: one row, no row or an error.
type answer = func(ctx context.Context, statement string) ([]driver.Value, error)

// script is a database that answers every statement with the result of a function.
type script struct {
	answer answer

	mu             sync.Mutex
	statements     []string
	args           [][]driver.NamedValue
	opened, closed int
}

// newScript returns a scripted database and its pool.
func newScript(t *testing.T, answer answer) (*script, *sql.DB) {
	t.Helper()
	s := &script{answer: answer}
	db := sql.OpenDB(s)
	t.Cleanup(func() { _ = db.Close() })
	return s, db
}

func scriptedStates(t *testing.T, d sqlstore.Dialect, answer answer) (*sqlstore.States, *script) {
	t.Helper()
	s, db := newScript(t, answer)
	states, err := sqlstore.NewStates(db, d, sqlstore.Config{})
	require.NoError(t, err)
	return states, s
}

func scriptedTokens(t *testing.T, d sqlstore.Dialect, answer answer) (*sqlstore.Tokens, *script, *sql.DB) {
	t.Helper()
	s, db := newScript(t, answer)
	tokens, err := sqlstore.NewTokens(db, d, sqlstore.Config{})
	require.NoError(t, err)
	return tokens, s, db
}

func (s *script) say(ctx context.Context, statement string, args []driver.NamedValue) ([]driver.Value, error) {
	s.mu.Lock()
	s.statements = append(s.statements, statement)
	s.args = append(s.args, args)
	s.mu.Unlock()
	return s.answer(ctx, statement)
}

func (s *script) said() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.statements)
}

func (s *script) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.statements, s.args = nil, nil
}

// count returns how many of the statements contain text.
func (s *script) count(text string) (n int) {
	for _, statement := range s.said() {
		if strings.Contains(statement, text) {
			n++
		}
	}
	return n
}

func (s *script) connections() (opened, closed int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened, s.closed
}

func (s *script) Connect(context.Context) (driver.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened++
	return &scriptConn{s}, nil
}

func (s *script) Driver() driver.Driver { return nil }

type scriptConn struct{ s *script }

func (c *scriptConn) Prepare(string) (driver.Stmt, error) { return nil, errors.New("not prepared") }
func (c *scriptConn) Begin() (driver.Tx, error)           { return nil, errors.New("without options") }

func (c *scriptConn) Close() error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.s.closed++
	return nil
}

func (c *scriptConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	_, err := c.s.say(ctx, fmt.Sprintf("BEGIN %v", sql.IsolationLevel(opts.Isolation)), nil)
	return scriptTx{c.s}, err
}

func (c *scriptConn) ExecContext(ctx context.Context, q string, args []driver.NamedValue) (driver.Result, error) {
	row, err := c.s.say(ctx, q, args)
	return driver.RowsAffected(len(row)), err
}

func (c *scriptConn) QueryContext(ctx context.Context, q string, args []driver.NamedValue) (driver.Rows, error) {
	row, err := c.s.say(ctx, q, args)
	return &scriptRows{row: row, columns: len(row)}, err
}

type scriptTx struct{ s *script }

func (tx scriptTx) Commit() error {
	_, err := tx.s.say(context.Background(), "COMMIT", nil)
	return err
}

func (tx scriptTx) Rollback() error {
	_, err := tx.s.say(context.Background(), "ROLLBACK", nil)
	return err
}

type scriptRows struct {
	row     []driver.Value
	columns int
}

func (r *scriptRows) Columns() []string { return make([]string, r.columns) }
func (r *scriptRows) Close() error      { return nil }

func (r *scriptRows) Next(dest []driver.Value) error {
	if r.row == nil {
		return io.EOF
	}
	copy(dest, r.row)
	r.row = nil
	return nil
}

// nothing is an answer without a row.
func nothing(context.Context, string) ([]driver.Value, error) { return nil, nil }

// fails makes an answer that returns an error.
func fails(err error) answer {
	return func(context.Context, string) ([]driver.Value, error) { return nil, err }
}

// unlocked is the answer of a database in which every lock is free.
func unlocked(_ context.Context, statement string) ([]driver.Value, error) {
	if strings.Contains(statement, "COUNT(*)") { // number of leases
		return []driver.Value{int64(0)}, nil
	}
	return []driver.Value{int64(1)}, nil
}

// sqlState is an error of PostgreSQL whose text quotes a secret.
type sqlState string

func (s sqlState) Error() string    { return "ERROR: hush-hush" }
func (s sqlState) SQLState() string { return string(s) }
