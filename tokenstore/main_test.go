//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package tokenstore_test

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// Tests that need another process start this test binary again, to run the same
// test: there childDir returns the directory that both work in, and not "".

const childEnv = "SHANGCLOUD_TOKENSTORE_CHILD"

func childDir(t *testing.T) string {
	test, dir, _ := strings.Cut(os.Getenv(childEnv), "=")
	if test != t.Name() {
		return ""
	}
	return dir
}

// child returns the command that runs the present test as a child.
func child(t *testing.T, dir string, env ...string) *exec.Cmd {
	c := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1", "-test.timeout=10m")
	c.Env = append(append(os.Environ(), childEnv+"="+t.Name()+"="+dir), env...)
	return c
}

// inChild runs the present test as a child and fails, or skips, if that does.
func inChild(t *testing.T, dir string, attr *syscall.SysProcAttr) {
	t.Helper()
	c := child(t, dir)
	c.Args = append(c.Args, "-test.v") // to be told of a skip
	c.SysProcAttr = attr
	out, err := c.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		skip(t, "the machine does not allow such a process: %v", err)
	}
	require.NoError(t, err, "%s", out)
	if strings.Contains(string(out), "--- SKIP") {
		skip(t, "%s", out)
	}
}

// skip skips a test for what the machine lacks, unless nothing may be skipped.
func skip(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("SHANGCLOUD_NO_SKIP") == "1" {
		t.Fatalf("SHANGCLOUD_NO_SKIP=1, but: "+format, args...)
	}
	t.Skipf(format, args...)
}

// long reports whether tests run for as long as they do in continuous integration.
func long() bool { return os.Getenv("SHANGCLOUD_LONG_TESTS") == "1" }

// wholeToken makes the token of a number, of a random length. No part of it can be
// missing, or from another, without checkWhole seeing it.
func wholeToken(number int64) *oauth2.Token {
	secret := rand.Text() + strings.Repeat("x", mathrand.IntN(16<<10))
	tok := &oauth2.Token{AccessToken: secret, TokenType: "Bearer", Expiry: time.Now().Add(time.Hour).Round(0), ExpiresIn: number}
	tok.RefreshToken = seal(tok)
	return tok
}

func checkWhole(tok *oauth2.Token) error {
	if tok == nil {
		return errors.New("no token")
	}
	if tok.RefreshToken != seal(tok) {
		return errors.New("not a whole token")
	}
	return nil
}

func seal(tok *oauth2.Token) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %d %d", tok.AccessToken, tok.TokenType, tok.Expiry.UnixNano(), tok.ExpiresIn))
	return hex.EncodeToString(sum[:])
}
