package tokenstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/quiet"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"golang.org/x/oauth2"
)

const (
	// maxFileSize is the maximum size of a token file in bytes. Tokens are a few
	// kilobytes.
	maxFileSize = 1 << 20

	// The pause between two attempts at a lock doubles from firstPoll to maxPoll.
	firstPoll = time.Millisecond
	maxPoll   = 25 * time.Millisecond
)

// File keeps one user's token in a file, for command-line programs. It is made by
// [NewFile]. It is safe for concurrent use by any number of goroutines and processes of
// one machine.
//
// The file contains JSON, and only its owner can read it. If a program is killed at any
// moment, the file contains the complete old token or the complete new token. During a
// save there is also the file path+".tmp". The lock is on the file path+".lock", which is
// empty and is not removed.
//
// If a file or a directory is not safe, the error is an [*UnsafeFileError]. docs/tokens.md
// says which files are safe. It also describes the lock, and systems without owners, modes
// or locks.
type File struct {
	path   string
	volume bool // see WithMountedVolume

	// Goroutines of this process wait for room in these channels, so that only one
	// goroutine polls the operating system. Each channel has room for one element.
	locking, saving chan struct{}

	// rest is the earliest time at which this File may take the lock again. Only the
	// goroutine that has put an element into locking uses rest.
	rest time.Time
}

var (
	_ oauth2login.TokenStore  = (*File)(nil)
	_ oauth2login.TokenLocker = (*File)(nil)
)

// A FileOption changes a [File]. See [WithMountedVolume].
type FileOption func(*File)

// WithMountedVolume is for a volume whose modes and owners are set from outside, as
// Kubernetes does with fsGroup. Two checks are less strict:
//   - The group of the token file may read and write it (mode 0660). Each member of
//     the group can then use the login.
//   - Root may use a directory that belongs to another user.
func WithMountedVolume() FileOption { return func(f *File) { f.volume = true } }

// NewFile returns a store in the file at path. A relative path is resolved once, from the
// present working directory. The file need not exist. NewFile itself reads and writes
// nothing.
//
// If the directory is missing, it is created with mode 0700 when it is needed. One file
// serves one user of one provider. Make only one File for each path, because token sources
// share a refresh only if they use the same File. On systems without file locks, the error
// matches [errors.ErrUnsupported].
func NewFile(path string, opts ...FileOption) (*File, error) {
	if !supported {
		return nil, fileError("this system has no locks between processes", errors.ErrUnsupported)
	}
	if path == "" || os.IsPathSeparator(path[len(path)-1]) {
		return nil, fileError(fmt.Sprintf("%q is not the path of a file", path), nil)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fileError("", err)
	}
	f := &File{path: abs, locking: make(chan struct{}, 1), saving: make(chan struct{}, 1)}
	for _, opt := range opts {
		opt(f)
	}
	return f, nil
}

// UnsafeFileError reports a file or a directory that others could read or replace. It is
// the token file, a file beside the token file, or the directory.
type UnsafeFileError struct {
	Path   string      // the file or the directory
	Mode   fs.FileMode // as it was found
	Reason string      // what is wrong with it
	Remedy string      // what its owner can do
}

func (e *UnsafeFileError) Error() string {
	return fmt.Sprintf("%q (mode %04o) %s: %s", e.Path, e.Mode.Perm(), e.Reason, e.Remedy)
}

func unsafeFile(path string, info fs.FileInfo, reason, remedy string) error {
	return &UnsafeFileError{path, info.Mode(), reason, remedy}
}

// fileError makes all errors of a File. The text of a cause comes from the operating
// system or from this package. It may contain paths, but no token.
func fileError(text string, err error) error {
	if err == nil {
		return quiet.New(where, "file: "+text)
	}
	cause := err.Error()
	if own, ok := errors.AsType[*quiet.Error](err); ok {
		cause = own.SafeText()
	}
	if text != "" {
		text += ": "
	}
	return quiet.New(where, "file: "+text+cause, err)
}

// LoadToken implements [oauth2login.TokenStore]. If the file does not exist, it returns no
// token and no error. It needs no right to write.
//
// LoadToken returns an error if the file is unsafe, is larger than 1 MiB or contains no
// token. The error does not quote the file.
func (f *File) LoadToken(ctx context.Context) (*oauth2.Token, error) {
	if err := f.ready(ctx); err != nil {
		return nil, err
	}
	data, err := f.read(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fileError("", err)
	}
	tok, err := Unmarshal(data)
	if err != nil {
		return nil, fileError(fmt.Sprintf("%q does not hold a token, remove it and log in again", f.path), err)
	}
	return tok, nil
}

// ready returns an error if a call must not begin.
func (f *File) ready(ctx context.Context) error {
	if f.path == "" {
		return fileError("a tokenstore.File is made by NewFile", nil)
	}
	if err := ctx.Err(); err != nil {
		return fileError("", err)
	}
	if err := f.checkRoot(); err != nil {
		return fileError("", err)
	}
	return nil
}

// checkRoot refuses to work as root in another user's directory, as "sudo program" would.
// The user could not open the files that root would create there.
func (f *File) checkRoot() error {
	if f.volume || os.Geteuid() != 0 {
		return nil
	}
	for dir := filepath.Dir(f.path); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err == nil {
			return checkOwner(dir, info)
		}
		if !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return err
		}
	}
}

// read returns the content of the file.
func (f *File) read(ctx context.Context) ([]byte, error) {
	file, err := openChecked(f.path, func() (*os.File, error) {
		if err := f.checkDir(); err != nil {
			return nil, err
		}
		return openToRead(ctx, f.path)
	}, f.checkMode)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFileSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFileSize {
		return nil, fmt.Errorf("%q is longer than %d bytes: it does not hold a token", f.path, maxFileSize)
	}
	return data, nil
}

// openChecked opens a file. The file must be a regular file, belong to this user and pass
// check.
func openChecked(path string, open func() (*os.File, error), check func(string, fs.FileInfo) error) (*os.File, error) {
	// Opening a pipe or a device may block or have side effects.
	if info, err := os.Lstat(path); err == nil {
		if err := checkKind(path, info); err != nil {
			return nil, err
		}
	}
	file, err := open()
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil {
		err = checkKind(path, info)
	}
	if err == nil {
		err = checkOwner(path, info)
	}
	if err == nil {
		err = check(path, info)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// SaveToken implements [oauth2login.TokenStore]. It replaces the file. If the old token is
// still there after an error, the error text says so. A nil token is an error.
//
// The end of ctx does not stop a save that has begun: writing to a disk can't be
// cancelled.
func (f *File) SaveToken(ctx context.Context, tok *oauth2.Token) error {
	if err := f.ready(ctx); err != nil {
		return err
	}
	if err := f.save(ctx, tok); err != nil {
		return fileError("the token was not saved, and what was saved before stays", err)
	}
	if err := syncDir(filepath.Dir(f.path)); err != nil {
		return fileError("the token was saved, but may be lost in a power failure", err)
	}
	return nil
}

func (f *File) save(ctx context.Context, tok *oauth2.Token) error {
	data, err := Marshal(tok)
	if err != nil {
		return err
	}
	if len(data) > maxFileSize {
		return fmt.Errorf("it is longer than %d bytes", maxFileSize)
	}
	if err := f.makeDir(); err != nil {
		return err
	}
	if err := enter(ctx, f.saving); err != nil {
		return err
	}
	defer func() { <-f.saving }()
	if err := f.checkReplaceable(); err != nil {
		return err
	}
	tmp, err := f.createTemp(ctx)
	if err != nil {
		return err
	}
	if _, err = tmp.Write(data); err == nil {
		err = tmp.Sync()
	}
	if err == nil {
		err = tmp.replace(ctx, f.path)
	}
	if err != nil {
		tmp.discard()
	}
	return err
}

// DeleteToken implements [oauth2login.TokenStore]. It removes the token file, and the
// temporary file that a killed program may have left.
//
// DeleteToken does not wait for the lock. Use [oauth2login.TokenSource.Delete], which
// waits, so that no refresh in another process brings the token back.
func (f *File) DeleteToken(ctx context.Context) error {
	if err := f.ready(ctx); err != nil {
		return err
	}
	if err := f.remove(ctx); err != nil && !errors.Is(err, fs.ErrNotExist) { // without the directory there is no token
		return fileError("the token was not removed", err)
	}
	return nil
}

func (f *File) remove(ctx context.Context) error {
	if err := enter(ctx, f.saving); err != nil {
		return err
	}
	defer func() { <-f.saving }()
	if err := f.checkReplaceable(); err != nil {
		return err
	}
	// remove holds the lock on the temporary file, so that nobody else is writing.
	// Otherwise discard would remove the file of another writer.
	tmp, tmpErr := f.createTemp(ctx)
	err := removeFile(ctx, f.path)
	if tmpErr != nil {
		return tmpErr
	}
	tmp.discard()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(filepath.Dir(f.path))
}

// LockToken implements [oauth2login.TokenLocker] with flock(2), on Windows with
// LockFileEx. Such a lock has no lifetime, so hold is ignored. The lock ends with unlock,
// or when the process ends. A process that is only stopped keeps the lock. The end of ctx
// does not end the lock. A second call of unlock does nothing.
func (f *File) LockToken(ctx context.Context, _ time.Duration) (unlock func(), err error) {
	if err := f.ready(ctx); err != nil {
		return nil, err
	}
	if err := enter(ctx, f.locking); err != nil {
		return nil, f.notLocked(err)
	}
	file, err := f.lock(ctx)
	if err != nil {
		<-f.locking
		return nil, f.notLocked(err)
	}
	begin := time.Now()
	return sync.OnceFunc(func() {
		// Close alone might not end the lock, because a child process that is just being
		// started may have inherited the open file.
		unlockFile(file)
		file.Close()
		// Other processes try again after at most maxPoll. If goroutines of this process
		// always took the lock again at once, other processes would never get it.
		end := time.Now()
		f.rest = end.Add(min(end.Sub(begin), maxPoll))
		<-f.locking
	}), nil
}

func (f *File) notLocked(err error) error {
	return fileError(fmt.Sprintf("%q is not locked", f.path), err)
}

func (f *File) lock(ctx context.Context) (*os.File, error) {
	if err := waitFor(ctx, time.Until(f.rest)); err != nil {
		return nil, err
	}
	if err := f.makeDir(); err != nil {
		return nil, err
	}
	file, err := openOrCreate(f.path + ".lock")
	if err != nil {
		return nil, err
	}
	if err := waitLock(ctx, file, tokenLock); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// openOrCreate opens the lock file or the temporary file. If the file does not exist, it
// creates the file.
func openOrCreate(path string) (*os.File, error) {
	return openChecked(path, func() (*os.File, error) {
		return os.OpenFile(path, os.O_RDWR|os.O_CREATE|noFollow, 0o600)
	}, checkLinks)
}

// waitLock locks file. It waits until ctx is done.
func waitLock(ctx context.Context, file *os.File, which lockKind) error {
	for pause := firstPoll; ; pause = min(2*pause, maxPoll) {
		locked, err := tryLock(file, which)
		if err != nil {
			return &fs.PathError{Op: "lock", Path: file.Name(), Err: err}
		}
		if locked {
			return nil
		}
		if err := waitFor(ctx, pause); err != nil {
			return err
		}
	}
}

// waitFor returns nil after pause. If ctx is done earlier, it returns the error of ctx.
func waitFor(ctx context.Context, pause time.Duration) error {
	if pause <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *File) makeDir() error {
	if err := os.MkdirAll(filepath.Dir(f.path), 0o700); err != nil {
		return err
	}
	return f.checkDir()
}

func (f *File) checkDir() error {
	dir := filepath.Dir(f.path)
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	return checkDirMode(dir, info)
}

// checkReplaceable returns an error if a save must not replace the token file.
func (f *File) checkReplaceable() error {
	info, err := os.Lstat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := checkKind(f.path, info); err != nil {
		return err
	}
	return checkOwner(f.path, info)
}

func checkKind(path string, info fs.FileInfo) error {
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		return unsafeFile(path, info, "is a symbolic link", "give the path that it leads to")
	case !info.Mode().IsRegular():
		return unsafeFile(path, info, "is not a regular file", "choose another path")
	}
	return nil
}

// checkMode refuses a token file that others can read or write.
func (f *File) checkMode(path string, info fs.FileInfo) error {
	others := fs.FileMode(0o077)
	if f.volume {
		others = 0o007
	}
	if !hasModes || info.Mode().Perm()&others == 0 {
		return nil
	}
	return unsafeFile(path, info, "is open to others", fmt.Sprintf(
		"run chmod 600 %q, and log in again if somebody may have read it; on a volume that sets the mode, see WithMountedVolume", path))
}

// Format prints the path, whatever the verb.
func (f *File) Format(s fmt.State, verb rune) {
	path := "none"
	if f != nil {
		path = f.path
	}
	quiet.Format(s, verb, fmt.Sprintf("tokenstore.File(%s)", path))
}
