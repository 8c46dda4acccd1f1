//go:build unix

package docs

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

const rootModule = "github.com/YearnstudioHorizon/shangcloud-oauth2"

var (
	getCommand = regexp.MustCompile(`(?m)^go get (\S+)@(\S+)`)
	required   = regexp.MustCompile(regexp.QuoteMeta(rootModule) + ` v[0-9.]+`)
)

// publish creates a module proxy in dir. It serves the module at path from this source
// tree, as the given version: https://go.dev/ref/mod#goproxy-protocol
func publish(t *testing.T, dir, path, version string) {
	t.Helper()
	source := filepath.Join(root, strings.TrimPrefix(path, rootModule))
	escaped, err := module.EscapePath(path)
	require.NoError(t, err)
	at := filepath.Join(dir, filepath.FromSlash(escaped), "@v")
	mod, err := os.ReadFile(filepath.Join(source, "go.mod"))
	require.NoError(t, err)
	write(t, filepath.Join(at, "list"), version+"\n")
	write(t, filepath.Join(at, version+".info"), fmt.Sprintf(`{"Version":%q}`, version))
	write(t, filepath.Join(at, version+".mod"), required.ReplaceAllString(string(mod), rootModule+" "+version))
	var archive bytes.Buffer
	require.NoError(t, zip.CreateFromDir(&archive, module.Version{Path: path, Version: version}, source))
	write(t, filepath.Join(at, version+".zip"), archive.String())
}

// TestInstall runs the commands of the section "Install" in an empty directory. Then it
// builds the README's program and runs its test. It can't get any other version of the
// modules. The translation has the same commands and code, so it is not tested.
// scripts/release builds a program with each single module.
func TestInstall(t *testing.T) {
	const page = "README.md"
	proxy, app := t.TempDir(), t.TempDir()
	got := getCommand.FindAllStringSubmatch(read(t, page), -1)
	require.Len(t, got, 5)
	commands := "go mod init app.example\n"
	for _, command := range got {
		publish(t, proxy, command[1], command[2])
		commands += command[0] + "\n"
	}
	write(t, filepath.Join(app, "main.go"), wholeFile(t, page, "main.go"))
	write(t, filepath.Join(app, "main_test.go"), wholeTest(t, page))
	known, err := goTool(".", "env", "GOMODCACHE", "GOPROXY")
	require.NoError(t, err)
	modcache, upstream, _ := strings.Cut(strings.TrimSpace(known), "\n")
	cmd := exec.Command("sh", "-ec", commands+"go mod tidy\ngo test .\n")
	cmd.Dir = app
	cmd.Env = append(os.Environ(), "GOMODCACHE="+t.TempDir(), "GOSUMDB=off",
		"GOFLAGS=-modcacherw -trimpath", // so that the build cache also serves packages from other module caches
		"GOPROXY=file://"+proxy+",file://"+filepath.Join(modcache, "cache", "download")+","+upstream)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
}
