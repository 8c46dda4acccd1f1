//go:build (dragonfly && cgo) || (freebsd && cgo) || linux || netbsd || openbsd

package keyring

import (
	"errors"
	"strings"

	"github.com/godbus/dbus/v5"
)

// reachable returns an error if there is no session bus. Without this check, the library
// would start a bus that nobody would ever end.
func reachable() error {
	conn, err := dbus.SessionBusPrivateNoAutoStartup()
	if err != nil {
		return &UnavailableError{Reason: "there is no D-Bus session"}
	}
	_ = conn.Close()
	return nil
}

// reason describes an error of the library. For an error that the bus sent, it is a
// description if the error's name is known, and otherwise the name.
func reason(err error) string {
	if e, ok := errors.AsType[dbus.Error](err); ok {
		switch e.Name {
		case "org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner":
			return "there is no Secret Service"
		case "org.freedesktop.Secret.Error.IsLocked":
			return "it is locked"
		}
		return e.Name
	}
	if strings.HasPrefix(err.Error(), "failed to unlock") {
		return "it is locked, or has no collection yet"
	}
	return err.Error()
}
