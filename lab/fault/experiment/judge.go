package experiment

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/flix-lab/flix/lab/fault"
)

// Result is what came of an experiment.
type Result struct {
	Experiment Experiment `json:"experiment"`
	Started    time.Time  `json:"started"`
	// Verdict is holds, fails, aborted or inconclusive; Reason says why.
	Verdict string `json:"verdict"`
	Reason  string `json:"reason"`
	// Confidence is how sure it is that the experiment group's error ratio does
	// not exceed the control group's by more than the margin, 0 to 1.
	Confidence float64 `json:"confidence"`
	Statistics string  `json:"statistics"`
	// Groups are the figures of both while things were broken; Baseline and
	// Recovery those of the experiment group before and after.
	Groups   map[string]Figures `json:"groups"`
	Baseline Figures            `json:"baseline"`
	Recovery Figures            `json:"recovery"`
	// ErrorDifference is by how much the experiment group's error ratio exceeds
	// the control group's; SlowerP how likely starts as much slower come by
	// chance.
	ErrorDifference Interval `json:"error_difference"`
	SlowerP         float64  `json:"slower_p"`
	// Checks are the bounds and expectations, each with what was seen.
	Checks []Check       `json:"checks"`
	Faults []fault.Fault `json:"faults"`
	// FaultAtMS and FaultEndMS are the fault phase, since the beginning.
	FaultAtMS  float64 `json:"fault_at_ms"`
	FaultEndMS float64 `json:"fault_end_ms"`
	Plays      []Play  `json:"plays"`
	MS         float64 `json:"ms"`
}

// Figures of some plays.
type Figures struct {
	Plays           int      `json:"plays"`
	Failed          int      `json:"plays_failed"`
	Stalled         int      `json:"stalled_plays"`
	ErrorRatio      Interval `json:"error_ratio"`
	RebufferRatio   float64  `json:"rebuffer_ratio"`
	StartsPerSecond float64  `json:"starts_per_second"`
	P50MS           float64  `json:"p50_ms"`
	P99MS           float64  `json:"p99_ms"`
	// FirstError is one of those that there were.
	FirstError string `json:"first_error,omitempty"`
}

// Check is a bound and what was seen.
type Check struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Bound string  `json:"bound"`
	OK    bool    `json:"ok"`
	// Control is the same of the control group, and ControlOK whether it is
	// within the bound; of expectations there is none.
	Control   *float64 `json:"control,omitempty"`
	ControlOK *bool    `json:"control_ok,omitempty"`
}

// Figure is a figure as a person reads it: four digits of it, and no exponent of
// a large one.
func Figure(v float64) string {
	if v >= 1000 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

// excused says that what nothing was done to misses the bound, too: that is no
// doing of the faults.
func (k Check) excused() bool { return !k.OK && k.ControlOK != nil && !*k.ControlOK }

// statistics names what the verdict rests on.
const statistics = "proportions: Wilson (1927) score intervals, their difference by Newcombe (1998), method 10, 95 %; confidence: the one-sided level at which that difference stays within the margin; start times: one-sided Mann–Whitney (1947) with ties, normal approximation"

// leastPlays is how many plays each group needs for a verdict.
const leastPlays = 5

func pick(plays []Play, group string, phases ...string) []Play {
	var out []Play
	for _, p := range plays {
		if p.Group == group && slices.Contains(phases, p.Phase) {
			out = append(out, p)
		}
	}
	return out
}

// latest are at most the n newest plays of the experiment group that count for
// an abort, the newest first.
func latest(plays []Play, n int) []Play {
	var out []Play
	for k := len(plays) - 1; k >= 0 && len(out) < n; k-- {
		if p := plays[k]; p.Group == treated && (p.Phase == inFault || p.Phase == inSettle) {
			out = append(out, p)
		}
	}
	return out
}

// measure sums up plays over a time; 0 for no rate.
func measure(plays []Play, over time.Duration) Figures {
	f := Figures{Plays: len(plays)}
	var stalled, played float64
	var delays []float64
	for _, p := range plays {
		if p.Error != "" {
			f.Failed++
			f.FirstError = cmp.Or(f.FirstError, p.Error)
		}
		if p.Rebuffers > 0 {
			f.Stalled++
		}
		if p.DelayMS > 0 {
			delays = append(delays, p.DelayMS)
		}
		stalled += p.RebufferS
		played += p.PlayedS / max(p.Speed, 0.001)
	}
	f.ErrorRatio = wilson(f.Failed, f.Plays, z95)
	if stalled+played > 0 {
		f.RebufferRatio = stalled / (stalled + played)
	}
	if over > 0 {
		f.StartsPerSecond = float64(f.Plays-f.Failed) / over.Seconds()
	}
	f.P50MS, f.P99MS = quantile(delays, 0.5), quantile(delays, 0.99)
	return f
}

func delaysOf(plays []Play) []float64 {
	var out []float64
	for _, p := range plays {
		if p.DelayMS > 0 {
			out = append(out, p.DelayMS)
		}
	}
	return out
}

// judge compares the groups.
func (r *runner) judge(ctx context.Context, before, after map[string]map[string]uint64) Result {
	r.mu.Lock()
	plays, faults, began, ended, abort := r.plays, r.faults, r.began, r.ended, r.abort
	r.mu.Unlock()
	if ended.IsZero() {
		ended = r.Clock()
	}
	res := Result{
		Experiment: r.e, Started: r.begun.UTC(), Statistics: statistics, Faults: faults, Plays: plays,
		FaultAtMS: since(r.begun, began), FaultEndMS: since(r.begun, ended), MS: since(r.begun, r.Clock()), Groups: map[string]Figures{},
	}
	if began.IsZero() {
		res.FaultAtMS = res.MS
	}
	steady := began.Sub(r.begun)
	if began.IsZero() {
		steady = r.Clock().Sub(r.begun)
	}
	broken := r.e.Phases.Fault.D() - r.e.Phases.Settle.D()
	x := pick(plays, treated, inFault)
	c, over := pick(plays, control, inFault), broken
	if r.e.Groups.By == "time" {
		c, over = slices.Concat(pick(plays, control, inBaseline), pick(plays, treated, inBaseline)), steady
		x = slices.Concat(x, pick(plays, control, inFault))
	}
	fx, fc := measure(x, broken), measure(c, over)
	res.Groups[treated], res.Groups[control] = fx, fc
	res.Baseline, res.Recovery = measure(pick(plays, treated, inBaseline), steady), measure(pick(plays, treated, inRecovery), r.e.Phases.Recovery.D())
	res.ErrorDifference = difference(fx.Failed, fx.Plays, fc.Failed, fc.Plays, z95)
	res.SlowerP = slower(delaysOf(x), delaysOf(c))
	res.Confidence = confidence(fx.Failed, fx.Plays, fc.Failed, fc.Plays, r.e.Margin)
	res.Checks = append(r.bounds(fx, fc), r.expectations(ctx, x, before, after)...)
	res.decide(abort)
	return res
}

// decide gives the verdict.
func (res *Result) decide(abort string) {
	x, c := res.Groups[treated], res.Groups[control]
	res.Verdict, res.Reason = "holds", fmt.Sprintf("%d plays of the experiment group are within every bound", x.Plays)
	switch {
	case abort != "":
		res.Verdict, res.Reason = "aborted", abort
		return
	case x.Plays < leastPlays || c.Plays < leastPlays:
		res.Verdict, res.Reason = "inconclusive", fmt.Sprintf("%d plays of the experiment group and %d of the control group are too few: %d are needed", x.Plays, c.Plays, leastPlays)
		return
	case res.ErrorDifference.Low > res.Experiment.Margin:
		res.Verdict, res.Reason = "fails", fmt.Sprintf("the experiment group fails more often than the control group, by at least %.3f (95 %%)", res.ErrorDifference.Low)
	}
	for _, k := range res.Checks {
		switch {
		case !k.OK && !k.excused():
			res.Verdict, res.Reason = "fails", fmt.Sprintf("%s is %s, wanted %s", k.Name, Figure(k.Value), k.Bound)
			return
		case k.excused() && res.Verdict == "holds":
			res.Verdict, res.Reason = "inconclusive", fmt.Sprintf("%s is %s, wanted %s, and without the faults it is %s: the lab does not keep the bound by itself, as on a machine that is too busy", k.Name, Figure(k.Value), k.Bound, Figure(*k.Control))
		}
	}
}

func (b Bound) check(name string, v float64) Check {
	k := Check{Name: name, Value: v, OK: true}
	if b.Min != nil {
		k.Bound, k.OK = fmt.Sprintf("at least %g", *b.Min), v >= *b.Min
	}
	if b.Max != nil {
		if k.Bound != "" {
			k.Bound += ", "
		}
		k.Bound += fmt.Sprintf("at most %g", *b.Max)
		k.OK = k.OK && v <= *b.Max
	}
	return k
}

// bounds checks the steady state of the experiment group, beside the control
// group's.
func (r *runner) bounds(x, c Figures) []Check {
	var out []Check
	s := r.e.SteadyState
	for _, k := range []struct {
		name string
		b    *Bound
		v, c float64
	}{
		{"starts_per_second", s.StartsPerSecond, x.StartsPerSecond, c.StartsPerSecond}, {"error_ratio", s.ErrorRatio, x.ErrorRatio.Value, c.ErrorRatio.Value},
		{"rebuffer_ratio", s.RebufferRatio, x.RebufferRatio, c.RebufferRatio}, {"p99_ms", s.P99MS, x.P99MS, c.P99MS},
	} {
		if k.b != nil {
			got, beside := k.b.check(k.name, k.v), k.b.check(k.name, k.c)
			got.Control, got.ControlOK = &beside.Value, &beside.OK
			out = append(out, got)
		}
	}
	return out
}

// expectations looks for what must be seen in the plays and in the lab.
func (r *runner) expectations(ctx context.Context, x []Play, before, after map[string]map[string]uint64) []Check {
	out := []Check{}
	for _, e := range r.e.Expect {
		name, v := e.See, 0.0
		switch e.See {
		case "command":
			name = e.Command + " " + e.Event
			v = float64(after[e.Command][e.Event]) - min(float64(after[e.Command][e.Event]), float64(before[e.Command][e.Event]))
		case "sessions_seen":
			v = r.sessionsSeen(ctx, x, e.Bound)
		default:
			v = count(x, e.See)
		}
		out = append(out, e.Bound.check(name, v))
	}
	return out
}

func count(plays []Play, what string) float64 {
	n := 0
	for _, p := range plays {
		switch {
		case what == "appliance_switches":
			n += p.Switches
		case what == "rebuffers":
			n += p.Rebuffers
		case what == "served_by_exchange" && p.Exchange, what == "answered_elsewhere" && p.AnsweredBy != "" && p.AnsweredBy != p.Region:
			n++
		}
	}
	return float64(n)
}

// sessionsSeen is the share of the plays whose sessions the pipeline has seen;
// it waits for those that are still on their way.
func (r *runner) sessionsSeen(ctx context.Context, plays []Play, b Bound) float64 {
	share := 0.0
	for wait := 100 * time.Millisecond; ; {
		seen, err := r.Lab.Sessions(ctx)
		n, of := 0, 0
		for _, p := range plays {
			if p.Session == "" || p.Error != "" {
				continue
			}
			of++
			if seen[p.Session] {
				n++
			}
		}
		if err == nil && of > 0 {
			share = float64(n) / float64(of)
		}
		if b.check("", share).OK || sleep(ctx, wait) != nil {
			return share
		}
	}
}

// sorted are the steps in the order of their times.
func sorted(steps []Step) []Step {
	out := slices.Clone(steps)
	slices.SortStableFunc(out, func(a, b Step) int { return cmp.Compare(a.At, b.At) })
	return out
}
