package security_test

import (
	"io/fs"
	"os"
	"path/filepath"
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
	files := os.DirFS(filepath.Join(root, dir))
	err := fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := fs.ReadFile(files, path)
		for _, match := range declared.FindAllSubmatch(source, -1) {
			there[string(match[1])] = true
		}
		return err
	})
	require.NoError(t, err)
	return there
}

// SECURITY.md names tests, and the functions that hold its conditions: both have to exist.
func TestThreatModel(t *testing.T) {
	if _, err := os.Stat(filepath.Join(root, "tests")); err != nil {
		t.Skip("the module cache holds neither the tests nor the other modules that SECURITY.md names")
	}
	text, err := os.ReadFile(filepath.Join(root, "SECURITY.md"))
	require.NoError(t, err)
	t.Run("tests", func(t *testing.T) {
		there := testsBelow(t, ".")
		named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllSubmatch(text, -1)
		assert.Greater(t, len(named), 40)
		for _, match := range named {
			assert.True(t, there[string(match[1])], "SECURITY.md names %s, which is not there", match[1])
		}
	})
	t.Run("places", func(t *testing.T) {
		// A place is `name`, `name` … (file.go).
		places := regexp.MustCompile("((?:`\\w+`(?:, | and )?)+) \\(([\\w/]+\\.go)\\)").FindAllSubmatch(text, -1)
		assert.Greater(t, len(places), 30)
		for _, place := range places {
			source, err := os.ReadFile(filepath.Join(root, string(place[2])))
			if !assert.NoError(t, err) {
				continue
			}
			for _, name := range regexp.MustCompile(`\w+`).FindAllString(string(place[1]), -1) {
				if name == "and" {
					continue
				}
				declared := regexp.MustCompile(`(?m)^(?:func (?:\([^)]*\) )?|type |var |const |\t)` + name + `\b`)
				assert.True(t, declared.Match(source), "SECURITY.md names %s in %s, which is not there", name, place[2])
			}
		}
	})
}
