package host

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/flix-lab/flix/lab/fault"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/lab/runtime/runtimetest"
)

// echoing answers what it is sent until it ends.
func echoing(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for {
		c, err := l.Accept()
		if err != nil {
			return nil
		}
		go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
	}
}

func faulted(e fault.Effect, last time.Duration) runtime.World {
	return runtime.World{Faults: []fault.Fault{{ID: "f-1", Effect: e, Until: time.Now().Add(last)}}}
}

func answers(c net.Conn, within time.Duration) error {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

// An instance that is stopped for good while a fault keeps it down, as one that
// was added for a load that is over, stays down when the fault ends.
func TestHeldDownAndNotWantedAnyMore(t *testing.T) {
	for name, c := range map[string]struct {
		wanted bool // anew, after it was stopped
		builds int
	}{"it is gone": {false, 1}, "it is wanted again": {true, 2}} {
		t.Run(name, func(t *testing.T) {
			a := runtimetest.Spec(t, t.TempDir(), "north", 1)
			h, s := newHost(t, func(string, int) (unitFunc, error) { return echoing, nil })
			t.Cleanup(h.disarm)
			if err := h.start(t.Context(), []runtime.Spec{a}); err != nil {
				t.Fatal(err)
			}
			if err := h.setWorld(faulted(fault.Effect{Down: []string{a.ID}}, time.Hour)); err != nil {
				t.Fatal(err)
			}
			if err := h.end(t.Context(), []string{a.ID}, StopGrace); err != nil {
				t.Fatal(err)
			}
			if c.wanted {
				if err := h.start(t.Context(), []runtime.Spec{a}); err != nil {
					t.Fatal(err)
				}
			}
			if err := h.setWorld(runtime.World{}); err != nil {
				t.Fatal(err)
			}
			if n := len(s.times(a.ID)); n != c.builds {
				t.Errorf("it was built %d times, want %d", n, c.builds)
			}
		})
	}
}

// TestHeldDown keeps an instance down while a fault lasts, whoever starts it,
// and has it back when the fault ends: in its time, or before.
func TestHeldDown(t *testing.T) {
	for name, lift := range map[string]bool{"lapsed": false, "lifted": true} {
		for how, orderly := range map[string]bool{"killed": false, "stopped": true} {
			t.Run(name+" "+how, func(t *testing.T) {
				a := runtimetest.Spec(t, t.TempDir(), "north", 1)
				h, s := newHost(t, func(string, int) (unitFunc, error) { return echoing, nil })
				t.Cleanup(h.disarm)
				if err := h.start(t.Context(), []runtime.Spec{a}); err != nil {
					t.Fatal(err)
				}
				e := fault.Effect{Down: []string{a.ID, "of another host"}, Orderly: orderly}
				if err := h.setWorld(faulted(e, time.Hour)); err != nil {
					t.Fatal(err)
				}
				if i := stateOf(h, a.ID); i.State != runtime.Stopped {
					t.Fatalf("it is %s", i.State)
				}
				if err := h.start(t.Context(), []runtime.Spec{a}); err != nil {
					t.Error(err)
				}
				if n := len(s.times(a.ID)); n != 1 {
					t.Errorf("it was built %d times while it is held down", n)
				}
				after := runtime.World{}
				if !lift {
					after = faulted(e, 100*time.Millisecond) // the same fault, over sooner
				}
				if err := h.setWorld(after); err != nil {
					t.Fatal(err)
				}
				awaitState(t, h, a.ID, func(i runtime.Instance) bool {
					return i.State == runtime.Running && len(s.times(a.ID)) == 2
				})
				if err := answers(dial(t, a), patience); err != nil {
					t.Errorf("it is back and does not answer: %v", err)
				}
			})
		}
	}
}

// TestFrozen stops the sockets of an instance: what is open stays open and
// silent, what is dialled gets no answer, and all goes on afterwards.
func TestFrozen(t *testing.T) {
	data := t.TempDir()
	a, b := runtimetest.Spec(t, data, "north", 1), runtimetest.Spec(t, data, "north", 2)
	h, _ := newHost(t, func(string, int) (unitFunc, error) { return echoing, nil })
	t.Cleanup(h.disarm)
	if err := h.start(t.Context(), []runtime.Spec{a, b}); err != nil {
		t.Fatal(err)
	}
	c, other := dial(t, a), dial(t, b)
	if err := answers(c, patience); err != nil {
		t.Fatal(err)
	}
	if err := h.setWorld(faulted(fault.Effect{Frozen: []string{a.ID}}, time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := answers(c, 100*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a frozen instance gives %v", err)
	}
	if err := answers(other, patience); err != nil {
		t.Errorf("its neighbour is frozen, too: %v", err)
	}
	if i := stateOf(h, a.ID); i.State != runtime.Running {
		t.Errorf("it is %s", i.State)
	}
	if err := h.setWorld(runtime.World{}); err != nil {
		t.Fatal(err)
	}
	// What was sent meanwhile the kernel sends again.
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Errorf("after it: %v", err)
	}
	if err := answers(dial(t, a), patience); err != nil {
		t.Errorf("a new connection after it: %v", err)
	}
}

// TestHeldWhileBuilt: a fault that comes while an instance is built finds it.
func TestHeldWhileBuilt(t *testing.T) {
	a := runtimetest.Spec(t, t.TempDir(), "north", 1)
	var h *Host
	h, s := newHost(t, func(_ string, n int) (unitFunc, error) {
		if n == 1 {
			return echoing, h.setWorld(faulted(fault.Effect{Down: []string{a.ID}}, time.Hour))
		}
		return echoing, nil
	})
	t.Cleanup(h.disarm)
	if err := h.start(t.Context(), []runtime.Spec{a}); err != nil {
		t.Fatal(err)
	}
	if i := stateOf(h, a.ID); i.State != runtime.Stopped {
		t.Errorf("it is %s", i.State)
	}
	if err := h.setWorld(runtime.World{}); err != nil {
		t.Fatal(err)
	}
	if i := stateOf(h, a.ID); i.State != runtime.Running || len(s.times(a.ID)) != 2 {
		t.Errorf("after the fault it is %s, built %d times", i.State, len(s.times(a.ID)))
	}
}

// TestEndedHostStartsNothing: a fault that lapses as its host ends brings nothing
// up again.
func TestEndedHostStartsNothing(t *testing.T) {
	a := runtimetest.Spec(t, t.TempDir(), "north", 1)
	h, s := newHost(t, func(string, int) (unitFunc, error) { return echoing, nil })
	if err := h.start(t.Context(), []runtime.Spec{a}); err != nil {
		t.Fatal(err)
	}
	if err := h.setWorld(faulted(fault.Effect{Down: []string{a.ID}}, time.Hour)); err != nil {
		t.Fatal(err)
	}
	h.disarm()
	if err := h.setWorld(runtime.World{}); err != nil { // what the timer would do
		t.Fatal(err)
	}
	if n := len(s.times(a.ID)); n != 1 {
		t.Errorf("it was built %d times", n)
	}
}

// TestFrozenThroughFailure: an instance that fails while it is frozen comes back
// frozen.
func TestFrozenThroughFailure(t *testing.T) {
	a := runtimetest.Spec(t, t.TempDir(), "north", 1)
	fail := make(chan struct{})
	h, _ := newHost(t, func(_ string, n int) (unitFunc, error) {
		if n > 1 {
			return echoing, nil
		}
		return func(ctx context.Context, l net.Listener) error {
			<-fail
			return errors.New("it broke")
		}, nil
	})
	t.Cleanup(h.disarm)
	if err := h.start(t.Context(), []runtime.Spec{a}); err != nil {
		t.Fatal(err)
	}
	if err := h.setWorld(faulted(fault.Effect{Frozen: []string{a.ID}}, time.Hour)); err != nil {
		t.Fatal(err)
	}
	close(fail)
	awaitState(t, h, a.ID, func(i runtime.Instance) bool { return i.State == runtime.Running && i.Restarts == 1 })
	h.mu.Lock()
	s := h.units[a.ID].sockets
	h.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.frozen {
		t.Error("it answers")
	}
}
