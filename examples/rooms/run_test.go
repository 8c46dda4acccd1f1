package main

import (
	"bufio"
	"context"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/runtest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/mmotest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const secret = "s3cret of the test"

// world is a platform with an edge, outside of the program.
type world struct {
	platform *shangcloudtest.Server
	edge     *mmotest.Edge
	env      []string
}

func newWorld(t *testing.T) world {
	t.Helper()
	platform, edge := shangcloudtest.NewServer(t), mmotest.NewEdge(t)
	platform.SetEdge(edge)
	platform.AddClient(shangcloudtest.Client{ID: "id", Secret: secret, RedirectURIs: []string{"http://127.0.0.1/callback"}})
	platform.AddUser(shangcloudtest.User{ID: 10001, Nickname: "林小满"})
	platform.AddUser(shangcloudtest.User{ID: 10002, Nickname: "Ada King"})
	return world{platform, edge, []string{"SHANGCLOUD_CLIENT_ID", "id", "SHANGCLOUD_CLIENT_SECRET", secret, "SHANGCLOUD_BASE_URL", platform.URL}}
}

// start runs the program. It returns the program's address, and the path of the bot's
// login.
func (w world) start(t *testing.T, env ...string) (home, botLogin string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, "127.0.0.1:0", false, runtest.Env(append(w.env, env...)...), out)
		out.Close()
	}()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-ended, "Ctrl-C ends the program cleanly")
	})
	for lines := bufio.NewScanner(r); botLogin == "" && lines.Scan(); {
		fields := strings.Fields(lines.Text())
		assert.NotContains(t, lines.Text(), secret)
		switch fields[0] {
		case "Open":
			home = strings.TrimSuffix(fields[1], "/")
		case "Bot":
			botLogin = strings.TrimPrefix(fields[1], home)
		}
	}
	go io.Copy(io.Discard, r)
	return home, botLogin
}

// With settings, somebody signs in for the bot, and people wait until then. The program
// replaces a connection that breaks, and a room that ends.
func TestRunReal(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	home, botLogin := w.start(t, "SHANGCLOUD_DATA_DIR", dir)
	b := newBrowser(t, home)
	b.signIn("/login", ada)
	entered := make(chan *openPage)
	go func() { entered <- b.enter() }()
	assert.Contains(t, newBrowser(t, home).signIn(botLogin, xiaoman), english.BotSignedIn.Title)
	page := <-entered
	page.hears(say, "Hello, Ada King")

	room := w.room(t)
	w.edge.Cut(room, ada)
	page.await("a pause", func(e event) bool { return e.Kind == "waiting" })
	page.welcomed()
	assert.Equal(t, ada, page.uid)
	require.Equal(t, 204, page.posts(message{Kind: say, ID: "1", Text: "star"}))
	page.hears(say, "There it is")

	w.edge.Cut(room, xiaoman)
	page.await("the bot's return", func(e event) bool { return e.Kind == "members" && e.UID == botUID && len(e.Members) == 2 })

	w.platform.EndRoom(room)
	page = page.back()
	page.hears(recall, "") // the bot still knows what was said in the old room
	assert.NotEqual(t, room, w.room(t))
	assert.FileExists(t, filepath.Join(dir, "bot.token"))
}

// room returns the ID of the room that was joined last.
func (w world) room(t *testing.T) string {
	t.Helper()
	joins := w.platform.Requests("/api/mmo/room/join")
	require.NotEmpty(t, joins)
	return joins[len(joins)-1].Header.Get("X-MMO-Room")
}

// After a restart the bot is there without a login.
func TestRunAgain(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	t.Run("first", func(t *testing.T) {
		home, botLogin := w.start(t, "SHANGCLOUD_DATA_DIR", dir)
		newBrowser(t, home).signIn(botLogin, xiaoman)
	})
	home, _ := w.start(t, "SHANGCLOUD_DATA_DIR", dir)
	b := newBrowser(t, home)
	b.signIn("/login", ada)
	b.enter().hears(say, "Hello, Ada King")
}

// A person whose login has ended is told so, and the page does not come back by itself.
func TestLoginEnds(t *testing.T) {
	w := newWorld(t)
	home, botLogin := w.start(t)
	newBrowser(t, home).signIn(botLogin, xiaoman)
	b := newBrowser(t, home)
	b.signIn("/login", ada)
	page := b.enter()
	w.platform.Revoke(10002)
	w.edge.Cut(w.room(t), ada)
	page.await("the end", func(e event) bool { return e.Kind == "over" })
}

func TestRunFails(t *testing.T) {
	for name, c := range map[string]struct {
		env  []string
		says string
	}{
		"half set":     {[]string{"SHANGCLOUD_CLIENT_SECRET", secret}, "SHANGCLOUD_CLIENT_ID is not set"},
		"bad base URL": {[]string{"SHANGCLOUD_CLIENT_ID", "id", "SHANGCLOUD_CLIENT_SECRET", secret, "SHANGCLOUD_BASE_URL", "http://x.example"}, "Endpoint.AuthURL"},
		"bad callback": {[]string{"SHANGCLOUD_CLIENT_ID", "id", "SHANGCLOUD_CLIENT_SECRET", secret, "SHANGCLOUD_REDIRECT_URL", "http://127.0.0.1/login"}, "/callback"},
	} {
		t.Run(name, func(t *testing.T) {
			err := run(t.Context(), "127.0.0.1:0", false, runtest.Env(c.env...), io.Discard)
			require.ErrorContains(t, err, c.says)
			assert.NotContains(t, err.Error(), secret)
		})
	}
}

// What comes from the room is checked like what comes from a browser.
func TestReceived(t *testing.T) {
	for extra, ok := range map[string]bool{
		"":                                  true, // of a game client
		`{"kind":"say","id":"a"}`:           true,
		`{"kind":"say","id":"a","uid":"2"}`: true, // and is overwritten
		`{"kind":"recall","past":[{"kind":"say"}]}`:        false,
		`{"kind":"recall","past":[{"kind":"recall"}]}`:     false,
		`{"kind":"draw","id":"a","points":[0,0,900,0]}`:    false,
		`{"kind":"say","id":"a","points":[0,0,0,0]}`:       false,
		`{"kind":"say","id":"a","past":[]}`:                false,
		`{"kind":"say","id":"a","points":["0","0","0"]}`:   false,
		`{"kind":"say","id":"a","name":"` + long + `"}`:    false,
		`{"kind":"wipe","id":"a","points":[]}`:             false,
		`[]`:                                               false,
		`{"kind":"recall","past":[` + many(maxPast) + `]}`: true,
		`{"kind":"recall","past":[` + many(201) + `]}`:     false,
	} {
		m, valid := received(mmo.Broadcast{UID: "1", Message: "hi", Extra: extra})
		assert.Equal(t, ok, valid, "%.60s", extra)
		assert.True(t, !valid || m.UID == "1", "%.60s", extra)
	}
	_, valid := received(mmo.Broadcast{UID: strings.Repeat("1", maxID+1), Message: "hi"})
	assert.False(t, valid)
	assert.Equal(t, maxName, len([]rune(shorten(long))))
}

var long = strings.Repeat("好", maxName+1)

func many(n int) string {
	return strings.TrimSuffix(strings.Repeat(`{"kind":"wipe","id":"a"},`, n), ",")
}
