package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/runtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// limit bounds every wait. It is generous, for slow machines.
const limit = time.Minute

// logged is what the applications under test have logged.
var logged syncBuffer

func TestMain(m *testing.M) {
	log.SetOutput(&logged)
	os.Exit(m.Run())
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// startRun runs the program with the settings in env, or without settings. It returns the
// program's address.
func startRun(t *testing.T, env ...string) (home string) {
	t.Helper()
	return runtest.Home(t, func(ctx context.Context, out io.Writer) error {
		return run(ctx, "127.0.0.1:0", false, runtest.Env(env...), out)
	})
}

// browser is a person's browser.
type browser struct {
	t    *testing.T
	http *http.Client
	home string
}

func newBrowser(t *testing.T, home string) *browser {
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return &browser{t, &http.Client{Jar: jar, Transport: new(http.Transport)}, home}
}

var (
	nonceField = regexp.MustCompile(`name="nonce" value="([^"]*)"`)
	formAction = regexp.MustCompile(`method="post" action="([^"]*)"`)
)

// signIn signs in a user of the demo's platform.
func (b *browser) signIn(path, user string) (page string) {
	b.t.Helper()
	consent, err := b.http.Get(b.home + path)
	require.NoError(b.t, err)
	page = b.read(consent)
	action, err := consent.Request.URL.Parse(formAction.FindStringSubmatch(page)[1])
	require.NoError(b.t, err)
	answer, err := b.http.PostForm(action.String(), url.Values{
		"nonce": {nonceField.FindStringSubmatch(page)[1]}, "user": {user}, "decision": {"allow"},
	})
	require.NoError(b.t, err)
	return b.read(answer)
}

func (b *browser) read(res *http.Response) string {
	b.t.Helper()
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(b.t, err)
	return string(body)
}

// post returns the status.
func (b *browser) post(path, body string) int {
	b.t.Helper()
	res, err := b.http.Post(b.home+path, "application/json", strings.NewReader(body))
	require.NoError(b.t, err)
	b.read(res)
	return res.StatusCode
}

// openPage is a page of the room.
type openPage struct {
	*browser
	seat   string
	uid    string
	events chan event
	close  func()
	done   chan struct{} // closed when the stream has ended
}

// enter opens the page of the room, and waits until it is connected.
func (b *browser) enter() *openPage {
	b.t.Helper()
	p := b.open()
	p.welcomed()
	return p
}

// open opens a stream of events.
func (b *browser) open() *openPage {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, "GET", b.home+"/events", nil)
	require.NoError(b.t, err)
	res, err := b.http.Do(req)
	require.NoError(b.t, err)
	require.Equal(b.t, 200, res.StatusCode)
	p := &openPage{browser: b, events: make(chan event, 1000), close: cancel, done: make(chan struct{})}
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(p.done)
		defer close(p.events)
		defer res.Body.Close()
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			if data, found := strings.CutPrefix(lines.Text(), "data: "); found {
				var e event
				if assert.NoError(b.t, json.Unmarshal([]byte(data), &e)) {
					p.events <- e
				}
			}
		}
	})
	b.t.Cleanup(func() { cancel(); reading.Wait() })
	return p
}

// back waits until the page is in a room again. If the page's stream ends before that, back
// opens another stream, as a browser does.
func (p *openPage) back() *openPage {
	p.t.Helper()
	for timeout := time.After(limit); ; {
		select {
		case e, ok := <-p.events:
			if !ok {
				p = p.open()
			} else if e.Kind == "welcome" {
				return p
			}
		case <-timeout:
			require.Fail(p.t, "the room stays closed")
		}
	}
}

func (p *openPage) welcomed() {
	p.t.Helper()
	welcome := p.await("a welcome", func(e event) bool { return e.Kind == "welcome" })
	p.seat, p.uid = welcome.Seat, welcome.UID
}

// await returns the next event for which the function is returns true.
func (p *openPage) await(what string, is func(event) bool) event {
	p.t.Helper()
	timeout := time.After(limit)
	for {
		select {
		case e, ok := <-p.events:
			if !ok {
				require.Fail(p.t, "the stream ended before "+what)
			}
			if is(e) {
				return e
			}
		case <-timeout:
			require.Fail(p.t, "no "+what)
		}
	}
}

// hears waits for a message of the given kind that contains text.
func (p *openPage) hears(kind, text string) message {
	p.t.Helper()
	return *p.await(kind+" "+text, func(e event) bool {
		return e.Message != nil && e.Message.Kind == kind && strings.Contains(e.Message.Text, text)
	}).Message
}

// posts posts a message and returns the status.
func (p *openPage) posts(m message) int {
	p.t.Helper()
	body, err := json.Marshal(struct {
		Seat string `json:"seat"`
		message
	}{p.seat, m})
	require.NoError(p.t, err)
	return p.post("/say", string(body))
}
