package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	goruntime "runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/flix-lab/flix/lab/journal"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/lab/runtime/host"
	"github.com/flix-lab/flix/lab/runtime/runtimetest"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// TestMain lets the test binary be what Spawn starts: a host of fake units, or
// a process that behaves well or badly at its start.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "host":
			os.Exit(hostMain(os.Args[2:]))
		case "spawned":
			os.Exit(spawnedMain(os.Args[2]))
		}
	}
	goleak.VerifyTestMain(m)
}

// orphanLimit ends a spawned process whose test did not.
const orphanLimit = 5 * time.Minute

func hostMain(args []string) int {
	CloseInherited()
	ready := Spawned(os.Getenv)
	ctx, cancel := context.WithTimeout(context.Background(), orphanLimit)
	defer cancel()
	dir, name, socket := args[1], args[3], args[5]
	if err := RunHost(ctx, dir, name, socket, &units{}, discard(), ready); err != nil {
		return 1
	}
	return 0
}

func spawnedMain(how string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, orphanLimit)
	defer cancel()
	ready := Spawned(os.Getenv)
	switch how {
	case "ready":
		fmt.Println("a word on stdout")
		ready.Tell(nil)
		ready.Tell(errors.New("a second word does not count"))
	case "listen": // on a port that it prints, with many threads
		l, err := net.Listen("tcp", "127.0.0.2:0") // nobody else takes ports of it
		if err != nil {
			return 1
		}
		defer l.Close()
		fmt.Print(l.Addr())
		for range 100 {
			go func() {
				goruntime.LockOSThread()
				_ = syscall.Pause()
			}()
		}
		ready.Tell(nil)
	case "fail":
		ready.Tell(errors.New("no luck today"))
		return 1
	case "die":
		return 3
	case "mumble":
		_, _ = os.NewFile(readyFD, "ready").WriteString("rea")
		return 0
	}
	<-ctx.Done()
	return 0
}

// units is the Factory of fake units.
type units struct {
	mu    sync.Mutex
	world runtime.World
}

func (u *units) SetWorld(w runtime.World) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.world = w
	return nil
}

func (u *units) Build(spec runtime.Spec, ls host.Listeners) (services.Unit, error) {
	return runtimetest.NewUnit(spec, ls.TCP[topology.PortRPC], func() runtime.World {
		u.mu.Lock()
		defer u.mu.Unlock()
		return u.world
	})
}

func (u *units) Close(context.Context) error { return nil }

// fixture is a lab's folders with a journal.
type fixture struct {
	t   testing.TB
	c   Config
	exe string
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, d := range []string{"logs", "run", "data"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	sockets, err := os.MkdirTemp("", "flix") // t.TempDir's are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(sockets) })
	j, err := journal.Open(journal.Path(dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return &fixture{t: t, exe: exe, c: Config{
		Dir: dir, Sockets: sockets, Exe: exe, Env: os.Environ(), Journal: j,
		Args: func(host, socket string) []string {
			return []string{"host", "--lab-dir", dir, "--host", host, "--socket", socket}
		},
	}}
}

// runtime returns a runtime that the end of the test removes.
func (f *fixture) runtime() *Runtime {
	r := New(f.c)
	f.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := r.Remove(ctx); err != nil {
			f.t.Errorf("Remove: %v", err)
		}
	})
	return r
}

// spec declares an instance with a free port.
func (f *fixture) spec(region string, n int) runtime.Spec {
	return runtimetest.Spec(f.t, filepath.Join(f.c.Dir, "data"), region, n)
}

// there says whether a process exists and is no zombie.
func there(pid int) bool { _, ok := identify(pid); return ok }

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
