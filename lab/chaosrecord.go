package lab

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/flix-lab/flix/lab/fault/experiment"
	"github.com/flix-lab/flix/lab/record"
	"github.com/flix-lab/flix/services"
)

// KeepExperiment leaves a record of an experiment in the lab's state and returns its id.
func KeepExperiment(p Paths, r experiment.Result) (string, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("experiment: %w", err)
	}
	broken := r.Groups["experiment"]
	rec := record.Record{
		ID: newID(), Kind: "experiment", Subject: r.Experiment.Name, State: r.Verdict, Data: data,
		Started: r.Started.UTC(), Ended: r.Started.Add(millis(r.MS)).UTC(),
		Summary: fmt.Sprintf("%s: %s", r.Experiment.Title, r.Reason),
		Figures: []record.Figure{
			{Name: "plays", Value: float64(broken.Plays)},
			{Name: "plays failed", Value: float64(broken.Failed)},
			{Name: "failed ratio", Value: broken.ErrorRatio.Value, Better: "less"},
			{Name: "stalled ratio", Value: shareOf(broken.Stalled, broken.Plays), Better: "less"},
			{Name: "rebuffer ratio", Value: broken.RebufferRatio, Better: "less"},
			{Name: "starts per second", Value: broken.StartsPerSecond, Unit: "1/s"},
			{Name: "play delay p50", Value: broken.P50MS, Unit: "ms", Better: "less"},
			{Name: "play delay p99", Value: broken.P99MS, Unit: "ms", Better: "less"},
			{Name: "confidence", Value: r.Confidence, Better: "more"},
		},
		Series: experimentSeries(r),
		Phases: []record.Phase{
			{Name: "before", To: r.FaultAtMS / 1000},
			{Name: "fault", From: r.FaultAtMS / 1000, To: r.FaultEndMS / 1000},
			{Name: "after", From: r.FaultEndMS / 1000, To: r.MS / 1000},
		},
		Notes: []string{fmt.Sprintf("the figures are of the experiment group while things were broken; seed %d", r.Experiment.Seed)},
	}
	for _, f := range r.Faults {
		rec.Marks = append(rec.Marks, record.Mark{At: max(f.Began.Sub(r.Started).Seconds(), 0), Text: f.String(), Bad: true})
	}
	for _, c := range r.Checks {
		if !c.OK {
			rec.Notes = append(rec.Notes, fmt.Sprintf("%s is %s, wanted %s", c.Name, experiment.Figure(c.Value), c.Bound))
		}
	}
	if broken.FirstError != "" {
		rec.Notes = append(rec.Notes, "one of the failures: "+broken.FirstError)
	}
	return rec.ID, Records(p).Keep(rec)
}

// experimentSeries are the plays of both groups: how long each start took, at the
// time at which it was asked for.
func experimentSeries(r experiment.Result) []record.Series {
	var out []record.Series
	for _, group := range []string{"control", "experiment"} {
		s := record.Series{Name: "delay, " + group, Unit: "ms", Points: []record.Point{}}
		for _, p := range r.Plays {
			if p.Group == group && p.Error == "" {
				s.Points = append(s.Points, record.Point{At: p.AtMS / 1000, Value: p.DelayMS})
			}
		}
		out = append(out, s)
	}
	failed := record.Series{Name: "failed plays", Points: []record.Point{}}
	for _, p := range r.Plays {
		if p.Error != "" {
			failed.Points = append(failed.Points, record.Point{At: p.EndMS / 1000, Value: 1})
		}
	}
	return append(out, failed)
}

// KeepLoss leaves a record of a region's loss in the lab's state and returns its id.
func KeepLoss(p Paths, r RegionLoss) (string, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("region: %w", err)
	}
	rec := record.Record{
		ID: newID(), Kind: "region loss", Subject: r.Region, State: "done", Data: data,
		Started: r.At.UTC(), Ended: r.At.Add(millis(r.MS)).UTC(),
		Summary: fmt.Sprintf("new plays succeed from everywhere after %s; of %s in flight %d were lost", record.Value(r.RecoveredMS, "ms"), services.Count(r.SessionsInFlight, "session"), r.SessionsLost),
		Figures: []record.Figure{
			{Name: "plays tried", Value: float64(r.PlaysTried)},
			{Name: "plays failed", Value: float64(r.PlaysFailed), Better: "less"},
			{Name: "sessions in flight", Value: float64(r.SessionsInFlight)},
			{Name: "sessions lost", Value: float64(r.SessionsLost), Better: "less"},
			{Name: "rebuffers in flight", Value: float64(r.Rebuffers), Better: "less"},
		},
		Marks: []record.Mark{{Text: r.Region + " is lost", Bad: true}},
		Notes: r.Errors,
	}
	if r.Recovered {
		rec.Figures = append([]record.Figure{{Name: "recovered after", Value: r.RecoveredMS, Unit: "ms", Better: "less"}}, rec.Figures...)
	} else {
		rec.State, rec.Summary = "failed", "new plays do not succeed from everywhere"
	}
	for _, n := range r.Near {
		if n.RecoveredMS == 0 {
			continue
		}
		rec.Phases = append(rec.Phases, record.Phase{Name: "near " + n.Region, To: n.RecoveredMS / 1000, Text: "answered by " + n.AnsweredBy})
		rec.Marks = append(rec.Marks, record.Mark{At: n.RecoveredMS / 1000, Text: fmt.Sprintf("plays near %s succeed, answered by %s", n.Region, n.AnsweredBy)})
	}
	slices.SortStableFunc(rec.Marks, func(a, b record.Mark) int { return cmp.Compare(a.At, b.At) })
	return rec.ID, Records(p).Keep(rec)
}

func millis(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }
