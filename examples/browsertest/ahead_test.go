package browser

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// With speculation rules, a browser fetches links before a click
// (https://wicg.github.io/nav-speculation/). That must not start a login.
//
// An automated Chromium sends the "prerender" request, but does not render the page.
func TestBrowserLooksAhead(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"prefetch", "prerender"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			const rules = "/rules.json"
			ahead := make(chan *http.Response, 100)
			s := newSecureSite(t, func(r *http.Response) error {
				switch {
				case r.Request.URL.Path == "/":
					r.Header.Set("Speculation-Rules", `"`+rules+`"`)
				case r.Request.URL.Path == rules:
					replace(r, "application/speculationrules+json", `{"`+how+`":[{"where":{"href_matches":"/login*"},"eagerness":"immediate"}]}`)
				case r.Request.URL.Path == "/login" && r.Request.Header.Get("Sec-Purpose") != "":
					ahead <- r
				}
				return nil
			})
			b := newPerson(t)
			b.visit(s.home)
			var r *http.Response
			select {
			case r = <-ahead:
			case <-time.After(limit):
				require.Fail(t, "the browser does not look ahead")
			}
			assert.True(t, strings.HasPrefix(r.Request.Header.Get("Sec-Purpose"), "prefetch"))
			assert.Equal(t, 503, r.StatusCode)
			assert.Empty(t, r.Cookies())
			assert.Empty(t, b.cookies(), "a login has begun")

			b.click(signIn)
			require.Equal(t, consent, b.text("h1"), "the click got the earlier answer")
			b.click(allow)
			assert.Equal(t, "林小满", b.text("h1"))
		})
	}
}
