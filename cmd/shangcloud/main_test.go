package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/mmotest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// asProgram makes the test binary run the program instead of the tests. Under the name
// xdg-open, the same binary is the browser that the program opens.
const asProgram = "SHANGCLOUD_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	switch {
	case filepath.Base(os.Args[0]) == "xdg-open":
		if err := browse(os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case os.Getenv(asProgram) != "":
		main()
	default:
		ours := []string{"SHANGCLOUD_NO_SKIP", "SHANGCLOUD_LONG_TESTS", "SHANGCLOUD_TEST_CLIENTS"}
		for _, variable := range os.Environ() { // the developer's own login stays out of this
			if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "SHANGCLOUD_") && !slices.Contains(ours, name) {
				_ = os.Unsetenv(name)
			}
		}
		os.Exit(m.Run())
	}
}

// browse opens an address as a browser does.
func browse(address string) error {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	res, err := (&http.Client{Jar: jar}).Get(address)
	if err != nil {
		return err
	}
	return res.Body.Close()
}

const (
	testUser   = 10001
	testSecret = "s3cret of the client"
)

// newPlatform starts a platform, and sets the program's settings so that the program uses
// this platform. The program is the public client "cli", and its store is empty.
func newPlatform(t *testing.T) *shangcloudtest.Server {
	t.Helper()
	s := shangcloudtest.NewServer(t)
	for _, c := range []shangcloudtest.Client{{ID: "cli"}, {ID: "app", Secret: testSecret}} {
		c.RedirectURIs = []string{"http://127.0.0.1/callback"}
		s.AddClient(c)
	}
	s.AddUser(shangcloudtest.User{ID: testUser, Nickname: "小云", Email: "yun@example.com"})
	s.Configure(func(set *shangcloudtest.Settings) { set.DeviceInterval = time.Second })
	t.Setenv("SHANGCLOUD_BASE_URL", s.URL)
	t.Setenv("SHANGCLOUD_CLIENT_ID", "cli")
	useFile(t)
	return s
}

// useFile points the program to an empty folder, and to a file as the store.
func useFile(t *testing.T) {
	t.Helper()
	t.Setenv("SHANGCLOUD_CONFIG_DIR", filepath.Join(t.TempDir(), "config"))
	t.Setenv("SHANGCLOUD_STORE", inFile)
}

// profileDir is the folder of the login.
func profileDir() string { return filepath.Join(os.Getenv("SHANGCLOUD_CONFIG_DIR"), "default") }

// openSession opens a session with the present settings.
func openSession(t *testing.T) *session {
	t.Helper()
	session, err := new(settings).open(t.Context(), &prompter{to: io.Discard}, toLogIn)
	require.NoError(t, err)
	return session
}

// logIn stores a login of the test's user, for the current settings. The access token
// expires at expiry.
func logIn(t *testing.T, s *shangcloudtest.Server, expiry time.Time, scopes ...string) (access, refresh string) {
	t.Helper()
	if len(scopes) == 0 {
		scopes = []string{"user:basic", "var:io"}
	}
	session := openSession(t)
	access, refresh = s.Issue(session.ClientID, testUser, scopes...)
	require.NoError(t, session.login.SetToken(t.Context(), &oauth2.Token{AccessToken: access, RefreshToken: refresh, Expiry: expiry}))
	require.NoError(t, remember(session.dir, session.known))
	return access, refresh
}

func inAnHour() time.Time { return time.Now().Add(time.Hour) }

// result is the outcome of one run of the program.
type result struct {
	code           int
	stdout, stderr string
}

func shangcloudRun(t *testing.T, args ...string) result {
	t.Helper()
	return shangcloudStdin(t, strings.NewReader(""), args...)
}

func shangcloudStdin(t *testing.T, stdin io.Reader, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), args, stdin, &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

// succeed runs the program and returns what it printed.
func succeed(t *testing.T, args ...string) string {
	t.Helper()
	r := shangcloudRun(t, args...)
	require.Zero(t, r.code, "%v: %s", args, r.stderr)
	return r.stdout
}

// process returns a command that runs the program in a separate process.
func process(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "GORACE=atexit_sleep_ms=0")
	return cmd
}

// watcher is a writer that calls seen once, with the first match of the pattern.
type watcher struct {
	pattern *regexp.Regexp
	seen    func(match string)

	mu   sync.Mutex
	text bytes.Buffer
	done bool
}

func (w *watcher) Write(p []byte) (int, error) {
	w.mu.Lock()
	w.text.Write(p)
	match := w.pattern.FindString(w.text.String())
	call := match != "" && !w.done
	w.done = w.done || call
	w.mu.Unlock()
	if call {
		w.seen(match)
	}
	return len(p), nil
}

func (w *watcher) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

var userCode = regexp.MustCompile(`[A-Z]{4}-[A-Z]{4}`)

// screen is a writer that a test can wait at.
type screen struct {
	mu      sync.Mutex
	text    bytes.Buffer
	written chan struct{} // closed at the next write
}

func newScreen() *screen { return &screen{written: make(chan struct{})} }

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.written)
	s.written = make(chan struct{})
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// await waits until the text is on the screen, so many times.
func (s *screen) await(t *testing.T, text string, times int) {
	t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		s.mu.Lock()
		shown, written := s.text.String(), s.written
		s.mu.Unlock()
		if strings.Count(shown, text) >= times {
			return
		}
		select {
		case <-written:
		case <-timeout:
			require.Fail(t, "missing on the screen", "%q in %q", text, shown)
		}
	}
}

// keptEdge is an edge that keeps the connect keys.
type keptEdge struct {
	*mmotest.Edge
	url string // instead of that of the edge, if not ""

	mu   sync.Mutex
	keys []string
}

func (e *keptEdge) Admit(room, connectKey, uid string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.keys = append(e.keys, connectKey)
	e.Edge.Admit(room, connectKey, uid)
}

func (e *keptEdge) URL(protocol string) (edgeURL, spoken string) {
	edgeURL, spoken = e.Edge.URL(protocol)
	if e.url != "" {
		edgeURL = e.url
	}
	return edgeURL, spoken
}

// ada is the second user of tests with rooms. Her login has the profile "ada".
const ada = 10002

// newRooms starts a platform with an edge, on which both users are logged in, and makes a room.
func newRooms(t *testing.T) (*shangcloudtest.Server, *keptEdge, string) {
	t.Helper()
	s := newPlatform(t)
	s.AddUser(shangcloudtest.User{ID: ada, Nickname: "Ada"})
	edge := &keptEdge{Edge: mmotest.NewEdge(t)}
	s.SetEdge(edge)
	for profile, uid := range map[string]int64{"default": testUser, "ada": ada} {
		session, err := (&settings{profile: profile}).open(t.Context(), &prompter{to: io.Discard}, toLogIn)
		require.NoError(t, err)
		access, refresh := s.Issue(session.ClientID, uid, defaultScopes...)
		require.NoError(t, session.login.SetToken(t.Context(), &oauth2.Token{AccessToken: access, RefreshToken: refresh, Expiry: inAnHour()}))
	}
	return s, edge, strings.TrimSpace(succeed(t, "room", "new"))
}

// visitor is a running "shangcloud room".
type visitor struct {
	t        *testing.T
	in       *io.PipeWriter
	out, err *screen
	cancel   context.CancelFunc
	code     chan int
}

// visitRoom runs "shangcloud room" with a pipe as its standard input.
func visitRoom(t *testing.T, args ...string) *visitor {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	read, write := io.Pipe()
	v := &visitor{t: t, in: write, out: newScreen(), err: newScreen(), cancel: cancel, code: make(chan int, 1)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		v.code <- run(ctx, append([]string{"room"}, args...), read, v.out, v.err)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return v
}

func (v *visitor) say(line string) {
	v.t.Helper()
	_, err := io.WriteString(v.in, line+"\n")
	require.NoError(v.t, err)
}

// ends waits for the end, and checks the exit code.
func (v *visitor) ends(code int) {
	v.t.Helper()
	select {
	case got := <-v.code:
		assert.Equal(v.t, code, got, "%v", v.err)
	case <-time.After(30 * time.Second):
		require.Fail(v.t, "it goes on", "%v", v.err)
	}
}

// devRun is a running "shangcloud dev".
type devRun struct {
	URL     string
	EdgeURL string
	log     *watcher
	stop    func() int // ends it, and returns its exit code
}

// startDev runs dev on a free port.
func startDev(t *testing.T, args ...string) *devRun {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	read, write := io.Pipe()
	d := &devRun{log: &watcher{pattern: regexp.MustCompile(`^$`)}}
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, append([]string{"dev", "--addr", "127.0.0.1:0", "--json"}, args...), strings.NewReader(""), write, d.log)
		_ = write.Close()
	}()
	d.stop = sync.OnceValue(func() int {
		cancel()
		return <-code
	})
	t.Cleanup(func() { d.stop() })
	var shown struct {
		BaseURL string `json:"base_url"`
		EdgeURL string `json:"edge_url"`
	}
	require.NoError(t, json.NewDecoder(read).Decode(&shown), "%v", d.log)
	d.URL, d.EdgeURL = shown.BaseURL, shown.EdgeURL
	return d
}

// interruptAfter is the output of a program that is interrupted once it has printed text.
type interruptAfter struct {
	io.Writer
	text   string
	cancel context.CancelFunc
	tail   string
}

func (o *interruptAfter) Write(p []byte) (int, error) {
	o.tail += string(p)
	if strings.HasSuffix(o.tail, o.text) {
		o.cancel()
	}
	return o.Writer.Write(p)
}

func (o *interruptAfter) run(t *testing.T, args []string) int {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o.cancel = cancel
	return run(ctx, args, strings.NewReader(""), o, io.Discard)
}

// skip skips a test that cannot run here. If skipping is forbidden, it fails the test.
func skip(t *testing.T, reason string) {
	t.Helper()
	if os.Getenv("SHANGCLOUD_NO_SKIP") == "1" {
		t.Fatalf("SHANGCLOUD_NO_SKIP=1 forbids to skip: %s", reason)
	}
	t.Skip(reason)
}
