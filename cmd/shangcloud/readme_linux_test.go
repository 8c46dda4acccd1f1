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
	edge    string // where the rooms' edge listens, instead of 127.0.0.1:8788
	config  string // instead of /home/you/.config
	room    string // the ID of the room, instead of the README's
	code    int    // of the last command
	chats   []*chat
}

// chat is a "shangcloud room chat" in a terminal of its own.
type chat struct {
	command, want string
	screen        chan string // what the terminal shows at the end
}

// typed is what people type in a chat, after a line that they see.
var typed = map[string]string{
	"* In the room: 小云 (10001), Ada (10002)\n": "Hello! Is anybody here?\n",
	"Ada (10002): Hello! Is anybody here?\n":   "I am. Nice to meet you.\n",
	"小云 (10001): I am. Nice to meet you.\n":    "\x04", // Ctrl-D
	"* Ada (10002) left\n":                     "\x04",
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
			commands++
			if strings.HasPrefix(command, "shangcloud room chat") {
				tr.startChat(command, want)
			} else {
				tr.compare(command, want, tr.command(command))
			}
		}
		if len(tr.chats) == 2 {
			for _, c := range tr.chats {
				tr.compare(c.command, c.want, <-c.screen)
			}
			tr.chats = nil
		}
	}
	assert.Greater(t, commands, 5)
}

// compare compares what a command printed with the README.
func (tr *transcript) compare(command, want, output string) {
	tr.t.Helper()
	got := tr.shown(output)
	assert.Equal(tr.t, normal(want), normal(got), command)
	for line := range strings.Lines("$ " + command + "\n" + got) {
		assert.LessOrEqual(tr.t, cells(line), columns, line)
	}
}

// startChat runs a chat, and returns when it is in the room.
func (tr *transcript) startChat(line, want string) {
	c := &chat{line, want, make(chan string, 1)}
	tr.chats = append(tr.chats, c)
	cmd := process(tr.t.Context(), strings.Fields(roomID.ReplaceAllString(line, tr.room))[1:]...)
	terminal, lines := tr.terminal(cmd)
	inside := make(chan struct{})
	go func() {
		var screen strings.Builder
		for line := range lines {
			screen.WriteString(line)
			if strings.HasPrefix(line, "* In the room: ") {
				close(inside)
			}
			_, err := io.WriteString(terminal, typed[line])
			assert.NoError(tr.t, err)
		}
		_ = cmd.Wait()
		assert.Zero(tr.t, cmd.ProcessState.ExitCode())
		c.screen <- screen.String()
	}()
	<-inside
}

// noKeyring takes the keyring away, as on a server.
func noKeyring(t *testing.T) {
	t.Helper()
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path="+filepath.Join(t.TempDir(), "bus"))
}

// shown returns output with the README's address and directories.
func (tr *transcript) shown(output string) string {
	return strings.NewReplacer(tr.address, "127.0.0.1:8787", tr.edge, "127.0.0.1:8788", tr.config, "/home/you/.config").Replace(output)
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
	{regexp.MustCompile(`ws://127\.0\.0\.1:\d+`), "ws://EDGE"},
	{roomID, "ROOM"},
}

var roomID = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

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
	user := "10001"
	if strings.HasSuffix(line, "--profile ada") {
		user = "10002"
	}
	var screen strings.Builder
	answered := false
	_, lines := tr.terminal(cmd)
	for line := range lines {
		screen.WriteString(line)
		if code := userCode.FindString(line); code != "" && !answered {
			answered = true
			assert.NoError(tr.t, allowDevice("http://"+tr.address, code, user))
		}
	}
	_ = cmd.Wait()
	tr.code = cmd.ProcessState.ExitCode()
	if line == "shangcloud room new" {
		tr.room = roomID.FindString(screen.String())
	}
	return screen.String()
}

// terminal starts a program in a terminal, and yields the lines that it prints. The loop has
// to run to the end of the program. What is written to keyboard is typed.
func (tr *transcript) terminal(cmd *exec.Cmd) (keyboard io.Writer, lines func(yield func(line string) bool)) {
	tr.t.Helper()
	screen, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: columns})
	require.NoError(tr.t, err)
	return screen, func(yield func(line string) bool) {
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
	_, lines := tr.terminal(cmd)
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
	tr.edge = strings.TrimPrefix(regexp.MustCompile(`tcp://127\.0\.0\.1:\d+`).FindString(screen), "tcp://")
	return screen
}

// allowDevice is a person who enters the code and clicks.
func allowDevice(base, code, user string) error {
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
	res, err = http.PostForm(base+"/oauth/consent", url.Values{"nonce": {string(nonce[1])}, "user": {user}, "decision": {"allow"}})
	if err == nil {
		err = res.Body.Close()
	}
	return err
}
