package browser

import (
	"context"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/storage"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// limit is how long one thing that a person does may take: generous, for slow machines.
const limit = time.Minute

// tab is one of a person's tabs. Its methods do what the person does, and wait until
// the page that follows is there.
type tab struct {
	t   *testing.T
	ctx context.Context

	faulty bool // the test gives the browser reason to complain

	mu         sync.Mutex
	navigation []string // the address of each request for a page, redirects included
	complaints []string // of the browser's console
}

// newPerson returns the first tab of somebody with no cookies yet.
func newPerson(t *testing.T) *tab {
	t.Helper()
	return newTab(t, sharedBrowser(t), chromedp.WithNewBrowserContext())
}

// another opens one more tab of the same person.
func (b *tab) another() *tab { b.t.Helper(); return newTab(b.t, b.ctx) }

func newTab(t *testing.T, parent context.Context, options ...chromedp.ContextOption) *tab {
	t.Helper()
	b := &tab{t: t}
	ctx, cancel := chromedp.NewContext(parent, append(options, chromedp.WithListener(b.notice))...)
	t.Cleanup(cancel)
	b.ctx = ctx
	require.NoError(t, chromedp.Do(ctx))
	call(b, network.Enable, network.EnableParams{})
	call(b, cdplog.Enable, cdp.Empty{})
	call(b, runtime.Enable, cdp.Empty{})
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if !b.faulty {
			assert.Empty(t, b.complaints, "the console of the browser")
		}
	})
	return b
}

// notice is told what happens in the tab.
func (b *tab) notice(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		if e.Type == network.ResourceTypeDocument {
			b.navigation = append(b.navigation, e.Request.URL)
		}
	case *runtime.EventExceptionThrown:
		b.complaints = append(b.complaints, e.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		b.complaints = append(b.complaints, string(e.Type)+" of a script")
	case *cdplog.EventEntryAdded:
		// A page that says no has a status that says so too: no complaint.
		page := len(b.navigation) > 0 && e.Entry.URL == b.navigation[len(b.navigation)-1]
		if !page || !strings.HasPrefix(e.Entry.Text, "Failed to load resource: the server responded with a status of") {
			b.complaints = append(b.complaints, e.Entry.Text+" "+e.Entry.URL)
		}
	}
}

// call sends one command of the DevTools protocol.
func call[P, R any](b *tab, command cdp.Command[P, R], params P) R {
	b.t.Helper()
	return do(b, func(ctx context.Context, t *chromedp.Target) (R, error) {
		return cdp.Call(ctx, t, command, params)
	})
}

func do[T any](b *tab, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, limit)
	defer cancel()
	result, err := chromedp.Run(ctx, action)
	require.NoError(b.t, err)
	return result
}

// load does what makes the browser load a page, and returns the page's status.
//
// It waits for the new document, and not for a response: a prerendered page that is
// activated, for one, has had its response before the click.
func (b *tab) load(step chromedp.Action[chromedp.Void]) int {
	b.t.Helper()
	do(b, chromedp.Evaluate[bool](`window.beforeTheStep = true`))
	do(b, step)
	const status = `window.beforeTheStep || document.readyState !== "complete" ? 0 : performance.getEntriesByType("navigation")[0].responseStatus`
	ctx, cancel := context.WithTimeout(b.ctx, limit)
	defer cancel()
	for {
		// While a document is replaced there is none to ask: that is an error.
		if found, err := chromedp.Run(ctx, chromedp.Evaluate[int](status)); err == nil && found != 0 {
			return found
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			require.Fail(b.t, "no page was loaded")
		}
	}
}

func (b *tab) visit(address string) int {
	b.t.Helper()
	return int(do(b, chromedp.NavigateResponse(address)).Status)
}

// click clicks what a CSS selector finds: a link or a button that loads a page.
func (b *tab) click(selector string) int {
	b.t.Helper()
	return b.load(chromedp.Click(chromedp.CSS(selector)))
}

// choose clicks what loads no page.
func (b *tab) choose(selector string) {
	b.t.Helper()
	do(b, chromedp.Click(chromedp.CSS(selector)))
}

// write replaces the text of a field, as somebody who selects all of it and types.
func (b *tab) write(selector, text string) {
	b.t.Helper()
	do(b, chromedp.Focus(chromedp.CSS(selector)))
	do(b, chromedp.KeyEvent("a", chromedp.KeyModifiers(chromedp.ModifierCtrl)))
	do(b, chromedp.KeyEvent(text))
}

func (b *tab) text(selector string) string {
	b.t.Helper()
	return strings.TrimSpace(do(b, chromedp.Text(chromedp.CSS(selector))))
}

func (b *tab) value(selector string) string {
	b.t.Helper()
	return do(b, chromedp.Value(chromedp.CSS(selector)))
}

// page is the address of the page without scheme and host.
func (b *tab) page() string {
	b.t.Helper()
	u, err := url.Parse(do(b, chromedp.Location()))
	require.NoError(b.t, err)
	return u.RequestURI()
}

// visited returns the last request for a page whose path is path.
func (b *tab) visited(path string) string {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := len(b.navigation) - 1; i >= 0; i-- {
		if u, err := url.Parse(b.navigation[i]); err == nil && u.Path == path {
			return b.navigation[i]
		}
	}
	require.Fail(b.t, "never asked for "+path)
	return ""
}

// back is the back button.
func (b *tab) back() { b.t.Helper(); do(b, chromedp.NavigateBack()) }

func (b *tab) forward() { b.t.Helper(); do(b, chromedp.NavigateForward()) }

// reload is the reload button. A form is sent again.
func (b *tab) reload() int {
	b.t.Helper()
	return b.load(func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, page.Reload, page.ReloadParams{})
		return chromedp.Void{}, err
	})
}

// cookies are those of the person, of all sites.
func (b *tab) cookies() []*network.Cookie {
	b.t.Helper()
	of := storage.GetCookiesParams{BrowserContextID: chromedp.FromContext(b.ctx).BrowserContextID}
	result, err := chromedp.CallBrowser(b.ctx, storage.GetCookies, of)
	require.NoError(b.t, err)
	return result.Cookies
}
