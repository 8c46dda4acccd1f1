package browser

import (
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// unclicked lists ways in which a page makes a browser send a request without a click. {}
// stands for the address.
var unclicked = map[string]string{
	"image":           `<img src="{}">`,
	"image button":    `<input type=image src="{}">`,
	"SVG image":       `<svg><image href="{}"/></svg>`,
	"background":      `<p style="background: url('{}')">x</p>`,
	"frame":           `<iframe src="{}"></iframe>`,
	"frame's refresh": `<iframe srcdoc="<meta http-equiv=refresh content='0; url={}'>"></iframe>`,
	"frame's form":    `<iframe name="{}"></iframe><form target="{}" method=post action="{}"></form><script>document.currentScript.previousSibling.submit()</script>`,
	"object":          `<object data="{}"></object>`,
	"embed":           `<embed src="{}">`,
	"script":          `<script src="{}"></script>`,
	"module":          `<script type=module src="{}"></script>`,
	"worker's import": `<script>new Worker(URL.createObjectURL(new Blob(["importScripts('{}')"])))</script>`,
	"style sheet":     `<link rel=stylesheet href="{}">`,
	"CSS import":      `<style>@import "{}";</style>`,
	"font":            `<style>@font-face {font-family: f; src: url("{}")}</style><p style="font-family: f">x</p>`,
	"video":           `<video src="{}"></video>`,
	"video's poster":  `<video poster="{}"></video>`,
	"audio":           `<audio src="{}"></audio>`,
	"track":           `<video crossorigin=use-credentials src="data:,"><track default src="{}"></video>`,
	"fetch":           `<script>fetch("{}", {credentials: "include"})</script>`,
	"no-cors fetch":   `<script>fetch("{}", {credentials: "include", mode: "no-cors"})</script>`,
	"no-cors POST":    `<script>fetch("{}", {credentials: "include", mode: "no-cors", method: "POST"})</script>`,
	"XMLHttpRequest":  `<script>{const x = new XMLHttpRequest; x.open("GET", "{}"); x.withCredentials = true; x.send()}</script>`,
	"EventSource":     `<script>new EventSource("{}", {withCredentials: true})</script>`,
	"WebSocket":       `<script>new WebSocket("{}")</script>`,
	"beacon":          `<script>navigator.sendBeacon("{}")</script>`,
	"ping":            `<a href="#here" ping="{}">x</a><script>document.currentScript.previousSibling.click()</script>`,
	"prefetch":        `<link rel=prefetch href="{}">`,
	"preload":         `<link rel=preload as=image href="{}">`,
	"modulepreload":   `<link rel=modulepreload href="{}">`,
}

// ahead lists ways to prefetch or prerender an address. Chromium ignores them if the
// address is on another site and Chromium has cookies of that site.
var ahead = map[string]string{
	"speculation rules: prefetch":  `<script type=speculationrules>{"prefetch": [{"urls": ["{}"], "eagerness": "immediate"}]}</script>`,
	"speculation rules: prerender": `<script type=speculationrules>{"prerender": [{"urls": ["{}"], "eagerness": "immediate"}]}</script>`,
}

// hostilePage returns a page that requests each address in the query parameter "to", once
// for each entry of the maps unclicked and ahead. It appends the entry's name to the address.
func hostilePage(query url.Values) string {
	var page strings.Builder
	page.WriteString(`<!DOCTYPE html><link rel=icon href="data:,"><body>`)
	for _, to := range query["to"] {
		for _, ways := range []map[string]string{unclicked, ahead} {
			for way, html := range ways {
				page.WriteString(strings.ReplaceAll(html, "{}", to+url.QueryEscape(way)))
			}
		}
	}
	return page.String()
}

// Nobody clicks. So no login starts or ends, whichever site serves the page, and the
// pending login can still finish.
func TestHostilePage(t *testing.T) {
	t.Parallel()
	answers := make(chan *http.Response, 1000)
	s := newSecureSite(t, func(r *http.Response) error {
		switch r.Request.URL.Path {
		case "/hostile":
			replace(r, "text/html", hostilePage(r.Request.URL.Query()))
		case "/login", "/callback":
			answers <- r
		}
		return nil
	})
	b := newPerson(t)
	b.visit(s.home)
	b.click(signIn)
	to, err := (<-answers).Location()
	require.NoError(t, err)
	cookies := b.cookies()
	require.EqualValues(t, 1, s.states.puts.Load())

	hostile := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, hostilePage(r.URL.Query()))
	})
	other := b.another()
	other.faulty = true
	for host, home := range map[string]string{
		appHost: s.home, siblingHost: serve(t, siblingHost, hostile), strangerHost: serve(t, strangerHost, hostile),
	} {
		paths := []string{"login?from=" + host + "&by=", "callback?code=x&state=" + to.Query().Get("state") + "&from=" + host + "&by="}
		missing := make(map[string]bool)
		for _, path := range paths {
			for way := range unclicked {
				missing["/"+path+url.QueryEscape(way)] = true
			}
			for way := range ahead {
				if host != strangerHost {
					missing["/"+path+url.QueryEscape(way)] = true
				}
			}
		}
		other.visit(home + "hostile?" + url.Values{"to": {s.at(paths[0]), s.at(paths[1])}}.Encode())
		for end := time.After(limit); len(missing) > 0; {
			select {
			case r := <-answers:
				address := r.Request.URL.RequestURI()
				delete(missing, address)
				assert.GreaterOrEqual(t, r.StatusCode, 400, address)
				assert.Empty(t, r.Cookies(), address)
			case <-end:
				require.Empty(t, slices.Sorted(maps.Keys(missing)), "not requested")
			}
		}
		assert.EqualValues(t, 1, s.states.puts.Load(), "another login has begun")
		assert.Equal(t, cookies, b.cookies(), host)
	}

	b.click(allow)
	assert.Equal(t, "林小满", b.text("h1"))
}
