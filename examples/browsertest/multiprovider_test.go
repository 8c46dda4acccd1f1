package browser

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// newMultiprovider runs examples/multiprovider without settings, and returns its URL.
func newMultiprovider(t *testing.T) (home string) {
	t.Helper()
	return runExample(t, "multiprovider")
}

// programs holds the programs of the examples, each built once.
var programs struct {
	sync.Mutex
	dir string // TestMain sets and removes it
}

func build(t *testing.T, name string) (program string) {
	t.Helper()
	programs.Lock()
	defer programs.Unlock()
	program = filepath.Join(programs.dir, name)
	if _, err := os.Stat(program); err == nil {
		return program
	}
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = filepath.Join("..", name)
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return program
}

// runExample runs a program of the examples without settings. It returns the URL that the
// program prints first.
func runExample(t *testing.T, name string) (home string) {
	t.Helper()
	program := build(t, name)
	// Not CommandContext: t.Context ends before the cleanups, and a tab may still be loading.
	cmd := exec.Command(program, "-addr", "127.0.0.1:0")
	cmd.Env = []string{}
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		assert.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(stdout)
	require.True(t, lines.Scan(), "no address was printed: %v", lines.Err())
	return strings.TrimSpace(strings.TrimPrefix(lines.Text(), "Open"))
}

// A login with each provider alone creates a separate account. If a person links the
// other providers, all of them lead to one account.
func TestLinkedProviders(t *testing.T) {
	t.Parallel()
	home, b := newMultiprovider(t), newPerson(t)
	providers := []string{"shangcloud", "github", "google"}
	other := newPerson(t)
	other.visit(home)
	for _, p := range providers {
		other.click(`a[href^="/login/` + p + `"]`)
		other.click(allow)
		assert.Equal(t, 1, other.count(".identities li"), p)
		other.click(signOut)
	}

	b.visit(home)
	b.click(`a[href^="/login/shangcloud"]`)
	b.choose(`label:nth-of-type(2) input`) // a different person than above
	b.click(allow)
	account := b.text("main code")
	for i, p := range providers[1:] {
		b.click(`form[action="/link/` + p + `"] button`)
		b.choose(`label:nth-of-type(2) input`)
		b.click(allow)
		assert.Equal(t, account, b.text("main code"))
		assert.Equal(t, 2+i, b.count(".identities li"))
	}
	for _, p := range providers {
		b.click(signOut)
		b.click(`a[href^="/login/` + p + `"]`)
		b.choose(`label:nth-of-type(2) input`)
		b.click(allow)
		assert.Equal(t, account, b.text("main code"), p)
	}
}
