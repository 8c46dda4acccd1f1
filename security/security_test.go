//go:build unported

package shangcloud_test

import (
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// testsBelow are the names of the tests and fuzz targets in a folder and those below it.
func testsBelow(t *testing.T, dir string) map[string]bool {
	t.Helper()
	there := make(map[string]bool)
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	root := os.DirFS(dir)
	err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := fs.ReadFile(root, path)
		for _, match := range declared.FindAllSubmatch(source, -1) {
			there[string(match[1])] = true
		}
		return err
	})
	require.NoError(t, err)
	return there
}

// TestThreatModelNamesTests: SECURITY.md promises tests, which have to be there.
func TestThreatModelNamesTests(t *testing.T) {
	there := testsBelow(t, ".")
	text, err := os.ReadFile("SECURITY.md")
	require.NoError(t, err)
	named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllSubmatch(text, -1)
	assert.Greater(t, len(named), 40)
	for _, match := range named {
		assert.True(t, there[string(match[1])], "SECURITY.md names %s, which is not there", match[1])
	}
}
