package e2e_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// world is where a lab's files go: folders of its own, and nothing else of
// this machine's user.
type world struct {
	t *testing.T
	// state is XDG_STATE_HOME, tmp is TMPDIR: sockets go there, since
	// XDG_RUNTIME_DIR is unset.
	state, tmp string
	env        []string
	name       string
	// limit bounds every command.
	limit time.Duration
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, state: t.TempDir(), limit: platform{}.commandTime()}
	var err error
	// Not t.TempDir(): its path may be too long for a unix socket.
	if w.tmp, err = os.MkdirTemp("/tmp", "fx"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(w.tmp) })
	id := make([]byte, 3)
	_, _ = rand.Read(id) // never fails
	w.name = "e2e-" + hex.EncodeToString(id)
	for _, kv := range os.Environ() {
		k, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(k, "XDG_") || strings.HasPrefix(k, "FLIX_") || strings.HasPrefix(k, "OTEL_") || k == "TMPDIR" {
			continue
		}
		w.env = append(w.env, kv)
	}
	w.env = append(w.env, "XDG_STATE_HOME="+w.state, "TMPDIR="+w.tmp)
	return w
}

// dir is the lab's folder.
func (w *world) dir() string { return filepath.Join(w.state, "flix", "labs", w.name) }

// result is how a command ended.
type result struct {
	args           []string
	code           int
	stdout, stderr string
	took           time.Duration
	logs           string
}

func (r result) String() string {
	return fmt.Sprintf("flix %s (exit %d after %s)", strings.Join(r.args, " "), r.code, r.took.Round(time.Millisecond))
}

// story is everything that helps to understand a failed command.
func (r result) story() string {
	return fmt.Sprintf("%s\n--- stdout\n%s\n--- stderr\n%s\n%s", r, tail(r.stdout, 60), tail(r.stderr, 40), r.logs)
}

// tail is the last n lines of a text.
func tail(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// command is a started flix.
type command struct {
	w        *world
	args     []string
	cmd      *exec.Cmd
	cancel   context.CancelFunc
	began    time.Time
	out, err *lockedBuffer
	done     chan struct{}
	result   result
}

// start runs flix in the background; with replaces or adds variables of its
// environment.
func (w *world) start(with []string, args ...string) *command {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), w.limit)
	c := &command{w: w, cancel: cancel, began: time.Now(), out: &lockedBuffer{}, err: &lockedBuffer{}, done: make(chan struct{})}
	c.args = append([]string{"--lab", w.name}, args...)
	c.cmd = exec.CommandContext(ctx, binary, c.args...)
	c.cmd.Env = append(slices.Clone(w.env), with...)
	c.cmd.Stdout, c.cmd.Stderr = c.out, c.err
	// A child that outlives the command must not keep its pipes open for us. The
	// time is long enough to read what is in them, however busy the machine is.
	c.cmd.WaitDelay = 30 * time.Second
	if err := c.cmd.Start(); err != nil {
		cancel()
		w.t.Fatalf("flix %v: %v", args, err)
	}
	go func() {
		defer close(c.done)
		defer cancel()
		err := c.cmd.Wait()
		c.result = result{args: c.args, stdout: c.out.String(), stderr: c.err.String(), took: time.Since(c.began), code: c.cmd.ProcessState.ExitCode()}
		if err != nil && c.result.code == 0 {
			c.result.code = -1
			c.result.stderr += "\n" + err.Error()
		}
		if ctx.Err() == context.DeadlineExceeded {
			c.result.stderr += fmt.Sprintf("\nkilled by the test: it took longer than %s", w.limit)
		}
		if c.result.code != 0 {
			c.result.logs = w.logs()
		}
	}()
	w.t.Cleanup(func() { cancel(); <-c.done })
	return c
}

// wait returns how the command ended.
func (c *command) wait() result { <-c.done; return c.result }

// flix runs a command to its end.
func (w *world) flix(args ...string) result {
	w.t.Helper()
	return w.start(nil, args...).wait()
}

// must runs a command that has to succeed.
func (w *world) must(args ...string) result {
	w.t.Helper()
	r := w.flix(args...)
	if r.code != 0 {
		w.t.Fatalf("it failed: %s", r.story())
	}
	return r
}

// on makes failures belong to a subtest.
func (l *lab) on(t *testing.T) *lab {
	w := *l.world
	w.t = t
	return &lab{world: &w, rt: l.rt}
}

// lab is a lab that is up.
type lab struct {
	*world
	rt platform
}

// prepare returns a lab that is not up yet; the end of the test takes it down
// and looks for anything left.
func prepare(t *testing.T, rt platform) *lab {
	t.Helper()
	rt.need(t)
	l := &lab{world: newWorld(t), rt: rt}
	l.limit = rt.commandTime()
	t.Cleanup(func() {
		if _, err := os.Stat(l.dir()); err == nil {
			if r := l.flix("lab", "down"); r.code != 0 {
				t.Errorf("down failed: %s", r.story())
			}
		}
		l.wantNothingLeft()
	})
	return l
}

// up brings a lab up.
func up(t *testing.T, rt platform, args ...string) *lab {
	t.Helper()
	l := prepare(t, rt)
	l.up(args...)
	return l
}

func (l *lab) up(args ...string) upResult {
	l.t.Helper()
	r := l.must(slices.Concat([]string{"lab", "up", "-o", "json"}, l.rt.flags(), args)...)
	var res upResult
	decode(l.t, r, &res)
	return res
}

// read runs a command with -o json and parses what it prints.
func read[T any](l *lab, args ...string) T {
	l.t.Helper()
	var v T
	decode(l.t, l.must(append(args, "-o", "json")...), &v)
	return v
}

func (l *lab) status() labStatus { l.t.Helper(); return read[labStatus](l, "lab", "status") }
func (l *lab) fill() fillStatus  { l.t.Helper(); return read[fillStatus](l, "fill", "status") }

// play plays a title and expects it to succeed.
func (l *lab) play(args ...string) playReport {
	l.t.Helper()
	return read[playReport](l, append([]string{"play"}, args...)...)
}

// quick are the flags of a short play that takes no time to watch.
func quick(region string) []string {
	return []string{"--title", "harbor-lights", "--region", region, "--seconds", "6", "--speed", "100x"}
}

// addresses lists a port of every instance of a role in a region.
func (l *lab) addresses(region, role, port string) []string {
	l.t.Helper()
	var out []string
	for _, p := range read[portList](l, "lab", "ports").Ports {
		if part := strings.Split(p.Instance, "/"); part[0] == region && part[2] == role && p.Port == port {
			out = append(out, p.Address)
		}
	}
	if len(out) == 0 {
		l.t.Fatalf("flix lab ports lists no port %q of a %s in %s", port, role, region)
	}
	return out
}

// logs returns the end of the lab's logs: warnings and errors of the
// instances, the daemon's output, the last events.
func (w *world) logs() string {
	var b strings.Builder
	show := func(name string, keep func(string) bool, n int) {
		data, err := os.ReadFile(name)
		if err != nil {
			return
		}
		var lines []string
		for l := range strings.Lines(string(data)) {
			if keep(l) {
				lines = append(lines, strings.TrimRight(l, "\n"))
			}
		}
		if len(lines) > 0 {
			fmt.Fprintf(&b, "--- %s\n%s\n", filepath.Base(name), strings.Join(lines[max(0, len(lines)-n):], "\n"))
		}
	}
	bad := func(l string) bool {
		return strings.Contains(l, `"level":"WARN"`) || strings.Contains(l, `"level":"ERROR"`)
	}
	all := func(string) bool { return true }
	_ = filepath.WalkDir(filepath.Join(w.dir(), "logs"), func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil || d.IsDir():
		case strings.HasSuffix(p, ".jsonl"):
			show(p, bad, 5)
		default:
			show(p, all, 8)
		}
		return nil
	})
	show(filepath.Join(w.dir(), "events.jsonl"), all, 8)
	return b.String()
}

// hanging is how long the shortest wait lasts before it is given up. A wait ends
// as soon as what it waits for is there: its bound guards against a test that
// hangs, and says nothing of how fast the lab is on a busy machine.
const hanging = time.Minute

// await polls until f returns nil; it fails with f's last error when that
// takes longer than within, and than any machine needs.
func await(t testing.TB, within time.Duration, what string, f func() error) {
	t.Helper()
	awaitEvery(t, 50*time.Millisecond, within, what, f)
}

// awaitEvery is await with its own pause between two looks.
func awaitEvery(t testing.TB, pause, within time.Duration, what string, f func() error) {
	t.Helper()
	within = max(within, hanging)
	deadline := time.Now().Add(within)
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, within, err)
		}
		<-tick.C
	}
}

// lockedBuffer collects the output of a running command.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
