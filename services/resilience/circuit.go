package resilience

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/resilience/limit"
)

// Reasons of the errors a guard answers with.
const (
	// ReasonTimeout: the command ran longer than its timeout.
	ReasonTimeout = "timeout"
	// ReasonBreakerOpen: the breaker is open and the dependency was not called.
	ReasonBreakerOpen = "breaker_open"
	// ReasonBulkheadFull: too many calls run already.
	ReasonBulkheadFull = "bulkhead_full"
	// ReasonLimit: more calls run than the dependency takes now.
	ReasonLimit = "concurrency_limit"
	// ReasonPoolFull: every place of the group's pool is taken.
	ReasonPoolFull = "pool_full"
	// ReasonFallbacksFull: too many fallbacks run already.
	ReasonFallbacksFull = "fallbacks_full"
)

// errTimeout is the cause of a context that a command's own timeout ended.
var errTimeout = errors.New("command timeout")

// circuit is the part of a command that does not depend on its result type.
type circuit struct {
	name    string
	options Options
	g       *Group
	clock   clock
	pool    *pool

	settings atomic.Pointer[settings]
	breaker  *breaker
	limiter  atomic.Pointer[limit.Limiter]

	inFlight  atomic.Int64
	fallbacks atomic.Int64
	apart     atomic.Bool // its calls run in the pool

	window *window
	// run and total are the times of calls in microseconds, without and with
	// their fallback.
	run, total *distribution
	seconds    seconds
	events     [events]atomic.Uint64
}

func newCircuit(g *Group, name string, o Options, p *pool) *circuit {
	return &circuit{
		name: name, options: o, g: g, clock: g.clock, pool: p, breaker: newBreaker(),
		window: newWindow(o.Window, windowBuckets),
		run:    newDistribution(timeWindows*o.Window, timeBuckets),
		total:  newDistribution(timeWindows*o.Window, timeBuckets),
	}
}

func (c *circuit) count(now time.Duration, e event) {
	c.events[e].Add(1)
	c.window.at(now).counts[e].Add(1)
}

// pass is what admit took: settle gives it back.
type pass struct {
	start   time.Duration
	flying  int64  // calls under way, this one included
	round   uint64 // of probes; 0 is none
	limiter *limit.Limiter
	ticket  limit.Ticket
}

// admit takes a place in the bulkhead and in the adaptive limit, and a permit
// of the breaker, or says which of them refused. The breaker comes last: a
// probe's permit that is then not used would have to be given back.
func (c *circuit) admit(s *settings, now time.Duration) (p pass, err error) {
	if s.forceOpen {
		c.count(now, shortCircuited)
		return p, c.refuse(services.Unavailable, ReasonBreakerOpen, "the breaker is forced open").
			WithRemedy("unset the property %s%s.%s", Prefix, c.name, ForceOpen)
	}
	p.start = now
	if p.flying = c.inFlight.Add(1); p.flying > s.maxConcurrent {
		c.inFlight.Add(-1)
		c.turnedAway(now, s)
		return p, c.refuse(services.Exhausted, ReasonBulkheadFull, "too many calls run already").
			WithRemedy("try again in a moment")
	}
	if l := c.limiter.Load(); l != nil {
		var ok bool
		if p.ticket, ok = l.Acquire(); !ok {
			c.inFlight.Add(-1)
			c.turnedAway(now, s)
			return p, c.refuse(services.Exhausted, ReasonLimit, "more calls run than the dependency takes now").
				WithRemedy("try again in a moment")
		}
		p.limiter = l
	}
	if s.breakerOff || s.forceClosed {
		return p, nil
	}
	var ok bool
	if p.round, ok = c.breaker.allow(now, s); !ok {
		c.inFlight.Add(-1)
		if p.limiter != nil {
			p.limiter.Release(p.ticket, now, 0, limit.Ignored)
		}
		c.count(now, shortCircuited)
		return p, c.refuse(services.Unavailable, ReasonBreakerOpen, "the breaker is open after repeated failures").
			WithRemedy("try again in %s", s.sleep)
	}
	return p, nil
}

// turnedAway counts a refusal by the bulkhead. It counts against health too,
// as in Hystrix: a dependency that fills its bulkhead is not well.
func (c *circuit) turnedAway(now time.Duration, s *settings) {
	c.count(now, semaphoreRejected)
	if !s.forceClosed && !s.breakerOff {
		c.bad(now, s)
	}
}

func (c *circuit) bad(now time.Duration, s *settings) {
	c.window.at(now).bad.Add(1)
	c.breaker.lastBad.Store(int64(now))
	c.breaker.judge(now, c.window, s)
}

func (c *circuit) refuse(kind services.Kind, reason, msg string) *services.Error {
	return &services.Error{Op: c.name, Kind: kind, Reason: reason, Msg: msg}
}

// outcome of one call, as breaker and metrics see it.
type outcome int

const (
	answered  outcome = iota
	declined          // an error that is an answer
	failed            //
	late              // timed out
	poolFull          // the pool had no place
	abandoned         // the caller went away: no verdict on the dependency
	refused           // a guard let nobody through; admit has counted it
)

var outcomeEvents = [...]event{answered: success, declined: badRequest, failed: failure, late: timedOut, poolFull: threadPoolRejected, abandoned: cancelled}

// settle gives back what admit took, records the outcome and returns the time
// it all took.
func (c *circuit) settle(s *settings, p pass, o outcome) (now time.Duration) {
	now = c.clock.now()
	took := now - p.start
	c.inFlight.Add(-1)
	if p.limiter != nil {
		p.limiter.Release(p.ticket, now, took, limitOutcomes[o])
	}
	e := outcomeEvents[o]
	c.events[e].Add(1)
	b := c.window.at(now)
	b.counts[e].Add(1)
	if p.flying > b.most.Load() {
		raise(&b.most, p.flying)
	}
	if o != poolFull {
		us := micros(took)
		c.run.add(now, us)
		c.seconds.add(took)
		switch o {
		case answered, declined, abandoned: // what else is over when its fallback is
			c.total.add(now, us)
		}
	}
	if s.breakerOff || s.forceClosed {
		return now // what happens while it is held closed must not open it after
	}
	switch o {
	case answered:
		b.good.Add(1)
		if c.breaker.failedWithin(c.window.span(), now) {
			c.breaker.judge(now, c.window, s)
		}
	case failed, late, poolFull:
		c.bad(now, s)
	}
	if p.round > 0 && c.breaker.probed(p.round, o == answered || o == declined, now, s) {
		c.window.forgive()
	}
	return now
}

var limitOutcomes = [...]limit.Outcome{answered: limit.Done, declined: limit.Done, failed: limit.Ignored, late: limit.Dropped, poolFull: limit.Dropped, abandoned: limit.Ignored}

// judge classifies the error of a call that ended at now. ctx is the caller's.
func (c *circuit) judge(ctx context.Context, s *settings, start time.Duration, err error) outcome {
	switch {
	case err == nil:
		return answered
	case isAnswer(err):
		return declined
	case errors.Is(err, errPoolFull):
		return poolFull
	case errors.Is(ctx.Err(), context.DeadlineExceeded), s.bounded() && c.clock.now() >= start+s.timeout:
		return late
	case ctx.Err() != nil:
		return abandoned
	}
	return failed
}

// isAnswer tells the dependency's considered refusals from its failures.
func isAnswer(err error) bool {
	switch services.KindOf(err) {
	case services.Invalid, services.NotFound, services.Denied, services.Conflict:
		return true
	}
	return false
}
