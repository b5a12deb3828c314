package player

import (
	"sort"
	"time"

	"github.com/flix-lab/flix/lab/player/abr/sim"
)

// rate is how fast an access link is, and when.
type rate interface {
	// after is when n bytes have passed that begin to pass at a time.
	after(at time.Time, n int) time.Time
	// latency of an answer that is asked for at a time.
	latency(at time.Time) time.Duration
	// mean in bytes per second, above 0.
	mean() float64
}

// fixed is a rate in bytes per second that never changes.
type fixed float64

func (f fixed) after(at time.Time, n int) time.Time {
	return at.Add(time.Duration(float64(n) / float64(f) * float64(time.Second)))
}
func (f fixed) latency(time.Time) time.Duration { return 0 }
func (f fixed) mean() float64                   { return float64(f) }

// traced is a rate that follows a network trace, again and again. Time in it
// passes faster by a factor, and so do bytes.
type traced struct {
	trace  []sim.Period
	ends   []float64 // ms from the begin of the trace
	began  time.Time // of the trace's zero
	factor float64
	bytes  float64 // per ms of the trace, on average
}

// linkOf returns the access link of a play, or nil when there is no limit.
func linkOf(o Options) *link {
	if len(o.Network) == 0 {
		return newLink(o.Bandwidth)
	}
	return &link{rate: newTraced(o.Network, o.NetworkAt, o.Speed, time.Now())}
}

// newTraced follows a trace from a place in it on; some of its time has some
// bandwidth, which package sim has checked.
func newTraced(trace []sim.Period, at time.Duration, factor float64, now time.Time) *traced {
	t := &traced{trace: trace, factor: factor, ends: make([]float64, len(trace))}
	var total, bits float64
	for i, p := range trace {
		total += p.DurationMS
		bits += p.DurationMS * p.BandwidthKbps
		t.ends[i] = total
	}
	t.bytes = bits / 8 / total
	t.began = now.Add(-time.Duration(float64(at) / factor))
	return t
}

// at returns the period of a time, and how much of it is left, in ms of the
// trace.
func (t *traced) at(now time.Time) (i int, left float64) {
	total := t.ends[len(t.ends)-1]
	ms := millis(now.Sub(t.began)) * t.factor
	if ms < 0 {
		ms = 0
	}
	ms -= total * float64(int64(ms/total))
	i = min(sort.SearchFloat64s(t.ends, ms), len(t.ends)-1)
	return i, t.ends[i] - ms
}

func (t *traced) after(now time.Time, n int) time.Time {
	bits, took := 8*float64(n), 0.0 // ms of the trace
	// Whole rounds of the trace first, so that many bytes take no long walk.
	if round := 8 * t.bytes * t.ends[len(t.ends)-1]; bits > round {
		rounds := float64(int64(bits / round))
		bits -= rounds * round
		took = rounds * t.ends[len(t.ends)-1]
	}
	i, left := t.at(now)
	for steps := 0; steps <= 2*len(t.trace); steps++ {
		kbps := t.trace[i].BandwidthKbps
		if kbps > 0 && bits <= left*kbps {
			took += bits / kbps
			break
		}
		bits -= left * kbps
		took += left
		i = (i + 1) % len(t.trace)
		left = t.trace[i].DurationMS
	}
	return now.Add(time.Duration(took / t.factor * float64(time.Millisecond)))
}

func (t *traced) latency(now time.Time) time.Duration {
	i, _ := t.at(now)
	return time.Duration(t.trace[i].LatencyMS / t.factor * float64(time.Millisecond))
}

func (t *traced) mean() float64 { return max(t.bytes*1000*t.factor, 1) }
