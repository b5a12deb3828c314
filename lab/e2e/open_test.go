package e2e_test

import (
	"fmt"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// The machine's network is not the page's: an engine that makes containers beside
// the test changes it, and the browser says so.
const otherNetwork = "net::ERR_NETWORK_CHANGED"

// What the console says when the appliance in use is killed: the browser's own
// note that a request failed, which no page can keep it from writing.
var dead = []string{"net::ERR_CONNECTION_REFUSED", "net::ERR_CONNECTION_RESET", "net::ERR_CONNECTION_CLOSED", "net::ERR_EMPTY_RESPONSE", "net::ERR_INCOMPLETE_CHUNKED_ENCODING", "net::ERR_CONTENT_LENGTH_MISMATCH"}

// TestOpen watches the lab in a browser.
func TestOpen(t *testing.T) {
	chromium(t)
	l := up(t, platform{Name: "embedded"}, "--regions", "2")
	url := l.open()
	t.Run("keyboard", func(t *testing.T) { byKeyboard(t, url) })
	t.Run("hls", func(t *testing.T) { playsHLS(t, url) })
	t.Run("tab is closed", func(t *testing.T) { leavesPage(t, url) })
	t.Run("hasty", func(t *testing.T) { clicksTwice(t, url) })
	t.Run("appliance dies", func(t *testing.T) { applianceDies(t, l.on(t), url) })
	t.Run("region is evacuated", func(t *testing.T) { regionLeaves(t, l.on(t), url) })
	t.Run("screens", func(t *testing.T) { screens(t, url) })
}

// byKeyboard signs in, finds a title and plays it to its end without a mouse.
func byKeyboard(t *testing.T, url string) {
	b := browse(t, url)
	b.names()
	b.tabTo("#sign-in button")
	b.keys(kb.Enter)
	b.do("rows", chromedp.WaitVisible(chromedp.CSS("[data-title=harbor-lights]")))
	b.tabTo("#q")
	b.keys("long zoom" + kb.Enter)
	b.until("the search finds one title", `document.querySelector("#browse h2")?.textContent.startsWith("Found") && document.querySelectorAll("[data-title=the-long-zoom]").length === 1`)
	b.count()
	b.tabTo("[data-title=the-long-zoom]")
	b.keys(kb.Enter)
	b.plays()
	b.names()
	b.until("the map shows the play", `document.querySelector("#map .own")?.dataset.appliance === flix.play.appliance.name`)
	b.until("the end", `flix.play.state === "ended"`)
	if n := eval[int](b, "waits"); n != 0 {
		t.Errorf("the picture waited %d times", n)
	}
	if r := eval[string](b, `document.getElementById("now-rung").textContent`); r == "–" || r == "" {
		t.Errorf("the overlay shows no rung: %q", r)
	}
	b.tabTo("#close")
	b.keys(kb.Enter)
	b.until("the play is closed", `document.getElementById("watch").hidden`)
	b.quiet()
}

func playsHLS(t *testing.T, url string) {
	b := browse(t, url)
	b.signIn()
	eval[bool](b, `(document.getElementById("format").value = "hls", true)`)
	b.watch("garden-of-cells")
	eval[bool](b, `(document.getElementById("video").currentTime = 20, true)`)
	b.until("the end", `flix.play.state === "ended"`)
	b.quiet()
}

// leavesPage goes away in the middle of a title, thrice on a plan of two streams:
// each play ends for the lab as well, so that the next one may begin.
func leavesPage(t *testing.T, url string) {
	b := browse(t, url)
	eval[bool](b, `(() => {
		document.querySelector("#door details").open = true;
		for (const [id, v] of [["new-name", "Ada"], ["new-email", "two-streams@flix.test"], ["new-password", "a-long-password"], ["new-plan", "standard"]]) document.getElementById(id).value = v;
		document.getElementById("sign-up").requestSubmit(); return true; })()`)
	for _, title := range []string{"harbor-lights", "garden-of-cells", "the-long-zoom"} {
		b.do("rows", chromedp.WaitVisible(chromedp.CSS("[data-title=harbor-lights]")))
		b.watch(title)
		b.do("come back", chromedp.Navigate(url))
	}
	b.quiet()
}

// clicksTwice asks for two titles at once while another plays: the last one plays,
// alone, also when it is asked for before the one before has begun.
func clicksTwice(t *testing.T, url string) {
	b := browse(t, url)
	b.signIn()
	b.watch("harbor-lights")
	eval[bool](b, `(() => { const all = [flix.play]; globalThis.all = all;
		Object.defineProperty(globalThis, "flix", { set: (v) => all.push(v.play), get: () => ({ play: all.at(-1) }) }); return true; })()`)
	eval[bool](b, `(() => { for (const t of ["garden-of-cells", "the-long-zoom"]) document.querySelector(`+"`[data-title=${t}]`"+`).click(); return true; })()`)
	b.until("the last one begins", `flix.play.title.id === "the-long-zoom"`)
	eval[bool](b, `(document.querySelector("[data-title=garden-of-cells]").click(), true)`)
	b.until("the last one plays", `flix.play.title.id === "garden-of-cells" && flix.play.appliance !== undefined && document.getElementById("video").currentTime > 0.5`)
	b.until("it plays alone", `all.filter((p) => !p.ended).length === 1`)
	if s := eval[string](b, `document.getElementById("status").textContent`); s != "" {
		t.Errorf("the page says: %s", s)
	}
	b.quiet()
}

// applianceDies kills what serves a play: the picture goes on from another.
func applianceDies(t *testing.T, l *lab, url string) {
	b := browse(t, url+"?buffer=6")
	b.signIn()
	b.watch("harbor-lights")
	first := eval[string](b, "flix.play.appliance.name")
	l.must("lab", "kill", first)
	b.until("another appliance serves", fmt.Sprintf("flix.play.appliance.name !== %q", first))
	b.until("the map shows that it is gone", fmt.Sprintf(`[...document.querySelectorAll("#map .appliance.bad title")].some((e) => e.textContent === %q)`, first))
	b.until("steering has struck it out", `fetch(flix.play.api.url(flix.play.answer.stock.steering)).then((r) => r.json()).then((m) => m["PATHWAY-PRIORITY"].every((p) => p !== `+fmt.Sprintf("%q", first)+`.replaceAll("/", ".")))`)
	b.picture("appliance-dies")
	l.must("lab", "start", first)
	b.until("the end", `flix.play.state === "ended"`)
	if n := eval[int](b, "waits"); n != 0 {
		t.Errorf("the picture waited %d times", n)
	}
	if n := eval[int](b, "flix.play.rebuffers"); n != 0 {
		t.Errorf("the page counts %d rebuffers", n)
	}
	if s := eval[string](b, `document.getElementById("now-switches").textContent`); s == "0" {
		t.Error("the overlay shows no switch of appliances")
	}
	b.quiet(dead...)
}

// regionLeaves evacuates the region that answers: the video does not notice.
func regionLeaves(t *testing.T, l *lab, url string) {
	b := browse(t, url+"?buffer=6")
	b.signIn()
	b.watch("harbor-lights")
	from := eval[string](b, "flix.play.region")
	l.must("failover", from)
	b.until("the map shows the evacuation", `document.querySelector("#map .cloud.away") !== null`)
	b.until("another region answers", fmt.Sprintf("flix.play.region !== %q", from))
	b.picture("evacuated")
	b.until("the end", `flix.play.state === "ended"`)
	if n := eval[int](b, "waits"); n != 0 {
		t.Errorf("the picture waited %d times", n)
	}
	l.must("failback", from)
	b.until("the map shows the return", `document.querySelector("#map .cloud.away") === null`)
	b.quiet()
}

// screens looks at the page on a desk and on a phone, by day and by night.
func screens(t *testing.T, url string) {
	b := browse(t, url)
	ground := map[string]string{}
	for _, scheme := range []string{"light", "dark"} {
		b.scheme(scheme)
		ground[scheme] = eval[string](b, `getComputedStyle(document.body).backgroundColor`)
	}
	if ground["light"] == ground["dark"] {
		t.Errorf("light and dark have the same ground, %s", ground["light"])
	}
	b.signIn()
	b.fits("rows on a desk")
	b.picture("rows-dark")
	b.watch("harbor-lights")
	b.until("a while of it", `document.getElementById("video").currentTime > 4`)
	for _, scheme := range []string{"dark", "light"} {
		b.scheme(scheme)
		b.picture("watch-" + scheme)
	}
	b.quiet()
	phone(t, url)
}

func phone(t *testing.T, url string) {
	b := browse(t, url)
	b.do("a phone", chromedp.EmulateViewport(360, 740, chromedp.EmulateMobile, chromedp.EmulateTouch))
	b.fits("the door on a phone")
	b.signIn()
	b.fits("rows on a phone")
	b.watch("harbor-lights")
	b.until("the map stands upright", `(() => { const v = document.querySelector("#map svg").viewBox.baseVal; return v.height > v.width; })()`)
	b.fits("a play on a phone")
	eval[bool](b, `(document.getElementById("watch").scrollIntoView(), true)`)
	b.picture("phone")
	b.signsOut()
}

// signsOut leaves while a title plays: the play's last report is made by the member
// all the same, for it gives the licence back.
func (b *browser) signsOut() {
	b.t.Helper()
	eval[bool](b, `(() => { globalThis.stops = []; const plain = globalThis.fetch;
		globalThis.fetch = async (url, how) => {
			const answer = await plain(url, how);
			if (String(url).endsWith("/play/report") && JSON.parse(how.body).kind === "stop") stops.push(answer.status);
			return answer;
		}; return true; })()`)
	eval[bool](b, `(document.getElementById("sign-out").click(), true)`)
	b.do("sign out", chromedp.WaitVisible(chromedp.CSS("#door")))
	b.until("the play's end is reported", `stops.length > 0`)
	if got := eval[[]int](b, "stops"); len(got) != 1 || got[0] >= 300 {
		b.t.Errorf("the reports of the play's end were answered %v", got)
	}
	b.quiet()
}
