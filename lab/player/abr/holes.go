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
	priorMS     = 300e3
	priorHoles  = 0.5
	priorLastMS = 8e3
	priorDepth  = 2.0
	// holeDepth below the level and holeSigmas of surprise make a hole.
	holeDepth  = 1.0
	holeSigmas = 2.5
	deepest    = 5.0
)

// digger counts the holes of a session.
type digger struct {
	watchedMS, number, insideMS, depth float64
	in                                 bool
	rim                                float64 // level before it
}

// see takes a sample before the belief does.
func (d *digger) see(y, ms, passedMS float64, b *belief) {
	if !b.known {
		return
	}
	d.watchedMS += passedMS
	miss := y - b.level
	sigma := math.Sqrt(b.variance + b.noise + b.spread*(1-math.Exp(-2*passedMS/b.relax)))
	switch {
	case d.in && y > d.rim-holeDepth/2:
		d.in = false
	case d.in:
		d.insideMS += passedMS
	case miss < -holeDepth && miss < -holeSigmas*sigma:
		d.in, d.rim = true, b.level
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
