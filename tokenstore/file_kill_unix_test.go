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

	"github.com/stretchr/testify/require"
)

// TestFile_killed_while_saving kills a program that saves one token after another.
// Afterwards, the file must contain a complete token: either the last one that was saved,
// or the one that was being saved. The lock must be free.
//
// The test continues until enough programs were killed in the middle of a write, however
// long that takes on this machine.
func TestFile_killed_while_saving(t *testing.T) {
	if dir := childDir(t); dir != "" {
		saveForEver(t, dir)
	}
	wanted := 30
	if long() {
		wanted = 500
	}
	dir := t.TempDir()
	f := fileAt(t, filepath.Join(dir, "token.json"))
	var saved, kills, inWrite, newer int64
	for ; inWrite < int64(wanted); kills++ {
		saved = killWhileSaving(t, dir, saved)
		if _, err := os.Lstat(filepath.Join(dir, "token.json.tmp")); err == nil {
			inWrite++
		}
		unlock := lock(t, f)
		tok, err := f.LoadToken(t.Context())
		require.NoError(t, err)
		unlock()
		require.NoError(t, checkWhole(tok))
		if tok.ExpiresIn == saved+1 {
			newer++ // the program was killed after the rename and before the report
			saved++
		}
		require.Equal(t, saved, tok.ExpiresIn, "what was saved is not lost")
		info, err := os.Lstat(filepath.Join(dir, "token.json"))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode())
		require.LessOrEqual(t, len(listing(t, dir)), 3, "leftovers do not add up")
	}
	t.Logf("%d kills: %d while writing, %d between rename and report; %d tokens saved", kills, inWrite, newer, saved)
}

// saveForEver saves complete tokens and reports their numbers, starting with FIRST.
func saveForEver(t *testing.T, dir string) {
	f := fileAt(t, filepath.Join(dir, "token.json"))
	first, err := strconv.ParseInt(os.Getenv("FIRST"), 10, 64)
	require.NoError(t, err)
	for number := first; ; number++ {
		unlock := lock(t, f)
		require.NoError(t, f.SaveToken(t.Context(), wholeToken(number)))
		fmt.Println(number)
		unlock()
	}
}

// killWhileSaving starts a program that saves tokens. It kills the program after the
// first save, as soon as the next write begins. It returns the last number that the
// program reported.
func killWhileSaving(t *testing.T, dir string, saved int64) int64 {
	t.Helper()
	c := child(t, dir, fmt.Sprint("FIRST=", saved+1))
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	lines := bufio.NewScanner(out)
	require.True(t, lines.Scan(), "the program has not begun")
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		end := time.Now().Add(patience)
		for time.Now().Before(end) {
			if _, err := os.Lstat(filepath.Join(dir, "token.json.tmp")); err == nil {
				break
			}
		}
		// With this random pause, the kill sometimes comes later: during the write, the
		// sync or the rename.
		time.Sleep(time.Duration(mathrand.IntN(500)) * time.Microsecond)
		_ = c.Process.Kill()
	}()
	for ok := true; ok; ok = lines.Scan() {
		saved, err = strconv.ParseInt(lines.Text(), 10, 64)
		require.NoError(t, err, lines.Text())
	}
	<-stopped
	require.ErrorContains(t, c.Wait(), "killed")
	return saved
}
