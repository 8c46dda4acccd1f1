//go:build !((dragonfly && cgo) || (freebsd && cgo) || linux || netbsd || openbsd)

package keyring

import (
	"errors"

	"github.com/zalando/go-keyring"
)

// reachable checks nothing on this system.
func reachable() error { return nil }

// reason describes an error of the library.
func reason(err error) string {
	if errors.Is(err, keyring.ErrUnsupportedPlatform) {
		return "this system has none"
	}
	return err.Error()
}
