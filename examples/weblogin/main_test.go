package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// runMain is the name of an environment variable. If it is set, the test binary runs the
// program instead of the tests.
const runMain = "WEBLOGIN_TEST_RUN_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(runMain) != "" {
		os.Args = []string{"weblogin", "-addr", "127.0.0.1:0"}
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// program is a running weblogin in a separate process.
type program struct {
	*exec.Cmd
	home string // its address
}

func start(t *testing.T, platform, dataDir string) program {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), runMain+"=1", "SHANGCLOUD_CLIENT_ID=demo", "SHANGCLOUD_CLIENT_SECRET=hush-hush",
		"SHANGCLOUD_BASE_URL="+platform, "SHANGCLOUD_DATA_DIR="+dataDir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	lines := bufio.NewScanner(out)
	require.True(t, lines.Scan(), "the program prints its address")
	home := strings.TrimSpace(strings.TrimPrefix(lines.Text(), "Open"))
	go io.Copy(io.Discard, out)
	return program{cmd, home}
}

// TestTerminatedInMidRefresh stops the program with SIGTERM while the platform issues the
// next token. After a restart the user is still logged in.
func TestTerminatedInMidRefresh(t *testing.T) {
	if runtime.GOOS == "windows" || runtime.GOOS == "plan9" || runtime.GOOS == "js" {
		t.Skip("no SIGTERM here")
	}
	for name, browserLeaves := range map[string]bool{"the browser waits": false, "the browser leaves": true} {
		t.Run(name, func(t *testing.T) {
			platform := shangcloudtest.NewServer(t)
			platform.AddClient(shangcloudtest.Client{ID: "demo", Secret: "hush-hush", RedirectURIs: []string{"http://127.0.0.1/callback"}})
			platform.AddUser(shangcloudtest.User{ID: 10001, Nickname: "小云"})
			platform.AutoApprove(10001)
			platform.SetVariable(10001, "theme", "dark-blue")
			jar, err := cookiejar.New(nil) // cookies are the same for every port
			require.NoError(t, err)
			browser := &http.Client{Jar: jar}
			dir := t.TempDir()

			first := start(t, platform.URL, dir)
			assert.Contains(t, get(t, t.Context(), browser, first.home+"login"), "小云")

			platform.ExpireTokens()
			refreshing, release := make(chan struct{}), make(chan struct{})
			platform.Fault("/oauth/token", shangcloudtest.Fault{Times: 1, Before: func(*http.Request) {
				close(refreshing)
				<-release
			}})
			ctx, leave := context.WithCancel(t.Context())
			var visit sync.WaitGroup
			visit.Go(func() {
				if page := get(t, ctx, browser, first.home+"variable?key=theme"); !browserLeaves {
					assert.Contains(t, page, "dark-blue")
				}
			})
			<-refreshing
			if browserLeaves {
				leave()
				visit.Wait()
			}
			require.NoError(t, first.Process.Signal(syscall.SIGTERM))
			for { // until the signal has arrived
				res, err := http.Get(first.home)
				if err != nil {
					break
				}
				res.Body.Close()
			}
			close(release)
			assert.NoError(t, first.Wait())
			visit.Wait()
			leave()

			second := start(t, platform.URL, dir)
			assert.Contains(t, get(t, t.Context(), browser, second.home+"variable?key=theme"), "dark-blue")
			assert.Len(t, platform.Requests("/oauth/token"), 2, "one for the code, one for the refresh")
			require.NoError(t, second.Process.Signal(syscall.SIGTERM))
			assert.NoError(t, second.Wait())
		})
	}
}

// get returns a page, or "" if ctx ends.
func get(t *testing.T, ctx context.Context, browser *http.Client, url string) string {
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if !assert.NoError(t, err) {
		return ""
	}
	res, err := browser.Do(req)
	if ctx.Err() != nil || !assert.NoError(t, err) {
		return ""
	}
	defer res.Body.Close()
	page, err := io.ReadAll(res.Body)
	assert.NoError(t, err)
	return string(page)
}
