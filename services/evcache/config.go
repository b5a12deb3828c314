package evcache

import (
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
)

// Node is one memcached server as the client is told about it.
type Node struct {
	// Addr is its host:port.
	Addr string
	// Zone it stands in.
	Zone string
	// Instance runs there, for who reads an error; "" if that is not known.
	Instance string
	// Name is what the original calls the server's host name, which takes part
	// in the placing of keys; "" for its IP address.
	Name string
}

// called is the server in an error.
func (n Node) called() string {
	if n.Instance == "" {
		return n.Addr
	}
	return n.Instance + " at " + n.Addr
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
	// defaultCompressOver is the original's "default.evcache.compression.threshold".
	defaultCompressOver = 120
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
	// Prefix sets the keys of one application apart from those of others: the
	// original's cache name. The canonical key is "prefix:key".
	Prefix string
	// MaxPlainKey is the longest canonical key that is not hashed; 0 for
	// DefaultMaxPlainKey.
	MaxPlainKey int
	// CompressOver is the size in bytes beyond which values are compressed; 0
	// for 120, the original's; negative: never.
	CompressOver int
	// ChunkSize is what a piece of a value takes that is stored in pieces, key
	// and header included; 0: values are not cut, and none is longer than
	// MaxValue. DefaultChunkSize is the original's.
	ChunkSize int
	// ChunkOver is the stored size beyond which a value is cut; 0 for
	// ChunkSize, the original's.
	ChunkOver int
	// Policy of writes.
	Policy Policy
	// Linger is how long a write that has what its policy asks waits for the
	// answers of the other zones, too: for a client whose user looks at every zone
	// next. 0 is not at all.
	Linger time.Duration
	// Modes of zones at the start that are not ReadWrite; see Client.SetMode.
	Modes map[string]Mode
	// Hot guards against keys that are read very often.
	Hot Hot
	// Events take what other regions and repairers are told, as an
	// events.Producer does; nil: nobody is told anything.
	Events Sender
	// Replication says what other regions are told at the start; see
	// Client.SetReplication.
	Replication Replication
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
	if c.MaxPlainKey <= 0 {
		c.MaxPlainKey = DefaultMaxPlainKey
	}
	if c.CompressOver == 0 {
		c.CompressOver = defaultCompressOver
	}
	if c.ChunkSize > 0 {
		c.ChunkSize = min(c.ChunkSize, MaxValue)
	}
	if c.ChunkOver <= 0 {
		c.ChunkOver = c.ChunkSize
	}
	c.ChunkOver = min(c.ChunkOver, MaxValue)
	c.Hot = c.Hot.withDefaults()
	return c
}
