package sim

import "math"

// buffer holds whole segments of one length, and keeps the account of what was
// played.
type buffer struct {
	segmentMS float64
	kbps      []float64
	utilities []float64
	// rungs buffered, oldest first; playedMS of the first are over.
	rungs    []int
	playedMS float64
	last     int // rung that was played last, -1 before

	utility, bitrate, change float64
	totalMS, stalledMS       float64
	stalls                   int
}

func newBuffer(segmentMS float64, kbps []float64) *buffer {
	b := &buffer{segmentMS: segmentMS, kbps: kbps, last: -1}
	offset := -math.Log(kbps[0])
	for _, k := range kbps {
		b.utilities = append(b.utilities, math.Log(k)+offset)
	}
	return b
}

func (b *buffer) level() float64 { return b.segmentMS*float64(len(b.rungs)) - b.playedMS }

// play lets time pass. A stall that begins is counted; one that goes on is
// not. A segment is booked as it begins to play.
func (b *buffer) play(ms float64) {
	if len(b.rungs) == 0 {
		b.stalledMS += ms
		b.totalMS += ms
		return
	}
	if b.playedMS > 0 {
		if ms+b.playedMS < b.segmentMS {
			b.playedMS += ms
			b.totalMS += ms
			return
		}
		ms -= b.segmentMS - b.playedMS
		b.totalMS += b.segmentMS - b.playedMS
		b.shift()
		b.playedMS = 0
	}
	for ms > 0 && len(b.rungs) > 0 {
		b.book(b.rungs[0])
		if ms >= b.segmentMS {
			b.shift()
			b.totalMS += b.segmentMS
			ms -= b.segmentMS
		} else {
			b.playedMS = ms
			b.totalMS += ms
			ms = 0
		}
	}
	if ms > 0 {
		b.stalledMS += ms
		b.totalMS += ms
		b.stalls++
	}
}

func (b *buffer) shift() {
	copy(b.rungs, b.rungs[1:])
	b.rungs = b.rungs[:len(b.rungs)-1]
}

func (b *buffer) book(rung int) {
	b.utility += b.utilities[rung]
	b.bitrate += b.kbps[rung]
	if b.last >= 0 && b.last != rung {
		b.change += math.Abs(b.kbps[rung] - b.kbps[b.last])
	}
	b.last = rung
}
