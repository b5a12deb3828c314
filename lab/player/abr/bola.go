package abr

import "math"

// gammaSeconds weighs a stall against utility: BOLA's γp, and the score's.
const gammaSeconds = 5

// utilities of the rungs: ln(bit rate ÷ the lowest one), plus an offset.
func utilities(kbps []float64, offset float64) []float64 {
	offset -= math.Log(kbps[0])
	u := make([]float64, len(kbps))
	for i, k := range kbps {
		u[i] = math.Log(k) + offset
	}
	return u
}

// lyapunov is the decision rule that BOLA's variants share: the rung of the
// highest (V·(utility + γp) − buffer) ÷ size. Source: Spiteri, Urgaonkar,
// Sitaraman, "BOLA: Near-Optimal Bitrate Adaptation for Online Videos" (2016).
type lyapunov struct {
	ladder    Ladder
	utilities []float64
	vp, gp    float64
}

// best rung at a buffer level.
func (y *lyapunov) best(levelMS float64) int {
	rung, score := 0, math.Inf(-1)
	for q, kbps := range y.ladder.Kbps {
		if s := (y.vp*(y.utilities[q]+y.gp) - levelMS) / kbps; s > score || q == 0 {
			rung, score = q, s
		}
	}
	return rung
}

// abandon compares the rest of a download with a whole one of each lower rung.
func (y *lyapunov) abandon(p Progress, levelMS, left float64) (int, bool) {
	score := (y.vp*(y.gp+y.utilities[p.Rung]) - levelMS) / left
	to, found := 0, false
	for q := range p.Rung {
		size := p.Bits * y.ladder.Kbps[q] / y.ladder.Kbps[p.Rung]
		// Where less is left than the other has in all, a change gains nothing,
		// whatever a full buffer does to the score.
		if s := (y.vp*(y.gp+y.utilities[q]) - levelMS) / size; size < left && s > score {
			score, to, found = s, q, true
		}
	}
	return to, found
}

// Variant says what BOLA does where the buffer would allow a higher rung than
// the throughput sustains; both are of the published algorithm.
type Variant int

const (
	// Calm (BOLA-O) stays at the rung that the throughput sustains, and waits
	// rather than fill the buffer beyond what that rung deserves: fewer
	// switches. It is what the published figures are of, and Sabre's -ao.
	Calm Variant = iota
	// Eager (BOLA-U) goes one rung above: more utility, more switches. It is
	// what Sabre does without an option.
	Eager
)

// Bola decides by the buffer alone, but for the step up, which it bounds by
// the throughput. Near the begin and the end of a title it works with a
// smaller buffer.
type Bola struct {
	still
	lyapunov
	variant  Variant
	bufferMS float64
	from     int // the segment of the last seek
	last     int // rung of the last decision
}

// NewBola makes BOLA for a buffer of at most bufferMS.
func NewBola(l Ladder, bufferMS float64, variant Variant) *Bola {
	b := &Bola{lyapunov: lyapunov{ladder: l, utilities: utilities(l.Kbps, 0), gp: gammaSeconds}, variant: variant, bufferMS: bufferMS}
	b.spread(bufferMS)
	return b
}

// spread sets the buffer level of the top rung.
func (b *Bola) spread(bufferMS float64) {
	b.vp = (bufferMS - b.ladder.SegmentMS) / (b.utilities[len(b.utilities)-1] + b.gp)
}

// minSpread is the smallest buffer that BOLA works with, in segments.
const minSpread = 3

// Next implements Algorithm.
func (b *Bola) Next(v View) Choice {
	near := float64(min(v.Next-b.from, len(b.ladder.Bits)-v.Next))
	b.spread(min(b.bufferMS, max(near/2, minSpread)*b.ladder.SegmentMS))
	q := b.best(v.BufferMS)
	wait := 0.0
	if q > b.last {
		switch can := sustained(b.ladder, v.ThroughputKbps, v.LatencyMS); {
		case q <= can:
		case b.last > can:
			q = b.last
		case b.variant == Eager:
			q = can + 1
		default:
			q = can
			wait = max(0, v.BufferMS-b.vp*(b.gp+b.utilities[q])) // can is below the top here
		}
	}
	b.last = q
	return Choice{Rung: q, WaitMS: wait}
}

// Progressed implements Algorithm.
func (b *Bola) Progressed(v View, p Progress) (int, bool) {
	left := p.Bits - p.Received
	if p.Received <= 0 || left <= 0 || b.vp*(b.gp+b.utilities[p.Rung])-v.BufferMS < 0 {
		return 0, false
	}
	q, yes := b.abandon(p, v.BufferMS, left)
	if yes {
		b.last = q
	}
	return q, yes
}

// Seek implements Algorithm.
func (b *Bola) Seek(segment int) { b.from = segment }
