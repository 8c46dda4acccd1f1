// Package browser is the user's browser in the tests of the examples: an HTTP client
// that keeps cookies, and is as strict about them as browsers are.
package browser

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Browser is one user's browser. It follows redirects, but stops before an address whose
// path is StopAt.
type Browser struct {
	StopAt string

	client *http.Client
}

// Page is the answer at which a browser stops.
type Page struct {
	Status   int
	Header   http.Header
	Body     string
	Address  *url.URL       // the page's URL
	Location string         // the redirect's target, if the browser stopped at a redirect
	Cookies  []*http.Cookie // the cookies that the page sets
}

// New returns a browser without cookies. If transport is nil, the browser uses
// http.DefaultTransport.
func New(t *testing.T, transport http.RoundTripper) *Browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	b := new(Browser)
	b.client = &http.Client{
		Transport: transport,
		Jar:       strictJar{jar},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) >= 10 {
				t.Errorf("redirected in circles")
			}
			if len(via) >= 10 || req.URL.Path == b.StopAt {
				return http.ErrUseLastResponse
			}
			return nil
		},
	}
	return b
}

// Visit opens an address.
func (b *Browser) Visit(t *testing.T, address string) Page {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	require.NoError(t, err)
	return b.Do(t, req)
}

// Do sends a request that a page's script makes.
func (b *Browser) Do(t *testing.T, req *http.Request) Page {
	t.Helper()
	res, err := b.client.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return Page{res.StatusCode, res.Header, string(body), res.Request.URL, res.Header.Get("Location"), res.Cookies()}
}

// Cookies returns the cookies that go to an address.
func (b *Browser) Cookies(t *testing.T, address string) []*http.Cookie {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	return b.client.Jar.Cookies(u)
}

// strictJar drops some cookies that net/http/cookiejar keeps and browsers drop: cookies
// with the prefix __Host- that lack the attributes which the prefix requires.
// https://www.rfc-editor.org/rfc/draft-ietf-httpbis-rfc6265bis#section-4.1.3.2
type strictJar struct{ http.CookieJar }

func (j strictJar) SetCookies(u *url.URL, cookies []*http.Cookie) {
	j.CookieJar.SetCookies(u, slices.DeleteFunc(slices.Clone(cookies), func(c *http.Cookie) bool {
		host := strings.HasPrefix(c.Name, "__Host-")
		return c.Secure && u.Scheme != "https" || host && (!c.Secure || c.Path != "/" || c.Domain != "")
	}))
}
