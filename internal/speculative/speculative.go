// Package speculative knows requests that nobody has made on purpose: of link previews,
// and of browsers that look ahead.
package speculative

import (
	"net/http"
	"slices"
	"strings"
)

// Is reports whether no user has asked for r yet: a browser fetches in advance what
// may be wanted next. (https://wicg.github.io/nav-speculation/prefetch.html; headers
// other than Sec-Purpose are older browsers'.) Refused, it is sent again when it is wanted.
func Is(r *http.Request) bool {
	for _, name := range []string{"Sec-Purpose", "Purpose", "X-Purpose", "X-Moz"} {
		for _, value := range r.Header.Values(name) {
			words := strings.FieldsFunc(strings.ToLower(value), func(c rune) bool { return strings.ContainsRune(" ,;=", c) })
			if slices.ContainsFunc(words, func(word string) bool { return word == "prefetch" || word == "prerender" || word == "preview" }) {
				return true
			}
		}
	}
	return false
}

// Answer answers r if nobody has made it on purpose, and reports whether it did. The
// answer to a browser that looks ahead is no success: it does not keep that for the click.
func Answer(w http.ResponseWriter, r *http.Request) bool {
	status := http.StatusNoContent
	switch {
	case Is(r):
		status = http.StatusServiceUnavailable
	case r.Method != http.MethodHead:
		return false
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	return true
}
