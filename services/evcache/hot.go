package evcache

import (
	"bytes"
	"context"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
)

// Hot guards the servers against a key that everybody reads: what one client
// reads more often than PerSecond is answered from its own memory for TTL, and
// asked for once at a time. Another client's write shows after TTL at the
// latest, the own at once.
type Hot struct {
	// PerSecond is how often a key is read until it counts as hot; 0: none does.
	PerSecond int
	// TTL is how long a hot key's value is kept; 0 for 250 ms.
	TTL time.Duration
	// MaxBytes bounds the values that are kept; 0 for 4 MiB. One of more than a
	// quarter of that is not kept.
	MaxBytes int
}

const (
	defaultHotTTL   = 250 * time.Millisecond
	defaultHotBytes = 4 << 20
	// hotOverhead is what a kept value costs beside key and value, in bytes.
	hotOverhead = 160
	// sketchSize is the number of counters in each of two rows.
	sketchSize = 1 << 11
	// hotEpochs is the number of groups of keys whose writes are told apart.
	hotEpochs = 64
)

func (h Hot) withDefaults() Hot {
	if h.TTL <= 0 {
		h.TTL = defaultHotTTL
	}
	if h.MaxBytes <= 0 {
		h.MaxBytes = defaultHotBytes
	}
	return h
}

// hotTier finds hot keys and keeps their values. A nil one finds none.
type hotTier struct {
	cfg     Hot
	metrics *clientMetrics
	seed    maphash.Seed
	start   time.Time
	// rows count reads by second: a count-min sketch, so what is unique to a
	// key is never counted too low.
	rows   [2][sketchSize]atomic.Uint64
	epochs [hotEpochs]atomic.Uint64
	flight singleflight.Group

	mu    sync.Mutex
	kept  map[string]hotValue
	bytes int
}

type hotValue struct {
	value []byte
	until time.Time
}

func newHotTier(h Hot, m *clientMetrics) *hotTier {
	if h.PerSecond <= 0 {
		return nil
	}
	return &hotTier{cfg: h, metrics: m, seed: maphash.MakeSeed(), start: time.Now(), kept: map[string]hotValue{}}
}

// A counter holds the second it counts in, the count of the second before and
// its own.
const (
	countBits = 20
	maxCount  = 1<<countBits - 1
)

// tick counts one read in second now and returns the larger of that second's
// count and the one before.
func tick(c *atomic.Uint64, now uint64) uint64 {
	now &= 1<<24 - 1
	for {
		old := c.Load()
		at, before, count := old>>(2*countBits), old>>countBits&maxCount, old&maxCount
		switch {
		case at == now:
		case at+1 == now:
			before, count = count, 0
		default:
			before, count = 0, 0
		}
		count = min(count+1, maxCount)
		if c.CompareAndSwap(old, now<<(2*countBits)|before<<countBits|count) {
			return max(before, count)
		}
	}
}

// count takes a read in and says whether its key is hot.
func (h *hotTier) count(key string) bool {
	if h == nil {
		return false
	}
	sum := maphash.String(h.seed, key)
	now := uint64(time.Since(h.start) / time.Second)
	n := tick(&h.rows[0][sum%sketchSize], now)
	return min(n, tick(&h.rows[1][sum>>32%sketchSize], now)) > uint64(h.cfg.PerSecond)
}

// get returns the value that is kept of a hot key.
func (h *hotTier) get(key string) ([]byte, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	v, ok := h.kept[key]
	if !ok || time.Now().After(v.until) {
		return nil, false
	}
	return bytes.Clone(v.value), true
}

func (h *hotTier) epoch(key string) *atomic.Uint64 {
	return &h.epochs[maphash.String(h.seed, key)%hotEpochs]
}

// load reads a hot key once for all who ask at the same time, and keeps the
// value unless the key was written in between.
func (h *hotTier) load(ctx context.Context, key string, read func(context.Context) (Item, error)) ([]byte, error) {
	done := h.flight.DoChan(key, func() (any, error) {
		before := h.epoch(key).Load()
		// The first to ask may be the first to go.
		it, err := read(context.WithoutCancel(ctx))
		if err == nil && h.epoch(key).Load() == before {
			h.put(key, it.Value)
		}
		return it.Value, err
	})
	select {
	case r := <-done:
		v, _ := r.Val.([]byte)
		return bytes.Clone(v), r.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// put keeps a value.
func (h *hotTier) put(key string, value []byte) {
	size := len(key) + len(value) + hotOverhead
	if size > h.cfg.MaxBytes/4 {
		return
	}
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.remove(key)
	if h.bytes+size > h.cfg.MaxBytes {
		for k, v := range h.kept {
			if now.After(v.until) {
				h.remove(k)
			}
		}
	}
	for k := range h.kept { // any: what is hot comes back
		if h.bytes+size <= h.cfg.MaxBytes {
			break
		}
		h.remove(k)
	}
	h.kept[key] = hotValue{bytes.Clone(value), now.Add(h.cfg.TTL)}
	h.bytes += size
	h.metrics.hotBytes.Set(float64(h.bytes))
}

// remove drops a value; h.mu is held.
func (h *hotTier) remove(key string) {
	if v, ok := h.kept[key]; ok {
		delete(h.kept, key)
		h.bytes -= len(key) + len(v.value) + hotOverhead
	}
}

// drop forgets a key that is written.
func (h *hotTier) drop(key string) {
	if h == nil {
		return
	}
	h.epoch(key).Add(1)
	h.flight.Forget(key)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.remove(key)
}
