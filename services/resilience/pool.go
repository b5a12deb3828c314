package resilience

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/failsafe-go/failsafe-go/bulkhead"

	"github.com/flix-lab/flix/services"
)

// pool is the goroutines of one group that DoApart runs calls on. A call that
// its caller gave up keeps its place until it ends: that is what bounds the
// harm of a function that does not heed its context.
type pool struct {
	name   string
	size   int
	places bulkhead.Bulkhead[any]

	active, largest atomic.Int64
	completed       atomic.Uint64
}

func newPool(name string, size int) *pool {
	return &pool{name: name, size: size, places: bulkhead.New[any](uint(max(1, size)))}
}

// errPoolFull marks the refusal of a pool among the errors of a call.
var errPoolFull = services.Errorf(services.Exhausted, "every place of the pool is taken").WithReason(ReasonPoolFull).WithRemedy("try again in a moment")

// DoApart is DoFallback for a function that may not return when its context
// ends: it runs on a goroutine of the group's pool, and a caller whose time is
// over leaves without it. Refused by a full pool, the error has the reason
// "pool_full".
func (c *Command[T]) DoApart(ctx context.Context, run func(context.Context) (T, error), fallbacks ...func(context.Context, error) (T, error)) (T, error) {
	return c.DoFallback(ctx, func(ctx context.Context) (T, error) { return apart(ctx, c.c, run) }, fallbacks...)
}

type apartResult[T any] struct {
	v     T
	err   error
	panic any
}

func apart[T any](ctx context.Context, c *circuit, run func(context.Context) (T, error)) (T, error) {
	p := c.pool
	if !c.apart.Load() {
		c.apart.Store(true)
	}
	if !p.places.TryAcquirePermit() {
		var none T
		return none, errPoolFull
	}
	raise(&p.largest, p.active.Add(1))
	result := make(chan apartResult[T], 1)
	c.g.running.Go(func() {
		var r apartResult[T]
		defer func() {
			if r.panic = recover(); r.panic != nil {
				r.err = services.Errorf(services.Internal, "%s panicked: %v", c.name, r.panic)
			}
			p.active.Add(-1)
			p.completed.Add(1)
			p.places.ReleasePermit()
			result <- r
		}()
		r.v, r.err = run(ctx)
	})
	select {
	case r := <-result:
		if r.panic != nil {
			panic(fmt.Sprintf("%s: %v", c.name, r.panic)) // the caller's, as without a pool
		}
		return r.v, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}
