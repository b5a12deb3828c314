package evacuate

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/flix-lab/flix/services"
)

func TestFailback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 3)
		p.evacuated["us-east"], p.primary, p.share, p.weight = true, "us-west", 1, 0
		r, _ := run(p)
		rep, err := r.Failback(t.Context(), "us-east", false)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"catch up us-east from us-west", "return us-east", "drain us-east false", "leaving us-east false", "weight us-east 1", "primary us-east",
			"proxy us-east 0.5 [us-west eu-west]", "proxy us-east 0.1 [us-west eu-west]", "proxy us-east 0 [us-west eu-west]",
			"unscale", `evacuated us-east ""`}
		if got := p.changes(); !slices.Equal(got, want) {
			t.Errorf("calls\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if rep.State != "done" || rep.Verb != "failback" || stepNames(rep) != "plan catch-up caches offsets undrain dns sql unproxy scale-in" || rep.PlaysDuring == 0 || rep.PlaysFailed != 0 {
			t.Errorf("report %+v", rep)
		}
	})
}

// TestFailbackOfOneOfTwo keeps what the region that stays evacuated needs, and
// leaves the SQL primary where it is.
func TestFailbackOfOneOfTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 3)
		p.evacuated["us-west"], p.evacuated["us-east"], p.primary = true, true, "eu-west"
		r, _ := run(p)
		if _, err := r.Failback(t.Context(), "us-west", false); err != nil {
			t.Fatal(err)
		}
		calls := p.changes()
		if slices.Contains(calls, "unscale") || len(after(calls, "primary")) != 0 {
			t.Errorf("calls %q", calls)
		}
		if !slices.Contains(calls, "proxy us-west 0.5 [eu-west]") {
			t.Errorf("an evacuated region was named a saver: %q", calls)
		}
		if p.evacuated["us-west"] || !p.evacuated["us-east"] {
			t.Errorf("evacuated %v", p.evacuated)
		}
	})
}

func TestFailbackFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 2)
		p.evacuated["us-east"] = true
		p.playErr = func(string, float64) error { return errPlay }
		r, _ := run(p)
		rep, err := r.Failback(t.Context(), "us-east", false)
		if services.ReasonOf(err) != services.ReasonPlayFailed || rep.State != "failed" || rep.PlaysFailed == 0 {
			t.Errorf("state %s, error %v", rep.State, err)
		}
		// It stays marked, so that the same command goes on.
		if !p.evacuated["us-east"] {
			t.Error("it is not called evacuated any more")
		}
	})
}
