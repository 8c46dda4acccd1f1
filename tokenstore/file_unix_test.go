//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package tokenstore_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/leak"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// TestFile_modes sets the umask to 0, so that the system removes no permissions.
func TestFile_modes(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	dir := filepath.Join(t.TempDir(), "not", "there")
	f := fileAt(t, filepath.Join(dir, "token.json"))
	defer lock(t, f)()
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

// TestUnsafeFileError creates token files that must be refused. Every error names the
// path, the mode and a remedy.
func TestUnsafeFileError(t *testing.T) {
	for _, c := range []struct {
		name    string
		arrange func(t *testing.T, path string)
		reason  string
		mode    string // the mode in the error's text
		saves   bool   // a save repairs the file
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
		{"named pipe", func(t *testing.T, path string) { // opening it would block until a writer comes
			require.NoError(t, os.Remove(path))
			require.NoError(t, syscall.Mkfifo(path, 0o600))
		}, "is not a regular file", "0600", false},
		{"another user's", giveAway, "belongs to user 12345", "0600", false},
		{"open directory", func(t *testing.T, path string) {
			require.NoError(t, os.Chmod(filepath.Dir(path), 0o777))
		}, "lets others replace the files in it", "0777", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFile(t)
			require.NoError(t, f.SaveToken(t.Context(), &oauth2.Token{AccessToken: "old", RefreshToken: "hush-hush"}))
			path := pathOf(t, f)
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
				assert.False(t, leak.Prints(err, "hush"))
			}
			tok, err := f.LoadToken(t.Context())
			assert.Nil(t, tok)
			check(err)
			err = f.SaveToken(t.Context(), &oauth2.Token{AccessToken: "new"})
			if !c.saves {
				check(err)
				assert.Equal(t, before, listing(t, filepath.Dir(path)), "nothing is touched")
				if err = f.DeleteToken(t.Context()); c.name == "open directory" {
					assert.NoError(t, err, "a logout is allowed there")
				} else {
					check(err)
				}
				// A token source must return the same error.
				_, err = newProvider(t, "http://127.0.0.1:1", nil).StoredTokens(f).Token()
				assert.ErrorIs(t, err, oauth2login.ErrTokenStore)
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

func TestFile_safe_directories(t *testing.T) {
	for _, mode := range []os.FileMode{0o700, 0o755, 0o775, 0o777 | os.ModeSticky} {
		f := newFile(t)
		require.NoError(t, f.SaveToken(t.Context(), &oauth2.Token{AccessToken: "at"}))
		require.NoError(t, os.Chmod(filepath.Dir(pathOf(t, f)), mode))
		_, err := f.LoadToken(t.Context())
		assert.NoError(t, err, mode)
		assert.NoError(t, f.SaveToken(t.Context(), &oauth2.Token{AccessToken: "at"}), mode)
	}
}

// TestFile_leftover_open_to_others: a temporary file is left over, and others can read it.
func TestFile_leftover_open_to_others(t *testing.T) {
	f := newFile(t)
	require.NoError(t, f.SaveToken(t.Context(), &oauth2.Token{AccessToken: "old"}))
	path := pathOf(t, f)
	require.NoError(t, os.WriteFile(path+".tmp", nil, 0o644))
	reader, err := os.Open(path + ".tmp")
	require.NoError(t, err)
	defer reader.Close()
	require.NoError(t, f.SaveToken(t.Context(), &oauth2.Token{AccessToken: "new"}))
	info, err := reader.Stat()
	require.NoError(t, err)
	assert.Zero(t, info.Size(), "a reader of the old file does not see what is written")
	info, err = os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode())
}

// TestUnsafeFileError_beside_the_token creates unsafe files next to the token file.
func TestUnsafeFileError_beside_the_token(t *testing.T) {
	for _, c := range []struct {
		name    string
		arrange func(t *testing.T, path, elsewhere string)
		reason  string
	}{
		{"symbolic link", func(t *testing.T, path, elsewhere string) {
			require.NoError(t, os.Symlink(elsewhere, path))
		}, "is a symbolic link"},
		{"hard link", func(t *testing.T, path, elsewhere string) {
			require.NoError(t, os.Link(elsewhere, path))
		}, "has 2 names (hard links)"},
		{"named pipe", func(t *testing.T, path, _ string) {
			require.NoError(t, syscall.Mkfifo(path, 0o600))
		}, "is not a regular file"},
		{"directory", func(t *testing.T, path, _ string) {
			require.NoError(t, os.Mkdir(path, 0o700))
		}, "is not a regular file"},
		{"another user's", func(t *testing.T, path, elsewhere string) {
			require.NoError(t, os.WriteFile(path, []byte("precious"), 0o600))
			giveAway(t, path)
		}, "belongs to user 12345"},
	} {
		for name, call := range map[string]func(ctx context.Context, f *tokenstore.File) error{
			".tmp": func(ctx context.Context, f *tokenstore.File) error {
				return f.SaveToken(ctx, &oauth2.Token{AccessToken: "new"})
			},
			".lock": func(ctx context.Context, f *tokenstore.File) error {
				_, err := f.LockToken(ctx, hold)
				return err
			},
		} {
			t.Run(c.name+name, func(t *testing.T) {
				f := newFile(t)
				require.NoError(t, f.SaveToken(t.Context(), &oauth2.Token{AccessToken: "old"}))
				path := pathOf(t, f)
				elsewhere := filepath.Join(filepath.Dir(path), "elsewhere")
				require.NoError(t, os.WriteFile(elsewhere, []byte("precious"), 0o600))
				c.arrange(t, path+name, elsewhere)
				before := listing(t, filepath.Dir(path))

				err := call(t.Context(), f)
				refused, ok := errors.AsType[*tokenstore.UnsafeFileError](err)
				require.True(t, ok, "%v", err)
				assert.Equal(t, path+name, refused.Path)
				assert.Equal(t, c.reason, refused.Reason)
				assert.Equal(t, before, listing(t, filepath.Dir(path)))
				data, err := os.ReadFile(elsewhere)
				require.NoError(t, err)
				assert.Equal(t, "precious", string(data))
				tok, err := f.LoadToken(t.Context())
				require.NoError(t, err)
				assert.Equal(t, "old", tok.AccessToken)
			})
		}
	}
}

// giveAway makes another user the owner of a file.
func giveAway(t *testing.T, path string) {
	t.Helper()
	if err := os.Chown(path, 12345, -1); err != nil {
		skip(t, "giving a file away needs root: %v", err)
	}
}

// TestFile_of_root_in_a_users_directory imitates "sudo program": the user could not open
// the files that root would leave behind.
func TestFile_of_root_in_a_users_directory(t *testing.T) {
	home := t.TempDir()
	giveAway(t, home)
	for name, path := range map[string]string{
		"there":     filepath.Join(home, "token.json"),
		"not there": filepath.Join(home, ".config", "app", "token.json"),
	} {
		t.Run(name, func(t *testing.T) {
			f := fileAt(t, path)
			_, loadErr := f.LoadToken(t.Context())
			_, lockErr := f.LockToken(t.Context(), hold)
			for _, err := range []error{loadErr, lockErr, f.SaveToken(t.Context(), &oauth2.Token{}), f.DeleteToken(t.Context())} {
				refused, ok := errors.AsType[*tokenstore.UnsafeFileError](err)
				require.True(t, ok, "%v", err)
				assert.Equal(t, home, refused.Path)
				assert.Equal(t, "belongs to user 12345", refused.Reason)
				assert.Contains(t, refused.Remedy, "without sudo")
			}
			assert.Empty(t, listing(t, home))
		})
	}
	f := fileAt(t, filepath.Join(home, "data", "token.json"), tokenstore.WithMountedVolume())
	require.NoError(t, f.SaveToken(t.Context(), &oauth2.Token{AccessToken: "at"}))
	_, err := f.LoadToken(t.Context())
	assert.NoError(t, err)
}

func TestWithMountedVolume(t *testing.T) {
	for mode, ok := range map[os.FileMode]bool{
		0o600: true, 0o640: true, 0o660: true, 0o770: true,
		0o604: false, 0o662: false, 0o666: false, 0o777: false,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			f := newFile(t, tokenstore.WithMountedVolume())
			require.NoError(t, f.SaveToken(t.Context(), &oauth2.Token{AccessToken: "at"}))
			require.NoError(t, os.Chmod(pathOf(t, f), mode))
			_, err := f.LoadToken(t.Context())
			if ok {
				assert.NoError(t, err)
			} else {
				assert.ErrorContains(t, err, "is open to others")
			}
			require.NoError(t, os.WriteFile(pathOf(t, f)+".tmp", []byte("left by a killed program"), mode))
			require.NoError(t, f.SaveToken(t.Context(), &oauth2.Token{AccessToken: "at"}))
			_, err = f.LoadToken(t.Context())
			assert.NoError(t, err)
		})
	}
}

// TestFile_many_savers uses several Files for one path. So savers compete for the
// temporary file, and not only in the queue of one File.
func TestFile_many_savers(t *testing.T) {
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

// TestFile_failed_write runs in a child process whose files cannot grow beyond 1000 bytes.
func TestFile_failed_write(t *testing.T) {
	if dir := childDir(t); dir != "" {
		f := fileAt(t, filepath.Join(dir, "token.json"))
		require.NoError(t, f.SaveToken(t.Context(), &oauth2.Token{AccessToken: "old"}))
		signal.Ignore(syscall.SIGXFSZ)
		var limit syscall.Rlimit
		require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit))
		defer syscall.Setrlimit(syscall.RLIMIT_FSIZE, new(limit)) // the limit must not affect files that package testing writes
		limit.Cur = 1000
		require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit))
		err := f.SaveToken(t.Context(), &oauth2.Token{AccessToken: strings.Repeat("hush", 1000)})
		assert.ErrorIs(t, err, syscall.EFBIG)
		assert.ErrorContains(t, err, "what was saved before stays")
		assert.False(t, leak.Prints(err, "hush"))
		assert.Equal(t, []string{"- token.json"}, listing(t, dir), "no half of a token is left")
		tok, err := f.LoadToken(t.Context())
		require.NoError(t, err)
		assert.Equal(t, "old", tok.AccessToken)
		return
	}
	inChild(t, t.TempDir(), nil)
}

// TestFile_wait_for_the_lock: a wait for the lock ends with its context, whether the same
// File holds the lock or another one.
func TestFile_wait_for_the_lock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token.json")
	f, other := fileAt(t, path), fileAt(t, path)
	unlock := lock(t, f)
	for _, waiting := range []*tokenstore.File{f, other} {
		ctx := contextFor(t, 50*time.Millisecond)
		_, err := waiting.LockToken(ctx, hold)
		assert.ErrorIs(t, err, ctx.Err())
		assert.ErrorContains(t, err, "is not locked")
	}
	unlock()
	lock(t, other)()
}

// TestFile_lock_is_shared: one File takes the lock again and again. Another File must
// still get the lock in between.
func TestFile_lock_is_shared(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token.json")
	greedy, modest := fileAt(t, path), fileAt(t, path)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	for range 2 {
		wg.Go(func() {
			for {
				unlock, err := greedy.LockToken(ctx, hold)
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
		lock(t, modest)()
	}
}
