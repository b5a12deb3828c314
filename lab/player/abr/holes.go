package abr

import "math"

// Holes are of two kinds: brief ones, a shadow or a handover, and long ones, a
// tunnel or an outage. Many brief ones say nothing of how long a long one lasts,
// which is what the buffer is for.
const (
	brief = iota
	long
	kinds
)

// holes is what to expect of times in which next to nothing arrives.
type holes struct {
	// perMS is how often one of a kind begins, lastMS how long it lasts.
	perMS, lastMS [kinds]float64
	// depth is how deep they are below the usual level: of ln kbit/s.
	depth float64
	// share is how likely it is that one under way is of a kind.
	share [kinds]float64
}

// A priori, so many holes of a kind in priorMS, of priorLastMS each, to a fraction.
var (
	priorHoles  = [kinds]float64{brief: 1, long: 0.5}
	priorMS     = [kinds]float64{brief: 120e3, long: 300e3}
	priorLastMS = [kinds]float64{brief: 8e3, long: 40e3}
)

const (
	priorDepth = 2.5
	// longAfterMS makes a hole a long one.
	longAfterMS = 20e3
	// holeDepth below the level and holeSigmas of surprise make a hole.
	holeDepth  = 1.0
	holeSigmas = 2.5
	deepest    = 5.0
)

// A hole that lasts longLastMS, and longFactor times as long as is usual, is
// the network as it is now.
const (
	longLastMS = 30e3
	longFactor = 4
)

// digger counts the holes of a session. While in one it keeps what was believed
// before: that holds again at its end.
type digger struct {
	watchedMS, depth float64
	number, insideMS [kinds]float64

	// in says that this is one of a kind, for sinceMS; the others lasted usualMS.
	in               bool
	kind             int
	sinceMS, usualMS float64
	rim              rim
}

// rim is the belief from before a hole.
type rim struct {
	bank                       [models]kalman
	level, mean, spread, relax float64
}

// see takes a sample before the belief does.
func (d *digger) see(y, ms, passedMS float64, b *belief) {
	if !b.known {
		return
	}
	d.watchedMS += passedMS
	if d.in {
		d.sinceMS += passedMS
		switch {
		case y > d.rim.level-holeDepth/2:
			// Over: the belief goes on from before.
			d.in, b.bank = false, d.rim.bank
		case d.sinceMS > longLastMS && d.sinceMS > longFactor*d.usualMS:
			d.in = false
		default:
			d.insideMS[d.kind] += passedMS
		}
		if d.in && d.kind == brief && d.sinceMS > longAfterMS {
			d.number[brief]--
			d.insideMS[brief] -= d.sinceMS
			d.kind = long
			d.number[long]++
			d.insideMS[long] += d.sinceMS
		}
		return
	}
	miss := y - b.level
	sigma := math.Sqrt(b.variance + b.noise + b.spread*(1-math.Exp(-2*passedMS/b.relax)))
	if miss < -holeDepth && miss < -holeSigmas*sigma {
		d.in, d.kind, d.sinceMS, d.usualMS = true, brief, passedMS, d.expect().mean()
		d.rim = rim{b.bank, b.level, b.mean, b.spread, b.relax}
		d.number[brief]++
		d.insideMS[brief] += passedMS
		d.depth += min(-miss, deepest)
	}
}

// expect mixes what was seen with what is usual.
func (d *digger) expect() (h holes) {
	outsideMS, number := d.watchedMS, priorHoles[brief]
	for k := range kinds {
		outsideMS -= d.insideMS[k]
		number += d.number[k]
	}
	for k := range kinds {
		n := d.number[k] + priorHoles[k]
		h.perMS[k] = n / (outsideMS + priorMS[k])
		h.lastMS[k] = (d.insideMS[k] + priorHoles[k]*priorLastMS[k]) / n
	}
	h.depth = (d.depth + priorHoles[brief]*priorDepth) / number
	h.since(0)
	return h
}

// since sets the shares of the kinds of one that has lasted for so long.
func (h *holes) since(ms float64) {
	sum := 0.0
	for k := range kinds {
		h.share[k] = h.perMS[k] * math.Exp(-ms/h.lastMS[k])
		sum += h.share[k]
	}
	for k := range kinds {
		h.share[k] /= sum
	}
}

// mean is how long a hole lasts.
func (h holes) mean() float64 {
	return h.share[brief]*h.lastMS[brief] + h.share[long]*h.lastMS[long]
}

// outlook is how the network will wander, as far as is believed.
func (b *belief) outlook() (mean, spread, relaxMS float64, h holes) {
	d := &b.holes
	h = d.expect()
	if !d.in {
		return b.mean, b.spread, b.relax, h
	}
	// From inside a hole: it is as deep as it is, and the longer it has lasted
	// the longer it will.
	h.depth = max(d.rim.mean-b.level, 0)
	h.lastMS[long] = max(h.lastMS[long], d.sinceMS)
	h.since(d.sinceMS)
	return d.rim.mean, d.rim.spread, d.rim.relax, h
}
