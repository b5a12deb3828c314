package lab

import (
	"slices"
	"strings"
	"testing"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
)

// wanted is the engine of a lab of one region that is wanted and never ran.
func wanted(t *testing.T) *Lab {
	t.Helper()
	l := testLab(t, testEnv(t), "x")
	if err := l.want(preset(t, 1), 0); err != nil {
		t.Fatal(err)
	}
	return l
}

// TestHaltedStatus shows a lab that was stopped as a whole as such, and not as
// one that is down.
func TestHaltedStatus(t *testing.T) {
	l := wanted(t)
	st, err := l.Status(t.Context())
	if err != nil || st.Regions[0].State != "down" {
		t.Fatalf("%+v, %v", st.Regions, err)
	}
	if res, err := l.Halt(t.Context(), struct{}{}, nil); err != nil || res.State != "stopped" || len(res.Instances) != 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	if st, err = l.Status(t.Context()); err != nil || st.Regions[0].State != "stopped" {
		t.Fatalf("%+v, %v", st.Regions, err)
	}
	for _, i := range st.Regions[0].Instances {
		if i.State != string(runtime.Stopped) {
			t.Errorf("%s is %s", i.Name, i.State)
		}
	}
	if err := l.StartInstance(t.Context(), "us-east/a/kv/1"); services.KindOf(err) != services.Conflict || !strings.Contains(services.ProblemOf(err).Remedy, "flix lab start --name x") {
		t.Errorf("start of one: %v", err)
	}
	if err := l.want(preset(t, 1), 0); err != nil || l.current().Halted {
		t.Errorf("the next up keeps it stopped (%v)", err)
	}
}

// TestHaltNeedsLab refuses what there is no lab for.
func TestHaltNeedsLab(t *testing.T) {
	l := testLab(t, testEnv(t), "x")
	for name, f := range map[string]func() error{
		"stop":  func() error { _, err := l.Halt(t.Context(), struct{}{}, nil); return err },
		"start": func() error { _, err := l.Resume(t.Context(), struct{}{}, nil); return err },
		"diff":  func() error { _, err := l.Diff(t.Context()); return err },
		"save": func() error {
			_, err := l.SaveSnapshot(t.Context(), control.SnapshotRequest{Name: "s"}, nil)
			return err
		},
	} {
		if err := f(); services.ReasonOf(err) != services.ReasonNoLab {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDiffInstances(t *testing.T) {
	l := wanted(t)
	specs, err := l.specs(l.current())
	if err != nil {
		t.Fatal(err)
	}
	live := make([]runtime.Instance, len(specs))
	for k, s := range specs {
		live[k] = runtime.Instance{Spec: s, State: runtime.Running}
	}
	if ds := diffInstances(l.current(), live); len(ds) != 0 {
		t.Fatalf("all run: %+v", ds)
	}
	live[0].State, live[0].Error, live[0].Restarts = runtime.Failed, "no disk", 3
	live[1].State, live[1].Error = runtime.Gone, "Exited (137) 3 seconds ago"
	live[2].Spec.ID = "us-east/a/kv/99"
	live[3].State = runtime.Gone
	if err := l.changeIntent(func(i *intent) { i.Stopped = map[string]bool{specs[3].ID: true} }); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, d := range diffInstances(l.current(), live) {
		got[d.Name] = d.Kind
		if d.Of != "instance" || d.Text == "" || !strings.Contains(d.Remedy, "flix lab") {
			t.Errorf("%+v", d)
		}
	}
	want := map[string]string{specs[0].ID: "failed", specs[1].ID: "ended", specs[2].ID: "missing", "us-east/a/kv/99": "unwanted", specs[3].ID: "stopped"}
	for name, kind := range want {
		if got[name] != kind {
			t.Errorf("%s: %q, want %q", name, got[name], kind)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%v", got)
	}
	if err := l.changeIntent(func(i *intent) { i.Halted = true }); err != nil {
		t.Fatal(err)
	}
	ds := diffInstances(l.current(), nil)
	if len(ds) != len(specs) || slices.ContainsFunc(ds, func(d control.Difference) bool { return d.Kind != "stopped" }) {
		t.Errorf("a stopped lab: %d differences, %+v", len(ds), ds[0])
	}
}
