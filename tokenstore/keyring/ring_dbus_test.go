//go:build (dragonfly && cgo) || (freebsd && cgo) || linux || netbsd || openbsd

package keyring_test

import (
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore/keyring"
	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// If no keyring answers, Check returns the reason, and does not hang.
func TestCheck_unavailable(t *testing.T) {
	const prefix = "true tokenstore/keyring: the keyring can't be used: "
	const late = "it does not answer in time; it may be locked"
	t.Run("no bus", func(t *testing.T) {
		for _, address := range []string{"", "autolaunch:"} {
			assert.Equal(t, prefix+"there is no D-Bus session", checkElsewhere(t, address, patience))
		}
	})
	t.Run("bus is gone", func(t *testing.T) {
		got := checkElsewhere(t, "unix:path="+filepath.Join(t.TempDir(), "bus"), patience)
		assert.Equal(t, prefix+"there is no D-Bus session", got)
	})
	t.Run("bus is silent", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "bus")
		l, err := net.Listen("unix", path) // the system accepts for it
		require.NoError(t, err)
		defer l.Close()
		assert.Equal(t, prefix+late, checkElsewhere(t, "unix:path="+path, time.Second))
	})
	needPrograms(t, "dbus-run-session", "dbus-send", "gnome-keyring-daemon")
	t.Run("no service", func(t *testing.T) {
		b, err := newBus(t.TempDir(), "")
		require.NoError(t, err)
		defer b.end()
		assert.Equal(t, prefix+"there is no Secret Service", checkElsewhere(t, b.address, patience))
	})
	t.Run("locked", func(t *testing.T) {
		home := t.TempDir()
		for _, script := range []string{unlocked, locked} {
			b, err := newBus(home, script)
			require.NoError(t, err)
			got := checkElsewhere(t, b.address, patience)
			b.end()
			if script == unlocked {
				require.Equal(t, "false <nil>", got)
				continue
			}
			assert.Equal(t, prefix+"it is locked, or has no collection yet", got)
		}
	})
	for name, row := range map[string]struct {
		service fakeService
		want    string
	}{
		"service is silent":   {fakeService{silent: true}, late},
		"prompt without end":  {fakeService{collections: dbus.MakeVariant([]dbus.ObjectPath{})}, late},
		"service is none":     {fakeService{collections: dbus.MakeVariant("none")}, "its answers are not those of a keyring"},
		"service has no code": {fakeService{nothing: true}, "org.freedesktop.DBus.Error.UnknownInterface"},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := newBus(t.TempDir(), "")
			require.NoError(t, err)
			defer b.end()
			row.service.serve(t, b.address)
			limit := patience
			if row.want == late {
				limit = time.Second
			}
			assert.Equal(t, prefix+row.want, checkElsewhere(t, b.address, limit))
		})
	}
}

// fakeService is a fake Secret Service on a bus.
type fakeService struct {
	silent, nothing bool
	collections     dbus.Variant
}

func (s *fakeService) serve(t *testing.T, address string) {
	t.Helper()
	conn, err := dbus.Connect(address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	const path = "/org/freedesktop/secrets"
	if !s.nothing {
		require.NoError(t, conn.ExportMethodTable(map[string]any{
			"Get": func(string, string) (dbus.Variant, *dbus.Error) {
				if s.silent {
					<-t.Context().Done()
				}
				return s.collections, nil
			},
		}, path, "org.freedesktop.DBus.Properties"))
		require.NoError(t, conn.ExportMethodTable(map[string]any{
			"Unlock": func([]dbus.ObjectPath) ([]dbus.ObjectPath, dbus.ObjectPath, *dbus.Error) {
				return nil, "/prompt", nil
			},
		}, path, "org.freedesktop.Secret.Service"))
		require.NoError(t, conn.ExportMethodTable(map[string]any{
			"Prompt": func(string) *dbus.Error { return nil },
		}, "/prompt", "org.freedesktop.Secret.Prompt"))
	}
	reply, err := conn.RequestName("org.freedesktop.secrets", dbus.NameFlagDoNotQueue)
	require.NoError(t, err)
	require.Equal(t, dbus.RequestNameReplyPrimaryOwner, reply)
}

// If the keyring becomes unavailable, a refreshed token can still be saved.
func TestStore_save_while_unavailable(t *testing.T) {
	needSecretService(t)
	path := filepath.Join(t.TempDir(), "token")
	store := newStore(t, path)
	save(t, store, "access-1")
	usual := os.Getenv("DBUS_SESSION_BUS_ADDRESS")

	conn, err := dbus.SessionBus() // the library's own
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	broken := filepath.Join(t.TempDir(), "bus")
	l, err := net.Listen("unix", broken)
	require.NoError(t, err)
	var tries atomic.Int32
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			tries.Add(1)
			_ = conn.Close()
		}
	}()
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path="+broken)
	require.ErrorAs(t, store.Check(t.Context()), new(*keyring.UnavailableError))
	once := tries.Swap(0)
	_, err = store.LoadToken(t.Context())
	require.ErrorAs(t, err, new(*keyring.UnavailableError))
	assert.Equal(t, once, tries.Load(), "whoever does not unlock the keyring is not asked again")
	require.NoError(t, l.Close())
	save(t, store, "access-2")
	assert.ErrorAs(t, newStore(t, path).SaveToken(t.Context(), token("access-3")), new(*keyring.UnavailableError), "this one never had the key")

	t.Setenv("DBUS_SESSION_BUS_ADDRESS", usual)
	assert.Equal(t, "access-2", loaded(t, newStore(t, path)))

	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path="+filepath.Join(t.TempDir(), "bus"))
	conn, err = dbus.SessionBus()
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	require.ErrorAs(t, store.DeleteToken(t.Context()), new(*keyring.UnavailableError))
	assert.Empty(t, loaded(t, store), "the file is gone all the same")
	assert.ErrorAs(t, store.SaveToken(t.Context(), token("access-4")), new(*keyring.UnavailableError), "the key is forgotten")
}
