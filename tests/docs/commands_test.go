//go:build unix

package docs

import (
	"bufio"
	"go/parser"
	"go/token"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A program is an example in the directory examples.
type program struct {
	dir     string // relative to root
	command string // as its doc comment prints it, without the options
}

// programs returns all examples. The command that starts an example is the first line of
// the first code block in its doc comment.
func programs(t *testing.T) (all []program) {
	t.Helper()
	for _, pattern := range []string{"examples/*/main.go", "examples/*/*/main.go"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		require.NoError(t, err)
		require.NotEmpty(t, files, pattern)
		for _, file := range files {
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.PackageClauseOnly)
			require.NoError(t, err)
			found := command.FindStringSubmatch(f.Doc.Text())
			require.NotNil(t, found, "%s prints no command", file)
			dir, err := filepath.Rel(root, filepath.Dir(file))
			require.NoError(t, err)
			all = append(all, program{dir, strings.TrimSpace(option.ReplaceAllString(found[1], ""))})
		}
	}
	return all
}

var (
	command = regexp.MustCompile(`(?m)^\t(go (?:-C \S+ )?run .*)$`)
	option  = regexp.MustCompile(` \[[^\]]*\]`)
	inPage  = regexp.MustCompile("(?m)(?:^|`)(go (?:-C \\S+ )?run [^`\n]*)")
)

// The pages must contain the same commands as the examples. TestExamplesLogIn runs the
// commands.
func TestPagesPrintTheCommandsOfExamples(t *testing.T) {
	var known []string
	for _, p := range programs(t) {
		known = append(known, p.command)
	}
	printed := 0
	for _, page := range pages(t) {
		for _, found := range inPage.FindAllStringSubmatch(read(t, page), -1) {
			if strings.Contains(found[1], "examples/") {
				assert.Contains(t, known, strings.TrimSpace(found[1]), page)
				printed++
			}
		}
	}
	assert.NotZero(t, printed)
}

// TestExamplesLogIn starts each example with the command in its doc comment, from the root
// of a clone and without settings. Then a user logs in.
func TestExamplesLogIn(t *testing.T) {
	says := map[string]string{ // text that a signed-in user sees
		"examples/cluster":       "林小满",
		"examples/weblogin":      "林小满",
		"examples/multiprovider": "林小满",
		"examples/rooms":         "Shared board",
		"examples/routers/spa":   "林小满",
	}
	for _, name := range []string{"SHANGCLOUD_CLIENT_ID", "SHANGCLOUD_CLIENT_SECRET", "SHANGCLOUD_REDIRECT_URL", "SHANGCLOUD_BASE_URL", "PUBLIC_URL"} {
		t.Setenv(name, "")
	}
	for _, p := range programs(t) {
		t.Run(p.dir, func(t *testing.T) {
			home := start(t, p.command)
			b := newPerson(t)
			at, page := b.open(t, home)
			// If a page has no link to the login, JavaScript goes to /login.
			login := "/login"
			if found := loginLink.FindStringSubmatch(page); found != nil {
				login = html.UnescapeString(found[1])
			}
			target, err := at.Parse(login)
			require.NoError(t, err)
			consent, page := b.open(t, target.String())
			nonce := nonceField.FindStringSubmatch(page)
			require.NotNil(t, nonce, "not a consent page: %s", page)
			user := userField.FindStringSubmatch(page)
			require.NotNil(t, user)
			action := formAction.FindStringSubmatch(page)
			require.NotNil(t, action)
			form, err := consent.Parse(action[1])
			require.NoError(t, err)
			res, err := b.PostForm(form.String(), url.Values{"nonce": {nonce[1]}, "user": {user[1]}, "decision": {"allow"}})
			require.NoError(t, err)
			at, page = b.read(t, res)
			assert.Equal(t, home, at.Scheme+"://"+at.Host+at.Path[:strings.LastIndex(at.Path, "/")+1], "the login comes back")
			assert.NotEqual(t, "", b.callback, "the login comes back over the callback")
			if want := says[filepath.ToSlash(p.dir)]; want != "" {
				if strings.HasSuffix(p.dir, "spa") {
					_, page = b.open(t, home+"api/me")
				}
				assert.Contains(t, page, want)
			}
		})
	}
}

var (
	loginLink  = regexp.MustCompile(`href="([^"]*/login[^"]*)"`)
	nonceField = regexp.MustCompile(`name="nonce" value="([^"]*)"`)
	userField  = regexp.MustCompile(`name="user" value="([^"]*)"`)
	formAction = regexp.MustCompile(`method="post" action="([^"]*)"`)
)

// start runs a documented command from the root of the repository. The program uses a free
// port. start returns the address that the program prints. At the end of the test, start
// sends Ctrl-C to the program.
func start(t *testing.T, command string) (home string) {
	t.Helper()
	cmd := exec.Command("sh", "-c", "exec "+command+" -addr 127.0.0.1:0")
	cmd.Dir = root
	// The go command does not forward signals. A terminal sends Ctrl-C to the whole
	// process group.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var log strings.Builder
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		require.NoError(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGINT))
		_ = cmd.Wait() // after Ctrl-C, the go command always exits with status 1; it prints the program's exit status
		assert.NotContains(t, log.String(), "exit status", "Ctrl-C ends the program cleanly")
	})
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if rest, found := strings.CutPrefix(lines.Text(), "Open "); found {
			go io.Copy(io.Discard, out)
			return strings.TrimSpace(rest)
		}
	}
	require.Fail(t, "no address was printed", "%s: %s", command, log.String())
	return ""
}

// person is a user with a browser.
type person struct {
	http.Client
	callback string // the last callback that the browser visited
}

func newPerson(t *testing.T) *person {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	p := &person{Client: http.Client{Jar: jar}}
	p.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if r.URL.Query().Has("code") {
			p.callback = r.URL.Path
		}
		return nil
	}
	return p
}

func (p *person) open(t *testing.T, address string) (at *url.URL, page string) {
	t.Helper()
	res, err := p.Get(address)
	require.NoError(t, err)
	return p.read(t, res)
}

func (p *person) read(t *testing.T, res *http.Response) (at *url.URL, page string) {
	t.Helper()
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode, "%s: %s", res.Request.URL.Path, body)
	return res.Request.URL, string(body)
}
