package oauth2login

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// NavigationsOnly passes only navigations to next: requests for a page that a user asked
// for. Use it around login routes of other packages, for example those of goth.
// [Provider.StartLogin] and [Provider.FinishLogin] do the same check themselves.
//
// It answers all other requests itself, and sets no cookie:
//
//   - 403 to images, frames, scripts and fetches of any page (Sec-Fetch-Dest,
//     Sec-Fetch-Mode), to WebSockets, and to other methods than GET and POST
//   - 503 to prefetches and prerenders; when the user clicks, browsers do not use this
//     answer but ask again
//   - 204 to HEAD requests, which link previews send
//
// Browsers that send none of these headers are let through.
func NavigationsOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status := notNavigation(r); status != 0 {
			answerShortly(w, status)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func answerShortly(w http.ResponseWriter, status int) {
	w.Header().Set("Cache-Control", "no-store")
	if status == http.StatusForbidden {
		http.Error(w, "This address is for navigation only.", status)
		return
	}
	w.WriteHeader(status)
}

// notNavigation returns the status that refuses r, or 0 if r is a navigation.
func notNavigation(r *http.Request) int {
	switch {
	case isSpeculative(r.Header):
		return http.StatusServiceUnavailable
	case !isOrEmpty(r.Header, "Sec-Fetch-Mode", "navigate"), !isOrEmpty(r.Header, "Sec-Fetch-Dest", "document"), isWebSocket(r.Header):
		return http.StatusForbidden
	case r.Method == http.MethodHead:
		return http.StatusNoContent
	case r.Method != http.MethodGet && r.Method != http.MethodPost:
		return http.StatusForbidden // for example an OPTIONS request, which Chromium sends before a report
	}
	return 0
}

// isWebSocket recognizes the handshake of a WebSocket, which any page can open. Chromium
// sends the handshake without Sec-Fetch-… headers. "The request MUST include a header
// field with the name Sec-WebSocket-Version" (RFC 6455, section 4.1).
func isWebSocket(h http.Header) bool { return h.Get("Sec-WebSocket-Version") != "" }

// isOrEmpty reports whether a header is missing or has only the value want.
func isOrEmpty(h http.Header, name, want string) bool {
	return !slices.ContainsFunc(h.Values(name), func(v string) bool { return v != want })
}

// isSpeculative recognizes requests that a browser or a script makes ahead of a click.
//
// Sec-Purpose is the standard (https://wicg.github.io/nav-speculation/prefetch.html).
// Older browsers send Purpose, X-Purpose and X-Moz. Turbo sends X-Sec-Purpose. The
// preload extension of htmx sends HX-Preloaded. Next.js sends Next-Router-Prefetch and
// X-Middleware-Prefetch. instant.page uses <link rel=prefetch>, for which browsers send
// Sec-Purpose.
func isSpeculative(h http.Header) bool {
	for _, name := range []string{"Sec-Purpose", "Purpose", "X-Purpose", "X-Moz", "X-Sec-Purpose"} {
		for _, value := range h.Values(name) {
			words := strings.FieldsFunc(strings.ToLower(value), func(c rune) bool { return strings.ContainsRune(" ,;=", c) })
			if slices.ContainsFunc(words, func(word string) bool {
				return word == "prefetch" || word == "prerender" || word == "preview"
			}) {
				return true
			}
		}
	}
	for _, name := range []string{"Hx-Preloaded", "Next-Router-Prefetch", "X-Middleware-Prefetch"} {
		if h.Get(name) != "" {
			return true
		}
	}
	return false
}

// maxReturnTo is the length of the longest return path, in bytes.
const maxReturnTo = 2 << 10

// LocalPath returns s if a redirect to s stays on this site in every browser. If not, it
// returns its second argument. s may come from the request unchecked. A valid s has at
// most 2048 bytes and is a path that begins with "/". It may have a query and a fragment.
//
// LocalPath refuses a path that begins with "//" or a backslash. It also refuses a path
// that contains one of these and has dot segments: some servers and browsers turn such a
// path into another host. [http.Redirect] replaces "//" by one slash.
func LocalPath(s, otherwise string) string {
	if isLocalPath(s) {
		return s
	}
	return otherwise
}

// isLocalPath checks the decoded path, because some servers decode a path, or resolve its
// dot segments, before they redirect. It checks the fragment too, because http.Redirect
// treats it as part of the path: it turns "/#/../\evil.example" into "/\evil.example".
func isLocalPath(s string) bool {
	if len(s) > maxReturnTo || !strings.HasPrefix(s, "/") || !isPlainText(s) {
		return false
	}
	u, err := url.Parse(s)
	if err != nil || u.Host != "" || u.User != nil || u.Path == "" { // "//" has neither host nor path
		return false
	}
	if !isPlainText(u.Path) || strings.HasPrefix(strings.ReplaceAll(u.Path, `\`, "/"), "//") {
		return false
	}
	unusual := strings.Contains(u.Path, "//") || strings.Contains(u.Path+u.Fragment, `\`)
	return !unusual || !hasDotSegment(u.Path) && !hasDotSegment(u.Fragment)
}

// hasDotSegment reports whether path has a segment "." or "..". Like a browser, it treats
// a backslash as a slash.
func hasDotSegment(path string) bool {
	for segment := range strings.SplitSeq(strings.ReplaceAll(path, `\`, "/"), "/") {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

// isPlainText reports whether s is UTF-8 without control characters.
func isPlainText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return r < ' ' || r >= 0x7f && r < 0xa0
	})
}
