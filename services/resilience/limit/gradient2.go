package limit

// gradient2 compares the time of calls now with their mean over a long while:
// gradient = tolerance × long ÷ short, within 0.5 and 1; the limit goes to
// limit × gradient + queue, smoothed (Gradient2Limit of concurrency-limits).
type gradient2 struct {
	estimate, min, max float64
	long               average
}

const (
	gradientQueue     = 4
	gradientSmoothing = 0.2
	gradientTolerance = 1.5
	gradientLeast     = 0.5
	longWindow        = 600
	longWarmUp        = 10
	// dropFactor is what is left of the limit after a window with a dropped
	// call; AIMD's.
	dropFactor = 0.9
)

func newGradient2(c Config) *gradient2 {
	return &gradient2{estimate: float64(c.Initial), min: float64(c.Min), max: float64(c.Max), long: average{window: longWindow, warmUp: longWarmUp}}
}

func (g *gradient2) update(rtt float64, inFlight int64, dropped bool) int64 {
	long := g.long.add(rtt)
	if long > 2*rtt {
		// It was slow for long and is well again: do not wait for the mean.
		g.long.value *= 0.95
	}
	switch {
	case dropped:
		// Calls that all time out take the same time: the gradient would be 1.
		g.estimate = max(g.min, g.estimate*dropFactor)
	case float64(inFlight) >= g.estimate/2:
		gradient := max(gradientLeast, min(1, gradientTolerance*long/rtt))
		next := g.estimate*gradient + gradientQueue
		next = g.estimate*(1-gradientSmoothing) + next*gradientSmoothing
		g.estimate = max(g.min, min(g.max, next))
	}
	return int64(g.estimate)
}

// average is an exponential mean that is an arithmetic one while it warms up.
type average struct {
	window, warmUp int
	count          int
	sum, value     float64
}

func (a *average) add(x float64) float64 {
	if a.count < a.warmUp {
		a.count++
		a.sum += x
		a.value = a.sum / float64(a.count)
		return a.value
	}
	f := 2 / float64(a.window+1)
	a.value = a.value*(1-f) + x*f
	return a.value
}
