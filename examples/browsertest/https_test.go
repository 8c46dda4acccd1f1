package browser

import (
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// loginCookie is the prefix of the library's cookies over https.
const loginCookie = "__Host-oauth2login-"

func TestSignInOverHTTPS(t *testing.T) {
	t.Parallel()
	s, b := newSecureSite(t, nil), newPerson(t)
	b.visit(s.at("variable?key=greeting"))
	cookies := b.cookies()
	require.Len(t, cookies, 1)
	c := cookies[0]
	assert.True(t, strings.HasPrefix(c.Name, loginCookie), c.Name)
	assert.Equal(t, appHost, c.Domain, "the cookie's host")
	assert.Equal(t, "/", c.Path)
	assert.True(t, c.Secure)
	assert.True(t, c.HTTPOnly)
	assert.Equal(t, network.CookieSameSiteLax, c.SameSite)

	b.click(allow)
	assert.Equal(t, "/variable?key=greeting", b.path())
	assert.Equal(t, "你好，世界\nHello, world", b.value("textarea"))
	for _, c := range b.cookies() {
		assert.False(t, strings.HasPrefix(c.Name, loginCookie), "the cookie of a finished login is deleted")
		assert.True(t, strings.HasPrefix(c.Name, "__Host-"), "the session's cookie belongs to this host only")
	}
}

// Each attribute of the login's cookie is necessary: if one is wrong, the login fails.
func TestFaultyCookies(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		from, to string
		works    bool
	}{
		"unchanged":          {"", "", true},
		"SameSite=Strict":    {"SameSite=Lax", "SameSite=Strict", false},
		"without Secure":     {"; Secure", "", false},
		"for another path":   {"Path=/;", "Path=/callback;", false},
		"for the whole site": {"Path=/;", "Path=/; Domain=app.test;", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSecureSite(t, func(r *http.Response) error {
				cookies := r.Header["Set-Cookie"]
				for i, cookie := range cookies {
					if strings.HasPrefix(cookie, loginCookie) {
						changed := strings.Replace(cookie, c.from, c.to, 1)
						assert.Equal(t, c.works, changed == cookie, cookie)
						cookies[i] = changed
					}
				}
				return nil
			})
			b := newPerson(t)
			b.visit(s.home)
			b.click(signIn)
			if c.works {
				assert.Equal(t, 200, b.click(allow))
				assert.Equal(t, "林小满", b.text("h1"))
			} else {
				b.faulty = true
				assert.Equal(t, 400, b.click(allow))
				assert.Equal(t, noLonger, b.text("h1"))
			}
		})
	}
}

// An attacker owns a sibling subdomain, and sets cookies for the whole site. The browser
// refuses cookies with the prefix __Host-. So the attacker can't replace the victim's
// login with a login of their own.
func TestSiblingSubdomain(t *testing.T) {
	t.Parallel()
	s, b := newSecureSite(t, nil), newPerson(t)
	attacker := newPerson(t)
	attacker.visit(s.home)
	attacker.click(signIn)
	stolen := attacker.cookies()
	require.Len(t, stolen, 1)

	sibling := serve(t, siblingHost, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for _, c := range []string{
			stolen[0].Name + "=" + stolen[0].Value + "; Path=/; Secure; Domain=app.test",
			stolen[0].Name + "=" + stolen[0].Value + "; Path=/; Secure",
			"planted=1; Path=/; Secure; Domain=app.test",
		} {
			w.Header().Add("Set-Cookie", c)
		}
	}))
	b.faulty = true // The browser reports the cookies that it refuses.
	b.visit(sibling)
	for _, c := range b.cookies() {
		if strings.HasPrefix(c.Name, "__Host-") {
			assert.Equal(t, siblingHost, c.Domain)
		}
	}

	// The attacker lets the victim's browser finish the attacker's login.
	attacker.click(allow)
	assert.Equal(t, 400, b.visit(attacker.requested("/callback")))
	assert.Equal(t, noLonger, b.text("h1"))

	b.login(s)
}
