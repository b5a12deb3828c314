package embedded

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestReusedPidIsSpared forges what a journal holds after a reboot or a wrap of
// pids: the pid is somebody's, the start time is not.
func TestReusedPidIsSpared(t *testing.T) {
	f, ctx := newFixture(t), withLimit(t)
	p, err := Spawn(ctx, f.exe, filepath.Join(f.c.Dir, "logs", "x.log"), f.c.Env, "spawned", "ready")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := endProcess(ctx, p); err != nil {
			t.Error(err)
		}
	}()
	for _, ticks := range []uint64{0, p.StartTicks - 1, p.StartTicks + 1} {
		forged := Process{PID: p.PID, StartTicks: ticks, Exe: p.Exe}
		if forged.Alive() {
			t.Errorf("start time %d was taken for %d", ticks, p.StartTicks)
		}
		if err := forged.Signal(syscall.SIGKILL); err != nil {
			t.Errorf("signal to a process that is gone: %v", err)
		}
		if err := forged.WaitGone(ctx); err != nil {
			t.Errorf("waiting for a process that is gone: %v", err)
		}
	}
	if !p.Alive() {
		t.Fatal("a process under a reused pid was killed")
	}
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := p.WaitGone(ctx); err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Errorf("a second signal: %v", err)
	}
}

// TestGoneMeansClosed kills a process of many threads: when WaitGone returns,
// the last of them has ended, and with it what they had open. Its first thread
// is a zombie before that.
func TestGoneMeansClosed(t *testing.T) {
	f, ctx := newFixture(t), withLimit(t)
	for n := range 5 {
		log := filepath.Join(f.c.Dir, "logs", strconv.Itoa(n))
		p, err := Spawn(ctx, f.exe, log, f.c.Env, "spawned", "listen")
		if err != nil {
			t.Fatal(err)
		}
		if err := endProcess(ctx, p); err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", readFile(t, log))
		if err == nil {
			_ = c.Close()
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("round %d: a process that is gone still listens: %v", n, err)
		}
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestIdentify(t *testing.T) {
	me, ok := identify(os.Getpid())
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if !ok || me.PID != os.Getpid() || me.StartTicks == 0 || me.Exe != exe || !me.Alive() {
		t.Errorf("this process is %+v (found %v), executable %s", me, ok, exe)
	}
	if again, _ := identify(os.Getpid()); again != me {
		t.Errorf("identity changed from %+v to %+v", me, again)
	}
	if _, ok := identify(1 << 22); ok { // beyond pid_max
		t.Error("a pid that cannot be was found")
	}
	// A command name may hold spaces and parentheses; fields count after it.
	odd := filepath.Join(t.TempDir(), "a) R 1 (b")
	if err := os.Symlink("/bin/sh", odd); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(odd, "-c", "read x")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if p, ok := identify(cmd.Process.Pid); !ok || p.StartTicks < me.StartTicks {
		t.Errorf("an oddly named process is %+v (found %v), began before this test", p, ok)
	}
	_ = in.Close()
	// Not waited for yet: a zombie is not alive, however long it lies there.
	for p, ok := identify(cmd.Process.Pid); ok; p, ok = identify(cmd.Process.Pid) {
		if err := p.WaitGone(withLimit(t)); err != nil {
			t.Fatal(err)
		}
	}
	_ = cmd.Wait() // 1: the end of its input
}

// TestBegins tells a lab's processes from those that only name them.
func TestBegins(t *testing.T) {
	want := []string{"host", "--lab-dir", "/x/ab"}
	for line, ok := range map[string]bool{
		"flix host --lab-dir /x/ab":                       true,
		"/usr/bin/flix host --lab-dir /x/ab --host north": true,
		"flix host --lab-dir /x/abc":                      false, // a lab whose name begins alike
		"flix host --lab-dir":                             false,
		"flix daemon --lab-dir /x/ab":                     false,
		"host --lab-dir /x/ab":                            false,
		"strace -f flix host --lab-dir /x/ab":             false,
		"sh ./flix host --lab-dir /x/ab":                  false,
		"vim host --lab-dir /x/a":                         false,
		"":                                                false,
	} {
		if got := begins(strings.Fields(line), want); got != ok {
			t.Errorf("%q: %v, want %v", line, got, ok)
		}
	}
}

func TestFindAndMemory(t *testing.T) {
	f, ctx := newFixture(t), withLimit(t)
	p, err := Spawn(ctx, f.exe, filepath.Join(f.c.Dir, "logs", "x.log"), f.c.Env, "spawned", "ready", "--mark", f.c.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := endProcess(ctx, p); err != nil {
			t.Error(err)
		}
		if left := Find("spawned", "ready", "--mark", f.c.Dir); len(left) != 0 {
			t.Errorf("found after its end: %+v", left)
		}
	}()
	if got := Find("spawned", "ready", "--mark", f.c.Dir); !slices.Equal(got, []Process{p}) {
		t.Errorf("found %+v, want %+v", got, p)
	}
	if got := Argument(p.PID, "--mark"); got != f.c.Dir {
		t.Errorf("argument %q", got)
	}
	if got := Argument(p.PID, f.c.Dir); got != "" {
		t.Errorf("a flag without a value has %q", got)
	}
	if n, err := PSS(p.PID); err != nil || n < 100<<10 || n > 1<<30 {
		t.Errorf("PSS %d (error %v)", n, err)
	}
	if _, err := PSS(1 << 22); err == nil {
		t.Error("a pid that cannot be has memory")
	}
}

func TestLockIsExclusive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "x.lock")
	f, err := lockFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockFile(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a second lock: %v", err)
	}
	_ = f.Close()
	again, err := lockFile(path)
	if err != nil {
		t.Fatalf("after the first ended: %v", err)
	}
	_ = again.Close()
}
