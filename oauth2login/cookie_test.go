package oauth2login_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLoginCookie(t *testing.T) { storedAndSealed(t, testLoginCookie) }

func testLoginCookie(t *testing.T, kind func(*setup)) {
	for _, c := range []struct {
		redirect string
		prefix   string
		secure   bool
	}{
		{"https://app.example/callback", "__Host-oauth2login-", true},
		{"http://127.0.0.1/callback", "oauth2login-", false},
		{"HTTP://127.0.0.1/callback", "oauth2login-", false},
	} {
		t.Run(c.redirect, func(t *testing.T) {
			s := newSite(t, kind, func(conf *setup) { conf.RedirectURL = c.redirect })
			w := httptest.NewRecorder()
			start := httptest.NewRequest("GET", "/login", nil)
			for _, name := range []string{"X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded"} {
				start.Header.Set(name, map[bool]string{true: "http", false: "https"}[c.secure]) // nobody listens
			}
			require.NoError(t, s.StartLogin(w, start))
			cookies := w.Result().Cookies()
			require.Len(t, cookies, 1)
			got := cookies[0]
			assert.Regexp(t, "^"+c.prefix+"1?[0-9]$", got.Name)
			assert.Regexp(t, `^[0-9a-f]{8}\.[0-9]{13}\.[A-Z2-7]{26}(\.[\w-]+)?$`, got.Value)
			assert.Equal(t, c.secure, got.Secure)
			assert.True(t, got.HttpOnly)
			assert.Equal(t, http.SameSiteLaxMode, got.SameSite)
			assert.Equal(t, "/", got.Path)
			assert.Empty(t, got.Domain)
			assert.Equal(t, 35*60, got.MaxAge, "it outlives the login: a late callback is told that it is late")
			assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
			_, secret, _ := partsOf(got.Value)
			assert.NotContains(t, w.Header().Get("Location"), secret, "the secret stays between site and browser")

			r := httptest.NewRequest("GET", authorize(t, w.Header().Get("Location")), nil)
			r.AddCookie(got)
			w = httptest.NewRecorder()
			_, err := s.FinishLogin(w, r)
			require.NoError(t, err)
			require.Len(t, w.Result().Cookies(), 1)
			cleared := w.Result().Cookies()[0]
			assert.Equal(t, got.Name, cleared.Name)
			assert.Negative(t, cleared.MaxAge)
			assert.Equal(t, c.secure, cleared.Secure)
			assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
		})
	}
}

// TestAbandonedLogins starts more logins than a browser can keep. The oldest are dropped,
// and the cookies do not pile up.
func TestAbandonedLogins(t *testing.T) {
	s, b := newSite(t), newBrowser(t)
	var urls []string
	for range 50 {
		urls = append(urls, b.start(t, s))
	}
	assert.Len(t, b.jar.Cookies(mustParse(s.redirect)), 20)
	for _, u := range urls[30:] {
		_, err := b.finish(s, authorize(t, u))
		require.NoError(t, err)
	}
	_, err := b.finish(s, authorize(t, urls[29]))
	assert.ErrorIs(t, err, oauth2login.ErrWrongBrowser)
}

// startsAtOnce lets b start n logins. The parameter open limits how many starts wait for
// their answers at a time; these do not see each other's cookies. The answers arrive in
// random order, or in the order of the starts if random is nil. check runs after each
// answer.
func (b *browser) startsAtOnce(t *testing.T, random *rand.Rand, n, open int, start func(w http.ResponseWriter, r *http.Request) error, check func()) {
	t.Helper()
	var answers []*httptest.ResponseRecorder
	for n > 0 || len(answers) > 0 {
		if n > 0 && len(answers) < open {
			w := httptest.NewRecorder()
			require.NoError(t, start(w, b.request("GET", "https://app.example/login")))
			answers = append(answers, w)
			n--
			continue
		}
		i := 0
		if random != nil {
			i = random.IntN(len(answers))
		}
		b.jar.SetCookies(mustParse("https://app.example/login"), answers[i].Result().Cookies())
		answers = slices.Delete(answers, i, i+1)
		check()
	}
}

// cookies returns the number of b's cookies, and the length of the Cookie header.
func (b *browser) cookies() (count, size int) {
	r := b.request("GET", "https://app.example/login")
	return len(r.Cookies()), len(r.Header.Get("Cookie"))
}

// lengths are kinds of logins whose cookies differ in length.
var lengths = []struct {
	name string
	kind func(*setup)
	path int // the length of its return path
}{
	{"stored", func(*setup) {}, 1900},
	{"sealed", sealedWith("1"), 1},
	{"sealed with a path", sealedWith("1"), 300},
	{"sealed with the longest path", sealedWith("1"), 1900},
}

func pathOf(length int) oauth2login.LoginOption {
	return oauth2login.WithReturnTo("/" + strings.Repeat("p", length))
}

// However many logins of the same length start at once, the browser keeps at most 20
// cookies and 4 KB. A login after that works.
func TestStartsAtOnce(t *testing.T) {
	for _, c := range lengths {
		for _, open := range []int{6, 400} {
			t.Run(fmt.Sprintf("%s/%d", c.name, open), func(t *testing.T) {
				inBubble(t, func(t *testing.T, s *site) {
					b, random := newBrowser(t), rand.New(rand.NewPCG(1, 2))
					start := func(w http.ResponseWriter, r *http.Request) error { return s.StartLogin(w, r, pathOf(c.path)) }
					b.startsAtOnce(t, random, 400, open, start, func() {
						count, size := b.cookies()
						require.LessOrEqual(t, count, 20)
						require.LessOrEqual(t, size, 4096)
					})
					b.assertLogsIn(t, s)
				}, c.kind)
			})
		}
	}
}

// assertLogsIn has b start a login and return from the provider.
func (b *browser) assertLogsIn(t *testing.T, s *site, opts ...oauth2login.LoginOption) {
	t.Helper()
	state := queryOf(t, b.start(t, s, opts...)).Get("state")
	_, err := b.finish(s, s.redirect+"?error=access_denied&state="+state)
	assert.ErrorIs(t, err, oauth2login.ErrAccessDenied)
}

// Logins of different lengths that start at once may take more than 4 KB together. They
// take most if the short ones start first. The next start deletes the surplus, and its
// headers take less than 8 KB.
func TestStartsAtOnce_mixed(t *testing.T) {
	for _, c := range []struct {
		name     string
		shuffled bool
		open     int
		size     int
	}{
		{"in sequence", true, 1, 4 << 10},
		{"short to long", false, 400, 14 << 10},
		{"a few", true, 6, 14 << 10},
		{"many", true, 100, 14 << 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *site) {
				b := newBrowser(t)
				var paths []int
				for i := range 390 {
					paths = append(paths, i*5)
				}
				var random *rand.Rand
				if c.shuffled {
					random = rand.New(rand.NewPCG(1, 2))
					random.Shuffle(len(paths), func(i, j int) { paths[i], paths[j] = paths[j], paths[i] })
				}
				left := paths
				start := func(w http.ResponseWriter, r *http.Request) error {
					path := left[0]
					left = left[1:]
					return s.StartLogin(w, r, pathOf(path))
				}
				b.startsAtOnce(t, random, len(paths), c.open, start, func() {
					count, size := b.cookies()
					require.LessOrEqual(t, count, 20)
					require.LessOrEqual(t, size, c.size)
				})
				r, w := b.request("GET", "https://app.example/login"), httptest.NewRecorder()
				require.NoError(t, s.StartLogin(w, r, pathOf(1900)))
				var header strings.Builder
				require.NoError(t, w.Header().Write(&header))
				assert.Less(t, header.Len(), 8<<10)
				b.keep(r, w)
				_, size := b.cookies()
				assert.LessOrEqual(t, size, 4096)
				b.assertLogsIn(t, s)
			}, sealedWith("1"))
		})
	}
}

// The newest login of each of three providers stays, even if their cookies take more than
// 4 KB together.
func TestStartsAtOnce_providers(t *testing.T) {
	for _, c := range lengths {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *site) {
				sites := []*site{s}
				for _, id := range []string{"second", "third"} {
					sites = append(sites, newSiteAt(t, s.platform, c.kind, func(s *setup) { s.ClientID = id }))
				}
				b, random := newBrowser(t), rand.New(rand.NewPCG(1, 2))
				longest := 0
				start := func(w http.ResponseWriter, r *http.Request) error {
					err := sites[random.IntN(len(sites))].StartLogin(w, r, pathOf(c.path))
					longest = max(longest, len(w.Header().Get("Set-Cookie")))
					return err
				}
				b.startsAtOnce(t, random, 400, 6, start, func() {
					count, size := b.cookies()
					require.LessOrEqual(t, count, 20)
					require.LessOrEqual(t, size, max(4096, 3*longest))
				})
				var callbacks []string // from here on, the logins start one after another
				for _, s := range sites {
					callbacks = append(callbacks, s.redirect+"?error=access_denied&state="+queryOf(t, b.start(t, s, pathOf(c.path))).Get("state"))
				}
				for i, s := range sites {
					_, err := b.finish(s, callbacks[i])
					assert.ErrorIs(t, err, oauth2login.ErrAccessDenied, i)
				}
			}, c.kind)
		})
	}
}

// TestCookieNames: a start reuses the cookie name of another login only if no name is
// free. Two starts at the same time seldom choose the same name.
func TestCookieNames(t *testing.T) {
	s := newSite(t)
	b := newBrowser(t)
	for i := range 20 {
		b.start(t, s)
		count, _ := b.cookies()
		require.Equal(t, i+1, count)
	}
	same := 0
	for range 100 {
		one, _ := started(t, s.Provider)
		two, _ := started(t, s.Provider)
		if one.Name == two.Name {
			same++
		}
	}
	assert.Less(t, same, 40, "5 in the mean; 40 happen less than once in 10^20 runs")
}

// Two simultaneous starts chose the same cookie name, so one cookie has replaced the
// other. The login without a cookie is refused. Its callback does not disturb the other
// login.
func TestReplacedLogin(t *testing.T) { storedAndSealed(t, testReplacedLogin) }

func testReplacedLogin(t *testing.T, kind func(*setup)) {
	s := newSite(t, kind)
	_, gone := started(t, s.Provider)
	cookie, state := started(t, s.Provider)
	w := httptest.NewRecorder()
	_, err := s.FinishLogin(w, requestWith("error=access_denied&state="+gone, cookie.String()))
	assert.ErrorIs(t, err, oauth2login.ErrWrongBrowser)
	assert.NotErrorIs(t, err, oauth2login.ErrNoCookies)
	assert.Empty(t, w.Result().Cookies())
	w = httptest.NewRecorder()
	_, err = s.FinishLogin(w, requestWith("error=access_denied&state="+state, cookie.String()))
	assert.ErrorIs(t, err, oauth2login.ErrAccessDenied)
	require.Len(t, w.Result().Cookies(), 1)
	assert.Equal(t, cookie.Name, w.Result().Cookies()[0].Name)
}

// The browser has logins from a machine whose clock is ahead. Logins that start here
// still count as newer.
func TestClocksOfStarts(t *testing.T) {
	s, b := newSite(t), newBrowser(t)
	for range 20 {
		b.start(t, s)
	}
	ahead := b.jar.Cookies(mustParse(s.redirect))
	for _, c := range ahead {
		c.Value, c.Path, c.Secure = shifted(t, c.Value, 2*time.Minute), "/", true
	}
	b.jar.SetCookies(mustParse(s.redirect), ahead)
	var callbacks []string
	for range 20 {
		callbacks = append(callbacks, authorize(t, b.start(t, s)))
	}
	for _, callback := range callbacks {
		_, err := b.finish(s, callback)
		assert.NoError(t, err)
	}
}

// shifted adds the duration by to the start time in the value of a login cookie.
func shifted(t *testing.T, value string, by time.Duration) string {
	t.Helper()
	parts := strings.Split(value, ".")
	ms, err := strconv.ParseInt(parts[1], 10, 64)
	require.NoError(t, err)
	parts[1] = fmt.Sprintf("%013d", ms+by.Milliseconds())
	return strings.Join(parts, ".")
}

// The cookie of another provider's newest login is not replaced while that login can
// still be pending. Any other cookie may be replaced.
func TestCookieHoldsItsName(t *testing.T) {
	one, two := newSite(t, sealedWith("1")), newSite(t, sealedWith("1"), func(c *setup) { c.ClientID = "second" })
	old, _ := started(t, one.Provider, pathOf(1900))
	head, secret, sealed := partsOf(old.Value)
	for name, c := range map[string]struct {
		value string
		holds bool
	}{
		"new":                    {old.Value, true},
		"a bit old":              {shifted(t, old.Value, -89*time.Minute), true},
		"too old":                {shifted(t, old.Value, -91*time.Minute), false},
		"of a clock ahead":       {shifted(t, old.Value, 4*time.Minute), true},
		"of the future":          {shifted(t, old.Value, 6*time.Minute), false},
		"too long a provider":    {"0" + old.Value, false},
		"without a secret":       {head + ".." + sealed, false},
		"without a time":         {head[:9] + "." + secret + "." + sealed, false},
		"of a time that is none": {head[:9] + "-" + head[10:] + "." + secret + "." + sealed, false},
		"not of a login":         {"x", false},
	} {
		w := httptest.NewRecorder()
		require.NoError(t, two.StartLogin(w, requestWith("", old.Name+"="+c.value), pathOf(1900)))
		assert.Equal(t, c.holds, w.Result().Cookies()[0].Name != old.Name, name)
	}
}

// If there are more providers than cookie names, the oldest login is dropped.
func TestMoreProvidersThanNames(t *testing.T) {
	platform, b := newPlatform(t), newBrowser(t)
	var sites []*site
	var callbacks []string
	for i := range 25 {
		s := newSiteAt(t, platform, func(c *setup) { c.ClientID = fmt.Sprint("client ", i) })
		sites = append(sites, s)
		callbacks = append(callbacks, s.redirect+"?error=access_denied&state="+queryOf(t, b.start(t, s)).Get("state"))
	}
	for i, s := range sites {
		want := oauth2login.ErrAccessDenied
		if i < 5 {
			want = oauth2login.ErrWrongBrowser
		}
		_, err := b.finish(s, callbacks[i])
		assert.ErrorIs(t, err, want, i)
	}
}

// A malformed cookie is not accepted, even if it contains the login's secret.
func TestLoginCookie_malformed(t *testing.T) { storedAndSealed(t, testLoginCookieMalformed) }

func testLoginCookieMalformed(t *testing.T, kind func(*setup)) {
	s := newSite(t, kind)
	cookie, state := started(t, s.Provider)
	parts := strings.SplitN(cookie.Value, ".", 3)
	provider, at, rest := parts[0], parts[1], parts[2]
	for name, value := range map[string]string{
		"the secret alone":     rest,
		"no provider":          "." + at + "." + rest,
		"another provider":     "00000000." + at + "." + rest,
		"a long provider":      provider + "0." + at + "." + rest,
		"no time":              provider + "." + rest,
		"an empty time":        provider + ".." + rest,
		"a short time":         provider + "." + at[1:] + "." + rest,
		"a long time":          provider + ".0" + at + "." + rest,
		"a time below 0":       provider + ".-" + at[1:] + "." + rest,
		"a time that is none":  provider + ".x" + at[1:] + "." + rest,
		"no secret":            provider + "." + at,
		"an empty secret":      provider + "." + at + ".",
		"a secret in front":    rest + "." + provider + "." + at,
		"an endless secret":    provider + "." + at + "." + strings.Repeat("A", 5000) + rest,
		"a dot before it all":  "." + cookie.Value,
		"a space in the value": strings.Replace(cookie.Value, ".", " .", 1),
	} {
		_, err := s.FinishLogin(httptest.NewRecorder(), requestWith("error=access_denied&state="+state, cookie.Name+"="+value))
		assert.ErrorIs(t, err, oauth2login.ErrWrongBrowser, name)
	}
	_, err := s.FinishLogin(httptest.NewRecorder(), requestWith("error=access_denied&state="+state, cookie.Name+"="+cookie.Value))
	assert.ErrorIs(t, err, oauth2login.ErrAccessDenied)
}

// TestPlantedCookies puts an attacker's cookies in front of the browser's own. A sibling
// subdomain can do that on plain http, and so can a program on another port. The user's
// next login still works.
func TestPlantedCookies(t *testing.T) { storedAndSealed(t, testPlantedCookies) }

func testPlantedCookies(t *testing.T, kind func(*setup)) {
	s := newSite(t, kind)
	strange := newSite(t, kind, func(c *setup) { c.ClientID = "strange" })
	plant := func(n int, value func(i int) string) (header string) {
		for i := range n {
			header += fmt.Sprintf("__Host-oauth2login-%d=%s; ", i%20, value(i))
		}
		return header
	}
	own := func(by time.Duration) func(int) string {
		return func(int) string { c, _ := started(t, s.Provider); return shifted(t, c.Value, by) }
	}
	for name, planted := range map[string]string{
		"garbage":                 plant(20, func(int) string { return "tossed" }),
		"long garbage":            plant(20, func(int) string { return strings.Repeat("x", 4000) }),
		"numbers out of range":    strings.NewReplacer("login-0", "login-20", "login-1", "login--1", "login-2", "login-99999999999999999999").Replace(plant(3, own(0))),
		"logins of this provider": plant(20, own(0)),
		"of the future":           plant(20, own(4*time.Minute)),
		"of a far future":         plant(20, own(24*time.Hour)),
		"of long ago":             plant(20, own(-24*time.Hour)),
		"of another provider":     plant(20, func(int) string { c, _ := started(t, strange.Provider); return c.Value }),
		"of 20 providers":         plant(20, func(i int) string { c, _ := started(t, strange.Provider); return fmt.Sprintf("%08d", i) + c.Value[8:] }),
		"180 logins":              plant(180, own(0)),
		"many of one name":        strings.Repeat("__Host-oauth2login-7="+own(time.Minute)(0)+"; ", 20),
	} {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			require.NoError(t, s.StartLogin(w, requestWith("", planted)))
			assert.Less(t, len(w.Header()["Set-Cookie"]), 21)
			for _, c := range w.Result().Cookies() {
				if c.MaxAge > 0 {
					planted += c.Name + "=" + c.Value // after the planted ones
				}
			}
			_, err := s.FinishLogin(httptest.NewRecorder(), requestWith(queryOf(t, authorize(t, w.Header().Get("Location"))).Encode(), planted))
			assert.NoError(t, err)
		})
	}
	t.Run("more than browsers keep", func(t *testing.T) {
		cookie, state := started(t, s.Provider)
		_, err := s.FinishLogin(httptest.NewRecorder(), requestWith("code=c&state="+state, plant(300, own(0))+cookie.Name+"="+cookie.Value))
		assert.ErrorIs(t, err, oauth2login.ErrWrongBrowser, "nobody looks at them all")
	})
}

// Logins are abandoned at two providers of a site that has other cookies as well. The
// logins together take at most 20 cookies and 4 KB, and no other cookie is dropped.
func TestFullCookieJar(t *testing.T) {
	one, two, b := newSite(t), newSite(t, func(c *setup) { c.ClientID = "second" }), newBrowser(t)
	page := mustParse(one.redirect)
	var others []*http.Cookie
	for i := range 150 {
		others = append(others, &http.Cookie{Name: fmt.Sprint("other", i), Value: strings.Repeat("o", 20), Path: "/", Secure: true})
	}
	b.jar.SetCookies(page, others)
	for range 60 {
		b.start(t, one, oauth2login.WithReturnTo("/"+strings.Repeat("p", 2000)), oauth2login.WithValue(strings.Repeat("v", 1000)))
		b.start(t, two)
		logins, size := 0, 0
		for _, c := range b.jar.Cookies(page) {
			if strings.Contains(c.Name, "oauth2login-") {
				logins, size = logins+1, size+len(c.Name)+len(c.Value)
			}
		}
		require.LessOrEqual(t, logins, 20)
		require.LessOrEqual(t, size, 4096)
		require.Len(t, b.jar.Cookies(page), len(others)+logins)
	}
	last := queryOf(t, b.start(t, two)).Get("state")
	for range 30 {
		b.start(t, one)
	}
	_, err := b.finish(two, two.redirect+"?error=access_denied&state="+last)
	assert.ErrorIs(t, err, oauth2login.ErrAccessDenied, "the other provider's login is still under way")
	_, err = b.finish(one, authorize(t, b.start(t, one)))
	assert.NoError(t, err)
}

// TestSealedCookiesDoNotPileUp abandons sealed logins with long cookies.
func TestSealedCookiesDoNotPileUp(t *testing.T) {
	s, b := newSite(t, sealedWith("1")), newBrowser(t)
	for i := range 40 {
		b.start(t, s, oauth2login.WithReturnTo("/"+strings.Repeat("p", i*40)))
		size := 0
		for _, c := range b.jar.Cookies(mustParse(s.redirect)) {
			size += len(c.Name) + len(c.Value)
		}
		assert.LessOrEqual(t, size, 4096, i)
	}
	_, err := b.finish(s, authorize(t, b.start(t, s)))
	assert.NoError(t, err)
}

// TestCookieOfANeighbour puts a second cookie with the same name in front, as a sibling
// subdomain can on plain http.
func TestCookieOfANeighbour(t *testing.T) { storedAndSealed(t, testCookieOfANeighbour) }

func testCookieOfANeighbour(t *testing.T, kind func(*setup)) {
	s, b := newSite(t, kind), newBrowser(t)
	callbackURL := authorize(t, b.start(t, s))
	r := httptest.NewRequest("GET", callbackURL, nil)
	own := b.jar.Cookies(mustParse(s.redirect))[0]
	r.AddCookie(&http.Cookie{Name: own.Name, Value: "tossed"})
	r.AddCookie(own)
	_, err := s.FinishLogin(httptest.NewRecorder(), r)
	assert.NoError(t, err)
}
