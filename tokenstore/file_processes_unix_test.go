//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package tokenstore_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// In the tests below, 4 processes share the token files of several users. The platform
// runs in the parent process. It rotates refresh tokens. If a used refresh token is sent
// again, it ends the login. Tokens live for a second and are due for a refresh after half
// a second.
const (
	processes  = 4
	goroutines = 100 // of each process, on the first user's file
	others     = 2   // of each process, on every other user's file
	lifetime   = time.Second

	processHeader = "X-Test-Process"
)

// party holds the platform, its records, and the child processes.
type party struct {
	t        *testing.T
	dir      string
	platform *shangcloudtest.Server
	url      string
	files    []*tokenstore.File

	// The platform holds a read lock on gate while it works on a refresh. If a test locks
	// gate, the platform stops.
	gate sync.RWMutex

	mu        sync.Mutex
	waiting   map[*http.Request]arrival // requests that wait at the gate
	logins    []*login
	byRefresh map[string]*login
	refused   []string
	dead      map[string]bool
	seen      map[string]bool // all access tokens that goroutines were given
	children  map[string]*process
}

// login is what the platform knows about a user's login.
type login struct {
	user      int
	refresh   string // the valid refresh token
	issuedAt  time.Time
	by        string // the process that got this refresh token
	refreshes int
	access    map[string]bool
	soonest   time.Duration // the shortest time between an answer and the next request
	takenOver chan struct{} // the next refresh closes it; may be nil
}

// arrival is a refresh request.
type arrival struct {
	by    string
	login *login // nil: the refresh token is not valid
	at    time.Time
}

type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	done  chan struct{} // closed when the output of the process has been read
}

func newParty(t *testing.T, users int) *party {
	p := &party{
		t: t, dir: t.TempDir(), platform: shangcloudtest.New(), waiting: map[*http.Request]arrival{},
		byRefresh: map[string]*login{}, dead: map[string]bool{}, seen: map[string]bool{}, children: map[string]*process{},
	}
	t.Cleanup(func() { p.platform.Close() })
	p.platform.Configure(func(c *shangcloudtest.Settings) { c.TokenLifetime = lifetime })
	p.platform.AddClient(shangcloudtest.Client{ID: "demo", Secret: "hush-hush"})
	for user := range users {
		uid := int64(10001 + user)
		p.platform.AddUser(shangcloudtest.User{ID: uid})
		access, refresh := p.platform.Issue("demo", uid)
		f := fileAt(t, filepath.Join(p.dir, fmt.Sprintf("%d.json", user)))
		require.NoError(t, f.SaveToken(t.Context(), &oauth2.Token{AccessToken: access, RefreshToken: refresh, Expiry: time.Now(), ExpiresIn: 1}))
		p.files = append(p.files, f)
		l := &login{user: user, refresh: refresh, access: map[string]bool{}, soonest: time.Hour}
		p.logins = append(p.logins, l)
		p.byRefresh[refresh] = l
	}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	p.url = server.URL
	return p
}

// ServeHTTP is the platform's token endpoint. It records the requests.
func (p *party) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	at := time.Now()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	form, _ := url.ParseQuery(string(body))
	p.mu.Lock()
	l := p.byRefresh[form.Get("refresh_token")]
	if l != nil && l.refresh != form.Get("refresh_token") {
		l = nil
	}
	p.mu.Unlock()
	answer := p.refresh(r, arrival{r.Header.Get(processHeader), l, at})
	maps.Copy(w.Header(), answer.Header())
	w.WriteHeader(answer.Code)
	w.Write(answer.Body.Bytes())
}

// refresh lets the platform answer a request once the gate is open.
func (p *party) refresh(r *http.Request, a arrival) *httptest.ResponseRecorder {
	p.mu.Lock()
	p.waiting[r] = a
	p.mu.Unlock()
	p.gate.RLock()
	defer p.gate.RUnlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.waiting, r)
	if p.dead[a.by] {
		panic(http.ErrAbortHandler) // as if the request had not reached the platform
	}
	answer := httptest.NewRecorder()
	p.platform.ServeHTTP(answer, r)
	var tok struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	}
	l := a.login
	if answer.Code != http.StatusOK || json.Unmarshal(answer.Body.Bytes(), &tok) != nil || l == nil {
		p.refused = append(p.refused, fmt.Sprintf("status %d: %s", answer.Code, answer.Body))
		return answer
	}
	if l.refreshes > 0 {
		l.soonest = min(l.soonest, a.at.Sub(l.issuedAt))
	}
	l.refreshes++
	l.refresh, l.by, l.issuedAt = tok.Refresh, a.by, time.Now()
	l.access[tok.Access] = true
	p.byRefresh[tok.Refresh] = l
	if l.takenOver != nil {
		close(l.takenOver)
		l.takenOver = nil
	}
	return answer
}

// start starts a process, which runs until p ends it.
func (p *party) start(name string) {
	c := child(p.t, p.dir, "URL="+p.url, "NAME="+name, fmt.Sprint("USERS=", len(p.logins)))
	c.Stderr = os.Stderr
	stdin, err := c.StdinPipe()
	require.NoError(p.t, err)
	out, err := c.StdoutPipe()
	require.NoError(p.t, err)
	require.NoError(p.t, c.Start())
	child := &process{c, stdin, make(chan struct{})}
	p.children[name] = child
	p.t.Cleanup(func() { _ = c.Process.Kill() }) // if the test ends early
	go func() {
		defer close(child.done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if token, ok := strings.CutPrefix(lines.Text(), "token "); ok {
				p.mu.Lock()
				p.seen[token] = true
				p.mu.Unlock()
			} else if !ofTesting(lines.Text()) {
				p.t.Errorf("%s: %s", name, lines.Text())
			}
		}
	}()
}

// kill kills a process. The caller has locked the gate.
func (p *party) kill(name string) {
	c := p.children[name]
	delete(p.children, name)
	require.NoError(p.t, c.cmd.Process.Kill())
	<-c.done
	assert.ErrorContains(p.t, c.cmd.Wait(), "killed")
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dead[name] = true
}

// allRefreshed reports whether the token of each user has been refreshed at least once.
func (p *party) allRefreshed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !slices.ContainsFunc(p.logins, func(l *login) bool { return l.refreshes == 0 })
}

// end lets all processes finish, and checks the files.
func (p *party) end() (refreshes int) {
	for _, c := range p.children {
		c.stdin.Close()
	}
	for name, c := range p.children {
		<-c.done
		assert.NoError(p.t, c.cmd.Wait(), name)
	}
	p.mu.Lock()
	assert.Empty(p.t, p.refused, "every refresh is granted: no refresh token is used twice")
	issued := map[string]bool{}
	for _, l := range p.logins {
		tok, err := p.files[l.user].LoadToken(p.t.Context())
		require.NoError(p.t, err)
		assert.Equal(p.t, l.refresh, tok.RefreshToken, "the last token is the one that is saved")
		assert.Positive(p.t, l.refreshes)
		assert.GreaterOrEqual(p.t, l.soonest, lifetime/2-10*time.Millisecond, "a token was refreshed that was not due")
		assert.Len(p.t, l.access, l.refreshes)
		refreshes += l.refreshes
		maps.Copy(issued, l.access)
	}
	for token := range p.seen {
		if !issued[token] {
			p.t.Error("somebody was given a token that the platform did not issue, or a part of one")
		}
	}
	p.mu.Unlock()

	time.Sleep(lifetime)
	provider := providerOf(p.t, p.url, "parent")
	for _, f := range p.files {
		_, err := provider.StoredTokens(f).Token()
		assert.NoError(p.t, err, "the login is not lost")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	total := 0
	for _, l := range p.logins {
		total += l.refreshes
	}
	assert.Equal(p.t, refreshes+len(p.logins), total, "each has been asked for by now")
	return refreshes
}

func providerOf(t *testing.T, url, name string) *shangcloud.Provider {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = goroutines
	t.Cleanup(transport.CloseIdleConnections)
	return newProvider(t, url, named{name, transport})
}

// named adds the name of the process to each request, so that the platform knows the
// sender.
type named struct {
	name string
	base http.RoundTripper
}

func (n named) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(processHeader, n.name)
	return n.base.RoundTrip(r)
}

// beProcess is the main function of a child process. It asks for tokens until its standard
// input is closed. Then it shuts down gracefully.
func beProcess(t *testing.T, dir string) {
	provider := providerOf(t, os.Getenv("URL"), os.Getenv("NAME"))
	users, err := strconv.Atoi(os.Getenv("USERS"))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	var wg sync.WaitGroup
	var seen sync.Map
	for user := range users {
		src := provider.StoredTokens(fileAt(t, filepath.Join(dir, fmt.Sprintf("%d.json", user))))
		n := others
		if user == 0 {
			n = goroutines
		}
		for range n {
			wg.Go(func() { askForTokens(ctx, t, src, &seen) })
		}
	}
	wg.Wait()
	require.NoError(t, provider.Shutdown(contextFor(t, patience)))
}

// askForTokens reports each token that is new to this process.
func askForTokens(ctx context.Context, t *testing.T, src oauth2.TokenSource, seen *sync.Map) {
	for ctx.Err() == nil {
		tok, err := src.Token()
		if !assert.NoError(t, err) {
			return
		}
		if _, known := seen.LoadOrStore(tok.AccessToken, true); !known {
			fmt.Println("token", tok.AccessToken)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestFile_shared_by_processes runs 4 processes. Each has 100 goroutines on one file, and
// a few more on each of many other files.
func TestFile_shared_by_processes(t *testing.T) {
	if dir := childDir(t); dir != "" {
		beProcess(t, dir)
		return
	}
	users, duration := 10, 3*time.Second
	if long() {
		users, duration = 50, time.Minute
	}
	p := newParty(t, users)
	for i := range processes {
		p.start(fmt.Sprint("process ", i))
	}
	time.Sleep(duration)
	require.Eventually(t, p.allRefreshed, patience, 20*time.Millisecond, "tokens that are due are not refreshed")
	refreshes := p.end()
	// The last token of each user may come too late to be used. On a slow machine, earlier
	// tokens may come too late, too.
	assert.GreaterOrEqual(t, len(p.seen), (refreshes-users)/2, "tokens are refreshed that nobody has")
	t.Logf("%d users, %d processes: %d refreshes in about %v", users, processes, refreshes, duration)
}

// TestFile_processes_are_killed kills one process after another and starts a new one. It
// alternates between two moments:
//
//   - a refresh request has been sent and has not reached the platform;
//   - the new token has just been saved, and the lock may still be held.
//
// In both cases every token that the platform has issued is already saved.
// TestFile_killed_before_the_save covers a death between issue and save.
func TestFile_processes_are_killed(t *testing.T) {
	if dir := childDir(t); dir != "" {
		beProcess(t, dir)
		return
	}
	users, kills, pause := 5, 8, time.Duration(0)
	if long() {
		users, kills, pause = 20, 100, lifetime/2
	}
	p := newParty(t, users)
	for i := range processes {
		p.start(fmt.Sprint("process ", i))
	}
	var slowest time.Duration
	for i := range kills {
		time.Sleep(pause)
		if i%2 == 1 {
			p.kill(p.stopAfterSave())
			p.gate.Unlock()
		} else {
			held := p.stopBeforeRequest()
			p.kill(held.by)
			takenOver := make(chan struct{})
			p.mu.Lock()
			held.login.takenOver = takenOver
			p.mu.Unlock()
			start := time.Now()
			p.gate.Unlock()
			select {
			case <-takenOver:
				slowest = max(slowest, time.Since(start))
			case <-time.After(patience):
				t.Fatal("the others do not go on")
			}
		}
		p.start(fmt.Sprint("successor ", i))
	}
	refreshes := p.end()
	t.Logf("%d kills, %d users, %d refreshes; another process took over after %v at most",
		kills, users, refreshes, slowest.Round(time.Millisecond))
}

// stopBeforeRequest closes the gate. It returns a refresh request that waits at the gate.
func (p *party) stopBeforeRequest() arrival {
	p.gate.Lock()
	p.awaitSaves()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		p.mu.Lock()
		for _, a := range p.waiting {
			if p.children[a.by] != nil && a.login != nil {
				p.mu.Unlock()
				return a
			}
		}
		p.mu.Unlock()
	}
	p.t.Fatal("nobody refreshes")
	return arrival{}
}

// stopAfterSave closes the gate while a process is saving a token, and waits for the end
// of the save. It returns the name of that process.
func (p *party) stopAfterSave() string {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		p.gate.Lock()
		if last := p.awaitSaves(); last != nil && p.children[last.by] != nil {
			return last.by
		}
		p.gate.Unlock()
	}
	p.t.Fatal("nobody saves")
	return ""
}

// awaitSaves waits until the files contain all tokens that the platform has issued. It
// returns the login whose token was saved last. If all tokens were already saved, it
// returns nil.
func (p *party) awaitSaves() (last *login) {
	end := time.Now().Add(patience)
	for _, l := range p.logins {
		for {
			tok, err := p.files[l.user].LoadToken(p.t.Context())
			require.NoError(p.t, err)
			if tok.RefreshToken == l.refresh { // nobody writes to l: the gate is closed
				break
			}
			require.True(p.t, time.Now().Before(end), "a token is not saved")
			last = l
		}
	}
	return last
}

// TestFile_killed_before_the_save shows a loss that no client can prevent. A process dies
// after the platform has rotated the refresh token, and before the new refresh token is
// saved. When another process uses the old token, the platform takes that for theft and
// ends the login. The error says so.
func TestFile_killed_before_the_save(t *testing.T) {
	if dir := childDir(t); dir != "" {
		beProcess(t, dir)
		return
	}
	p := newParty(t, 1)
	answered := make(chan struct{})
	var once sync.Once
	holding := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		p.ServeHTTP(httptest.NewRecorder(), r)
		once.Do(func() { close(answered) })
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	}))
	defer holding.Close()
	direct := p.url
	p.url = holding.URL
	p.start("victim")
	<-answered
	p.gate.Lock()
	p.kill("victim")
	p.gate.Unlock()

	src := providerOf(t, direct, "parent").StoredTokens(p.files[0])
	_, err := src.Token()
	assert.ErrorIs(t, err, oauth2login.ErrLoginRequired)
	assert.Len(t, p.refused, 1)

	access, refresh := p.platform.Issue("demo", 10001)
	tok := &oauth2.Token{AccessToken: access, RefreshToken: refresh, Expiry: time.Now().Add(time.Hour)}
	require.NoError(t, src.SetToken(t.Context(), tok), "the user logs in again")
	_, err = src.Token()
	assert.NoError(t, err)
}
