package autoscale

import (
	"fmt"
	"math"
	"time"
)

// State is what a policy remembers between two decisions. The zero value knows
// nothing.
type State struct {
	lastUp, lastDown time.Time
	trend            trend
	recent           []sample // oldest first
}

type sample struct {
	at   time.Time
	load float64
}

// Load of a service as measured since the last decision.
type Load struct {
	// Total of the metric over all its instances; Known is false when nothing
	// could be measured.
	Total float64
	Known bool
}

// Decision is how many instances there should be, and why.
type Decision struct {
	Want   int
	Reason string
}

const (
	// window is the time over which a load counts for growth: one burst is no
	// reason. For shrinking it is the cool-down.
	window = 3 * time.Second
	// maxSamples bounds what is remembered.
	maxSamples = 4096
	// slack is how much above its target a service may be before it grows: a
	// measurement is never exact.
	slack = 1.05
	// ease is how far below its target a service must remain with fewer
	// instances before it shrinks, so that it does not grow again at once.
	ease = 0.85
)

// Decide says how many instances there should be at a time, with have of them,
// of which fresh are warming up. It remembers load and changes in s.
func (p Policy) Decide(s *State, now time.Time, have, fresh int, l Load) Decision {
	if p.Paused {
		return Decision{have, "paused"}
	}
	floor, why := p.Min, "minimum"
	for _, w := range p.Schedule {
		if w.holds(now) && w.Count > floor {
			floor, why = w.Count, "scheduled "+w.String()
		}
	}
	want, reason := have, "as it is"
	if p.Target > 0 && l.Known {
		want, reason = p.track(s, now, have, l)
	}
	if want < floor {
		want, reason = floor, why
	}
	if p.Target == 0 && have > floor {
		want, reason = floor, why // nothing but the timetable asks for more
	}
	if want > p.Max {
		want, reason = p.Max, reason+", at the maximum"
	}
	return p.hold(s, now, have, fresh, Decision{want, reason})
}

// track compares a load with its target.
func (p Policy) track(s *State, now time.Time, have int, l Load) (int, string) {
	mean, most := s.remember(now, l.Total, max(p.DownCooldown, window))
	s.trend.add(now, mean)
	load, reason := mean, fmt.Sprintf("%s %.2f each of %g", p.Metric, mean/float64(max(have, 1)), p.Target)
	if p.Predict > 0 {
		if ahead := s.trend.ahead(p.Predict); ahead > load {
			load, reason = ahead, fmt.Sprintf("%s %.2f in all, %.2f in %s", p.Metric, mean, ahead, p.Predict)
		}
	}
	if load > p.Target*slack*float64(have) {
		return int(math.Ceil(load / p.Target)), reason
	}
	if least := max(int(math.Ceil(max(load, most)/(p.Target*ease))), 1); least < have {
		return least, reason
	}
	return have, reason
}

// remember keeps a load, and returns the mean of the last moments and the most
// of a longer time.
func (s *State) remember(now time.Time, load float64, keep time.Duration) (mean, most float64) {
	s.recent = append(s.recent, sample{now, load})
	for len(s.recent) > maxSamples || now.Sub(s.recent[0].at) > keep {
		s.recent = s.recent[1:]
	}
	n := 0
	for _, x := range s.recent {
		most = max(most, x.load)
		if now.Sub(x.at) <= window {
			mean += x.load
			n++
		}
	}
	return mean / float64(n), most
}

// hold keeps to the cool-downs: growth waits for what is warming up, and
// shrinking for both directions.
func (p Policy) hold(s *State, now time.Time, have, fresh int, d Decision) Decision {
	switch {
	case d.Want > have:
		if fresh > 0 && have >= p.Min {
			return Decision{have, fmt.Sprintf("%s; %d warming up", d.Reason, fresh)}
		}
		if wait := s.lastUp.Add(p.UpCooldown).Sub(now); !s.lastUp.IsZero() && wait > 0 {
			return Decision{have, fmt.Sprintf("%s; cooling down for %s", d.Reason, wait.Round(time.Second))}
		}
	case d.Want < have:
		last := s.lastDown
		if s.lastUp.After(last) {
			last = s.lastUp
		}
		if wait := last.Add(p.DownCooldown).Sub(now); !last.IsZero() && wait > 0 {
			return Decision{have, fmt.Sprintf("%s; cooling down for %s", d.Reason, wait.Round(time.Second))}
		}
	}
	return d
}

// Changed remembers that a service has now been changed.
func (s *State) Changed(now time.Time, up bool) {
	if up {
		s.lastUp = now
	} else {
		s.lastDown = now
	}
}

// trend is Holt's double exponential smoothing: a level and a slope per second.
type trend struct {
	at           time.Time
	level, slope float64
	n            int
}

// Weights of a new value in the level and in the slope.
const (
	levelWeight = 0.5
	slopeWeight = 0.3
)

func (t *trend) add(now time.Time, v float64) {
	took := now.Sub(t.at).Seconds()
	switch {
	case t.n == 0:
		t.level = v
	case took <= 0:
		return
	default:
		before := t.level
		t.level = levelWeight*v + (1-levelWeight)*(before+t.slope*took)
		t.slope = slopeWeight*(t.level-before)/took + (1-slopeWeight)*t.slope
	}
	t.at = now
	t.n++
}

// minTrend is how many values make a trend.
const minTrend = 4

// ahead is where the trend leads to; never below 0.
func (t *trend) ahead(d time.Duration) float64 {
	if t.n < minTrend {
		return 0
	}
	return max(t.level+t.slope*d.Seconds(), 0)
}
