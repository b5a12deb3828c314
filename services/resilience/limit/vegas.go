package limit

import (
	"math"
	"math/rand/v2"
)

// vegas estimates the queue at the dependency, as TCP Vegas does:
// limit × (1 − least time ÷ time now). Below a threshold it grows fast, up to
// alpha slowly, above beta it shrinks; all three follow the logarithm of the
// limit (VegasLimit of concurrency-limits).
type vegas struct {
	estimate, min, max float64
	noLoad             float64 // least time seen since the last probe
	probe              int
	jitter             float64
}

// probeEvery windows, times the limit, with jitter, the least time is measured
// anew: what it was before may never come back.
const probeEvery = 30

func newVegas(c Config) *vegas {
	v := &vegas{estimate: float64(c.Initial), min: float64(c.Min), max: float64(c.Max)}
	v.rejitter()
	return v
}

func (v *vegas) rejitter() { v.jitter = 0.5 + rand.Float64()/2 }

func (v *vegas) update(rtt float64, inFlight int64, dropped bool) int64 {
	v.probe++
	if v.jitter*probeEvery*v.estimate <= float64(v.probe) {
		v.rejitter()
		v.probe, v.noLoad = 0, rtt
		return int64(v.estimate)
	}
	if !dropped && (v.noLoad == 0 || rtt < v.noLoad) {
		v.noLoad = rtt
		return int64(v.estimate)
	}
	log := root(v.estimate)
	queue := 0.0
	if v.noLoad > 0 {
		queue = math.Ceil(v.estimate * (1 - v.noLoad/rtt))
	}
	next := v.estimate
	switch {
	case dropped:
		next -= log
	case float64(2*inFlight) < v.estimate: // not close to the limit: no drift
	case queue <= log:
		next += 6 * log
	case queue < 3*log:
		next += log
	case queue > 6*log:
		next -= log
	}
	v.estimate = max(v.min, min(v.max, next))
	return int64(v.estimate)
}

// root is the step of the limit: its decimal logarithm, at least 1.
func root(limit float64) float64 { return max(1, math.Floor(math.Log10(limit))) }
