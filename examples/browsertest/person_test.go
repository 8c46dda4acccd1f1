package browser

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/storage"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// limit bounds the time of one step. It is generous, for slow machines.
const limit = 2 * time.Minute

// tab is a browser tab that a person uses. Its methods are the person's actions. A method
// that leads to another page returns when that page has loaded.
type tab struct {
	t   *testing.T
	ctx context.Context

	faulty bool // errors in the browser's console are expected

	events chan struct{} // holds a value when a page came, or became complete

	mu         sync.Mutex
	pages      int          // how many pages the tab has shown
	page       cdp.LoaderID // identifies the page that the tab shows
	refreshing cdp.LoaderID // the last page with a Refresh header that leads to another page
	requests   []string     // the URL of each request for a page, redirects included
	complaints []string     // from the browser's console
}

// newPerson returns a tab of a person who has no cookies yet.
func newPerson(t *testing.T) *tab {
	t.Helper()
	return newTab(t, sharedBrowser(t), chromedp.WithNewBrowserContext())
}

// another opens another tab of the same person.
func (b *tab) another() *tab { b.t.Helper(); return newTab(b.t, b.ctx) }

func newTab(t *testing.T, parent context.Context, options ...chromedp.ContextOption) *tab {
	t.Helper()
	b := &tab{t: t, events: make(chan struct{}, 1)}
	ctx, cancel := chromedp.NewContext(parent, append(options, chromedp.WithListener(b.notice))...)
	t.Cleanup(cancel)
	b.ctx = ctx
	require.NoError(t, chromedp.Do(ctx))
	call(b, network.Enable, network.EnableParams{})
	call(b, cdplog.Enable, cdp.Empty{})
	call(b, runtime.Enable, cdp.Empty{})
	// Tests run side by side, but only one window has the focus of the keyboard.
	call(b, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if !b.faulty {
			assert.Empty(t, b.complaints, "complaints of the browser")
		}
	})
	return b
}

// notice receives the tab's events, in their order.
func (b *tab) notice(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		if e.Type == network.ResourceTypeDocument {
			b.requests = append(b.requests, e.Request.URL)
		}
	case *network.EventResponseReceived:
		if e.Type == network.ResourceTypeDocument && e.Response.Headers["Refresh"] != nil {
			b.refreshing = e.LoaderID
		}
	case *page.EventFrameNavigated:
		if e.Frame.ParentID == "" {
			b.pages++
			b.page = e.Frame.LoaderID
			b.wake()
		}
	case *page.EventLoadEventFired:
		b.wake()
	case *runtime.EventExceptionThrown:
		b.complaints = append(b.complaints, e.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		b.complaints = append(b.complaints, string(e.Type)+" of a script")
	case *cdplog.EventEntryAdded:
		// Chromium logs an error page's status as an error. That is not a fault.
		ofPage := len(b.requests) > 0 && e.Entry.URL == b.requests[len(b.requests)-1]
		if !ofPage || !strings.HasPrefix(e.Entry.Text, "Failed to load resource: the server responded with a status of") {
			b.complaints = append(b.complaints, e.Entry.Text+" "+e.Entry.URL)
		}
	}
}

// wake makes load check the page again.
func (b *tab) wake() {
	select {
	case b.events <- struct{}{}:
	default:
	}
}

// call sends one command of the DevTools protocol.
func call[P, R any](b *tab, command cdp.Command[P, R], params P) R {
	b.t.Helper()
	return do(b, func(ctx context.Context, t *chromedp.Target) (R, error) {
		return cdp.Call(ctx, t, command, params)
	})
}

// do takes one step in the tab.
func do[T any](b *tab, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, limit)
	defer cancel()
	result, err := chromedp.Run(ctx, action)
	require.NoError(b.t, err)
	return result
}

// load takes a step that leads to another page. It waits until that page has loaded, and
// returns the page's status.
//
// It does not wait for a response, as [chromedp.RunResponse] does. A page from the
// back/forward cache has no response. And if a prefetch begins during the step,
// RunResponse mistakes the prefetch for the page's request and returns no response.
func (b *tab) load(step chromedp.Action[chromedp.Void]) int {
	b.t.Helper()
	b.mu.Lock()
	before := b.pages
	b.mu.Unlock()
	do(b, step)
	ctx, cancel := context.WithTimeout(b.ctx, limit)
	defer cancel()
	for {
		select {
		case <-b.events:
		case <-ctx.Done():
			require.Fail(b.t, "the step led to no page")
		}
		if status := b.status(ctx, before); status != 0 {
			return status
		}
	}
}

// status returns the status of the new page, or 0 if there is none yet. before is the
// number of pages before the step. status also returns 0 while the page loads, and if it
// redirects to another page.
func (b *tab) status(ctx context.Context, before int) int {
	b.mu.Lock()
	arrived := b.pages > before && b.page != b.refreshing
	b.mu.Unlock()
	if !arrived {
		return 0
	}
	status, err := chromedp.Run(ctx, chromedp.Evaluate[int](
		`document.readyState === "complete" ? performance.getEntriesByType("navigation")[0].responseStatus : 0`))
	if err != nil {
		return 0 // The page is being replaced. Events of the next page will follow.
	}
	return status
}

// visit opens a URL that the person types.
func (b *tab) visit(address string) int {
	b.t.Helper()
	return b.load(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		result, err := cdp.Call(ctx, t, page.Navigate, page.NavigateParams{URL: address})
		if err == nil && result.ErrorText != "" {
			return &chromedp.LoadError{ErrorText: result.ErrorText}
		}
		return err
	}))
}

// click clicks on a link or a button that leads to another page.
func (b *tab) click(selector string) int {
	b.t.Helper()
	return b.load(b.clickOn(selector))
}

// choose clicks on an element that leads to no other page.
func (b *tab) choose(selector string) {
	b.t.Helper()
	do(b, b.clickOn(selector))
}

// clickOn scrolls to an element, and clicks where it is seen.
func (b *tab) clickOn(selector string) chromedp.Action[chromedp.Void] {
	b.t.Helper()
	point := ask[*struct{ X, Y float64 }](b, selector, `(() => {
		e.scrollIntoView({block: "center", behavior: "instant"});
		const r = e.getBoundingClientRect(), x = r.x + r.width/2, y = r.y + r.height/2;
		return e.contains(document.elementFromPoint(x, y)) ? {X: x, Y: y} : null;
	})()`)
	require.NotNil(b.t, point, "%s is hidden or covered", selector)
	return chromedp.MouseClickXY(point.X, point.Y)
}

// write selects all text of a field and types over it.
func (b *tab) write(selector, text string) {
	b.t.Helper()
	ask[bool](b, selector, `(e.focus(), true)`)
	do(b, chromedp.KeyEvent("a", chromedp.KeyModifiers(chromedp.ModifierCtrl)))
	do(b, chromedp.KeyEvent(text))
}

// ask evaluates a JavaScript expression in which e is the element that the CSS selector
// finds.
//
// It does not use the element queries of chromedp. On a page from the back/forward cache
// they find nothing and wait for ever.
func ask[T any](b *tab, selector, expression string) T {
	b.t.Helper()
	const script = `(e => { if (!e) throw new Error("no element " + %[1]q); return %[2]s })(document.querySelector(%[1]q))`
	return do(b, chromedp.Evaluate[T](fmt.Sprintf(script, selector, expression)))
}

func (b *tab) text(selector string) string {
	b.t.Helper()
	return strings.TrimSpace(ask[string](b, selector, "e.innerText"))
}

func (b *tab) value(selector string) string {
	b.t.Helper()
	return ask[string](b, selector, "e.value")
}

// count returns how many elements the CSS selector finds.
func (b *tab) count(selector string) int {
	b.t.Helper()
	return do(b, chromedp.Evaluate[int](fmt.Sprintf("document.querySelectorAll(%q).length", selector)))
}

// path returns the path and the query of the page's URL.
func (b *tab) path() string {
	b.t.Helper()
	u, err := url.Parse(do(b, chromedp.Location()))
	require.NoError(b.t, err)
	return u.RequestURI()
}

// requested returns the URL of the last request for a page with the path.
func (b *tab) requested(path string) string {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, request := range slices.Backward(b.requests) {
		if u, err := url.Parse(request); err == nil && u.Path == path {
			return request
		}
	}
	require.Fail(b.t, "no request for "+path)
	return ""
}

// back is the browser's back button.
func (b *tab) back() { b.t.Helper(); b.move(-1) }

// forward is the browser's forward button.
func (b *tab) forward() { b.t.Helper(); b.move(1) }

// move goes to another page of the tab's history.
func (b *tab) move(by int64) {
	b.t.Helper()
	history := do(b, chromedp.NavigationEntries())
	entry := history.Entries[history.CurrentIndex+by]
	b.load(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, page.NavigateToHistoryEntry, page.NavigateToHistoryEntryParams{EntryID: entry.ID})
		return err
	}))
}

// reload presses the browser's reload button. It submits a form again.
func (b *tab) reload() int {
	b.t.Helper()
	return b.load(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, page.Reload, page.ReloadParams{})
		return err
	}))
}

// cookies returns the cookies of all sites in the person's browser.
func (b *tab) cookies() []*network.Cookie {
	b.t.Helper()
	of := storage.GetCookiesParams{BrowserContextID: chromedp.FromContext(b.ctx).BrowserContextID}
	result, err := chromedp.CallBrowser(b.ctx, storage.GetCookies, of)
	require.NoError(b.t, err)
	return result.Cookies
}
