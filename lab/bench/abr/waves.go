package main

import (
	"math"
	"math/rand/v2"

	"github.com/flix-lab/flix/lab/player/abr"
	"github.com/flix-lab/flix/lab/player/abr/sim"
)

// waves are networks that change within a transfer, again and again: what a second
// shows says little of a segment.
func waves() []family {
	return []family{
		{name: "square", movie: movie(film, 6, 600, 0.15), bufferS: []float64{60, 25}, trace: square},
		{name: "bursts", movie: movie(film, 10, 600, 0.15), bufferS: []float64{120}, trace: bursts},
	}
}

// square: some seconds fast, as many slow.
func square(r *rand.Rand, _ abr.Ladder) []sim.Period {
	half := math.Round(between(r, 1000, 12000))
	return []sim.Period{
		{DurationMS: half, BandwidthKbps: math.Round(between(r, 2000, 8000)), LatencyMS: 50},
		{DurationMS: half, BandwidthKbps: math.Round(between(r, 250, 1500)), LatencyMS: 50},
	}
}

// bursts: slow, and now and then for a moment many times as fast.
func bursts(r *rand.Rand, _ abr.Ladder) []sim.Period {
	base, times := between(r, 400, 1500), between(r, 3, 12)
	var out []sim.Period
	for range 40 {
		out = append(out,
			sim.Period{DurationMS: math.Round(between(r, 2000, 30000)), BandwidthKbps: math.Round(base), LatencyMS: 50},
			sim.Period{DurationMS: math.Round(between(r, 200, 3000)), BandwidthKbps: math.Round(base * times), LatencyMS: 50})
	}
	return out
}
