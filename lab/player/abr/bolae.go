package abr

// Constants of BOLA-E.
const (
	// The lowest rung reigns below lowBufferMS; every rung gets perRungMS of
	// buffer at the least.
	lowBufferMS = 10000
	perRungMS   = 2000
)

// BolaE is BOLA with what production players added: a placeholder, that is
// buffer that was never downloaded but that decisions count in, so that a
// start, a seek or a full buffer does not hold the rung down; and the
// insufficient buffer rule. Source: Spiteri, Sitaraman, Sparacio, "From Theory
// to Practice: Improving Bitrate Adaptation in the DASH Reference Player"
// (2018).
type BolaE struct {
	still
	lyapunov
	variant Variant
	safety  safety
	steady  bool
	// placeholder in ms; last is the rung of the last transfer.
	placeholder float64
	last        int
}

// NewBolaE makes BOLA-E for a buffer of at most bufferMS.
func NewBolaE(l Ladder, bufferMS float64, variant Variant) *BolaE {
	b := &BolaE{lyapunov: lyapunov{ladder: l, utilities: utilities(l.Kbps, 1)}, variant: variant}
	if len(l.Kbps) > 1 { // else nothing is ever decided
		bufferMS = max(lowBufferMS+perRungMS*float64(len(l.Kbps)), bufferMS)
		b.gp = (b.utilities[len(l.Kbps)-1] - 1) / (bufferMS/lowBufferMS - 1)
		b.vp = lowBufferMS / b.gp
	}
	return b
}

// lowest is the buffer level from which a rung is preferred to all below it,
// highest the level up to which it is worth a download at all.
func (b *BolaE) lowest(rung int) float64 {
	kbps, u := b.ladder.Kbps[rung], b.utilities[rung]
	level := 0.0
	for q := range rung {
		k, w := b.ladder.Kbps[q], b.utilities[q]
		level = max(level, b.vp*(b.gp+(kbps*w-k*u)/(kbps-k)))
	}
	return level
}

func (b *BolaE) highest(rung int) float64 { return b.vp * (b.utilities[rung] + b.gp) }

// Next implements Algorithm.
func (b *BolaE) Next(v View) Choice {
	if !b.steady {
		if v.ThroughputKbps == 0 {
			return Choice{Rung: b.last}
		}
		b.steady, b.safety = true, safety{safetyFirst}
		q := sustained(b.ladder, v.ThroughputKbps, v.LatencyMS)
		b.placeholder = max(0, b.lowest(q)-v.BufferMS)
		return Choice{Rung: q}
	}
	q := b.best(v.BufferMS + b.placeholder)
	if can := sustained(b.ladder, v.ThroughputKbps, v.LatencyMS); q > b.last && q > can {
		q = max(b.last, can)
		if b.variant == Eager {
			q++
		}
	}
	wait := max(0, v.BufferMS+b.placeholder-b.highest(q))
	if wait <= b.placeholder {
		b.placeholder -= wait
		wait = 0
	} else {
		wait -= b.placeholder
		b.placeholder = 0
	}
	if q == len(b.ladder.Kbps)-1 {
		wait = 0
	}
	if lower, yes := b.safety.limit(b.ladder, v, q); yes {
		q, wait = lower, 0
		b.placeholder = min(max(0, b.lowest(q)-v.BufferMS), b.placeholder)
	}
	return Choice{Rung: q, WaitMS: wait}
}

// Progressed implements Algorithm.
func (b *BolaE) Progressed(v View, p Progress) (int, bool) {
	left := p.Bits - p.Received
	if p.Received <= 0 || left <= 0 {
		return 0, false
	}
	// Another request waits for its first byte again: judge as of then.
	level := max(0, v.BufferMS+b.placeholder-p.FirstByteMS)
	left -= p.FirstByteMS * (p.Received / (p.ElapsedMS - p.FirstByteMS))
	if left <= 0 {
		return 0, false
	}
	return b.abandon(p, level, left)
}

// Done implements Algorithm: the placeholder stays in the range in which BOLA
// would have taken the rung that was taken.
func (b *BolaE) Done(v View, t Transfer) {
	b.last = t.Rung
	switch {
	case t.Abandoned && t.Replaces:
	case t.Abandoned:
		want := float64(lowBufferMS)
		if t.AbandonedTo > 0 {
			want = b.lowest(t.AbandonedTo)
		}
		b.placeholder = min(b.placeholder, max(0, want-v.BufferMS))
	case t.Replaces:
		b.placeholder += b.ladder.SegmentMS
	default:
		was := v.BufferMS + t.ElapsedMS
		b.placeholder = min(b.placeholder, max(0, b.highest(t.Rung)-was))
		if v.BufferMS > 0 {
			b.placeholder = max(b.placeholder, b.lowest(t.Rung)-was)
		}
	}
}

// Waited implements Algorithm.
func (b *BolaE) Waited(ms float64) { b.placeholder += ms }

// Seek implements Algorithm.
func (b *BolaE) Seek(int) { b.steady = false }
