package player

import (
	"math"
	"time"
)

// Adapter chooses the rung of each segment. It is used by one play at a time.
type Adapter interface {
	// Observe takes the transfer of a segment: bytes received, and the time
	// from the request to the last byte.
	Observe(bytes int, took time.Duration)
	// Next returns the index into s.Rungs to take for the next segment.
	Next(s Situation) int
	// Kbps is the throughput believed in, 0 while nothing is known.
	Kbps() float64
}

// Situation is what an Adapter decides on.
type Situation struct {
	// RungKbps of the rungs on offer, lowest first; never empty.
	RungKbps []int
	// AudioKbps is fetched along with every rung.
	AudioKbps int
	// Current rung, or -1 before the first segment.
	Current int
	// Buffer is the media ahead of the playback position, Segment the length
	// of one segment, both in media time.
	Buffer, Segment time.Duration
	// Speed of the playback clock: bytes are needed that much faster.
	Speed float64
}

// Constants of the throughput rule. The half-lives and the share are those
// that dash.js and its kin use.
const (
	fastHalfLife = 3 * time.Second
	slowHalfLife = 8 * time.Second
	// share of the estimate that is spent.
	share = 0.8
	// tinyTransfer is too short to say anything about the path: most of its
	// time is spent waiting, and its bytes may come from one socket buffer.
	tinyTransfer = 8 << 10
	// upBuffer and lowBuffer guard by the buffer, in segments: below upBuffer
	// no step up is taken, below lowBuffer the lowest rung is. upBuffer is two
	// segments less what plays while the second one comes.
	upBuffer  = 1.75
	lowBuffer = 0.5
)

// Throughput is the default Adapter: the lower of two moving averages of the
// measured throughput, discounted, and guarded by the buffer.
type Throughput struct {
	fast, slow average
}

// NewThroughput returns an adapter that knows nothing yet.
func NewThroughput() *Throughput {
	return &Throughput{fast: average{halfLife: fastHalfLife}, slow: average{halfLife: slowHalfLife}}
}

// Observe implements Adapter.
func (t *Throughput) Observe(bytes int, took time.Duration) {
	if bytes < tinyTransfer || took <= 0 {
		return
	}
	kbps := float64(bytes) * 8 / 1000 / took.Seconds()
	// A transfer counts by its size at the rate the player lives on as much as
	// by its time: a burst of fast segments has to move the estimate too.
	weight := max(took, time.Duration(bytes)*minWeightPerByte)
	t.fast.add(kbps, weight)
	t.slow.add(kbps, weight)
}

// minWeightPerByte makes 100 kB weigh at least 1 s.
const minWeightPerByte = 10 * time.Microsecond

// Kbps implements Adapter.
func (t *Throughput) Kbps() float64 { return min(t.fast.value(), t.slow.value()) }

// Next implements Adapter.
func (t *Throughput) Next(s Situation) int {
	estimate := t.Kbps()
	if estimate == 0 {
		return 0
	}
	best := 0
	for i, kbps := range s.RungKbps {
		if float64(kbps+s.AudioKbps)*s.Speed <= estimate*share {
			best = i
		}
	}
	switch {
	case s.Current < 0:
		return best
	case s.Buffer < time.Duration(lowBuffer*float64(s.Segment)) && best <= s.Current:
		return 0
	case best > s.Current && s.Buffer < time.Duration(upBuffer*float64(s.Segment)):
		return s.Current
	}
	return best
}

// average is an exponentially weighted mean over time.
type average struct {
	halfLife   time.Duration
	sum, total float64
}

func (a *average) add(v float64, weight time.Duration) {
	keep := math.Exp2(-weight.Seconds() / a.halfLife.Seconds())
	a.sum = a.sum*keep + v*(1-keep)
	a.total = a.total*keep + (1 - keep)
}

func (a *average) value() float64 {
	if a.total == 0 {
		return 0
	}
	return a.sum / a.total // corrects the start from zero
}
