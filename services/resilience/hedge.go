package resilience

import (
	"context"
	"time"
)

// Hedges may add a tenth to the calls of a window, and always a few; the
// percentile they wait for needs some calls to be known.
const (
	hedgeShare      = 10
	hedgeFloor      = 3
	hedgePercentile = 95
	hedgeSamples    = 20
)

// DoHedged is DoFallback for a call that may be made twice without harm: when
// the first is not answered after the hedge's delay, a second is made beside
// it, and the first answer of either counts. The other's context ends, and
// DoHedged waits for it.
func (c *Command[T]) DoHedged(ctx context.Context, run func(context.Context) (T, error), fallbacks ...func(context.Context, error) (T, error)) (T, error) {
	return c.DoFallback(ctx, func(ctx context.Context) (T, error) {
		delay, ok := c.c.hedgeAfter()
		if !ok {
			return run(ctx)
		}
		return hedge(ctx, c.c, delay, run)
	}, fallbacks...)
}

// hedgeAfter is how long to wait before the second call; false is for ever.
func (c *circuit) hedgeAfter() (time.Duration, bool) {
	s := c.settings.Load()
	switch {
	case s.hedgeOff:
		return 0, false
	case s.hedgeDelay > 0:
		return s.hedgeDelay, true
	}
	times := c.run.spread(c.clock.now())
	if times.total < hedgeSamples {
		return 0, false
	}
	return time.Duration(times.percentile(hedgePercentile)) * time.Microsecond, true
}

func (c *circuit) mayHedge() bool {
	now := c.clock.now()
	sum := c.window.sums(now)
	if calls := sum.counts[success] + sum.counts[failure] + sum.counts[timedOut]; sum.counts[hedged] >= hedgeFloor+calls/hedgeShare {
		return false
	}
	c.count(now, hedged)
	return true
}

func hedge[T any](ctx context.Context, c *circuit, delay time.Duration, run func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan apartResult[T], 2)
	begin := func() {
		go func() {
			var r apartResult[T]
			defer func() {
				r.panic = recover()
				results <- r
			}()
			r.v, r.err = run(ctx)
		}()
	}
	begin()
	begun, ended := 1, 0
	defer func() { // the loser is waited for, whatever the winner did
		cancel()
		for ; ended < begun; ended++ {
			<-results
		}
	}()
	timer := time.NewTimer(delay)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			if c.mayHedge() {
				begun++
				begin()
			}
		case r := <-results:
			ended++
			if r.panic != nil {
				panic(r.panic)
			}
			if r.err == nil || isAnswer(r.err) || ended == begun {
				return r.v, r.err
			}
		}
	}
}
