package abr

import "math"

const (
	// states of the network and levels of the buffer in the plan: ordinary ones
	// in ascending order, then the holes by kind.
	ordinary = 7
	hole     = ordinary
	states   = ordinary + kinds
	levels   = 40
)

// points of a normal distribution, and their weights, by Gauss and Hermite.
const points = 3

var weights = [points]float64{1. / 6, 4. / 6, 1. / 6}

// unsure sets how far the logarithm of a transfer's time may be from what its
// state says: a variance, of which a step of several has so much less.
func (p *plan) unsure(variance float64) {
	p.variance = variance
	sd := math.Sqrt(points * variance / float64(max(p.stride, 1)))
	p.longer = [points]float64{math.Exp(-sd), 1, math.Exp(sd)}
}

// table is a value by network state and buffer level.
type table [states][levels]float64

// plan is the model that the planner solves: what a segment costs to fetch in
// each state of the network, and where the network goes from there.
type plan struct {
	segmentMS, latencyMS float64
	// mostMS is the fullest buffer at a decision: with room for one more.
	mostMS float64
	// penalty per ms of stall.
	penalty   float64
	utilities []float64
	level     [levels]float64 // ms
	perMS     [levels]float64 // 1 ÷ the distance to the next level
	kbps      [states]float64
	logs      [states]float64 // of kbps
	// longer are factors of a transfer's time, and how likely: what the state
	// does not say of it, of which variance is the measure.
	longer   [points]float64
	variance float64
	move     [states][states]float64
	fall     [kinds]float64 // probability of a hole within a segment
	holes    holes
	// pull is the share of the way that transfers go from what their state says
	// to usual, ln kbit/s.
	pull, usual float64
	relaxMS     float64 // memory of the level
	// stride is how many segments one step fetches.
	stride int
}

// grid places the buffer's levels, closer together where it is thin.
func (p *plan) grid() {
	for i := range p.level {
		t := float64(i) / (levels - 1)
		p.level[i] = p.mostMS * (t + t*t) / 2
	}
	for i := range levels - 1 {
		p.perMS[i] = 1 / (p.level[i+1] - p.level[i])
	}
}

// at reads a row of a table at a buffer level.
func (p *plan) at(row *[levels]float64, ms float64) float64 {
	if ms >= p.mostMS {
		return row[levels-1]
	}
	i := min(int((math.Sqrt(0.25+2*ms/p.mostMS)-0.5)*(levels-1)), levels-2) // rounding may reach the last level
	return row[i] + (ms-p.level[i])*p.perMS[i]*(row[i+1]-row[i])
}

// network sets the states for a level that wanders with a spread (variance) and
// a memory (ms) around a mean (ln kbit/s), and now and then falls into a hole.
// Rouwenhorst's method keeps mean, variance and autocorrelation of the process
// for any memory.
func (p *plan) network(mean, spread, relaxMS float64, h holes) {
	sd := math.Sqrt(spread)
	for i := range ordinary {
		p.logs[i] = mean + sd*math.Sqrt(ordinary-1)*(2*float64(i)/(ordinary-1)-1)
		p.kbps[i] = math.Exp(p.logs[i])
	}
	p.holes, p.relaxMS = h, relaxMS
	for k := range kinds {
		p.logs[hole+k] = mean - h.depth
		p.kbps[hole+k] = math.Exp(p.logs[hole+k])
	}
	p.strides(1)
}

// strides sets how many segments one step of the plan fetches, all in one rung, and
// how the network moves from step to step.
func (p *plan) strides(n int) {
	p.stride = n
	p.unsure(p.variance)
	h, stepMS := p.holes, float64(n)*p.segmentMS
	rho := math.Exp(-stepMS / p.relaxMS)
	p.move = [states][states]float64{}
	rouwenhorst(&p.move, (1+rho)/2)
	p.fall = [kinds]float64{}
	often := h.perMS[brief] + h.perMS[long]
	fall := 1 - math.Exp(-stepMS*often)
	for k := range kinds {
		if often > 0 {
			p.fall[k] = fall * h.perMS[k] / often
		}
	}
	for i := range ordinary {
		for j := range ordinary {
			p.move[i][j] *= 1 - fall
		}
		for k := range kinds {
			p.move[i][hole+k] = p.fall[k]
		}
	}
	for k := range kinds {
		p.move[hole+k][hole+k] = 1 // it ends during a transfer
	}
}

// rouwenhorst builds the chain of a probability to stay by growing it from two
// states. Source: Kopecky, Suen, "Finite state Markov-chain approximations to
// highly persistent processes" (2010).
func rouwenhorst(into *[states][states]float64, stay float64) {
	var now, next [states][states]float64
	now[0][0], now[0][1], now[1][0], now[1][1] = stay, 1-stay, 1-stay, stay
	for n := 2; n < ordinary; n++ {
		next = [states][states]float64{}
		for i := range n {
			for j := range n {
				x := now[i][j]
				next[i][j] += stay * x
				next[i][j+1] += (1 - stay) * x
				next[i+1][j] += (1 - stay) * x
				next[i+1][j+1] += stay * x
			}
		}
		for i := 1; i < n; i++ {
			for j := range n + 1 {
				next[i][j] /= 2
			}
		}
		now = next
	}
	*into = now
}

// atOnce is the share of the level's memory that a transfer may take without
// the level moving meanwhile.
const atOnce = 0.05

// took is how long a transfer is expected to take that begins in a state, as far
// as transfers have followed the state.
func (p *plan) took(state int, bits float64) float64 {
	ms := p.alone(state, bits)
	if p.pull == 0 || !(ms > 0) {
		return ms
	}
	return ms * math.Exp(p.pull*(math.Log(bits/ms)-p.usual))
}

// alone is how long a transfer takes by its state alone. It may outlast the state:
// a hole ends, after its mean length, in the usual level, and a level goes back to
// the mean as fast as it forgets.
func (p *plan) alone(state int, bits float64) float64 {
	ms := bits / p.kbps[state]
	if state >= hole {
		last := p.holes.lastMS[state-hole]
		inside := -last * math.Expm1(-ms/last)
		return inside + (bits-p.kbps[hole]*inside)/p.kbps[ordinary/2]
	}
	x := ms / p.relaxMS
	if x < atOnce {
		return ms
	}
	mean := p.logs[ordinary/2]
	return bits / math.Exp(mean-(p.logs[state]-mean)*math.Expm1(-x)/x)
}

// parts of a hole's length that a transfer may outlast.
const parts = 2

// course is one way in which a transfer that begins in a hole may go.
type course struct {
	to         int // state at its end
	ms, weight float64
}

// through is how a transfer may go that begins in a hole, whose rest is of
// exponential length: it comes while the hole lasts, or the hole ends before, early
// or late, and what is left comes at the usual level.
func (p *plan) through(state int, bits float64) (out [1 + parts]course) {
	ms, last := bits/p.kbps[state], p.holes.lastMS[state-hole]
	ends := -math.Expm1(-ms / last)
	out[0] = course{state, ms, 1 - ends}
	for i := range parts {
		d := -last * math.Log1p(-ends*(float64(i)+0.5)/parts)
		out[1+i] = course{ordinary / 2, d + (bits-p.kbps[state]*d)/p.kbps[ordinary/2], ends / parts}
	}
	if p.pull > 0 {
		usual := p.took(state, bits) / p.alone(state, bits)
		for i := range out {
			out[i].ms *= usual
		}
	}
	return out
}

// after is the value of fetching bits of some utility from a buffer level in a
// state, and of going on with what follows.
func (p *plan) after(follow *table, state int, levelMS, bits, utility float64) float64 {
	if state >= hole {
		for _, c := range p.through(state, bits) {
			utility += c.weight * p.ends(&follow[c.to], levelMS-p.latencyMS-c.ms)
		}
		return utility
	}
	took := p.took(state, bits)
	if p.longer[0] == 1 {
		return utility + p.ends(&follow[state], levelMS-p.latencyMS-took)
	}
	for i, f := range p.longer {
		utility += weights[i] * p.ends(&follow[state], levelMS-p.latencyMS-f*took)
	}
	return utility
}

// ends is the value of a segment that has come with so much buffer left, below 0
// after a stall.
func (p *plan) ends(follow *[levels]float64, left float64) float64 {
	stall := 0.0
	if left < 0 {
		stall, left = p.penalty*left, 0
	}
	return stall + p.at(follow, left+p.segmentMS)
}

// back computes the value before a step, of segments that have so many bits in each
// rung, from the value after it.
func (p *plan) back(bits []float64, follow, into *table) {
	var expect table
	// Of several segments all but the last are in the buffer before the last comes.
	n := float64(p.stride)
	firstMS := n*p.latencyMS - (n-1)*p.segmentMS
	for s := range into {
		for b := range into[s] {
			into[s][b] = math.Inf(-1)
		}
	}
	for q, size := range bits {
		for s := range expect {
			expect[s] = [levels]float64{}
			if s >= hole {
				for _, c := range p.through(s, size) {
					p.fetch(&follow[c.to], &expect[s], firstMS+c.ms, n*p.utilities[q], c.weight)
				}
				continue
			}
			took := p.took(s, size)
			if p.longer[0] == 1 {
				p.fetch(&follow[s], &expect[s], firstMS+took, n*p.utilities[q], 1)
				continue
			}
			for i, f := range p.longer {
				p.fetch(&follow[s], &expect[s], firstMS+f*took, n*p.utilities[q], weights[i])
			}
		}
		for s := range into {
			var sum [levels]float64
			for to, w := range &p.move[s] {
				if w < 1e-3 {
					continue
				}
				for b, x := range &expect[to] {
					sum[b] += w * x
				}
			}
			row := &into[s]
			for b, x := range &sum {
				row[b] = max(row[b], x)
			}
		}
	}
}

// fetch adds, at every buffer level and with a weight, the worth of a segment of
// some utility that takes a time. The levels go up, so where the buffer ends up
// does too: no root is drawn to find its place.
func (p *plan) fetch(follow, into *[levels]float64, tookMS, utility, weight float64) {
	i := 0
	for b, level := range &p.level {
		left, worth := level-tookMS, utility
		if left < 0 {
			worth += p.penalty * left
			left = 0
		}
		left += p.segmentMS
		if left >= p.mostMS {
			into[b] += weight * (worth + follow[levels-1])
			continue
		}
		for i < levels-2 && p.level[i+1] <= left {
			i++
		}
		into[b] += weight * (worth + follow[i] + (left-p.level[i])*p.perMS[i]*(follow[i+1]-follow[i]))
	}
}

// spread puts a belief on the states: three points of a normal distribution,
// each shared between its neighbours.
func (p *plan) spread(level, variance float64) (w [states]float64) {
	others := 1.0
	for k, fall := range p.fall {
		w[hole+k] = fall / 2
		others -= fall / 2
	}
	sd := math.Sqrt(3 * variance)
	for _, point := range [3][2]float64{{level - sd, 1. / 6}, {level, 4. / 6}, {level + sd, 1. / 6}} {
		p.share(&w, point[0], point[1]*others)
	}
	return w
}

// bottomSlack is how far below the lowest state, in ln kbit/s, the network may
// be: there a wrong state costs stalls, so it is less than above the highest.
const bottomSlack = 0.25

// covers says whether the states reach a level of the network.
func (p *plan) covers(level float64) bool {
	return level > min(p.logs[0], p.logs[hole])-bottomSlack && level < p.logs[ordinary-1]+2*(p.logs[1]-p.logs[0])
}

func (p *plan) share(w *[states]float64, level, weight float64) {
	step := p.logs[1] - p.logs[0]
	t := (level - p.logs[0]) / step
	switch {
	case !(t > 0):
		// Below the ordinary: between there and the hole.
		f := 0.0
		if down := p.logs[0] - p.logs[hole]; down > 0 {
			f = min((p.logs[0]-level)/down, 1)
		}
		for k, share := range p.holes.share {
			w[hole+k] += weight * f * share
		}
		w[0] += weight * (1 - f)
	case t >= ordinary-1:
		w[ordinary-1] += weight
	default:
		i := int(t)
		w[i] += weight * (1 - (t - float64(i)))
		w[i+1] += weight * (t - float64(i))
	}
}
