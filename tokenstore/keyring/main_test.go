package keyring_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore/keyring"
	"github.com/stretchr/testify/require"
)

// service is the name of the entries that the tests make.
const service = "shangcloud-oauth2 test"

// patience is how long a step may take on a slow machine.
const patience = time.Minute

// asChild makes the test binary call Check instead of the tests, in a process that has no
// connection to a bus yet.
const (
	asChild    = "KEYRING_TEST_CHECK" // the path of the store
	childLimit = "KEYRING_TEST_LIMIT" // how long Check may take
)

func TestMain(m *testing.M) {
	if path := os.Getenv(asChild); path != "" {
		check(path)
		return
	}
	code := m.Run()
	if endShared != nil {
		endShared()
	}
	os.Exit(code)
}

// check prints whether the error of Check is an UnavailableError, and the error.
func check(path string) {
	store, err := keyring.New(service, path)
	if err == nil {
		limit, _ := time.ParseDuration(os.Getenv(childLimit))
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		err = store.Check(ctx)
	}
	_, unavailable := errors.AsType[*keyring.UnavailableError](err)
	fmt.Println(unavailable, err)
}

// checkElsewhere runs check in a process that uses the bus at an address.
func checkElsewhere(t *testing.T, address string, limit time.Duration) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0",
		"DBUS_SESSION_BUS_ADDRESS="+address, asChild+"="+filepath.Join(t.TempDir(), "token"), childLimit+"="+limit.String())
	out, err := cmd.Output()
	require.NoError(t, err, "%s", out)
	first, _, _ := strings.Cut(string(out), "\n") // a coverage run prints more
	return first
}

// bus is a separate D-Bus session.
type bus struct {
	address string
	end     func()
}

// busConfig configures a session that starts no services by itself.
const busConfig = `<busconfig><type>session</type><listen>unix:tmpdir=/tmp</listen><policy context="default">
<allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy></busconfig>`

// newBus starts a D-Bus session, and a shell script in it. home keeps the keyring's files.
func newBus(home, script string) (*bus, error) {
	run := filepath.Join(home, "run")
	if err := os.MkdirAll(run, 0o700); err != nil {
		return nil, err
	}
	config := filepath.Join(home, "bus.conf")
	if err := os.WriteFile(config, []byte(busConfig), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command("dbus-run-session", "--config-file="+config, "--", "sh", "-c", script+"\n"+`echo "$DBUS_SESSION_BUS_ADDRESS"; cat >/dev/null`)
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_DATA_HOME="+home, "XDG_RUNTIME_DIR="+run, "DISPLAY=", "WAYLAND_DISPLAY=")
	in, err := cmd.StdinPipe() // its end, even by a kill, ends the session
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	end := func() {
		_ = in.Close()
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		end()
		return nil, fmt.Errorf("dbus-run-session: %w", err)
	}
	return &bus{strings.TrimSpace(line), end}, nil
}

// The keyring's daemon runs in the background and ends with the bus. The scripts unlocked
// and locked return when the daemon has its name on the bus. The script unlocked also
// unlocks the keyring, and makes a keyring if there is none.
const (
	unlocked = `printf password | gnome-keyring-daemon --daemonize --unlock --components=secrets >/dev/null 2>&1` + named
	locked   = `gnome-keyring-daemon --daemonize --components=secrets >/dev/null 2>&1` + named
	named    = `
for i in $(seq 500); do
	dbus-send --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.NameHasOwner string:org.freedesktop.secrets | grep -q true && break
	sleep 0.02
done`
)

var endShared func()

// needSecretService makes the tests of this process use a real Secret Service with an empty
// keyring. If a program for it is missing, needSecretService skips the test.
func needSecretService(t *testing.T) {
	t.Helper()
	if endShared != nil {
		return
	}
	needPrograms(t, "dbus-run-session", "dbus-send", "gnome-keyring-daemon")
	home, err := os.MkdirTemp("", "keyring")
	require.NoError(t, err)
	b, err := newBus(home, unlocked)
	require.NoError(t, err)
	endShared = func() {
		b.end()
		_ = os.RemoveAll(home)
	}
	require.NoError(t, os.Setenv("DBUS_SESSION_BUS_ADDRESS", b.address))
}

func needPrograms(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err == nil {
			continue
		}
		reason := "needs " + name + " (apt-get install dbus gnome-keyring)"
		if os.Getenv("SHANGCLOUD_NO_SKIP") == "1" {
			t.Fatalf("SHANGCLOUD_NO_SKIP=1 forbids to skip: %s", reason)
		}
		t.Skip(reason)
	}
}

func newStore(t *testing.T, path string) *keyring.Store {
	t.Helper()
	store, err := keyring.New(service, path)
	require.NoError(t, err)
	return store
}
