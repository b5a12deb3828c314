package lookup_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/flix-lab/flix/services/addresstest"
	"github.com/flix-lab/flix/services/lookup"
	"github.com/flix-lab/flix/services/registry"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what is waited for: only a hang takes as long.
const patience = time.Minute

// testTiming is the lab's, ten times as fast, but for the leases: those of who
// lives never run out, however slow the machine is.
func testTiming() topology.Timing {
	t := topology.LabTiming()
	ms := topology.Duration(time.Millisecond)
	t.LeaseRenewal, t.EvictionInterval, t.RegistryFetch = 60*ms, 50*ms, 60*ms
	t.LeaseDuration = topology.Duration(10 * patience)
	t.RPCTimeout = topology.Duration(patience)
	return t
}

// mortal is testTiming with leases that run out while a test waits for it; one
// that is renewed may run out as well, on a slow machine, and is back soon.
func mortal() topology.Timing {
	t := testTiming()
	t.LeaseDuration = topology.Duration(300 * time.Millisecond)
	return t
}

// runningRegistry is a registry that can be stopped and started again on the
// same address.
type runningRegistry struct {
	t      testing.TB
	addr   string
	timing topology.Timing
	clock  func() time.Time // nil is the world's
	tel    *telemetry.Telemetry
	cancel context.CancelFunc
	done   chan error
}

func startRegistry(t testing.TB) *runningRegistry { return startRegistryWith(t, testTiming(), nil) }

// startRegistryWith starts one with a timing and a clock of its own.
func startRegistryWith(t testing.TB, timing topology.Timing, clock func() time.Time) *runningRegistry {
	r := &runningRegistry{t: t, addr: addresstest.Host(t) + ":0", timing: timing, clock: clock}
	r.start()
	t.Cleanup(r.stop)
	return r
}

func (r *runningRegistry) start() {
	r.t.Helper()
	l, err := net.Listen("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.addr, r.tel = l.Addr().String(), telemetry.Discard()
	s, err := registry.New(registry.Deps{Listener: l, Tel: r.tel, Timing: r.timing, Region: "us-east", Clock: r.clock})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	r.cancel, r.done = cancel, done
	go func() { done <- s.Serve(ctx) }()
}

func (r *runningRegistry) stop() {
	if r.cancel == nil {
		return
	}
	r.cancel()
	if err := <-r.done; err != nil {
		r.t.Errorf("registry: %v", err)
	}
	r.cancel = nil
}

func (r *runningRegistry) url() string { return "http://" + r.addr }

// runClient runs a client of the registry until the test ends.
func runClient(t testing.TB, timing topology.Timing, urls ...string) (*lookup.Client, context.CancelFunc) {
	t.Helper()
	c := lookup.New(lookup.Config{Registry: func() []string { return urls }, Region: "us-east", Timing: timing})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := c.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	stop := func() { cancel(); wg.Wait() }
	t.Cleanup(stop)
	return c, stop
}

func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

var errNotYet = errors.New("not yet")

// eventually polls until f returns nil.
func eventually(t testing.TB, f func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if err = f(); err == nil {
			return
		}
		pause := time.NewTimer(2 * time.Millisecond)
		<-pause.C
	}
	t.Fatal(err)
}

func count(c *lookup.Client, vip string, n int) func() error {
	return func() error {
		if got := len(c.VIP(vip)); got != n {
			return fmt.Errorf("%s: %d instances, want %d: %w", vip, got, n, errNotYet)
		}
		return nil
	}
}

func kv(n int) lookup.Instance {
	return lookup.Instance{
		ID: fmt.Sprintf("us-east/a/kv/%d", n), VIP: "kv", Region: "us-east", Zone: "a", Host: "127.0.0.1",
		Ports: map[string]int{"rpc": 4000 + n, "admin": 5000 + n}, Metadata: map[string]string{"k": "v"},
	}
}
