package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	xiaoman = "10001"
	ada     = "10002"
)

// Two people and the bot hear each other, and see who comes and goes.
func TestRoom(t *testing.T) {
	home := startRun(t)
	b1, b2 := newBrowser(t, home), newBrowser(t, home)
	assert.Contains(t, b1.signIn("/login", xiaoman), `id="board"`)
	b2.signIn("/login", ada)

	first := b1.enter()
	assert.Equal(t, xiaoman, first.uid)
	assert.Equal(t, "Pixel (bot)", first.hears(say, "你好，林小满").Name, "known before the list of members")
	require.Equal(t, 204, first.posts(message{Kind: say, ID: "1", Text: " 大家好 "}))
	require.Equal(t, 204, first.posts(message{Kind: draw, ID: "2", Points: []int{0, 0, 800, 500}}))

	second := b2.enter()
	joined := first.await("Ada", func(e event) bool { return e.Kind == "members" && e.UID == ada })
	assert.Contains(t, joined.Members, member{ada, "Ada King"})
	assert.Contains(t, joined.Members, member{botUID, "Pixel (bot)"})
	past := second.hears(recall, "").Past
	assert.Contains(t, past, message{Kind: draw, ID: "2", UID: xiaoman, Points: []int{0, 0, 800, 500}})
	assert.Contains(t, past, message{Kind: say, ID: "1", UID: xiaoman, Name: "林小满", Text: "大家好"})
	second.hears(say, "Hello, Ada King")

	require.Equal(t, 204, second.posts(message{Kind: say, ID: "3", Text: "A house, please", UID: "me", Name: "me"}))
	assert.Equal(t, message{Kind: say, ID: "3", UID: ada, Name: "Ada King", Text: "A house, please"}, first.hears(say, "house, please"))
	for _, page := range []*openPage{first, second} {
		assert.Equal(t, botUID, page.hears(draw, "").UID)
		assert.Equal(t, botUID, page.hears(say, "There it is").UID)
	}

	require.Equal(t, 204, first.posts(message{Kind: wipe, ID: "4"}))
	second.hears(wipe, "")

	third := b2.enter() // another page of the same person
	assert.Equal(t, ada+"-2", third.uid)
	for _, m := range third.hears(recall, "").Past {
		assert.NotEqual(t, draw, m.Kind, "the board is empty")
	}
	third.close()
	first.await("the end of the second page", func(e event) bool { return e.Kind == "members" && e.UID == third.uid && len(e.Members) == 3 })

	b2.post("/logout", "")
	left := first.await("Ada's leaving", func(e event) bool { return e.Kind == "members" && e.UID == ada })
	assert.NotContains(t, left.Members, member{ada, "Ada King"})
	<-second.done
	assert.Equal(t, http.StatusUnauthorized, second.posts(message{Kind: say, ID: "5", Text: "still here?"}))
}

// TestPost posts valid and invalid messages.
func TestPost(t *testing.T) {
	home := startRun(t)
	b := newBrowser(t, home)
	assert.Equal(t, 401, b.post("/say", "{}"))
	b.signIn("/login", xiaoman)
	page := b.enter()
	long := strings.Repeat("好", maxText)
	for name, c := range map[string]struct {
		m      message
		status int
	}{
		"text":             {message{Kind: say, ID: "a", Text: long}, 204},
		"markup":           {message{Kind: say, ID: "a", Text: "<b>&"}, 204},
		"long text":        {message{Kind: say, ID: "a", Text: long + "好"}, 400},
		"no text":          {message{Kind: say, ID: "a", Text: " \n"}, 400},
		"no ID":            {message{Kind: say, Text: "hi"}, 400},
		"bad ID":           {message{Kind: say, ID: `"`, Text: "hi"}, 400},
		"dot":              {message{Kind: draw, ID: "a", Points: []int{1, 1, 1, 1}}, 204},
		"one point":        {message{Kind: draw, ID: "a", Points: []int{1, 1}}, 400},
		"half a point":     {message{Kind: draw, ID: "a", Points: []int{1, 1, 1, 1, 1}}, 400},
		"outside":          {message{Kind: draw, ID: "a", Points: []int{1, 1, 1, boardHeight + 1}}, 400},
		"negative":         {message{Kind: draw, ID: "a", Points: []int{-1, 1, 1, 1}}, 400},
		"too many points":  {message{Kind: draw, ID: "a", Points: make([]int, 2*maxPoints+2)}, 400},
		"unknown kind":     {message{Kind: "shout", ID: "a", Text: "hi"}, 400},
		"only the bot may": {message{Kind: recall, ID: "a", To: ada, Past: []message{{Kind: wipe, ID: "b"}}}, 400},
		"large":            {message{Kind: say, ID: "a", Text: strings.Repeat("a", maxPost)}, 400},
	} {
		assert.Equal(t, c.status, page.posts(c.m), name)
	}
	assert.Equal(t, 400, b.post("/say", "not JSON"))

	other := newBrowser(t, home)
	other.signIn("/login", ada)
	stolen := *page
	stolen.browser = other
	assert.Equal(t, 403, stolen.posts(message{Kind: say, ID: "a", Text: "I am 小满"}))

	tooFast := func() bool { return page.posts(message{Kind: wipe, ID: "a"}) == 429 }
	for range 10 * postsBurst {
		if tooFast() {
			return
		}
	}
	assert.Fail(t, "there is no limit")
}

// Other sites can neither post nor open a stream. The number of streams is limited.
func TestForeign(t *testing.T) {
	home := startRun(t)
	b := newBrowser(t, home)
	b.signIn("/login", xiaoman)
	for _, target := range []string{"POST /say", "POST /logout", "GET /events"} {
		method, path, _ := strings.Cut(target, " ")
		req, err := http.NewRequest(method, home+path, nil)
		require.NoError(t, err)
		req.Header.Set("Sec-Fetch-Site", "same-site")
		res, err := b.http.Do(req)
		require.NoError(t, err)
		b.read(res)
		assert.Equal(t, 403, res.StatusCode, target)
	}
	for range maxSeatsOf {
		b.enter()
	}
	res, err := b.http.Get(home + "/events")
	require.NoError(t, err)
	b.read(res)
	assert.Equal(t, 429, res.StatusCode)
}

func TestPages(t *testing.T) {
	home := startRun(t)
	b := newBrowser(t, home)
	res, err := b.http.Get(home + "/?lang=zh-CN")
	require.NoError(t, err)
	assert.Contains(t, b.read(res), chinese.Welcome.Title)
	policy := res.Header.Get("Content-Security-Policy")
	assert.Contains(t, policy, "default-src 'none'")
	assert.Contains(t, policy, "script-src 'self';")
	for _, path := range []string{"/nowhere", "/bot/guessed"} {
		res, err = b.http.Get(home + path)
		require.NoError(t, err)
		assert.Equal(t, 404, res.StatusCode, path)
		assert.Contains(t, b.read(res), chinese.NotFound.Title)
	}
	res, err = b.http.Get(home + "/callback?state=x&code=y")
	require.NoError(t, err)
	assert.Equal(t, 400, res.StatusCode)
	assert.Contains(t, b.read(res), chinese.LoginLost.Title)
}
