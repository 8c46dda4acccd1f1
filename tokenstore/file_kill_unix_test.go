//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package tokenstore_test

import (
	"bufio"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestKilledWhileSaving kills a program that saves one token after the other, at
// random moments. The file then holds the token it saved last, whole, or the one
// it was saving, whole; and its lock is free.
func TestKilledWhileSaving(t *testing.T) {
	if dir := childDir(t); dir != "" {
		f := fileAt(t, filepath.Join(dir, "token.json"))
		first, err := strconv.ParseInt(os.Getenv("FIRST"), 10, 64)
		require.NoError(t, err)
		for number := first; ; number++ {
			unlock, err := f.LockToken(t.Context())
			require.NoError(t, err)
			require.NoError(t, f.SaveToken(t.Context(), wholeToken(number)))
			fmt.Println(number)
			unlock()
		}
	}
	kills := 100
	if long() {
		kills = 1000
	}
	dir := t.TempDir()
	f := fileAt(t, filepath.Join(dir, "token.json"))
	begin := time.Now()
	var saved, inWrite, newer int64
	var slowest time.Duration
	for range kills {
		c := child(t, dir, fmt.Sprint("FIRST=", saved+1))
		c.Stderr = os.Stderr
		out, err := c.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, c.Start())
		lines := bufio.NewScanner(out)
		// Not before the first save: the program has begun.
		require.True(t, lines.Scan())
		go func() {
			time.Sleep(time.Duration(mathrand.IntN(10_000)) * time.Microsecond)
			c.Process.Kill()
		}()
		for ok := true; ok; ok = lines.Scan() {
			saved, err = strconv.ParseInt(lines.Text(), 10, 64)
			require.NoError(t, err, lines.Text())
		}
		require.ErrorContains(t, c.Wait(), "killed")

		if _, err := os.Lstat(filepath.Join(dir, "token.json.tmp")); err == nil {
			inWrite++
		}
		start := time.Now()
		unlock, err := f.LockToken(t.Context())
		require.NoError(t, err)
		slowest = max(slowest, time.Since(start))
		tok, err := f.LoadToken(t.Context())
		require.NoError(t, err)
		unlock()
		require.NoError(t, checkWhole(tok))
		if tok.ExpiresIn == saved+1 {
			newer++ // killed between the rename and its being told
			saved++
		}
		require.Equal(t, saved, tok.ExpiresIn, "what was saved is not lost")
		info, err := os.Lstat(filepath.Join(dir, "token.json"))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode())
		require.LessOrEqual(t, len(listing(t, dir)), 3, "leftovers do not add up")
	}
	assert.Less(t, slowest, time.Second, "the lock ends with its holder")
	assert.Positive(t, inWrite, "no program was killed in the middle of a write: the test shows nothing")
	t.Logf("%d kills in %v: %d while writing, %d between rename and report; %d tokens saved; the lock was free after %v at most",
		kills, time.Since(begin).Round(time.Millisecond), inWrite, newer, saved, slowest)
}
