package evcache

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flix-lab/flix/services"
)

// MaxValue is the longest value, in bytes: memcached's item limit of 1 MiB
// less room for the key and the item's header.
const MaxValue = 1<<20 - 1024

// maxPlainKey is the longest key stored as it is; longer ones are hashed.
const maxPlainKey = 200

// ErrMiss says that no zone has the item. It is a services.NotFound.
var ErrMiss error = services.Errorf(services.NotFound, "evcache: no such item")

// Client is a client of one region's cache, for one application (prefix). All
// methods are safe for concurrent use. A failing zone costs time, never
// correctness: reads go on to the next zone, writes to the others.
type Client struct {
	cfg     Config
	metrics *clientMetrics
	state   atomic.Pointer[fleet]
	pending chan struct{}

	mu     sync.Mutex // guards changes of the fleet, and closed
	closed bool
	wg     sync.WaitGroup // writes under way
}

// New makes a client. It opens no connection.
func New(c Config) (*Client, error) {
	if c.Servers == nil || c.Tel == nil {
		return nil, services.Errorf(services.Invalid, "evcache.New: Servers and Tel are required")
	}
	if c.Prefix != "" && !validKey([]byte(c.Prefix)) || len(c.Prefix) > maxKey-maxPlainKey-1 {
		return nil, services.Errorf(services.Invalid, "evcache.New: prefix %q is not up to %d letters without blanks", c.Prefix, maxKey-maxPlainKey-1)
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{}).DialContext
	}
	c = c.withDefaults()
	cl := &Client{cfg: c, metrics: newClientMetrics(c.Tel.Metrics), pending: make(chan struct{}, c.Pending)}
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

// Get returns an item's value: from the own zone, else from the next that has
// it. It fails with ErrMiss if no zone that answered has it, and with
// services.Unavailable if none answered.
func (c *Client) Get(ctx context.Context, key string) ([]byte, error) {
	f, err := c.fleet()
	if err != nil {
		c.metrics.gets.error.Inc()
		return nil, err
	}
	line := c.line("get ", key, "")
	id := line[len("get ") : len(line)-len("\r\n")]
	missed := false
	var failed error
	for i, z := range f.zones {
		v, err := z.pick(id).do(ctx, c.cfg.Timeouts.Read, kindGet, line)
		switch {
		case err == nil && i == 0:
			c.metrics.gets.hit.Inc()
			return v, nil
		case err == nil:
			c.metrics.gets.fallback.Inc()
			return v, nil
		case errors.Is(err, ErrMiss):
			missed = true
		default:
			c.metrics.zoneErrors.WithLabelValues(z.name).Inc()
			failed = errors.Join(failed, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	if missed {
		c.metrics.gets.miss.Inc()
		return nil, ErrMiss
	}
	c.metrics.gets.error.Inc()
	return nil, &services.Error{Op: "evcache.Get " + key, Kind: services.Unavailable, Msg: "no zone answered", Err: failed}
}

// Set stores a value in every zone for ttl (0: until evicted). It returns when
// as many zones as the policy asks have it; the value may be reused then.
func (c *Client) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if len(value) > MaxValue {
		c.metrics.sets.error.Inc()
		return services.Errorf(services.Invalid, "evcache.Set %s: the value has %d bytes and the cache takes %d at most", key, len(value), MaxValue).
			WithRemedy("store it in smaller items, or not in the cache")
	}
	tail := " 0 " + strconv.FormatInt(exptime(ttl, time.Now()), 10) + " " + strconv.Itoa(len(value))
	req := c.line("set ", key, tail)
	req = append(slices.Grow(req, len(value)+2), value...)
	return c.write(ctx, "evcache.Set", key, kindSet, append(req, "\r\n"...), &c.metrics.sets)
}

// Delete removes an item from every zone; deleting what is not there is no
// error.
func (c *Client) Delete(ctx context.Context, key string) error {
	return c.write(ctx, "evcache.Delete", key, kindDelete, c.line("delete ", key, ""), &c.metrics.deletes)
}

// Touch sets a new time to live in every zone that has the item.
func (c *Client) Touch(ctx context.Context, key string, ttl time.Duration) error {
	tail := " " + strconv.FormatInt(exptime(ttl, time.Now()), 10)
	return c.write(ctx, "evcache.Touch", key, kindTouch, c.line("touch ", key, tail), &c.metrics.touches)
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

// line builds a command line.
func (c *Client) line(verb, key, tail string) []byte {
	b := make([]byte, 0, len(verb)+maxKey+len(tail)+2)
	b = append(b, verb...)
	b = appendKey(b, c.cfg.Prefix, key)
	b = append(b, tail...)
	return append(b, "\r\n"...)
}

// appendKey appends "prefix:key". A key that memcached would refuse is
// replaced by its digest, marked with a "#".
func appendKey(b []byte, prefix, key string) []byte {
	if prefix != "" {
		b = append(append(b, prefix...), ':')
	}
	at := len(b)
	b = append(b, key...)
	if len(key) <= maxPlainKey && validKey(b[at:]) && key[0] != '#' {
		return b
	}
	sum := sha256.Sum256([]byte(key))
	return base64.RawURLEncoding.AppendEncode(append(b[:at], '#'), sum[:])
}

// keyOf returns the key within a command line.
func keyOf(line []byte) []byte {
	from := slices.Index(line, ' ') + 1
	to := from
	for line[to] != ' ' && line[to] != '\r' {
		to++
	}
	return line[from:to]
}

// write sends a command to every zone and waits for as many as the policy
// asks. The others go on by themselves; Close waits for them.
func (c *Client) write(ctx context.Context, op, key string, k kind, req []byte, count *results) error {
	f, err := c.fleet()
	if err != nil {
		count.error.Inc()
		return services.Wrap(op+" "+key, err)
	}
	need := c.cfg.Policy.need(len(f.zones))
	id := keyOf(req)
	answers := make(chan error, len(f.zones))
	// The laggards outlive this call, not its trace.
	late := context.WithoutCancel(ctx)
	for _, z := range f.zones {
		p := z.pick(id)
		if err := c.spawn(func() {
			_, err := p.do(late, c.cfg.Timeouts.Write, k, req)
			if errors.Is(err, ErrMiss) {
				err = nil
			}
			if err != nil {
				c.metrics.zoneErrors.WithLabelValues(z.name).Inc()
				c.cfg.Tel.Log.Debug("cache write failed", "op", op, "zone", z.name, "error", err)
			}
			answers <- err
		}); err != nil {
			answers <- err
		}
	}
	if err := wait(ctx, answers, need, len(f.zones)); err != nil {
		count.error.Inc()
		return &services.Error{Op: op + " " + key, Kind: services.KindOf(err), Msg: fmt.Sprintf("fewer than %d of %d zones took it", need, len(f.zones)), Err: err}
	}
	count.ok.Inc()
	return nil
}

// wait returns when need of n answers were good or too many were not.
func wait(ctx context.Context, answers <-chan error, need, n int) error {
	good := 0
	var failed error
	for got := 0; good < need; got++ {
		if got == n {
			return failed
		}
		select {
		case <-ctx.Done():
			return errors.Join(failed, ctx.Err())
		case err := <-answers:
			if err == nil {
				good++
			}
			failed = errors.Join(failed, err)
		}
	}
	return nil
}

// spawn runs f in a goroutine that Close waits for, if there is room.
func (c *Client) spawn(f func()) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errClosed
	}
	select {
	case c.pending <- struct{}{}:
	default:
		return services.Errorf(services.Exhausted, "%d cache writes are under way", cap(c.pending))
	}
	c.wg.Go(func() {
		defer func() { <-c.pending }()
		f()
	})
	return nil
}

// GetJSON reads an item written by SetJSON.
func GetJSON[T any](ctx context.Context, c *Client, key string) (T, error) {
	var v T
	b, err := c.Get(ctx, key)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return v, &services.Error{Op: "evcache.GetJSON " + key, Kind: services.Internal, Msg: "the cached value is not what was asked for", Err: err}
	}
	return v, nil
}

// SetJSON stores a value as JSON.
func SetJSON[T any](ctx context.Context, c *Client, key string, v T, ttl time.Duration) error {
	b, err := json.Marshal(v)
	if err != nil {
		return services.Wrap("evcache.SetJSON "+key, err)
	}
	return c.Set(ctx, key, b, ttl)
}
