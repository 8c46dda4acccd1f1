package security_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// longTests makes the generators run long, with 100,000 hostile callbacks and 10,000
// hostile answers. The long runs take minutes.
var longTests = os.Getenv("SHANGCLOUD_LONG_TESTS") != ""

// generatorSeed is the seed of the generators. Any other number works as well.
const generatorSeed = 20260729

// A run is a series of rounds in a synctest bubble. It records the log, which must not
// contain secrets. After the rounds, memory and the number of goroutines must be as before.
type run struct {
	*rand.Rand
	mu      sync.Mutex
	logged  bytes.Buffer
	control int // rounds that had to succeed and did
	tally   map[string]int
}

func (r *run) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.logged.Write(p)
}

// takeLog returns what has been logged since its last call.
func (r *run) takeLog() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.logged.Reset()
	return r.logged.String()
}

// oneOf returns a random element of list.
func oneOf[T any](r *run, list []T) T { return list[r.IntN(len(list))] }

// inRun calls begin in a synctest bubble. Then it calls round n times. round is the
// function that begin returned.
func inRun(t *testing.T, n int, begin func(t *testing.T, r *run) (round func(i int))) {
	r := &run{Rand: rand.New(rand.NewPCG(generatorSeed, 0)), tally: make(map[string]int)}
	t.Logf("seed %d, %d rounds", generatorSeed, n)
	logger, writer, flags := slog.Default(), log.Writer(), log.Flags()
	slog.SetDefault(slog.New(slog.NewTextHandler(r, &slog.HandlerOptions{Level: slog.LevelDebug})))
	defer func() {
		slog.SetDefault(logger)
		log.SetOutput(writer)
		log.SetFlags(flags)
	}()

	goroutines := runtime.NumGoroutine()
	synctest.Test(t, func(t *testing.T) {
		round := begin(t, r)
		var early uint64
		for i := range n {
			round(i)
			if i == n/10 {
				early = heapInUse()
			}
			if t.Failed() {
				t.Fatalf("in round %d", i)
			}
		}
		late := heapInUse()
		t.Logf("heap in use: %d KiB after a tenth, %d KiB at the end; %d controls; %v", early>>10, late>>10, r.control, r.tally)
		assert.Less(t, late, early+4<<20, "memory grows")
		assert.Greater(t, r.control, n/500, "the run can tell a login from none")
	})
	// On a busy machine, finished goroutines may take a while to exit.
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > goroutines && time.Now().Before(end); {
		runtime.Gosched()
	}
	if runtime.NumGoroutine() > goroutines {
		stacks := make([]byte, 1<<20)
		t.Logf("%s", stacks[:runtime.Stack(stacks, true)])
	}
	assert.LessOrEqual(t, runtime.NumGoroutine(), goroutines, "goroutines are left")
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC() // frees what finalizers and pools still held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// genuine is a pending login, with the values that its browser would send to the callback.
type genuine struct {
	site        *site
	cookie      *http.Cookie
	state, code string
	started     time.Time
	finished    time.Time // zero: not finished
}

// secrets lists the parts of g that must not be printed.
func (g *genuine) secrets() []string {
	_, secret, sealed := partsOf(g.cookie.Value)
	return slices.DeleteFunc([]string{g.state, g.code, secret, sealed}, func(s string) bool { return s == "" })
}

// attempt is a callback that is being built.
type attempt struct {
	of      *genuine
	others  [2]*genuine // two other logins: one lends its cookies, the other its state and code
	site    *site
	method  string
	query   url.Values
	raw     string // appended to the query
	cookies []*http.Cookie
	header  http.Header
	body    string
}

func newAttempt(g *genuine) *attempt {
	return &attempt{of: g, site: g.site, method: "GET", query: url.Values{"state": {g.state}, "code": {g.code}, "iss": {"https://shangcloud.test"}}, cookies: []*http.Cookie{g.cookie}, header: http.Header{}}
}

func (a *attempt) make() (*oauth2login.Login, error) {
	r := httptest.NewRequest(a.method, "https://app.example/callback", strings.NewReader(a.body))
	r.URL.RawQuery = a.query.Encode() + a.raw
	r.Header = a.header
	for _, c := range a.cookies {
		r.Header["Cookie"] = append(r.Header["Cookie"], c.Name+"="+c.Value) // AddCookie would change or drop some values
	}
	return a.site.FinishLogin(httptest.NewRecorder(), r)
}

// callbackRun holds the providers and logins that attacks choose from.
type callbackRun struct {
	*run
	platform *shangcloudtest.Server
	sites    []*site
	pending  []*genuine
	over     []*genuine // finished or expired
	sent     []string   // the codes that were sent in this round
	verifier string     // the last verifier that was sent
}

// altered returns a changed copy of s. The copy is cut off, longer by a character, or has
// one other character.
func (r *callbackRun) altered(s string) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	b, i := []byte(s), r.IntN(len(s))
	switch r.IntN(4) {
	case 0:
		return s[:i]
	case 1:
		return s + string(oneOf(r.run, []byte(letters)))
	}
	for b[i] == s[i] {
		b[i] = oneOf(r.run, []byte(letters))
	}
	return string(b)
}

// attacks lists changes to a callback. After each of them the library must refuse the
// callback, whatever else is changed. If burns is set, the callback still has the right
// cookie, so it may use up the state.
var attacks = []struct {
	name  string
	burns bool
	do    func(r *callbackRun, a *attempt)
}{
	{"no cookie", false, func(r *callbackRun, a *attempt) { a.cookies = nil }},
	{"another browser", false, func(r *callbackRun, a *attempt) { a.cookies = []*http.Cookie{a.others[0].cookie} }},
	{"another browser's secret", false, func(r *callbackRun, a *attempt) {
		a.cookies = []*http.Cookie{{Name: a.of.cookie.Name, Value: a.others[0].cookie.Value}}
	}},
	{"cookie garbage", false, func(r *callbackRun, a *attempt) {
		head, secret, sealed := partsOf(a.of.cookie.Value)
		value := oneOf(r.run, []string{
			"", ".", "...", "=", "\x00", "\xff", strings.Repeat("A", 1<<r.IntN(14)), head + ".", head + ".." + sealed, head + "." + r.altered(secret) + "." + sealed,
			"\"" + head + "." + secret + "x\"", ";" + a.of.cookie.Value, secret + "." + sealed, "x" + a.of.cookie.Value, head + "0." + secret + "." + sealed, strings.ReplaceAll(a.of.cookie.Value, ".", ""),
		})
		if sealed != "" && r.IntN(2) == 0 {
			value = head + "." + secret + "." + r.altered(sealed)
		}
		a.cookies = []*http.Cookie{{Name: a.of.cookie.Name, Value: value}}
	}},
	{"cookie of another name", false, func(r *callbackRun, a *attempt) {
		name := a.of.cookie.Name
		a.cookies = []*http.Cookie{{Value: a.of.cookie.Value, Name: oneOf(r.run, []string{
			name + "x", name + "00", strings.ToLower(name), strings.TrimPrefix(name, "__Host-"), "",
			loginCookie, loginCookie + "20", loginCookie + "-1", loginCookie + "+1", loginCookie + "01", loginCookie + "99999999999999999999",
		})}}
	}},
	{"secret in the query", false, func(r *callbackRun, a *attempt) {
		a.cookies = nil
		a.query.Set(a.of.cookie.Name, a.of.cookie.Value)
	}},
	{"missing parameter", false, func(r *callbackRun, a *attempt) {
		a.query.Del(oneOf(r.run, []string{"state", "code"}))
		a.query.Del("error")
	}},
	{"repeated parameter", false, func(r *callbackRun, a *attempt) {
		name := oneOf(r.run, []string{"state", "code", "iss", "error"})
		values := oneOf(r.run, [][]string{{a.of.state, a.of.state}, {a.of.code, a.of.code}, {"", ""}, {"x", a.of.state}, {a.of.code, "x"}})
		a.query[name] = append(a.query[name], values...)
	}},
	{"huge parameter", false, func(r *callbackRun, a *attempt) {
		a.query.Set(oneOf(r.run, []string{"state", "code"}), strings.Repeat("A", 4097+r.IntN(1<<15)))
	}},
	{"huge query", false, func(r *callbackRun, a *attempt) { a.raw += "&x=" + strings.Repeat("A", 1<<14+r.IntN(1<<14)) }},
	{"impossible characters", false, func(r *callbackRun, a *attempt) {
		name := oneOf(r.run, []string{"state", "code"})
		value := map[string]string{"state": a.of.state, "code": a.of.code}[name]
		i := r.IntN(len(value) + 1)
		a.query.Set(name, value[:i]+oneOf(r.run, []string{"\x00", "\n", "\r\n", "\x7f", "\x1b[2J", "\xff", "状", "\u202e"})+value[i:])
	}},
	{"percent garbage", false, func(r *callbackRun, a *attempt) {
		a.raw += "&" + oneOf(r.run, []string{"%", "%z", "%zz=1", "x=%", "x=%f", "a;b", "state;code", "x=%u0041"})
	}},
	{"another method", false, func(r *callbackRun, a *attempt) {
		a.method = oneOf(r.run, []string{"POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "get", "QUERY"})
	}},
	{"posted", false, func(r *callbackRun, a *attempt) {
		a.method, a.body, a.query = "POST", a.query.Encode(), oneOf(r.run, []url.Values{{}, a.query})
		a.header.Set("Content-Type", "application/x-www-form-urlencoded")
	}},
	{"prefetched", false, func(r *callbackRun, a *attempt) {
		a.header.Set(oneOf(r.run, []string{"Sec-Purpose", "Purpose", "X-Moz"}), oneOf(r.run, []string{"prefetch", "Prefetch", "prefetch;prerender"}))
	}},
	{"another provider", false, func(r *callbackRun, a *attempt) {
		for a.site == a.of.site {
			a.site = oneOf(r.run, r.sites)
		}
		for _, g := range r.pending { // the right secret, in a cookie of the other provider
			if g.site == a.site {
				head, _, _ := partsOf(g.cookie.Value)
				_, secret, sealed := partsOf(a.of.cookie.Value)
				a.cookies = append(a.cookies, &http.Cookie{Name: g.cookie.Name, Value: head + "." + secret + "." + sealed})
				break
			}
		}
	}},
	{"code and error", false, func(r *callbackRun, a *attempt) {
		a.query["code"], a.query["error"] = []string{a.of.code}, []string{oneOf(r.run, []string{"access_denied", "", "x"})}
	}},
	{"another issuer", false, func(r *callbackRun, a *attempt) {
		a.query["iss"] = []string{oneOf(r.run, []string{"", "https://evil.example", "https://shangcloud.test/", "https://SHANGCLOUD.test", "\x00"})}
	}},
	{"another state", false, func(r *callbackRun, a *attempt) {
		a.query["state"] = []string{oneOf(r.run, []string{r.altered(a.of.state), a.others[1].state, strings.Repeat("A", 43), strings.ToUpper(a.of.state) + "x"})}
	}},
	{"an error", true, func(r *callbackRun, a *attempt) {
		a.query.Del("code")
		a.query["error"] = []string{oneOf(r.run, []string{"access_denied", "server_error", "<b>", "invalid_scope", "x y"})}
		a.query["error_description"] = []string{oneOf(r.run, []string{"", "说明", "<script>", "\x00", "\xff", strings.Repeat("a", 5000)})}
	}},
	{"a code made up", true, func(r *callbackRun, a *attempt) { a.query["code"] = []string{r.altered(a.of.code) + "x"} }},
	{"another login's code", true, func(r *callbackRun, a *attempt) {
		a.query["code"] = []string{a.others[1].code}
		r.drop(a.others[1]) // the platform ends this login, because its code came from another browser
	}},
}

// harmless lists changes that do not affect the result of a callback.
var harmless = []func(r *callbackRun, a *attempt){
	func(r *callbackRun, a *attempt) { a.query.Set(fmt.Sprint("x", r.IntN(9)), "\x00\xff") },
	func(r *callbackRun, a *attempt) { a.query.Set("iss", "https://shangcloud.test") },
	func(r *callbackRun, a *attempt) { // more login cookies: the first has a wrong secret, the second a wrong provider
		_, secret, sealed := partsOf(a.of.cookie.Value)
		head, _, _ := partsOf(a.others[0].cookie.Value)
		a.cookies = append(a.cookies, &http.Cookie{Name: fmt.Sprint(loginCookie, r.IntN(20)), Value: head + "." + r.altered(secret) + "." + sealed})
		a.cookies = append(a.cookies, &http.Cookie{Name: fmt.Sprint(loginCookie, r.IntN(20)), Value: fmt.Sprintf("deadbeef.%013d.%s", r.Int64N(1e13), secret)})
	},
	func(r *callbackRun, a *attempt) {
		a.cookies = append([]*http.Cookie{{Name: a.of.cookie.Name, Value: "tossed"}}, a.cookies...)
	},
	func(r *callbackRun, a *attempt) {
		a.cookies = append(a.cookies, &http.Cookie{Name: "session", Value: strings.Repeat("s", r.IntN(2000))}, &http.Cookie{Name: "", Value: "=;,\x00"})
	},
	func(r *callbackRun, a *attempt) {
		a.header.Set(oneOf(r.run, []string{"X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "Origin", "Referer", "Authorization"}), "http://evil.example")
	},
}

// others returns two pending logins other than g.
func (r *callbackRun) others(g *genuine) (two [2]*genuine) {
	for two[0] == two[1] || two[0] == g || two[1] == g {
		two = [2]*genuine{oneOf(r.run, r.pending), oneOf(r.run, r.pending)}
	}
	return two
}

func (r *callbackRun) drop(g *genuine) {
	r.pending = slices.DeleteFunc(r.pending, func(p *genuine) bool { return p == g })
}

// fill starts logins until 32 logins are pending.
func (r *callbackRun) fill(t *testing.T) {
	for len(r.pending) < 32 {
		s := oneOf(r.run, r.sites)
		w := httptest.NewRecorder()
		require.NoError(t, s.StartLogin(w, httptest.NewRequest("GET", "https://app.example/login", nil)))
		res, err := r.platform.Transport().RoundTrip(httptest.NewRequest("GET", w.Header().Get("Location"), nil))
		require.NoError(t, err)
		res.Body.Close()
		back := mustParse(res.Header.Get("Location")).Query()
		require.NotEmpty(t, back.Get("code"))
		r.pending = append(r.pending, &genuine{s, w.Result().Cookies()[0], back.Get("state"), back.Get("code"), time.Now(), time.Time{}})
	}
}

// RoundTrip sends a token request to the platform, and records its code and verifier.
func (r *callbackRun) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	form, _ := url.ParseQuery(string(body))
	r.sent, r.verifier = append(r.sent, form.Get("code")), form.Get("code_verifier")
	out := req.Clone(req.Context())
	out.Body = io.NopCloser(bytes.NewReader(body))
	return r.platform.Transport().RoundTrip(out)
}

// renew replaces the platform with a new one. A platform remembers codes for an hour, but
// the test must measure only the memory of the library.
func (r *callbackRun) renew() {
	r.platform = shangcloudtest.New()
	for i := range 4 {
		r.platform.AddClient(shangcloudtest.Client{ID: fmt.Sprint("client", i), Secret: hush, RedirectURIs: []string{"https://app.example/callback"}})
	}
	r.platform.AddUser(shangcloudtest.User{ID: 10001})
	r.platform.AutoApprove(10001)
	r.pending = nil
}

func newCallbackRun(t *testing.T, r *run) *callbackRun {
	c := &callbackRun{run: r}
	c.renew()
	store := state.NewMemory(256)
	for i, change := range []func(*setup){
		func(c *setup) { c.States = store },
		func(c *setup) { c.States = store },
		sealedWith("1"), sealedWith("1", "2"),
	} {
		id := fmt.Sprint("client", i)
		c.sites = append(c.sites, newSiteAt(t, c.platform, change, func(conf *setup) {
			conf.ClientID, conf.ClientSecret = id, hush
			conf.row = append(conf.row, oauth2login.WithIssuer("https://shangcloud.test"))
			conf.HTTPClient = &http.Client{Transport: c}
		}))
	}
	return c
}

// The test sends generated callbacks to four providers. The callbacks belong to pending,
// finished and expired logins. The library refuses all of them. The owner of a login can
// still finish it, unless a callback has used up the state.
func TestGeneratedCallbacks(t *testing.T) {
	rounds := 3000
	if longTests {
		rounds = 100_000
	}
	inRun(t, rounds, func(t *testing.T, plain *run) func(int) {
		r := newCallbackRun(t, plain)
		return func(i int) {
			r.fill(t)
			r.attack(t)
			if i%20 == 0 {
				time.Sleep(3 * time.Second)
			}
			if i%1000 == 999 {
				r.renew()
			}
			if len(r.pending) > 0 && (time.Since(r.pending[0].started) >= 45*time.Second || r.IntN(50) == 0) {
				r.finishOldest(t)
			}
		}
	})
}

// target chooses the login of a callback. owned means that the login is still pending.
func (r *callbackRun) target() (g *genuine, owned bool) {
	g = oneOf(r.run, r.pending)
	if len(r.over) == 0 || r.IntN(4) > 0 {
		return g, true
	}
	old := oneOf(r.run, r.over)
	isFinished := !old.finished.IsZero() && time.Since(old.finished) > 5*time.Second
	if isFinished || time.Since(old.started) > 5*time.Minute {
		return old, false
	}
	return g, true
}

// forge builds a callback that must be refused. burns means that the callback may use up
// the state.
func (r *callbackRun) forge(g *genuine, owned bool) (a *attempt, names []string, burns bool) {
	a = newAttempt(g)
	a.others = r.others(g)
	for range r.IntN(3) {
		oneOf(r.run, harmless)(r, a)
	}
	least := 1
	if !owned {
		least = 0 // an unchanged callback is a replay, which must be refused too
	}
	for range least + r.IntN(3) {
		attack := oneOf(r.run, attacks)
		attack.do(r, a)
		burns = burns || attack.burns
		names = append(names, attack.name)
		r.tally[attack.name]++
	}
	return a, names, burns
}

// attack sends one callback that must be refused.
func (r *callbackRun) attack(t *testing.T) {
	r.sent = r.sent[:0]
	g, owned := r.target()
	a, names, burns := r.forge(g, owned)
	login, err := a.make()
	assert.Nil(t, login, "%q, with a login that is %v", names, owned)
	require.Error(t, err, "%q", names)
	assert.True(t, isTyped(err), "%q: %v", names, err)
	assert.LessOrEqual(t, len(r.sent), 1, "%q", names)
	if !burns {
		assert.Empty(t, r.sent, "%q", names)
	}
	text := printed(err) + r.takeLog()
	for _, secret := range append(g.secrets(), r.verifier, hush) {
		if secret != "" {
			assert.NotContains(t, text, secret, "%q", names)
		}
	}
	if owned && burns {
		r.drop(g)
	}
}

// isTyped reports whether callers can recognize err by its type or value.
func isTyped(err error) bool {
	var (
		ce *oauth2login.CallbackError
		re *oauth2.RetrieveError
	)
	return errors.As(err, &ce) || errors.As(err, &re) ||
		slices.ContainsFunc([]error{oauth2login.ErrBadCallback, oauth2login.ErrStateNotFound, oauth2login.ErrWrongBrowser, oauth2login.ErrUnavailable},
			func(e error) bool { return errors.Is(err, e) })
}

// finishOldest removes the oldest pending login. In three of four cases the login's owner
// finishes it first, before the platform's code expires. In the fourth case the login
// expires.
func (r *callbackRun) finishOldest(t *testing.T) {
	oldest := r.pending[0]
	r.drop(oldest)
	if r.over = append(r.over, oldest); len(r.over) > 64 {
		r.over = r.over[1:]
	}
	if r.IntN(4) == 0 {
		return
	}
	login, err := newAttempt(oldest).make()
	require.NoError(t, err, "what its owner began %v ago", time.Since(oldest.started))
	assert.NotEmpty(t, login.Token.AccessToken)
	oldest.finished = time.Now() // for 5 seconds, a repeated callback gets the same login
	r.control++
}

// scramble returns answer with random changes. It may insert the text repeat.
func (r *run) scramble(answer []byte, repeat string) []byte {
	for range 1 + r.IntN(4) {
		i := r.IntN(len(answer) + 1)
		j := min(len(answer), i+r.IntN(12))
		piece := oneOf(r, []string{
			string(answer[i:j]), "", "\x00", "\"", "{", "}", "[", ",", ":", "\\u0000", "\r\n", "\xff", "null", "-1", "1e999", "9223372036854775808", "\"error\":\"x\",", "%", " ",
			string(rune(r.IntN(256))), strings.Repeat("A", r.IntN(3000)), repeat,
		})
		if r.IntN(2) == 0 {
			j = i // insert the piece, replace nothing
		}
		answer = slices.Concat(answer[:i], []byte(piece), answer[j:])
	}
	return answer
}

// invented returns an object with random members. Some names are those of a good answer,
// others are unknown.
func (r *run) invented(repeat string) string {
	var members []string
	for range r.IntN(8) {
		name := oneOf(r, []string{"access_token", "token_type", "refresh_token", "expires_in", "error", "error_description", "uid", "nickname", "mail", "value", "Uid", "UID", "x", ""})
		value := oneOf(r, []string{`"at"`, `"Bearer"`, `"mac"`, `""`, `null`, `true`, `0`, `-1`, `1`, `1.5`, `1e400`, `99999999999999999999`, `{}`, `[]`, `[[[[`, `"\ud800"`, `"\r\n"`, "\"\xff\"", fmt.Sprintf("%q", repeat)})
		members = append(members, fmt.Sprintf("%q:%s", name, value))
	}
	return "{" + strings.Join(members, ",") + "}"
}

// pieces splits each write into several writes.
type pieces struct {
	net.Conn
	r *run
}

func (p pieces) Write(b []byte) (n int, err error) {
	if len(b) > 1<<12 {
		return p.Conn.Write(b)
	}
	for len(b) > 0 && err == nil {
		var m int
		m, err = p.Conn.Write(b[:1+p.r.IntN(len(b))])
		n, b = n+m, b[m:]
	}
	return n, err
}

// answerRun holds the answers to choose from, the network, and the answer of the present
// round.
type answerRun struct {
	*run
	told   []badAnswer
	n      *network
	answer func(c net.Conn, r *http.Request, body []byte)
}

// choose sets the answer that e gives in round i. It returns the kind of answer, and in
// expect how the call must end. expect is nil if the end depends on chance.
func (r *answerRun) choose(i int, e endpoint) (kind string, expect *badAnswer) {
	bad := oneOf(r.run, r.told)
	for !bad.fits(e) {
		bad = oneOf(r.run, r.told)
	}
	if i%20 == 0 {
		r.control++
		bad = badAnswer{name: "a good answer", accepted: everywhere, answer: func(c net.Conn, e endpoint, _ *http.Request, _ []byte) { say(c, 200, asJSON, e.good) }}
	} else {
		switch r.IntN(3) {
		case 0:
			r.answer = func(c net.Conn, req *http.Request, body []byte) { r.sayScrambled(c, e, req, body) }
			return "scrambled", nil
		case 1:
			r.answer = func(c net.Conn, req *http.Request, body []byte) { r.sayInvented(c, req, body) }
			return "invented", nil
		}
	}
	r.answer = func(c net.Conn, req *http.Request, body []byte) { bad.answer(c, e, req, body) }
	return "bad", &bad
}

func (r *answerRun) sayScrambled(c net.Conn, e endpoint, req *http.Request, body []byte) {
	status := oneOf(r.run, []int{200, 200, 400, 503})
	good := fmt.Sprintf("HTTP/1.1 %d OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", status, len(e.good), e.good)
	_, _ = c.Write(r.scramble([]byte(good), req.Header.Get("Authorization")+string(body)))
}

func (r *answerRun) sayInvented(c net.Conn, req *http.Request, body []byte) {
	said := req.Header.Get("Authorization") + string(body)
	text := r.invented(said)
	if r.IntN(2) == 0 {
		text = string(r.scramble([]byte(text), said))
	}
	say(c, oneOf(r.run, []int{200, 200, 201, 400, 401, 500}), oneOf(r.run, []string{"", asJSON, "Content-Type: text/plain\r\n"}), text)
}

// judge checks the error of a round, the requests and the log. If expect is not nil, the
// error must be the one that expect describes.
func (r *answerRun) judge(t *testing.T, e endpoint, expect *badAnswer, err error) {
	if expect != nil {
		expect.judge(t, e, err)
	} else if err != nil && !errors.Is(err, errOther) {
		status, _ := refusal(err)
		assert.True(t, status != 0 || errors.Is(err, oauth2login.ErrUnavailable), "%v", err)
	}
	r.n.close() // the next round opens new connections
	dialled, requests := r.n.sent()
	assert.Equal(t, []string{"127.0.0.1:8000"}, dialled)
	assert.Len(t, requests, 1)
	assertKeepsQuiet(t, err, requests)
	for line := range strings.Lines(r.takeLog()) {
		// net/http logs data that a server sends without a request. See SECURITY.md.
		if !strings.Contains(line, "Unsolicited response") {
			assert.NotContains(t, line, hush)
		}
	}
}

// The platform sends the answers of TestAnswers, scrambled answers, and invented answers.
// It sends every answer in pieces. Each call must return a valid token or user, or an error
// of a known type.
func TestGeneratedAnswers(t *testing.T) {
	rounds := 400
	if longTests {
		rounds = 10_000
	}
	told := slices.DeleteFunc(slices.Clone(badAnswers()), func(bad badAnswer) bool { return bad.setup != nil || bad.warm || bad.asked })
	bomb() // made before memory is measured
	inRun(t, rounds, func(t *testing.T, plain *run) func(int) {
		r := &answerRun{run: plain, told: told}
		r.n = newNetwork(t, func(c net.Conn, req *http.Request, body []byte) {
			r.answer(pieces{c, r.run}, req, body)
			c.Close()
		})
		conf := valid()
		conf.ClientSecret, conf.Endpoint = "secret-"+hush, shangcloud.EndpointAt("http://127.0.0.1:8000")
		conf.HTTPClient = &http.Client{Transport: r.n}
		p := conf.provider(t)
		return func(i int) {
			r.n.forget()
			e := oneOf(r.run, endpoints)
			kind, expect := r.choose(i, e)
			r.tally[kind]++
			start := time.Now()
			err := e.call(context.Background(), p)
			assert.LessOrEqual(t, time.Since(start), 10*time.Second)
			r.judge(t, e, expect, err)
		}
	})
}
