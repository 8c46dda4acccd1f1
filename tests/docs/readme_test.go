package docs

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// readmes are the pages whose blocks are all run.
var readmes = []string{"README.md", "README.zh-CN.md"}

// TestREADME builds one package from the blocks of a README. The package contains the
// README's program, its test, and a function for each other part.
// testdata/readme/drive_test.go runs the functions.
func TestREADME(t *testing.T) {
	drive, err := os.ReadFile("testdata/readme/drive_test.go")
	require.NoError(t, err)
	redis := startRedis(t)
	for _, page := range readmes {
		t.Run(page, func(t *testing.T) {
			module := newModule(t)
			write(t, filepath.Join(module, "drive_test.go"), string(drive))
			parts := 0
			add := func(b block) {
				parts++
				text, err := asFunction(b)
				require.NoError(t, err, "%v", b)
				write(t, filepath.Join(module, fmt.Sprintf("part%02d_test.go", parts)), text)
			}
			for _, b := range blocksOf(t, page, "go") {
				if b.isFile() {
					write(t, filepath.Join(module, b.name()), b.code)
					continue
				}
				for _, part := range split(b) {
					add(part)
				}
			}
			add(redisBlock(t, page, redis))
			cmd := exec.Command("go", "test", ".")
			cmd.Dir = module
			cmd.Env = append(os.Environ(), "REDIS="+redis)
			printed, err := cmd.CombinedOutput()
			assert.NoError(t, err, "%s", printed)
		})
	}
}

// split divides a block at its empty lines.
func split(b block) (parts []block) {
	line := b.line
	for _, code := range strings.SplitAfter(b.code, "\n\n") {
		parts = append(parts, block{page: b.page, line: line, code: code})
		line += strings.Count(code, "\n")
	}
	return parts
}

// asFunction turns a part of a program into a file with a function. The function returns
// the variables that the part defines.
func asFunction(b block) (string, error) {
	const clause, open, end = "package main\n", "func() map[string]any {\n", "}"
	f, err := parser.ParseFile(token.NewFileSet(), b.String(), clause+"var _ = "+open+b.code+end, 0)
	if err != nil {
		return "", err
	}
	body := f.Decls[0].(*ast.GenDecl).Specs[0].(*ast.ValueSpec).Values[0].(*ast.FuncLit).Body
	var result strings.Builder
	for _, name := range definedIn(body) {
		fmt.Fprintf(&result, "%q: %s, ", name, name)
	}
	return fmt.Sprintf("%s%sfunc init() { parts = append(parts, %s//line %s:%d\n%sreturn map[string]any{%s}\n%s) }\n",
		clause, imports(f), open, b.page, b.line, b.code, result.String(), end), nil
}

// redisBlock returns the block of docs/clusters.md to which the README links. address
// replaces the address in the block.
func redisBlock(t *testing.T, readme, address string) block {
	t.Helper()
	const shown = "States: redisstore.NewStates(client)"
	require.Contains(t, read(t, readme), shown)
	for _, b := range blocksOf(t, strings.Replace(readme, "README", "docs/clusters", 1), "go") {
		if strings.Contains(b.code, shown) {
			require.Contains(t, b.code, `"redis:6379"`)
			b.code = strings.Replace(b.code, "redis:6379", address, 1)
			return b
		}
	}
	require.Fail(t, "there is no such block")
	return block{}
}

// startRedis starts a server and returns its address. It returns "" if Redis is not
// installed.
func startRedis(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		require.Empty(t, os.Getenv("SHANGCLOUD_NO_SKIP"), "redis-server is missing")
		t.Log("states in Redis are not tested: redis-server is missing")
		return ""
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	cmd := exec.Command(program, "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir())
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, 20*time.Second, 20*time.Millisecond)
	return address
}
