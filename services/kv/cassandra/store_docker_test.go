package cassandra_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/kv"
	"github.com/flix-lab/flix/services/kv/cassandra"
	"github.com/flix-lab/flix/services/kv/kvtest"
	"github.com/flix-lab/flix/services/telemetry"
)

func TestContract(t *testing.T) {
	s := sharedCluster(t).client(t, 0)
	kvtest.Run(t, func(testing.TB) kv.Store { return s })
}

func ctx(t testing.TB) context.Context {
	c, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return c
}

func put(t testing.TB, s kv.Store, ns kv.Namespace, p, sort, value string) {
	t.Helper()
	if err := s.Put(ctx(t), ns, p, kv.Item{Sort: sort, Value: []byte(value)}); err != nil {
		t.Fatalf("Put %s=%s: %v", sort, value, err)
	}
}

// get reads a value; "-" when there is none.
func get(t testing.TB, s kv.Store, ns kv.Namespace, p, sort string) string {
	t.Helper()
	it, err := s.Get(ctx(t), ns, p, sort)
	switch {
	case services.KindOf(err) == services.NotFound:
		return "-"
	case err != nil:
		t.Fatalf("Get %s: %v", sort, err)
	}
	return string(it.Value)
}

// Plain and conditional writes follow one another at once: their times come
// from different clocks and are of different grain, and none may be lost.
func TestPlainAndConditionalWritesInTurn(t *testing.T) {
	c := sharedCluster(t)
	a, b := c.client(t, 0), c.client(t, 0)
	for i := range 30 {
		p := "turn-" + t.Name() + fmt.Sprint(i)
		put(t, a, kv.Jobs, p, "k", "1")
		if err := b.PutIf(ctx(t), kv.Bookmarks, p, kv.Condition{Sort: "k", Absent: true}, kv.Item{Sort: "k", Value: []byte("0")}); err != nil {
			t.Fatal(err)
		}
		put(t, b, kv.Bookmarks, p, "k", "1")
		if err := a.PutIf(ctx(t), kv.Bookmarks, p, kv.Condition{Sort: "k", Equals: []byte("1")}, kv.Item{Sort: "k", Value: []byte("2")}, kv.Item{Sort: "other"}); err != nil {
			t.Fatal(err)
		}
		if got := get(t, b, kv.Bookmarks, p, "k"); got != "2" {
			t.Fatalf("round %d: k=%s after a conditional write, want 2", i, got)
		}
		if err := a.Delete(ctx(t), kv.Bookmarks, p, "k"); err != nil {
			t.Fatal(err)
		}
		if err := b.PutIf(ctx(t), kv.Bookmarks, p, kv.Condition{Sort: "k", Absent: true}, kv.Item{Sort: "k", Value: []byte("3")}); err != nil {
			t.Fatalf("round %d: after a deletion: %v", i, err)
		}
		if got := get(t, a, kv.Bookmarks, p, "k"); got != "3" {
			t.Fatalf("round %d: k=%s after a deletion and a conditional write, want 3", i, got)
		}
	}
}

// The condition may be on an item that is not written.
func TestConditionOnAnotherItem(t *testing.T) {
	s, p := sharedCluster(t).client(t, 0), t.Name()
	put(t, s, kv.Bookmarks, p, "lock", "me")
	write := func(cond kv.Condition) error {
		return s.PutIf(ctx(t), kv.Bookmarks, p, cond, kv.Item{Sort: "a", Value: []byte("1")}, kv.Item{Sort: "a", Value: []byte("2")})
	}
	if err := write(kv.Condition{Sort: "lock", Equals: []byte("you")}); services.KindOf(err) != services.Conflict {
		t.Errorf("PutIf = %v, want a conflict", err)
	}
	if err := write(kv.Condition{Sort: "lock", Absent: true}); services.KindOf(err) != services.Conflict {
		t.Errorf("PutIf absent = %v, want a conflict", err)
	}
	if got := get(t, s, kv.Bookmarks, p, "a"); got != "-" {
		t.Errorf("a=%s was written against the condition", got)
	}
	if err := errors.Join(write(kv.Condition{Sort: "lock", Equals: []byte("me")}), write(kv.Condition{Sort: "none", Absent: true})); err != nil {
		t.Error(err)
	}
	if a, lock := get(t, s, kv.Bookmarks, p, "a"), get(t, s, kv.Bookmarks, p, "lock"); a != "2" || lock != "me" {
		t.Errorf("a=%s, lock=%s; want the last of a's items and the lock as it was", a, lock)
	}
	if got := get(t, s, kv.Bookmarks, p, "none"); got != "-" {
		t.Errorf("the condition made an item: %s", got)
	}
	items, _, err := s.Query(ctx(t), kv.Bookmarks, p, kv.Range{})
	if err != nil || len(items) != 2 {
		t.Errorf("Query = %v, %v; want 2 items", items, err)
	}
}

// Conditional writes get their time from the nodes' clocks. A client's clock
// that differs from these makes none of its own or others' writes get lost.
func TestConditionalWritesAcrossClocks(t *testing.T) {
	c := sharedCluster(t)
	off := func(d time.Duration) *cassandra.Store {
		return c.client(t, 0, func(cfg *cassandra.Config) { cfg.Clock = func() time.Time { return time.Now().Add(d) } })
	}
	ahead, behind, right := off(200*time.Millisecond), off(-time.Hour), c.client(t, 0)
	swap := func(s *cassandra.Store, sort, from, to string) {
		t.Helper()
		cond := kv.Condition{Sort: sort, Absent: from == "-", Equals: []byte(from)}
		if err := s.PutIf(ctx(t), kv.Bookmarks, t.Name(), cond, kv.Item{Sort: sort, Value: []byte(to)}); err != nil {
			t.Fatalf("PutIf %s: %v", sort, err)
		}
		if got := get(t, right, kv.Bookmarks, t.Name(), sort); got != to {
			t.Errorf("%s=%s after a conditional write of %s", sort, got, to)
		}
	}
	put(t, ahead, kv.Bookmarks, t.Name(), "put ahead", "1")
	swap(right, "put ahead", "1", "2")

	put(t, ahead, kv.Bookmarks, t.Name(), "deleted ahead", "1")
	if err := ahead.Delete(ctx(t), kv.Bookmarks, t.Name(), "deleted ahead"); err != nil {
		t.Fatal(err)
	}
	swap(ahead, "deleted ahead", "-", "2")

	swap(behind, "behind", "-", "1")
	put(t, behind, kv.Bookmarks, t.Name(), "behind", "2")
	if got := get(t, right, kv.Bookmarks, t.Name(), "behind"); got != "2" {
		t.Errorf("behind=%s: a plain write after a conditional one was lost", got)
	}
}

// Two clients of a region, each with its own clock, count up one number.
func TestContentionAmongClients(t *testing.T) {
	c := sharedCluster(t)
	clients := []*cassandra.Store{c.client(t, 0), c.client(t, 0), c.client(t, 0)}
	p := t.Name()
	put(t, clients[0], kv.Jobs, p, "n", "0")
	var applied atomic.Int64
	var wg sync.WaitGroup
	for _, s := range clients {
		for range 2 {
			wg.Go(func() {
				for range 10 {
					it, err := s.Get(ctx(t), kv.Jobs, p, "n")
					if err != nil {
						t.Errorf("Get: %v", err)
						return
					}
					var n int
					if _, err := fmt.Sscan(string(it.Value), &n); err != nil {
						t.Errorf("n=%q: %v", it.Value, err)
						return
					}
					err = s.PutIf(ctx(t), kv.Jobs, p, kv.Condition{Sort: "n", Equals: it.Value}, kv.Item{Sort: "n", Value: fmt.Append(nil, n+1)})
					switch {
					case err == nil:
						applied.Add(1)
					case services.KindOf(err) != services.Conflict:
						t.Errorf("PutIf: %v", err)
					}
				}
			})
		}
	}
	wg.Wait()
	if got := get(t, clients[0], kv.Jobs, p, "n"); got != fmt.Sprint(applied.Load()) || got == "0" {
		t.Errorf("n=%s after %d writes that were applied", got, applied.Load())
	}
}

// A client's write wins over what it has read, even from a clock that is ahead;
// a conditional write says that it cannot.
func TestClockAhead(t *testing.T) {
	c := sharedCluster(t)
	ahead := c.client(t, 0, func(cfg *cassandra.Config) { cfg.Clock = func() time.Time { return time.Now().Add(time.Hour) } })
	s, p := c.client(t, 0), t.Name()
	put(t, ahead, kv.Bookmarks, p, "k", "future")
	put(t, s, kv.Bookmarks, p, "k", "unaware")
	if got := get(t, s, kv.Bookmarks, p, "k"); got != "future" {
		t.Errorf("k=%s, want the later time to win", got)
	}
	put(t, s, kv.Bookmarks, p, "k", "after")
	if got := get(t, s, kv.Bookmarks, p, "k"); got != "after" {
		t.Errorf("k=%s, want what was written after reading", got)
	}
	patient := ctx(t)
	err := c.client(t, 0).PutIf(patient, kv.Bookmarks, p, kv.Condition{Sort: "k", Equals: []byte("after")}, kv.Item{Sort: "k"})
	if services.KindOf(err) != services.Unavailable || !strings.Contains(err.Error(), "clocks disagree") || patient.Err() != nil {
		t.Errorf("PutIf on an item of the future = %v", err)
	}
}

// Pages of large values stay small, and all of them arrive.
func TestLargeValues(t *testing.T) {
	s, p := sharedCluster(t).client(t, 0), t.Name()
	value := make([]byte, 300<<10)
	for i := range 9 {
		if err := s.Put(ctx(t), kv.Bookmarks, p, kv.Item{Sort: fmt.Sprint(i), Value: value}); err != nil {
			t.Fatal(err)
		}
	}
	r, n, pages := kv.Range{}, 0, 0
	for {
		items, next, err := s.Query(ctx(t), kv.Bookmarks, p, r)
		if err != nil || len(items) > 4 {
			t.Fatalf("Query = %d items, %v", len(items), err)
		}
		n, pages = n+len(items), pages+1
		if r.Page = next; next == "" {
			break
		}
	}
	if n != 9 || pages != 3 {
		t.Errorf("%d items in %d pages, want 9 in 3", n, pages)
	}
	many := make([]kv.Item, 1000)
	for i := range many {
		many[i] = kv.Item{Sort: fmt.Sprintf("%04d", i), Value: value[:900]}
	}
	if err := s.Put(ctx(t), kv.Rows, p, many...); err != nil {
		t.Errorf("Put of %d items of one partition: %v", len(many), err)
	}
	err := s.Put(ctx(t), kv.Rows, p, kv.Item{Value: make([]byte, 2<<20)})
	if services.KindOf(err) != services.Invalid {
		t.Errorf("Put of 2 MiB = %v, want invalid", err)
	}
}

func TestNoSchema(t *testing.T) {
	s := sharedCluster(t).client(t, 0, func(cfg *cassandra.Config) { cfg.Keyspace = "none_such" })
	_, err := s.Get(ctx(t), kv.Bookmarks, "p", "s")
	if services.KindOf(err) != services.Unavailable || services.ReasonOf(err) != cassandra.ReasonNoSchema {
		t.Errorf("Get without a keyspace = %v", err)
	}
	err = s.PutIf(ctx(t), kv.Bookmarks, "p", kv.Condition{Sort: "s", Absent: true}, kv.Item{Sort: "s"})
	if services.ReasonOf(err) != cassandra.ReasonNoSchema {
		t.Errorf("PutIf without a keyspace = %v", err)
	}
}

func TestWrongRegion(t *testing.T) {
	c := sharedCluster(t)
	s := c.client(t, 0, func(cfg *cassandra.Config) { cfg.Hosts, cfg.Timeout = c.hosts(1), time.Second })
	_, err := s.Get(ctx(t), kv.Bookmarks, "p", "s")
	if services.KindOf(err) != services.Unavailable || !strings.Contains(err.Error(), "is of us-west, not of us-east") {
		t.Errorf("Get from another region's node = %v", err)
	}
}

func TestOpsAreCounted(t *testing.T) {
	tel := telemetry.Discard()
	c := sharedCluster(t)
	with := func(cfg *cassandra.Config) { cfg.Tel = tel }
	a, b := c.client(t, 0, with), c.client(t, 0, with)
	put(t, a, kv.Bookmarks, t.Name(), "k", "1")
	get(t, b, kv.Bookmarks, t.Name(), "none")
	families, err := tel.Metrics.Gather()
	if err != nil || len(families) != 1 || families[0].GetName() != "kv_client_ops_total" || len(families[0].GetMetric()) != 2 {
		t.Errorf("metrics are %v, %v", families, err)
	}
}

func BenchmarkStore(b *testing.B) {
	c := sharedCluster(b)
	s := c.client(b, 0)
	put(b, s, kv.Bookmarks, "bench", "k", "1")
	for _, bench := range []struct {
		name string
		op   func(ctx context.Context) error
	}{
		{"get", func(ctx context.Context) error {
			_, err := s.Get(ctx, kv.Bookmarks, "bench", "k")
			return err
		}},
		{"put", func(ctx context.Context) error {
			return s.Put(ctx, kv.Bookmarks, "bench", kv.Item{Sort: "k", Value: []byte("1")})
		}},
		{"put global", func(ctx context.Context) error {
			return s.Put(ctx, kv.Assets, "bench", kv.Item{Sort: "k", Value: []byte("1")})
		}},
		{"put if", func(ctx context.Context) error {
			return s.PutIf(ctx, kv.Bookmarks, "bench", kv.Condition{Sort: "none", Absent: true}, kv.Item{Sort: "c", Value: []byte("1")})
		}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			for b.Loop() {
				if err := bench.op(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
