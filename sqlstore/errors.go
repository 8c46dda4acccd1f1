package sqlstore

import (
	"context"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/quiet"
)

// harmless is an error of this package. Its text contains no secret.
type harmless string

func (e harmless) Error() string { return string(e) }

// failed returns the error of an operation. errors.Is and errors.As still find the
// driver's error. If the statement's arguments contain a secret, only the error's code is
// printed, because some drivers quote the arguments in the error text.
func (t *table) failed(ctx context.Context, op string, err error, secret bool) error {
	where := t.kind + ": " + op + ": "
	switch end := endOf(ctx); { // if ctx has ended, the driver's error only follows from that
	case errors.Is(end, context.Canceled):
		return quiet.New("sqlstore", where+"given up by the caller", end, err)
	case end != nil:
		return quiet.New("sqlstore", where+"timed out", end, err)
	}
	return quiet.New("sqlstore", where+describe(err, secret), err)
}

// endOf is ctx.Err(). It also reports a deadline that has passed, but whose timer is late.
// Package net has a separate timer for the same deadline.
func endOf(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return nil
}

// describe describes a driver's error without quoting secrets. If a remedy is known, it
// adds the remedy.
func describe(err error, secret bool) string {
	if lost, ok := errors.AsType[*lostError](err); ok {
		return string(errLost) + ": " + describe(lost.cause, secret)
	}
	if own, ok := errors.AsType[harmless](err); ok {
		return own.Error()
	}
	code, text := serverError(err)
	switch {
	case code == "":
		text = describeLocal(err)
	case secret:
		text = code
	}
	if remedy := remedyFor(code, err.Error()); remedy != "" {
		text += " (" + remedy + ")"
	}
	return text
}

var mySQLCode = regexp.MustCompile(`^Error \d{1,5}( \([0-9A-Z]{5}\))?:`)

// serverError returns the code and the text of an error that the database reported. The
// code is empty if err does not come from the database. Each driver has its own error
// type.
func serverError(err error) (code, text string) {
	if state, ok := errors.AsType[sqlStateError](err); ok { // pgx, lib/pq
		return "SQLSTATE " + strconv.Quote(state.SQLState()), state.Error()
	}
	if found := mySQLCode.FindString(err.Error()); found != "" { // go-sql-driver/mysql
		return strings.TrimSuffix(found, ":"), err.Error()
	}
	if coded, ok := errors.AsType[interface { // modernc.org/sqlite
		error
		Code() int
	}](err); ok {
		return "SQLite code " + strconv.Itoa(coded.Code()), coded.Error()
	}
	return "", ""
}

type sqlStateError interface {
	error
	SQLState() string
}

// describeLocal describes an error that database/sql, a driver or the network caused.
func describeLocal(err error) string {
	leaf := err
	for next := errors.Unwrap(leaf); next != nil; next = errors.Unwrap(leaf) {
		leaf = next
	}
	switch text := leaf.Error(); text {
	case "sql: database is closed", "driver: bad connection", // database/sql
		"conn closed", "server refused TLS connection", // pgx
		"pq: SSL is not enabled on the server", // lib/pq
		"invalid connection":                   // go-sql-driver/mysql
		return text
	}
	return quiet.DescribeForeign(err)
}

// remedies tell an operator what to do about common errors. An error matches if its code
// begins with an element of marks, or if its text contains an element of text.
var remedies = []struct {
	marks, text []string
	remedy      string
}{
	{
		[]string{`SQLSTATE "42P01"`, "Error 1146"}, []string{"no such table"},
		"the table does not exist: call CreateTable, or run the statements that Schema returns",
	},
	{
		[]string{`SQLSTATE "42501"`, "Error 1142", "Error 1044"}, nil,
		"the database user lacks a right: docs/sql.md lists those that it needs",
	},
	{
		[]string{`SQLSTATE "28`, "Error 1045"}, nil,
		"the database refuses the user name or the password",
	},
	{
		// The error code 08P01 is not listed, because PgBouncer also uses it for other
		// errors. These errors are recognized by their text.
		[]string{`SQLSTATE "42P05"`, `SQLSTATE "26000"`}, []string{"prepared statement requires", "bind message"},
		"behind PgBouncer, add default_query_exec_mode=exec (pgx) or binary_parameters=yes (lib/pq) to the DSN",
	},
}

func remedyFor(code, text string) string {
	for _, r := range remedies {
		for _, mark := range r.marks {
			if strings.HasPrefix(code, mark) {
				return r.remedy
			}
		}
		for _, part := range r.text {
			if strings.Contains(text, part) {
				return r.remedy
			}
		}
	}
	return ""
}

// busy reports whether a statement did nothing because the SQLite file was locked. It
// compares SQLite's error text, because each driver has its own error type.
func busy(err error) bool {
	return strings.Contains(err.Error(), "database is locked") || strings.Contains(err.Error(), "database table is locked")
}

// rolledBack reports whether the database has undone a statement or a transaction
// because of a conflict: a serialization failure or a deadlock.
func rolledBack(err error) bool {
	if state, ok := errors.AsType[sqlStateError](err); ok {
		// Codes of "Class 40 — Transaction Rollback" begin with 40. With 40003, the
		// outcome is unknown.
		// https://www.postgresql.org/docs/current/errcodes-appendix.html
		return strings.HasPrefix(state.SQLState(), "40") && state.SQLState() != "40003"
	}
	// After a deadlock, MySQL rolls back the whole transaction.
	// https://dev.mysql.com/doc/refman/8.4/en/innodb-error-handling.html
	return strings.HasPrefix(err.Error(), "Error 1213 ")
}
