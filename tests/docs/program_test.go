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

// The READMEs' program logs a user in and shows who the user is.
func TestProgram(t *testing.T) {
	for page, texts := range map[string][3]string{
		"README.md":       {"You are user 10001.", "You are not logged in. Please start again at /login.", "Please try again in a minute."},
		"README.zh-CN.md": {"你是用户 10001。", "未登录，请从 /login 重新开始。", "请稍后再试。"},
	} {
		t.Run(page, func(t *testing.T) {
			code := wholeFile(t, page, "main.go")
			stop := os.Kill
			if page == "README.md" { // here, the program uses serve of docs/clusters.md
				const listen = `http.ListenAndServe("127.0.0.1:8080", site(provider))`
				require.Contains(t, code, listen)
				code = strings.Replace(code, "log.Fatal("+listen+")", `if err := serve("127.0.0.1:8080", site(provider), provider); err != nil { log.Fatal(err) }`, 1)
				code = strings.Replace(code, "import (", "import (\n\"context\"; \"os/signal\"; \"syscall\"; \"time\"\n", 1) + blockWith(t, "docs/clusters.md", "func serve(").code
				stop = syscall.SIGTERM
			}
			runProgram(t, code, stop, texts)
		})
	}
}

// runProgram runs a README's program. It changes only the address and the platform. texts
// are the program's answers for a successful login, for status 403 and for status 503.
func runProgram(t *testing.T, code string, stop os.Signal, texts [3]string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	platform := shangcloudtest.NewServer(t)
	platform.AddClient(shangcloudtest.Client{ID: "app", Secret: "s3cret", RedirectURIs: []string{"http://127.0.0.1/callback"}})
	platform.AddUser(shangcloudtest.User{ID: 10001})
	platform.AutoApprove(10001)

	code = strings.ReplaceAll(code, "127.0.0.1:8080", address)
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
	assert.Eventually(t, func() bool { return open(browser, "http://"+address+"/") == "200 "+texts[0] }, 20*time.Second, 50*time.Millisecond)
	assert.Equal(t, "403 "+texts[1]+"\n", open(browser, "http://"+address+"/callback?error=access_denied&state=x"))
	platform.Fault("/oauth/token", shangcloudtest.Fault{Times: 1, Status: http.StatusBadGateway})
	assert.Equal(t, "503 "+texts[2]+"\n", open(browser, "http://"+address+"/login"))

	require.NoError(t, cmd.Process.Signal(stop))
	err = cmd.Wait()
	if stop != os.Kill {
		require.NoError(t, err, log.String())
	}
	assert.Contains(t, log.String(), "status 502")
	assert.NotContains(t, log.String(), "s3cret")
}

// open visits an address and follows redirects. It returns the status and the text of the
// last page.
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
