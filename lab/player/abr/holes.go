package abr

import "math"

// holes is what to expect of times in which next to nothing arrives.
type holes struct {
	// perMS is how often one begins, lastMS how long it lasts, depth how deep it
	// is below the usual level: of ln kbit/s.
	perMS, lastMS, depth float64
}

// A priori: one hole in priorMS, of some seconds, to a fraction.
const (
	priorMS     = 80e3
	priorHoles  = 0.5
	priorLastMS = 8e3
	priorDepth  = 2.0
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
	watchedMS, number, insideMS, depth float64

	// in says that this is one, for sinceMS; the others lasted usualMS.
	in               bool
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
			d.insideMS += passedMS
		}
		return
	}
	miss := y - b.level
	sigma := math.Sqrt(b.variance + b.noise + b.spread*(1-math.Exp(-2*passedMS/b.relax)))
	if miss < -holeDepth && miss < -holeSigmas*sigma {
		d.in, d.sinceMS, d.usualMS = true, passedMS, d.expect().lastMS
		d.rim = rim{b.bank, b.level, b.mean, b.spread, b.relax}
		d.number++
		d.insideMS += passedMS
		d.depth += min(-miss, deepest)
	}
}

// expect mixes what was seen with what is usual.
func (d *digger) expect() holes {
	n := d.number + priorHoles
	return holes{
		perMS:  n / (d.watchedMS - d.insideMS + priorMS),
		lastMS: (d.insideMS + priorHoles*priorLastMS) / n,
		depth:  (d.depth + priorHoles*priorDepth) / n,
	}
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
	h.lastMS = max(h.lastMS, d.sinceMS)
	return d.rim.mean, d.rim.spread, d.rim.relax, h
}
