//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package tokenstore_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// TestFileMode has a umask that would let everybody read and write.
func TestFileMode(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	dir := filepath.Join(t.TempDir(), "not", "there")
	f := fileAt(t, filepath.Join(dir, "token.json"))
	unlock, err := f.LockToken(t.Context())
	require.NoError(t, err)
	defer unlock()
	require.NoError(t, f.SaveToken(t.Context(), &oauth2.Token{AccessToken: "at"}))
	for path, want := range map[string]os.FileMode{
		filepath.Dir(dir):                     0o700 | os.ModeDir,
		dir:                                   0o700 | os.ModeDir,
		filepath.Join(dir, "token.json"):      0o600,
		filepath.Join(dir, "token.json.lock"): 0o600,
	} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		assert.Equal(t, want, info.Mode(), path)
	}
}

// TestUnsafeFile arranges what File refuses. Every error names the path, its mode
// and what to do.
func TestUnsafeFile(t *testing.T) {
	for _, c := range []struct {
		name    string
		arrange func(t *testing.T, path string)
		reason  string
		mode    string // in the text
		saves   bool   // a save repairs it
	}{
		{"group reads", chmod(0o640), "is open to others", "0640", true},
		{"others read", chmod(0o604), "is open to others", "0604", true},
		{"others write", chmod(0o602), "is open to others", "0602", true},
		{"everybody", chmod(0o777), "is open to others", "0777", true},
		{"symbolic link", func(t *testing.T, path string) {
			require.NoError(t, os.Rename(path, path+"-else"))
			require.NoError(t, os.Symlink(path+"-else", path))
		}, "is a symbolic link", "", false},
		{"link to nowhere", func(t *testing.T, path string) {
			require.NoError(t, os.Remove(path))
			require.NoError(t, os.Symlink(path+"-else", path))
		}, "is a symbolic link", "", false},
		{"directory", func(t *testing.T, path string) {
			require.NoError(t, os.Remove(path))
			require.NoError(t, os.Mkdir(path, 0o700))
		}, "is not a regular file", "0700", false},
		{"named pipe", func(t *testing.T, path string) { // to open it would wait for a writer
			require.NoError(t, os.Remove(path))
			require.NoError(t, syscall.Mkfifo(path, 0o600))
		}, "is not a regular file", "0600", false},
		{"another user's", func(t *testing.T, path string) {
			if err := os.Chown(path, 12345, -1); err != nil {
				skip(t, "giving a file away needs root: %v", err)
			}
		}, "belongs to user 12345", "0600", false},
		{"open directory", func(t *testing.T, path string) {
			require.NoError(t, os.Chmod(filepath.Dir(path), 0o777))
		}, "lets others replace the files in it", "0777", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFile(t)
			require.NoError(t, f.SaveToken(t.Context(), &oauth2.Token{AccessToken: "old", RefreshToken: "hush-hush"}))
			path := onlyFile(t, f)
			c.arrange(t, path)
			before := listing(t, filepath.Dir(path))
			check := func(err error) {
				t.Helper()
				var refused *tokenstore.UnsafeFileError
				require.ErrorAs(t, err, &refused)
				assert.Contains(t, []string{path, filepath.Dir(path)}, refused.Path)
				assert.Equal(t, c.reason, refused.Reason)
				assert.NotEmpty(t, refused.Remedy)
				info, err2 := os.Lstat(refused.Path)
				require.NoError(t, err2)
				assert.Equal(t, info.Mode(), refused.Mode)
				for _, part := range []string{refused.Path, refused.Reason, refused.Remedy, "mode " + c.mode} {
					assert.Contains(t, err.Error(), part)
				}
				assert.NotContains(t, fmt.Sprintf("%v %+v %#v", err, err, err), "hush")
			}
			tok, err := f.LoadToken(t.Context())
			assert.Nil(t, tok)
			check(err)
			err = f.SaveToken(t.Context(), &oauth2.Token{AccessToken: "new"})
			if !c.saves {
				check(err)
				assert.Equal(t, before, listing(t, filepath.Dir(path)), "nothing is touched")
				if err = f.SaveToken(t.Context(), nil); c.name == "open directory" {
					assert.NoError(t, err, "there one can log out")
				} else {
					check(err)
				}
				// What the user of a program gets to see.
				provider, err := shangcloud.New(shangcloud.Config{ClientID: "cli", RedirectURL: "http://127.0.0.1/callback"})
				require.NoError(t, err)
				_, err = provider.TokenSource(nil, f).Token()
				assert.ErrorIs(t, err, shangcloud.ErrTokenStore)
				check(err)
				return
			}
			require.NoError(t, err)
			info, err := os.Lstat(path)
			require.NoError(t, err)
			assert.Equal(t, os.FileMode(0o600), info.Mode())
			tok, err = f.LoadToken(t.Context())
			require.NoError(t, err)
			assert.Equal(t, "new", tok.AccessToken)
		})
	}
}

func chmod(mode os.FileMode) func(t *testing.T, path string) {
	return func(t *testing.T, path string) { require.NoError(t, os.Chmod(path, mode)) }
}

func listing(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		all = append(all, fs.FormatDirEntry(e))
	}
	return all
}

func TestSafeDirectories(t *testing.T) {
	for _, mode := range []os.FileMode{0o700, 0o755, 0o775, 0o777 | os.ModeSticky} {
		f := newFile(t)
		require.NoError(t, f.SaveToken(t.Context(), &oauth2.Token{AccessToken: "at"}))
		require.NoError(t, os.Chmod(filepath.Dir(onlyFile(t, f)), mode))
		_, err := f.LoadToken(t.Context())
		assert.NoError(t, err, mode)
		assert.NoError(t, f.SaveToken(t.Context(), &oauth2.Token{AccessToken: "at"}), mode)
	}
}

// TestUnsafeLeftover finds a temporary file that is not as File makes it.
func TestUnsafeLeftover(t *testing.T) {
	f := newFile(t)
	require.NoError(t, f.SaveToken(t.Context(), &oauth2.Token{AccessToken: "old"}))
	path := onlyFile(t, f)
	require.NoError(t, os.WriteFile(path+".tmp", nil, 0o644))
	reader, err := os.Open(path + ".tmp")
	require.NoError(t, err)
	defer reader.Close()
	require.NoError(t, f.SaveToken(t.Context(), &oauth2.Token{AccessToken: "new"}))
	info, err := reader.Stat()
	require.NoError(t, err)
	assert.Zero(t, info.Size(), "whoever could open the old one does not see what is written")
	info, err = os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode())

	for _, name := range []string{".tmp", ".lock"} {
		os.Remove(path + name)
		elsewhere := filepath.Join(t.TempDir(), "elsewhere")
		require.NoError(t, os.WriteFile(elsewhere, []byte("precious"), 0o600))
		require.NoError(t, os.Symlink(elsewhere, path+name))
		if name == ".tmp" {
			assert.ErrorContains(t, f.SaveToken(t.Context(), &oauth2.Token{AccessToken: "newer"}), "stays")
		} else {
			_, err := f.LockToken(t.Context())
			assert.ErrorContains(t, err, "not locked")
		}
		data, err := os.ReadFile(elsewhere)
		require.NoError(t, err)
		assert.Equal(t, "precious", string(data))
	}
}

// TestSaversOfManyFiles has savers meet on the temporary file, not only in the
// queue of one File.
func TestSaversOfManyFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token.json")
	var wg sync.WaitGroup
	for range 8 {
		f := fileAt(t, path)
		wg.Go(func() {
			for range 50 {
				assert.NoError(t, f.SaveToken(t.Context(), wholeToken(1)))
				tok, err := f.LoadToken(t.Context())
				if assert.NoError(t, err) {
					assert.NoError(t, checkWhole(tok))
				}
			}
		})
	}
	wg.Wait()
	assert.Equal(t, []string{"- token.json"}, listing(t, filepath.Dir(path)))
}

// TestFailedWrite runs in a child whose files may not grow beyond 1000 bytes.
func TestFailedWrite(t *testing.T) {
	if dir := childDir(t); dir != "" {
		f := fileAt(t, filepath.Join(dir, "token.json"))
		require.NoError(t, f.SaveToken(t.Context(), &oauth2.Token{AccessToken: "old"}))
		signal.Ignore(syscall.SIGXFSZ)
		var limit syscall.Rlimit
		require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit))
		limit.Cur = 1000
		require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit))
		err := f.SaveToken(t.Context(), &oauth2.Token{AccessToken: strings.Repeat("hush", 1000)})
		assert.ErrorIs(t, err, syscall.EFBIG)
		assert.ErrorContains(t, err, "what was saved before stays")
		assert.NotContains(t, fmt.Sprintf("%v %#v", err, err), "hush")
		assert.Equal(t, []string{"- token.json"}, listing(t, dir), "no half of a token is left")
		tok, err := f.LoadToken(t.Context())
		require.NoError(t, err)
		assert.Equal(t, "old", tok.AccessToken)
		return
	}
	inChild(t, t.TempDir(), nil)
}

// TestLockOfAFileThatWaits shows that a waiting caller obeys its context, whether
// it waits for this process or for another File.
func TestLockOfAFileThatWaits(t *testing.T) {
	f := newFile(t)
	unlock, err := f.LockToken(t.Context())
	require.NoError(t, err)
	other := fileAt(t, strings.TrimSuffix(strings.TrimPrefix(fmt.Sprint(f), "tokenstore.File("), ")"))
	for _, waiting := range []*tokenstore.File{f, other} {
		ctx, cancel := contextFor(t, 50*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := waiting.LockToken(ctx)
		assert.ErrorIs(t, err, ctx.Err())
		assert.ErrorContains(t, err, "not locked")
		assert.Less(t, time.Since(start), 5*time.Second)
	}
	unlock()
	unlock, err = other.LockToken(t.Context())
	require.NoError(t, err)
	unlock()
}

// TestLockIsShared has one File hold the lock nearly all the time, for as long as
// a request takes, and another one ask for it.
func TestLockIsShared(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token.json")
	greedy, modest := fileAt(t, path), fileAt(t, path)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	for range 2 {
		wg.Go(func() {
			for {
				unlock, err := greedy.LockToken(ctx)
				if err != nil {
					return
				}
				time.Sleep(50 * time.Millisecond)
				unlock()
			}
		})
	}
	for range 5 {
		time.Sleep(10 * time.Millisecond)
		limit, cancel := contextFor(t, 2*time.Second)
		unlock, err := modest.LockToken(limit)
		cancel()
		require.NoError(t, err)
		unlock()
	}
}
