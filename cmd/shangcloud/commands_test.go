package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLoginDevice(t *testing.T) {
	s := newPlatform(t)
	login := func(answer func(code string) error, args ...string) result {
		var stdout bytes.Buffer
		stderr := &watcher{pattern: userCode, seen: func(code string) { assert.NoError(t, answer(code)) }}
		code := run(t.Context(), append([]string{"login"}, args...), strings.NewReader(""), &stdout, stderr)
		return result{code, stdout.String(), stderr.String()}
	}
	allow := func(code string) error { return s.ApproveDevice(code, testUser) }

	r := login(s.DenyDevice, "--device")
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "denied")
	assert.Equal(t, exitLoginRequired, shangcloudRun(t, "whoami").code)

	r = login(allow) // no display here
	require.Zero(t, r.code, r.stderr)
	assert.Equal(t, "Logged in to "+s.URL+" as 小云 (10001) <yun@example.com>.\n", r.stdout)
	assert.Contains(t, r.stderr, s.URL+"/device\n")
	assert.NotContains(t, r.stderr, "\x1b", "no QR code: this is no terminal")

	r = login(allow, "--device", "--json", "--scopes", "var:io")
	require.Zero(t, r.code, r.stderr)
	assert.JSONEq(t, `{"base_url":"`+s.URL+`","client_id":"cli","scopes":["var:io"]}`, r.stdout)
	assert.Equal(t, exitFailed, shangcloudRun(t, "whoami").code, "without the scope")
	assert.Contains(t, login(allow).stdout, "Logged in to "+s.URL+".\n", "the scopes are remembered, and the name can't be asked for")
}

func TestLoginBrowser(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("xdg-open opens browsers on Linux only")
	}
	s := newPlatform(t)
	s.AutoApprove(testUser)
	bin := t.TempDir()
	program, err := os.Executable()
	require.NoError(t, err)
	require.NoError(t, os.Symlink(program, filepath.Join(bin, "xdg-open")))
	t.Setenv("PATH", bin)
	t.Setenv("DISPLAY", ":0")

	assert.Contains(t, succeed(t, "login"), "as 小云")
	t.Setenv("DISPLAY", "")
	assert.Contains(t, succeed(t, "login", "--browser"), "as 小云")

	t.Setenv("SHANGCLOUD_CLIENT_ID", "app")
	t.Setenv("SHANGCLOUD_CLIENT_SECRET", testSecret)
	assert.Contains(t, succeed(t, "login", "--browser", "--json"), `"client_id":"app"`)

	s.AutoDeny()
	r := shangcloudRun(t, "login", "--browser")
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "denied")

	// Without a browser the user opens the address.
	s.AutoApprove(testUser)
	t.Setenv("PATH", t.TempDir())
	var stdout bytes.Buffer
	var opened sync.WaitGroup
	stderr := &watcher{pattern: regexp.MustCompile(`http://127\.0\.0\.1:\d+/[A-Z0-9]{26}`), seen: func(address string) {
		opened.Go(func() { assert.NoError(t, browse(address)) })
	}}
	code := run(t.Context(), []string{"login", "--browser"}, strings.NewReader(""), &stdout, stderr)
	opened.Wait()
	assert.Zero(t, code, "%v", stderr)
	assert.Contains(t, stderr.String(), "No browser could be opened")
}

func TestCommandsText(t *testing.T) {
	s := newPlatform(t)
	access, _ := logIn(t, s, inAnHour())
	assert.Equal(t, "小云 (10001) <yun@example.com>\n", succeed(t, "whoami"))
	assert.Equal(t, access+"\n", succeed(t, "token"))
	assert.Empty(t, succeed(t, "var", "set", "theme", "dark"))
	assert.Equal(t, "dark", succeed(t, "var", "get", "theme"))
	assert.Empty(t, succeed(t, "var", "delete", "theme"))
	assert.Empty(t, s.Variables(testUser))
	assert.Regexp(t, `^Deployment  `+s.URL+`
Client ID   cli
Store       file
File        .*token-[0-9a-f]{16}\.json
Login       valid until \d{4}-\S+Z, then it is refreshed
$`, succeed(t, "status"))
	assert.Equal(t, "Logged out of "+s.URL+".\n", succeed(t, "logout"))
	assert.Equal(t, "Logged out of "+s.URL+".\n", succeed(t, "logout"), "a second time")
	r := shangcloudRun(t, "status")
	assert.Equal(t, exitLoginRequired, r.code)
	assert.Contains(t, r.stdout, "Login       none\n")
	assert.Equal(t, "shangcloud: not logged in to "+s.URL+"; run: shangcloud login\n", r.stderr)
}

func TestCommandsJSON(t *testing.T) {
	s := newPlatform(t)
	expiry := time.Date(2100, 1, 2, 3, 4, 5, 0, time.UTC)
	access, _ := logIn(t, s, expiry)
	assert.JSONEq(t, `{"uid":10001,"nickname":"小云","mail":"yun@example.com","avatar":""}`, succeed(t, "whoami", "--json"))
	assert.JSONEq(t, `{"access_token":"`+access+`","token_type":"Bearer","expires_at":"2100-01-02T03:04:05Z"}`, succeed(t, "token", "--json"))
	assert.JSONEq(t, `{"key":"a<b"}`, succeed(t, "var", "set", "a<b", "1\n\"2", "--json"))
	assert.JSONEq(t, `{"key":"a<b","value":"1\n\"2"}`, succeed(t, "var", "get", "a<b", "--json"))
	assert.JSONEq(t, `{"key":"a<b"}`, succeed(t, "var", "delete", "a<b", "--json"))
	var status statusReport
	require.NoError(t, json.Unmarshal([]byte(succeed(t, "status", "--json")), &status))
	assert.Equal(t, statusReport{BaseURL: s.URL, ClientID: "cli", Store: inFile, Path: status.Path, LoggedIn: true, ExpiresAt: expiry, Refreshable: true}, status)
	assert.JSONEq(t, `{"base_url":"`+s.URL+`","logged_in":false}`, succeed(t, "logout", "--json"))
	r := shangcloudRun(t, "status", "--json")
	assert.Equal(t, exitLoginRequired, r.code)
	assert.Contains(t, r.stdout, `"logged_in":false`)
}

func TestStatusValidity(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	later, earlier := now.Add(time.Hour), now.Add(-time.Hour)
	for want, r := range map[string]statusReport{
		"none":                                                   {},
		"valid, without an end":                                  {LoggedIn: true},
		"expired at 2026-01-02T02:04:05Z":                        {ExpiresAt: earlier},
		"valid until 2026-01-02T04:04:05Z":                       {LoggedIn: true, ExpiresAt: later},
		"expired; the next command refreshes it":                 {LoggedIn: true, ExpiresAt: earlier, Refreshable: true},
		"valid until 2026-01-02T04:04:05Z, then it is refreshed": {LoggedIn: true, ExpiresAt: later, Refreshable: true},
	} {
		assert.Equal(t, want, r.validity(now))
	}
}

func TestExitCodes(t *testing.T) {
	for name, row := range map[string]struct {
		args  []string
		set   func(t *testing.T, s *shangcloudtest.Server)
		code  int
		error string
	}{
		"no command prints help":          {nil, nil, exitOK, ``},
		"var prints help":                 {[]string{"var"}, nil, exitOK, ``},
		"unknown command":                 {[]string{"who"}, nil, exitUsage, `unknown command "who"`},
		"unknown var command":             {[]string{"var", "list"}, nil, exitUsage, `unknown command "list"`},
		"unknown flag":                    {[]string{"whoami", "--jsn"}, nil, exitUsage, `unknown flag: --jsn`},
		"newline in a flag":               {[]string{"whoami", "--a\nb\x1b"}, nil, exitUsage, "--a; b\ufffd"},
		"secret on the command line":      {[]string{"login", "--client-secret", "x"}, nil, exitUsage, `unknown flag`},
		"too few arguments":               {[]string{"var", "set", "key"}, nil, exitUsage, `accepts 2 arg`},
		"empty key":                       {[]string{"var", "set", "", "v"}, nil, exitUsage, `the key`},
		"key is not UTF-8":                {[]string{"var", "get", "\xff"}, nil, exitUsage, `the key`},
		"too many arguments":              {[]string{"token", "x"}, nil, exitUsage, `unknown command "x"`},
		"both ways to log in":             {[]string{"login", "--device", "--browser"}, nil, exitUsage, `exclude each other`},
		"wrong store":                     {[]string{"whoami", "--store", "/tmp"}, nil, exitUsage, `keyring or file`},
		"wrong base URL":                  {[]string{"whoami", "--base-url", "http://shangcloud.example"}, nil, exitUsage, `http`},
		"wrong redirect URL":              {[]string{"login", "--redirect-url", "callback"}, nil, exitUsage, `RedirectURL`},
		"redirect URL of a web site":      {[]string{"login", "--browser", "--redirect-url", "https://app.example/callback"}, nil, exitFailed, `not plain http on 127.0.0.1`},
		"wrong profile":                   {[]string{"whoami", "--profile", "../x"}, nil, exitUsage, `profile`},
		"no client ID":                    {[]string{"whoami"}, func(t *testing.T, _ *shangcloudtest.Server) { t.Setenv("SHANGCLOUD_CLIENT_ID", "") }, exitUsage, `client ID is missing`},
		"secret's file is missing":        {[]string{"whoami", "--client-secret-file", "/nowhere"}, nil, exitUsage, `/nowhere`},
		"secret's file is empty":          {[]string{"whoami", "--client-secret-file", os.DevNull}, nil, exitUsage, `empty`},
		"secret's file is endless":        {[]string{"whoami", "--client-secret-file", "/dev/zero"}, nil, exitUsage, `too large`},
		"not logged in":                   {[]string{"whoami"}, nil, exitLoginRequired, `; run: shangcloud login`},
		"revoked":                         {[]string{"token"}, revoked, exitLoginRequired, `; run: shangcloud login`},
		"refused by the API":              {[]string{"whoami"}, func(t *testing.T, s *shangcloudtest.Server) { logIn(t, s, inAnHour()); s.Revoke(testUser) }, exitLoginRequired, `; run: shangcloud login`},
		"platform fails":                  {[]string{"whoami"}, failing("/api/user/info", shangcloudtest.Fault{Status: 503}), exitUnavailable, `503`},
		"platform drops connections":      {[]string{"var", "get", "k"}, failing("/api/varibles", shangcloudtest.Fault{Drop: true}), exitUnavailable, `connection`},
		"platform is overloaded":          {[]string{"var", "set", "k", "v"}, failing("/api/varibles", shangcloudtest.Fault{Status: 429}), exitUnavailable, `429`},
		"platform is gone":                {[]string{"login", "--device"}, func(_ *testing.T, s *shangcloudtest.Server) { _ = s.Close() }, exitUnavailable, `refused`},
		"refresh fails":                   {[]string{"token"}, expiredAnd("/oauth/token", shangcloudtest.Fault{Status: 500}), exitUnavailable, `500`},
		"scope is missing":                {[]string{"var", "get", "k"}, func(t *testing.T, s *shangcloudtest.Server) { logIn(t, s, inAnHour(), "user:basic") }, exitFailed, `insufficient_scope`},
		"wrong secret":                    {[]string{"token"}, wrongSecret, exitFailed, `credentials`},
		"store is open to others":         {[]string{"status"}, openStoreDir, exitFailed, `store`},
		"store is open to others: logout": {[]string{"logout"}, openStoreDir, exitFailed, `store`},
		"store is open to others: login":  {[]string{"login", "--device"}, openStoreDir, exitFailed, `store`},
	} {
		t.Run(name, func(t *testing.T) {
			s := newPlatform(t)
			if row.set != nil {
				row.set(t, s)
			}
			r := shangcloudRun(t, row.args...)
			assert.Equal(t, row.code, r.code, r.stderr)
			assert.Contains(t, r.stderr, row.error)
			if row.code != exitOK {
				assert.True(t, strings.HasPrefix(r.stderr, "shangcloud: "), r.stderr)
				assert.Equal(t, 1, strings.Count(r.stderr, "\n"), "one line: %s", r.stderr)
				assert.LessOrEqual(t, strings.Count(r.stderr, "token store"), 1, "told once: %s", r.stderr)
				assert.False(t, strings.HasPrefix(r.stderr, "shangcloud: shangcloud:"), r.stderr)
			}
		})
	}
}

func revoked(t *testing.T, s *shangcloudtest.Server) {
	logIn(t, s, time.Now().Add(-time.Minute))
	s.Revoke(testUser)
}

func failing(path string, f shangcloudtest.Fault) func(*testing.T, *shangcloudtest.Server) {
	return func(t *testing.T, s *shangcloudtest.Server) {
		logIn(t, s, inAnHour())
		s.Fault(path, f)
	}
}

func expiredAnd(path string, f shangcloudtest.Fault) func(*testing.T, *shangcloudtest.Server) {
	return func(t *testing.T, s *shangcloudtest.Server) {
		logIn(t, s, time.Now().Add(-time.Minute))
		s.Fault(path, f)
	}
}

func wrongSecret(t *testing.T, s *shangcloudtest.Server) {
	t.Setenv("SHANGCLOUD_CLIENT_ID", "app")
	t.Setenv("SHANGCLOUD_CLIENT_SECRET", "wrong")
	logIn(t, s, time.Now().Add(-time.Minute))
}

func openStoreDir(t *testing.T, s *shangcloudtest.Server) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no modes")
	}
	logIn(t, s, inAnHour())
	require.NoError(t, os.Chmod(profileDir(), 0o777))
}

func TestOutputThatFails(t *testing.T) {
	s := newPlatform(t)
	logIn(t, s, inAnHour())
	for _, args := range [][]string{{"token"}, {"token", "--json"}, {"whoami"}, {"status"}, {"var", "get", "k", "--json"}, {"logout"}} {
		var stderr bytes.Buffer
		assert.Equal(t, exitFailed, run(t.Context(), args, strings.NewReader(""), fullDisk{}, &stderr), args)
		assert.Contains(t, stderr.String(), "no space")
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestVarSetStandardInput(t *testing.T) {
	s := newPlatform(t)
	logIn(t, s, inAnHour())
	megabyte := strings.Repeat("\x00\r\n\x1b值", maxValue/7) // 7 bytes
	megabyte += strings.Repeat("x", maxValue-len(megabyte))
	for name, value := range map[string]string{"1 MiB": megabyte, "empty": "", "newline": "a\n", "dash": "-", "byte order mark": "\ufeff{}"} {
		t.Run(name, func(t *testing.T) {
			r := shangcloudStdin(t, strings.NewReader(value), "var", "set", "k", "-")
			require.Zero(t, r.code, r.stderr)
			assert.True(t, s.Variables(testUser)["k"] == value)
			assert.True(t, succeed(t, "var", "get", "k") == value, "it comes back as it was")
		})
	}
	s.SetVariable(testUser, "k", "before")
	for name, row := range map[string]struct {
		stdin io.Reader
		code  int
		error string
	}{
		"too long":      {strings.NewReader(megabyte + "x"), exitUsage, "longer than 1 MiB"},
		"endless":       {endless{}, exitUsage, "longer than 1 MiB"},
		"invalid UTF-8": {strings.NewReader("a\xffb"), exitUsage, "not UTF-8"},
		"half a letter": {strings.NewReader("值"[:2]), exitUsage, "not UTF-8"},
		"a read error":  {io.MultiReader(strings.NewReader("half"), broken{}), exitFailed, "standard input: it broke"},
	} {
		t.Run(name, func(t *testing.T) {
			r := shangcloudStdin(t, row.stdin, "var", "set", "k", "-")
			assert.Equal(t, row.code, r.code)
			assert.Contains(t, r.stderr, row.error)
			assert.Equal(t, "before", s.Variables(testUser)["k"])
		})
	}
	assert.Equal(t, exitUsage, shangcloudRun(t, "var", "set", "k", "\xff").code)
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("it broke") }

// 20 processes find an expired token at once. One process refreshes it for all of them.
func TestTokenManyProcesses(t *testing.T) {
	s := newPlatform(t)
	old, _ := logIn(t, s, time.Now().Add(-time.Minute))
	const processes = 20
	outputs := make([]string, processes)
	var running sync.WaitGroup
	for i := range processes {
		running.Go(func() {
			out, err := process(t.Context(), "token").Output()
			assert.NoError(t, err)
			outputs[i] = string(out)
		})
	}
	running.Wait()
	assert.Len(t, s.Requests("/oauth/token"), 1)
	for _, out := range outputs {
		assert.Equal(t, outputs[0], out)
	}
	assert.NotEqual(t, old+"\n", outputs[0])
	_, valid := s.UserOf(strings.TrimSpace(outputs[0]), "var:io")
	assert.True(t, valid)
}

// TestInterrupt interrupts a command while it waits for standard input, for a person, or
// for the platform.
func TestInterrupt(t *testing.T) {
	t.Run("standard input", func(t *testing.T) {
		s := newPlatform(t)
		logIn(t, s, inAnHour())
		ctx, cancel := context.WithCancel(t.Context())
		read, write := io.Pipe()
		defer write.Close()
		go func() {
			_, _ = write.Write([]byte("half")) // returns when it was read
			cancel()
		}()
		var stderr bytes.Buffer
		assert.Equal(t, exitInterrupted, run(ctx, []string{"var", "set", "k", "-"}, read, io.Discard, &stderr))
		assert.Equal(t, "shangcloud: interrupted\n", stderr.String())
		assert.Empty(t, s.Variables(testUser))
	})
	t.Run("device login, in a process", func(t *testing.T) {
		if runtime.GOOS == "windows" {
			t.Skip("Windows sends no SIGINT to a process")
		}
		newPlatform(t)
		cmd := process(t.Context(), "login", "--device")
		stderr := &watcher{pattern: regexp.MustCompile("Waiting"), seen: func(string) { assert.NoError(t, cmd.Process.Signal(os.Interrupt)) }}
		cmd.Stderr = stderr
		assert.Error(t, cmd.Run())
		assert.Equal(t, exitInterrupted, cmd.ProcessState.ExitCode())
		assert.Contains(t, stderr.String(), "\nshangcloud: interrupted\n") // a coverage run may print more
	})
	t.Run("refresh under way is saved", func(t *testing.T) {
		s := newPlatform(t)
		old, _ := logIn(t, s, time.Now().Add(-time.Minute))
		ctx, cancel := context.WithCancel(t.Context())
		// The command is interrupted before the answer arrives. By then the platform has
		// used up the old refresh token.
		s.Fault("/oauth/token", shangcloudtest.Fault{Times: 1, Before: func(*http.Request) { cancel() }, Delay: 300 * time.Millisecond})
		var stdout, stderr bytes.Buffer
		assert.Equal(t, exitInterrupted, run(ctx, []string{"token"}, strings.NewReader(""), &stdout, &stderr))
		assert.Empty(t, stdout.String())
		saved, err := openSession(t).store.LoadToken(t.Context())
		require.NoError(t, err)
		assert.NotEqual(t, old, saved.AccessToken, "it is saved before the program ends")
		assert.Contains(t, succeed(t, "whoami"), "小云")
		assert.Len(t, s.Requests("/oauth/token"), 1)
	})
}

// The only command that prints a secret is token. No secret is in a command line.
func TestSecretsStayOut(t *testing.T) {
	s := newPlatform(t)
	t.Setenv("SHANGCLOUD_CLIENT_ID", "app")
	t.Setenv("SHANGCLOUD_CLIENT_SECRET", testSecret)
	for _, expiry := range []time.Time{inAnHour(), time.Now().Add(-time.Minute)} {
		access, refresh := logIn(t, s, expiry)
		for _, args := range [][]string{
			{"status"}, {"status", "--json"}, {"whoami"}, {"whoami", "--json"}, {"var", "set", "k", "v"}, {"var", "get", "k"},
			{"var", "delete", "k", "--json"}, {"room", "new"}, {"room", "join", "x"}, {"whoami", "--help"}, {"logout"}, {"whoami"}, {"token"},
		} {
			r := shangcloudRun(t, args...)
			for _, secret := range []string{testSecret, access, refresh} {
				assert.NotContains(t, r.stdout+r.stderr, secret, args)
			}
		}
	}
	settings, err := os.ReadFile(rememberedAt(profileDir()))
	require.NoError(t, err)
	assert.NotContains(t, string(settings), testSecret)
}

// Text from the platform can neither control the terminal nor forge a second line.
func TestPlatformTextIsPrintable(t *testing.T) {
	s := newPlatform(t)
	logIn(t, s, inAnHour())
	s.AddUser(shangcloudtest.User{ID: testUser, Nickname: "a\x1b[2J\nb\u202ec"})
	assert.Equal(t, "a\ufffd[2J; b\ufffdc (10001)\n", succeed(t, "whoami"))
	assert.Equal(t, "a\n\t\ufffdb", printable("a\n\t\x1bb", "\n\t"))
}

func TestQRCode(t *testing.T) {
	code, err := qrCode("https://api.yearnstudio.cn/device?user_code=BCDF-GHJK")
	require.NoError(t, err)
	for line := range strings.Lines(code) {
		text := strings.NewReplacer("  "+qrColours, "", resetColours+"\n", "").Replace(line)
		assert.LessOrEqual(t, len([]rune(text))+2, 80, "columns")
		assert.Empty(t, strings.Trim(text, " █▀▄"), "nothing else stands in a line")
	}
	_, err = qrCode(strings.Repeat("x", 5000))
	assert.Error(t, err)
	assert.Equal(t, "█▀▄ ", fmt.Sprint(halfBlock(true, true), halfBlock(true, false), halfBlock(false, true), halfBlock(false, false)))
}
