package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/flix-lab/flix/lab/journal"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/lab/runtime/runtimetest"
)

func TestContract(t *testing.T) {
	runtimetest.Run(t, func(t testing.TB) runtimetest.Harness {
		f := newFixture(t)
		return runtimetest.Harness{
			Runtime: f.runtime(), Reattach: func() runtime.Runtime { return New(f.c) }, Spec: f.spec, Alive: there,
		}
	})
}

func withLimit(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute) // only bounds a test that would hang
	t.Cleanup(cancel)
	return ctx
}

func ask(t *testing.T, s runtime.Spec, line string) string {
	t.Helper()
	a, err := runtimetest.Ask(withLimit(t), s, line)
	if err != nil {
		t.Fatalf("%s %q: %v", s.ID, line, err)
	}
	return a
}

// TestRegionIsOneProcess checks the fault domains: one process per region, and
// a SIGKILL of one takes that region alone.
func TestRegionIsOneProcess(t *testing.T) {
	f, ctx := newFixture(t), withLimit(t)
	r := f.runtime()
	n1, n2, s1 := f.spec("north", 1), f.spec("north", 2), f.spec("south", 1)
	if err := r.Start(ctx, []runtime.Spec{n1, n2, s1}); err != nil {
		t.Fatal(err)
	}
	north, south := ask(t, n1, "pid"), ask(t, s1, "pid")
	if north != ask(t, n2, "pid") || north == south || north == strconv.Itoa(os.Getpid()) {
		t.Fatalf("north runs in %s, south in %s, this test in %d", north, south, os.Getpid())
	}
	ask(t, n1, "write survives")
	boot := ask(t, s1, "boot")
	pid, err := strconv.Atoi(north)
	if err != nil {
		t.Fatal(err)
	}
	p, ok := identify(pid)
	if !ok {
		t.Fatalf("process %d is not there", pid)
	}
	if err := endProcess(ctx, p); err != nil {
		t.Fatal(err)
	}
	if hs := r.Hosts(); hs["north"] || !hs["south"] {
		t.Errorf("Hosts: %v, want only south alive", hs)
	}
	all, err := r.List(ctx)
	if err != nil || len(all) != 1 || all[0].Spec.ID != s1.ID {
		t.Errorf("List without north: %+v (error %v)", all, err)
	}
	// What was on the lost host can be stopped and killed: there is nothing to do.
	if err := errors.Join(r.Stop(ctx, []string{n2.ID}, time.Second), r.Kill(ctx, n2.ID)); err != nil {
		t.Errorf("ending what is gone: %v", err)
	}
	if err := r.SetWorld(ctx, runtimetest.World("w2")); err != nil {
		t.Errorf("a new world beside a lost host: %v", err)
	}
	if err := r.Start(ctx, []runtime.Spec{n1, n2, s1}); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, n1, "read"); got != "survives" {
		t.Errorf("the disk holds %q", got)
	}
	if got := ask(t, n1, "world"); got != "w2" {
		t.Errorf("world %q, want w2", got)
	}
	if ask(t, s1, "boot") != boot {
		t.Error("south was begun anew")
	}
}

// TestHostMissingInJournal cuts the runtime off between the two lines of the
// journal: the pid is nowhere, and Remove still ends the process.
func TestHostMissingInJournal(t *testing.T) {
	f, ctx := newFixture(t), withLimit(t)
	s := f.spec("north", 1)
	if err := f.runtime().Start(ctx, []runtime.Spec{s}); err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(ask(t, s, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.c.Journal.Put(journal.Process, "north", Process{}); err != nil {
		t.Fatal(err)
	}
	if err := New(f.c).Remove(ctx); err != nil {
		t.Fatal(err)
	}
	if there(pid) {
		t.Errorf("process %d is left", pid)
	}
	if left := f.c.Journal.List(journal.Process); len(left) != 0 {
		t.Errorf("the journal still holds %+v", left)
	}
	if left, _ := filepath.Glob(filepath.Join(f.c.Sockets, "*")); len(left) != 0 {
		t.Errorf("sockets are left: %v", left)
	}
}

// TestRemoveSparesLookalikes runs a program of somebody else under the very
// arguments of a host, as a debugger or a shell would: it is not the lab's.
func TestRemoveSparesLookalikes(t *testing.T) {
	f, ctx := newFixture(t), withLimit(t)
	r := f.runtime()
	if err := r.Start(ctx, []runtime.Spec{f.spec("north", 1)}); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"-c", "read x", "sh"}, f.c.Args("north", r.socket("north"))...)
	cmd := exec.Command("sh", args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := r.Remove(ctx); err != nil {
		t.Error(err)
	}
	_ = in.Close() // it ends by itself now, with 1 for the end of its input
	err = cmd.Wait()
	var ee *exec.ExitError
	if errors.As(err, &ee) && ee.Sys().(syscall.WaitStatus).Signaled() {
		t.Error("a process of somebody else was killed")
	}
}

// TestOneHostPerName starts a second host beside a live one, as two daemons
// would: it is refused, and the first lives on.
func TestOneHostPerName(t *testing.T) {
	f, ctx := newFixture(t), withLimit(t)
	s := f.spec("north", 1)
	if err := f.runtime().Start(ctx, []runtime.Spec{s}); err != nil {
		t.Fatal(err)
	}
	_, err := Spawn(ctx, f.exe, filepath.Join(f.c.Dir, "logs", "second.log"), f.c.Env, f.c.Args("north", filepath.Join(f.c.Sockets, "second.sock"))...)
	if err == nil || !strings.Contains(err.Error(), "is locked: another process runs under this name") {
		t.Errorf("a second host: %v", err)
	}
	ask(t, s, "boot")
}

func TestEndHostIsOrderly(t *testing.T) {
	f, ctx := newFixture(t), withLimit(t)
	r, s := f.runtime(), f.spec("north", 1)
	if err := r.Start(ctx, []runtime.Spec{s}); err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(ask(t, s, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second has nothing to do
		if err := r.EndHost(ctx, "north", false); err != nil {
			t.Fatal(err)
		}
	}
	if there(pid) {
		t.Errorf("process %d is left", pid)
	}
	if _, err := os.Stat(filepath.Join(s.Dir, "bye")); err != nil {
		t.Errorf("the instance had no orderly end: %v", err)
	}
	if _, ok := f.c.Journal.Get(journal.Process, "north"); ok {
		t.Error("the journal still holds the host")
	}
}

// TestHostThatDoesNotStart checks that the error says why and where the log is,
// and that nothing of it is left running.
func TestHostThatDoesNotStart(t *testing.T) {
	f, ctx := newFixture(t), withLimit(t)
	f.c.Args = func(string, string) []string { return []string{"spawned", "fail"} }
	err := f.runtime().Start(ctx, []runtime.Spec{f.spec("north", 1)})
	if err == nil || !strings.Contains(err.Error(), "host north: spawned did not start: no luck today (log: ") {
		t.Errorf("error: %v", err)
	}
}

func TestSpawn(t *testing.T) {
	f := newFixture(t)
	for _, c := range []struct{ how, err string }{
		{"ready", ""},
		{"fail", "did not start: no luck today"},
		{"die", "did not start: it ended without a word"},
		{"mumble", "did not start: rea"},
	} {
		t.Run(c.how, func(t *testing.T) {
			ctx := withLimit(t)
			log := filepath.Join(f.c.Dir, "logs", c.how+".log")
			p, err := Spawn(ctx, f.exe, log, f.c.Env, "spawned", c.how)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || !strings.Contains(err.Error(), log) {
					t.Fatalf("error %v, want %q and the log's name", err, c.err)
				}
				if err := p.WaitGone(ctx); err != nil {
					t.Error(err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := endProcess(ctx, p); err != nil {
					t.Error(err)
				}
			}()
			if !p.Alive() || p.Exe != f.exe || Argument(p.PID, "spawned") != c.how {
				t.Errorf("process %+v", p)
			}
			if sid, err := syscallGetsid(p.PID); err != nil || sid != p.PID {
				t.Errorf("session %d (error %v), want one of its own: %d", sid, err, p.PID)
			}
			if b, err := os.ReadFile(log); err != nil || string(b) != "a word on stdout\n" {
				t.Errorf("log %q (error %v)", b, err)
			}
			if wd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", p.PID)); err != nil || wd != "/" {
				t.Errorf("it holds folder %q (error %v)", wd, err)
			}
		})
	}
}

func syscallGetsid(pid int) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	return strconv.Atoi(f[3])
}

func TestSpawnGivenUp(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	p, err := Spawn(ctx, f.exe, filepath.Join(f.c.Dir, "logs", "x.log"), f.c.Env, "spawned", "hang")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("error %v", err)
	}
	if err := p.WaitGone(withLimit(t)); err != nil {
		t.Errorf("what was given up runs on: %v", err)
	}
	if _, err := Spawn(t.Context(), "/nonexistent/flix", filepath.Join(f.c.Dir, "logs", "x.log"), nil, "spawned", "ready"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an executable that is not there: %v", err)
	}
}

// TestReadinessOfAnUnspawnedProcess writes to nobody's descriptor 3.
func TestReadinessOfAnUnspawnedProcess(t *testing.T) {
	r := Spawned(func(string) string { return "" })
	if r.f != nil {
		t.Fatal("a process that Spawn did not start has a ready descriptor")
	}
	r.Tell(nil)
	r.Tell(errors.New("x"))
}

func TestListenUnixReplacesAStaleSocket(t *testing.T) {
	f := newFixture(t)
	path := f.c.Sockets + "/x.sock"
	for range 2 {
		l, err := listenUnix(path)
		if err != nil {
			t.Fatal(err)
		}
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("mode %v (error %v), want 0600", st.Mode(), err)
		}
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		_ = l.Close()
	}
}
