package browser

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"flag"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the screenshots in docs/")

func TestMain(m *testing.M) {
	flag.Parse()
	log.SetOutput(io.Discard) // The application logs the refusals that the tests provoke.
	var err error
	if programs.dir, err = os.MkdirTemp("", "examples"); err != nil {
		log.Fatal(err)
	}
	code := m.Run()
	_ = os.RemoveAll(programs.dir)
	if quit != nil {
		quit()
	}
	os.Exit(code)
}

// unavailable skips a test because a program is missing. With SHANGCLOUD_NO_SKIP=1 the
// test fails instead.
func unavailable(t *testing.T, reason string) {
	t.Helper()
	if os.Getenv("SHANGCLOUD_NO_SKIP") == "1" {
		t.Fatalf("SHANGCLOUD_NO_SKIP=1 forbids to skip: %s", reason)
	}
	t.Skip(reason)
}

var (
	start sync.Once
	quit  context.CancelFunc

	chromium context.Context
	startErr error
)

// sharedBrowser returns the browser that all tests share. Each person in it has separate
// cookies.
func sharedBrowser(t *testing.T) context.Context {
	t.Helper()
	options := browserOptions(t)
	start.Do(func() {
		var quitAllocator, quitBrowser context.CancelFunc
		chromium, quitAllocator = chromedp.NewExecAllocator(context.Background(), options...)
		chromium, quitBrowser = chromedp.NewContext(chromium)
		quit = func() { quitBrowser(); quitAllocator() }
		startErr = chromedp.Do(chromium)
	})
	require.NoError(t, startErr, "start of Chromium")
	return chromium
}

// browserOptions returns chromedp's defaults with additions for the tests: Chromium
// accepts the tests' certificate, and resolves names that end in .test to this machine.
func browserOptions(t *testing.T) []chromedp.ExecAllocatorOption {
	t.Helper()
	program := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		unavailable(t, "needs Chromium (apt-get install chromium)")
	}
	key := sha256.Sum256(certificate().Leaf.RawSubjectPublicKeyInfo)
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("lang", "en-US"),
		// Otherwise Chromium drops clicks on a page that it has not painted yet.
		chromedp.Flag("allow-pre-commit-input", true),
		chromedp.Flag("host-resolver-rules", "MAP *.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
		chromedp.Flag("ignore-certificate-errors-spki-list", base64.StdEncoding.EncodeToString(key[:])),
	)
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium refuses to run without it.
	}
	return options
}

// refusingBrowser starts another browser, whose user has turned cookies off.
func refusingBrowser(t *testing.T) context.Context {
	t.Helper()
	profile := filepath.Join(t.TempDir(), "Default")
	require.NoError(t, os.MkdirAll(profile, 0o700))
	preferences := `{"profile": {"default_content_setting_values": {"cookies": 2}}}`
	require.NoError(t, os.WriteFile(filepath.Join(profile, "Preferences"), []byte(preferences), 0o600))
	ctx, quitAllocator := chromedp.NewExecAllocator(t.Context(),
		append(browserOptions(t), chromedp.UserDataDir(filepath.Dir(profile)))...)
	t.Cleanup(quitAllocator)
	ctx, quit := chromedp.NewContext(ctx)
	t.Cleanup(quit)
	require.NoError(t, chromedp.Do(ctx), "start of Chromium")
	return ctx
}
