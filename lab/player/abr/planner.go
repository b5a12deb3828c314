package abr

import "math"

const (
	// horizon is how many segments are planned one by one; endgame how many steps
	// lead to the end of the title, when that is planned for.
	horizon = 6
	endgame = 20
	// mostStep is the share of the buffer that a step of several segments may fetch.
	mostStep = 0.25
	// sweeps of the stationary values at the first decision, and at each other.
	sweepsFirst = 12
	sweepsNext  = 2
	// leastSpread keeps the states of the network apart: variance.
	leastSpread = 0.03 * 0.03
	// leastNoise of what a second shows: variance.
	leastNoise = 0.05 * 0.05
	// abandonGain is how much better, in utility, another rung has to be for a
	// download to be given up, replaceGain for a buffered segment to be fetched
	// again.
	abandonGain = 0.05
	replaceGain = 0.2
)

// Planner is the default algorithm: stochastic model-predictive control whose
// objective is the score itself. It believes in a distribution of the
// throughput and of its future (belief), knows every segment's exact size, and
// solves by dynamic programming which rung brings most utility for the stalls
// it risks, to the end of the title: exactly for the next segments, in steps of
// several where the end is some buffers away, with stationary values where it is
// farther. Downloads under way and buffered segments are
// weighed on the same scale.
type Planner struct {
	ladder   Ladder
	belief   *belief
	surprise surprise
	plan     plan
	// usual are the mean sizes of the rungs, for what lies beyond the horizon.
	usual []float64

	stationary table // relative value with all of the title ahead
	swept      bool
	average    float64 // utility per segment of the last plan: a stall costs it, too
	// before and behind are the values before and after the next segment.
	before, behind table
	planned        int // the segment they are of; -1 for none

	// capped is the segment whose download was given up, -1 for none, and cap the
	// rung that it was given up for: what has been decided in the middle of a
	// download is not decided anew right after, or a network that is hard to tell
	// would have one segment begun over and over.
	capped, cap int
	// vain: the last replacement was given up, so that none is tried until
	// another segment has come.
	vain bool

	latencyMS float64
	idleMS    float64 // waited since the last sample
	sampled   float64 // bits and ms of the download that were seen as samples
	sampledMS float64
}

// NewPlanner makes the default algorithm for a buffer of at most bufferMS.
func NewPlanner(l Ladder, bufferMS float64) *Planner {
	p := &Planner{ladder: l, belief: newBelief(), planned: -1, capped: -1}
	p.plan = plan{segmentMS: l.SegmentMS, utilities: utilities(l.Kbps, 0), mostMS: max(bufferMS-l.SegmentMS, l.SegmentMS/10)}
	p.plan.grid()
	p.usual = make([]float64, len(l.Kbps))
	for _, row := range l.Bits {
		for q, bits := range row {
			p.usual[q] += bits / float64(len(l.Bits))
		}
	}
	return p
}

// First implements Algorithm: nothing is known, the lowest rung costs least.
func (p *Planner) First() int { return 0 }

// prepare solves the plan for the next segment.
func (p *Planner) prepare(v View) {
	p.plan.latencyMS = p.latencyMS
	p.plan.penalty = (gammaSeconds + max(p.average, 0)) / p.ladder.SegmentMS
	mean, spread, relax, holes := p.belief.outlook()
	p.plan.network(mean, max(spread+p.belief.doubt, leastSpread), relax, holes)
	p.plan.unsure(p.surprise.beyond())
	p.plan.pull, p.plan.usual = p.surprise.pull()
	ahead := len(p.ladder.Bits) - v.Next
	left, ends := ahead, true
	p.before = table{}
	if ahead > endgame {
		const steps = endgame - horizon
		stride := (ahead - horizon + steps - 1) / steps
		left = horizon
		if ends = float64(stride)*p.ladder.SegmentMS <= mostStep*p.plan.mostMS; ends {
			p.end(v.Next+horizon, stride)
		} else {
			p.sweep()
			p.before = p.stationary
		}
	}
	p.behind = p.before
	for i := v.Next + left - 1; i >= v.Next; i-- {
		p.behind = p.before
		p.plan.back(p.ladder.Bits[i], &p.behind, &p.before)
	}
	p.planned = v.Next
	if ends {
		w, sum := p.now(), 0.0
		for s, share := range w {
			sum += share * p.plan.at(&p.before[s], v.BufferMS)
		}
		p.average = max(sum/float64(ahead), 0)
	}
}

// end plans from the title's end back to a segment, in steps of so many at once: a
// buffer that lasts to the end is spent on the way, not filled.
func (p *Planner) end(first, stride int) {
	var follow table
	sizes := make([]float64, len(p.ladder.Kbps))
	for last := len(p.ladder.Bits); last > first; last -= stride {
		stride = min(stride, last-first)
		p.plan.strides(stride)
		clear(sizes)
		for _, row := range p.ladder.Bits[last-stride : last] {
			for q, bits := range row {
				sizes[q] += bits
			}
		}
		follow = p.before
		p.plan.back(sizes, &follow, &p.before)
	}
	p.plan.strides(1)
}

// sweep brings the stationary values up to what is believed now.
func (p *Planner) sweep() {
	n := sweepsNext
	if !p.swept {
		n, p.swept = sweepsFirst, true
	}
	var next table
	for range n {
		p.plan.back(p.usual, &p.stationary, &next)
		base := next[ordinary/2][levels/2]
		p.average = base - p.stationary[ordinary/2][levels/2]
		for s := range next {
			for b := range next[s] {
				next[s][b] -= base
			}
		}
		p.stationary = next
	}
}

// now is the network as believed for the next transfer.
func (p *Planner) now() [states]float64 {
	b := p.belief
	if b.holes.in {
		return p.plan.spread(b.level, b.variance)
	}
	rho := math.Exp(-(p.idleMS + p.ladder.SegmentMS/2) / b.relax)
	level := b.mean + rho*(b.level-b.mean)
	return p.plan.spread(level, rho*rho*b.variance+(1-rho*rho)*b.spread)
}

// best rung for the next segment and its value.
func (p *Planner) best(v View, w *[states]float64) (rung int, value float64) {
	value = math.Inf(-1)
	for q, bits := range p.ladder.Bits[v.Next] {
		if x := p.worth(w, v.BufferMS, bits, p.plan.utilities[q]); x > value {
			rung, value = q, x
		}
	}
	return rung, value
}

// worth of fetching bits for the next segment.
func (p *Planner) worth(w *[states]float64, levelMS, bits, utility float64) (x float64) {
	for s, share := range w {
		if share > 0 {
			x += share * p.plan.after(&p.behind, s, levelMS, bits, utility)
		}
	}
	return x
}

// Next implements Algorithm.
func (p *Planner) Next(v View) Choice {
	if !p.belief.known {
		return Choice{}
	}
	if p.planned != v.Next {
		p.prepare(v)
	}
	w := p.now()
	rung, _ := p.best(v, &w)
	if p.capped == v.Next {
		rung = min(rung, p.cap)
	}
	p.expect(&w, p.ladder.Bits[v.Next][rung])
	return Choice{Rung: rung}
}

// expect notes what the transfer of so many bits should be like.
func (p *Planner) expect(w *[states]float64, bits float64) {
	mean, square := 0.0, 0.0
	for s, share := range w {
		if share > 0 {
			x := math.Log(bits / p.plan.alone(s, bits))
			mean += share * x
			square += share * x * x
		}
	}
	p.surprise.predict(mean, max(square-mean*mean, 0))
}

// Replace implements Algorithm.
func (p *Planner) Replace(v View, full bool) (Replacement, bool) {
	if !p.belief.known || v.Next >= len(p.ladder.Bits) || p.vain {
		return Replacement{}, false
	}
	p.prepare(v)
	top := len(p.ladder.Kbps) - 1
	w := p.now()
	var threshold float64
	if full {
		for s, share := range w {
			threshold += share * p.before[s][levels-1]
		}
	} else {
		_, threshold = p.best(v, &w)
	}
	threshold += replaceGain
	out, found := Replacement{}, false
	for i := 1; i < len(v.Buffered); i++ {
		if v.Buffered[i] == top {
			continue
		}
		startsMS := float64(i)*p.ladder.SegmentMS - v.PlayedMS
		sizes := p.ladder.Bits[v.Next-len(v.Buffered)+i]
		for q := v.Buffered[i] + 1; q <= top; q++ {
			gain := p.plan.utilities[q] - p.plan.utilities[v.Buffered[i]]
			x := 0.0
			for s, share := range w {
				if share == 0 {
					continue
				}
				took := p.latencyMS + p.plan.took(s, sizes[q])
				if took < startsMS {
					x += share * gain
				}
				// What comes too late is given up when its segment begins.
				x += share * p.plan.at(&p.before[s], max(v.BufferMS-min(took, startsMS), 0))
			}
			if x > threshold {
				threshold, out, found = x, Replacement{Buffered: i, Rung: q}, true
			}
		}
	}
	return out, found
}

// Progressed implements Algorithm.
func (p *Planner) Progressed(v View, d Progress) (int, bool) {
	took := d.ElapsedMS - d.FirstByteMS
	if took-p.sampledMS >= sampleMS && d.Received > p.sampled {
		p.sample(d)
		if h := &p.belief.holes; p.planned == v.Next && (!p.plan.covers(p.belief.level) || h.in && h.sinceMS > p.plan.holes.lastMS[brief]) {
			p.prepare(v) // another network than the plan is for, or a longer hole
		}
	}
	if d.Replaces && v.BufferMS < float64(v.Next-d.Segment)*p.ladder.SegmentMS {
		return -1, true // its segment plays
	}
	if took <= 0 || !p.belief.known || p.planned != v.Next || d.Rung == 0 {
		return 0, false
	}
	w := p.seen(d, took)
	if d.Replaces {
		return -1, p.hopeless(v, d, &w)
	}
	to, found := 0, false
	threshold := p.rest(&w, v.BufferMS, d.Bits-d.Received, p.plan.utilities[d.Rung]) + abandonGain
	for q := range d.Rung {
		if x := p.worth(&w, v.BufferMS, p.ladder.Bits[d.Segment][q], p.plan.utilities[q]); x > threshold {
			threshold, to, found = x, q, true
		}
	}
	return to, found
}

// seen is the network as believed in the middle of a download: what has come
// since the last sample on top of the belief.
func (p *Planner) seen(d Progress, took float64) [states]float64 {
	b := p.belief
	level, variance := b.level, b.variance
	if ms := took - p.sampledMS; ms > 0 && d.Received > p.sampled {
		noise := max(b.noise, leastNoise) * 1000 / ms
		total := variance + noise
		miss := math.Log((d.Received-p.sampled)/ms) - level
		if miss*miss > jump*jump*total {
			level, variance = level+miss, noise
		} else {
			level += variance / total * miss
			variance *= noise / total
		}
	}
	return p.plan.spread(level, variance)
}

// hopeless says that a replacement under way is better given up: for what it
// takes of the buffer it is not worth, or it will come too late.
func (p *Planner) hopeless(v View, d Progress, w *[states]float64) bool {
	behind := v.Next - d.Segment
	if behind < 1 || behind > len(v.Buffered) {
		return true // it is not there any more
	}
	starts := v.BufferMS - float64(behind)*p.ladder.SegmentMS
	had := v.Buffered[len(v.Buffered)-behind]
	gain := p.plan.utilities[d.Rung] - p.plan.utilities[had]
	on, off := 0.0, 0.0
	for s, share := range w {
		took := p.plan.took(s, d.Bits-d.Received)
		if took < starts {
			on += share * gain
		}
		on += share * p.plan.at(&p.before[s], max(v.BufferMS-min(took, starts), 0))
		off += share * p.plan.at(&p.before[s], v.BufferMS)
	}
	return off > on+abandonGain
}

// rest is the worth of a download's rest, which needs no other first byte.
func (p *Planner) rest(w *[states]float64, levelMS, bits, utility float64) (x float64) {
	for s, share := range w {
		if share > 0 {
			x += share * p.plan.after(&p.behind, s, levelMS+p.latencyMS, bits, utility)
		}
	}
	return x
}

// sample shows the belief what of a download it has not seen.
func (p *Planner) sample(d Progress) {
	ms := d.ElapsedMS - d.FirstByteMS - p.sampledMS
	if ms > 0 && d.Received > p.sampled {
		p.belief.see(ms, (d.Received-p.sampled)/ms, p.idleMS)
		p.surprise.sample(ms, d.Received-p.sampled)
		p.idleMS = 0
	}
	p.sampledMS, p.sampled = d.ElapsedMS-d.FirstByteMS, d.Received
}

// Done implements Algorithm.
func (p *Planner) Done(_ View, t Transfer) {
	p.idleMS += t.FirstByteMS
	p.sample(t.Progress)
	p.sampled, p.sampledMS = 0, 0
	if took := t.ElapsedMS - t.FirstByteMS; took > 0 && !t.Replaces {
		p.surprise.see(math.Log(t.Received / took))
	}
	if p.latencyMS == 0 {
		p.latencyMS = t.FirstByteMS
	}
	p.latencyMS += (t.FirstByteMS - p.latencyMS) / 4
	p.planned = -1
	switch {
	case t.Replaces:
		p.vain = t.Abandoned
	case t.Abandoned:
		p.capped, p.cap = t.Segment, t.AbandonedTo
	default:
		p.capped, p.vain = -1, false
	}
}

// Waited implements Algorithm.
func (p *Planner) Waited(ms float64) { p.idleMS += ms }

// Seek implements Algorithm.
func (p *Planner) Seek(int) { p.planned, p.capped = -1, -1 }
