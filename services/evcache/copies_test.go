package evcache

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/resilience"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/services/telemetry/telemetrytest"
	"github.com/flix-lab/flix/topology"
)

// shelf is a Cache in memory that may be down.
type shelf struct {
	mu   sync.Mutex
	m    map[string][]byte
	ttl  time.Duration
	down bool
}

func (s *shelf) Get(_ context.Context, key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.m[key]
	switch {
	case s.down:
		return nil, services.Errorf(services.Unavailable, "down")
	case !ok:
		return nil, services.Errorf(services.NotFound, "miss")
	}
	return b, nil
}

func (s *shelf) Set(_ context.Context, key string, val []byte, ttl time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return services.Errorf(services.Unavailable, "down")
	}
	s.m[key], s.ttl = val, ttl
	return nil
}

// source is a store: it answers value, or fails.
type source struct {
	value string
	err   error
	asked int
}

func (s *source) load(context.Context) (string, error) {
	s.asked++
	return s.value, s.err
}

func newCopied(t *testing.T, fresh time.Duration) (*shelf, *source, *Reader[string], *telemetry.Telemetry) {
	t.Helper()
	tel := telemetry.Discard()
	timing := topology.LabTiming()
	timing.CacheTTL = topology.Duration(fresh)
	timing.RPCTimeout = topology.Duration(10 * patience) // what is in memory is never late
	o := resilience.Options{Timeout: patience}
	cache := &shelf{m: map[string][]byte{}}
	r := NewReader[string](NewCopies(tel, resilience.NewGroup(tel, o), cache, timing), "GetThing", o)
	return cache, &source{value: "one"}, r, tel
}

func TestCopies(t *testing.T) {
	unavailable := services.Errorf(services.Unavailable, "late")
	missing := services.Errorf(services.NotFound, "none")
	for _, x := range []struct {
		name      string
		fresh     time.Duration
		cacheDown bool
		refresh   bool
		value     string // the store's at the second read
		err       error
		want      Copy[string]
		kind      services.Kind
		asked     int // of the store in both reads
	}{
		{name: "a fresh copy", fresh: time.Hour, value: "two", want: Copy[string]{Value: "one", Cached: true}, asked: 1},
		{name: "a fresh copy passed by", fresh: time.Hour, refresh: true, value: "two", want: Copy[string]{Value: "two"}, asked: 2},
		{name: "an old copy", fresh: time.Nanosecond, value: "two", want: Copy[string]{Value: "two"}, asked: 2},
		{name: "an old copy of a late store", fresh: time.Nanosecond, err: unavailable, want: Copy[string]{Value: "one", Cached: true, Stale: true}, asked: 2},
		{name: "a fresh copy of a late store", fresh: time.Hour, refresh: true, err: unavailable, want: Copy[string]{Value: "one", Cached: true, Stale: true}, asked: 2},
		{name: "what the store says is gone", fresh: time.Nanosecond, err: missing, kind: services.NotFound, asked: 2},
		{name: "no cache", fresh: time.Hour, cacheDown: true, value: "two", want: Copy[string]{Value: "two"}, asked: 2},
		{name: "neither", fresh: time.Hour, cacheDown: true, err: unavailable, kind: services.Unavailable, asked: 2},
	} {
		t.Run(x.name, func(t *testing.T) {
			cache, store, r, _ := newCopied(t, x.fresh)
			if first, err := r.Read(t.Context(), "k", store.load); err != nil || first != (Copy[string]{Value: "one"}) {
				t.Fatalf("first read %+v (%v)", first, err)
			}
			if cache.ttl != x.fresh*staleFactor {
				t.Errorf("kept for %v", cache.ttl)
			}
			cache.down, store.value, store.err = x.cacheDown, x.value, x.err
			read := r.Read
			if x.refresh {
				read = r.Refresh
			}
			got, err := read(t.Context(), "k", store.load)
			if got != x.want || (err == nil) != (x.kind == "") || err != nil && services.KindOf(err) != x.kind {
				t.Errorf("%+v (%v), want %+v or %q", got, err, x.want, x.kind)
			}
			if store.asked != x.asked {
				t.Errorf("the store was asked %d times, want %d", store.asked, x.asked)
			}
		})
	}
}

func TestCopiesOfAnotherShapeAreMisses(t *testing.T) {
	for name, entry := range map[string]string{"too short": "1234567", "not JSON": "12345678x", "another type": "12345678{}"} {
		t.Run(name, func(t *testing.T) {
			cache, store, r, tel := newCopied(t, time.Hour)
			cache.m["k"] = []byte(entry)
			store.err = services.Errorf(services.Unavailable, "late")
			if got, err := r.Read(t.Context(), "k", store.load); services.KindOf(err) != services.Unavailable {
				t.Errorf("read %+v (%v)", got, err)
			}
			if sum, n := telemetrytest.Metric(t, tel.Metrics, "cached_reads_total", map[string]string{"what": "GetThing"}); sum != 1 || n != 1 {
				t.Errorf("%v reads counted of %d kinds, want one", sum, n)
			}
			if none, _ := telemetrytest.Metric(t, tel.Metrics, "cached_reads_total", map[string]string{"from": "none"}); none != 1 {
				t.Errorf("%v reads without an answer counted, want one", none)
			}
		})
	}
}
