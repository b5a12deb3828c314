package oca

import (
	"context"
	"sync/atomic"

	"golang.org/x/time/rate"

	"github.com/flix-lab/flix/topology"
)

// chunk is what passes a bucket at once at the least.
const chunk = 64 << 10

// bucket limits bytes per second; without a rate it is free. Safe for
// concurrent use.
type bucket struct{ l atomic.Pointer[rate.Limiter] }

// set changes the rate; zero lifts the limit.
func (b *bucket) set(r topology.Rate) {
	if r <= 0 {
		b.l.Store(nil)
		return
	}
	perSecond := r.BytesPerSecond()
	// Twenty milliseconds' worth may go at once, and a chunk at least.
	b.l.Store(rate.NewLimiter(rate.Limit(perSecond), max(chunk, int(perSecond/50))))
}

// Quantum implements wire.Pacer: what may go at once, zero without a limit.
func (b *bucket) Quantum() int64 {
	if l := b.l.Load(); l != nil {
		return int64(l.Burst())
	}
	return 0
}

// Wait implements wire.Pacer. A limit that was lowered meanwhile takes n in
// parts.
func (b *bucket) Wait(ctx context.Context, n int64) error {
	for n > 0 {
		l := b.l.Load()
		if l == nil {
			return nil
		}
		part := min(n, int64(l.Burst()))
		if err := l.WaitN(ctx, int(part)); err != nil {
			return err
		}
		n -= part
	}
	return nil
}

// wait lets n bytes pass, at most a chunk.
func (b *bucket) wait(ctx context.Context, n int) error {
	if l := b.l.Load(); l != nil {
		return l.WaitN(ctx, n)
	}
	return nil
}
