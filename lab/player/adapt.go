package player

import (
	"time"

	"github.com/flix-lab/flix/lab/player/abr"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/media"
)

// tinyTransfer, in bytes, is too short to say anything about the path: most of
// its time is spent waiting, and its bytes may come from one socket buffer.
const tinyTransfer = 8 << 10

// adaptation is an algorithm of package abr at work on one play. It translates
// between the player's terms and the algorithm's, which are milliseconds of
// wall clock, bits, and video with its audio as one segment.
type adaptation struct {
	algo     abr.Algorithm
	estimate *abr.Estimator
	// first is the index of the title's segment that the algorithm counts as
	// its first one.
	first int
	// rungs of the segments ahead, for the algorithm to look at.
	rungs []int
}

// newAdaptation makes the algorithm of a name for a title from its segment
// first on, at a speed, with at most ahead of media held.
func newAdaptation(name string, rungs []media.Track, audio *media.Track, first int, segment, ahead time.Duration, speed float64) (*adaptation, error) {
	l := abr.Ladder{SegmentMS: millis(segment) / speed}
	sound := 0
	if audio != nil {
		sound = audio.Kbps
	}
	for q, t := range rungs {
		kbps := float64(t.Kbps+sound) * speed
		if q > 0 {
			kbps = max(kbps, l.Kbps[q-1]*1.0001) // rungs of one bit rate and two sizes
		}
		l.Kbps = append(l.Kbps, kbps)
	}
	for i := first; i < len(rungs[0].Segments); i++ {
		row := make([]float64, len(rungs))
		for q, t := range rungs {
			row[q] = 8 * float64(max(t.Segments[i].Size, 1))
			if audio != nil {
				row[q] += float64(sound) * millis(segmentTime(t.Segments[i])) // kbit/s × ms
			}
		}
		l.Bits = append(l.Bits, row)
	}
	algo, err := abr.New(name, l, millis(ahead)/speed, abr.Calm)
	if err != nil {
		return nil, services.Wrap("play", err)
	}
	return &adaptation{algo: algo, estimate: abr.NewEstimator(l.SegmentMS), first: first}, nil
}

// kbps is the throughput believed in, 0 while nothing is known.
func (a *adaptation) kbps() float64 {
	if a == nil {
		return 0
	}
	kbps, _ := a.estimate.Throughput()
	return kbps
}

// view shows the algorithm a play: the next segment, the clock and what lies
// ahead of it.
func (a *adaptation) view(next int, clock playout, ahead []held) abr.View {
	v := abr.View{Next: next - a.first, BufferMS: millis(clock.wall(clock.buffer()))}
	a.rungs = a.rungs[:0]
	for _, h := range ahead {
		a.rungs = append(a.rungs, h.rung)
	}
	v.Buffered = a.rungs
	if len(ahead) > 0 {
		v.PlayedMS = max(millis(clock.wall(clock.pos-ahead[0].at)), 0)
	}
	v.ThroughputKbps, v.LatencyMS = a.estimate.Throughput()
	return v
}

// learn takes a whole transfer for the estimate.
func (a *adaptation) learn(t abr.Transfer) {
	took := t.ElapsedMS - t.FirstByteMS
	if t.Abandoned || t.Received < 8*tinyTransfer {
		return
	}
	a.estimate.Push(took, t.Received/took, t.FirstByteMS)
}
