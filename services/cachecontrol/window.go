package cachecontrol

import (
	"time"

	"github.com/flix-lab/flix/topology"
)

// windowOpen says whether fills may run at the local wall time of now: for
// timing.FillWindow from FillWindowStart each day, over midnight if need be.
func windowOpen(t topology.Timing, now time.Time) bool {
	const day = 24 * time.Hour
	length := t.FillWindow.D()
	if length >= day {
		return true
	}
	h, m, s := now.Clock()
	at := time.Duration(h)*time.Hour + time.Duration(m)*time.Minute + time.Duration(s)*time.Second + time.Duration(now.Nanosecond())
	since := (at - t.FillWindowStart.D()%day + day) % day
	return since < length
}
