package limit

import "time"

// aimd grows by one while calls use half of the limit, and falls to 0.9 of it
// when one is dropped or takes five seconds (AIMDLimit of concurrency-limits).
type aimd struct{ limit, min, max float64 }

// aimdTimeout counts as dropped, whatever the answer was.
const aimdTimeout = float64(5 * time.Second)

func newAIMD(c Config) *aimd {
	return &aimd{limit: float64(c.Initial), min: float64(c.Min), max: float64(c.Max)}
}

func (a *aimd) update(rtt float64, inFlight int64, dropped bool) int64 {
	switch {
	case dropped || rtt > aimdTimeout:
		a.limit = max(a.min, a.limit*dropFactor)
	case float64(2*inFlight) >= a.limit:
		a.limit = min(a.max, a.limit+1)
	}
	return int64(a.limit)
}
