package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
)

// Exit codes, for scripts.
const (
	exitOK            = 0
	exitFailed        = 1
	exitUsage         = 2
	exitLoginRequired = 3
	exitUnavailable   = 4
	exitInterrupted   = 130 // as shells report a program that SIGINT ended
)

// usageError reports a wrong command line or a wrong setting.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// silent hides the text of an error. errors.Is still finds the error.
type silent struct{ error }

func (silent) Error() string   { return "" }
func (s silent) Unwrap() error { return s.error }

// report prints err in one line and returns the exit code.
func report(ctx context.Context, stderr io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	code := exitCode(ctx, err)
	text := errorText(err)
	switch code {
	case exitInterrupted:
		text = "interrupted"
	case exitUsage:
		text += " (see shangcloud --help)"
	}
	_, _ = fmt.Fprintf(stderr, "shangcloud: %s\n", oneLine(text))
	return code
}

// errorText is the text of err without the names of packages.
func errorText(err error) string {
	text := strings.TrimPrefix(err.Error(), "shangcloud: ")
	return strings.ReplaceAll(strings.TrimPrefix(text, "mmo: "), ": mmo: ", ": ")
}

func exitCode(ctx context.Context, err error) int {
	switch {
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, new(usageError)):
		return exitUsage
	case errors.Is(err, oauth2login.ErrLoginRequired):
		return exitLoginRequired
	case errors.Is(err, mmo.ErrRefused): // it may be ErrNoConnection, too
		return exitFailed
	case errors.Is(err, oauth2login.ErrUnavailable), errors.Is(err, mmo.ErrNoConnection):
		return exitUnavailable
	default:
		return exitFailed
	}
}

// oneLine replaces control characters, because text from the platform could control the
// terminal.
func oneLine(s string) string { return printable(strings.ReplaceAll(s, "\n", "; "), "") }

// isControl reports whether c can control a terminal.
func isControl(c rune) bool { return unicode.IsControl(c) || unicode.Is(unicode.Bidi_Control, c) }

// printable replaces control characters other than those in keep.
func printable(s, keep string) string {
	return strings.Map(func(c rune) rune {
		if isControl(c) && !strings.ContainsRune(keep, c) {
			return unicode.ReplacementChar
		}
		return c
	}, s)
}
