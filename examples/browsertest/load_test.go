package browser

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
)

// servePages serves a page with links. The returned channel receives a value for each
// request for /next that the browser sends before a click (prefetch). Such a request is
// answered with an error.
func servePages(t *testing.T) (home string, ahead chan struct{}) {
	t.Helper()
	ahead = make(chan struct{}, 10)
	page := func(w http.ResponseWriter, heading, rest string) {
		fmt.Fprintf(w, `<!DOCTYPE html><link rel=icon href="data:,"><h1>%s</h1>%s`, heading, rest)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		page(w, "Home", `<a id=next href="/next">next</a> <a id=refresh href="/refresh">refresh</a>`)
	})
	mux.HandleFunc("/refresh", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Refresh", "0; url=/next")
		page(w, "Wait", "")
	})
	mux.HandleFunc("/next", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Sec-Purpose") != "" {
			ahead <- struct{}{}
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusAccepted)
		page(w, "Next", "")
	})
	return serve(t, appHost, mux), ahead
}

func TestLoad(t *testing.T) {
	t.Parallel()
	t.Run("prefetch during the step", func(t *testing.T) {
		t.Parallel()
		home, ahead := servePages(t)
		b := newPerson(t)
		b.visit(home)
		prefetch := chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
			_, err := chromedp.Evaluate[bool](`(() => {
				const rules = document.createElement("script");
				rules.type = "speculationrules";
				rules.textContent = '{"prefetch": [{"urls": ["/next"], "eagerness": "immediate"}]}';
				document.body.append(rules);
				return true;
			})()`)(ctx, target)
			if err != nil {
				return err
			}
			select {
			case <-ahead:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		assert.Equal(t, 202, b.load(chromedp.Steps(prefetch, b.clickOn("#next"))))
		assert.Equal(t, "Next", b.text("h1"))
	})
	t.Run("page of the back-forward cache", func(t *testing.T) {
		t.Parallel()
		home, _ := servePages(t)
		b := newPerson(t)
		b.visit(home)
		do(b, chromedp.Evaluate[bool]("window.kept = true"))
		b.click("#next")
		b.back()
		assert.Equal(t, "Home", b.text("h1"))
		assert.True(t, do(b, chromedp.Evaluate[bool]("window.kept === true")), "the cache served the page")
	})
	t.Run("header Refresh", func(t *testing.T) {
		t.Parallel()
		home, _ := servePages(t)
		b := newPerson(t)
		b.visit(home)
		assert.Equal(t, 202, b.click("#refresh"))
		assert.Equal(t, "Next", b.text("h1"))
	})
}
