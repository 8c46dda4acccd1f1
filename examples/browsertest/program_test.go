package browser

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// program is the command shangcloud, with a running "shangcloud dev" and an empty store.
type program struct {
	t    *testing.T
	path string
	base string // the platform's URL
	env  []string
}

func newProgram(t *testing.T) *program {
	t.Helper()
	p := &program{t: t, path: filepath.Join(t.TempDir(), "shangcloud")}
	if runtime.GOOS == "windows" {
		p.path += ".exe"
	}
	out, err := exec.Command("go", "build", "-C", "../../cmd/shangcloud", "-o", p.path, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)

	ctx, cancel := context.WithCancel(context.Background())
	dev := exec.CommandContext(ctx, p.path, "dev", "--addr", "127.0.0.1:0", "--json")
	stdout, err := dev.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, dev.Start())
	t.Cleanup(func() { cancel(); _ = dev.Wait() })
	var settings struct {
		BaseURL  string `json:"base_url"`
		ClientID string `json:"public_client_id"`
	}
	require.NoError(t, json.NewDecoder(stdout).Decode(&settings))
	p.base = settings.BaseURL
	p.env = append(os.Environ(), "SHANGCLOUD_BASE_URL="+p.base, "SHANGCLOUD_CLIENT_ID="+settings.ClientID,
		"SHANGCLOUD_CONFIG_DIR="+t.TempDir(), "SHANGCLOUD_STORE=file", "SHANGCLOUD_PROFILE=",
		"PATH="+filepath.Dir(p.path)) // no program there opens a browser: the person does
	return p
}

// login starts a login. match is the first match of pattern in the program's output. wait
// waits for the end of the program, and returns the rest of the output.
func (p *program) login(how, pattern string) (match string, wait func() string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	p.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, p.path, "login", how)
	cmd.Env = p.env
	stdout, err := cmd.StdoutPipe()
	require.NoError(p.t, err)
	stderr, err := cmd.StderrPipe()
	require.NoError(p.t, err)
	require.NoError(p.t, cmd.Start())
	lines := bufio.NewScanner(stderr)
	for match == "" && lines.Scan() {
		match = regexp.MustCompile(pattern).FindString(lines.Text())
	}
	require.NotEmpty(p.t, match)
	return match, func() string {
		_, _ = io.Copy(io.Discard, stderr)
		out, err := io.ReadAll(stdout)
		require.NoError(p.t, err)
		_ = cmd.Wait()
		return string(out)
	}
}

func (p *program) run(args ...string) string {
	p.t.Helper()
	cmd := exec.Command(p.path, args...)
	cmd.Env = p.env
	out, err := cmd.Output()
	require.NoError(p.t, err)
	return string(out)
}

// A person logs in to the program with the browser of the same machine, and with a code, as
// on another device. If the person refuses, the login ends.
func TestProgram(t *testing.T) {
	t.Parallel()
	p := newProgram(t)
	b := newPerson(t)
	const ada = `input[name=user][value="10002"]`

	address, wait := p.login("--browser", `http://127\.0\.0\.1:\d+/\S+`)
	b.visit(address)
	assert.Equal(t, consent, b.text("h1"))
	b.choose(ada)
	b.click("button[value=allow]")
	assert.Equal(t, "You are signed in", b.text("h1"))
	assert.Contains(t, wait(), " as Ada (10002) ")
	p.run("var", "set", "theme", "dark")
	assert.Equal(t, "dark", p.run("var", "get", "theme"))

	code, wait := p.login("--device", `[A-Z]{4}-[A-Z]{4}`)
	b.visit(p.base + "/device")
	b.write("input[name=user_code]", code)
	b.click("button.primary")
	assert.Equal(t, code, b.text("p.code"))
	b.click("button[value=allow]")
	assert.Contains(t, wait(), " as 小云 (10001) ")
	assert.Contains(t, p.run("whoami"), "小云")

	address, wait = p.login("--browser", `http://127\.0\.0\.1:\d+/\S+`)
	b.visit(address)
	b.click("button[value=deny]")
	assert.Equal(t, "You declined", b.text("h1"))
	assert.Empty(t, wait())
	assert.Contains(t, p.run("whoami"), "小云", "the login before stays")
	p.run("logout")
}
