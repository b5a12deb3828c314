package evcache

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/resilience"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

// Cache is what Copies need of EVCache; Client has it. A miss is an error of
// kind NotFound, an entry may vanish at any time, and any text is a key.
type Cache interface {
	Get(ctx context.Context, key string) ([]byte, error)
	Set(ctx context.Context, key string, val []byte, ttl time.Duration) error
}

// staleFactor says how many times longer a copy is kept than it is fresh. With
// the production timing a copy outlives a store's outage of a day.
const staleFactor = 360

// maxConcurrent reads, and writes, of an instance's copies.
const maxConcurrent = 256

// Copies keep what stores answered in EVCache. One entry serves both as the
// fresh and as the stale copy: it carries the time it was read at, so that a
// store's outage finds it without a second key, and a read costs one round
// trip. A cache that fails is a miss: it never fails a request. Readers read
// through them; see NewReader.
type Copies struct {
	cache    Cache
	fresh    time.Duration
	commands *resilience.Group
	get      *resilience.Command[[]byte]
	set      *resilience.Command[struct{}]
	reads    *prometheus.CounterVec
	tel      *telemetry.Telemetry
}

// NewCopies makes an instance's copies, fresh for Timing.CacheTTL. The cache
// gets a tenth of the RPC timeout: one that is slower than that helps less
// than the store behind it. It registers cached_reads_total.
func NewCopies(tel *telemetry.Telemetry, g *resilience.Group, cache Cache, t topology.Timing) *Copies {
	o := resilience.Options{Group: "evcache", Timeout: t.RPCTimeout.D() / 10, MaxConcurrent: maxConcurrent}
	c := &Copies{
		cache: cache, fresh: t.CacheTTL.D(), commands: g, tel: tel,
		get:   resilience.New[[]byte](g, "GetCopy", o),
		set:   resilience.New[struct{}](g, "SetCopy", o),
		reads: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "cached_reads_total", Help: "Reads by what was read and where the answer came from: cache, store, stale or none."}, []string{"what", "from"}),
	}
	tel.Metrics.MustRegister(c.reads)
	return c
}

// lookup returns the entry of a key and when it was read from its store.
func (c *Copies) lookup(ctx context.Context, key string) (payload []byte, at time.Time, ok bool) {
	b, err := c.get.Do(ctx, func(ctx context.Context) ([]byte, error) {
		b, err := c.cache.Get(ctx, key)
		if services.KindOf(err) == services.NotFound {
			return nil, nil // a miss says nothing about the cache's health
		}
		return b, err
	})
	if err != nil || len(b) < 8 {
		return nil, time.Time{}, false
	}
	return b[8:], time.UnixMilli(int64(binary.BigEndian.Uint64(b))), true
}

// keep stores an entry as of now.
func (c *Copies) keep(ctx context.Context, key string, payload []byte) {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(payload)), uint64(time.Now().UnixMilli()))
	b = append(b, payload...)
	if _, err := c.set.Do(ctx, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, c.cache.Set(ctx, key, b, c.fresh*staleFactor)
	}); err != nil {
		c.tel.Log.DebugContext(ctx, "copy not kept", "key", key, "error", err)
	}
}

// Copy is a value with where it came from.
type Copy[T any] struct {
	Value T
	// Cached: it may be older than the store's by the cache's time to live.
	Cached bool
	// Stale: the store was late, and it may be older than that.
	Stale bool
}

// Reader reads values of one kind: a command for the store, and copies. The
// values are kept as JSON.
type Reader[T any] struct {
	copies *Copies
	name   string
	cmd    *resilience.Command[T]
}

// NewReader makes a reader whose loads are the command of that name.
func NewReader[T any](c *Copies, name string, o resilience.Options) *Reader[T] {
	return &Reader[T]{copies: c, name: name, cmd: resilience.New[T](c.commands, name, o)}
}

// Read answers from a fresh copy, else from the store, else, when the store is
// late or broken, from a stale copy. Within the scope of one request it reads a
// key once.
func (r *Reader[T]) Read(ctx context.Context, key string, load func(context.Context) (T, error)) (Copy[T], error) {
	return resilience.Once(ctx, r.cmd, key, func(ctx context.Context) (Copy[T], error) {
		kept, at, ok := r.lookup(ctx, key)
		if ok && time.Since(at) < r.copies.fresh {
			return r.came("cache", Copy[T]{Value: kept, Cached: true}), nil
		}
		return r.load(ctx, key, load, func(context.Context) (T, bool) { return kept, ok })
	})
}

// Refresh answers from the store, else, when the store is late or broken, from
// a copy of any age.
func (r *Reader[T]) Refresh(ctx context.Context, key string, load func(context.Context) (T, error)) (Copy[T], error) {
	return r.load(ctx, key, load, func(ctx context.Context) (T, bool) {
		kept, _, ok := r.lookup(ctx, key)
		return kept, ok
	})
}

func (r *Reader[T]) load(ctx context.Context, key string, load func(context.Context) (T, error), kept func(context.Context) (T, bool)) (Copy[T], error) {
	stale := false
	v, err := r.cmd.DoFallback(ctx, load, func(ctx context.Context, cause error) (T, error) {
		v, ok := kept(ctx)
		if !ok {
			return v, cause
		}
		stale = true
		return v, nil
	})
	switch {
	case err != nil:
		return r.came("none", Copy[T]{}), err
	case stale:
		return r.came("stale", Copy[T]{Value: v, Cached: true, Stale: true}), nil
	}
	if b, err := json.Marshal(v); err == nil {
		r.copies.keep(ctx, key, b)
	} else {
		r.copies.tel.Log.WarnContext(ctx, "copy not kept: it does not encode", "key", key, "error", err)
	}
	return r.came("store", Copy[T]{Value: v}), nil
}

func (r *Reader[T]) lookup(ctx context.Context, key string) (v T, at time.Time, ok bool) {
	b, at, ok := r.copies.lookup(ctx, key)
	if !ok || json.Unmarshal(b, &v) != nil { // another version's shape is a miss
		var zero T
		return zero, time.Time{}, false
	}
	return v, at, true
}

func (r *Reader[T]) came(from string, c Copy[T]) Copy[T] {
	r.copies.reads.WithLabelValues(r.name, from).Inc()
	return c
}
