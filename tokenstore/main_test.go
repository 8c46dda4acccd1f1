package tokenstore_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// hold is the lifetime of locks. The stores of this package ignore it.
const hold = time.Minute

// patience is how long a call may take on a slow machine.
const patience = time.Minute

// fileAt returns a File at path. It skips the test on systems without File.
func fileAt(t testing.TB, path string, opts ...tokenstore.FileOption) *tokenstore.File {
	t.Helper()
	f, err := tokenstore.NewFile(path, opts...)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	require.NoError(t, err)
	return f
}

func newFile(t testing.TB, opts ...tokenstore.FileOption) *tokenstore.File {
	t.Helper()
	return fileAt(t, filepath.Join(t.TempDir(), "token.json"), opts...)
}

// pathOf returns the path of a file that exists.
func pathOf(t testing.TB, f *tokenstore.File) string {
	t.Helper()
	path := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprint(f), "tokenstore.File("), ")")
	require.FileExists(t, path)
	return path
}

func contextFor(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// lock takes the lock of a store and fails the test if that takes too long.
func lock(t testing.TB, store oauth2login.TokenLocker) (unlock func()) {
	t.Helper()
	unlock, err := store.LockToken(contextFor(t, patience), hold)
	require.NoError(t, err)
	return unlock
}

// newProvider makes a provider for the platform at a URL.
func newProvider(t testing.TB, url string, transport http.RoundTripper) *shangcloud.Provider {
	t.Helper()
	p, err := shangcloud.New(&oauth2.Config{
		ClientID: "demo", ClientSecret: "hush-hush", RedirectURL: "http://127.0.0.1/", Endpoint: shangcloud.EndpointAt(url),
	}, &oauth2login.Options{HTTPClient: &http.Client{Transport: transport}, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	return p
}

// Some tests need a second process. Such a test starts the test binary again, which runs
// the same test. In the child process, childDir returns the directory that parent and
// child share. In the parent, it returns "".
const childEnv = "SHANGCLOUD_TOKENSTORE_CHILD"

func childDir(t *testing.T) string {
	test, dir, _ := strings.Cut(os.Getenv(childEnv), "=")
	if test != t.Name() {
		return ""
	}
	return dir
}

// child returns the command that runs the present test in a child process.
func child(t *testing.T, dir string, env ...string) *exec.Cmd {
	c := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1", "-test.timeout=10m")
	c.Env = append(append(os.Environ(), childEnv+"="+t.Name()+"="+dir), env...)
	return c
}

// ofTesting reports whether package testing wrote a line of a child's output. With -cover,
// it writes two lines.
func ofTesting(line string) bool {
	return line == "PASS" || strings.HasPrefix(line, "coverage: ")
}

// inChild runs the present test in a child process. If the child fails or skips, so does
// the test.
func inChild(t *testing.T, dir string, attr *syscall.SysProcAttr) {
	t.Helper()
	c := child(t, dir)
	c.Args = append(c.Args, "-test.v") // so that the output shows skips
	c.SysProcAttr = attr
	out, err := c.CombinedOutput()
	if errors.Is(err, os.ErrPermission) {
		skip(t, "the machine does not allow such a process: %v", err)
	}
	require.NoError(t, err, "%s", out)
	if strings.Contains(string(out), "--- SKIP") {
		skip(t, "%s", out)
	}
}

// skip skips a test because the machine lacks something. If skips are forbidden, it fails
// the test instead.
func skip(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("SHANGCLOUD_NO_SKIP") == "1" {
		t.Fatalf("SHANGCLOUD_NO_SKIP=1, but: "+format, args...)
	}
	t.Skipf(format, args...)
}

// long reports whether tests run as long as in continuous integration.
func long() bool { return os.Getenv("SHANGCLOUD_LONG_TESTS") == "1" }

// wholeToken returns the token with a number. The token has a random length. checkWhole
// notices if parts of it are missing or belong to another token.
func wholeToken(number int64) *oauth2.Token {
	secret := rand.Text() + strings.Repeat("x", mathrand.IntN(16<<10))
	tok := &oauth2.Token{AccessToken: secret, TokenType: "Bearer", Expiry: time.Now().Add(time.Hour).Round(0), ExpiresIn: number}
	tok.RefreshToken = checksum(tok)
	return tok
}

func checkWhole(tok *oauth2.Token) error {
	if tok == nil {
		return errors.New("no token")
	}
	if tok.RefreshToken != checksum(tok) {
		return errors.New("not a whole token")
	}
	return nil
}

func checksum(tok *oauth2.Token) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %d %d", tok.AccessToken, tok.TokenType, tok.Expiry.UnixNano(), tok.ExpiresIn))
	return hex.EncodeToString(sum[:])
}
