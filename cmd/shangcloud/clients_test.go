package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// esbuild translates the Node client's TypeScript.
const esbuild = "esbuild@0.28.2"

// The platform's own clients, unmodified, log in at "shangcloud dev". The variable
// SHANGCLOUD_TEST_CLIENTS names a folder with clones of their repositories. .ci/run makes
// this folder.
func TestOfficialClients(t *testing.T) {
	clients := os.Getenv("SHANGCLOUD_TEST_CLIENTS")
	switch clients {
	case "":
		skip(t, "needs clones of shangcloud-sdk-python, -go and -js in the folder SHANGCLOUD_TEST_CLIENTS")
	case "none":
		t.Skip("the repositories of the official clients are out of reach")
	}
	d := startDev(t, "--auto-approve")
	for name, row := range map[string]struct {
		command func(t *testing.T) *exec.Cmd
		want    string
	}{
		"Python": {func(*testing.T) *exec.Cmd {
			python := "python3"
			if runtime.GOOS == "windows" {
				python = "python"
			}
			cmd := exec.Command(python, "testdata/clients/python/main.py", d.URL)
			cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "PYTHONPATH="+filepath.Join(clients, "shangcloud-sdk-python"))
			return cmd
		}, "10001 小云 dark 深色 false\n"},
		"Go": {func(t *testing.T) *exec.Cmd {
			dir := t.TempDir()
			code, err := os.ReadFile("testdata/clients/go/main.go")
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), code, 0o600))
			const sdk = "github.com/YearnstudioHorizon/shangcloud-sdk-go"
			mod := fmt.Sprintf("module client\n\ngo 1.26.0\n\nrequire %s v0.0.0\n\nreplace %[1]s => %q\n", sdk, filepath.ToSlash(filepath.Join(clients, "shangcloud-sdk-go")))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte(mod), 0o600))
			program := filepath.Join(dir, "client.exe")
			build(t, exec.Command("go", "build", "-C", dir, "-o", program, "."))
			return exec.Command(program, d.URL)
		}, "10001 小云 dark 深色 false\n"},
		"Node": {func(t *testing.T) *exec.Cmd {
			program := filepath.Join(t.TempDir(), "client.mjs")
			build(t, exec.Command("npx", "--yes", esbuild, "testdata/clients/node/main.js", "--bundle", "--platform=node", "--format=esm",
				"--log-level=warning", "--alias:shangcloud-sdk="+filepath.Join(clients, "shangcloud-sdk-js", "src", "index.ts"), "--outfile="+program))
			return exec.Command("node", program, d.URL)
		}, "10001 小云 true false\n"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := row.command(t)
			stdin, err := cmd.StdinPipe()
			require.NoError(t, err)
			stdout, err := cmd.StdoutPipe()
			require.NoError(t, err)
			var stderr strings.Builder
			cmd.Stderr = &stderr
			require.NoError(t, cmd.Start())
			out := bufio.NewReader(stdout)
			address, err := out.ReadString('\n')
			require.NoError(t, err, &stderr)

			// The browser goes to the platform, which sends it back to the application.
			browser := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
			res, err := browser.Get(strings.TrimSpace(address))
			require.NoError(t, err)
			require.NoError(t, res.Body.Close())
			back := res.Header.Get("Location")
			require.True(t, strings.HasPrefix(back, "http://localhost:8080/callback?"), back)
			_, err = fmt.Fprintln(stdin, back)
			require.NoError(t, err)
			require.NoError(t, stdin.Close())
			said, err := io.ReadAll(out)
			require.NoError(t, err)
			require.NoError(t, cmd.Wait(), &stderr)
			assert.Equal(t, row.want, strings.ReplaceAll(string(said), "\r\n", "\n"))
		})
	}
}

func build(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}
