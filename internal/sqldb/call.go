package sqldb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	// callLimit ends a call whose context has no deadline.
	callLimit = 10 * time.Second

	// SQLite is asked again after a pause that doubles from FirstPause to LongestPause.
	FirstPause   = 5 * time.Millisecond
	LongestPause = 100 * time.Millisecond
)

// Limited gives ctx a deadline unless it has one.
func Limited(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, callLimit)
}

// Rest pauses, and reports false if ctx ended first.
func Rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Repeat runs f, again as long as it finds an SQLite file busy: another connection
// is writing, and the driver was not told to wait. Drivers have no type in common;
// the text is SQLite's.
func Repeat[T any](ctx context.Context, d Dialect, f func() (T, error)) (T, error) {
	for pause := FirstPause; ; pause = min(2*pause, LongestPause) {
		v, err := f()
		if err == nil || d != SQLite || !Busy(err) || !Rest(ctx, pause) {
			return v, err
		}
	}
}

// Busy reports whether a statement found an SQLite file locked, and did nothing.
func Busy(err error) bool {
	return strings.Contains(err.Error(), "database is locked") || strings.Contains(err.Error(), "database table is locked")
}

// RolledBack reports whether the database says that it has undone a statement, or a
// transaction, because of a conflict with another one: a serialization failure or a
// deadlock. Then it can be tried again.
func RolledBack(err error) bool {
	var state interface{ SQLState() string }
	if errors.As(err, &state) {
		// "Class 40 — Transaction Rollback"; of 40003 the outcome is not known.
		// https://www.postgresql.org/docs/current/errcodes-appendix.html
		return strings.HasPrefix(state.SQLState(), "40") && state.SQLState() != "40003"
	}
	return strings.HasPrefix(err.Error(), "Error 1213 ") // MySQL: deadlock, rolled back
}

// Error is a statement that failed. The causes are there for errors.Is and
// errors.As and are not printed.
type Error struct {
	text   string
	causes []error
}

func (e *Error) Error() string   { return "shangcloud: " + e.text }
func (e *Error) Unwrap() []error { return e.causes }

// Format prints the text for every verb: %#v would dig out the causes.
func (e *Error) Format(f fmt.State, verb rune) {
	text := e.Error()
	if verb == 'q' {
		text = strconv.Quote(text)
	}
	_, _ = io.WriteString(f, text)
}

// Failed says why op on the table of a kind failed. If a secret was among the
// arguments of a statement, of the driver's text only what cannot quote it is told.
func Failed(ctx context.Context, kind, op string, err error, secret bool) error {
	if own := (*Error)(nil); errors.As(err, &own) {
		return err
	}
	what := kind + ": " + op + ": "
	if ctx.Err() != nil { // the driver's error is but a consequence
		text := "timed out"
		if errors.Is(ctx.Err(), context.Canceled) {
			text = "given up by the caller"
		}
		return &Error{what + text, []error{ctx.Err(), err}}
	}
	text := err.Error()
	if secret {
		text = codeOf(err)
	}
	return &Error{what + text, []error{err}}
}

// Harmless is an error that quotes nothing.
type Harmless string

func (e Harmless) Error() string { return string(e) }

var mySQLCode = regexp.MustCompile(`^Error \d{1,5}( \([0-9A-Z]{5}\))?:`)

// codeOf tells what kind of error a driver returned, without quoting it.
func codeOf(err error) string {
	var (
		own    Harmless
		state  interface{ SQLState() string } // pgx, lib/pq
		code   interface{ Code() int }        // modernc.org/sqlite
		netErr *net.OpError
	)
	switch {
	case errors.As(err, &own):
		return own.Error()
	case errors.As(err, &state):
		return "SQLSTATE " + strconv.Quote(state.SQLState())
	case errors.As(err, &code):
		return "SQLite code " + strconv.Itoa(code.Code())
	case mySQLCode.MatchString(err.Error()):
		return strings.TrimSuffix(mySQLCode.FindString(err.Error()), ":")
	case errors.As(err, &netErr):
		return netErr.Error()
	}
	return "the statement failed"
}
