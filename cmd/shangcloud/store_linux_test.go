package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Without a keyring the login goes to a file, and the user is told.
func TestStoreWithoutKeyring(t *testing.T) {
	pointAt(t, startDev(t, "--auto-approve"))
	noKeyring(t)
	t.Setenv("SHANGCLOUD_STORE", "")

	r := shangcloudRun(t, "login", "--device", "--store", "keyring")
	assert.Equal(t, exitFailed, r.code)
	assert.Equal(t, "shangcloud: tokenstore/keyring: the keyring can't be used: there is no D-Bus session; or log in with --store file\n", r.stderr)

	r = shangcloudRun(t, "login", "--device")
	assert.Zero(t, r.code)
	assert.True(t, strings.HasPrefix(r.stderr, "No keyring here: there is no D-Bus session. The login is kept in a file.\n"), r.stderr)
	assert.Contains(t, succeed(t, "status"), "Store       file\n")
	r = shangcloudRun(t, "login", "--device", "--store", "file")
	assert.NotContains(t, r.stderr, "keyring", "whoever asks for a file needs no reason")
	assert.Contains(t, succeed(t, "status", "--json"), `"store":"file"`)
	files, err := filepath.Glob(filepath.Join(profileDir(), "token-*.json"))
	require.NoError(t, err)
	assert.Len(t, files, 1)
}

// With a keyring, the login is encrypted. It stays there until a login with another store
// moves it.
func TestStoreKeyring(t *testing.T) {
	pointAt(t, startDev(t, "--auto-approve"))
	t.Setenv("SHANGCLOUD_STORE", "")
	useKeyring(t)
	names := func() string {
		var names []string
		entries, err := os.ReadDir(profileDir())
		require.NoError(t, err)
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), "token-") && !strings.HasSuffix(e.Name(), ".lock") {
				names = append(names, filepath.Ext(e.Name()))
			}
		}
		return strings.Join(names, " ")
	}

	r := shangcloudRun(t, "login", "--device")
	require.Zero(t, r.code, r.stderr)
	assert.NotContains(t, r.stderr, "keyring")
	assert.Equal(t, ".encrypted", names())
	assert.Contains(t, succeed(t, "status"), "Store       keyring\n")
	assert.Contains(t, succeed(t, "whoami"), "小云")
	kept, err := os.ReadFile(openSession(t).path(inKeyring))
	require.NoError(t, err)
	assert.NotContains(t, string(kept), strings.TrimSpace(succeed(t, "token")))

	// The program can't reach the keyring, as in an SSH session.
	usual := os.Getenv("DBUS_SESSION_BUS_ADDRESS")
	noKeyring(t)
	out, err := process(t.Context(), "whoami").CombinedOutput() // a process has no connection yet
	assert.Error(t, err)
	assert.Contains(t, string(out), "the keyring can't be used: there is no D-Bus session; or log in with --store file\n")
	require.NoError(t, process(t.Context(), "login", "--device", "--store", "file").Run())
	assert.Equal(t, ".json", names())
	assert.Contains(t, succeed(t, "whoami"), "小云")

	t.Setenv("DBUS_SESSION_BUS_ADDRESS", usual)
	succeed(t, "login", "--device", "--store", "keyring")
	assert.Equal(t, ".encrypted", names())
	assert.Contains(t, succeed(t, "whoami"), "小云")
	succeed(t, "logout")
	assert.Empty(t, names())
	assert.Equal(t, exitLoginRequired, shangcloudRun(t, "whoami").code)
}

// useKeyring makes the program use a real Secret Service with an empty keyring.
func useKeyring(t *testing.T) {
	t.Helper()
	for _, name := range []string{"dbus-run-session", "gnome-keyring-daemon"} {
		if _, err := exec.LookPath(name); err != nil {
			skip(t, "needs "+name+" (apt-get install dbus gnome-keyring)")
		}
	}
	home := t.TempDir()
	cmd := exec.Command("dbus-run-session", "--", "sh", "-c", `
printf password | gnome-keyring-daemon --daemonize --unlock --components=secrets >/dev/null 2>&1
for i in $(seq 500); do
	dbus-send --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.NameHasOwner string:org.freedesktop.secrets | grep -q true && break
	sleep 0.02
done
echo "$DBUS_SESSION_BUS_ADDRESS"; cat >/dev/null`)
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_DATA_HOME="+home, "XDG_RUNTIME_DIR="+home)
	in, err := cmd.StdinPipe() // its end ends the session
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	address, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", strings.TrimSpace(address))
}

// A logout does not need the keyring: the file is removed.
func TestLogoutWithoutKeyring(t *testing.T) {
	pointAt(t, startDev(t, "--auto-approve"))
	t.Setenv("SHANGCLOUD_STORE", "")
	useKeyring(t)
	require.NoError(t, process(t.Context(), "login", "--device").Run())
	path := openSession(t).path(inKeyring)
	require.FileExists(t, path)
	noKeyring(t)
	out, err := process(t.Context(), "logout").CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.NoFileExists(t, path)
	assert.Equal(t, exitLoginRequired, shangcloudRun(t, "whoami", "--store", "file").code)
}
