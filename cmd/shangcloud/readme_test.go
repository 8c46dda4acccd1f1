package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	consoleBlock = regexp.MustCompile("(?s)```(?:console|sh)\n(.*?)```")
	prompt       = regexp.MustCompile(`(?m)^\$ `)
)

// transcript runs the terminal sessions that the README shows. Its address and directories
// differ from the README's.
type transcript struct {
	t       *testing.T
	address string // where dev listens, instead of 127.0.0.1:8787
	config  string // instead of /home/you/.config
	code    int    // of the last command
}

// The README's sessions print what they show.
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
	commands := 0
	for _, block := range consoleBlock.FindAllStringSubmatch(string(english), -1) {
		for _, part := range prompt.Split(block[1], -1)[1:] {
			command, want, _ := strings.Cut(part, "\n")
			got := tr.command(command)
			assert.Equal(t, normal(want), normal(tr.shown(got)), command)
			commands++
		}
	}
	assert.Greater(t, commands, 5)
}

// shown is output as it stands in the README.
func (tr *transcript) shown(output string) string {
	if output != "" && !strings.HasSuffix(output, "\n") {
		output += "\n" // as at a terminal
	}
	return strings.NewReplacer(tr.address, "127.0.0.1:8787", tr.config, "/home/you/.config").Replace(output)
}

var changing = []struct {
	pattern *regexp.Regexp
	text    string
}{
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

// command runs one line and returns what a terminal would show.
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
	screen := &watcher{pattern: regexp.MustCompile(`[A-Z]{4}-[A-Z]{4}`), seen: func(code string) {
		assert.NoError(tr.t, allowDevice("http://"+tr.address, code))
	}}
	tr.code = run(tr.t.Context(), words[1:], strings.NewReader(""), screen, screen)
	return screen.String()
}

// dev starts the platform, and returns what it says before it waits for requests.
func (tr *transcript) dev() string {
	ctx, cancel := context.WithCancel(tr.t.Context())
	introduced, ended := make(chan struct{}), make(chan struct{})
	screen := &watcher{pattern: regexp.MustCompile(`Requests:\n`), seen: func(string) { close(introduced) }}
	go func() {
		defer close(ended)
		assert.Zero(tr.t, run(ctx, []string{"dev", "--addr", "127.0.0.1:0"}, strings.NewReader(""), screen, io.Discard))
	}()
	tr.t.Cleanup(func() { cancel(); <-ended })
	<-introduced
	tr.address = regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(screen.String())
	return screen.String()
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

// The README names every command and flag.
func TestReadmeIsComplete(t *testing.T) {
	for _, name := range []string{"README.md", "README.zh-CN.md"} {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		for _, cmd := range newRoot().Commands() {
			assert.True(t, strings.Contains(string(text), "`"+cmd.Name()), "%s: %s", name, cmd.Name())
			flags := regexp.MustCompile(`--[a-z][a-z-]+`).FindAllString(cmd.UsageString(), -1)
			for _, flag := range flags {
				assert.True(t, strings.Contains(string(text), flag), "%s: %s %s", name, cmd.Name(), flag)
			}
		}
	}
}
