package playback

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

// Cache is what the role needs of EVCache: a miss is an error of kind NotFound,
// an entry may vanish at any time, and any text is a key.
type Cache interface {
	Get(ctx context.Context, key string) ([]byte, error)
	Set(ctx context.Context, key string, val []byte, ttl time.Duration) error
}

// staleFactor says how many times longer a copy is kept than it is fresh. With
// the production timing a copy outlives a store's outage of a day.
const staleFactor = 360

// copies keeps what stores answered in EVCache. One entry serves both as the
// fresh and as the stale copy: it carries the time it was read at, so that a
// store's outage finds it without a second key, and a read costs one round
// trip. A cache that fails is a miss: it never fails a request.
type copies struct {
	cache Cache
	fresh time.Duration
	get   *resilience.Command[[]byte]
	set   *resilience.Command[struct{}]
	reads *prometheus.CounterVec
	tel   *telemetry.Telemetry
}

// newCopies makes the instance's copies. The cache gets a tenth of the RPC
// timeout: one that is slower than that helps less than the store behind it.
func newCopies(tel *telemetry.Telemetry, g *resilience.Group, cache Cache, t topology.Timing) *copies {
	o := resilience.Options{Timeout: t.RPCTimeout.D() / 10}
	c := &copies{
		cache: cache, fresh: t.CacheTTL.D(), tel: tel,
		get:   resilience.New[[]byte](g, "GetCopy", o),
		set:   resilience.New[struct{}](g, "SetCopy", o),
		reads: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "cached_reads_total", Help: "Reads by what was read and where the answer came from: cache, store, stale or none."}, []string{"what", "from"}),
	}
	tel.Metrics.MustRegister(c.reads)
	return c
}

// lookup returns the entry of a key and when it was read from its store.
func (c *copies) lookup(ctx context.Context, key string) (payload []byte, at time.Time, ok bool) {
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
func (c *copies) keep(ctx context.Context, key string, payload []byte) {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(payload)), uint64(time.Now().UnixMilli()))
	b = append(b, payload...)
	if _, err := c.set.Do(ctx, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, c.cache.Set(ctx, key, b, c.fresh*staleFactor)
	}); err != nil {
		c.tel.Log.DebugContext(ctx, "copy not kept", "key", key, "error", err)
	}
}

// answer is a value with where it came from.
type answer[T any] struct {
	value T
	// cached: it may be older than the store's by the cache's time to live.
	cached bool
	// stale: the store was late, and it may be older than that.
	stale bool
}

// reader reads values of one kind: a command for the store, and copies.
type reader[T any] struct {
	copies *copies
	name   string
	cmd    *resilience.Command[T]
}

// newReader makes a reader whose loads are the command of that name.
func newReader[T any](c *copies, g *resilience.Group, name string, o resilience.Options) *reader[T] {
	return &reader[T]{copies: c, name: name, cmd: resilience.New[T](g, name, o)}
}

// read answers from a fresh copy, else from the store, else, when the store is
// late or broken, from a stale copy.
func (r *reader[T]) read(ctx context.Context, key string, load func(context.Context) (T, error)) (answer[T], error) {
	kept, at, ok := r.lookup(ctx, key)
	if ok && time.Since(at) < r.copies.fresh {
		return r.came("cache", answer[T]{value: kept, cached: true}), nil
	}
	return r.load(ctx, key, load, func(context.Context) (T, bool) { return kept, ok })
}

// refresh answers from the store, else from a copy of any age.
func (r *reader[T]) refresh(ctx context.Context, key string, load func(context.Context) (T, error)) (answer[T], error) {
	return r.load(ctx, key, load, func(ctx context.Context) (T, bool) {
		kept, _, ok := r.lookup(ctx, key)
		return kept, ok
	})
}

func (r *reader[T]) load(ctx context.Context, key string, load func(context.Context) (T, error), kept func(context.Context) (T, bool)) (answer[T], error) {
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
		return r.came("none", answer[T]{}), err
	case stale:
		return r.came("stale", answer[T]{value: v, cached: true, stale: true}), nil
	}
	if b, err := json.Marshal(v); err == nil {
		r.copies.keep(ctx, key, b)
	} else {
		r.copies.tel.Log.WarnContext(ctx, "copy not kept: it does not encode", "key", key, "error", err)
	}
	return r.came("store", answer[T]{value: v}), nil
}

func (r *reader[T]) lookup(ctx context.Context, key string) (v T, at time.Time, ok bool) {
	b, at, ok := r.copies.lookup(ctx, key)
	if !ok || json.Unmarshal(b, &v) != nil { // another version's shape is a miss
		var zero T
		return zero, time.Time{}, false
	}
	return v, at, true
}

func (r *reader[T]) came(from string, a answer[T]) answer[T] {
	r.copies.reads.WithLabelValues(r.name, from).Inc()
	return a
}
