package experiment

import (
	"strings"
	"testing"
)

// A bound that the control group misses, too, is no doing of the faults: that
// proves nothing, either way.
func TestBoundThatNobodyKeeps(t *testing.T) {
	most := 4000.0
	for name, c := range map[string]struct {
		x, c    float64 // p99
		errors  float64 // the least by which errors differ
		verdict string
	}{
		"both within":          {300, 200, 0, "holds"},
		"only the faults'":     {5000, 300, 0, "fails"},
		"only the control's":   {300, 5000, 0, "holds"},
		"both beyond":          {5000, 8000, 0, "inconclusive"},
		"and more errors, too": {5000, 8000, 0.5, "fails"},
	} {
		r := &runner{}
		r.e.SteadyState.P99MS = &Bound{Max: &most}
		x, con := Figures{Plays: 20, P99MS: c.x}, Figures{Plays: 20, P99MS: c.c}
		res := Result{Groups: map[string]Figures{treated: x, control: con}, Checks: r.bounds(x, con)}
		res.Experiment.Margin = 0.1
		res.ErrorDifference.Low = c.errors
		res.decide("")
		if res.Verdict != c.verdict {
			t.Errorf("%s: %s: %s, want %s", name, res.Verdict, res.Reason, c.verdict)
		}
		if res.Verdict == "inconclusive" && !strings.Contains(res.Reason, "p99_ms is 5000, wanted at most 4000, and without the faults it is 8000") {
			t.Errorf("%s: %s", name, res.Reason)
		}
	}
}

// What must be seen is looked for in the experiment group alone.
func TestExpectationIsNotExcused(t *testing.T) {
	least := 1.0
	k := Bound{Min: &least}.check("rebuffers", 0)
	enough := Figures{Plays: leastPlays}
	res := Result{Groups: map[string]Figures{treated: enough, control: enough}, Checks: []Check{k}}
	if res.decide(""); res.Verdict != "fails" {
		t.Errorf("%s: %s", res.Verdict, res.Reason)
	}
}

func TestFigure(t *testing.T) {
	for want, v := range map[string]float64{"0": 0, "0.001067": 0.0010672, "12.35": 12.3456, "999.9": 999.9, "23970": 23970, "1234568": 1234567.8} {
		if got := Figure(v); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
