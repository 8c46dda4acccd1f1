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

const (
	supported = true
	hasModes  = true
	noFollow  = syscall.O_NOFOLLOW
)

// lockKind is needed on Windows, where both locks are on one file. On this system, each
// lock has its own file.
type lockKind struct{}

var tokenLock lockKind

// tryLock tries to lock file with flock(2). The lock belongs to the open file, so two
// Files in one process also exclude each other. The lock ends with the process.
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

func unlockFile(file *os.File) { _ = syscall.Flock(int(file.Fd()), syscall.LOCK_UN) }

func openToRead(_ context.Context, path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|noFollow, 0)
}

func removeFile(_ context.Context, path string) error { return os.Remove(path) }

// temp is the temporary file. A rename turns it into the token file. The writer holds a
// lock on it.
type temp struct{ *os.File }

// createTemp returns the temporary file, empty and locked. The file always has the same
// name, so killed writers leave only one file.
func (f *File) createTemp(ctx context.Context) (*temp, error) {
	for remade := false; ; {
		t, err := lockTemp(ctx, f.path+".tmp")
		if err != nil {
			return nil, err
		}
		if t == nil {
			continue
		}
		info, err := t.Stat()
		if err == nil {
			err = f.checkMode(t.Name(), info)
		}
		if err == nil {
			err = t.Truncate(0)
		}
		if err == nil {
			return t, nil
		}
		t.discard()
		// A leftover file that others can read is removed and created again. If others can
		// read the new file, too, the file system does not store modes.
		if _, unsafe := errors.AsType[*UnsafeFileError](err); !unsafe || remade {
			return nil, err
		}
		remade = true
	}
}

// lockTemp opens and locks the temporary file. While it waits for the lock, another writer
// may rename the file to the token file, or discard it. Then lockTemp returns nil.
func lockTemp(ctx context.Context, path string) (*temp, error) {
	file, err := openOrCreate(path)
	if err != nil {
		return nil, err
	}
	if err := waitLock(ctx, file, tokenLock); err != nil {
		file.Close()
		return nil, err
	}
	mine, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, err
	}
	now, err := os.Lstat(path)
	if err == nil && os.SameFile(mine, now) {
		return &temp{file}, nil
	}
	file.Close()
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return nil, err
}

// replace renames t to path, and only then releases the lock on t. When the next writer
// gets the lock, it can see that t is no longer the temporary file: see lockTemp.
func (t *temp) replace(_ context.Context, path string) error {
	err := os.Rename(t.Name(), path)
	if errors.Is(err, syscall.EBUSY) {
		return fmt.Errorf("%w: if the file is mounted by itself, mount its directory instead", err)
	}
	if err != nil {
		return err
	}
	t.Close() // an error does not matter: the data is synced
	return nil
}

func (t *temp) discard() {
	os.Remove(t.Name())
	t.Close()
}

// syncDir makes a rename in dir survive a power failure.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		return nil // the file system does not support it, or does not need it
	}
	return err
}

func checkOwner(path string, info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(stat.Uid) == os.Geteuid() {
		return nil
	}
	remedy := fmt.Sprintf("run the program as that user, or choose another path for user %d", os.Geteuid())
	if os.Geteuid() == 0 {
		remedy = "run the program as that user, without sudo, or choose another path for root; in a container, see WithMountedVolume"
	}
	return unsafeFile(path, info, fmt.Sprintf("belongs to user %d", stat.Uid), remedy)
}

// checkLinks refuses a file that has a second name (a hard link), because another program
// may use that name.
func checkLinks(path string, info fs.FileInfo) error {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Nlink > 1 {
		return unsafeFile(path, info, fmt.Sprintf("has %d names (hard links)", stat.Nlink), fmt.Sprintf("run rm %q", path))
	}
	return nil
}

// checkDirMode refuses a directory in which every user can replace every file. In a
// directory with the sticky bit, such as /tmp, only the owner of a file can replace the
// file.
//
// A directory to which a group can write is accepted, because on many systems such a group
// has only one member. Members of the group can remove the file, which ends the login.
// They can't read or plant a token.
func checkDirMode(path string, info fs.FileInfo) error {
	if info.Mode().Perm()&0o002 == 0 || info.Mode()&fs.ModeSticky != 0 {
		return nil
	}
	path = filepath.Clean(path)
	return unsafeFile(path, info, "lets others replace the files in it", fmt.Sprintf(
		"use a sub-directory, for example %q, or run chmod o-w %q", filepath.Join(path, "private"), path))
}
