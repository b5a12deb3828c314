package lab

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/lab/fault"
	"github.com/flix-lab/flix/lab/fault/experiment"
	"github.com/flix-lab/flix/lab/record"
)

var chaosBegan = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func keptRecord(t *testing.T, p Paths, id string, err error) record.Record {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	r, err := Records(p).Get(id)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestKeepExperiment reads an experiment again as a record: its phases, its plays,
// what was broken when, and the whole result to be run again.
func TestKeepExperiment(t *testing.T) {
	p := Paths{Dir: t.TempDir()}
	res := experiment.Result{
		Experiment: experiment.Experiment{Name: "license-slow", Title: "A slow licence", Seed: 7}, Started: chaosBegan, MS: 20_000, FaultAtMS: 5_000, FaultEndMS: 15_000,
		Verdict: "fails", Reason: "errors", Confidence: 0.4,
		Groups: map[string]experiment.Figures{"experiment": {Plays: 10, Failed: 2, Stalled: 1, ErrorRatio: experiment.Interval{Value: 0.2}, P99MS: 900, FirstError: "too late"}, "control": {Plays: 12}},
		Faults: []fault.Fault{{Kind: "kill", Target: "us-east", Began: chaosBegan.Add(6 * time.Second)}},
		Checks: []experiment.Check{{Name: "error_ratio", Value: 0.2, Bound: "at most 0"}, {Name: "p99_ms", Value: 900, Bound: "at most 4000", OK: true}},
		Plays:  []experiment.Play{{Group: "control", AtMS: 1000, DelayMS: 20}, {Group: "experiment", AtMS: 7000, DelayMS: 30}, {Group: "experiment", EndMS: 8000, Error: "too late"}},
	}
	id, err := KeepExperiment(p, res)
	r := keptRecord(t, p, id, err)
	if r.Kind != "experiment" || r.Subject != "license-slow" || r.State != "fails" || r.Seconds() != 20 {
		t.Errorf("record %+v", r)
	}
	for name, want := range map[string]float64{"plays": 10, "plays failed": 2, "failed ratio": 0.2, "stalled ratio": 0.1, "play delay p99": 900, "confidence": 0.4} {
		if f, ok := r.Figure(name); !ok || f.Value != want {
			t.Errorf("figure %s: %+v, %v; want %g", name, f, ok, want)
		}
	}
	if want := []record.Phase{{Name: "before", To: 5}, {Name: "fault", From: 5, To: 15}, {Name: "after", From: 15, To: 20}}; !slices.Equal(r.Phases, want) {
		t.Errorf("phases %+v", r.Phases)
	}
	if want := []record.Mark{{At: 6, Text: "kill on us-east", Bad: true}}; !slices.Equal(r.Marks, want) {
		t.Errorf("marks %+v", r.Marks)
	}
	points := map[string][]record.Point{}
	for _, s := range r.Series {
		points[s.Name] = s.Points
	}
	for name, want := range map[string]record.Point{"delay, control": {At: 1, Value: 20}, "delay, experiment": {At: 7, Value: 30}, "failed plays": {At: 8, Value: 1}} {
		if !slices.Equal(points[name], []record.Point{want}) {
			t.Errorf("series %s: %v, want %v", name, points[name], want)
		}
	}
	notes := strings.Join(r.Notes, "\n")
	for _, want := range []string{"seed 7", "error_ratio is 0.2, wanted at most 0", "too late"} {
		if !strings.Contains(notes, want) {
			t.Errorf("notes %q lack %q", notes, want)
		}
	}
	var again experiment.Result
	if err := json.Unmarshal(r.Data, &again); err != nil || again.Experiment.Seed != 7 {
		t.Errorf("the result kept: %+v, %v", again.Experiment, err)
	}
}

// TestKeepLoss compares the loss of a region with a later one that nobody recovered
// from.
func TestKeepLoss(t *testing.T) {
	p := Paths{Dir: t.TempDir()}
	loss := RegionLoss{
		Region: "us-east", At: chaosBegan, Recovered: true, RecoveredMS: 1500, SessionsInFlight: 6, PlaysTried: 9, PlaysFailed: 2, MS: 12_000, Errors: []string{"a new play near us-east: refused"},
		Near: []NearRegion{{Region: "us-east", RecoveredMS: 1500, AnsweredBy: "us-west"}, {Region: "us-west", RecoveredMS: 200, AnsweredBy: "us-west"}},
	}
	id, err := KeepLoss(p, loss)
	before := keptRecord(t, p, id, err)
	if before.Kind != "region loss" || before.Subject != "us-east" || before.State != "done" || len(before.Phases) != 2 || before.Phases[0].To != 1.5 {
		t.Errorf("record %+v", before)
	}
	if want := []float64{0, 0.2, 1.5}; len(before.Marks) != 3 || before.Marks[0].At != want[0] || before.Marks[1].At != want[1] || before.Marks[2].At != want[2] {
		t.Errorf("marks %+v, want them at %v", before.Marks, want)
	}
	if !slices.Contains(before.Notes, loss.Errors[0]) {
		t.Errorf("notes %q", before.Notes)
	}
	loss.Recovered, loss.RecoveredMS, loss.PlaysFailed = false, 0, 5
	loss.Near = []NearRegion{{Region: "us-east"}}
	id, err = KeepLoss(p, loss)
	now := keptRecord(t, p, id, err)
	if _, ok := now.Figure("recovered after"); now.State != "failed" || ok || len(now.Phases) != 0 {
		t.Errorf("of a loss that nobody recovered from: %+v", now)
	}
	got := map[string]string{}
	for _, c := range record.Compare(now, before) {
		got[c.Name] = c.Verdict
	}
	if got["plays failed"] != "worse" || got["sessions lost"] != "same" {
		t.Errorf("comparison %v", got)
	}
}
