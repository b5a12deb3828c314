package containers

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/flix-lab/flix/lab/journal"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/lab/runtime/containers/images"
	"github.com/flix-lab/flix/lab/runtime/runtimetest"
	"github.com/flix-lab/flix/services/dockertest"
	"github.com/flix-lab/flix/topology"
)

// contractTime bounds one test of the suite: an engine takes up to a second to
// start or stop a container on a machine that is busy.
const contractTime = 2 * time.Minute

// TestContract runs the suite of the port in every way that a lab may have its
// containers.
func TestContract(t *testing.T) {
	dockertest.Image(t, string(images.FFmpeg), images.FFmpeg.Built()) // the transcoder's image stands on it
	exe := unitProgram(t)
	for _, c := range []topology.Containers{
		{Pack: topology.PackInstance, Network: topology.BridgeNetwork},
		{Pack: topology.PackZone, Network: topology.BridgeNetwork},
		{Pack: topology.PackInstance, Network: topology.HostNetwork},
	} {
		t.Run(fmt.Sprintf("a container per %s on the network %s", c.Pack, c.Network), func(t *testing.T) {
			runtimetest.Run(t, func(t testing.TB) runtimetest.Harness { return newFixture(t, exe, c).harness() })
		})
	}
}

// unitProgram builds the program of the suite's containers, static as flix is.
func unitProgram(t testing.TB) string {
	t.Helper()
	exe := filepath.Join(t.TempDir(), "unit")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", exe, "./testdata/unit")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return exe
}

// fixture is a lab's folder with a journal.
type fixture struct {
	t testing.TB
	c Config
	r *Runtime
	// ports that were given away: instances in one container share its address.
	ports map[int]bool
}

func newFixture(t testing.TB, exe string, declared topology.Containers) *fixture {
	t.Helper()
	for _, kv := range Environ() {
		k, v := splitEnv(kv)
		// The library reads it once, at the first container of the process.
		if err := os.Setenv(k, v); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	j, err := journal.Open(journal.Path(dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	f := &fixture{t: t, ports: map[int]bool{}, c: Config{
		Lab: "contract", Dir: dir, Exe: exe, Getenv: os.Getenv, Journal: j,
		Declared: func() topology.Containers { return declared },
	}}
	f.r = f.runtime()
	ctx, cancel := context.WithTimeout(context.Background(), contractTime)
	defer cancel()
	if err := f.r.Prepare(ctx); err != nil {
		t.Fatal(err)
	}
	return f
}

func splitEnv(kv string) (k, v string) {
	for i := range kv {
		if kv[i] == '=' {
			return kv[:i], kv[i+1:]
		}
	}
	return kv, ""
}

// runtime returns a new value for the lab, as a daemon that has just started
// has it.
func (f *fixture) runtime() *Runtime {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), contractTime)
	defer cancel()
	r, err := New(ctx, f.c)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = r.Close() })
	return r
}

func (f *fixture) harness() runtimetest.Harness {
	h := runtimetest.Harness{
		Limit: contractTime, Runtime: f.r, Reattach: func() runtime.Runtime { return f.runtime() }, Spec: f.spec,
		Alive: func(pid int) bool { _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); return err == nil },
	}
	if !f.r.hostNetwork() {
		// Nobody has a container's address but itself: what it shares with this
		// machine are the ports that are published for clients.
		h.Occupied = func(s runtime.Spec) string {
			return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.PortNumbers[topology.PortClient]))
		}
	}
	return h
}

// spec declares an instance of a role that flix serves itself, with a disk and
// a port for clients.
func (f *fixture) spec(region string, n int) runtime.Spec {
	f.t.Helper()
	s := runtimetest.Spec(f.t, f.c.Dir, region, n)
	s.Role, s.Ports = topology.RoleOCA, []string{topology.PortRPC, topology.PortClient}
	s.ID = topology.InstanceID(region, s.Zone, s.Role, n)
	for _, name := range s.Ports {
		s.PortNumbers[name] = f.port()
	}
	if err := f.r.Place(&s); err != nil {
		f.t.Fatal(err)
	}
	return s
}

// port is one that is free and that nobody else of the lab has.
func (f *fixture) port() int {
	f.t.Helper()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			f.t.Fatal(err)
		}
		p := l.Addr().(*net.TCPAddr).Port
		_ = l.Close()
		if !f.ports[p] {
			f.ports[p] = true
			return p
		}
	}
}

// A removal that was interrupted may leave a container that runs off its
// network: it does not count as running, and starts again like any other.
func TestHalfRemovedContainerComesBack(t *testing.T) {
	dockertest.Image(t, string(images.FFmpeg), images.FFmpeg.Built())
	f := newFixture(t, unitProgram(t), topology.Containers{Pack: topology.PackInstance, Network: topology.BridgeNetwork})
	t.Cleanup(func() {
		if err := f.r.Remove(context.Background()); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), contractTime)
	defer cancel()
	if err := f.r.SetWorld(ctx, runtimetest.World("w")); err != nil {
		t.Fatal(err)
	}
	s := f.spec("us-east", 1)
	runs := func() bool {
		t.Helper()
		all, err := f.r.List(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range all {
			if i.Spec.ID == s.ID {
				return i.State == runtime.Running
			}
		}
		return false
	}
	if err := f.r.Start(ctx, []runtime.Spec{s}); err != nil {
		t.Fatal(err)
	}
	cs, err := f.r.containers(ctx)
	if err != nil || len(cs) != 1 || !cs[0].attached || !runs() {
		t.Fatalf("after the start: %+v, %v", cs, err)
	}
	for range 2 { // doing so again is no error
		if err := f.r.detach(ctx, cs[0]); err != nil {
			t.Fatal(err)
		}
	}
	if runs() {
		t.Error("it counts as running")
	}
	if err := f.r.Start(ctx, []runtime.Spec{s}); err != nil {
		t.Fatal(err)
	}
	if !runs() {
		t.Error("it did not come back")
	}
}
