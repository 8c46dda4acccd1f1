package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/creack/pty"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/text/width"
)

// columns is how wide the terminal is.
const columns = 80

var (
	consoleBlock = regexp.MustCompile("(?s)```(?:console|sh)\n(.*?)```")
	prompt       = regexp.MustCompile(`(?m)^\$ `)
	escape       = regexp.MustCompile(`\x1b\[[0-9;]*m`)
	qrLines      = regexp.MustCompile(`(?m)(^  [ █▀▄]*\n){15,}`)
)

// transcript runs the terminal sessions that the README shows. Its address and directories
// differ from the README's.
type transcript struct {
	t       *testing.T
	address string // where dev listens, instead of 127.0.0.1:8787
	config  string // instead of /home/you/.config
	code    int    // of the last command
}

// In a terminal of 80 columns, the README's sessions print what they show.
func TestReadme(t *testing.T) {
	english, err := os.ReadFile("README.md")
	require.NoError(t, err)
	chinese, err := os.ReadFile("README.zh-CN.md")
	require.NoError(t, err)
	blocks := consoleBlock.FindAllString(string(english), -1)
	require.Equal(t, blocks, consoleBlock.FindAllString(string(chinese), -1), "both languages show the same")

	tr := &transcript{t: t, config: t.TempDir()}
	t.Setenv("XDG_CONFIG_HOME", tr.config)
	t.Setenv("SHANGCLOUD_BASE_URL", "") // the README sets them: put back at the end
	t.Setenv("SHANGCLOUD_CLIENT_ID", "")
	noKeyring(t)
	commands := 0
	for _, block := range consoleBlock.FindAllStringSubmatch(string(english), -1) {
		for _, part := range prompt.Split(block[1], -1)[1:] {
			command, want, _ := strings.Cut(part, "\n")
			got := tr.shown(tr.command(command))
			assert.Equal(t, normal(want), normal(got), command)
			for line := range strings.Lines("$ " + command + "\n" + got) {
				assert.LessOrEqual(t, cells(line), columns, line)
			}
			commands++
		}
	}
	assert.Greater(t, commands, 5)
}

// noKeyring takes the keyring away, as on a server.
func noKeyring(t *testing.T) {
	t.Helper()
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path="+filepath.Join(t.TempDir(), "bus"))
}

// shown returns output with the README's address and directories.
func (tr *transcript) shown(output string) string {
	return strings.NewReplacer(tr.address, "127.0.0.1:8787", tr.config, "/home/you/.config").Replace(output)
}

// cells returns how many columns a line takes.
func cells(line string) (n int) {
	for _, r := range strings.TrimRight(escape.ReplaceAllString(line, ""), "\n") {
		n++
		if kind := width.LookupRune(r).Kind(); kind == width.EastAsianWide || kind == width.EastAsianFullwidth {
			n++
		}
	}
	return n
}

var changing = []struct {
	pattern *regexp.Regexp
	text    string
}{
	{escape, ""},
	{qrLines, "  (a QR code)\n"},
	{regexp.MustCompile(`[B-Z]{4}-[B-Z]{4}`), "CODE"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "TIME"},
	{regexp.MustCompile(`token-[0-9a-f]{16}`), "token-HASH"},
}

// normal replaces what changes from run to run.
func normal(output string) string {
	for _, c := range changing {
		output = c.pattern.ReplaceAllString(output, c.text)
	}
	return output
}

// command runs one line and returns what the terminal shows.
func (tr *transcript) command(line string) string {
	line = strings.ReplaceAll(line, "127.0.0.1:8787", tr.address)
	words := strings.Fields(line)
	switch {
	case line == "shangcloud dev":
		return tr.dev()
	case line == "echo $?":
		return fmt.Sprintln(tr.code)
	case words[0] == "export":
		for _, assignment := range words[1:] {
			name, value, _ := strings.Cut(assignment, "=")
			require.NoError(tr.t, os.Setenv(name, value))
		}
		return ""
	}
	require.Equal(tr.t, "shangcloud", words[0])
	cmd := process(tr.t.Context(), words[1:]...)
	var screen strings.Builder
	answered := false
	for line := range tr.terminal(cmd) {
		screen.WriteString(line)
		if code := userCode.FindString(line); code != "" && !answered {
			answered = true
			assert.NoError(tr.t, allowDevice("http://"+tr.address, code))
		}
	}
	_ = cmd.Wait()
	tr.code = cmd.ProcessState.ExitCode()
	return screen.String()
}

var userCode = regexp.MustCompile(`[A-Z]{4}-[A-Z]{4}`)

// terminal starts a program in a terminal, and yields the lines that it prints. The loop has
// to run to the end of the program.
func (tr *transcript) terminal(cmd *exec.Cmd) func(yield func(line string) bool) {
	tr.t.Helper()
	screen, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: columns})
	require.NoError(tr.t, err)
	return func(yield func(line string) bool) {
		defer screen.Close()
		lines := bufio.NewReader(screen)
		for {
			line, err := lines.ReadString('\n')
			if line != "" && !yield(strings.ReplaceAll(line, "\r\n", "\n")) {
				_, _ = io.Copy(io.Discard, lines)
				return
			}
			if err != nil { // the terminal of a program that has ended
				return
			}
		}
	}
}

// dev starts the platform, and returns what it says before it waits for requests.
func (tr *transcript) dev() string {
	ctx, cancel := context.WithCancel(tr.t.Context())
	cmd := process(ctx, "dev", "--addr", "127.0.0.1:0")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	introduction, ended := make(chan string), make(chan struct{})
	lines := tr.terminal(cmd)
	go func() {
		defer close(ended)
		var screen strings.Builder
		for line := range lines {
			screen.WriteString(line)
			if strings.HasSuffix(line, "Requests:\n") {
				introduction <- screen.String()
			}
		}
		_ = cmd.Wait()
		assert.Zero(tr.t, cmd.ProcessState.ExitCode())
	}()
	tr.t.Cleanup(func() { cancel(); <-ended })
	screen := <-introduction
	tr.address = regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(screen)
	return screen
}

// allowDevice is a person who enters the code and clicks.
func allowDevice(base, code string) error {
	res, err := http.Get(base + "/device?" + url.Values{"user_code": {code}}.Encode())
	if err != nil {
		return err
	}
	page, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil {
		return err
	}
	nonce := regexp.MustCompile(`name="nonce" value="([^"]+)"`).FindSubmatch(page)
	if nonce == nil {
		return fmt.Errorf("the page is no consent page: %s", page)
	}
	res, err = http.PostForm(base+"/oauth/consent", url.Values{"nonce": {string(nonce[1])}, "user": {"10001"}, "decision": {"allow"}})
	if err == nil {
		err = res.Body.Close()
	}
	return err
}
