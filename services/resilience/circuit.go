package resilience

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/flix-lab/flix/services"
)

// Reasons of the errors a guard answers with.
const (
	// ReasonTimeout: the command ran longer than its timeout.
	ReasonTimeout = "timeout"
	// ReasonBreakerOpen: the breaker is open and the dependency was not called.
	ReasonBreakerOpen = "breaker_open"
	// ReasonBulkheadFull: too many calls run already.
	ReasonBulkheadFull = "bulkhead_full"
)

type event int

const (
	success event = iota
	failure
	timedOut
	shortCircuited
	rejected
	fallbackSuccess
	fallbackFailure
	events
)

var eventNames = [events]string{"success", "failure", "timeout", "short_circuited", "rejected", "fallback_success", "fallback_failure"}

func (e event) String() string { return eventNames[e] }

const (
	forceNone int32 = iota
	forceOpen
	forceClosed
)

var forceNames = [...]string{"", "open", "closed"}

// circuit is the part of a command that does not depend on its result type.
type circuit struct {
	name    string
	options Options
	seconds prometheus.Observer
	breaker circuitbreaker.CircuitBreaker[any]
	places  bulkhead.Bulkhead[any]

	inFlight atomic.Int64
	timeout  atomic.Int64 // time.Duration
	force    atomic.Int32
	events   [events]atomic.Uint64
}

func newCircuit(name string, o Options, seconds prometheus.Observer) *circuit {
	c := &circuit{
		name: name, options: o, seconds: seconds,
		places: bulkhead.New[any](uint(max(1, o.MaxConcurrent))),
		breaker: circuitbreaker.NewBuilder[any]().
			WithFailureRateThreshold(float64(max(1, o.BreakerErrorPercent))/100, uint(max(1, o.BreakerVolume)), 2*o.BreakerSleep).
			WithSuccessThreshold(1).
			WithDelay(o.BreakerSleep).
			Build(),
	}
	c.timeout.Store(int64(o.Timeout))
	return c
}

func (c *circuit) count(e event) { c.events[e].Add(1) }

func (c *circuit) setForce(v string) bool {
	for i, n := range forceNames {
		if n == v {
			c.force.Store(int32(i))
			return true
		}
	}
	c.force.Store(forceNone)
	return false
}

// admit takes a place in the bulkhead and a permit of the breaker, or says
// which of them refused. The bulkhead comes first: a permit of a half-open
// breaker that is then not used would have to be given back as a result.
func (c *circuit) admit() (guarded bool, err error) {
	force := c.force.Load()
	if force == forceOpen {
		c.count(shortCircuited)
		return false, c.refuse(services.Unavailable, ReasonBreakerOpen, "the breaker is forced open").
			WithRemedy("unset the property command.%s.force", c.name)
	}
	if !c.places.TryAcquirePermit() {
		c.count(rejected)
		return false, c.refuse(services.Exhausted, ReasonBulkheadFull, "too many calls run already").
			WithRemedy("try again in a moment")
	}
	if force == forceClosed {
		c.inFlight.Add(1)
		return false, nil
	}
	if !c.breaker.TryAcquirePermit() {
		c.places.ReleasePermit()
		c.count(shortCircuited)
		return false, c.refuse(services.Unavailable, ReasonBreakerOpen, "the breaker is open after repeated failures").
			WithRemedy("try again in %s", c.options.BreakerSleep)
	}
	c.inFlight.Add(1)
	return true, nil
}

func (c *circuit) refuse(kind services.Kind, reason, msg string) *services.Error {
	return &services.Error{Op: c.name, Kind: kind, Reason: reason, Msg: msg}
}

// outcome of one call, as breaker and metrics see it.
type outcome int

const (
	answered outcome = iota // a result, or an error that is an answer
	failed
	late
	abandoned // the caller went away: no verdict on the dependency
)

// settle gives back what admit took and records the outcome.
func (c *circuit) settle(guarded bool, o outcome) {
	c.inFlight.Add(-1)
	c.places.ReleasePermit()
	switch o {
	case answered:
		c.count(success)
	case failed:
		c.count(failure)
	case late:
		c.count(timedOut)
	}
	if !guarded {
		return
	}
	switch {
	case o == answered:
		c.breaker.RecordSuccess()
	case o == failed, o == late:
		c.breaker.RecordFailure()
	case c.breaker.IsHalfOpen():
		// The abandoned call may have been the probe. Its permit comes back
		// only with a verdict, so the breaker opens again and probes later.
		c.breaker.RecordFailure()
	}
}

// judge classifies the error of a call. ctx is the caller's, cause what ended
// the call's own context.
func judge(ctx context.Context, cause, err error) outcome {
	switch {
	case err == nil, isAnswer(err):
		return answered
	case errors.Is(cause, errTimeout), errors.Is(ctx.Err(), context.DeadlineExceeded):
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

func (c *circuit) state() State {
	s := State{
		Name: c.name, Forced: forceNames[c.force.Load()], InFlight: int(c.inFlight.Load()),
		WindowCalls: c.breaker.Metrics().Executions(), WindowFailures: c.breaker.Metrics().Failures(),
		Events: make(map[string]uint64, events),
	}
	switch c.breaker.State() {
	case circuitbreaker.OpenState:
		s.Breaker = "open"
	case circuitbreaker.HalfOpenState:
		s.Breaker = "half_open"
	default:
		s.Breaker = "closed"
	}
	for i := range c.events {
		s.Events[event(i).String()] = c.events[i].Load()
	}
	return s
}
