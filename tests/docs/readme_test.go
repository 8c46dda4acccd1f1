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
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// readmes are the pages with the program.
var readmes = []string{"README.md", "README.zh-CN.md"}

// runByREADME reports whether TestREADME runs all blocks of a page.
func runByREADME(page string) bool {
	return slices.Contains(readmes, page) || strings.HasPrefix(page, "docs/ways.")
}

// TestREADME builds one package from a README and pages to which it links. The package
// contains the README's program, its test, and a function for each other part.
// testdata/readme/drive_test.go runs the functions.
func TestREADME(t *testing.T) {
	drive, err := os.ReadFile("testdata/readme/drive_test.go")
	require.NoError(t, err)
	redis := startRedis(t)
	for _, page := range readmes {
		t.Run(page, func(t *testing.T) {
			module := newModule(t)
			write(t, filepath.Join(module, "drive_test.go"), string(drive))
			write(t, filepath.Join(module, "main.go"), wholeFile(t, page, "main.go"))
			write(t, filepath.Join(module, "main_test.go"), wholeTest(t, page))
			for i, part := range partsOf(t, page, redis) {
				text, err := asFunction(part)
				require.NoError(t, err, "%v", part)
				write(t, filepath.Join(module, fmt.Sprintf("part%02d_test.go", i+1)), text)
			}
			cmd := exec.Command("go", "test", ".")
			cmd.Dir = module
			cmd.Env = append(os.Environ(), "REDIS="+redis)
			printed, err := cmd.CombinedOutput()
			assert.NoError(t, err, "%s", printed)
		})
	}
}

// linked returns the page of docs in a README's language.
func linked(readme, name string) string {
	return strings.Replace(readme, "README", "docs/"+name, 1)
}

// wholeFile returns the file of that name in a page.
func wholeFile(t *testing.T, page, name string) string {
	t.Helper()
	for _, b := range blocksOf(t, page, "go") {
		if b.isFile() && b.name() == name {
			return b.code
		}
	}
	require.Fail(t, "there is no such file", "%s: %s", page, name)
	return ""
}

// wholeTest returns the main_test.go of docs/testing.md. The README has its function.
func wholeTest(t *testing.T, readme string) string {
	t.Helper()
	code := wholeFile(t, linked(readme, "testing"), "main_test.go")
	_, function, found := strings.Cut(code, "\nfunc TestLogin(")
	require.True(t, found)
	require.Contains(t, read(t, readme), "```go\nfunc TestLogin("+function+"```\n")
	return code
}

// partsOf returns the parts of programs in the order of drive_test.go's constants.
func partsOf(t *testing.T, readme, redis string) []block {
	t.Helper()
	parts := []block{
		blockWith(t, linked(readme, "sql"), "CreateTable("),
		redisBlock(t, readme, redis),
	}
	for _, page := range []string{readme, linked(readme, "ways")} {
		for _, b := range blocksOf(t, page, "go") {
			if !b.isFile() && !strings.HasPrefix(b.code, "func ") {
				parts = append(parts, split(b)...)
			}
		}
	}
	return parts
}

// blockWith returns the first block of a page that contains text.
func blockWith(t *testing.T, page, text string) block {
	t.Helper()
	for _, b := range blocksOf(t, page, "go") {
		if strings.Contains(b.code, text) {
			return b
		}
	}
	require.Fail(t, "there is no such block", "%s: %s", page, text)
	return block{}
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

// redisBlock returns the block of docs/clusters.md that uses Redis. address replaces the
// address in the block.
func redisBlock(t *testing.T, readme, address string) block {
	t.Helper()
	b := blockWith(t, linked(readme, "clusters"), "States: redisstore.NewStates(client)")
	require.Contains(t, b.code, `"redis:6379"`)
	b.code = strings.Replace(b.code, "redis:6379", address, 1)
	return b
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
