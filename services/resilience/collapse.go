package resilience

import (
	"cmp"
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flix-lab/flix/services"
)

// Hystrix's defaults (HystrixCollapserProperties).
const defaultCollapseDelay = 10 * time.Millisecond

// CollapserOptions of a collapser.
type CollapserOptions struct {
	// Options of the command that asks for a batch.
	Options
	// Delay is how long the first key waits for others; 10 ms by default.
	Delay time.Duration
	// MaxBatch keys are asked for at once without waiting longer; no bound by
	// default.
	MaxBatch int
}

// Collapser makes one call of many that come at about the same time, from any
// request. It is safe for concurrent use.
type Collapser[K comparable, V any] struct {
	cmd *Command[map[K]V]
	ask func(context.Context, []K) (map[K]V, error)
	c   *collapses

	mu   sync.Mutex
	next *batch[K, V]
}

// collapses is the part of a collapser that does not depend on its types.
type collapses struct {
	name     string
	delay    time.Duration
	maxBatch int
	clock    clock
	window   *collapseWindow
	sizes    *distribution
}

// batch is keys that are asked for together.
type batch[K comparable, V any] struct {
	keys    []K
	known   map[K]struct{}
	callers atomic.Int64
	full    chan struct{} // closed when it need not wait longer
	done    chan struct{} // closed when the rest is set
	cancel  context.CancelFunc
	values  map[K]V
	err     error
}

// NewCollapser makes a collapser whose batches are the command of that name. ask
// returns what it has: a key that is not in the map is NotFound for its callers.
// The keys it gets differ from one another.
func NewCollapser[K comparable, V any](g *Group, name string, o CollapserOptions, ask func(context.Context, []K) (map[K]V, error)) *Collapser[K, V] {
	cmd := New[map[K]V](g, name, o.Options)
	return &Collapser[K, V]{cmd: cmd, ask: ask, c: g.collapser(name, o, cmd.c.options.Window)}
}

func (g *Group) collapser(name string, o CollapserOptions, span time.Duration) *collapses {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := &collapses{
		name: name, delay: cmp.Or(o.Delay, defaultCollapseDelay), maxBatch: cmp.Or(o.MaxBatch, math.MaxInt32), clock: g.clock,
		window: newCollapseWindow(span), sizes: newDistribution(timeWindows*span, timeBuckets),
	}
	g.collapsers[name] = c
	return c
}

// Do asks for one key. A caller that goes away leaves its batch to the others;
// the last one takes it along.
func (c *Collapser[K, V]) Do(ctx context.Context, key K) (V, error) {
	var none V
	if err := ctx.Err(); err != nil {
		return none, services.Wrap(c.c.name, err)
	}
	b := c.join(ctx, key)
	select {
	case <-b.done:
	case <-ctx.Done():
		if b.callers.Add(-1) == 0 {
			b.cancel()
		}
		return none, services.Wrap(c.c.name, ctx.Err())
	}
	if b.err != nil {
		return none, b.err
	}
	v, ok := b.values[key]
	if !ok {
		return none, services.Errorf(services.NotFound, "%s: there is no %v", c.c.name, key)
	}
	return v, nil
}

// join adds a key to the batch that waits, or begins one.
func (c *Collapser[K, V]) join(ctx context.Context, key K) *batch[K, V] {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.next
	// One whose callers have all left is about to end without an answer.
	if b == nil || b.callers.Add(1) == 1 {
		// What the first caller carries (its trace) goes along; its end does not.
		bctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		b = &batch[K, V]{known: map[K]struct{}{}, full: make(chan struct{}), done: make(chan struct{}), cancel: cancel}
		b.callers.Store(1)
		c.next = b
		c.cmd.c.g.running.Go(func() { c.run(bctx, b) })
	}
	if _, ok := b.known[key]; !ok {
		b.known[key] = struct{}{}
		b.keys = append(b.keys, key)
		c.c.window.at(c.c.clock.now()).added.Add(1)
	} else {
		c.c.window.at(c.c.clock.now()).cached.Add(1)
	}
	if len(b.keys) >= c.c.maxBatch {
		c.next = nil
		close(b.full)
	}
	return b
}

// run waits for the batch's other keys and asks for all.
func (c *Collapser[K, V]) run(ctx context.Context, b *batch[K, V]) {
	defer b.cancel()
	timer := time.NewTimer(c.c.delay)
	defer timer.Stop()
	select {
	case <-b.full:
	case <-timer.C:
	case <-ctx.Done():
	}
	c.mu.Lock()
	if c.next == b {
		c.next = nil
	}
	c.mu.Unlock()
	defer close(b.done)
	defer func() {
		if p := recover(); p != nil {
			b.err = services.Errorf(services.Internal, "%s panicked: %v", c.c.name, p)
		}
	}()
	now := c.c.clock.now()
	c.c.window.at(now).batches.Add(1)
	c.c.sizes.add(now, int64(len(b.keys)))
	for range b.keys {
		c.cmd.c.count(now, collapsed)
	}
	b.values, b.err = c.cmd.Do(ctx, func(ctx context.Context) (map[K]V, error) { return c.ask(ctx, b.keys) })
}

// collapseWindow counts what a collapser did over a rolling time.
type collapseWindow struct {
	width   time.Duration
	mu      sync.Mutex
	buckets [windowBuckets]collapseBucket
}

type collapseBucket struct {
	number                 atomic.Int64
	added, batches, cached atomic.Int64
}

func newCollapseWindow(d time.Duration) *collapseWindow {
	return &collapseWindow{width: max(1, d/windowBuckets)}
}

func (w *collapseWindow) at(now time.Duration) *collapseBucket {
	n := int64(now/w.width) + 1
	b := &w.buckets[n%windowBuckets]
	if b.number.Load() != n {
		w.mu.Lock()
		defer w.mu.Unlock()
		if b.number.Load() < n {
			b.added.Store(0)
			b.batches.Store(0)
			b.cached.Store(0)
			b.number.Store(n)
		}
	}
	return b
}

func (w *collapseWindow) sums(now time.Duration) (added, batches, cached int64) {
	n := int64(now/w.width) + 1
	for i := range w.buckets {
		b := &w.buckets[i]
		if k := b.number.Load(); k > n-windowBuckets && k <= n {
			added, batches, cached = added+b.added.Load(), batches+b.batches.Load(), cached+b.cached.Load()
		}
	}
	return added, batches, cached
}
