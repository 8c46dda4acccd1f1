package browser

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
)

// Parts of the page of examples/rooms, as CSS selectors.
const (
	chat  = "#log"
	lines = "#lines polyline"
)

// newRooms runs examples/rooms without settings, and returns its URL.
func newRooms(t *testing.T) (home string) {
	t.Helper()
	return runExample(t, "rooms")
}

// enter signs a person in and waits until the page is connected to the room.
func (b *tab) enter(home, uid string) {
	b.t.Helper()
	b.visit(home)
	b.click(signIn)
	b.choose(fmt.Sprintf(`input[value="%s"]`, uid))
	b.click(allow)
	b.until("#room.connected", "!!e")
}

// until waits until an expression is true. In it, e is the element that the CSS selector
// finds, or null.
func (b *tab) until(selector, expression string) {
	b.t.Helper()
	condition := fmt.Sprintf(`(e => %s)(document.querySelector(%q))`, expression, selector)
	do(b, chromedp.Evaluate[json.RawMessage](fmt.Sprintf(`new Promise(resolve => {
		const look = () => %s ? resolve(true) : setTimeout(look, 20);
		look();
	})`, condition), chromedp.EvalAwaitPromise))
}

// sees waits until a text is in the chat.
func (b *tab) sees(text string) {
	b.t.Helper()
	b.until(chat, fmt.Sprintf("e.innerText.includes(%q)", text))
}

func (b *tab) say(text string) {
	b.t.Helper()
	b.write("#text", text)
	do(b, chromedp.KeyEvent(kb.Enter))
	b.sees(text)
}

// drag draws with the mouse. The points are on a board of 800 by 500.
func (b *tab) drag(points ...[2]float64) {
	b.t.Helper()
	box := ask[struct{ X, Y, Scale float64 }](b, "#board", `(e.scrollIntoView({block: "center", behavior: "instant"}),
		(r => ({X: r.x, Y: r.y, Scale: r.width / 800}))(e.getBoundingClientRect()))`)
	mouse := func(kind input.DispatchMouseEventType, p [2]float64) {
		call(b, input.DispatchMouseEvent, input.DispatchMouseEventParams{
			Type: kind, X: box.X + p[0]*box.Scale, Y: box.Y + p[1]*box.Scale,
			Button: input.MouseButtonLeft, Buttons: 1, ClickCount: 1,
		})
	}
	mouse(input.DispatchMouseEventTypeMousePressed, points[0])
	for _, p := range points[1:] {
		mouse(input.DispatchMouseEventTypeMouseMoved, p)
	}
	mouse(input.DispatchMouseEventTypeMouseReleased, points[len(points)-1])
}

// Two people and the bot see what the others say and draw, and who comes and goes.
func TestRooms(t *testing.T) {
	t.Parallel()
	home, first, second := newRooms(t), newPerson(t), newPerson(t)
	first.enter(home, "10001")
	first.sees("你好，林小满")
	first.drag([2]float64{100, 100}, [2]float64{200, 150}, [2]float64{300, 100})
	second.enter(home, "10002")
	first.sees("Ada King joined")
	second.sees("Hello, Ada King")
	second.until("#lines", "e.childElementCount > 0") // what was drawn before
	assert.Equal(t, 3, second.count("#members li"))
	assert.Contains(t, second.text("#members"), "Ada King (you)")

	before := first.count(lines)
	second.tabTo("#board")
	do(second, chromedp.KeyEvent(" "+kb.ArrowRight+kb.ArrowRight+kb.ArrowDown+" "))
	first.until("#lines", fmt.Sprintf("e.childElementCount > %d", before))

	first.say("<i>hi</i> & all")
	second.sees("林小满 <i>hi</i> & all")
	second.say("a star, please")
	for _, b := range []*tab{first, second} {
		b.sees("Pixel (bot) There it is.")
		b.until("#lines", `[...e.children].some(line => line.points.length === 6)`)
	}

	first.choose("#wipe")
	second.sees("林小满 wiped the board")
	assert.Zero(t, second.count(lines))

	third := second.another() // another page of the same person
	third.visit(home)
	third.until("#room.connected", "!!e")
	first.until("#members", "e.childElementCount === 4")
	third.visit(home + "nowhere")
	first.until("#members", "e.childElementCount === 3")

	second.click(signOut)
	first.sees("Ada King left")
	assert.Equal(t, 2, first.count("#members li"))
}

// Without JavaScript, the page says that it needs JavaScript.
func TestRoomsWithoutScript(t *testing.T) {
	t.Parallel()
	home, b := newRooms(t), newPerson(t)
	b.visit(home)
	b.click(signIn)
	call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	b.click(allow)
	assert.Contains(t, b.text("noscript"), "needs JavaScript")
}

// The page of the room has no accessibility problems that axe finds, and fits on a phone.
func TestRoomsPage(t *testing.T) {
	t.Parallel()
	axe, err := os.ReadFile("node_modules/axe-core/axe.min.js")
	if err != nil {
		unavailable(t, "needs axe-core (npm ci)")
	}
	home, b := newRooms(t), newPerson(t)
	b.enter(home, "10002")
	b.sees("Hello, Ada King")
	for _, scheme := range []string{"light", "dark"} {
		b.prefer(scheme)
		do(b, chromedp.Evaluate[json.RawMessage](string(axe)+"; null"))
		found := do(b, chromedp.Evaluate[[]string](`axe.run(document, {resultTypes: ["violations"]}).then(r =>
			r.violations.flatMap(v => v.nodes.map(n => v.id + ": " + n.html + " " + n.failureSummary)))`, chromedp.EvalAwaitPromise))
		assert.Empty(t, found, scheme)
	}
	do(b, chromedp.EmulateViewport(phoneWidth, phoneHeight, chromedp.EmulateMobile))
	assert.LessOrEqual(t, do(b, chromedp.Evaluate[int]("document.documentElement.scrollWidth")), phoneWidth)
}

// The pictures in docs/ show a room with two people and the bot.
func TestRoomsScreenshots(t *testing.T) {
	t.Parallel()
	for language, c := range map[string]struct{ suffix, me, other, hello, ask, bot string }{
		"en-US": {".en", "10002", "10003", "Hello! I take the grass.", "A house for us, please", "There it is."},
		"zh-CN": {".zh-CN", "10001", "10002", "你好！草地归我。", "给我们画一座房子吧", "画好了。"},
	} {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			home, me, other := newRooms(t), newPerson(t), newPerson(t)
			me.speak(language)
			me.enter(home, c.me)
			me.sees("Pixel (bot) ")
			other.enter(home, c.other)
			me.until("#members", "e.childElementCount === 3")
			var sun, grass, tree [][2]float64
			for i := range 25 {
				angle, x := float64(i)*math.Pi/12, float64(i)
				sun = append(sun, [2]float64{670 + 55*math.Cos(angle), 95 + 55*math.Sin(angle)})
				grass = append(grass, [2]float64{20 + x*31.5, 462 + 12*math.Sin(x)})
				tree = append(tree, [2]float64{430 + 75*math.Cos(angle), 260 + 85*math.Sin(angle)})
			}
			me.drag(sun...)
			for i := range 8 {
				x, y := math.Cos(float64(i)*math.Pi/4), math.Sin(float64(i)*math.Pi/4)
				me.drag([2]float64{670 + 70*x, 95 + 70*y}, [2]float64{670 + 90*x, 95 + 90*y})
			}
			me.say(c.ask)
			me.sees(c.bot)
			other.say(c.hello)
			me.sees(c.hello)
			other.drag(grass...)
			other.drag(tree...)
			other.drag([2]float64{430, 455}, [2]float64{430, 345})
			me.until("#lines", fmt.Sprintf("[...e.children].filter(line => line.getAttribute('class') !== %q).length >= 7", me.colour()))
			pictures(t, me, "rooms"+c.suffix, deskWidth)
		})
	}
}

// colour returns the CSS class of the person's own lines.
func (b *tab) colour() string {
	b.t.Helper()
	return ask[string](b, "#pen", "e.getAttribute('class')")
}
