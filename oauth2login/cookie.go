package oauth2login

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// maxPendingLogins is how many logins of a browser can be under way on a host. All
	// providers share that many cookie names. So logins that start at once, and do not
	// see each other's cookies, can't leave more.
	maxPendingLogins = 20

	// maxPendingBytes is how long the cookies of these logins may be together. Many
	// servers allow 8 KB for a header.
	//
	// A cookie of s bytes gets one of the first maxPendingBytes/s names. So cookies of
	// one length stay within maxPendingBytes, also if their logins start at once. Cookies
	// of mixed lengths may then have 14 KB, until the next start deletes the surplus:
	// name n, counted from 0, holds at most maxPendingBytes/(n+1) bytes. Names of other
	// providers' newest logins are passed over. So each further provider adds one cookie
	// at most.
	maxPendingBytes = 4 << 10

	// maxLoginCookies is how many login cookies of a request are read. Chromium and
	// Firefox keep 180 cookies for a site.
	maxLoginCookies = 256

	// cookieGrace is how long a cookie outlives its login: a late callback is then told
	// that it is late, and not that the browser keeps no cookies.
	cookieGrace = 30 * time.Minute

	// cookieName begins the names of login cookies. A number from 0 follows.
	cookieName = "oauth2login-"
)

// A loginCookie is the cookie of a pending login. Its value is provider.started.secret.
// For a sealed login it is provider.started.secret.carry, where carry is the encrypted
// login.
type loginCookie struct {
	slot int // the number in its name
	size int // how many bytes it adds to a Cookie header

	// provider and started prove nothing. They decide which login is dropped. The order
	// of cookies can't: it is that in which their names were first used (RFC 6265,
	// section 5.3, step 11.3).
	provider string
	started  int64 // Unix milliseconds

	secret, carry string
}

func (c loginCookie) value() string {
	value := fmt.Sprintf("%s.%013d.%s", c.provider, c.started, c.secret)
	if c.carry != "" {
		value += "." + c.carry
	}
	return value
}

// parseLoginCookie is the reverse of value. redeem judges what was carried.
func parseLoginCookie(value string) (c loginCookie, ok bool) {
	provider, rest, _ := strings.Cut(value, ".")
	started, rest, _ := strings.Cut(rest, ".")
	secret, carry, _ := strings.Cut(rest, ".")
	ms, err := strconv.ParseUint(started, 10, 63)
	c = loginCookie{provider: provider, started: int64(ms), secret: secret, carry: carry}
	return c, err == nil && len(started) == 13 && len(provider) == shortID && secret != ""
}

// shortID is how much of a provider's ID a cookie holds.
const shortID = 8

func (p *Provider) shortID() string { return p.id[:shortID] }

// loginCookies are the login cookies of r, of all providers. There can be several of one
// name: a program on another port of the host, and without https a sibling subdomain,
// can set them for other paths and domains.
func (p *Provider) loginCookies(r *http.Request) (found []loginCookie) {
	for _, cookie := range r.Cookies() {
		slot, isOurs := p.slotOf(cookie.Name)
		c, ok := parseLoginCookie(cookie.Value)
		if !isOurs || !ok {
			continue
		}
		c.slot, c.size = slot, cookieSize(cookie.Name, cookie.Value)
		if found = append(found, c); len(found) == maxLoginCookies {
			break
		}
	}
	return found
}

func (p *Provider) secureCookies() bool { return !p.plainHTTP }

func (p *Provider) cookieLife() time.Duration { return p.opts.LoginLifetime + cookieGrace }

func (p *Provider) cookiePrefix() string {
	if p.secureCookies() {
		return "__Host-" + cookieName // a sibling subdomain can't set it, nor can plain http
	}
	return cookieName
}

func (p *Provider) cookieName(slot int) string { return p.cookiePrefix() + strconv.Itoa(slot) }

func (p *Provider) slotOf(name string) (slot int, ok bool) {
	number, ok := strings.CutPrefix(name, p.cookiePrefix())
	slot, err := strconv.Atoi(number)
	return slot, ok && err == nil && slot >= 0 && slot < maxPendingLogins && strconv.Itoa(slot) == number
}

func cookieSize(name, value string) int { return len(name) + len("=") + len(value) + len("; ") }

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

// setLoginCookie sets the cookie of one more login, and deletes those of logins that there
// is no room for.
func (p *Provider) setLoginCookie(w http.ResponseWriter, r *http.Request, secret, carry string) {
	now := time.Now()
	pending := p.pendingCookies(r, now)
	value := loginCookie{provider: p.shortID(), started: pending.next(now), secret: secret, carry: carry}.value()
	size := cookieSize(p.cookieName(maxPendingLogins-1), value)
	slot := pending.choose(size)
	for _, surplus := range pending.surplus(slot, size) {
		p.deleteCookie(w, surplus)
	}
	http.SetCookie(w, p.cookie(p.cookieName(slot), value, int(p.cookieLife().Seconds())))
}

func (p *Provider) deleteCookie(w http.ResponseWriter, slot int) {
	http.SetCookie(w, p.cookie(p.cookieName(slot), "", -1))
}

// pendingCookies are what a start sees of the logins that are under way in its browser.
type pendingCookies struct {
	newestFirst []loginCookie
	taken       [maxPendingLogins]bool // the names in use
	stays       [maxPendingLogins]bool // the names of each other provider's newest login
	staying     int                    // the size of cookies of these names
}

// pendingCookies passes over cookies that are older than any login can be, or from the
// future: their names are free.
func (p *Provider) pendingCookies(r *http.Request, now time.Time) *pendingCookies {
	b := &pendingCookies{newestFirst: slices.DeleteFunc(p.loginCookies(r), func(c loginCookie) bool {
		age := now.Sub(time.UnixMilli(c.started))
		return age > maxLoginTime+cookieGrace || age < -storeSkew
	})}
	slices.SortStableFunc(b.newestFirst, func(c, d loginCookie) int { return cmp.Compare(d.started, c.started) })
	seen := map[string]bool{p.shortID(): true}
	for _, c := range b.newestFirst {
		b.taken[c.slot] = true
		if !seen[c.provider] {
			seen[c.provider], b.stays[c.slot] = true, true
		}
	}
	for _, c := range b.newestFirst {
		if b.stays[c.slot] {
			b.staying += c.size
		}
	}
	return b
}

// next is the time for a login that starts now: later than all others, although clocks
// differ.
func (b *pendingCookies) next(now time.Time) int64 {
	if len(b.newestFirst) == 0 {
		return now.UnixMilli()
	}
	return max(now.UnixMilli(), b.newestFirst[0].started+1)
}

// choose picks the name for a cookie of a size: at random among the free ones, because
// several starts can come at once and see the same cookies. If none is free it takes that
// of the oldest login.
func (b *pendingCookies) choose(size int) (slot int) {
	// One name at least: a login that does not fit is alone, but for those that stay.
	names := max(1, (maxPendingBytes-b.staying)/size)
	var usable, free []int
	for slot := range maxPendingLogins {
		if b.stays[slot] || len(usable) == names {
			continue
		}
		usable = append(usable, slot)
		if !b.taken[slot] {
			free = append(free, slot)
		}
	}
	if len(free) > 0 {
		return free[rand.IntN(len(free))]
	}
	for _, c := range b.newestFirst {
		if len(usable) == 0 || slices.Contains(usable, c.slot) {
			slot = c.slot
		}
	}
	return slot
}

// surplus are the names of the oldest logins that do not fit beside a new one.
func (b *pendingCookies) surplus(chosen, size int) (slots []int) {
	size += b.staying
	for _, c := range b.newestFirst {
		if b.stays[c.slot] || c.slot == chosen {
			continue
		}
		size += c.size
		if size > maxPendingBytes && !slices.Contains(slots, c.slot) {
			slots = append(slots, c.slot)
		}
	}
	return slots
}
