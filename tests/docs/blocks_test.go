package docs

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// root is the top of the repository.
const root = "../.."

// A block is a code block of a page.
type block struct {
	page string // relative to root
	line int    // of the code's first line
	code string
	run  bool
}

func (b block) String() string { return fmt.Sprintf("%s:%d", b.page, b.line) }

// isFile reports whether b is a whole file.
func (b block) isFile() bool { return packageClause.MatchString(b.code) }

// name returns the file name in the first line of b. Without such a line, the name is
// main.go.
func (b block) name() string {
	if found := fileName.FindStringSubmatch(b.code); found != nil {
		return found[1]
	}
	return "main.go"
}

var (
	packageClause = regexp.MustCompile(`\A(//[^\n]*\n)*package `)
	fileName      = regexp.MustCompile(`\A// ([a-z_]+\.go)\n`)
)

// pages are the READMEs and docs/*.md.
func pages(t *testing.T) []string { return matching(t, "README*.md", "docs/*.md") }

// matching returns the files whose names match the patterns, relative to root.
func matching(t *testing.T, patterns ...string) (names []string) {
	t.Helper()
	for _, pattern := range patterns {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		require.NoError(t, err)
		require.NotEmpty(t, found)
		for _, name := range found {
			rel, err := filepath.Rel(root, name)
			require.NoError(t, err)
			names = append(names, filepath.ToSlash(rel))
		}
	}
	return names
}

func read(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, page))
	require.NoError(t, err)
	return string(text)
}

// blocksOf returns the blocks of a page in one language.
func blocksOf(t *testing.T, page, language string) (blocks []block) {
	t.Helper()
	mark, open := "", false
	for i, line := range strings.Split(read(t, page), "\n") {
		switch {
		case open && line == "```":
			open = false
		case open:
			blocks[len(blocks)-1].code += line + "\n"
		case line == "```"+language && !strings.HasPrefix(mark, "<!-- not compiled: "):
			blocks = append(blocks, block{page: page, line: i + 2, run: mark == "<!-- run -->"})
			open = true
		case line != "":
			mark = line
		}
	}
	require.False(t, open, "%s: a block does not end", page)
	return blocks
}

// packages are the packages that parts of programs can use without an import declaration.
var packages = map[string]string{
	"chi":            "github.com/go-chi/chi/v5",
	"context":        "context",
	"debug":          "runtime/debug",
	"echo":           "github.com/labstack/echo/v5",
	"endpoints":      "golang.org/x/oauth2/endpoints",
	"errors":         "errors",
	"fmt":            "fmt",
	"gin":            "github.com/gin-gonic/gin",
	"goth":           "github.com/markbates/goth",
	"gothic":         "github.com/markbates/goth/gothic",
	"gothshangcloud": "github.com/YearnstudioHorizon/shangcloud-oauth2/integrations/goth",
	"http":           "net/http",
	"json":           "encoding/json",
	"keyring":        "github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore/keyring",
	"log":            "log",
	"mmo":            "github.com/YearnstudioHorizon/shangcloud-oauth2/mmo",
	"mmotest":        "github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/mmotest",
	"oauth2":         "golang.org/x/oauth2",
	"oauth2login":    "github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login",
	"os":             "os",
	"prometheus":     "github.com/prometheus/client_golang/prometheus",
	"promauto":       "github.com/prometheus/client_golang/prometheus/promauto",
	"promhttp":       "github.com/prometheus/client_golang/prometheus/promhttp",
	"redis":          "github.com/redis/go-redis/v9",
	"redisstore":     "github.com/YearnstudioHorizon/shangcloud-oauth2/redisstore",
	"require":        "github.com/stretchr/testify/require",
	"shangcloud":     "github.com/YearnstudioHorizon/shangcloud-oauth2",
	"sessions":       "github.com/gorilla/sessions",
	"shangcloudtest": "github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest",
	"signal":         "os/signal",
	"slog":           "log/slog",
	"sql":            "database/sql",
	"sqlstore":       "github.com/YearnstudioHorizon/shangcloud-oauth2/sqlstore",
	"strconv":        "strconv",
	"strings":        "strings",
	"syscall":        "syscall",
	"testing":        "testing",
	"time":           "time",
	"tokenstore":     "github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore",
}

// ambiguous lists identifiers of packages that are named "middleware". The identifier
// shows which of the packages is meant.
var ambiguous = map[string]string{
	"middleware.LogEntry":            "github.com/go-chi/chi/v5/middleware",
	"middleware.RequestLoggerConfig": "github.com/labstack/echo/v5/middleware",
}

// wrap makes a complete file from a part of a program.
func wrap(b block) (string, error) {
	head := fmt.Sprintf("//line %s:%d\n", b.page, b.line)
	const clause = "package main\n"
	if f, err := parser.ParseFile(token.NewFileSet(), "", clause+b.code, 0); err == nil && len(f.Decls) > 0 {
		return clause + imports(f) + head + b.code, nil
	}
	part := strings.NewReplacer("/", "_", ".", "_", "-", "_", ":", "_").Replace(b.String())
	open, end := "func "+part+"() error {\n", "}\n"
	f, err := parser.ParseFile(token.NewFileSet(), b.String(), clause+open+b.code+end, 0)
	if err != nil {
		return "", err
	}
	body := f.Decls[0].(*ast.FuncDecl).Body
	names := definedIn(body)
	var use, result strings.Builder
	result.WriteString("return nil\n")
	for _, name := range names {
		fmt.Fprintf(&use, "_ = %s\n", name)
		if name == "err" {
			result.Reset()
			result.WriteString("return err\n")
		}
	}
	return clause + imports(f) + "func init() { parts = append(parts, " + part + ") }\n" + open + head + b.code + use.String() + result.String() + end, nil
}

// definedIn returns the names that the statements in body define.
func definedIn(body *ast.BlockStmt) (names []string) {
	add := func(e ast.Expr) {
		if id, ok := e.(*ast.Ident); ok && id.Name != "_" && !slices.Contains(names, id.Name) {
			names = append(names, id.Name)
		}
	}
	for _, s := range body.List {
		switch s := s.(type) {
		case *ast.AssignStmt:
			if s.Tok == token.DEFINE {
				for _, e := range s.Lhs {
					add(e)
				}
			}
		case *ast.DeclStmt:
			if d, ok := s.Decl.(*ast.GenDecl); ok {
				for _, spec := range d.Specs {
					if v, ok := spec.(*ast.ValueSpec); ok {
						for _, id := range v.Names {
							add(id)
						}
					}
				}
			}
		}
	}
	return names
}

// imports returns the import declarations for the packages that f uses.
func imports(f *ast.File) string {
	used := make(map[string]string)
	ast.Inspect(f, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if id, ok := s.X.(*ast.Ident); ok {
			if path := packages[id.Name]; path != "" {
				used[id.Name] = path
			}
			if path := ambiguous[id.Name+"."+s.Sel.Name]; path != "" {
				used[id.Name] = path
			}
		}
		return true
	})
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(used)) {
		fmt.Fprintf(&b, "import %s %q\n", name, used[name])
	}
	return b.String()
}

// newModule returns a directory that contains a new module. The new module has the same
// requirements as this module.
func newModule(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	mod, err := os.ReadFile("go.mod")
	require.NoError(t, err)
	top, err := filepath.Abs(root)
	require.NoError(t, err)
	text := strings.ReplaceAll(string(mod), "=> "+root, "=> "+top)
	text = strings.Replace(text, "module github.com/YearnstudioHorizon/shangcloud-oauth2/tests/docs", "module app.example", 1)
	sum, err := os.ReadFile("go.sum")
	require.NoError(t, err)
	write(t, filepath.Join(dir, "go.mod"), text)
	write(t, filepath.Join(dir, "go.sum"), string(sum))
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
}

// goTool runs the go command in dir.
func goTool(dir string, args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// writeBlocks writes each block of a page into a separate package. If a block is to be
// run, writeBlocks also writes it into the package run.
func writeBlocks(t *testing.T, module, page, prelude string) {
	t.Helper()
	translated := strings.HasSuffix(page, ".zh-CN.md") // blocks of a translation are not run, because they are the same
	for i, b := range blocksOf(t, page, "go") {
		if b.isFile() {
			continue // TestREADME has it
		}
		name := fmt.Sprintf("%s_%02d", strings.NewReplacer("/", "_", ".", "_", "-", "_").Replace(page), i+1)
		text, err := wrap(b)
		require.NoError(t, err, "%v", b)
		write(t, filepath.Join(module, name, "main.go"), text)
		write(t, filepath.Join(module, name, "prelude.go"), prelude)
		if b.run && !translated {
			if strings.HasPrefix(b.code, "func Test") {
				name += "_test"
			}
			write(t, filepath.Join(module, "run", name+".go"), text)
		}
	}
}

func TestBlocks(t *testing.T) {
	prelude, err := os.ReadFile("testdata/prelude.go")
	require.NoError(t, err)
	module := newModule(t)
	write(t, filepath.Join(module, "run", "prelude.go"), string(prelude))
	for _, page := range pages(t) {
		if !runByREADME(page) {
			writeBlocks(t, module, page, string(prelude))
		}
	}
	out, err := goTool(module, "vet", "./...")
	require.NoError(t, err, out)

	program := filepath.Join(module, "program")
	out, err = goTool(module, "build", "-o", program, "./run")
	require.NoError(t, err, out)
	cmd := exec.Command(program)
	cmd.Dir = t.TempDir() // for files that the program creates
	printed, err := cmd.CombinedOutput()
	assert.NoError(t, err, "%s", printed)
	assert.True(t, strings.HasSuffix(string(printed), "done\n"), "%s", printed)
	out, err = goTool(module, "test", "./run")
	assert.NoError(t, err, out)
	assert.NotContains(t, out, "no test")
}

var (
	link    = regexp.MustCompile(`\]\(([^):#]*)(#[^)]*)?\)|(?:src|href|srcset)="([^":]+)"`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	noSlug  = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// anchors returns the anchors that GitHub gives to the headings of a page.
func anchors(text string) (all []string) {
	for _, found := range heading.FindAllStringSubmatch(text, -1) {
		all = append(all, "#"+strings.ReplaceAll(noSlug.ReplaceAllString(strings.ToLower(found[1]), ""), " ", "-"))
	}
	return all
}

// TestLinks checks that links within the repository lead to existing files and headings.
func TestLinks(t *testing.T) {
	for _, page := range matching(t, "*.md", "docs/*.md", "cmd/*/*.md") {
		for _, found := range link.FindAllStringSubmatch(read(t, page), -1) {
			target := found[1] + found[3]
			if strings.HasPrefix(target, "/") {
				continue // a path of an example's application
			}
			if target = filepath.Join(filepath.Dir(page), target); found[1]+found[3] == "" {
				target = page
			}
			_, err := os.Stat(filepath.Join(root, target))
			if assert.NoError(t, err, "%s", page) && found[2] != "" {
				assert.Contains(t, anchors(read(t, target)), found[2], "%s links to %s", page, target)
			}
		}
	}
}

// TestTranslationsHaveTheSameCode compares the two READMEs, and each page with its
// translation. Comments and texts for users may be translated. Everything else in the code
// must be the same.
func TestTranslationsHaveTheSameCode(t *testing.T) {
	for _, page := range pages(t) {
		other := strings.TrimSuffix(page, ".md") + ".zh-CN.md"
		if strings.HasSuffix(page, ".zh-CN.md") {
			continue
		}
		if _, err := os.Stat(filepath.Join(root, other)); err != nil {
			continue
		}
		t.Run(page, func(t *testing.T) {
			for _, language := range []string{"go", "sh", "nginx", "sql"} {
				english, chinese := blocksOf(t, page, language), blocksOf(t, other, language)
				require.Len(t, chinese, len(english))
				for i := range english {
					assert.Equal(t, skeleton(english[i].code), skeleton(chinese[i].code), "%v and %v", english[i], chinese[i])
				}
			}
		})
	}
}

var (
	comment = regexp.MustCompile(`(?m)\s*(//|#) .*$`)
	literal = regexp.MustCompile("`[^`]*`|\"[^\"\n]*\"")
	prose   = regexp.MustCompile(`[ \x{4e00}-\x{9fff}]`)
)

// skeleton removes comments and texts for users from code.
func skeleton(code string) string {
	return literal.ReplaceAllStringFunc(comment.ReplaceAllString(code, ""), func(s string) string {
		if prose.MatchString(s) {
			return `"…"`
		}
		return s
	})
}
