package cassandra

import (
	"sync"
	"time"
)

// clock issues the times of a client's writes, in microseconds since 1970 as
// Cassandra takes them: never the same twice, never behind one that the client
// has seen. It is a hybrid logical clock (Kulkarni et al., "Logical Physical
// Clocks", 2014) whose logical part is what the wall clock has not reached yet.
type clock struct {
	now func() time.Time

	mu   sync.Mutex
	last int64
}

// tick returns the next time.
func (c *clock) tick() int64 {
	now := c.now().UnixMicro()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = max(c.last+1, now)
	return c.last
}

// observe makes every later tick greater than t.
func (c *clock) observe(t int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = max(c.last, t)
}

// latest is the greatest time issued or observed.
func (c *clock) latest() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}
