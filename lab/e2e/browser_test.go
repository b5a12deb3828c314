package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// chromium returns the browser to test with, or skips the test.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("FLIX_REQUIRE_CHROMIUM") == "1" {
		t.Fatal("chromium is not on PATH")
	}
	t.Skip("chromium is not on PATH")
	return ""
}

// browser is a page of a headless browser of its own.
type browser struct {
	t   *testing.T
	ctx context.Context
	url string

	mu       sync.Mutex
	problems []string // what the console says
}

// modest runs a browser with less claim on the processors than the lab has: on a
// small machine it would starve what it watches.
func modest(t *testing.T, path string) string {
	t.Helper()
	script := filepath.Join(t.TempDir(), "chromium")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nexec nice -n 4 "+path+" \"$@\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return script
}

// patience is how long anything on a page may take.
const patience = 45 * time.Second

// browse opens a browser on a page.
func browse(t *testing.T, url string) *browser {
	t.Helper()
	return visit(t, url, "#door")
}

// visit opens any page and waits until an element of it is to be seen.
func visit(t *testing.T, url, element string) *browser {
	t.Helper()
	path := chromium(t)
	flags := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(modest(t, path)), chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1100, 960),
		chromedp.Flag("autoplay-policy", "no-user-gesture-required"), chromedp.Flag("mute-audio", true))
	alloc, stop := chromedp.NewExecAllocator(context.Background(), flags...)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // ends the browser and waits
		cancel()
		stop()
	})
	b := &browser{t: t, ctx: ctx, url: url}
	if err := chromedp.Listen(ctx, b.heard); err != nil {
		t.Fatal(err)
	}
	b.do("open the page", chromedp.Navigate(url), chromedp.WaitVisible(chromedp.CSS(element)))
	return b
}

// heard notes what the console says.
func (b *browser) heard(ev any) {
	switch ev := ev.(type) {
	case *runtime.EventConsoleAPICalled:
		if ev.Type == runtime.ConsoleAPICalledTypeError || ev.Type == runtime.ConsoleAPICalledTypeWarning {
			b.note("console." + string(ev.Type) + consoleText(ev.Args))
		}
	case *runtime.EventExceptionThrown:
		b.note(fmt.Sprintf("exception: %s %s", ev.ExceptionDetails.Text, consoleText([]*runtime.RemoteObject{ev.ExceptionDetails.Exception})))
	case *log.EventEntryAdded:
		if ev.Entry.Level == log.EntryLevelError {
			b.note(fmt.Sprintf("%s: %s %s", ev.Entry.Source, ev.Entry.Text, ev.Entry.URL))
		}
	}
}

func consoleText(args []*runtime.RemoteObject) string {
	var out strings.Builder
	for _, a := range args {
		if a != nil {
			fmt.Fprintf(&out, " %s%s", a.Value, a.Description)
		}
	}
	return out.String()
}

func (b *browser) note(s string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = append(b.problems, s)
}

// quiet fails if the console has said anything; expected is what may be there.
func (b *browser) quiet(expected ...string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.problems {
		if !slices.ContainsFunc(append(expected, otherNetwork), func(e string) bool { return strings.Contains(p, e) }) {
			b.t.Errorf("the console says: %s", p)
		}
	}
}

func (b *browser) do(what string, actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatalf("%s: %v\n%s", what, err, b.story())
	}
}

// story is what helps to understand a failure.
func (b *browser) story() string {
	ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`["status", "now-playing", "overlay", "lab-words"].map((id) => document.getElementById(id).innerText.replaceAll("\n", " ")).join("\n") + (globalThis.flix ? "\n" + flix.play.troubles.join("\n") + "\n" + JSON.stringify(flix.play.player?.getBufferedInfo()) : "")`))
	b.mu.Lock()
	defer b.mu.Unlock()
	return fmt.Sprintf("console: %q\nthe page: %s %v", b.problems, text, err)
}

// eval runs an expression on the page.
func eval[T any](b *browser, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v\n%s", expression, err, b.story())
	}
	return v
}

// until waits for an expression to be true.
func (b *browser) until(what, expression string) {
	b.t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !eval[bool](b, expression) {
		if time.Now().After(deadline) {
			b.t.Fatalf("%s: not within %s: %s\n%s", what, patience, expression, b.story())
		}
		<-tick.C
	}
}

// keys types on the keyboard.
func (b *browser) keys(s string) { b.t.Helper(); b.do(fmt.Sprintf("type %q", s), chromedp.KeyEvent(s)) }

// tabTo presses Tab until an element has the focus.
func (b *browser) tabTo(selector string) {
	b.t.Helper()
	for range 60 {
		if eval[bool](b, fmt.Sprintf("document.activeElement.matches(%q)", selector)) {
			return
		}
		b.keys("\t")
	}
	b.t.Fatalf("Tab does not reach %s", selector)
}

// signIn submits the form as it is filled in.
func (b *browser) signIn() {
	b.t.Helper()
	b.do("sign in", chromedp.Click(chromedp.CSS("#sign-in button")), chromedp.WaitVisible(chromedp.CSS("[data-title=harbor-lights]")))
}

// watch begins a title and counts, beside the page, how often the picture waits
// for media once it has played. With media at hand it waits for this machine.
func (b *browser) watch(title string) {
	b.t.Helper()
	b.count()
	b.do("begin "+title, chromedp.Click(chromedp.CSS(fmt.Sprintf("[data-title=%q]", title))))
	b.plays()
}

func (b *browser) count() {
	b.t.Helper()
	eval[bool](b, `(() => { const v = document.getElementById("video"); globalThis.waits = 0; globalThis.began = false;
		v.addEventListener("playing", () => { began = true; });
		const ahead = () => { for (let i = 0; i < v.buffered.length; i++) if (v.buffered.start(i) <= v.currentTime && v.currentTime <= v.buffered.end(i)) return v.buffered.end(i) - v.currentTime; return 0; };
		v.addEventListener("waiting", () => { if (began && !v.seeking && v.duration - v.currentTime > 0.25 && ahead() < 0.5) waits++; }); return true; })()`)
}

func (b *browser) plays() {
	b.t.Helper()
	b.until("the picture moves", `began && document.getElementById("video").currentTime > 0.5 && flix.play.appliance !== undefined`)
}

// scheme makes the screen one of people who like it "light" or "dark".
func (b *browser) scheme(name string) {
	b.t.Helper()
	if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}}); err != nil {
		b.t.Fatal(err)
	}
}

// names fails for what can be operated and says to no screen reader what it is.
func (b *browser) names() {
	b.t.Helper()
	tree, err := chromedp.Call(b.ctx, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	if err != nil {
		b.t.Fatal(err)
	}
	seen := 0
	for _, n := range tree.Nodes {
		if n.Role == nil || n.Ignored || !slices.Contains([]string{`"button"`, `"textbox"`, `"searchbox"`, `"combobox"`, `"link"`, `"image"`, `"Video"`}, string(n.Role.Value)) {
			continue
		}
		seen++
		if n.Name == nil || len(n.Name.Value) <= 2 {
			b.t.Errorf("a %s has no name", n.Role.Value)
		}
	}
	if seen == 0 {
		b.t.Error("the accessibility tree shows nothing to operate")
	}
}

// fits fails if the page is wider than the screen.
func (b *browser) fits(where string) {
	b.t.Helper()
	if over := eval[int](b, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); over > 0 {
		b.t.Errorf("%s: the page is %d pixels wider than the screen", where, over)
	}
}

// picture takes a screenshot, into FLIX_SCREENSHOTS if that names a folder.
func (b *browser) picture(name string) {
	b.t.Helper()
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.t.Fatal(err)
	}
	dir := os.Getenv("FLIX_SCREENSHOTS")
	if dir == "" {
		dir = b.t.TempDir()
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600); err != nil {
		b.t.Fatal(err)
	}
	if len(png) < 1000 {
		b.t.Errorf("the picture of %s has %d bytes", name, len(png))
	}
}

// open runs flix open until the test ends and returns the page's address.
func (l *lab) open() (url string) {
	l.t.Helper()
	w := *l.world
	w.limit = 10 * time.Minute
	c := w.start(nil, "open", "--no-browser", "--print-url")
	await(l.t, 10*time.Second, "flix open says where it listens", func() error {
		url = strings.TrimSpace(c.out.String())
		if !strings.HasPrefix(url, "http://127.0.0.1:") {
			return fmt.Errorf("it said %q and %q", url, c.err.String())
		}
		return nil
	})
	l.t.Cleanup(func() {
		if err := c.cmd.Process.Signal(os.Interrupt); err != nil {
			l.t.Error(err)
		}
		if r := c.wait(); r.code != 0 || l.t.Failed() {
			l.t.Errorf("%s", r.story())
		}
	})
	return url
}
