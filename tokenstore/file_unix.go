//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package tokenstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

const supported = true

// lockKind matters where one file carries two locks. Here each has its own.
type lockKind struct{}

var tokenLock lockKind

// tryLock takes the lock of flock(2): it belongs to the open file, so it keeps two
// Files of one process apart, and it ends with the process.
func tryLock(file *os.File, _ lockKind) (bool, error) {
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, syscall.EWOULDBLOCK):
			return false, nil
		case !errors.Is(err, syscall.EINTR):
			return false, err
		}
	}
}

func unlockFile(file *os.File) { syscall.Flock(int(file.Fd()), syscall.LOCK_UN) }

func openLock(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
}

func openToRead(_ context.Context, path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
}

func removeFile(_ context.Context, path string) error { return os.Remove(path) }

// temp is the file that becomes the token file. Its writer holds a lock on it.
type temp struct{ *os.File }

// createTemp returns an empty file beside path, locked. Its name is always the
// same, so that killed writers leave one file, not many, and the next writer can
// tell by the lock that its owner is dead.
func createTemp(ctx context.Context, path string) (*temp, error) {
	path += ".tmp"
	for found := false; ; {
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		if err = waitLock(ctx, file, tokenLock); err != nil {
			file.Close()
			return nil, err
		}
		info, err := file.Stat()
		if err != nil {
			file.Close()
			return nil, err
		}
		now, err := os.Lstat(path)
		if err != nil || !os.SameFile(info, now) {
			// While we waited, it has become the token file, or was discarded.
			file.Close()
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			continue
		}
		t := &temp{file}
		err = checkKind(path, info)
		if err == nil {
			err = checkOwner(path, info)
		}
		if err != nil {
			file.Close() // somebody else's: left alone
			return nil, err
		}
		if err = checkMode(path, info); err != nil {
			t.discard()
			if found {
				// It was us who made it: this file system has modes of its own.
				return nil, err
			}
			found = true
			continue
		}
		if err := file.Truncate(0); err != nil {
			t.discard()
			return nil, err
		}
		return t, nil
	}
}

// replace makes t the file at path. The lock on t ends after that, so whoever
// waited for it finds that it is no longer the temporary file.
func (t *temp) replace(_ context.Context, path string) error {
	if err := os.Rename(t.Name(), path); err != nil {
		return err
	}
	t.Close() // synced already
	return nil
}

func (t *temp) discard() {
	os.Remove(t.Name())
	t.Close()
}

// syncDir makes a rename in dir last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		return nil // a file system that does not need it, or has no way
	}
	return err
}

func checkOwner(path string, info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if ok && int(stat.Uid) != os.Geteuid() {
		return unsafeFile(path, info, fmt.Sprintf("belongs to user %d", stat.Uid),
			fmt.Sprintf("run the program as that user, or choose another path for user %d", os.Geteuid()))
	}
	return nil
}

func checkMode(path string, info fs.FileInfo) error {
	if info.Mode().Perm()&0o077 != 0 {
		return unsafeFile(path, info, "is open to others", fmt.Sprintf("run chmod 600 %q, and log in again if somebody may have read it", path))
	}
	return nil
}

// checkDirMode refuses a directory in which everybody can replace every file. With
// the sticky bit, as in /tmp, only a file's owner can.
//
// A group that can write is let pass: on many systems it has one member. It can
// end the login, by removing the file; it can neither read nor plant a token.
func checkDirMode(path string, info fs.FileInfo) error {
	if info.Mode().Perm()&0o002 != 0 && info.Mode()&fs.ModeSticky == 0 {
		return unsafeFile(path, info, "lets others replace the files in it", fmt.Sprintf("run chmod o-w %q", filepath.Clean(path)))
	}
	return nil
}
