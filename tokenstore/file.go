package tokenstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"golang.org/x/oauth2"
)

const (
	// maxFileSize caps what is read and written. Tokens are a few kilobytes.
	maxFileSize = 1 << 20

	// A lock that another process holds is asked for again after a pause that
	// doubles from firstPoll to maxPoll. It is mostly held for one request.
	firstPoll = time.Millisecond
	maxPoll   = 25 * time.Millisecond
)

// File keeps one user's token in a file, for command-line programs. It is made by
// [NewFile], safe for concurrent use by any number of goroutines and processes of
// this machine, and a [shangcloud.TokenLocker]: of several processes one refreshes
// the token, and the others use what it has saved.
//
// # What is on the disk
//
// The token is JSON, all its exported fields, readable for its owner only. It is
// written to a second file (path + ".tmp"), synced to the disk and renamed: killed
// at any moment, a program leaves the old token or the new one, whole. What a
// killed program left of the second file is overwritten by the next save. When a
// save fails, because the disk is full, say, the old token stays, and the
// [shangcloud.TokenSource] keeps the new one in memory and tries again.
//
// The lock is on a third file (path + ".lock"), which is empty and stays; removing
// it while programs run lets two of them refresh at once. The operating system
// ends the lock when its holder dies, however that happens. A holder that is
// suspended keeps it: the others then use the token they have until it expires,
// and after that wait for 10 seconds, or as long as their contexts allow, and fail.
//
// # What is refused
//
// A token file that others can read, that belongs to another user, or that is no
// regular file (a symbolic link is none: give the path it leads to) is refused with
// an [*UnsafeFileError], and so is a directory in which every user can replace the
// files. Saving does not mind that others can read the old file, for it is replaced
// by one that they can't. A directory that is missing is made, with mode 0700, when
// the lock is taken or a token is saved, and so are its parents.
//
// # Where it works
//
// On Linux, macOS and the BSDs, on file systems that know owners, modes and locks;
// on others, and where a network file system has been set up without locks, calls
// fail. On Windows, files have no such modes: the file inherits the access list of
// its directory, and the one of a user's profile shuts out the others. Elsewhere
// [NewFile] fails with [errors.ErrUnsupported].
type File struct {
	path string

	// Goroutines of this process line up here, so that one at most asks the
	// operating system again and again. They hold an element while they are in.
	locking, saving chan struct{}

	// rest is when this File may take the lock again. Whoever is inside locking
	// owns it.
	rest time.Time
}

var (
	_ shangcloud.TokenStore  = (*File)(nil)
	_ shangcloud.TokenLocker = (*File)(nil)
)

// NewFile returns a store in the file at path; a relative path is taken from the
// present working directory, once and for all. The file need not exist, and
// nothing is read or written yet.
//
// A program makes one File per path and shares it. Several of them, in one process
// or in many, work as well.
func NewFile(path string) (*File, error) {
	if !supported {
		return nil, fmt.Errorf("shangcloud: token file: no locks between processes on this system: %w", errors.ErrUnsupported)
	}
	if path == "" || os.IsPathSeparator(path[len(path)-1]) {
		return nil, fmt.Errorf("shangcloud: token file: %q is not the path of a file", path)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("shangcloud: token file: %w", err)
	}
	return &File{path: abs, locking: make(chan struct{}, 1), saving: make(chan struct{}, 1)}, nil
}

// UnsafeFileError is a token file, or its directory, that is not for its owner alone.
type UnsafeFileError struct {
	Path   string      // of what is at fault: the file, or the directory
	Mode   fs.FileMode // as it was found
	Reason string      // what is wrong with it
	Remedy string      // what its owner can do
}

func (e *UnsafeFileError) Error() string {
	return fmt.Sprintf("%q (mode %04o) %s: %s", e.Path, e.Mode.Perm(), e.Reason, e.Remedy)
}

// Unwrap returns a [*fs.PathError] that says the same: what asks for those knows it.
func (e *UnsafeFileError) Unwrap() error {
	return &fs.PathError{Op: "refused", Path: e.Path, Err: fmt.Errorf("mode %04o, it %s: %s", e.Mode.Perm(), e.Reason, e.Remedy)}
}

func unsafeFile(path string, info fs.FileInfo, reason, remedy string) error {
	return &UnsafeFileError{path, info.Mode(), reason, remedy}
}

// LoadToken implements [shangcloud.TokenStore]. Without a file there is no token.
//
// A file that is unsafe, is longer than 1 MiB, or holds something else than a
// token is an error, which does not quote what it holds.
func (f *File) LoadToken(ctx context.Context) (*oauth2.Token, error) {
	if err := f.ready(ctx); err != nil {
		return nil, err
	}
	data, err := f.read(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("shangcloud: token file: %w", err)
	}
	var tok *oauth2.Token
	// The cause stays out of the error: it may quote the file.
	if json.Unmarshal(data, &tok) != nil || tok == nil {
		return nil, fmt.Errorf("shangcloud: token file: %q does not hold a token: remove it and log in again", f.path)
	}
	return tok, nil
}

// ready reports why a call must not begin.
func (f *File) ready(ctx context.Context) error {
	if f.path == "" {
		return errors.New("shangcloud: token file: a tokenstore.File is made by NewFile")
	}
	return ctx.Err()
}

// read returns what is in the file, having checked the file that it then reads.
func (f *File) read(ctx context.Context) ([]byte, error) {
	info, err := os.Lstat(f.path)
	if err != nil {
		return nil, err
	}
	// To open something else than a file may wait, or do things.
	if err := checkKind(f.path, info); err != nil {
		return nil, err
	}
	if err := f.checkDir(); err != nil {
		return nil, err
	}
	file, err := openToRead(ctx, f.path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if info, err = file.Stat(); err != nil {
		return nil, err
	}
	if err := checkKind(f.path, info); err != nil {
		return nil, err
	}
	if err := checkOwner(f.path, info); err != nil {
		return nil, err
	}
	if err := checkMode(f.path, info); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(file, maxFileSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFileSize {
		return nil, fmt.Errorf("%q is longer than %d bytes: it does not hold a token", f.path, maxFileSize)
	}
	return data, nil
}

// SaveToken implements [shangcloud.TokenStore]. It replaces the file; if tok is
// nil, it removes it: the user has logged out. Call it under the lock of
// [File.LockToken], as [shangcloud.TokenSource] does: otherwise a refresh that is
// under way in another process saves its token later.
//
// Once begun, it does not stop for ctx: a disk that does not answer can't be told
// to give up.
func (f *File) SaveToken(ctx context.Context, tok *oauth2.Token) error {
	if err := f.ready(ctx); err != nil {
		return err
	}
	if tok == nil {
		return f.remove(ctx)
	}
	if err := f.save(ctx, tok); err != nil {
		return fmt.Errorf("shangcloud: token file: the token was not saved, and what was saved before stays: %w", err)
	}
	if err := syncDir(filepath.Dir(f.path)); err != nil {
		return fmt.Errorf("shangcloud: token file: the token was saved, but may be lost in a power failure: %w", err)
	}
	return nil
}

func (f *File) save(ctx context.Context, tok *oauth2.Token) error {
	data, err := json.Marshal(tok)
	if err != nil { // an expiry that JSON does not know
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
	tmp, err := createTemp(ctx, f.path)
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

// remove removes the token, and what a killed program may have left of another.
func (f *File) remove(ctx context.Context) error {
	if err := f.removeBoth(ctx); err != nil && !errors.Is(err, fs.ErrNotExist) { // no directory, no token
		return fmt.Errorf("shangcloud: token file: not removed: %w", err)
	}
	return nil
}

func (f *File) removeBoth(ctx context.Context) error {
	if err := enter(ctx, f.saving); err != nil {
		return err
	}
	defer func() { <-f.saving }()
	if err := f.checkReplaceable(); err != nil {
		return err
	}
	// Under the lock of the temporary file: a writer must not lose it to another.
	tmp, tmpErr := createTemp(ctx, f.path)
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

// LockToken implements [shangcloud.TokenLocker]. The lock does not end with ctx. A
// second call of unlock does nothing.
func (f *File) LockToken(ctx context.Context) (unlock func(), err error) {
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
		// Not left to Close: a process being started at this moment may have
		// inherited the file until it runs its program.
		unlockFile(file)
		file.Close()
		// Other processes ask every maxPoll. If the next goroutine of this one
		// took the lock at once, again and again, they would never get it.
		end := time.Now()
		f.rest = end.Add(min(end.Sub(begin), maxPoll))
		<-f.locking
	}), nil
}

func (f *File) notLocked(err error) error {
	return fmt.Errorf("shangcloud: token file %q: not locked: %w", f.path, err)
}

func (f *File) lock(ctx context.Context) (*os.File, error) {
	if err := waitFor(ctx, time.Until(f.rest)); err != nil {
		return nil, err
	}
	if err := f.makeDir(); err != nil {
		return nil, err
	}
	file, err := openLock(f.path + ".lock")
	if err != nil {
		return nil, err
	}
	if err := waitLock(ctx, file, tokenLock); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// waitLock locks file, and waits for that until ctx is done.
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

// waitFor waits, until ctx is done, and then returns its error.
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

// checkReplaceable refuses what a save must not put a file in the place of.
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

// Format prints the path, whatever the verb.
func (f *File) Format(s fmt.State, verb rune) {
	path := "none"
	if f != nil {
		path = f.path
	}
	text := fmt.Sprintf("tokenstore.File(%s)", path)
	if verb == 'q' {
		text = fmt.Sprintf("%q", text)
	}
	io.Copy(s, strings.NewReader(text))
}
