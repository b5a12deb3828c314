package child

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// standIns is the variable that has the test's binary stand for a server or a
// load generator. It names a folder that has a file for each that was started.
const standIns = "FLIX_TEST_STAND_INS"

func TestMain(m *testing.M) {
	if dir := os.Getenv(standIns); dir != "" {
		os.Exit(standIn(dir))
	}
	os.Exit(m.Run())
}

var (
	listens = regexp.MustCompile(`(?:--listen|listen|bind) (127\.0\.0\.1:\d+)`)
	isFile  = regexp.MustCompile(`\.(conf|cfg)$`)
)

// standIn listens where the arguments say so, or the configuration that they
// name, and comes to no end. A worker ends only with what ends its server.
func standIn(dir string) int {
	if slices.Contains(os.Args, "-v") {
		return 0
	}
	text := strings.Join(os.Args, " ")
	if i := slices.IndexFunc(os.Args, isFile.MatchString); i >= 0 {
		b, err := os.ReadFile(os.Args[i])
		if err != nil {
			return 1
		}
		text = string(b)
	}
	for _, m := range listens.FindAllStringSubmatch(text, -1) {
		l, err := net.Listen("tcp", m[1])
		if err != nil {
			return 1
		}
		go func() {
			if cert, key := after("--tls-cert"), after("--tls-key"); cert != "" {
				_ = http.ServeTLS(l, http.NotFoundHandler(), cert, key)
				return
			}
			_ = http.Serve(l, http.NotFoundHandler())
		}()
	}
	if slices.Contains(os.Args, "with-worker") {
		if err := exec.Command(os.Args[0], "worker").Start(); err != nil {
			return 1
		}
	}
	if err := os.WriteFile(filepath.Join(dir, filepath.Base(os.Args[0])+"."+strconv.Itoa(os.Getpid())), nil, 0o600); err != nil {
		return 1
	}
	select {}
}

// after is the argument that follows a flag, "" for none.
func after(flag string) string {
	if i := slices.Index(os.Args, flag); i >= 0 && i+1 < len(os.Args) {
		return os.Args[i+1]
	}
	return ""
}

// pids returns what runs under a name, once there are at least so many.
func pids(t *testing.T, dir, name string, least int) []int {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); ; <-tick.C {
		found, err := filepath.Glob(filepath.Join(dir, name+".*"))
		if err != nil {
			t.Fatal(err)
		}
		if len(found) < least {
			if time.Now().After(end) {
				t.Fatalf("%d of %s were started, want %d", len(found), name, least)
			}
			continue
		}
		var out []int
		for _, f := range found {
			pid, err := strconv.Atoi(strings.TrimPrefix(filepath.Ext(f), "."))
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, pid)
		}
		return out
	}
}

// wantGone fails if a process runs still. One whose parent is gone too is
// reaped by another soon.
func wantGone(t *testing.T, pid int) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); ; <-tick.C {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if _, state, _ := strings.Cut(string(b), ") "); err != nil || strings.HasPrefix(state, "Z") {
			return
		}
		if time.Now().After(end) {
			t.Errorf("process %d is left", pid)
			_ = syscall.Kill(pid, syscall.SIGKILL)
			return
		}
	}
}

// TestEndWithWorkers ends a server's workers with it.
func TestEndWithWorkers(t *testing.T) {
	dir := t.TempDir()
	cmd := Command(t.Context(), os.Args[0], "with-worker")
	cmd.Env = append(os.Environ(), standIns+"="+dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	all := pids(t, dir, filepath.Base(os.Args[0]), 2)
	End(cmd)
	for _, pid := range all {
		wantGone(t, pid)
	}
}

// TestBenchmarksEndTheirServers has each benchmark that starts servers told to
// end while they run: nothing is left of them, nor of its folder.
func TestBenchmarksEndTheirServers(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("it looks for processes in /proc")
	}
	bin := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"flix", "nginx", "haproxy", "memcached", "wrk"} {
		if err := os.Symlink(self, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range []struct {
		name string
		args []string
		last string // of what it starts
	}{
		{"oca", nil, "wrk"},
		{"edge", []string{"-caddy", "none"}, "wrk"},
		{"evcache", nil, "memcached"},
		{"registry", []string{"-original=false"}, "flix"},
	} {
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
			t.Run(b.name+" "+sig.String(), func(t *testing.T) {
				bench := filepath.Join(bin, "bench-"+b.name)
				if out, err := exec.Command("go", "build", "-o", bench, "../"+b.name).CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				started, temp := t.TempDir(), t.TempDir()
				cmd := exec.Command(bench, append(b.args, flixFlag(b.name, bin)...)...)
				cmd.Env = []string{"PATH=" + bin, "TMPDIR=" + temp, standIns + "=" + started}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				pids(t, started, b.last, 1)
				if err := cmd.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
				if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 1 {
					t.Errorf("it ended with %v, want code 1", err)
				}
				for _, pid := range pids(t, started, "*", 1) {
					wantGone(t, pid)
				}
				if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
					t.Errorf("its folder is left: %v, %v", left, err)
				}
			})
		}
	}
}

// flixFlag names the binary to a benchmark that takes one.
func flixFlag(name, bin string) []string {
	if name == "evcache" {
		return nil
	}
	return []string{"-flix", filepath.Join(bin, "flix")}
}
