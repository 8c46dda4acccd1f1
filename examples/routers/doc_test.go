package routers

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The router programs are short enough to read at a glance.
func TestProgramsAreShort(t *testing.T) {
	for _, router := range []string{"nethttp", "chi", "gin", "echo"} {
		files, err := filepath.Glob(filepath.Join(router, "*.go"))
		require.NoError(t, err)
		assert.ElementsMatch(t, []string{filepath.Join(router, "main.go"), filepath.Join(router, "main_test.go")}, files)
		program, err := os.ReadFile(filepath.Join(router, "main.go"))
		require.NoError(t, err)
		_, code, _ := bytes.Cut(program, []byte("\npackage main"))
		assert.LessOrEqual(t, bytes.Count(code, []byte("\n")), 40, router)
	}
}
