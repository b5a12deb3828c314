package resilience

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// callContext bounds a call by a time. Most functions that end in time never
// ask when: it makes a real context, with timer and channel, only for one that
// does, and is otherwise used again by the next call.
type callContext struct {
	parent context.Context
	clock  clock
	end    time.Duration

	mu     sync.Mutex // held while the real context is made
	real   atomic.Pointer[context.Context]
	cancel context.CancelFunc
}

var _ context.Context = (*callContext)(nil)

// Deadline implements context.Context.
func (c *callContext) Deadline() (time.Time, bool) { return c.clock.at(c.end), true }

// Done implements context.Context.
func (c *callContext) Done() <-chan struct{} { return c.made().Done() }

// Err implements context.Context.
func (c *callContext) Err() error {
	if r := c.real.Load(); r != nil {
		return (*r).Err()
	}
	if err := c.parent.Err(); err != nil {
		return err
	}
	if c.clock.now() >= c.end {
		return context.DeadlineExceeded
	}
	return nil
}

// Value implements context.Context.
func (c *callContext) Value(key any) any {
	if r := c.real.Load(); r != nil {
		return (*r).Value(key)
	}
	return c.parent.Value(key)
}

func (c *callContext) made() context.Context {
	if r := c.real.Load(); r != nil {
		return *r
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.real.Load(); r != nil {
		return *r
	}
	ctx, cancel := context.WithDeadlineCause(c.parent, c.clock.at(c.end), errTimeout)
	c.cancel = cancel
	c.real.Store(&ctx)
	return ctx
}

// contexts are callContexts that nobody has.
type contexts struct {
	pool sync.Pool
	over context.Context // ended: whoever asks after the end hears that it is
}

func (p *contexts) init() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	p.over = ctx
	p.pool.New = func() any { return new(callContext) }
}

func (p *contexts) begin(parent context.Context, c clock, end time.Duration) *callContext {
	cc := p.pool.Get().(*callContext)
	cc.parent, cc.clock, cc.end = parent, c, end
	return cc
}

// finish ends a context. One that was asked for its channel may still be held
// by whoever asked, so it ends as every context does and is not used again.
func (p *contexts) finish(c *callContext) {
	if c.real.Load() != nil {
		c.cancel()
		return
	}
	c.parent = p.over
	p.pool.Put(c)
}
