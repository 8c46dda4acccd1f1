package webapp

import (
	"bytes"
	"fmt"
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

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/serve"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

const secret = "s3cret+/= of the test"

// logged is everything that the applications under test have logged.
var logged syncBuffer

func TestMain(m *testing.M) {
	log.SetOutput(&logged)
	code := m.Run()
	if strings.Contains(logged.String(), secret) {
		fmt.Fprintln(os.Stderr, "the client secret was logged")
		code = 1
	}
	os.Exit(code)
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

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// site is an application and its platform, each on a separate port.
type site struct {
	app      *app
	platform *shangcloudtest.Server
	url      string
}

func newSite(t *testing.T) *site {
	t.Helper()
	platform := shangcloudtest.NewServer(t)
	platform.AddUser(shangcloudtest.User{
		ID: 10001, Nickname: `小云 <b>"&'`, Email: "xiaoyun@example.com", AvatarURL: platform.URL + "/avatars/1.svg",
	})
	platform.AddUser(shangcloudtest.User{ID: 10002, Nickname: "Ada"})

	server := httptest.NewUnstartedServer(nil)
	url := "http://" + server.Listener.Addr().String()
	config := serve.Settings{Config: oauth2.Config{
		ClientID: "demo", ClientSecret: secret, RedirectURL: url + "/callback",
		Scopes: []string{shangcloud.ScopeUserBasic, shangcloud.ScopeVariables},
	}, BaseURL: platform.URL}
	platform.AddClient(shangcloudtest.Client{ID: config.ClientID, Secret: secret, RedirectURIs: []string{config.RedirectURL}})
	a, err := newApp(config, nil, false)
	require.NoError(t, err)
	server.Config.Handler = a
	server.Start()
	t.Cleanup(server.Close)
	return &site{a, platform, url}
}

// browser is a person's browser: it keeps cookies and follows redirects.
type browser struct {
	t    *testing.T
	http *http.Client
	lang string
	from string // Sec-Fetch-Site
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

func (b *browser) do(req *http.Request) answer {
	b.t.Helper()
	req.Header.Set("Accept-Language", b.lang)
	if b.from != "" {
		req.Header.Set("Sec-Fetch-Site", b.from)
	}
	resp, err := b.http.Do(req)
	require.NoError(b.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(b.t, err)
	return answer{resp, string(body)}
}

func (b *browser) get(url string) answer {
	b.t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	require.NoError(b.t, err)
	return b.do(req)
}

func (b *browser) post(url string, form url.Values) answer {
	b.t.Helper()
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(form.Encode()))
	require.NoError(b.t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return b.do(req)
}

func (b *browser) stay() {
	b.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
}

var hiddenField = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)

// form returns the hidden fields of a page's form, and the fields in more: names and
// values in turn.
func (a answer) form(more ...string) url.Values {
	form := make(url.Values)
	for _, field := range hiddenField.FindAllStringSubmatch(a.body, -1) {
		form.Set(field[1], html.UnescapeString(field[2]))
	}
	for i := 0; i < len(more); i += 2 {
		form.Set(more[i], more[i+1])
	}
	return form
}

// value returns the text that a browser shows in the page's text area.
func (a answer) value(t *testing.T) string {
	t.Helper()
	_, rest, found := strings.Cut(a.body, "<textarea")
	require.True(t, found, "no text area")
	_, rest, _ = strings.Cut(rest, ">")
	text, _, _ := strings.Cut(rest, "</textarea>")
	// HTML, section 13.2.6.4.7: browsers drop a line feed right after the start tag.
	return html.UnescapeString(strings.TrimPrefix(text, "\n"))
}

// signIn opens a page of the site, follows the login to the consent page, and allows the
// login.
func (b *browser) signIn(s *site, path string) answer {
	b.t.Helper()
	consent := b.get(s.url + path)
	require.Equal(b.t, "/oauth/authorize", consent.Request.URL.Path)
	return b.post(s.platform.URL+"/oauth/consent", consent.form("user", "10001", "decision", "allow"))
}

// save saves a new variable as a browser does.
func (b *browser) save(s *site, key, value string) answer {
	b.t.Helper()
	form := b.get(s.url+"/variable").form("key", key, "value", strings.ReplaceAll(value, "\n", "\r\n"))
	return b.post(s.url+"/variable", form)
}

func TestSignInAndOut(t *testing.T) {
	s, b := newSite(t), newBrowser(t)
	page := b.get(s.url)
	assert.Equal(t, 200, page.StatusCode)
	assert.Contains(t, page.body, `href="/login"`)
	assert.Contains(t, page.body, s.platform.URL)

	page = b.signIn(s, "/login")
	assert.Equal(t, s.url+"/", page.Request.URL.String())
	assert.Equal(t, 200, page.StatusCode)
	assert.Contains(t, page.body, "小云 &lt;b&gt;&#34;&amp;&#39;")
	assert.NotContains(t, page.body, "<b>")
	assert.Contains(t, page.body, "xiaoyun@example.com")
	assert.Contains(t, page.body, "<dd>10001</dd>")
	assert.Contains(t, page.body, `src="`+s.platform.URL+`/avatars/1.svg"`)

	// The cookie from before the sign-out is no longer valid.
	u, _ := url.Parse(s.url)
	old := b.http.Jar.Cookies(u)
	require.NotEmpty(t, old)
	page = b.post(s.url+"/logout", page.form())
	assert.Contains(t, page.body, `href="/login"`)
	assert.Contains(t, page.body, english.SignedOut)
	assert.NotContains(t, b.get(s.url).body, english.SignedOut, "it is said once")
	assert.Empty(t, s.app.sessions.byID)
	thief := newBrowser(t)
	thief.http.Jar.SetCookies(u, old)
	assert.NotContains(t, thief.get(s.url).body, "10001")
}

func TestEveryLoginHasANewSession(t *testing.T) {
	s, b := newSite(t), newBrowser(t)
	u, _ := url.Parse(s.url)
	b.http.Jar.SetCookies(u, []*http.Cookie{{Name: s.app.sessions.cookie.Name, Value: "planted"}})
	session := func() string {
		for _, c := range b.http.Jar.Cookies(u) {
			if c.Name == s.app.sessions.cookie.Name {
				return c.Value
			}
		}
		return ""
	}
	b.signIn(s, "/login")
	first := session()
	assert.NotEqual(t, "planted", first)
	b.signIn(s, "/login")
	assert.NotEqual(t, first, session())
	assert.Len(t, s.app.sessions.byID, 1, "the old session is gone")
}

func TestVariables(t *testing.T) {
	s, b := newSite(t), newBrowser(t)
	b.signIn(s, "/login")
	for name, v := range map[string]struct{ key, value string }{
		"plain":        {"name", "value"},
		"unicode":      {"键 名 🐼", "值 é é 👩‍👩‍👧 \u202e"},
		"markup":       {`<a href="x">&amp;'`, `</textarea><script>alert("1")</script>&lt;`},
		"lines":        {"lines", "a\n b\n\n\tc\n"},
		"leading line": {"leading", "\n\nthird"},
		"spaces":       {" key ", "  "},
		"url":          {"a/b?c=d&e=%20#f+g", "+%2B"},
		"large":        {"large", strings.Repeat("\n", maxValue)},
	} {
		t.Run(name, func(t *testing.T) {
			b := &browser{t: t, http: b.http, lang: b.lang}
			page := b.save(s, v.key, v.value)
			require.Equal(t, 200, page.StatusCode)
			assert.Equal(t, v.key, page.Request.URL.Query().Get("key"))
			require.Contains(t, s.platform.Variables(10001), v.key)
			require.True(t, v.value == s.platform.Variables(10001)[v.key], "stored as it was typed")
			assert.True(t, v.value == page.value(t), "shown as it was typed")
			require.True(t, strings.Contains(html.UnescapeString(page.body), "Saved “"+v.key+"”."), "the notice names the variable")
			assert.Contains(t, page.body, english.DeleteNow)

			// Change it, through the form's own address.
			action := regexp.MustCompile(`action="(/variable\?[^"]*)"`).FindStringSubmatch(page.body)
			require.NotNil(t, action)
			b.post(s.url+html.UnescapeString(action[1]), page.form("value", "new"))
			assert.Equal(t, "new", s.platform.Variables(10001)[v.key])

			link := regexp.MustCompile(`<li><a href="(/variable\?key=[^"]*)">`).FindStringSubmatch(b.get(s.url).body)
			require.NotNil(t, link, "the account page lists the key")
			page = b.get(s.url + html.UnescapeString(link[1]))
			assert.Equal(t, v.key, page.Request.URL.Query().Get("key"))
			assert.Equal(t, "new", page.value(t))

			action = regexp.MustCompile(`action="(/variable/delete\?[^"]*)"`).FindStringSubmatch(page.body)
			require.NotNil(t, action)
			page = b.post(s.url+html.UnescapeString(action[1]), page.form())
			assert.Equal(t, s.url+"/", page.Request.URL.String())
			assert.NotContains(t, s.platform.Variables(10001), v.key)
			assert.NotContains(t, html.UnescapeString(page.body), ">"+v.key+"</a>")
			assert.Contains(t, html.UnescapeString(page.body), "Deleted “"+v.key+"”.")
		})
	}
}

// TestLookUp reads and changes a variable of another application. Its key and its value
// have characters that no form can send.
func TestLookUp(t *testing.T) {
	s, b := newSite(t), newBrowser(t)
	b.signIn(s, "/login")
	s.platform.SetVariable(10001, "a\r\nb\n", "dos\r\nlines")
	at := s.url + "/variable?" + url.Values{"key": {"a\r\nb\n"}}.Encode()
	page := b.get(at)
	assert.Contains(t, html.UnescapeString(page.body), english.NotEditable)
	b.post(at, page.form("value", "x\r\ny"))
	assert.Equal(t, map[string]string{"a\r\nb\n": "x\ny"}, s.platform.Variables(10001))

	for _, missing := range []shangcloudtest.MissingVariable{
		shangcloudtest.MissingIsEmpty, shangcloudtest.MissingIsError, shangcloudtest.MissingIsNotFound,
	} {
		s.platform.Configure(func(c *shangcloudtest.Settings) { c.MissingVariable = missing })
		page = b.get(s.url + "/variable?key=nothing")
		assert.Equal(t, 200, page.StatusCode)
		assert.Contains(t, html.UnescapeString(page.body), english.NoValue)
		assert.NotContains(t, page.body, english.DeleteNow, "there is nothing to delete")
	}
	assert.NotContains(t, b.get(s.url).body, "nothing")
}

func TestFormErrors(t *testing.T) {
	s, b := newSite(t), newBrowser(t)
	b.signIn(s, "/login")
	for name, c := range map[string]struct {
		key, value string
		status     int
		says       string
	}{
		"no key":         {"", "typed", 422, english.KeyEmpty},
		"long key":       {strings.Repeat("键", maxKey+1), "typed", 422, english.KeyTooLong},
		"long value":     {"k", strings.Repeat("v", maxValue+1), 422, english.ValueTooLong},
		"not UTF-8":      {"k", "\xff", 422, english.NotText},
		"far too large":  {"k", strings.Repeat("v", maxForm), 413, english.FormTooLarge.Text},
		"malformed form": {"%", "", 400, english.BadForm.Text},
	} {
		t.Run(name, func(t *testing.T) {
			b := &browser{t: t, http: b.http, lang: b.lang}
			var page answer
			if c.status == 400 {
				req, _ := http.NewRequest(http.MethodPost, s.url+"/variable", strings.NewReader("key=%zz"))
				req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				page = b.do(req)
			} else {
				page = b.save(s, c.key, c.value)
			}
			assert.Equal(t, c.status, page.StatusCode)
			assert.Contains(t, page.body, c.says)
			if c.value == "typed" {
				assert.Equal(t, "typed", page.value(t), "nothing typed is lost")
			}
		})
	}
	assert.Empty(t, s.platform.Variables(10001))
	assert.Equal(t, 400, b.get(s.url+"/variable?key=").StatusCode)
}

func TestPlatformFails(t *testing.T) {
	s, b := newSite(t), newBrowser(t)
	b.signIn(s, "/login")
	s.platform.Fault("/api/varibles", shangcloudtest.Fault{Status: 500})
	page := b.save(s, "k", "typed")
	assert.Equal(t, 502, page.StatusCode)
	assert.Contains(t, html.UnescapeString(page.body), english.NotSaved)
	assert.Equal(t, "typed", page.value(t))
	assert.Equal(t, 502, b.get(s.url+"/variable?key=k").StatusCode)

	s.platform.ClearFaults()
	s.platform.Fault("/api/varibles", shangcloudtest.Fault{Body: `{"error":"quota <b>used up</b>"}`})
	page = b.save(s, "k", "typed")
	assert.Equal(t, 502, page.StatusCode)
	assert.Contains(t, page.body, "quota &lt;b&gt;used up&lt;/b&gt;")

	s.platform.ClearFaults()
	s.platform.Fault("/api/varibles", shangcloudtest.Fault{Status: 403})
	page = b.get(s.url + "/variable?key=k")
	assert.Equal(t, 502, page.StatusCode)
	assert.Contains(t, page.body, english.CallRefused.Title)
	assert.Contains(t, b.get(s.url).body, "10001", "still signed in")
}

func TestTokens(t *testing.T) {
	s, b := newSite(t), newBrowser(t)
	b.signIn(s, "/login")
	s.platform.ExpireTokens()
	assert.Equal(t, 200, b.save(s, "k", "v").StatusCode, "the token is refreshed")

	s.platform.Revoke(10001)
	page := b.save(s, "k", "typed")
	assert.Equal(t, 401, page.StatusCode)
	assert.Contains(t, page.body, english.SessionEnded.Title)
	assert.Equal(t, "typed", page.value(t), "nothing typed is lost")
	assert.Empty(t, s.app.sessions.byID)
	assert.NotContains(t, page.body, english.SignOut)
}

func TestReturnsAfterLogin(t *testing.T) {
	s := newSite(t)
	s.platform.AutoApprove(10001)
	for next, want := range map[string]string{
		"/variable?key=a%2Fb":  "/variable?key=a%2Fb",
		"":                     "/",
		"//evil.example/":      "/",
		`/\evil.example`:       "/",
		"https://evil.example": "/",
		"/\t/evil.example":     "/",
		"javascript:alert(1)":  "/",
	} {
		page := newBrowser(t).get(s.url + "/login?" + url.Values{"next": {next}}.Encode())
		assert.Equal(t, s.url+want, page.Request.URL.String(), "next=%q", next)
	}
	page := newBrowser(t).get(s.url + "/variable?key=k")
	assert.Equal(t, s.url+"/variable?key=k", page.Request.URL.String())

	// A request from one of our pages, such as a form, gets a page with a login link. It
	// gets no redirect, because a redirect would lead to another site.
	b := newBrowser(t)
	b.from = "same-origin"
	page = b.get(s.url + "/variable?key=k")
	assert.Equal(t, 401, page.StatusCode)
	assert.Contains(t, page.body, `href="/login?next=%2fvariable%3fkey%3dk"`)
}

func TestDenied(t *testing.T) {
	s, b := newSite(t), newBrowser(t)
	consent := b.get(s.url + "/login")
	page := b.post(s.platform.URL+"/oauth/consent", consent.form("decision", "deny"))
	assert.Equal(t, 403, page.StatusCode)
	assert.Contains(t, page.body, english.Denied.Title)
	assert.Contains(t, page.body, `href="/login?next="`)
	assert.Empty(t, s.app.sessions.byID)
}

func TestCallbackTwice(t *testing.T) {
	s, b := newSite(t), newBrowser(t)
	consent := b.get(s.url + "/login")
	b.stay()
	callback := b.post(s.platform.URL+"/oauth/consent", consent.form("user", "10001", "decision", "allow")).Header.Get("Location")

	stranger := newBrowser(t)
	page := stranger.get(callback)
	assert.Equal(t, 400, page.StatusCode)
	assert.Contains(t, page.body, english.LoginLost.Title)

	assert.Equal(t, 303, b.get(callback).StatusCode)
	again := b.get(callback)
	assert.Equal(t, 303, again.StatusCode)
	assert.Equal(t, "/", again.Header.Get("Location"))
	assert.Contains(t, b.get(s.url).body, "10001")
}

func TestLoginFails(t *testing.T) {
	s := newSite(t)
	assert.Equal(t, 400, newBrowser(t).get(s.url+"/callback").StatusCode)
	assert.Equal(t, 400, newBrowser(t).get(s.url+"/callback?state=x&code=y").StatusCode)

	s.platform.AutoApprove(10001)
	for name, c := range map[string]struct {
		path   string
		fault  shangcloudtest.Fault
		status int
		says   text
	}{
		"token endpoint down":    {"/oauth/token", shangcloudtest.Fault{Status: 503}, 502, english.Unavailable},
		"token endpoint refuses": {"/oauth/token", shangcloudtest.Fault{Status: 400, Body: `{"error":"invalid_grant"}`}, 502, english.Refused},
		"no user":                {"/api/user/info", shangcloudtest.Fault{Body: `{}`}, 502, english.Unavailable},
		"user refused":           {"/api/user/info", shangcloudtest.Fault{Status: 403}, 502, english.Refused},
	} {
		t.Run(name, func(t *testing.T) {
			s.platform.Fault(c.path, c.fault)
			defer s.platform.ClearFaults()
			page := newBrowser(t).get(s.url + "/login")
			assert.Equal(t, c.status, page.StatusCode)
			assert.Contains(t, html.UnescapeString(page.body), c.says.Title)
			assert.Empty(t, s.app.sessions.byID)
		})
	}

	// A wrong scope: the platform refuses it in the callback.
	s.platform.AddClient(shangcloudtest.Client{ID: "demo", Secret: secret, RedirectURIs: []string{s.url + "/callback"}, Scopes: []string{"user:basic"}})
	page := newBrowser(t).get(s.url + "/login")
	assert.Equal(t, 502, page.StatusCode)
	assert.Contains(t, page.body, english.Refused.Title)
}

func TestForgedForms(t *testing.T) {
	s, b := newSite(t), newBrowser(t)
	b.signIn(s, "/login")
	form := b.get(s.url+"/variable").form("key", "k", "value", "v")
	forged := func(page answer) {
		t.Helper()
		assert.Equal(t, 403, page.StatusCode)
		assert.Contains(t, page.body, english.ForeignForm.Title)
		assert.Empty(t, s.platform.Variables(10001))
	}
	b.from = "cross-site"
	forged(b.post(s.url+"/variable", form))
	forged(b.post(s.url+"/logout", form))
	b.from = ""
	for _, token := range []string{"", "wrong"} {
		form.Set("token", token)
		forged(b.post(s.url+"/variable", form))
		forged(b.post(s.url+"/variable/delete?key=k", form))
		forged(b.post(s.url+"/logout", form))
	}
	// A token in the address does not count either.
	forged(b.post(s.url+"/logout?token="+b.get(s.url).form().Get("token"), nil))
	assert.Contains(t, b.get(s.url).body, "10001", "still signed in")
	assert.Equal(t, 404, b.get(s.url+"/logout").StatusCode)
}

func TestHeaders(t *testing.T) {
	s, b := newSite(t), newBrowser(t)
	for _, path := range []string{"/", "/callback", "/nothing", "/style.css", "/favicon.svg"} {
		page := b.get(s.url + path)
		h := page.Header
		assert.Equal(t, "default-src 'none'; style-src 'self'; img-src 'self' https: "+s.platform.URL+
			"; form-action 'self'; frame-ancestors 'none'; base-uri 'none'", h.Get("Content-Security-Policy"))
		assert.Equal(t, "nosniff", h.Get("X-Content-Type-Options"))
		assert.Equal(t, "same-origin", h.Get("Referrer-Policy"))
		assert.Equal(t, "no-store", h.Get("Cache-Control"))
		assert.NotContains(t, page.body, "<script")
		assert.NotContains(t, page.body, "style=")
	}
	assert.Equal(t, "image/svg+xml", b.get(s.url+"/favicon.svg").Header.Get("Content-Type"))
	assert.Equal(t, 404, b.get(s.url+"/nothing").StatusCode)
}

func TestCanonicalHost(t *testing.T) {
	s, b := newSite(t), newBrowser(t)
	b.stay()
	other := strings.Replace(s.url, "127.0.0.1", "localhost", 1)
	page := b.get(other + "//evil.example/?a=b")
	assert.Equal(t, 302, page.StatusCode)
	assert.Equal(t, s.url+"//evil.example/?a=b", page.Header.Get("Location"))
	assert.Empty(t, page.Cookies())

	// Browsers omit the default port of the scheme.
	for _, host := range []string{"127.0.0.1", "127.0.0.1:80"} {
		assert.True(t, sameHost(host, "127.0.0.1:80"))
		assert.True(t, sameHost(host, "127.0.0.1"))
	}
	assert.True(t, sameHost("localhost:8080", "LocalHost:8080"))
	assert.False(t, sameHost("localhost", "localhost:8080"))
}

func TestLanguages(t *testing.T) {
	s, b := newSite(t), newBrowser(t)
	b.lang = "zh-TW,zh;q=0.9,en;q=0.8"
	page := b.get(s.url)
	assert.Contains(t, page.body, `<html lang="zh-CN">`)
	assert.Contains(t, page.body, chinese.Welcome.Text)
	page = b.signIn(s, "/login")
	assert.Contains(t, page.body, chinese.TouchedOnly)
	page = b.get(s.url + "/variable?key=a%26b")
	assert.Contains(t, page.body, `href="/variable?key=a%26b&amp;lang=en"`)
	page = b.get(s.url + "/variable?key=a%26b&lang=en")
	assert.Contains(t, page.body, `<html lang="en">`)
	assert.Contains(t, page.body, "a&amp;b")
	assert.Contains(t, b.get(s.url).body, english.TouchedOnly, "the choice is remembered")
	assert.Contains(t, b.get(s.url+"/?lang=xx").body, english.TouchedOnly)
}
