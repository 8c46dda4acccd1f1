//go:build unix

package docs

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// nobody is the ID of a user without rights.
const nobody = 65534

// readOnlyFileOfNobody runs readOnlyFile in a process of the user nobody, because root can
// write to every file.
func readOnlyFileOfNobody(t *testing.T, s *site, path string) error {
	dir := filepath.Dir(path)
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755)) // all of the test's directories are below it
	for _, name := range []string{dir, path} {
		require.NoError(t, os.Chown(name, nobody, nobody))
	}
	program := filepath.Join(t.TempDir(), "refresh")
	out, err := goTool(".", "build", "-o", program, "./testdata/refresh")
	require.NoError(t, err, out)
	cmd := exec.Command(program, path, s.platform.URL)
	cmd.Dir = dir
	cmd.Env = []string{"HOME=" + dir, "UID=" + strconv.Itoa(nobody)}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	printed, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", printed)
	return errors.New(string(printed))
}
