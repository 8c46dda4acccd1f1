package tokenstore

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"syscall"
	"time"
	"unsafe"
)

const (
	supported = true
	hasModes  = false // Windows has access lists instead, which a file inherits from its directory
	noFollow  = 0
)

// lockKind is the number of the locked byte in the lock file. Windows can't rename an open
// file, so the temporary file can't carry a lock itself.
type lockKind uint32

const (
	tokenLock lockKind = iota
	tempLock
)

var (
	kernel32     = syscall.NewLazyDLL("kernel32.dll")
	lockFileEx   = kernel32.NewProc("LockFileEx")
	unlockFileEx = kernel32.NewProc("UnlockFileEx")
)

const (
	lockfileFailImmediately = 1
	lockfileExclusiveLock   = 2

	errSharingViolation = syscall.Errno(32)
	errLockViolation    = syscall.Errno(33)
)

// tryLock tries to lock file with LockFileEx. The lock belongs to the open file, so two
// Files in one process also exclude each other. The lock ends with the process.
func tryLock(file *os.File, which lockKind) (bool, error) {
	at := &syscall.Overlapped{Offset: uint32(which)}
	ok, _, err := lockFileEx.Call(file.Fd(), lockfileExclusiveLock|lockfileFailImmediately, 0, 1, 0, uintptr(unsafe.Pointer(at)))
	switch {
	case ok != 0:
		return true, nil
	case errors.Is(err, errLockViolation), errors.Is(err, syscall.ERROR_IO_PENDING):
		return false, nil
	}
	return false, err
}

func unlockFile(file *os.File) {
	at := &syscall.Overlapped{Offset: uint32(tokenLock)}
	_, _, _ = unlockFileEx.Call(file.Fd(), 0, 1, 0, uintptr(unsafe.Pointer(at)))
}

// insist repeats do while another process, such as a virus scanner, keeps the file open
// and so makes do fail. It stops after 2 seconds, or when ctx is done.
func insist(ctx context.Context, do func() error) error {
	end := time.Now().Add(2 * time.Second)
	for pause := firstPoll; ; pause = min(2*pause, maxPoll) {
		err := do()
		if !errors.Is(err, errSharingViolation) && !errors.Is(err, syscall.ERROR_ACCESS_DENIED) || time.Now().After(end) {
			return err
		}
		if waitFor(ctx, pause) != nil {
			return err
		}
	}
}

func openToRead(ctx context.Context, path string) (file *os.File, err error) {
	err = insist(ctx, func() error {
		file, err = os.Open(path)
		return err
	})
	return file, err
}

func removeFile(ctx context.Context, path string) error {
	return insist(ctx, func() error { return os.Remove(path) })
}

// temp is the temporary file. A rename turns it into the token file. The writer holds a
// lock on the lock file.
type temp struct {
	*os.File
	lock *os.File
}

// createTemp returns the temporary file, empty and locked. The file always has the same
// name, so killed writers leave only one file.
func (f *File) createTemp(ctx context.Context) (*temp, error) {
	lock, err := openOrCreate(f.path + ".lock")
	if err != nil {
		return nil, err
	}
	if err := waitLock(ctx, lock, tempLock); err != nil {
		lock.Close()
		return nil, err
	}
	file, err := openOrCreate(f.path + ".tmp")
	if err == nil {
		if err = file.Truncate(0); err != nil {
			file.Close()
		}
	}
	if err != nil {
		lock.Close()
		return nil, err
	}
	return &temp{file, lock}, nil
}

// replace renames t to path.
func (t *temp) replace(ctx context.Context, path string) error {
	if err := t.File.Close(); err != nil {
		return err
	}
	if err := insist(ctx, func() error { return os.Rename(t.Name(), path) }); err != nil {
		return err
	}
	t.lock.Close()
	return nil
}

func (t *temp) discard() {
	t.File.Close()
	os.Remove(t.Name())
	t.lock.Close()
}

func syncDir(string) error { return nil } // Windows has no such call

func checkOwner(string, fs.FileInfo) error   { return nil }
func checkLinks(string, fs.FileInfo) error   { return nil }
func checkDirMode(string, fs.FileInfo) error { return nil }
