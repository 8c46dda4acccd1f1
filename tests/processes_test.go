package tests

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/sqlstore"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

const (
	processes  = 4
	goroutines = 100

	// lifetime is the lifetime of tokens. A token is due for a refresh after half of this
	// time.
	lifetime = time.Second

	jobVariable   = "SHANGCLOUD_TEST_JOB"
	processHeader = "X-Process"
)

// job is the work of a child process. Many goroutines call Token for each of the users,
// until the standard input of the process ends.
type job struct {
	Name    string // of the process
	URL     string // of the platform
	Driver  string
	Dialect sqlstore.Dialect
	DSN     string
	Table   string
	Users   []string

	DieBefore int           // number of the request, counted from 1, before which the process kills itself while it holds the lock
	Timeout   time.Duration // as in oauth2login.Options; the hold of a lock is 15 seconds longer
}

// report is the result of a job.
type report struct {
	Calls, Failures int
	Late            int      // calls that failed because of the store
	Lost            int      // calls that asked for a new login
	Errors          []string // the first errors
	Slowest         time.Duration
}

// sender adds the process's name to its requests. The request with the number dieBefore is
// not sent: it kills the process.
type sender struct {
	process   string
	dieBefore int32
	sent      *atomic.Int32
}

func (s sender) RoundTrip(r *http.Request) (*http.Response, error) {
	if s.sent.Add(1) == s.dieBefore {
		self, err := os.FindProcess(os.Getpid())
		if err == nil {
			err = self.Kill()
		}
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Header.Set(processHeader, s.process)
	return http.DefaultTransport.RoundTrip(r)
}

func (j job) provider() (*shangcloud.Provider, error) {
	return shangcloud.New(&oauth2.Config{
		ClientID: "demo", ClientSecret: "hush-hush", RedirectURL: "http://127.0.0.1/callback", Endpoint: shangcloud.EndpointAt(j.URL),
	}, &oauth2login.Options{
		HTTPClient: &http.Client{Transport: sender{j.Name, int32(j.DieBefore), new(atomic.Int32)}},
		Timeout:    j.Timeout, Logger: slog.New(slog.DiscardHandler),
	})
}

// encrypted returns the encrypted store of a user's token.
func encrypted(tokens *sqlstore.Tokens, keys *tokenstore.Keys, user string) oauth2login.TokenStore {
	return tokenstore.Encrypted(tokens.User(user), keys, "shangcloud", user)
}

// files is the driver of a job that keeps each user's token in a file. The directory is
// DSN.
const files = "files"

// stores returns the store of each user.
func (j job) stores() (func(user string) oauth2login.TokenStore, error) {
	if j.Driver == files {
		all := make(map[string]oauth2login.TokenStore)
		for _, user := range j.Users {
			file, err := tokenstore.NewFile(filepath.Join(j.DSN, user))
			if err != nil {
				return nil, err
			}
			all[user] = file
		}
		return func(user string) oauth2login.TokenStore { return all[user] }, nil
	}
	db, err := openPool(j.Driver, j.DSN, 10)
	if err != nil {
		return nil, err
	}
	tokens, err := sqlstore.NewTokens(db, j.Dialect, sqlstore.Config{Table: j.Table})
	if err != nil {
		return nil, err
	}
	keys, err := tokenstore.NewKeys(key(0))
	if err != nil {
		return nil, err
	}
	return func(user string) oauth2login.TokenStore { return encrypted(tokens, keys, user) }, nil
}

// work is the main function of a child process.
func work(text string) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return fail(err)
	}
	provider, err := j.provider()
	if err != nil {
		return fail(err)
	}
	storeOf, err := j.stores()
	if err != nil {
		return fail(err)
	}
	shared := make(map[string]*oauth2login.TokenSource)
	for _, u := range j.Users {
		shared[u] = provider.StoredTokens(storeOf(u))
	}

	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	var (
		wg  sync.WaitGroup
		mu  sync.Mutex
		all report
	)
	for i := range goroutines {
		wg.Go(func() {
			var mine report
			for n := i; ctx.Err() == nil; n++ {
				user := j.Users[n%len(j.Users)]
				src := shared[user]
				if i%10 == 0 { // a new source has to load the token first
					src = provider.StoredTokens(storeOf(user))
				}
				begin := time.Now()
				tok, err := src.Token()
				mine.Slowest = max(mine.Slowest, time.Since(begin))
				mine.Calls++
				if err == nil && tok.AccessToken == "" {
					err = fmt.Errorf("an empty token")
				}
				switch {
				case err == nil:
				case errors.Is(err, oauth2login.ErrTokenStore):
					mine.Late++
					mine.Errors = append(mine.Errors, describe(err))
				default:
					mine.Failures++
					if errors.Is(err, oauth2login.ErrLoginRequired) {
						mine.Lost++
					}
					mine.Errors = append(mine.Errors, describe(err))
				}
				time.Sleep(pause())
			}
			mu.Lock()
			defer mu.Unlock()
			all.Calls += mine.Calls
			all.Failures += mine.Failures
			all.Late += mine.Late
			all.Lost += mine.Lost
			all.Errors = append(all.Errors, mine.Errors...)
			all.Slowest = max(all.Slowest, mine.Slowest)
		})
	}
	wg.Wait()
	if err := provider.Shutdown(context.Background()); err != nil {
		return fail(err)
	}
	all.Errors = all.Errors[:min(len(all.Errors), 5)]
	if err := json.NewEncoder(os.Stdout).Encode(all); err != nil {
		return fail(err)
	}
	return 0
}

// pause returns how long a goroutine waits between two calls.
func pause() time.Duration {
	if long {
		return 5 * time.Millisecond
	}
	return 50 * time.Millisecond
}

// describe returns the texts of all wrapped errors, for the report of a failed test.
func describe(err error) string {
	text := err.Error()
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		if next := e.Unwrap(); next != nil {
			text += " < " + describe(next)
		}
	case interface{ Unwrap() []error }:
		for _, next := range e.Unwrap() {
			text += " < " + describe(next)
		}
	}
	return text
}

// child is a running child process.
type child struct {
	name  string
	cmd   *exec.Cmd
	stdin io.Closer
	out   bytes.Buffer
	ended chan struct{}
}

func startChild(t testing.TB, j job) *child {
	t.Helper()
	text, err := json.Marshal(j)
	require.NoError(t, err)
	c := &child{name: j.Name, cmd: exec.Command(os.Args[0]), ended: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), jobVariable+"="+string(text))
	c.cmd.Stdout, c.cmd.Stderr = &c.out, &c.out
	c.stdin, err = c.cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, c.cmd.Start())
	go func() {
		defer close(c.ended)
		_ = c.cmd.Wait()
	}()
	t.Cleanup(func() { c.kill() })
	return c
}

// kill sends SIGKILL.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	<-c.ended
}

// finish lets c finish its work and returns its report.
func (c *child) finish(t testing.TB) (r report) {
	t.Helper()
	require.NoError(t, c.stdin.Close())
	select {
	case <-c.ended:
	case <-time.After(2 * patience):
		t.Fatalf("process %s does not end", c.name)
	}
	require.NoError(t, json.Unmarshal(lastLine(c.out.Bytes()), &r), "%s", c.out.String())
	return r
}

func lastLine(out []byte) []byte {
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	return lines[len(lines)-1]
}

// site is a platform that records all refreshes. It also holds the users, and the store
// that keeps their tokens.
type site struct {
	platform *shangcloudtest.Server
	url      string
	users    []string
	store    func(user string) oauth2login.TokenStore
	db       *sql.DB // the database of store
	job      job

	slow    time.Duration // the longest delay of an answer
	failing float64       // the share of refreshes that get status 503 without any effect
	calm    atomic.Bool   // if true, slow and failing are ignored

	mu       sync.Mutex
	owner    map[string]string    // owner of each refresh token that was ever issued
	issued   map[string]time.Time // when each token was issued
	uses     map[string]int       // number of uses of each refresh token, successful or not, except for requests that were cut off
	last     map[string]string    // the newest refresh token of each user
	by       map[string]int       // number of refreshes by each process
	refused  []string
	tooEarly int
	cut      int
	arrived  chan string // receives each successful refresh; may be nil
}

func newProcessSite(t testing.TB, d database, users int) *site {
	t.Helper()
	s := &site{
		platform: shangcloudtest.New(),
		owner:    make(map[string]string), issued: make(map[string]time.Time), uses: make(map[string]int),
		last: make(map[string]string), by: make(map[string]int),
		arrived: make(chan string, 1),
	}
	server := httptest.NewServer(s)
	t.Cleanup(func() {
		_ = s.platform.Close()
		server.CloseClientConnections()
		server.Close()
	})
	s.url = server.URL
	s.platform.AddClient(shangcloudtest.Client{ID: "demo", Secret: "hush-hush", RedirectURIs: []string{"http://127.0.0.1/callback"}})
	s.platform.Configure(func(c *shangcloudtest.Settings) { c.TokenLifetime = lifetime })

	s.job = job{URL: s.url, Driver: d.driver, Dialect: d.dialect, DSN: d.dsn(t)}
	for i := range users {
		s.users = append(s.users, fmt.Sprint(10001+i))
	}
	s.job.Users = s.users
	if d.driver == files {
		var err error
		s.store, err = s.job.stores()
		require.NoError(t, err)
	} else {
		s.db = open(t, d, s.job.DSN, 4)
		s.job.Table = newTable(t, s.db)
		tokens, keys := sameTokens(t, d, s.db, s.job.Table), newKeys(t, 0)
		s.store = func(user string) oauth2login.TokenStore { return encrypted(tokens, keys, user) }
	}
	for i := range users {
		uid := int64(10001 + i)
		s.platform.AddUser(shangcloudtest.User{ID: uid})
		user := fmt.Sprint(uid)
		access, refresh := s.platform.Issue("demo", uid)
		s.owner[refresh], s.last[user] = user, refresh
		require.NoError(t, s.store(user).SaveToken(patient(t), &oauth2.Token{
			AccessToken: access, TokenType: "Bearer", RefreshToken: refresh, Expiry: time.Now(),
		}))
	}
	return s
}

func (s *site) start(t testing.TB, name string) *child {
	t.Helper()
	j := s.job
	j.Name = name
	return startChild(t, j)
}

// ServeHTTP lets the platform answer a request, and records refreshes.
func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	form, _ := url.ParseQuery(string(body))
	used := form.Get("refresh_token")
	r.Body = io.NopCloser(bytes.NewReader(body))
	if !s.calm.Load() && rand.Float64() < s.failing {
		time.Sleep(rand.N(s.slow))
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	answer := httptest.NewRecorder()
	func() {
		defer func() {
			if e := recover(); e != nil {
				s.mu.Lock()
				s.cut++
				s.mu.Unlock()
				panic(e)
			}
		}()
		s.platform.ServeHTTP(answer, r)
	}()
	s.book(r.Header.Get(processHeader), used, answer)
	if !s.calm.Load() && s.slow > 0 {
		time.Sleep(rand.N(s.slow)) // the token is rotated at once, but the answer is slow
	}
	for k, v := range answer.Header() {
		w.Header()[k] = v
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

func (s *site) book(process, used string, answer *httptest.ResponseRecorder) {
	var got struct {
		RefreshToken string `json:"refresh_token"`
	}
	_ = json.Unmarshal(answer.Body.Bytes(), &got)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uses[used]++
	if answer.Code != http.StatusOK || got.RefreshToken == "" {
		s.refused = append(s.refused, fmt.Sprintf("%s: %d %s", process, answer.Code, answer.Body))
		return
	}
	now := time.Now()
	if at, known := s.issued[used]; known && now.Sub(at) < lifetime/2 {
		s.tooEarly++
	}
	user := s.owner[used]
	s.owner[got.RefreshToken], s.last[user], s.issued[got.RefreshToken] = user, got.RefreshToken, now
	s.by[process]++
	select {
	case s.arrived <- process:
	default:
	}
}

// refreshed waits for a refresh by a process whose name is not the value of but.
func (s *site) refreshed(t testing.TB, but string, limit time.Duration) {
	t.Helper()
	late := time.After(limit)
	for {
		select {
		case process := <-s.arrived:
			if process != but {
				return
			}
		case <-late:
			t.Fatalf("no refresh by anybody but %q within %v; locks: %v", but, limit, s.locks())
		}
	}
}

// awaitRefreshes waits until there were at least enough refreshes. On a slow machine, this
// may take longer than the planned duration of the test.
func (s *site) awaitRefreshes(t testing.TB, enough int) {
	t.Helper()
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.uses) >= enough
	}, 2*patience, 20*time.Millisecond, "tokens that are due are not refreshed")
}

// locks describes SQLite's lock table, for the report of a failed test.
func (s *site) locks() (text string) {
	if s.job.Dialect == sqlstore.SQLite {
		query := "SELECT group_concat(owner || ' until ' || until) FROM " + s.job.Table + "_lock"
		if err := s.db.QueryRow(query).Scan(&text); err != nil {
			text = err.Error()
		}
		text += fmt.Sprintf(", now %d", time.Now().UnixMilli())
	}
	return text
}

// check compares the records with the store. No refresh token was used twice, or before
// the token was due. For each user, the store contains the last token that the platform
// issued, and that token is valid.
func (s *site) check(t testing.TB) (refreshes int, by map[string]int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	assert.Empty(t, s.refused, "refused by the platform")
	assert.Zero(t, s.tooEarly, "refreshes of tokens that were not due")
	for _, n := range s.uses {
		assert.Equal(t, 1, n, "uses of one refresh token")
		refreshes += n
	}
	for _, user := range s.users {
		tok, err := s.store(user).LoadToken(patient(t))
		require.NoError(t, err)
		require.NotNil(t, tok)
		assert.Equal(t, s.last[user], tok.RefreshToken, "the store has the newest token")
		assert.Zero(t, s.uses[tok.RefreshToken], "which nobody has used")
	}
	by = maps.Clone(s.by)
	provider, err := job{Name: "check", URL: s.url}.provider()
	require.NoError(t, err)
	s.mu.Unlock() // because the platform needs the lock
	defer s.mu.Lock()
	for _, user := range s.users {
		tok, err := s.store(user).LoadToken(patient(t))
		require.NoError(t, err)
		_, err = provider.OAuth2().TokenSource(provider.ClientContext(t.Context()), &oauth2.Token{RefreshToken: tok.RefreshToken}).Token()
		assert.NoError(t, err, "a login was lost")
	}
	return refreshes, by
}

// TestProcesses runs four processes with 100 goroutines each on the same rows. Tokens are
// due every half second, with rotation and reuse detection. Each token that is due must be
// refreshed exactly once, without errors. The long run has more rows, and its goroutines
// call ten times as often.
func TestProcesses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name             string
		users, longUsers int
		short, long      time.Duration
	}{
		{"one row", 1, 1, 3 * time.Second, 3 * time.Minute},
		{"many rows", 20, 50, 3 * time.Second, time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, d := range databases {
				t.Run(d.name, func(t *testing.T) {
					users, length := c.users, c.short
					if long {
						users, length = c.longUsers, c.long
					}
					if d.name == sqLite.name || d.name == pgBouncer.name {
						if !long {
							t.Skip("SHANGCLOUD_LONG_TESTS=1 is for this")
						}
						users, length = min(users, 10), 20*time.Second
					}
					s := newProcessSite(t, d, users)
					s.job.Timeout = time.Minute // a busy machine may need it
					begin := time.Now()
					var children []*child
					for i := range processes {
						children = append(children, s.start(t, fmt.Sprint(i)))
					}
					time.Sleep(length)
					s.awaitRefreshes(t, users*(int(2*length/lifetime)+1)/3)
					calls, late, slowest := 0, 0, time.Duration(0)
					for _, c := range children {
						r := c.finish(t)
						assert.Zero(t, r.Failures, "%q", r.Errors)
						// A store call may take 3 seconds. A busy machine may need longer.
						if r.Late > 0 {
							assert.Greater(t, r.Slowest, 2*time.Second, "the store fails at once: %q", r.Errors)
						}
						assert.Greater(t, r.Calls, r.Late)
						calls += r.Calls
						late += r.Late
						slowest = max(slowest, r.Slowest)
					}
					took := time.Since(begin)
					n, by := s.check(t)
					most := users * (int(2*took/lifetime) + 1)
					t.Logf("%d refreshes in %v, of at most %d, by %v, for %d calls; %d were late, the slowest took %v", n, took.Round(time.Millisecond), most, by, calls, late, slowest.Round(time.Millisecond))
					assert.LessOrEqual(t, n, most)
				})
			}
		})
	}
}

// TestProcesses_unreliable_platform: the platform takes up to 7 seconds to answer, and
// answers 30 % of the refreshes with status 503. Four processes use the tokens. If killed
// is true, further processes start one after another. Each of them dies after it has taken
// the lock and before it sends the request. No login may be lost.
func TestProcesses_unreliable_platform(t *testing.T) {
	if !long {
		t.Skip("six runs of many seconds, on a machine that has nothing else to do: SHANGCLOUD_LONG_TESTS=1")
	}
	folder := database{name: "files", driver: files, dsn: func(t testing.TB) string { return t.TempDir() }}
	for _, d := range []database{postgreSQL, sqLite, folder} {
		for _, killed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/killed %v", d.name, killed), func(t *testing.T) {
				const users, slow, length = 40, 7 * time.Second, 150 * time.Second
				s := newProcessSite(t, d, users)
				s.slow, s.failing = slow, 0.3
				var children []*child
				for i := range processes {
					children = append(children, s.start(t, fmt.Sprint(i)))
				}
				kills := 0
				for begin := time.Now(); time.Since(begin) < length; {
					if !killed {
						time.Sleep(time.Second)
						continue
					}
					// The victim has only one user. So it has only one pending refresh
					// when it dies. If it had more users, its death would also cut off
					// requests that it has already sent.
					j := s.job
					j.Name, j.DieBefore, j.Users = fmt.Sprint("victim ", kills), 2, s.users[kills%users:][:1]
					victim := startChild(t, j)
					select {
					case <-victim.ended:
						kills++
					case <-time.After(length - time.Since(begin)):
						assert.Zero(t, victim.finish(t).Lost)
					}
				}
				failures := 0
				for _, c := range children {
					r := c.finish(t)
					failures += r.Failures
					assert.Zero(t, r.Lost, "%q", r.Errors)
				}
				s.calm.Store(true)
				n, by := s.check(t)
				t.Logf("%d refreshes by %v, %d callers with an error, %d killed", n, by, failures, kills)
				assert.GreaterOrEqual(t, n, users, "tokens are refreshed")
				assert.Equal(t, killed, kills > 0)
			})
		}
	}
}

// TestProcesses_killed kills one process after another with SIGKILL. At that moment, the
// platform has received a refresh request of the process, but has not processed it. The
// other processes must continue at once. With SQLite, they continue when the lock has
// expired, after 25 seconds.
//
// One case is not tested, because no client can prevent it: a process is killed after the
// platform has rotated the token and before the new token is saved. Then the token is
// lost.
func TestProcesses_killed(t *testing.T) {
	t.Parallel()
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			kills, limit := 3, 45*time.Second
			if long {
				kills = 60
			}
			if d.dialect == sqlstore.SQLite {
				if !long {
					t.Skip("a lock of SQLite takes 25 seconds to end: SHANGCLOUD_LONG_TESTS=1")
				}
				kills, limit = 3, 2*patience
			}
			s := newProcessSite(t, d, 1)
			if d.dialect != sqlstore.SQLite {
				s.job.Timeout = time.Minute // if a lock did not end with its connection, it would last 75 seconds
			}
			children := make(map[string]*child)
			for i := range processes {
				c := s.start(t, fmt.Sprint(i))
				children[c.name] = c
			}
			var slowest time.Duration
			for n := range kills {
				s.refreshed(t, "", patience) // wait until everything works
				caught := make(chan string, 1)
				s.platform.Fault("/oauth/token", shangcloudtest.Fault{
					Times: 1,
					Before: func(r *http.Request) {
						caught <- r.Header.Get(processHeader)
						<-r.Context().Done()
					},
					Drop: true,
				})
				var victim string
				select {
				case victim = <-caught:
				case <-time.After(patience):
					t.Fatal("no refresh to be killed in")
				}
				select { // forget earlier refreshes
				case <-s.arrived:
				default:
				}
				children[victim].kill()
				begin := time.Now()
				s.refreshed(t, victim, limit)
				slowest = max(slowest, time.Since(begin))
				delete(children, victim)
				c := s.start(t, fmt.Sprint(processes+n))
				children[c.name] = c
			}
			for _, c := range children {
				r := c.finish(t)
				if d.dialect != sqlstore.SQLite { // in SQLite, calls wait for 15 seconds and fail
					assert.Zero(t, r.Failures, "%q", r.Errors)
				}
			}
			n, _ := s.check(t)
			assert.Equal(t, kills, s.cut)
			t.Logf("%d killed, %d refreshes; the next one came after %v at the latest", kills, n, slowest.Round(time.Millisecond))
		})
	}
}
