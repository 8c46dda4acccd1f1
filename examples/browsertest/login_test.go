package browser

import (
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Buttons and links, as CSS selectors.
const (
	signIn  = `a.button[href^="/login"]`
	allow   = `button[value=allow]`
	deny    = `button[value=deny]`
	signOut = `form[action="/logout"] button`
)

const (
	consent   = "Sign in with ShangCloud" // heading of the platform's page
	noLonger  = "This login is no longer valid"
	youSaidNo = "You said no"
)

// login signs in, from the first page to the account.
func (b *tab) login(s site) {
	b.t.Helper()
	b.visit(s.home)
	b.click(signIn)
	b.click(allow)
	require.Equal(b.t, "林小满", b.text("h1"))
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	s, b := newSite(t), newPerson(t)
	assert.Equal(t, 200, b.visit(s.home))
	top := ask[float64](b, "main", "e.getBoundingClientRect().top")
	b.click(signIn)
	assert.Equal(t, consent, b.text("h1"))
	b.choose(`input[value="10002"]`)
	assert.Equal(t, 200, b.click(allow))
	assert.Equal(t, "/", b.path())
	assert.Equal(t, "Ada King", b.text("h1"))
	assert.InDelta(t, top, ask[float64](b, "main", "e.getBoundingClientRect().top"), 0.5, "the page jumps")
	assert.Contains(t, b.text("dl"), "ada@example.com")
	assert.Contains(t, b.text("dl"), "10002")
}

func TestDeny(t *testing.T) {
	t.Parallel()
	s, b := newSite(t), newPerson(t)
	b.visit(s.home)
	b.click(signIn)
	assert.Equal(t, 403, b.click(deny))
	assert.Equal(t, youSaidNo, b.text("h1"))

	assert.Equal(t, 400, b.reload(), "a callback works once")
	assert.Equal(t, noLonger, b.text("h1"))

	b.click(signIn)
	b.click(allow)
	assert.Equal(t, "林小满", b.text("h1"))
}

// Two tabs log in at the same time. Both succeed, in any order.
func TestTwoTabs(t *testing.T) {
	t.Parallel()
	for name, order := range map[string][2]int{"first tab first": {0, 1}, "second tab first": {1, 0}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, b := newSite(t), newPerson(t)
			tabs := []*tab{b, b.another()}
			tabs[0].visit(s.at("variable?key=one"))
			tabs[1].visit(s.at("variable?key=two"))
			for _, i := range order {
				assert.Equal(t, 200, tabs[i].click(allow))
				assert.Equal(t, []string{"/variable?key=one", "/variable?key=two"}[i], tabs[i].path())
			}
			for _, b := range tabs {
				b.reload()
				assert.NotEmpty(t, b.text(signOut), "the tab is not signed in")
			}
		})
	}
}

// After the login, the browser requests its callback again. Then another person's browser
// requests it too.
func TestCallbackAgain(t *testing.T) {
	t.Parallel()
	s, b := newSite(t), newPerson(t)
	b.login(s)
	callback := b.requested("/callback")

	b.visit(callback)
	assert.Equal(t, "/", b.path(), "the person stays signed in")
	assert.Equal(t, "林小满", b.text("h1"))

	stranger := newPerson(t)
	assert.Equal(t, 400, stranger.visit(callback))
	assert.Equal(t, noLonger, stranger.text("h1"))
	assert.Zero(t, stranger.count(signOut))
}

func TestBack(t *testing.T) {
	t.Parallel()
	s, b := newSite(t), newPerson(t)
	b.login(s)
	b.back()
	assert.Equal(t, "http", strings.SplitN(b.requested("/oauth/authorize"), ":", 2)[0])
	assert.NotContains(t, do(b, chromedp.Location()), "/callback", "the history holds no code")
	b.back()
	assert.Equal(t, "林小满", b.text("h1"), "the first page shows the account")
	for _, entry := range do(b, chromedp.NavigationEntries()).Entries {
		assert.NotContains(t, entry.URL, "code=")
	}

	// The person presses "allow" again on the consent page of the finished login.
	b.forward()
	assert.Equal(t, consent, b.text("h1"))
	b.click(allow)
	assert.NotEqual(t, noLonger, b.text("h1"))
}

// The page of a failed callback stays in the browser's history. Going back to it does no
// harm.
func TestBackToFailedCallback(t *testing.T) {
	t.Parallel()
	s, b := newSite(t), newPerson(t)
	b.visit(s.home)
	b.click(signIn)
	b.click(deny)
	b.click(`a[href="/"]`)
	b.back()
	assert.Equal(t, noLonger, b.text("h1"))
	b.click(signIn)
	b.click(allow)
	b.back()
	b.back()
	assert.Equal(t, "/", b.path(), "the failed callback of a person who is signed in")
	assert.Equal(t, "林小满", b.text("h1"))
}

func TestCookiesDisabled(t *testing.T) {
	t.Parallel()
	s, b := newSite(t), newTab(t, refusingBrowser(t))
	b.visit(s.home)
	b.click(signIn)
	assert.Equal(t, 400, b.click(allow))
	assert.Contains(t, b.text("main"), "keeps no cookies")
	assert.Empty(t, b.cookies())
}

// After five minutes, the store or the browser has dropped the login.
func TestExpiredLogin(t *testing.T) {
	t.Parallel()
	for name, expire := range map[string]func(site, *tab){
		"in the store":   func(s site, _ *tab) { s.states.over.Store(true) },
		"in the browser": func(_ site, b *tab) { call(b, network.ClearBrowserCookies, cdp.Empty{}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, b := newSite(t), newPerson(t)
			b.visit(s.at("variable?key=greeting"))
			expire(s, b)
			assert.Equal(t, 400, b.click(allow))
			s.states.over.Store(false)
			b.click(signIn)
			b.click(allow)
			assert.Equal(t, "林小满", b.text("h1"))
		})
	}
}

func TestReturnPath(t *testing.T) {
	t.Parallel()
	s, b := newSite(t), newPerson(t)
	b.visit(s.at("variable?key=greeting"))
	assert.Equal(t, consent, b.text("h1"))
	b.click(allow)
	assert.Equal(t, "/variable?key=greeting", b.path())
	assert.Equal(t, "你好，世界\nHello, world", b.value("textarea"))

	for name, next := range map[string]string{
		"another site": "https://evil.example/", "without a scheme": "//evil.example/",
		"backslash": `/\evil.example/`, "tab": "/%09/evil.example/", "line end": "/%0A/evil.example",
		"script": "javascript:alert(1)", "encoded": "%2F%2Fevil.example", "itself": "/callback?code=x&state=y",
	} {
		t.Run(name, func(t *testing.T) {
			call(b, network.ClearBrowserCookies, cdp.Empty{})
			b.visit(s.at("login?next=" + next))
			b.click(allow)
			assert.True(t, strings.HasPrefix(do(b, chromedp.Location()), s.home))
		})
	}
}

func TestVariables(t *testing.T) {
	t.Parallel()
	s, b := newSite(t), newPerson(t)
	b.login(s)
	b.click(`a[href="/variable"]`)
	b.write("#key", "最高分 & more/?#")
	b.write("#value", "第一行\n<b>2</b>")
	b.click("main form .button")
	assert.Equal(t, "Saved “最高分 & more/?#”.", b.text("[role=status]"))
	assert.Equal(t, "第一行\n<b>2</b>", b.value("#value"))
	b.reload()
	assert.Equal(t, "第一行\n<b>2</b>", b.value("#value"))

	b.write("#value", "三")
	b.click("main form .button")
	b.click(`main a[href="/"]`)
	b.click(`.keys a`)
	assert.Equal(t, "三", b.value("#value"))

	b.choose("summary")
	b.click(".danger")
	assert.Equal(t, "Deleted “最高分 & more/?#”.", b.text("[role=status]"))
	b.write("#key", "最高分 & more/?#")
	b.click(".row button")
	assert.Empty(t, b.value("#value"))
	assert.Contains(t, b.text(".hint"), "no such variable")
	assert.Zero(t, b.count("summary"), "there is nothing to delete")
}

func TestSignOut(t *testing.T) {
	t.Parallel()
	s, b := newSite(t), newPerson(t)
	b.login(s)
	other := b.another()
	other.visit(s.at("variable?key=greeting"))
	other.write("#value", "typed for hours")

	b.click(signOut)
	assert.Equal(t, "/?signed-out", b.path())
	assert.Contains(t, b.text("[role=status]"), "You are signed out")
	assert.NotEmpty(t, b.text(signIn))
	b.back()
	assert.NotContains(t, b.text("body"), "xiaoman@example.com", "the back button shows the account")

	assert.Equal(t, 401, other.click("main form .button"))
	assert.Equal(t, "typed for hours", other.value("#unsaved"), "the typed text")
}

func TestWithoutJavaScript(t *testing.T) {
	t.Parallel()
	s, b := newSite(t), newPerson(t)
	call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	b.visit(s.at("variable?key=greeting"))
	b.click(allow)
	assert.Equal(t, "/variable?key=greeting", b.path())
	b.choose("summary")
	b.click(".danger")
	assert.Equal(t, "Deleted “greeting”.", b.text("[role=status]"))
	b.click(signOut)
	assert.NotEmpty(t, b.text(signIn))
}
