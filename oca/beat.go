package oca

import "time"

// coarsest is the widest grid that beats fall on.
const coarsest = time.Second

// untilBeat is how long it is until something regular is done again: about
// every after now, at least half and at most one and a half of it. Beats fall
// on a grid of the clock, so that the appliances of one machine wake it, and
// report to cache control, together; the grid is of a second at most, so that
// those of a planet whose interval is minutes still spread over it.
func untilBeat(now time.Time, every time.Duration) time.Duration {
	grid := min(every, coarsest)
	wait := now.Add(every).Truncate(grid).Sub(now)
	if wait < every/2 { // e.g. a clock that was set back a little
		wait += grid
	}
	return wait
}
