//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd || windows)

package tokenstore

import (
	"context"
	"errors"
	"io/fs"
	"os"
)

// NewFile always fails on these systems, so the functions below are never called.
const (
	supported = false
	hasModes  = false
	noFollow  = 0
)

type lockKind struct{}

var tokenLock lockKind

type temp struct{ *os.File }

func tryLock(*os.File, lockKind) (bool, error)             { return false, errors.ErrUnsupported }
func unlockFile(*os.File)                                  {}
func openToRead(context.Context, string) (*os.File, error) { return nil, errors.ErrUnsupported }
func removeFile(context.Context, string) error             { return errors.ErrUnsupported }
func (*File) createTemp(context.Context) (*temp, error)    { return nil, errors.ErrUnsupported }
func (*temp) replace(context.Context, string) error        { return errors.ErrUnsupported }
func (*temp) discard()                                     {}
func syncDir(string) error                                 { return errors.ErrUnsupported }
func checkOwner(string, fs.FileInfo) error                 { return errors.ErrUnsupported }
func checkLinks(string, fs.FileInfo) error                 { return errors.ErrUnsupported }
func checkDirMode(string, fs.FileInfo) error               { return errors.ErrUnsupported }
