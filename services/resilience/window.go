package resilience

import (
	"sync"
	"sync/atomic"
	"time"
)

// window counts events over a rolling time, in buckets. Counting is one look
// at a bucket's number and atomic additions; whoever comes first in a bucket
// clears it.
type window struct {
	width   time.Duration // of a bucket
	buckets []bucket
	mu      sync.Mutex // held while a bucket is cleared
}

// bucket is the events of one width of time.
type bucket struct {
	// number of the bucket since the clock began, plus one; 0 is none.
	number atomic.Int64
	counts [events]atomic.Int64
	// good and bad are what the breaker counts by; closing it clears them.
	good, bad atomic.Int64
	// most calls at once.
	most atomic.Int64
}

// newWindow makes a window of n buckets.
func newWindow(d time.Duration, n int) *window {
	return &window{width: max(1, d/time.Duration(n)), buckets: make([]bucket, n)}
}

func (w *window) span() time.Duration { return w.width * time.Duration(len(w.buckets)) }

// at returns the bucket of a time.
func (w *window) at(now time.Duration) *bucket {
	n := int64(now/w.width) + 1
	b := &w.buckets[int(n%int64(len(w.buckets)))]
	if b.number.Load() != n {
		w.turn(b, n)
	}
	return b
}

// turn clears a bucket for its new number. Somebody late, with a number that
// is over, counts into the new one.
func (w *window) turn(b *bucket, n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if b.number.Load() >= n {
		return
	}
	for i := range b.counts {
		b.counts[i].Store(0)
	}
	b.good.Store(0)
	b.bad.Store(0)
	b.most.Store(0)
	b.number.Store(n)
}

// each calls f for every bucket within the window that ends now.
func (w *window) each(now time.Duration, f func(*bucket)) {
	n := int64(now/w.width) + 1
	for i := range w.buckets {
		b := &w.buckets[i]
		if k := b.number.Load(); k > n-int64(len(w.buckets)) && k <= n {
			f(b)
		}
	}
}

// sums are the counts of a window.
type sums struct {
	counts    [events]int64
	good, bad int64
	most      int64
}

func (w *window) sums(now time.Duration) (s sums) {
	w.each(now, func(b *bucket) {
		for i := range b.counts {
			s.counts[i] += b.counts[i].Load()
		}
		s.good += b.good.Load()
		s.bad += b.bad.Load()
		s.most = max(s.most, b.most.Load())
	})
	return s
}

// health is how many calls the breaker judges by, and how many failed.
func (w *window) health(now time.Duration) (calls, bad int64) {
	n := int64(now/w.width) + 1
	for i := range w.buckets {
		b := &w.buckets[i]
		if k := b.number.Load(); k > n-int64(len(w.buckets)) && k <= n {
			g, x := b.good.Load(), b.bad.Load()
			calls, bad = calls+g+x, bad+x
		}
	}
	return calls, bad
}

// forgive clears what the breaker judges by.
func (w *window) forgive() {
	for i := range w.buckets {
		w.buckets[i].good.Store(0)
		w.buckets[i].bad.Store(0)
	}
}

// raise makes a at least v.
func raise(a *atomic.Int64, v int64) {
	for {
		was := a.Load()
		if v <= was || a.CompareAndSwap(was, v) {
			return
		}
	}
}
