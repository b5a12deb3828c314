// Package runtimetest is the contract of the Runtime port as tests: every
// runtime passes the same suite. It talks to instances only over their ports,
// so that it does not matter where they run.
package runtimetest

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/topology"
)

// Harness is a runtime under test. Its instances must run Unit on the port
// named topology.PortRPC.
type Harness struct {
	// Limit bounds one test of the suite; zero is two minutes.
	Limit time.Duration
	// Runtime of a lab in which nothing runs yet.
	Runtime runtime.Runtime
	// Reattach returns a new value for the same lab, as a daemon that was
	// started after the death of its predecessor has it.
	Reattach func() runtime.Runtime
	// Spec declares the n-th instance of a region, with a free port.
	Spec func(region string, n int) runtime.Spec
	// Alive says whether a process that Runtime.Processes listed is still there.
	Alive func(pid int) bool
	// Occupied is where a program of somebody else keeps an instance from
	// starting; nil is the address and port it listens on.
	Occupied func(s runtime.Spec) string
}

// limit bounds one test of the suite where its harness does not.
const limit = 2 * time.Minute

// grace of an orderly end; one that is well takes a moment of it.
const grace = 10 * time.Second

// World is a world of the suite's lab. Worlds of other names are of the same
// incarnation of it: only the topology has changed.
func World(name string) runtime.World {
	return runtime.World{Lab: "contract", ID: "contract", Key: []byte("the key of the contract's lab"), Topology: topology.Topology{Name: name}}
}

// Run runs the suite; each test gets a harness of its own, whose Runtime is
// removed when the test ends.
func Run(t *testing.T, newHarness func(t testing.TB) Harness) {
	for _, c := range []struct {
		name string
		test func(*testing.T, context.Context, Harness)
	}{
		{"StartIsIdempotent", startIsIdempotent},
		{"ConcurrentStart", concurrentStart},
		{"WorldReachesAll", worldReachesAll},
		{"StopIsOrderly", stopIsOrderly},
		{"ReleaseForgets", releaseForgets},
		{"KillResetsAndKeepsTheDisk", killResets},
		{"FailureIsIsolated", failureIsIsolated},
		{"PortTaken", portTaken},
		{"Reattach", reattach},
		{"RemoveLeavesNothing", removeLeavesNothing},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHarness(t)
			within := cmp.Or(h.Limit, limit)
			ctx, cancel := context.WithTimeout(context.Background(), within)
			t.Cleanup(cancel)
			t.Cleanup(func() { // also when the test took too long
				ctx, cancel := context.WithTimeout(context.Background(), within)
				defer cancel()
				if err := h.Runtime.Remove(ctx); err != nil {
					t.Errorf("Remove: %v", err)
				}
			})
			if err := h.Runtime.SetWorld(ctx, World("w1")); err != nil {
				t.Fatal(err)
			}
			c.test(t, ctx, h)
		})
	}
}

// Dial connects to an instance.
func Dial(ctx context.Context, s runtime.Spec) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(s.Address, strconv.Itoa(s.PortNumbers[topology.PortRPC])))
}

// Ask sends one line to an instance and returns its answer.
func Ask(ctx context.Context, s runtime.Spec, line string) (string, error) {
	c, err := Dial(ctx, s)
	if err != nil {
		return "", err
	}
	defer c.Close()
	return Say(ctx, c, line)
}

// Say sends one line over a connection that is open.
func Say(ctx context.Context, c net.Conn, line string) (string, error) {
	if d, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(d); err != nil {
			return "", err
		}
	}
	if _, err := fmt.Fprintln(c, line); err != nil {
		return "", err
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return "", err
	}
	if e, ok := strings.CutPrefix(answer, "error "); ok {
		return "", errors.New(strings.TrimSpace(e))
	}
	return strings.TrimSuffix(answer, "\n"), nil
}

// ask fails the test when an instance does not answer.
func ask(t testing.TB, ctx context.Context, s runtime.Spec, line string) string {
	t.Helper()
	a, err := Ask(ctx, s, line)
	if err != nil {
		t.Fatalf("%s %q: %v", s.ID, line, err)
	}
	return a
}

func boots(t testing.TB, ctx context.Context, specs []runtime.Spec) []string {
	t.Helper()
	var out []string
	for _, s := range specs {
		out = append(out, ask(t, ctx, s, "boot"))
	}
	return out
}

func start(t testing.TB, ctx context.Context, r runtime.Runtime, specs ...runtime.Spec) {
	t.Helper()
	if err := r.Start(ctx, specs); err != nil {
		t.Fatalf("Start: %v", err)
	}
}

func find(t testing.TB, ctx context.Context, r runtime.Runtime, id string) (runtime.Instance, bool) {
	t.Helper()
	all, err := r.List(ctx)
	if err != nil {
		t.Fatalf("List: %v", err)
	}
	for _, i := range all {
		if i.Spec.ID == id {
			return i, true
		}
	}
	return runtime.Instance{}, false
}

// silence is how long a call to an address that nobody has may take to fail: the
// kernel asks its neighbours three times.
const silence = 4 * time.Second

// refused says that nothing accepts at an instance's port. Where the address
// went with the instance, nobody is there to refuse.
func refused(ctx context.Context, s runtime.Spec) bool {
	short, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	c, err := Dial(short, s)
	if err == nil {
		_ = c.Close()
		return false
	}
	for _, e := range []error{syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH} {
		if errors.Is(err, e) {
			return true
		}
	}
	var late net.Error
	return errors.As(err, &late) && late.Timeout() && ctx.Err() == nil
}

// until polls a condition.
func until(t testing.TB, ctx context.Context, what string, ok func() bool) {
	t.Helper()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("it never came: %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func startIsIdempotent(t *testing.T, ctx context.Context, h Harness) {
	specs := []runtime.Spec{h.Spec("north", 1), h.Spec("north", 2), h.Spec("south", 1)}
	start(t, ctx, h.Runtime, specs...)
	before := boots(t, ctx, specs) // each accepts at once
	changed := slices.Clone(specs)
	for k := range changed {
		changed[k].Properties = map[string]string{"other": "yes"}
	}
	start(t, ctx, h.Runtime, changed...)
	if after := boots(t, ctx, specs); !slices.Equal(before, after) {
		t.Errorf("a second Start began anew: %v became %v", before, after)
	}
	all, err := h.Runtime.List(ctx)
	if err != nil || len(all) != len(specs) {
		t.Fatalf("List: %d instances (error %v), want %d", len(all), err, len(specs))
	}
	for k, i := range all {
		if i.Spec.ID != specs[k].ID || i.State != runtime.Running || i.Started.IsZero() || i.PID == 0 && i.Container == "" {
			t.Errorf("List: %+v, want %s running with its time and place", i, specs[k].ID)
		}
		if i.Spec.PortNumbers[topology.PortRPC] != specs[k].PortNumbers[topology.PortRPC] || i.Spec.Dir != specs[k].Dir {
			t.Errorf("List: the spec of %s came back as %+v", specs[k].ID, i.Spec)
		}
	}
	// More beside what runs: only the new one starts.
	more := h.Spec("south", 2)
	start(t, ctx, h.Runtime, append(specs, more)...)
	if after := boots(t, ctx, specs); !slices.Equal(before, after) {
		t.Error("starting one more began the others anew")
	}
	ask(t, ctx, more, "boot")
}

func concurrentStart(t *testing.T, ctx context.Context, h Harness) {
	specs := []runtime.Spec{h.Spec("north", 1), h.Spec("north", 2)}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := h.Runtime.Start(ctx, specs); err != nil {
				t.Errorf("Start beside others: %v", err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	boots(t, ctx, specs)
	pids, err := h.Runtime.Processes(ctx)
	if err != nil || len(pids) == 0 {
		t.Fatalf("Processes: %v (error %v)", pids, err)
	}
}

func worldReachesAll(t *testing.T, ctx context.Context, h Harness) {
	early, late := h.Spec("north", 1), h.Spec("south", 1)
	start(t, ctx, h.Runtime, early)
	if got := ask(t, ctx, early, "world"); got != "w1" {
		t.Errorf("at start it has world %q, want w1", got)
	}
	before := ask(t, ctx, early, "boot")
	for range 2 { // idempotent
		if err := h.Runtime.SetWorld(ctx, World("w2")); err != nil {
			t.Fatal(err)
		}
	}
	start(t, ctx, h.Runtime, late)
	for _, s := range []runtime.Spec{early, late} {
		if got := ask(t, ctx, s, "world"); got != "w2" {
			t.Errorf("%s has world %q, want w2", s.ID, got)
		}
	}
	if after := ask(t, ctx, early, "boot"); after != before {
		t.Error("a new world began the instance anew")
	}
}

func stopIsOrderly(t *testing.T, ctx context.Context, h Harness) {
	s, other := h.Spec("north", 1), h.Spec("north", 2)
	start(t, ctx, h.Runtime, s, other)
	ask(t, ctx, s, "set kept in memory")
	ask(t, ctx, s, "write kept on disk")
	otherBoot := ask(t, ctx, other, "boot")
	for range 2 { // the second has nothing to do
		if err := h.Runtime.Stop(ctx, []string{s.ID, "north/a/kv/99", "nowhere/a/kv/1"}, grace); err != nil {
			t.Fatalf("Stop: %v", err)
		}
	}
	if !refused(ctx, s) {
		t.Error("its port still accepts")
	}
	if i, ok := find(t, ctx, h.Runtime, s.ID); ok && i.State == runtime.Running {
		t.Errorf("List says %s", i.State)
	}
	start(t, ctx, h.Runtime, s)
	if got := ask(t, ctx, s, "ended"); got != "true" {
		t.Error("it had no orderly end")
	}
	if got := ask(t, ctx, s, "get"); got != "" {
		t.Errorf("its memory outlived it: %q", got)
	}
	if got := ask(t, ctx, s, "read"); got != "kept on disk" {
		t.Errorf("its disk holds %q", got)
	}
	if got := ask(t, ctx, other, "boot"); got != otherBoot {
		t.Error("another instance was begun anew")
	}
}

func killResets(t *testing.T, ctx context.Context, h Harness) {
	s, other := h.Spec("north", 1), h.Spec("north", 2)
	start(t, ctx, h.Runtime, s, other)
	ask(t, ctx, s, "set kept in memory")
	ask(t, ctx, s, "write kept on disk")
	otherBoot := ask(t, ctx, other, "boot")
	c, err := Dial(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := Say(ctx, c, "boot"); err != nil { // it is accepted, not only queued
		t.Fatal(err)
	}
	if err := h.Runtime.Kill(ctx, s.ID); err != nil {
		t.Fatalf("Kill: %v", err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("an open connection ended with %v, want a reset", err)
	}
	if !refused(ctx, s) {
		t.Error("its port still accepts")
	}
	if i, ok := find(t, ctx, h.Runtime, s.ID); ok && (i.State == runtime.Running || i.State == runtime.Failed) {
		t.Errorf("List says %s (%s): killed is not failed", i.State, i.Error)
	}
	if got := ask(t, ctx, other, "boot"); got != otherBoot {
		t.Error("another instance was begun anew")
	}
	start(t, ctx, h.Runtime, s)
	if got := ask(t, ctx, s, "ended"); got != "false" {
		t.Error("it said goodbye although it was killed")
	}
	if got := ask(t, ctx, s, "get"); got != "" {
		t.Errorf("its memory outlived it: %q", got)
	}
	if got := ask(t, ctx, s, "read"); got != "kept on disk" {
		t.Errorf("its disk holds %q", got)
	}
}

func failureIsIsolated(t *testing.T, ctx context.Context, h Harness) {
	s, other := h.Spec("north", 1), h.Spec("north", 2)
	start(t, ctx, h.Runtime, s, other)
	otherBoot := ask(t, ctx, other, "boot")
	for n, verb := range []string{"fail", "panic"} {
		before := ask(t, ctx, s, "boot")
		_, _ = Ask(ctx, s, verb) // its end may overtake the answer
		until(t, ctx, "a run after "+verb, func() bool {
			now, err := Ask(ctx, s, "boot")
			return err == nil && now != before
		})
		until(t, ctx, "the restart in List", func() bool {
			i, ok := find(t, ctx, h.Runtime, s.ID)
			return ok && i.State == runtime.Running && i.Restarts == n+1
		})
	}
	if got := ask(t, ctx, other, "boot"); got != otherBoot {
		t.Error("the failure took another instance with it")
	}
}

func portTaken(t *testing.T, ctx context.Context, h Harness) {
	s, other := h.Spec("north", 1), h.Spec("north", 2)
	at := net.JoinHostPort(s.Address, strconv.Itoa(s.PortNumbers[topology.PortRPC]))
	if h.Occupied != nil {
		at = h.Occupied(s)
	}
	foreign, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	err = h.Runtime.Start(ctx, []runtime.Spec{s, other})
	_ = foreign.Close()
	if err == nil || !strings.Contains(err.Error(), s.ID) {
		t.Fatalf("Start on a port that is taken: %v, want an error that names %s", err, s.ID)
	}
	start(t, ctx, h.Runtime, s, other)
	boots(t, ctx, []runtime.Spec{s, other})
}

// releaseForgets stops an instance for good: nobody lists it any more, whoever
// ran beside it runs on, and it can be wanted again.
func releaseForgets(t *testing.T, ctx context.Context, h Harness) {
	gone, stays := h.Spec("north", 1), h.Spec("north", 2)
	start(t, ctx, h.Runtime, gone, stays)
	before := boots(t, ctx, []runtime.Spec{stays})
	if err := h.Runtime.Stop(ctx, []string{gone.ID}, grace); err != nil {
		t.Fatal(err)
	}
	r := h.Reattach() // a value that has listed nothing yet finds it, too
	for range 2 {
		if err := r.Release(gone.Instance); err != nil {
			t.Fatalf("Release: %v", err)
		}
	}
	for _, r := range []runtime.Runtime{h.Runtime, r} {
		if i, listed := find(t, ctx, r, gone.ID); listed {
			t.Errorf("%s was released, and is listed as %s", gone.ID, i.State)
		}
	}
	if after := boots(t, ctx, []runtime.Spec{stays}); !slices.Equal(before, after) {
		t.Errorf("%s was begun anew", stays.ID)
	}
	start(t, ctx, r, gone)
	boots(t, ctx, []runtime.Spec{gone})
}

func reattach(t *testing.T, ctx context.Context, h Harness) {
	specs := []runtime.Spec{h.Spec("north", 1), h.Spec("south", 1)}
	start(t, ctx, h.Runtime, specs...)
	before := boots(t, ctx, specs)
	pids, err := h.Runtime.Processes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	r := h.Reattach()
	all, err := r.List(ctx)
	if err != nil || len(all) != len(specs) || all[0].State != runtime.Running {
		t.Fatalf("List after re-attaching: %+v (error %v)", all, err)
	}
	if again, err := r.Processes(ctx); err != nil || !slices.Equal(slices.Sorted(slices.Values(pids)), slices.Sorted(slices.Values(again))) {
		t.Errorf("Processes after re-attaching: %v (error %v), want %v", again, err, pids)
	}
	if err := r.SetWorld(ctx, World("w3")); err != nil {
		t.Fatal(err)
	}
	start(t, ctx, r, specs...)
	if after := boots(t, ctx, specs); !slices.Equal(before, after) {
		t.Error("what ran was begun anew")
	}
	if got := ask(t, ctx, specs[0], "world"); got != "w3" {
		t.Errorf("world %q, want w3", got)
	}
	// A value that has listed nothing yet still finds what it is to end.
	if err := h.Reattach().Kill(ctx, specs[0].ID); err != nil {
		t.Fatalf("Kill: %v", err)
	}
	if !refused(ctx, specs[0]) {
		t.Error("a killed instance still accepts")
	}
	if err := h.Reattach().Stop(ctx, []string{specs[1].ID}, grace); err != nil {
		t.Fatalf("Stop: %v", err)
	}
	if !refused(ctx, specs[1]) {
		t.Error("a stopped instance still accepts")
	}
}

func removeLeavesNothing(t *testing.T, ctx context.Context, h Harness) {
	specs := []runtime.Spec{h.Spec("north", 1), h.Spec("south", 1)}
	if err := h.Runtime.Remove(ctx); err != nil { // of nothing
		t.Fatalf("Remove: %v", err)
	}
	start(t, ctx, h.Runtime, specs...)
	pids, err := h.Runtime.Processes(ctx)
	if err != nil || len(pids) == 0 {
		t.Fatalf("Processes: %v (error %v)", pids, err)
	}
	for range 2 {
		if err := h.Reattach().Remove(ctx); err != nil {
			t.Fatalf("Remove: %v", err)
		}
	}
	for _, pid := range pids {
		if h.Alive(pid) {
			t.Errorf("process %d is left", pid)
		}
	}
	for _, s := range specs {
		if !refused(ctx, s) {
			t.Errorf("%s still accepts", s.ID)
		}
	}
	r := h.Reattach()
	if all, err := r.List(ctx); err != nil || len(all) != 0 {
		t.Errorf("List after Remove: %+v (error %v)", all, err)
	}
	if left, err := r.Processes(ctx); err != nil || len(left) != 0 {
		t.Errorf("Processes after Remove: %v (error %v)", left, err)
	}
}
