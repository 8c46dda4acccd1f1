package oauth2login

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	// maxPendingLogins is how many logins of a browser can be under way on a host, for
	// all providers, and maxPendingBytes how long their cookies may be together. Many
	// servers allow 8 KB for a header.
	maxPendingLogins = 20
	maxPendingBytes  = 4 << 10

	// maxDropped is how many cookies an answer deletes. Each takes 100 bytes of headers,
	// and many proxies allow an answer 4 KB. The next start deletes more.
	maxDropped = 20

	// cookieGrace is how long a cookie outlives its login: a late callback is then told
	// that it is late, and not that the browser keeps no cookies.
	cookieGrace = 30 * time.Minute

	// cookieName begins the names of all providers' login cookies.
	cookieName = "oauth2login-"
)

func (p *Provider) secureCookies() bool { return !p.plainHTTP }

// cookiePrefix is common to all providers, which share one budget of cookies.
func (p *Provider) cookiePrefix() string {
	if p.secureCookies() {
		return "__Host-" + cookieName // a sibling subdomain can't set it, nor can plain http
	}
	return cookieName
}

// cookieName is different for every login, so that several can be under way.
func (p *Provider) cookieName(state string) string {
	return p.cookiePrefix() + p.id[:8] + "-" + state[:8]
}

func (p *Provider) cookie(name, value string, maxAge int) *http.Cookie {
	return &http.Cookie{
		Name:     name,
		Value:    value,
		Path:     "/",
		MaxAge:   maxAge,
		HttpOnly: true,
		Secure:   p.secureCookies(),
		// Lax, not Strict: the way back from the provider is a navigation from
		// another site, and has to bring the cookie.
		SameSite: http.SameSiteLaxMode,
	}
}

// dropOldCookies makes room for the cookie of one more login. Browsers send the oldest
// cookies first (RFC 6265, section 5.4). The newest login of each other provider stays.
func (p *Provider) dropOldCookies(w http.ResponseWriter, r *http.Request, next *http.Cookie) {
	prefix := p.cookiePrefix()
	providerOf := func(name string) string { return name[:min(len(name), len(prefix)+8)] }
	kept := map[string]bool{providerOf(next.Name): true}
	logins, size := 1, sizeOf(next)
	var older []*http.Cookie // newest first
	for _, c := range slices.Backward(r.Cookies()) {
		switch provider := providerOf(c.Name); {
		case !strings.HasPrefix(c.Name, prefix):
		case kept[provider]:
			older = append(older, c)
		default:
			kept[provider] = true
			logins++
			size += sizeOf(c)
		}
	}
	var surplus []*http.Cookie
	for _, c := range older {
		logins++
		size += sizeOf(c)
		if logins > maxPendingLogins || size > maxPendingBytes {
			surplus = append(surplus, c)
		}
	}
	for _, c := range surplus[max(0, len(surplus)-maxDropped):] {
		http.SetCookie(w, p.cookie(c.Name, "", -1))
	}
}

// sizeOf is what a cookie adds to the header that brings it back.
func sizeOf(c *http.Cookie) int { return len(c.Name) + len("=") + len(c.Value) + len("; ") }
