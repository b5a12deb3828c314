package evcache

import (
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
)

// Policy says how many zones must have taken a write before it returns; the
// others get it all the same. It is EVCache's latch policy.
type Policy int

// The policies. The zero value is AllMinusOne.
const (
	// AllMinusOne waits for every zone but one; for the only zone if there is
	// one.
	AllMinusOne Policy = iota
	// None waits for no zone and reports no error of a server.
	None
	// One waits for the first zone.
	One
	// Quorum waits for more than half of the zones.
	Quorum
	// All waits for every zone.
	All
)

// need returns how many of n zones a write waits for.
func (p Policy) need(n int) int {
	switch p {
	case None:
		return 0
	case One:
		return min(1, n)
	case Quorum:
		return n/2 + 1
	case All:
		return n
	}
	return max(min(1, n), n-1)
}

// Node is one memcached server as the client is told about it.
type Node struct {
	// Addr is its host:port.
	Addr string
	// Zone it stands in.
	Zone string
}

// Timeouts of the client. A zero field takes its default.
type Timeouts struct {
	// Dial bounds the opening of a connection; 250 ms.
	Dial time.Duration
	// Read bounds one read of one zone; 250 ms.
	Read time.Duration
	// Write bounds one write to one zone; 2.5 s.
	Write time.Duration
	// Retry is how long a server that failed is left alone; 200 ms.
	Retry time.Duration
}

const (
	defaultConns   = 4
	defaultPending = 1024
)

// Config is what a client needs.
type Config struct {
	// Servers returns the region's memcached servers. It is asked for every
	// operation, should answer from memory, and must not change a slice that
	// it has returned.
	Servers func() []Node
	// Zone is the client's own; it is read first.
	Zone string
	// Dial opens connections; nil for a plain dialer.
	Dial services.DialFunc
	// Prefix sets the keys of one application apart from those of others.
	Prefix string
	// Policy of writes.
	Policy Policy
	// Timeouts of single operations; the context's deadline counts too.
	Timeouts Timeouts
	// Conns bounds the connections to one server; 0 for 4.
	Conns int
	// Pending bounds the writes under way to single zones; 0 for 1024.
	Pending int
	// Tel are the instance's instruments. Clients of one instance share its
	// counters.
	Tel *telemetry.Telemetry
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&c.Timeouts.Dial, 250*time.Millisecond)
	def(&c.Timeouts.Read, 250*time.Millisecond)
	def(&c.Timeouts.Write, 2500*time.Millisecond)
	def(&c.Timeouts.Retry, 200*time.Millisecond)
	if c.Conns <= 0 {
		c.Conns = defaultConns
	}
	if c.Pending <= 0 {
		c.Pending = defaultPending
	}
	return c
}
