package browser

import (
	"bufio"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// newMultiprovider runs examples/multiprovider as a newcomer does: nothing is set.
func newMultiprovider(t *testing.T) (home string) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "multiprovider")
	build := exec.Command("go", "build", "-o", program, "./examples/multiprovider")
	build.Dir = filepath.Join("..", "..")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	cmd := exec.CommandContext(t.Context(), program, "-addr", "127.0.0.1:0")
	cmd.Env = []string{}
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Wait() }) // the end of the test's context kills it
	lines := bufio.NewScanner(stdout)
	require.True(t, lines.Scan(), "it prints its address: %v", lines.Err())
	return strings.TrimSpace(strings.TrimPrefix(lines.Text(), "Open"))
}

// A person signs in with each provider, links the others, and signs in with any of
// them afterwards: it is one account.
func TestLinkedProviders(t *testing.T) {
	home, b := newMultiprovider(t), newPerson(t)
	providers := []string{"shangcloud", "github", "google"}
	for _, p := range providers {
		other := newPerson(t)
		other.visit(home)
		other.click(`a[href^="/login/` + p + `"]`)
		other.click(allow)
		assert.Len(t, do(other, chromedp.Nodes(chromedp.CSSAll(".identities li"))), 1, p)
		other.click(signOut)
	}

	b.visit(home)
	b.click(`a[href^="/login/shangcloud"]`)
	b.choose(`label:nth-of-type(2) input`) // a person whom nobody was above
	b.click(allow)
	account := b.text("main code")
	for i, p := range providers[1:] {
		b.click(`form[action="/link/` + p + `"] button`)
		b.choose(`label:nth-of-type(2) input`)
		b.click(allow)
		assert.Equal(t, account, b.text("main code"))
		assert.Len(t, do(b, chromedp.Nodes(chromedp.CSSAll(".identities li"))), 2+i)
	}
	for _, p := range providers {
		b.click(signOut)
		b.click(`a[href^="/login/` + p + `"]`)
		b.choose(`label:nth-of-type(2) input`)
		b.click(allow)
		assert.Equal(t, account, b.text("main code"), p)
	}
}
