package browser

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image/png"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	phoneWidth, phoneHeight = 360, 740
	deskWidth               = 720
)

// speak sets the language in which the browser asks for pages.
func (b *tab) speak(language string) {
	b.t.Helper()
	agent := do(b, chromedp.Evaluate[string]("navigator.userAgent"))
	call(b, emulation.SetUserAgentOverride, emulation.SetUserAgentOverrideParams{UserAgent: agent, AcceptLanguage: language})
}

// prefer sets the person's preferred color scheme: "light" or "dark".
func (b *tab) prefer(scheme string) {
	b.t.Helper()
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
}

// tour visits all pages of the application and of the platform, and calls look on each.
func tour(b *tab, s site, look func(name string)) {
	b.t.Helper()
	b.visit(s.home)
	look("welcome")
	b.click(signIn)
	look("consent")
	b.click(deny)
	look("denied")
	b.click(signIn)
	b.click(allow)
	b.visit(s.at("variable?key=greeting"))
	look("variable")
	b.choose("summary")
	look("delete")
	b.visit(s.at("variable?key=nothing"))
	look("no variable")
	b.click(`main a[href="/"]`)
	look("account")
	b.click(`a[href="/variable"]`)
	b.write("#key", "a")
	look("new variable")
	b.visit(s.at("nowhere"))
	look("message")
}

func TestLanguages(t *testing.T) {
	t.Parallel()
	for language, want := range map[string][3]string{
		"en-US": {"en", "Try a login with ShangCloud", "Sign out"},
		"zh-CN": {"zh-CN", "体验 ShangCloud 登录", "退出登录"},
	} {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			s, b := newSite(t), newPerson(t)
			b.speak(language)
			b.visit(s.home)
			assert.Equal(t, want[1], b.text("h1"))
			tour(b, s, func(name string) {
				assert.Equal(t, want[0], do(b, chromedp.Evaluate[string]("document.documentElement.lang")), name)
			})
			assert.Equal(t, want[2], b.text(signOut))
		})
	}

	s, b := newSite(t), newPerson(t)
	b.visit(s.at("variable?key=greeting"))
	b.click(allow)
	b.click("header a[hreflang]")
	assert.Equal(t, "退出登录", b.text(signOut), "the language after the link")
	assert.Equal(t, "你好，世界\nHello, world", b.value("#value"), "the page after the link")
	b.visit(s.home)
	assert.Equal(t, "退出登录", b.text(signOut), "the language on the next page")
}

func TestPhone(t *testing.T) {
	t.Parallel()
	for _, language := range []string{"en-US", "zh-CN"} {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			s, b := newSite(t), newPerson(t)
			b.speak(language)
			do(b, chromedp.EmulateViewport(phoneWidth, phoneHeight, chromedp.EmulateMobile))
			tour(b, s, func(name string) {
				seen := do(b, chromedp.Evaluate[struct {
					Width, SmallestText, SmallestTarget, SmallestField float64
				}](`(() => {
					const all = (selector, f) => Math.min(1000, ...[...document.querySelectorAll(selector)].filter(e => e.checkVisibility()).map(f));
					const size = e => parseFloat(getComputedStyle(e).fontSize);
					return {
						Width: document.documentElement.scrollWidth,
						SmallestText: all("body *", size),
						SmallestTarget: all("button, .button, summary, input:not([type=hidden]):not([type=radio]), label.user", e => e.getBoundingClientRect().height),
						SmallestField: all("input:not([type=hidden]):not([type=radio]), textarea", size),
					};
				})()`))
				assert.LessOrEqual(t, seen.Width, float64(phoneWidth), "%s: the page scrolls sideways", name)
				assert.GreaterOrEqual(t, seen.SmallestText, 12.0, "%s: small text", name)
				assert.GreaterOrEqual(t, seen.SmallestTarget, 32.0, "%s: too small for a finger", name)
				assert.GreaterOrEqual(t, seen.SmallestField, 16.0, "%s: phones zoom in on small fields", name)
			})
		})
	}
}

// The keyboard alone reaches everything, and the focus is always visible.
func TestKeyboard(t *testing.T) {
	t.Parallel()
	s, b := newSite(t), newPerson(t)
	b.visit(s.home)
	b.tabTo(signIn)
	b.load(chromedp.KeyEvent(kb.Enter))
	b.tabTo("input[type=radio]")
	do(b, chromedp.KeyEvent(kb.ArrowDown))
	b.tabTo(allow)
	b.load(chromedp.KeyEvent(kb.Enter))
	assert.Equal(t, "Ada King", b.text("h1"))

	b.tabTo(".row input")
	b.load(chromedp.KeyEvent("greeting" + kb.Enter))
	b.tabTo("#value")
	do(b, chromedp.KeyEvent("a", chromedp.KeyModifiers(chromedp.ModifierCtrl)))
	do(b, chromedp.KeyEvent("typed"))
	b.tabTo("main form .button")
	b.load(chromedp.KeyEvent(kb.Enter))
	assert.Equal(t, "Saved “greeting”.", b.text("[role=status]"))
	assert.Equal(t, "typed", b.value("#value"))
	b.tabTo("summary")
	do(b, chromedp.KeyEvent(kb.Enter))
	b.tabTo(".danger")
	b.load(chromedp.KeyEvent(kb.Enter))
	assert.Equal(t, "Deleted “greeting”.", b.text("[role=status]"))
	b.tabTo(signOut)
	b.load(chromedp.KeyEvent(kb.Enter))
	assert.NotEmpty(t, b.text(signIn))
}

// tabTo presses Tab until the element that selector finds has the focus.
func (b *tab) tabTo(selector string) {
	b.t.Helper()
	for range 20 {
		do(b, chromedp.KeyEvent(kb.Tab))
		now := do(b, chromedp.Evaluate[struct {
			There, Visible bool
			What           string
		}](fmt.Sprintf(`(() => {
			const e = document.activeElement;
			const outlined = e => e && getComputedStyle(e).outlineStyle !== "none" && parseFloat(getComputedStyle(e).outlineWidth) >= 1;
			return {There: e.matches(%q), Visible: !!(outlined(e) || outlined(e.closest("label"))), What: e.outerHTML};
		})()`, selector)))
		assert.True(b.t, now.Visible, "the focus is not visible on %s", now.What)
		if now.There {
			return
		}
	}
	require.Fail(b.t, "the keyboard does not reach "+selector)
}

// axe-core checks each page. In the dark color scheme only the contrast is checked,
// because everything else is the same.
func TestAccessibility(t *testing.T) {
	t.Parallel()
	axe, err := os.ReadFile("node_modules/axe-core/axe.min.js")
	if err != nil {
		unavailable(t, "needs axe-core (npm ci)")
	}
	for scheme, rules := range map[string]string{"light": "", "dark": `, runOnly: ["color-contrast"]`} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			s, b := newSite(t), newPerson(t)
			b.prefer(scheme)
			tour(b, s, func(name string) {
				do(b, chromedp.Evaluate[json.RawMessage](string(axe)+"; null"))
				found := do(b, chromedp.Evaluate[[]string](`axe.run(document, {resultTypes: ["violations"]`+rules+`}).then(r =>
					r.violations.flatMap(v => v.nodes.map(n => v.id + ": " + n.html + " " + n.failureSummary)))`, chromedp.EvalAwaitPromise))
				assert.Empty(t, found, name)
			})
			// A deliberate fault shows that axe-core detects faults.
			found := do(b, chromedp.Evaluate[int](`document.querySelector("h1").style = "color: #888; background: #777";
				axe.run(document, {runOnly: ["color-contrast"]}).then(r => r.violations.filter(v => v.id === "color-contrast").length)`, chromedp.EvalAwaitPromise))
			assert.Equal(t, 1, found)
		})
	}
}

// The pictures in docs/ show the present pages.
func TestScreenshots(t *testing.T) {
	t.Parallel()
	for language, suffix := range map[string]string{"en-US": ".en", "zh-CN": ".zh-CN"} {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			s, b := newSite(t), newPerson(t)
			b.speak(language)
			b.visit(s.home)
			b.click(signIn)
			pictures(t, b, "consent"+suffix, deskWidth)
			b.click(allow)
			b.visit(s.at("variable?key=greeting"))
			b.visit(s.home)
			pictures(t, b, "account"+suffix, deskWidth)
			pictures(t, b, "phone"+suffix, phoneWidth, chromedp.EmulateMobile)
		})
	}
}

// pictures takes full-page screenshots at twice the size, in the light and in the dark
// color scheme. With -update it writes the files. Otherwise it compares only the sizes,
// and the height only roughly, because the height depends on the fonts. Pixels depend on
// the fonts too, so they are not compared.
func pictures(t *testing.T, b *tab, name string, width int64, options ...chromedp.EmulateViewportOption) {
	t.Helper()
	options = append(options, chromedp.EmulateScale(2))
	do(b, chromedp.EmulateViewport(width, 1, options...))
	height := do(b, chromedp.Evaluate[int64]("document.documentElement.scrollHeight"))
	do(b, chromedp.EmulateViewport(width, height, options...))
	for scheme, suffix := range map[string]string{"light": ".png", "dark": ".dark.png"} {
		b.prefer(scheme)
		taken := do(b, chromedp.CaptureScreenshot())
		path := filepath.Join("..", "..", "docs", name+suffix)
		if *update {
			require.NoError(t, os.WriteFile(path, taken, 0o644))
		}
		kept, err := os.ReadFile(path)
		require.NoError(t, err, "make it with -update")
		want, err := png.DecodeConfig(bytes.NewReader(taken))
		require.NoError(t, err)
		got, err := png.DecodeConfig(bytes.NewReader(kept))
		require.NoError(t, err)
		assert.Equal(t, want.Width, got.Width, path)
		assert.InEpsilon(t, want.Height, got.Height, 0.1, path)
	}
}
