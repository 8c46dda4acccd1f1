package main

import (
	"bytes"
	"html"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/demo"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/runtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard)
	os.Exit(m.Run())
}

// site is the application with a stand-in for every provider.
type site struct {
	*app
	url string
}

// newSite starts the application, after change has changed its table.
func newSite(t *testing.T, change func([]*provider)) *site {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	home := "http://" + server.Listener.Addr().String()
	rows := table()
	require.NoError(t, configure(rows, home, runtest.Env()))
	stop, err := startStandIns(rows)
	require.NoError(t, err)
	t.Cleanup(stop)
	if change != nil {
		change(rows)
	}
	a, err := newApp(home, rows)
	require.NoError(t, err)
	server.Config.Handler = a
	server.Start()
	t.Cleanup(server.Close)
	return &site{a, home}
}

func (s *site) row(id string) *provider {
	for _, p := range s.providers {
		if p.ID == id {
			return p
		}
	}
	return nil
}

// browser is a person's browser: it keeps cookies and follows redirects.
type browser struct {
	t    *testing.T
	http *http.Client
	lang string
	from string // Sec-Fetch-Site
	goal string // Sec-Purpose
}

func newBrowser(t *testing.T) *browser {
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return &browser{t: t, http: &http.Client{Jar: jar}, lang: "en"}
}

// answer is a page and its address.
type answer struct {
	*http.Response
	body string
}

func (b *browser) do(method, url, body string) answer {
	b.t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	require.NoError(b.t, err)
	req.Header.Set("Accept-Language", b.lang)
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if b.from != "" {
		req.Header.Set("Sec-Fetch-Site", b.from)
	}
	if b.goal != "" {
		req.Header.Set("Sec-Purpose", b.goal)
	}
	resp, err := b.http.Do(req)
	require.NoError(b.t, err)
	defer resp.Body.Close()
	read, err := io.ReadAll(resp.Body)
	require.NoError(b.t, err)
	return answer{resp, html.UnescapeString(string(read))}
}

func (b *browser) get(url string) answer {
	b.t.Helper()
	return b.do(http.MethodGet, url, "")
}

func (b *browser) post(url string, form url.Values) answer {
	b.t.Helper()
	return b.do(http.MethodPost, url, form.Encode())
}

// stay requests an address without following redirects.
func (b *browser) stay(url string) answer {
	b.t.Helper()
	b.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	defer func() { b.http.CheckRedirect = nil }()
	return b.get(url)
}

var hiddenField = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)

// form returns the hidden fields of a page's forms, and the fields in more: names and
// values in turn.
func (a answer) form(more ...string) url.Values {
	form := make(url.Values)
	for _, field := range hiddenField.FindAllStringSubmatch(a.body, -1) {
		form.Set(field[1], field[2])
	}
	for i := 0; i < len(more); i += 2 {
		form.Set(more[i], more[i+1])
	}
	return form
}

// answerConsent answers the consent page. It allows the login as one of demo.People, or
// refuses if person is nobody. It returns the callback address that the browser is sent
// to.
func (b *browser) answerConsent(consent answer, person int) (callback string) {
	b.t.Helper()
	users := regexp.MustCompile(`name="user" value="(\d+)"`).FindAllStringSubmatch(consent.body, -1)
	require.Len(b.t, users, len(demo.People), "a consent page: %s", consent.body)
	form := consent.form("decision", "deny")
	if person >= 0 {
		form = consent.form("decision", "allow", "user", users[person][1])
	}
	to, err := consent.Request.URL.Parse(regexp.MustCompile(`action="([^"]*)"`).FindStringSubmatch(consent.body)[1])
	require.NoError(b.t, err)
	b.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	defer func() { b.http.CheckRedirect = nil }()
	page := b.post(to.String(), form)
	require.Equal(b.t, http.StatusSeeOther, page.StatusCode)
	return page.Header.Get("Location")
}

const nobody = -1 // the user refuses

func (b *browser) signIn(s *site, provider string, person int) answer {
	b.t.Helper()
	return b.get(b.answerConsent(b.get(s.url+"/login/"+provider), person))
}

// startLink sends the form, and follows the page that leads to the provider.
func (b *browser) startLink(s *site, provider string) (consent answer) {
	b.t.Helper()
	page := b.post(s.url+"/link/"+provider, b.get(s.url+"/account").form())
	require.Equal(b.t, http.StatusOK, page.StatusCode)
	to, found := strings.CutPrefix(page.Header.Get("Refresh"), "0; url=")
	require.True(b.t, found)
	assert.Contains(b.t, page.body, `href="`+to+`"`, "and there is a link for browsers that stay")
	return b.get(to)
}

func (b *browser) link(s *site, provider string, person int) answer {
	b.t.Helper()
	return b.get(b.answerConsent(b.startLink(s, provider), person))
}

func (b *browser) signOut(s *site) {
	b.t.Helper()
	page := b.post(s.url+"/logout", b.get(s.url+"/account").form())
	require.Contains(b.t, page.body, english.Start.Text)
}

// account returns the ID on the account page, or "" for any other page.
func (a answer) account() string {
	found := regexp.MustCompile(`<code>([A-Z2-7]{26})</code>`).FindStringSubmatch(a.body)
	if found == nil {
		return ""
	}
	return found[1]
}

var everyProvider = []string{"github", "google", "shangcloud"}

func TestSignIn(t *testing.T) {
	s := newSite(t, nil)
	for _, p := range everyProvider {
		t.Run(p, func(t *testing.T) {
			b := newBrowser(t)
			assert.Contains(t, b.get(s.url).body, "/login/"+p)
			page := b.signIn(s, p, 1)
			assert.Equal(t, s.url+"/account", page.Request.URL.String())
			for _, says := range []string{s.row(p).Name + ": Ada King", "ada@example.com", "ID 10002", `src="` + origin(s.row(p).API) + "/avatars/10002.svg"} {
				assert.Contains(t, page.body, says)
			}
			assert.Contains(t, page.Header.Get("Content-Security-Policy"), origin(s.row(p).API))
			assert.Equal(t, "image/svg+xml", b.get(origin(s.row(p).API)+"/avatars/10002.svg").Header.Get("Content-Type"))
			account := page.account()
			assert.NotEmpty(t, account)
			assert.Contains(t, page.body, english.OnlyOne)

			assert.Equal(t, account, newBrowser(t).signIn(s, p, 1).account(), "the same account every time")
			assert.NotEqual(t, account, newBrowser(t).signIn(s, p, 0).account())

			// The cookie from before the sign-out is no longer valid.
			u, _ := url.Parse(s.url)
			thief := newBrowser(t)
			thief.http.Jar.SetCookies(u, b.http.Jar.Cookies(u))
			b.signOut(s)
			assert.Empty(t, b.get(s.url+"/account").account())
			assert.Empty(t, thief.get(s.url+"/account").account())
		})
	}
}

// The same mail address at three providers means three accounts.
func TestMailAddressesDoNotMatter(t *testing.T) {
	s := newSite(t, nil)
	accounts := make(map[string]bool)
	for _, p := range everyProvider {
		accounts[newBrowser(t).signIn(s, p, 0).account()] = true
	}
	assert.Len(t, accounts, 3)
}

func TestLink(t *testing.T) {
	s := newSite(t, nil)
	for i, first := range everyProvider {
		second := everyProvider[(i+1)%len(everyProvider)]
		t.Run(first+" then "+second, func(t *testing.T) {
			s, b := newSite(t, nil), newBrowser(t)
			account := b.signIn(s, first, 0).account()
			page := b.link(s, second, 1) // with another name and another mail address
			assert.Equal(t, account, page.account())
			assert.Contains(t, page.body, english.Notice[noticeLinked])
			assert.NotContains(t, b.get(s.url+"/account").body, english.Notice[noticeLinked], "said once")
			b.signOut(s)
			for p, person := range map[string]int{first: 0, second: 1} {
				page := newBrowser(t).signIn(s, p, person)
				assert.Equal(t, account, page.account())
				assert.Contains(t, page.body, "林小满")
				assert.Contains(t, page.body, "Ada King")
			}
		})
	}

	b := newBrowser(t)
	account := b.signIn(s, "github", 0).account()
	page := b.link(s, "github", 0)
	assert.Contains(t, page.body, english.Notice[noticeHadIt])
	assert.Equal(t, account, b.link(s, "github", 1).account(), "two of one provider")
}

func TestLinkRefused(t *testing.T) {
	s := newSite(t, nil)
	other := newBrowser(t)
	theirs := other.signIn(s, "google", 1).account()
	b := newBrowser(t)
	ours := b.signIn(s, "github", 0).account()

	page := b.link(s, "google", 1)
	assert.Equal(t, 409, page.StatusCode)
	assert.Contains(t, page.body, english.OtherAccount.Title)
	assert.Contains(t, page.body, "signed in with at Google")
	assert.NotContains(t, b.get(s.url+"/account").body, "Ada King")
	assert.Equal(t, theirs, newBrowser(t).signIn(s, "google", 1).account(), "it stays where it was")
	assert.Equal(t, ours, newBrowser(t).signIn(s, "github", 0).account())

	// The user follows the message's advice.
	other.link(s, "shangcloud", 1)
	other.unlink(s, "google", "10002")
	assert.Equal(t, ours, b.link(s, "google", 1).account())
}

func (b *browser) unlink(s *site, provider, subject string) answer {
	b.t.Helper()
	return b.post(s.url+"/unlink", b.get(s.url+"/account").form("provider", provider, "subject", subject))
}

// A link adds an identity to the account that started the link. If this account is no
// longer signed in, the link fails.
func TestLinkNeedsTheSameAccount(t *testing.T) {
	for name, meanwhile := range map[string]func(*browser, *site){
		"signed out":         func(b *browser, s *site) { b.signOut(s) },
		"another account":    func(b *browser, s *site) { b.signOut(s); b.signIn(s, "google", 2) },
		"shut out elsewhere": func(b *browser, s *site) { s.store.signOut(b.session(s)) },
	} {
		t.Run(name, func(t *testing.T) {
			s, b := newSite(t, nil), newBrowser(t)
			ours := b.signIn(s, "github", 0).account()
			callback := b.answerConsent(b.startLink(s, "shangcloud"), 1)
			meanwhile(b, s)
			page := b.get(callback)
			assert.Equal(t, 403, page.StatusCode)
			assert.Contains(t, page.body, english.NotSignedIn.Title)
			fresh := newBrowser(t).signIn(s, "shangcloud", 1)
			assert.NotEqual(t, ours, fresh.account())
			assert.Contains(t, fresh.body, english.OnlyOne)
		})
	}

	// The user signs in to the same account again. Then the link still succeeds.
	s, b := newSite(t, nil), newBrowser(t)
	ours := b.signIn(s, "github", 0).account()
	callback := b.answerConsent(b.startLink(s, "shangcloud"), 1)
	b.signOut(s)
	b.signIn(s, "github", 0)
	assert.Equal(t, ours, b.get(callback).account())
}

func (b *browser) session(s *site) string {
	u, _ := url.Parse(s.url)
	for _, c := range b.http.Jar.Cookies(u) {
		if c.Name == sessionCookie {
			return c.Value
		}
	}
	return ""
}

// An attacker starts a login or a link, and opens its callback in the victim's browser.
// The attacker's identity is not linked to the victim's account.
func TestForcedLink(t *testing.T) {
	s, victim, attacker := newSite(t, nil), newBrowser(t), newBrowser(t)
	ours := victim.signIn(s, "github", 0).account()
	attacker.signIn(s, "google", 2)
	for _, consent := range []answer{attacker.startLink(s, "shangcloud"), newBrowser(t).get(s.url + "/login/shangcloud")} {
		page := victim.get(attacker.answerConsent(consent, 2))
		assert.Equal(t, ours, page.account())
		assert.Contains(t, page.body, english.OnlyOne, "nothing is linked")
		assert.Contains(t, page.body, english.Notice[noticeOver])
	}
	// A link on another site does not sign the victim in to another account.
	assert.Equal(t, ours, victim.get(s.url+"/login/google").account())
	// The address cannot set the purpose of a login.
	page := victim.stay(s.url + "/login/google?link=1&LinkTo=" + ours)
	assert.Equal(t, "/account", page.Header.Get("Location"))
}

func TestUnlink(t *testing.T) {
	s, b := newSite(t, nil), newBrowser(t)
	ours := b.signIn(s, "github", 0).account()
	page := b.unlink(s, "github", "10001")
	assert.Equal(t, 409, page.StatusCode)
	assert.Contains(t, page.body, english.Last.Title)

	b.link(s, "google", 0)
	elsewhere := newBrowser(t)
	assert.Equal(t, ours, elsewhere.signIn(s, "google", 0).account())
	pending := elsewhere.answerConsent(elsewhere.startLink(s, "shangcloud"), 2)
	page = b.unlink(s, "google", "10001")
	assert.Contains(t, page.body, english.Notice[noticeUnlinked])
	assert.Contains(t, page.body, english.OnlyOne)
	assert.Empty(t, elsewhere.get(s.url+"/account").account(), "shut out")
	assert.Equal(t, 403, elsewhere.get(pending).StatusCode, "and with no way back in")
	assert.NotEqual(t, ours, newBrowser(t).signIn(s, "google", 0).account(), "from now on another person's")

	// A second click, the identity of another account, and the last identity change
	// nothing.
	assert.Equal(t, ours, b.unlink(s, "google", "10001").account())
	assert.Equal(t, ours, b.unlink(s, "google", "10001").account())
	assert.Equal(t, 409, b.unlink(s, "github", "10001").StatusCode)
	assert.NotEqual(t, "", newBrowser(t).signIn(s, "google", 0).account())
}

func TestForgedForms(t *testing.T) {
	s, b := newSite(t, nil), newBrowser(t)
	b.signIn(s, "github", 0)
	page := b.link(s, "google", 0)
	stranger := newBrowser(t)
	foreign := stranger.signIn(s, "github", 1).form()
	forge := func(form url.Values) {
		t.Helper()
		for _, path := range []string{"/link/shangcloud", "/unlink", "/logout"} {
			page := b.post(s.url+path, form)
			assert.Equal(t, 403, page.StatusCode, path)
			assert.Contains(t, page.body, english.ForeignForm.Title)
			assert.Empty(t, page.Header.Get("Refresh"))
		}
	}
	b.from = "cross-site"
	forge(page.form())
	b.from = ""
	forge(page.form("token", ""))
	forge(page.form("token", foreign.Get("token")))
	b.do(http.MethodPost, s.url+"/logout?token="+page.form().Get("token"), "")
	assert.Contains(t, b.get(s.url+"/account").body, "Google: 林小满", "nothing has happened")
	for _, path := range []string{"/link/shangcloud", "/unlink", "/logout"} {
		assert.Equal(t, 404, b.get(s.url+path).StatusCode, path)
		assert.Equal(t, 401, newBrowser(t).post(s.url+path, page.form()).StatusCode, path)
	}
	assert.Equal(t, 404, b.post(s.url+"/link/nobody", page.form()).StatusCode)
}

// counter counts what is sent to a token endpoint.
type counter struct {
	mu   sync.Mutex
	seen []url.Values
}

func (c *counter) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.seen)
}

// watch counts the requests to a provider's token endpoint.
func watch(t *testing.T, p *provider) *counter {
	c, behind := new(counter), p.Config.Endpoint.TokenURL
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(body))
		c.mu.Lock()
		c.seen = append(c.seen, form)
		c.mu.Unlock()
		req, _ := http.NewRequest(r.Method, behind, bytes.NewReader(body))
		req.Header = r.Header
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			w.WriteHeader(502)
			return
		}
		defer resp.Body.Close()
		w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
		w.WriteHeader(resp.StatusCode)
		io.Copy(w, resp.Body)
	}))
	t.Cleanup(server.Close)
	p.Config.Endpoint.TokenURL = server.URL
	return c
}

// A callback of one provider is refused at another provider's path (RFC 9700, section
// 4.4). The attempt does not use up the callback.
func TestMixUp(t *testing.T) {
	sent := make(map[string]*counter)
	s := newSite(t, func(rows []*provider) {
		for _, p := range rows {
			sent[p.ID] = watch(t, p)
		}
	})
	for _, honest := range everyProvider {
		b := newBrowser(t)
		callback := b.answerConsent(b.get(s.url+"/login/"+honest), 0)
		for _, p := range everyProvider {
			if p == honest {
				continue
			}
			before := sent[p].count()
			page := b.get(strings.Replace(callback, "/callback/"+honest, "/callback/"+p, 1))
			assert.Equal(t, 400, page.StatusCode)
			if p == "google" {
				assert.Contains(t, page.body, english.BadCallback.Title, "it names another issuer, or none")
			} else {
				assert.Contains(t, page.body, english.LoginLost.Title)
			}
			assert.Equal(t, before, sent[p].count(), "the code is not sent to %s", p)
		}
		assert.NotEmpty(t, b.get(callback).account())
	}
	assert.Equal(t, 404, newBrowser(t).get(s.url+"/callback/nobody?state=a&code=b").StatusCode)
	assert.Equal(t, 404, newBrowser(t).get(s.url+"/login/nobody").StatusCode)
}

func TestReplay(t *testing.T) {
	var sent *counter
	s := newSite(t, func(rows []*provider) { sent = watch(t, rows[0]) })
	b, stranger := newBrowser(t), newBrowser(t)
	callback := b.answerConsent(b.get(s.url+"/login/github"), 0)

	stranger.get(s.url + "/login/github") // the stranger's browser has a login cookie of its own
	for _, other := range []*browser{newBrowser(t), stranger} {
		page := other.get(callback)
		assert.Equal(t, 400, page.StatusCode)
		assert.Contains(t, page.body, english.LoginLost.Title)
	}
	assert.Zero(t, sent.count(), "another browser neither gets in nor uses the login up")

	ours := b.get(callback).account()
	assert.NotEmpty(t, ours)
	page := b.get(callback)
	assert.Equal(t, ours, page.account(), "a reload leads to the account")
	assert.Contains(t, page.body, english.Notice[noticeOver])
	b.signOut(s)
	assert.Equal(t, 400, b.get(callback).StatusCode, "but does not sign in")
	assert.Equal(t, 1, sent.count(), "a code is sent once")
}

// Of many simultaneous callbacks, only one reaches the provider.
func TestManyClicks(t *testing.T) {
	var sent *counter
	s := newSite(t, func(rows []*provider) { sent = watch(t, rows[1]) })
	b := newBrowser(t)
	callback := b.answerConsent(b.get(s.url+"/login/google"), 0)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			resp, err := b.http.Get(callback)
			if assert.NoError(t, err) {
				resp.Body.Close()
			}
		})
	}
	wg.Wait()
	assert.Equal(t, 1, sent.count())
	assert.NotEmpty(t, b.get(s.url+"/account").account())
}

func TestTwoTabs(t *testing.T) {
	s, b := newSite(t, nil), newBrowser(t)
	one := b.get(s.url + "/login/github")
	two := b.get(s.url + "/login/google")
	assert.Contains(t, b.get(b.answerConsent(one, 0)).body, "GitHub: 林小满")
	page := b.get(b.answerConsent(two, 1))
	assert.Contains(t, page.body, "Google: Ada King", "the last login counts")
	assert.NotContains(t, page.body, "GitHub: 林小满")
}

func TestDenied(t *testing.T) {
	s := newSite(t, nil)
	for _, p := range everyProvider {
		b := newBrowser(t)
		page := b.signIn(s, p, nobody)
		assert.Equal(t, 403, page.StatusCode)
		assert.Contains(t, page.body, english.Denied.Title)
		assert.Contains(t, page.body, s.row(p).Name)

		ours := b.signIn(s, "github", 0).account()
		page = b.link(s, p, nobody)
		assert.Equal(t, 403, page.StatusCode)
		assert.Equal(t, ours, b.get(s.url+"/account").account(), "still signed in")
	}
}

func TestBadCallbacks(t *testing.T) {
	s, b := newSite(t, nil), newBrowser(t)
	good := b.answerConsent(b.get(s.url+"/login/github"), 0)
	for _, query := range []string{"", "?code=a", "?state=a", "?state=a&state=b&code=c", "?state=a&code=b&code=c",
		"?state=a&code=b&error=c", "?state=%zz&code=b", "?state=a;b&code=c", "?state=a&code=" + strings.Repeat("c", 16<<10)} {
		page := b.get(s.url + "/callback/github" + query)
		assert.Equal(t, 400, page.StatusCode, query)
		assert.Contains(t, page.body, english.BadCallback.Title, query)
	}
	for _, state := range []string{"a", ".", "a.", ".b", "a.b"} {
		page := b.get(s.url + "/callback/github?code=c&state=" + state)
		assert.Equal(t, 400, page.StatusCode, state)
		assert.Contains(t, page.body, english.LoginLost.Title, state)
	}
	b.do(http.MethodHead, good, "")
	assert.NotEmpty(t, b.get(good).account(), "none of this did any harm")

	// Errors with a valid state. Our pages do not show the error's text.
	for code, want := range map[string]struct {
		status int
		title  string
	}{
		"server_error":  {502, english.Unavailable.Title},
		"invalid_scope": {502, english.Refused.Title},
		"<b>a":          {502, english.Refused.Title},
		"<b>a\n\x00":    {400, english.BadCallback.Title}, // not a valid error code
	} {
		b := newBrowser(t)
		u, err := url.Parse(b.answerConsent(b.get(s.url+"/login/github"), 0))
		require.NoError(t, err)
		page := b.get(s.url + "/callback/github?" + url.Values{"state": {u.Query().Get("state")}, "error": {code},
			"error_description": {"call 555-1234"}}.Encode())
		assert.Equal(t, want.status, page.StatusCode, code)
		assert.Contains(t, page.body, strings.ReplaceAll(want.title, "{provider}", "GitHub"), code)
		assert.NotContains(t, page.body, "555")
		assert.NotContains(t, page.body, "<b>")
	}
}

// TestProviderFails lets the requests fail that follow a callback, for each provider and
// in many ways.
func TestProviderFails(t *testing.T) {
	elsewhere := new(counter)
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		elsewhere.mu.Lock()
		defer elsewhere.mu.Unlock()
		elsewhere.seen = append(elsewhere.seen, nil)
	}))
	defer target.Close()
	down := httptest.NewServer(nil)
	down.Close()

	const secretText = "s3cret+of+the+answer"
	token := `{"access_token":"t","token_type":"bearer","expires_in":60}`
	for name, c := range map[string]struct {
		token, user http.HandlerFunc
		says        text
	}{
		"token: down":      {nil, nil, english.Unavailable},
		"token: 503":       {says(503, secretText), nil, english.Unavailable},
		"token: refused":   {says(400, `{"error":"invalid_grant","error_description":"`+secretText+`"}`), nil, english.Refused},
		"token: 200 error": {says(200, `{"error":"bad_verification_code"}`), nil, english.Refused}, // GitHub's way
		"token: empty":     {says(200, `{}`), nil, english.Unavailable},
		"token: redirect":  {redirects(target.URL), nil, english.Unavailable},
		"user: 500":        {says(200, token), says(500, secretText), english.Unavailable},
		"user: nobody":     {says(200, token), says(200, `{}`), english.Unavailable},
		"user: not JSON":   {says(200, token), says(200, `<html>`), english.Unavailable},
		"user: ID 0":       {says(200, token), says(200, `{"id":0,"sub":"","uid":0}`), english.Unavailable},
		"user: too much":   {says(200, token), says(200, `{"id":1,"sub":"1","uid":1,"name":"`+strings.Repeat("a", 9<<20)+`"}`), english.Unavailable},
		"user: redirect":   {says(200, token), redirects(target.URL), english.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			answers := func(h http.HandlerFunc, otherwise string) string {
				if h == nil {
					return otherwise
				}
				server := httptest.NewServer(h)
				t.Cleanup(server.Close)
				return server.URL
			}
			s := newSite(t, func(rows []*provider) {
				for _, p := range rows {
					p.Config.Endpoint.TokenURL = answers(c.token, down.URL)
					p.API = answers(c.user, p.API)
				}
			})
			for _, p := range everyProvider {
				page := newBrowser(t).signIn(s, p, 0)
				assert.Equal(t, 502, page.StatusCode, p)
				assert.Contains(t, page.body, strings.ReplaceAll(c.says.Title, "{provider}", s.row(p).Name))
				assert.NotContains(t, page.body, secretText)
			}
			assert.Empty(t, s.store.sessions)
			assert.Empty(t, s.store.owner)
		})
	}
	assert.Zero(t, elsewhere.count(), "no redirect is followed")
}

func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

func redirects(to string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusTemporaryRedirect) }
}

// TestRequests checks what is sent to each provider, and that no code is sent twice to
// guess the auth style.
func TestRequests(t *testing.T) {
	sent := make(map[string]*counter)
	s := newSite(t, func(rows []*provider) {
		for _, p := range rows {
			sent[p.ID] = watch(t, p)
		}
	})
	states := make(map[string]bool)
	for _, p := range everyProvider {
		b := newBrowser(t)
		page := b.stay(s.url + "/login/" + p)
		to, err := url.Parse(page.Header.Get("Location"))
		require.NoError(t, err)
		q := to.Query()
		assert.Equal(t, "S256", q.Get("code_challenge_method"))
		assert.Len(t, q.Get("code_challenge"), 43)
		assert.Equal(t, s.url+"/callback/"+p, q.Get("redirect_uri"))
		assert.Greater(t, len(q.Get("state")), 26)
		states[q.Get("state")] = true
		cookie := page.Cookies()[0]
		assert.True(t, cookie.HttpOnly)
		assert.Equal(t, http.SameSiteLaxMode, cookie.SameSite)
		secret := strings.Split(cookie.Value, ".")[2]
		assert.NotContains(t, q.Get("state"), secret, "the state does not tell the browser's secret")

		page = b.get(b.answerConsent(b.get(to.String()), 0))
		require.NotEmpty(t, page.account())
		require.Equal(t, 1, sent[p].count())
		assert.Len(t, sent[p].seen[0].Get("code_verifier"), 43)
	}
	assert.Len(t, states, 3)
}

// An intercepted code is worthless without the verifier.
func TestStandInsCheckPKCE(t *testing.T) {
	s := newSite(t, nil)
	for _, p := range everyProvider {
		b := newBrowser(t)
		u, err := url.Parse(b.answerConsent(b.get(s.url+"/login/"+p), 0))
		require.NoError(t, err)
		_, err = s.row(p).Config.Exchange(t.Context(), u.Query().Get("code"))
		assert.Error(t, err, p)
	}
	github := s.row("github").Config
	for change, status := range map[string]int{"client_id=x": 400, "redirect_uri=https://evil.example/": 400, "code_challenge_method=plain": 303} {
		name, value, _ := strings.Cut(change, "=")
		u, _ := url.Parse(github.AuthCodeURL("s"))
		q := u.Query()
		q.Set("code_challenge_method", "S256")
		q.Set("code_challenge", "c")
		q.Set(name, value)
		u.RawQuery = q.Encode()
		page := newBrowser(t).stay(u.String())
		assert.Equal(t, status, page.StatusCode, change)
		assert.NotContains(t, page.Header.Get("Location"), "evil")
	}
	b := newBrowser(t)
	consent := b.get(s.url + "/login/github")
	b.answerConsent(consent, 0)
	page := b.post(origin(s.row("github").API)+"/authorize", consent.form("decision", "allow", "user", "0"))
	assert.Equal(t, 400, page.StatusCode, "a second click")
	assert.Contains(t, page.body, english.BadRequest.Title)
	assert.Contains(t, page.body, `href="`+s.url+`/"`)
}

func TestEveryLoginHasANewSession(t *testing.T) {
	s, b := newSite(t, nil), newBrowser(t)
	u, _ := url.Parse(s.url)
	b.http.Jar.SetCookies(u, []*http.Cookie{{Name: sessionCookie, Value: "planted"}})
	tab := b.get(s.url + "/login/github")
	b.signIn(s, "github", 0)
	first := b.session(s)
	assert.NotEqual(t, "planted", first)
	b.get(b.answerConsent(tab, 0))
	assert.NotEqual(t, first, b.session(s))
	assert.Len(t, s.store.sessions, 1, "the old session is gone")
}

func TestReturnsAfterLogin(t *testing.T) {
	s := newSite(t, nil)
	for next, want := range map[string]string{
		"/account?a=b%2Fc":              "/account?a=b%2Fc",
		"":                              "/account",
		"//evil.example/":               "/account",
		"//evil.example/x":              "/account",
		"//":                            "/account",
		`/#/../\evil.example`:           "/account",
		`/\evil.example`:                "/account",
		"/%5Cevil.example":              "/account",
		"/a/..//evil.example":           "/account",
		"https://evil.example":          "/account",
		"/\t/evil.example":              "/account",
		"/%0a/x":                        "/account",
		"javascript:alert(1)":           "/account",
		"/" + strings.Repeat("a", 2048): "/account",
	} {
		b := newBrowser(t)
		consent := b.get(s.url + "/login/github?" + url.Values{"next": {next}}.Encode())
		page := b.stay(b.answerConsent(consent, 0))
		assert.Equal(t, want, page.Header.Get("Location"), "next=%q", next)
		page = b.stay(s.url + "/login/github?" + url.Values{"next": {next}}.Encode())
		assert.Equal(t, want, page.Header.Get("Location"), "signed in already; next=%q", next)
	}
	page := newBrowser(t).get(s.url + "/account?a=b")
	assert.Contains(t, page.body, "next=%2faccount%3fa%3db")
}

// TestRequestsOfNobody: link previews and prefetches neither start a login nor use up a
// pending login.
func TestRequestsOfNobody(t *testing.T) {
	s, b := newSite(t, nil), newBrowser(t)
	callback := b.answerConsent(b.get(s.url+"/login/github"), 0)
	for _, address := range []string{s.url + "/login/github", callback} {
		assert.Equal(t, http.StatusNoContent, b.do("HEAD", address, "").StatusCode)
		b.goal = "prefetch;prerender"
		page := b.get(address)
		b.goal = ""
		assert.Equal(t, http.StatusServiceUnavailable, page.StatusCode)
		assert.Empty(t, page.Cookies())
	}
	assert.Equal(t, "/account", b.stay(callback).Header.Get("Location"))
	assert.NotEmpty(t, b.session(s))
}

func TestHeaders(t *testing.T) {
	s, b := newSite(t, nil), newBrowser(t)
	for _, path := range []string{"/", "/callback/github", "/nothing", "/style.css", "/favicon.svg"} {
		page := b.get(s.url + path)
		h := page.Header
		assert.Regexp(t, `^default-src 'none'; style-src 'self'; img-src 'self' https:( http://127\.0\.0\.1:\d+){3}; form-action 'self'; frame-ancestors 'none'; base-uri 'none'$`,
			h.Get("Content-Security-Policy"))
		assert.Equal(t, "nosniff", h.Get("X-Content-Type-Options"))
		assert.Equal(t, "same-origin", h.Get("Referrer-Policy"))
		assert.Equal(t, "no-store", h.Get("Cache-Control"))
		assert.NotContains(t, page.body, "<script")
		assert.NotContains(t, page.body, "style=")
	}
	page := b.stay(strings.Replace(s.url, "127.0.0.1", "localhost", 1) + "/login/github?next=/a")
	assert.Equal(t, s.url+"/login/github?next=/a", page.Header.Get("Location"), "or the cookie would be lost")
	assert.Empty(t, page.Cookies())
}

func TestLanguages(t *testing.T) {
	s, b := newSite(t, nil), newBrowser(t)
	for header, want := range map[string]*texts{
		"": &english, "zh": &chinese, "ZH-Hant-HK": &chinese, "en, zh": &english, "en;q=0.5, zh;q=0.9": &chinese,
		"fr, zh ; q=0.3 , en;q=0.2": &chinese, "zh;q=0, de": &english, "zh;q=x": &english, "z": &english, "*": &english, ",;,q=,-": &english,
	} {
		b.lang = header
		assert.Contains(t, b.get(s.url).body, want.Start.Text, header)
	}
	b.lang = "zh-TW,zh;q=0.9,en;q=0.8"
	assert.Contains(t, b.get(s.url).body, "使用 GitHub 登录")
	assert.Contains(t, b.get(s.url+"/login/google").body, "Google 的模拟平台")
	assert.Contains(t, b.signIn(s, "google", 0).body, chinese.OnlyOne)
	assert.Contains(t, b.link(s, "github", 0).body, chinese.Notice[noticeLinked])

	// A link changes the language, here and at the stand-ins, and the choice stays.
	other := newBrowser(t)
	page := other.get(s.url + "/?next=/a")
	require.Contains(t, page.body, `href="/?lang=zh-CN&next=%2Fa"`)
	page = other.get(s.url + "/?lang=zh-CN&next=%2Fa")
	assert.Contains(t, page.body, chinese.Start.Text)
	assert.Contains(t, page.body, `/login/github?next=`)
	consent := other.get(s.url + "/login/google")
	assert.Contains(t, consent.body, "Google 的模拟平台")
	link := regexp.MustCompile(`href="(/authorize\?[^"]*lang=en[^"]*)"`).FindStringSubmatch(consent.body)
	require.NotNil(t, link)
	consent = other.get(origin(consent.Request.URL.String()) + link[1])
	assert.Contains(t, consent.body, "Stand-in for Google")
	page = other.get(other.answerConsent(consent, 0))
	assert.Contains(t, page.body, english.Current, "the login goes on, in the language chosen last")
}

func TestSessionsAndLoginsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, p := newStore(), table()[0]
		id := st.signIn("", p, user{Subject: "1"})
		time.Sleep(sessionLifetime - time.Nanosecond) // no real time passes: synctest
		assert.NotNil(t, st.sessionOf(id))
		time.Sleep(time.Nanosecond)
		assert.Nil(t, st.sessionOf(id))
		for range maxSessions + 10 {
			id = st.signIn("", p, user{Subject: "1"})
		}
		assert.Len(t, st.sessions, maxSessions)
		assert.NotNil(t, st.sessionOf(id), "never the newest")

		p.Config.ClientID, p.Config.ClientSecret, p.Config.RedirectURL = "id", "secret", "http://127.0.0.1:1/callback/github"
		a, err := newApp("http://127.0.0.1:1", []*provider{p})
		require.NoError(t, err)
		start := func() *http.Request {
			w := httptest.NewRecorder()
			a.ServeHTTP(w, httptest.NewRequest("GET", "http://127.0.0.1:1/login/github", nil))
			to, err := url.Parse(w.Header().Get("Location"))
			require.NoError(t, err)
			r := httptest.NewRequest("GET", "http://127.0.0.1:1/callback/github?error=access_denied&state="+to.Query().Get("state"), nil)
			r.AddCookie(w.Result().Cookies()[0])
			return r
		}
		for wait, status := range map[time.Duration]int{5*time.Minute - time.Second: 403, 5 * time.Minute: 400} {
			r, w := start(), httptest.NewRecorder()
			time.Sleep(wait)
			a.ServeHTTP(w, r)
			assert.Equal(t, status, w.Code, wait)
		}
	})
}

// Many accounts link the same identity at once. One account gets it.
func TestOneOwner(t *testing.T) {
	st, rows := newStore(), table()
	var wg sync.WaitGroup
	var mu sync.Mutex
	owners := 0
	for i := range 32 {
		id := st.signIn("", rows[0], user{Subject: string(rune('a' + i))})
		account := st.sessionOf(id).account
		wg.Go(func() {
			if _, err := st.link(id, account.id, rows[1], user{Subject: "x"}); err == nil {
				mu.Lock()
				defer mu.Unlock()
				owners++
			} else {
				assert.ErrorIs(t, err, errOtherAccount)
			}
		})
	}
	wg.Wait()
	assert.Equal(t, 1, owners)
}
