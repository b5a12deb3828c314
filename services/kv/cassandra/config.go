package cassandra

import (
	"net"
	"regexp"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

const (
	// DefaultKeyspace holds the lab's tables.
	DefaultKeyspace = "flix"
	// defaultTimeout is for calls whose context has no earlier deadline. It is
	// longer than the nodes' own limits (2 s on a write, 5 s on a read), whose
	// errors say more.
	defaultTimeout = 10 * time.Second
	// connectTimeout bounds the setting up of one connection.
	connectTimeout = 5 * time.Second
	// minPause is the least pause between two attempts to reach a node.
	minPause = 20 * time.Millisecond
)

// Config is what a client of one region's nodes needs.
type Config struct {
	// Hosts returns the region's nodes as "host:port" of their native
	// protocol. It is asked at every connect, so nodes may come, go and move,
	// and should answer from memory.
	Hosts func() []string
	// Datacenter is the nodes' datacentre: the region's name.
	Datacenter string
	// Keyspace holds the tables; "" for DefaultKeyspace.
	Keyspace string
	// Dial opens connections; nil for a plain dialer. What it returns must
	// have a TCP address at its far end.
	Dial services.DialFunc
	// Timeout bounds one call, the wait for the first connection included; 0
	// for 10 s. The context's deadline counts too.
	Timeout time.Duration
	// Timing gives BreakerSleep, the longest pause before a node is tried
	// again.
	Timing topology.Timing
	// Clock is the wall clock; nil for time.Now.
	Clock func() time.Time
	// Tel are the instance's instruments. Clients of one instance share its
	// counters.
	Tel *telemetry.Telemetry
}

// names are what CQL takes as an identifier in quotes without escapes.
var names = regexp.MustCompile(`^[a-z][a-z0-9_]{0,47}$`)

func (c *Config) complete() error {
	if c.Keyspace == "" {
		c.Keyspace = DefaultKeyspace
	}
	switch {
	case c.Hosts == nil, c.Datacenter == "", c.Tel == nil:
		return services.Errorf(services.Invalid, "cassandra: Hosts, Datacenter and Tel are needed")
	case !names.MatchString(c.Keyspace):
		return services.Errorf(services.Invalid, "cassandra: keyspace %.64q: want up to 48 of a-z, 0-9 and _, a letter first", c.Keyspace)
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{}).DialContext
	}
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	return nil
}

// longestPause before a node is tried again.
func (c *Config) longestPause() time.Duration { return max(c.Timing.BreakerSleep.D(), minPause) }
