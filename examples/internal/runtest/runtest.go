// Package runtest starts the programs of the examples in their tests.
package runtest

import (
	"bufio"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Env returns a replacement for os.Getenv. pairs has names and values in turn.
func Env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

// Home runs a program until the test ends. It returns the address that the program
// prints first, without a slash at its end.
func Home(t *testing.T, run func(ctx context.Context, out io.Writer) error) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, w)
		w.CloseWithError(err)
		ended <- err
	}()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-ended, "Ctrl-C ends the program cleanly")
	})
	lines := bufio.NewScanner(r)
	require.True(t, lines.Scan(), "the program prints an address: %v", lines.Err())
	go io.Copy(io.Discard, r)
	return strings.TrimSuffix(strings.TrimSpace(strings.TrimPrefix(lines.Text(), "Open")), "/")
}
