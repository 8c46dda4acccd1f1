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

// testsBelow returns the names of the tests and fuzz targets in a directory and its
// subdirectories.
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

// placePattern matches a place in SECURITY.md: names of declarations and their file, in the
// form `name`, `name` (file.go).
var placePattern = regexp.MustCompile("((?:`\\w+`(?:, | and )?)+) \\(([\\w/]+\\.go)\\)")

// whereCell matches a table cell that contains a list of such places and nothing else.
var whereCell = regexp.MustCompile("^(?:" + placePattern.String() + "(?:, |$))+$|^(?:`\\w+`(?:, )?)+ of each$")

// SECURITY.md names tests, and the functions that enforce its conditions. All of them
// must exist.
func TestThreatModel(t *testing.T) {
	if _, err := os.Stat(filepath.Join(root, "tests")); err != nil {
		t.Skip("the module cache holds neither the tests nor the other modules that SECURITY.md names")
	}
	data, err := os.ReadFile(filepath.Join(root, "SECURITY.md"))
	require.NoError(t, err)
	text := string(data)
	t.Run("tests", func(t *testing.T) {
		there := testsBelow(t, ".")
		named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(text, -1)
		assert.Greater(t, len(named), 40)
		for _, match := range named {
			assert.True(t, there[match[1]], "SECURITY.md names %s, which is not there", match[1])
		}
	})
	t.Run("places", func(t *testing.T) {
		places := placePattern.FindAllStringSubmatch(text, -1)
		assert.Greater(t, len(places), 30)
		for _, place := range places {
			assertDeclared(t, place[2], regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(place[1], -1))
		}
	})
	t.Run("conditions", func(t *testing.T) {
		_, table, _ := strings.Cut(text, "\n| condition | where | tests |\n| --- | --- | --- |\n")
		rows := strings.Split(strings.TrimSpace(table), "\n")
		assert.Greater(t, len(rows), 30)
		for _, row := range rows {
			cells := strings.Split(row, " | ")
			if !assert.Len(t, cells, 3, row) {
				continue
			}
			assert.Regexp(t, whereCell, cells[1], "not a list of places: %s", row)
			assert.Regexp(t, "`(Test|Fuzz)", cells[2], "no test: %s", row)
		}
	})
}

func assertDeclared(t *testing.T, file string, names [][]string) {
	t.Helper()
	source, err := os.ReadFile(filepath.Join(root, file))
	if !assert.NoError(t, err) {
		return
	}
	for _, name := range names {
		declared := regexp.MustCompile(`(?m)^(?:func (?:\([^)]*\) )?|type |var |const )` + name[1] + `\b`)
		assert.True(t, declared.Match(source), "SECURITY.md names %s in %s, which is not there", name[1], file)
	}
}
