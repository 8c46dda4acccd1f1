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
	// maxPendingLogins is how many logins of one browser can be pending on one host. It
	// is also the number of cookie names, which all providers share. So the limit holds
	// even for logins that start at the same time and do not see each other's cookies.
	maxPendingLogins = 20

	// maxPendingBytes is the maximum total size of the cookies of these logins. Many
	// servers allow 8 KB for a header.
	//
	// A cookie of s bytes gets one of the first maxPendingBytes/s names. So cookies of
	// the same size stay within maxPendingBytes, even if their logins start at the same
	// time. Cookies of mixed sizes may reach 14 KB, because name n (counted from 0) holds
	// up to maxPendingBytes/(n+1) bytes. The next start deletes the surplus. No login
	// takes a name that holds the newest login of another provider. So each further
	// provider adds at most one cookie.
	maxPendingBytes = 4 << 10

	// maxLoginCookies is how many login cookies of a request are read. Chromium and
	// Firefox keep 180 cookies for a site.
	maxLoginCookies = 256

	// cookieGrace is how long a cookie outlives its login. During this time, the error of
	// a late callback is that the login has expired. After it, the error is that the
	// cookie is missing.
	cookieGrace = 30 * time.Minute

	// cookieName is the prefix of the names of login cookies. A number from 0 follows.
	cookieName = "oauth2login-"
)

// A loginCookie is the cookie of a pending login. Its value is provider.started.secret.
// For a sealed login it is provider.started.secret.carry, where carry is the encrypted
// login.
type loginCookie struct {
	slot int // the number in its name
	size int // how many bytes it adds to a Cookie header

	// provider and started prove nothing. They decide which login is dropped if there are
	// too many. The order of the cookies in a request does not help: it tells when their
	// names were first used (RFC 6265, section 5.3, step 11.3).
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

// parseLoginCookie parses the result of loginCookie.value. It does not check carry:
// redeem does.
func parseLoginCookie(value string) (c loginCookie, ok bool) {
	provider, rest, _ := strings.Cut(value, ".")
	started, rest, _ := strings.Cut(rest, ".")
	secret, carry, _ := strings.Cut(rest, ".")
	ms, err := strconv.ParseUint(started, 10, 63)
	c = loginCookie{provider: provider, started: int64(ms), secret: secret, carry: carry}
	return c, err == nil && len(started) == 13 && len(provider) == shortID && secret != ""
}

// shortID is how many characters of a provider's ID a cookie contains.
const shortID = 8

func (p *Provider) shortID() string { return p.id[:shortID] }

// loginCookies returns the login cookies of r, of all providers. Several cookies may have
// the same name, because a program on another port of the host can set cookies for other
// paths and domains. Without https, a sibling subdomain can do so too.
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
		return "__Host-" + cookieName // browsers accept it neither from a sibling subdomain nor over plain http
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
		// Lax, not Strict: the provider sends the browser back with a navigation from
		// another site. With Strict, that request would have no cookie.
		SameSite: http.SameSiteLaxMode,
	}
}

// setLoginCookie sets the cookie of a new login. It deletes the cookies of older logins
// for which there is no room.
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

// pendingCookies are the cookies of the browser's pending logins at the start of a new
// login.
type pendingCookies struct {
	newestFirst []loginCookie
	taken       [maxPendingLogins]bool // the names in use
	stays       [maxPendingLogins]bool // the names that hold another provider's newest login
	staying     int                    // the total size of the cookies with these names
}

// pendingCookies returns the login cookies of r, the newest first. It ignores cookies that
// are older than any login can be, and cookies whose start time is in the future. A new
// login may use the names of ignored cookies again.
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

// next returns the start time of a login that starts now. It is later than the times of
// all other logins, even if clocks differ.
func (b *pendingCookies) next(now time.Time) int64 {
	if len(b.newestFirst) == 0 {
		return now.UnixMilli()
	}
	return max(now.UnixMilli(), b.newestFirst[0].started+1)
}

// choose picks the name for a cookie of size bytes. It picks at random among the free
// names, because several logins may start at the same time and see the same cookies. If
// no name is free, it takes the name of the oldest login.
func (b *pendingCookies) choose(size int) (slot int) {
	// There is at least one usable name. A cookie that is too large for the limit
	// replaces all other cookies, except those that stay.
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

// surplus returns the slots of the oldest logins. Without these logins, the other cookies
// and the new one fit into maxPendingBytes.
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
