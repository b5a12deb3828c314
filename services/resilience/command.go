package resilience

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/flix-lab/flix/services"
)

// errTimeout is the cause of a context that a command's own timeout ended.
var errTimeout = errors.New("command timeout")

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
// when its context ends: Do waits for it.
//
// Errors of the guards: Unavailable with reason "timeout" or "breaker_open",
// Exhausted with reason "bulkhead_full". Errors of the function come back as
// they are.
func (c *Command[T]) Do(ctx context.Context, run func(context.Context) (T, error)) (T, error) {
	v, _, err := c.do(ctx, run)
	return v, err
}

// DoFallback is Do with a second answer: when the call fails, is late or is
// refused by a guard, fallback decides. It gets the caller's context and the
// failure; it is not called for an error that is an answer, nor when the
// caller has gone away. When it fails too, the error names both failures and
// has the kind of the first.
func (c *Command[T]) DoFallback(ctx context.Context, run func(context.Context) (T, error), fallback func(context.Context, error) (T, error)) (T, error) {
	v, o, err := c.do(ctx, run)
	if err == nil || o == answered || o == abandoned || ctx.Err() != nil {
		return v, err
	}
	fv, ferr := fallback(ctx, err)
	switch {
	case ferr == nil:
		c.c.count(fallbackSuccess)
		return fv, nil
	case isAnswer(ferr):
		c.c.count(fallbackSuccess)
		return fv, ferr
	}
	c.c.count(fallbackFailure)
	if errors.Is(ferr, err) {
		return fv, ferr
	}
	return fv, fmt.Errorf("%w; the fallback failed too: %w", err, ferr)
}

func (c *Command[T]) do(ctx context.Context, run func(context.Context) (T, error)) (v T, o outcome, err error) {
	if err := ctx.Err(); err != nil {
		return v, abandoned, services.Wrap(c.c.name, err)
	}
	guarded, err := c.c.admit()
	if err != nil {
		return v, failed, err
	}
	start := time.Now()
	o = failed // what a panic counts as
	defer func() {
		c.c.seconds.Observe(time.Since(start).Seconds())
		c.c.settle(guarded, o)
	}()

	timeout := time.Duration(c.c.timeout.Load())
	callCtx, cancel := ctx, context.CancelFunc(func() {})
	if timeout > 0 {
		callCtx, cancel = context.WithTimeoutCause(ctx, timeout, errTimeout)
	}
	defer cancel()

	v, err = run(callCtx)
	for i := 0; i < c.c.options.Retries && retryable(err) && callCtx.Err() == nil; i++ {
		v, err = run(callCtx)
	}
	cause := context.Cause(callCtx)
	o = judge(ctx, cause, err)
	if o == late && errors.Is(cause, errTimeout) {
		err = &services.Error{Op: c.c.name, Kind: services.Unavailable, Reason: ReasonTimeout, Msg: fmt.Sprintf("timed out after %s", timeout), Err: context.DeadlineExceeded}
	}
	return v, o, err
}

// retryable: only what another try, on another instance perhaps, can mend.
func retryable(err error) bool {
	return err != nil && services.KindOf(err) == services.Unavailable
}
