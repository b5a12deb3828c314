package lab

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/fault"
	"github.com/flix-lab/flix/lab/runtime"
)

// acting is a runtime that runs everything and notes what it is told.
type acting struct {
	runtime.Runtime
	specs           []runtime.Spec
	mu              sync.Mutex // guards killed
	killed, started []string
	startErr        error // of the first start
}

func (a *acting) List(context.Context) ([]runtime.Instance, error) {
	var out []runtime.Instance
	for _, s := range a.specs {
		out = append(out, runtime.Instance{Spec: s, State: runtime.Running})
	}
	return out, nil
}

func (a *acting) Kill(_ context.Context, id string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.killed = append(a.killed, id)
	return nil
}

func (a *acting) Start(_ context.Context, specs []runtime.Spec) error {
	for _, s := range specs {
		a.started = append(a.started, s.ID)
	}
	err := a.startErr
	a.startErr = nil
	return err
}

func actingLab(t *testing.T) (*Lab, *acting) {
	t.Helper()
	l := wanted(t)
	specs, err := l.specs(l.current())
	if err != nil {
		t.Fatal(err)
	}
	a := &acting{Runtime: l.rt, specs: specs}
	l.rt = a
	return l, a
}

// TestLapse: the daemon ends a fault in its time, without a look in between, and
// one without an end never.
func TestLapse(t *testing.T) {
	l, _ := actingLab(t)
	ctx, cancel := context.WithCancel(t.Context())
	released, done := make(chan struct{}), make(chan struct{})
	l.faulting.Lock()
	go func() {
		defer close(done)
		l.lapses(ctx, func() { l.faulting.Unlock(); close(released) })
	}()
	t.Cleanup(func() { cancel(); <-done })
	<-released
	run := func(r fault.Request) string {
		t.Helper()
		st, err := l.RunFault(t.Context(), control.FaultRequest{Request: r})
		if err != nil {
			t.Fatal(err)
		}
		return st.ID
	}
	run(fault.Request{Kind: "latency", Target: "us-east/a/play/1", Forever: true})
	short := run(fault.Request{Kind: "latency", Target: "us-east/b/play/2", TTL: 20 * time.Millisecond})
	for until := time.Now().Add(time.Minute); ; <-time.After(time.Millisecond) {
		past, err := readFaults(l.paths.Dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(past) == 1 && past[0].ID == short && past[0].How == "lapsed" {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("over are %+v", past)
		}
	}
	if now := l.current().Faults; len(now) != 1 || now[0].ID == short {
		t.Errorf("in force are %+v", now)
	}
}

// TestForever: a fault of the network that holds until it is stopped outlasts the
// longest that has an end.
func TestForever(t *testing.T) {
	rules := rulesOf([]fault.Fault{{ID: "f-1", Effect: fault.Effect{Link: &fault.Link{Hole: true}}}})
	if len(rules) != 1 || !rules[0].Until.After(time.Now().Add(2*fault.MaxTTL)) {
		t.Errorf("%+v", rules)
	}
}

// TestRestartHalfWay: whatever ends a restart between the kill and the start,
// the instance runs afterwards.
func TestRestartHalfWay(t *testing.T) {
	const victim = "us-east/a/play/1"
	t.Run("the start fails", func(t *testing.T) {
		l, a := actingLab(t)
		fails := errors.New("no port is free")
		a.startErr = fails
		_, err := l.RunFault(t.Context(), control.FaultRequest{Request: fault.Request{Kind: "restart", Target: victim}})
		if !errors.Is(err, fails) {
			t.Errorf("it says %v", err)
		}
		if !slices.Equal(a.killed, []string{victim}) || !slices.Equal(a.started, []string{victim, victim}) {
			t.Errorf("killed %v, started %v", a.killed, a.started)
		}
	})
	t.Run("the daemon dies", func(t *testing.T) {
		l, a := actingLab(t)
		f := fault.Fault{ID: "f-1", Kind: "restart", Target: victim, Began: time.Now(), Effect: fault.Effect{Restart: []string{victim}}}
		if err := l.changeIntent(func(i *intent) { i.Faults = []fault.Fault{f} }); err != nil {
			t.Fatal(err)
		}
		l.liftAll(t.Context())
		if len(l.current().Faults) != 0 || !slices.Equal(a.started, []string{victim}) {
			t.Errorf("faults %v, started %v", l.current().Faults, a.started)
		}
	})
	t.Run("nothing fails", func(t *testing.T) {
		l, a := actingLab(t)
		st, err := l.RunFault(t.Context(), control.FaultRequest{Request: fault.Request{Kind: "restart", Target: "us-east/a"}})
		if err != nil || st.State != "done" || len(a.killed) == 0 || len(a.started) != len(a.killed) {
			t.Errorf("%v: %s, killed %v, started %v", err, st.State, a.killed, a.started)
		}
	})
	t.Run("some are stopped", func(t *testing.T) {
		l, a := actingLab(t)
		if err := l.changeIntent(func(i *intent) { i.Stopped = map[string]bool{victim: true} }); err != nil {
			t.Fatal(err)
		}
		if _, err := l.RunFault(t.Context(), control.FaultRequest{Request: fault.Request{Kind: "restart", Target: "us-east/a"}}); err != nil {
			t.Fatal(err)
		}
		if slices.Contains(a.started, victim) {
			t.Error("it starts what is to be stopped")
		}
	})
}
