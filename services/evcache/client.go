package evcache

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flix-lab/flix/services"
)

const (
	// MaxValue is the longest stored value of one item, in bytes: memcached's
	// item limit of 1 MiB less room for the key and the item's header.
	MaxValue = 1<<20 - 1024
	// MaxChunkedValue is the longest value of a client that cuts values: the
	// original's "default.evcache.max.data.size".
	MaxChunkedValue = 20 << 20
	// maxPrefix bounds a prefix, in bytes.
	maxPrefix = 49
)

// ErrMiss says that no zone has the item. It is a services.NotFound.
var ErrMiss error = services.Errorf(services.NotFound, "evcache: no such item")

// Client is a client of one region's cache, for one application (prefix). All
// methods are safe for concurrent use. A failing zone costs time, never
// correctness: reads go on to the next zone, writes to the others.
type Client struct {
	cfg     Config
	codec   codec
	lay     layout
	hot     *hotTier
	metrics *clientMetrics
	state   atomic.Pointer[fleet]
	repl    atomic.Int32 // Replication
	pending chan struct{}

	mu     sync.Mutex // guards changes of the fleet, modes and closed
	modes  map[string]Mode
	closed bool
	wg     sync.WaitGroup // writes under way
}

// New makes a client. It opens no connection.
func New(c Config) (*Client, error) {
	if c.Servers == nil || c.Tel == nil {
		return nil, services.Errorf(services.Invalid, "evcache.New: Servers and Tel are required")
	}
	if c.Prefix != "" && !validKey([]byte(c.Prefix)) || len(c.Prefix) > maxPrefix {
		return nil, services.Errorf(services.Invalid, "evcache.New: prefix %q is not up to %d letters without blanks", c.Prefix, maxPrefix)
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{}).DialContext
	}
	c = c.withDefaults()
	cl := &Client{
		cfg: c, codec: codec{over: c.CompressOver}, metrics: newClientMetrics(c.Tel.Metrics),
		pending: make(chan struct{}, c.Pending), modes: map[string]Mode{},
	}
	cl.lay = layout{size: c.ChunkSize, over: c.ChunkOver, timeouts: c.Timeouts, alien: cl.metrics.gets.alien}
	for z, m := range c.Modes {
		cl.modes[z] = m
	}
	cl.hot = newHotTier(c.Hot, cl.metrics)
	cl.repl.Store(int32(c.Replication))
	cl.state.Store(&fleet{})
	return cl, nil
}

// Close ends the writes under way and closes the connections.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	for _, p := range c.state.Swap(&fleet{}).peers {
		p.close()
	}
	c.mu.Unlock()
	c.wg.Wait()
	return nil
}

// SetMode switches what a zone is used for, from the next operation on.
func (c *Client) SetMode(zone string, m Mode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.modes[zone] == m || c.closed {
		return
	}
	c.modes[zone] = m
	old := c.state.Load()
	c.state.Store(c.arrange(old.nodes, old.peers))
}

// SetReplication switches what other regions are told of writes.
func (c *Client) SetReplication(r Replication) { c.repl.Store(int32(r)) }

// longest is the longest value the client stores.
func (c *Client) longest() int {
	if c.cfg.ChunkSize > 0 {
		return MaxChunkedValue
	}
	return MaxValue
}

// exptime turns a time to live into the protocol's expiry: whole seconds,
// rounded up, and beyond 30 days a Unix time.
func exptime(ttl time.Duration, now time.Time) int64 {
	if ttl <= 0 {
		return 0
	}
	secs := int64((ttl + time.Second - 1) / time.Second)
	if secs > relativeExpiry {
		return now.Unix() + secs
	}
	return secs
}
