package resilience

import "time"

// clock counts from when its group was made. One reading costs a third of
// time.Now.
type clock struct{ base time.Time }

func newClock() clock { return clock{time.Now()} }

func (c clock) now() time.Duration { return time.Since(c.base) }

// at turns a reading into a time.
func (c clock) at(d time.Duration) time.Time { return c.base.Add(d) }

// of turns a time into a reading.
func (c clock) of(t time.Time) time.Duration { return t.Sub(c.base) }
