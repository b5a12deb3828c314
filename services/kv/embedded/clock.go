package embedded

import (
	"sync"
	"time"
)

// logicalBits is the width of the logical part of a hybrid logical clock: 16
// bits below 48 bits of milliseconds since 1970 (Kulkarni et al., "Logical
// Physical Clocks", 2014).
const logicalBits = 16

// clock issues hybrid logical timestamps: never the same twice, never behind
// one that it has seen.
type clock struct {
	now func() time.Time

	mu   sync.Mutex
	last uint64
}

// tick returns the next timestamp.
func (c *clock) tick() uint64 {
	phys := stampOf(c.now())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = max(c.last+1, phys)
	return c.last
}

// observe makes every later tick greater than h.
func (c *clock) observe(h uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = max(c.last, h)
}

// stampOf is the least timestamp of a wall-clock time.
func stampOf(t time.Time) uint64 { return uint64(max(t.UnixMilli(), 0)) << logicalBits }

// timeOf is the physical part of a timestamp.
func timeOf(h uint64) time.Time { return time.UnixMilli(int64(h >> logicalBits)) }
