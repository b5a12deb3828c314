package resilience

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/flix-lab/flix/services"
)

// Command guards the calls of one kind to one dependency. It is safe for
// concurrent use.
type Command[T any] struct{ c *circuit }

// New makes a command of the group. Zero fields of o take the group's
// defaults. Two commands of one name share breaker, bulkhead and metrics, with
// the options of the first.
func New[T any](g *Group, name string, o Options) *Command[T] {
	return &Command[T]{c: g.circuit(name, o)}
}

// Do runs the function under the command's guards. The function must return
// when its context ends: Do waits for it. The context is the function's while
// it runs; whoever keeps it to ask later, without having asked for its channel
// before, may hear of another call.
//
// Errors of the guards: Unavailable with reason "timeout" or "breaker_open",
// Exhausted with reason "bulkhead_full" or "concurrency_limit". Errors of the
// function come back as they are.
func (c *Command[T]) Do(ctx context.Context, run func(context.Context) (T, error)) (T, error) {
	v, d, err := c.do(ctx, run)
	if err != nil && d.mayFallBack(ctx) {
		c.c.count(d.end, fallbackMissing)
		c.c.total.add(d.end, micros(d.end-d.start))
	}
	return v, err
}

// DoFallback is Do with further answers: when the call fails, is late or is
// refused by a guard, the fallbacks are tried in order, a stale copy before
// something static. They get the caller's context and the failure; they are
// not tried for an error that is an answer, nor when the caller has gone away.
// When the last fails too, the error names both failures and has the kind of
// the first.
func (c *Command[T]) DoFallback(ctx context.Context, run func(context.Context) (T, error), fallbacks ...func(context.Context, error) (T, error)) (T, error) {
	v, d, err := c.do(ctx, run)
	if err == nil || !d.mayFallBack(ctx) {
		return v, err
	}
	k := c.c
	s := k.settings.Load()
	if s.fallbackOff || len(fallbacks) == 0 {
		e := fallbackDisabled
		if len(fallbacks) == 0 {
			e = fallbackMissing
		}
		k.count(d.end, e)
		k.total.add(d.end, micros(d.end-d.start))
		return v, err
	}
	if k.fallbacks.Add(1) > s.maxFallbacks {
		k.fallbacks.Add(-1)
		k.count(d.end, fallbackRejection)
		k.total.add(d.end, micros(d.end-d.start))
		return v, fmt.Errorf("%w; %w", err, k.refuse(services.Exhausted, ReasonFallbacksFull, "too many fallbacks run already"))
	}
	defer k.fallbacks.Add(-1)
	var ferr error
	for _, f := range fallbacks {
		if v, ferr = f(ctx, err); ferr == nil || isAnswer(ferr) {
			break
		}
	}
	ended := k.clock.now()
	k.total.add(ended, micros(ended-d.start))
	switch {
	case ferr == nil || isAnswer(ferr):
		k.count(ended, fallbackSuccess)
		return v, ferr
	case errors.Is(ferr, err):
		k.count(ended, fallbackFailure)
		return v, ferr
	}
	k.count(ended, fallbackFailure)
	return v, fmt.Errorf("%w; the fallback failed too: %w", err, ferr)
}

// done is how a call ended.
type done struct {
	outcome    outcome
	start, end time.Duration
}

func micros(d time.Duration) int64 { return int64(d / time.Microsecond) }

// mayFallBack says that the caller is still there and has got no answer.
func (d done) mayFallBack(ctx context.Context) bool {
	switch d.outcome {
	case answered, declined, abandoned:
		return false
	}
	return ctx.Err() == nil
}

func (c *Command[T]) do(ctx context.Context, run func(context.Context) (T, error)) (v T, d done, err error) {
	k := c.c
	now := k.clock.now()
	d = done{start: now, end: now}
	if err := ctx.Err(); err != nil {
		d.outcome = abandoned
		return v, d, services.Wrap(k.name, err)
	}
	s := k.settings.Load()
	p, err := k.admit(s, now)
	if err != nil {
		d.outcome = refused
		return v, d, err
	}
	callCtx := ctx
	var own *callContext
	if s.bounded() {
		end := now + s.timeout
		if t, ok := ctx.Deadline(); !ok || k.clock.of(t) > end {
			own = k.g.contexts.begin(ctx, k.clock, end)
			callCtx = own
		}
	}
	d.outcome = failed // what a panic counts as
	defer func() {
		if own != nil {
			k.g.contexts.finish(own)
		}
		d.end = k.settle(s, p, d.outcome)
	}()

	v, err = run(callCtx)
	for i := 0; i < s.retries && retryable(err) && callCtx.Err() == nil && k.mayRetry(); i++ {
		v, err = run(callCtx)
	}
	d.outcome = k.judge(ctx, s, p.start, err)
	if d.outcome == late && own != nil && ctx.Err() == nil {
		err = &services.Error{Op: k.name, Kind: services.Unavailable, Reason: ReasonTimeout, Msg: fmt.Sprintf("timed out after %s", s.timeout), Err: context.DeadlineExceeded}
	}
	return v, d, err
}

// retryable: only what another try, on another instance perhaps, can mend.
func retryable(err error) bool {
	return err != nil && services.KindOf(err) == services.Unavailable
}

// Retries may add a fifth to the calls of a window, and always a few: a
// dependency that fails must not be asked twice as much for it.
const (
	retryShare = 5
	retryFloor = 10
)

func (c *circuit) mayRetry() bool {
	now := c.clock.now()
	sum := c.window.sums(now)
	calls := sum.counts[success] + sum.counts[failure] + sum.counts[timedOut] + sum.counts[badRequest]
	if sum.counts[retried] >= retryFloor+calls/retryShare {
		return false
	}
	c.count(now, retried)
	return true
}
