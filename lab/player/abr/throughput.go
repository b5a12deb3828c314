package abr

// Constants of the throughput rule, as dash.js and Sabre have them.
const (
	// throughputShare of the estimate is spent.
	throughputShare = 0.9
	// A segment may take slowSegments times as long as it plays before it is
	// given up, judged after graceMS at the earliest.
	slowSegments = 1.8
	graceMS      = 500
	// Insufficient buffer: the share of what arrives while the buffer lasts
	// that may be spent falls from the first to the second.
	safetyFirst = 0.9
	safetyLast  = 0.5
)

// safety is the insufficient buffer rule: no rung whose segment would not
// arrive, with some safety, before the buffer is empty. The safety margin
// grows with every decision up to its end.
type safety struct{ factor float64 }

// limit returns the highest rung up to rung that the rule allows, and whether
// it is a lower one.
func (s *safety) limit(l Ladder, v View, rung int) (int, bool) {
	bits := s.factor * (v.BufferMS - v.LatencyMS) * v.ThroughputKbps
	s.factor = max(s.factor*safetyFirst, safetyLast)
	for q := range rung {
		if l.Kbps[q+1]*l.SegmentMS > bits {
			return q, true
		}
	}
	return rung, false
}

// sustained is the highest rung whose segments arrive as fast as they play,
// latency counted in.
func sustained(l Ladder, kbps, latencyMS float64) int {
	q := 0
	for q+1 < len(l.Kbps) && latencyMS+l.SegmentMS*l.Kbps[q+1]/kbps <= l.SegmentMS {
		q++
	}
	return q
}

// Throughput takes the rung that the estimated throughput sustains.
type Throughput struct {
	still
	ladder Ladder
	safety safety
}

// NewThroughput makes the throughput rule.
func NewThroughput(l Ladder) *Throughput {
	return &Throughput{ladder: l, safety: safety{safetyFirst}}
}

// Next implements Algorithm.
func (t *Throughput) Next(v View) Choice {
	q := sustained(t.ladder, v.ThroughputKbps*throughputShare, v.LatencyMS)
	q, _ = t.safety.limit(t.ladder, v, q)
	return Choice{Rung: q}
}

// Progressed implements Algorithm: a segment that would take much longer than
// it plays is given up for one that the measured throughput sustains.
func (t *Throughput) Progressed(v View, p Progress) (int, bool) {
	took := p.ElapsedMS - p.FirstByteMS
	if p.ElapsedMS < graceMS || took <= 0 {
		return 0, false
	}
	kbps := p.Received / took
	left := p.Bits - p.Received
	if p.ElapsedMS+left/kbps <= slowSegments*t.ladder.SegmentMS {
		return 0, false
	}
	q := sustained(t.ladder, kbps*throughputShare, v.LatencyMS)
	if q >= p.Rung || p.Bits*t.ladder.Kbps[q]/t.ladder.Kbps[p.Rung] >= left {
		return 0, false
	}
	return q, true
}
