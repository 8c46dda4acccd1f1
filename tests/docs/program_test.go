//go:build unix

package docs

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// wholeProgram returns the main.go of README.md.
func wholeProgram(t *testing.T) string {
	t.Helper()
	for _, b := range blocksOf(t, "README.md", "go") {
		if b.isFile() && b.name() == "main.go" {
			return b.code
		}
	}
	require.Fail(t, "there is no whole program")
	return ""
}

// The README's program logs a user in, says who it is, and ends in good order.
func TestProgram(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	platform := shangcloudtest.NewServer(t)
	platform.AddClient(shangcloudtest.Client{ID: "app", Secret: "s3cret", RedirectURIs: []string{"http://127.0.0.1/callback"}})
	platform.AddUser(shangcloudtest.User{ID: 10001})
	platform.AutoApprove(10001)

	// The program as it is printed, at another address and another platform.
	code := strings.ReplaceAll(wholeProgram(t), "127.0.0.1:8080", address)
	const secret = `os.Getenv("SHANGCLOUD_CLIENT_SECRET"),`
	require.Contains(t, code, secret)
	code = strings.Replace(code, secret, secret+"\nEndpoint: shangcloud.EndpointAt(\""+platform.URL+"\"),", 1)
	module := newModule(t)
	write(t, filepath.Join(module, "main.go"), code)
	program := filepath.Join(module, "program")
	out, err := goTool(module, "build", "-o", program, ".")
	require.NoError(t, err, out)

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = append(os.Environ(), "SHANGCLOUD_CLIENT_ID=app", "SHANGCLOUD_CLIENT_SECRET=s3cret")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	require.NoError(t, cmd.Start())

	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	browser := &http.Client{Jar: jar}
	assert.Eventually(t, func() bool { return open(browser, "http://"+address+"/") == "200 You are user 10001." }, 20*time.Second, 50*time.Millisecond)
	assert.Equal(t, "403 You are not logged in. Please start again at /login.\n", open(browser, "http://"+address+"/callback?error=access_denied&state=x"))
	platform.Fault("/oauth/token", shangcloudtest.Fault{Times: 1, Status: http.StatusBadGateway})
	assert.Equal(t, "503 Please try again in a minute.\n", open(browser, "http://"+address+"/login"))

	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait(), log.String())
	assert.Contains(t, log.String(), "status 502")
	assert.NotContains(t, log.String(), "s3cret")
}

// open returns the status and the text of the page that a browser ends at.
func open(browser *http.Client, address string) string {
	res, err := browser.Get(address)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err.Error()
	}
	return strings.Fields(res.Status)[0] + " " + string(body)
}

// The commands of "Install" make a module of which the README's program is a part.
func TestInstall(t *testing.T) {
	top, err := filepath.Abs(root)
	require.NoError(t, err)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "app", "main.go"), wholeProgram(t))
	write(t, filepath.Join(dir, "app", "more.go"), `package main

import (
	_ "github.com/YearnstudioHorizon/shangcloud-oauth2/integrations/goth"
	_ "github.com/YearnstudioHorizon/shangcloud-oauth2/redisstore"
)
`)
	require.NoError(t, os.Symlink(top, filepath.Join(dir, "shangcloud-oauth2")))
	var commands strings.Builder
	for _, b := range blocksOf(t, "README.md", "sh") {
		if strings.HasPrefix(b.code, "go mod edit") {
			commands.WriteString(b.code)
		}
	}
	require.Equal(t, 3, strings.Count(commands.String(), "\n"))
	cmd := exec.Command("sh", "-ec", "go mod init app.example\n"+commands.String()+"go mod tidy\ngo vet ./...\n")
	cmd.Dir = filepath.Join(dir, "app")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
}
