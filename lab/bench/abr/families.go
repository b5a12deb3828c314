package main

import (
	"math"
	"math/rand/v2"
	"strconv"

	"github.com/flix-lab/flix/lab/player/abr"
	"github.com/flix-lab/flix/lab/player/abr/sim"
)

// family is a kind of network, and what is played over it.
type family struct {
	name string
	// heldOut families were never looked at while the default was made.
	heldOut bool
	movie   func(*rand.Rand) abr.Ladder
	bufferS []float64
	trace   func(*rand.Rand, abr.Ladder) []sim.Period
}

// set is traces that are judged together.
type set struct {
	name    string
	kind    string // of network
	movie   abr.Ladder
	bufferS float64
	traces  []named
}

type named struct {
	name  string
	trace []sim.Period
}

// The ladders: ten rungs as broadband has them, six up to 4K, and short ones.
var (
	broadband = []float64{230, 331, 477, 688, 991, 1427, 2056, 2962, 5027, 6000}
	ultra     = []float64{1000, 2500, 5000, 8000, 16000, 35000}
	mobile    = []float64{150, 300, 600, 1200, 2400}
	three     = []float64{400, 1200, 3600}
	film      = []float64{235, 375, 560, 750, 1050, 1750, 2350, 3000, 4300, 5800}
)

// movie makes a title of some length whose segments vary around their bit
// rates, all rungs alike, as encoders do: scenes of some segments, and each
// segment on its own.
func movie(kbps []float64, segmentS, lengthS, vary float64) func(*rand.Rand) abr.Ladder {
	return func(r *rand.Rand) abr.Ladder {
		l := abr.Ladder{SegmentMS: segmentS * 1000, Kbps: kbps}
		scene := 0.0
		for range int(lengthS / segmentS) {
			if r.Float64() < 0.2 {
				scene = vary * r.NormFloat64()
			}
			row := make([]float64, len(kbps))
			each := scene + vary/2*r.NormFloat64()
			for q, k := range kbps {
				row[q] = k * l.SegmentMS * math.Exp(each-vary*vary*0.6+0.05*r.NormFloat64())
			}
			l.Bits = append(l.Bits, row)
		}
		return l
	}
}

// drawn makes a trace of periods of stepMS, with bandwidths as draw gives them.
func drawn(seconds, stepMS float64, latency func() float64, draw func() float64) []sim.Period {
	var out []sim.Period
	for t := 0.0; t < seconds*1000; t += stepMS {
		out = append(out, sim.Period{DurationMS: stepMS, BandwidthKbps: math.Round(max(draw(), 0)), LatencyMS: math.Round(latency())})
	}
	out = append(out, sim.Period{DurationMS: stepMS, BandwidthKbps: 100, LatencyMS: 100}) // never all zero
	return out
}

func fixed(ms float64) func() float64 { return func() float64 { return ms } }

// between draws from lo to hi, evenly in the logarithm.
func between(r *rand.Rand, lo, hi float64) float64 {
	return lo * math.Exp(r.Float64()*math.Log(hi/lo))
}

// fading is an autoregressive log-normal level: memory in seconds, spread of ln.
func fading(r *rand.Rand, mean, spread, memoryS, stepS float64) func() float64 {
	keep := math.Exp(-stepS / memoryS)
	x := r.NormFloat64()
	return func() float64 {
		x = keep*x + math.Sqrt(1-keep*keep)*r.NormFloat64()
		return mean * math.Exp(spread*x)
	}
}

// families of networks. Their parameters are wide on purpose: nobody's network
// is the mean one.
func families() []family {
	return []family{
		{name: "hsdpa", movie: movie(broadband, 3, 600, 0.3), bufferS: []float64{25, 10}, trace: hsdpa},
		{name: "lte", movie: movie(ultra, 3, 600, 0.3), bufferS: []float64{25, 10}, trace: lte},
		{name: "fcc", movie: movie(broadband, 4, 600, 0.2), bufferS: []float64{25, 60}, trace: fcc},
		{name: "markov", movie: movie(film, 4, 600, 0.25), bufferS: []float64{30, 12}, trace: markov},
		{name: "steps", movie: movie(broadband, 2, 480, 0.2), bufferS: []float64{20, 8}, trace: steps},
		{name: "steady", movie: movie(film, 4, 480, 0.2), bufferS: []float64{25}, trace: steady},
		{name: "low", movie: movie(mobile, 2, 480, 0.2), bufferS: []float64{20}, trace: low},
		{name: "far", movie: movie(film, 3, 480, 0.2), bufferS: []float64{25}, trace: far},
		{name: "wifi", heldOut: true, movie: movie(film, 2, 480, 0.25), bufferS: []float64{25, 6}, trace: wifi},
		{name: "train", heldOut: true, movie: movie(broadband, 4, 600, 0.3), bufferS: []float64{25, 120}, trace: train},
		{name: "wave", heldOut: true, movie: movie(three, 6, 600, 0.15), bufferS: []float64{30}, trace: wave},
		{name: "shared", heldOut: true, movie: movie(ultra, 6, 600, 0.3), bufferS: []float64{40}, trace: shared},
		{name: "short", heldOut: true, movie: movie(mobile, 2, 60, 0.2), bufferS: []float64{25}, trace: hsdpa},
		{name: "satellite", heldOut: true, movie: movie(film, 10, 600, 0.2), bufferS: []float64{40}, trace: satellite},
	}
}

// hsdpa: a phone in motion on 3G; fades within seconds, holes of up to half a
// minute.
func hsdpa(r *rand.Rand, _ abr.Ladder) []sim.Period {
	draw := fading(r, between(r, 500, 3000), 0.3+0.5*r.Float64(), between(r, 3, 30), 1)
	hole := 0
	return drawn(600, 1000, fixed(100), func() float64 {
		k := draw()
		if hole > 0 {
			hole--
			return k * 0.03
		}
		if r.Float64() < 0.006 {
			hole = 1 + r.IntN(20)
		}
		return k
	})
}

// lte: fast and slow fading, now and then a worse cell.
func lte(r *rand.Rand, _ abr.Ladder) []sim.Period {
	slow := fading(r, between(r, 6000, 50000), 0.6, 40, 1)
	fast := fading(r, 1, 0.3, 2, 1)
	return drawn(600, 1000, fixed(20+30*r.Float64()), func() float64 { return slow() * fast() })
}

// fcc: a line at home; steady, with dips of some minutes.
func fcc(r *rand.Rand, _ abr.Ladder) []sim.Period {
	mean, dip := between(r, 600, 9000), 1.0
	left := 0
	return drawn(900, 5000, fixed(20), func() float64 {
		if left--; left < 0 {
			left, dip = 5+r.IntN(40), 1
			if r.Float64() < 0.3 {
				dip = 0.2 + 0.6*r.Float64()
			}
		}
		return mean * dip * math.Exp(0.06*r.NormFloat64())
	})
}

// markov: a chain over levels, each kept for a while.
func markov(r *rand.Rand, _ abr.Ladder) []sim.Period {
	var at []float64
	for range 6 {
		at = append(at, between(r, 200, 9000))
	}
	state, leave := r.IntN(len(at)), 1/between(r, 4, 40)
	return drawn(600, 1000, fixed(40), func() float64 {
		if r.Float64() < leave {
			state = r.IntN(len(at))
		}
		return at[state] * math.Exp(0.1*r.NormFloat64())
	})
}

// steps: as a laboratory would cap a link.
func steps(r *rand.Rand, _ abr.Ladder) []sim.Period {
	var out []sim.Period
	for range 4 + r.IntN(8) {
		out = append(out, sim.Period{DurationMS: math.Round(between(r, 8000, 80000)), BandwidthKbps: math.Round(between(r, 250, 8000)), LatencyMS: 50})
	}
	return out
}

// steady: nothing changes.
func steady(r *rand.Rand, _ abr.Ladder) []sim.Period {
	return []sim.Period{{DurationMS: 10000, BandwidthKbps: math.Round(between(r, 260, 9000)), LatencyMS: math.Round(between(r, 5, 100))}}
}

// low: around the lowest rungs.
func low(r *rand.Rand, l abr.Ladder) []sim.Period {
	return drawn(600, 1000, fixed(120), fading(r, l.Kbps[0]*between(r, 1.2, 3), 0.35, between(r, 3, 20), 1))
}

// far: every request waits long.
func far(r *rand.Rand, _ abr.Ladder) []sim.Period {
	ms := between(r, 200, 900)
	return drawn(600, 1000, func() float64 { return ms * (0.8 + 0.4*r.Float64()) }, fading(r, between(r, 700, 8000), 0.4, 15, 1))
}

// wifi: others talk in bursts.
func wifi(r *rand.Rand, _ abr.Ladder) []sim.Period {
	mean, busy := between(r, 1500, 12000), false
	return drawn(480, 500, fixed(10), func() float64 {
		if r.Float64() < 0.12 {
			busy = r.Float64() < 0.45
		}
		if busy {
			return mean * (0.1 + 0.25*r.Float64())
		}
		return mean * (0.7 + 0.4*r.Float64())
	})
}

// train: between stations and tunnels.
func train(r *rand.Rand, _ abr.Ladder) []sim.Period {
	t, round, best := 0.0, between(r, 60, 240), between(r, 1500, 9000)
	noise := fading(r, 1, 0.35, 4, 1)
	tunnel := r.Float64() * 0.08
	return drawn(800, 1000, fixed(70), func() float64 {
		t++
		phase := math.Mod(t/round, 1)
		if phase > 1-tunnel {
			return 0
		}
		return best * noise() * (0.15 + 0.85*math.Pow(math.Sin(math.Pi*phase), 2))
	})
}

// wave: a slow sine.
func wave(r *rand.Rand, _ abr.Ladder) []sim.Period {
	t, round, mean, swing := 0.0, between(r, 20, 200), between(r, 600, 4000), 0.3+0.6*r.Float64()
	return drawn(600, 1000, fixed(30), func() float64 { t++; return mean * (1 + swing*math.Sin(2*math.Pi*t/round)) })
}

// shared: a link whose users come and go.
func shared(r *rand.Rand, _ abr.Ladder) []sim.Period {
	users, capacity := 2+r.IntN(6), between(r, 20000, 120000)
	return drawn(700, 1000, fixed(25), func() float64 {
		if r.Float64() < 0.08 {
			users = max(users-1+2*r.IntN(2), 0)
		}
		return capacity / float64(users+1) * math.Exp(0.15*r.NormFloat64())
	})
}

// satellite: far, with rain.
func satellite(r *rand.Rand, _ abr.Ladder) []sim.Period {
	return drawn(900, 2000, fixed(620), fading(r, between(r, 1000, 9000), 0.5, between(r, 30, 200), 2))
}

// sets draws the sets of a family: one per buffer, the same traces.
func (f family) sets(seed uint64, n int) []set {
	var out []set
	for _, bufferS := range f.bufferS {
		r := rand.New(rand.NewPCG(seed, uint64(len(f.name))<<32|uint64(f.name[0])<<16|uint64(f.name[len(f.name)-1])))
		s := set{name: f.name, kind: f.name, bufferS: bufferS, movie: f.movie(r)}
		if f.heldOut {
			s.name += "*"
		}
		for j := range n {
			s.traces = append(s.traces, named{name: strconv.Itoa(j), trace: f.trace(r, s.movie)})
		}
		out = append(out, s)
	}
	return out
}
