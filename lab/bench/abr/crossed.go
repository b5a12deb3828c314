package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"

	"github.com/flix-lab/flix/lab/player/abr"
	"github.com/flix-lab/flix/lab/player/abr/sim"
)

// crossed draws sets at random: any kind of network with any movie, buffer and
// latency. Where families are what one expects, these are what one does not:
// a ladder far above or below the network, one rung, segments of 10 s in a
// buffer of 12 s, a title of twenty segments, sizes that vary by a factor of
// three.
func crossed(seed uint64, sets, n int) []set {
	kinds := families()
	kinds = append(kinds, rough()...)
	var out []set
	for i := range sets {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		f := kinds[i%len(kinds)]
		m, label := anyMovie(r)
		s := set{kind: f.name, movie: m, bufferS: anyBuffer(r, m.SegmentMS/1000)}
		s.name = fmt.Sprintf("%d %s over %s", i, label, f.name)
		shift := between(r, 0.5, 2)
		for j := range n {
			trace := f.trace(r, m)
			fit(trace, m, shift)
			s.traces = append(s.traces, named{name: strconv.Itoa(j), trace: trace})
		}
		out = append(out, s)
	}
	return out
}

// anyMovie has 1 to 12 rungs, from anywhere, segments of 1 to 10 s, and a
// length of 40 s to a quarter of an hour.
func anyMovie(r *rand.Rand) (abr.Ladder, string) {
	rungs := 1 + r.IntN(12)
	segmentS := []float64{1, 2, 3, 4, 6, 10}[r.IntN(6)]
	lengthS := between(r, 40, 900)
	vary := 0.6 * r.Float64() * r.Float64()
	kbps := []float64{math.Round(between(r, 80, 1500))}
	for len(kbps) < rungs {
		kbps = append(kbps, math.Round(kbps[len(kbps)-1]*between(r, 1.15, 2.6)))
		if kbps[len(kbps)-1] > 60000 {
			break
		}
	}
	lengthS = max(lengthS, 3*segmentS)
	return movie(kbps, segmentS, lengthS, vary)(r), fmt.Sprintf("%d rungs of %.0f-%.0f, %g s, %.0f s, vary %.2f", len(kbps), kbps[0], kbps[len(kbps)-1], segmentS, lengthS, vary)
}

// anyBuffer holds two segments at the least.
func anyBuffer(r *rand.Rand, segmentS float64) float64 {
	return max([]float64{8, 10, 12, 20, 25, 30, 40, 60, 120}[r.IntN(9)], 2*segmentS)
}

// fit scales a trace's bandwidth, so that its mean lies somewhere about a
// movie's ladder: shift times the middle of it.
func fit(trace []sim.Period, m abr.Ladder, shift float64) {
	var bits, ms float64
	for _, p := range trace {
		bits += p.BandwidthKbps * p.DurationMS
		ms += p.DurationMS
	}
	middle := math.Sqrt(m.Kbps[0] * m.Kbps[len(m.Kbps)-1])
	scale := shift * max(middle, 1.3*m.Kbps[0]) / max(bits/ms, 1)
	for i := range trace {
		trace[i].BandwidthKbps *= scale
	}
}

// rough are networks that few families resemble.
func rough() []family {
	return []family{
		{name: "on-off", trace: onOff},
		{name: "sawtooth", trace: sawtooth},
		{name: "long tail", trace: longTail},
		{name: "cliff", trace: cliff},
		{name: "slow start", trace: slowStart},
		{name: "spikes", trace: spikes},
		{name: "white", trace: white},
		{name: "distant", trace: distant},
	}
}

// onOff: all, then next to nothing.
func onOff(r *rand.Rand, _ abr.Ladder) []sim.Period {
	on, off, low := between(r, 2000, 40000), between(r, 1000, 15000), 0.15*r.Float64()
	var out []sim.Period
	for range 40 {
		out = append(out,
			sim.Period{DurationMS: math.Round(on * between(r, 0.6, 1.6)), BandwidthKbps: 2000, LatencyMS: 60},
			sim.Period{DurationMS: math.Round(off * between(r, 0.6, 1.6)), BandwidthKbps: 2000 * low, LatencyMS: 60})
	}
	return out
}

// sawtooth: up bit by bit, down at once, as one TCP with itself.
func sawtooth(r *rand.Rand, _ abr.Ladder) []sim.Period {
	t, round, foot := 0.0, between(r, 8, 120), 0.1+0.4*r.Float64()
	return drawn(600, 1000, fixed(40), func() float64 { t++; return 3000 * (foot + (1-foot)*math.Mod(t/round, 1)) })
}

// longTail: mostly slow, now and then very fast.
func longTail(r *rand.Rand, _ abr.Ladder) []sim.Period {
	shape, hold, left, k := 1.2+r.Float64(), between(r, 1, 10), 0.0, 0.0
	return drawn(600, 1000, fixed(80), func() float64 {
		if left--; left < 0 {
			left, k = hold*r.ExpFloat64(), min(600*math.Pow(r.Float64(), -1/shape), 60000)
		}
		return k
	})
}

// cliff: one network, then another, once.
func cliff(r *rand.Rand, _ abr.Ladder) []sim.Period {
	a, b := between(r, 500, 8000), between(r, 500, 8000)
	return []sim.Period{{DurationMS: math.Round(between(r, 20000, 200000)), BandwidthKbps: math.Round(a), LatencyMS: 40}, {DurationMS: 900000, BandwidthKbps: math.Round(b), LatencyMS: 40}}
}

// slowStart: the begin is not what follows.
func slowStart(r *rand.Rand, _ abr.Ladder) []sim.Period {
	begin := between(r, 0.1, 5)
	draw := fading(r, 2500, 0.3*r.Float64(), between(r, 4, 30), 1)
	t := 0
	return drawn(900, 1000, fixed(40), func() float64 {
		if t++; t < 12 {
			return draw() * begin
		}
		return draw()
	})
}

// spikes: steady, with a second of five times as much or a fifth.
func spikes(r *rand.Rand, _ abr.Ladder) []sim.Period {
	often := 0.02 + 0.2*r.Float64()
	return drawn(600, 1000, fixed(40), func() float64 {
		switch x := r.Float64(); {
		case x < often/2:
			return 10000
		case x < often:
			return 400
		}
		return 2000
	})
}

// white: no second knows of the one before.
func white(r *rand.Rand, _ abr.Ladder) []sim.Period {
	spread := 0.2 + r.Float64()
	return drawn(600, 1000, fixed(50), func() float64 { return 2000 * math.Exp(spread*r.NormFloat64()) })
}

// distant: 200 to 600 ms to the first byte, and more at times.
func distant(r *rand.Rand, _ abr.Ladder) []sim.Period {
	ms := between(r, 200, 600)
	return drawn(600, 1000, func() float64 { return ms * math.Exp(0.3*r.NormFloat64()) }, fading(r, 2000, 0.6*r.Float64(), between(r, 3, 60), 1))
}
