package resilience

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
)

func TestCollapserAsksOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGroup(telemetry.Discard(), Options{})
		var asked [][]int
		c := NewCollapser(g, "GetMany", CollapserOptions{}, func(_ context.Context, keys []int) (map[int]string, error) {
			asked = append(asked, keys)
			return map[int]string{1: "one", 2: "two"}, nil
		})
		var wg sync.WaitGroup
		got := make([]string, 4)
		errs := make([]error, 4)
		for i, key := range []int{1, 2, 2, 3} {
			wg.Go(func() { got[i], errs[i] = c.Do(t.Context(), key) })
		}
		wg.Wait()
		if len(asked) != 1 || len(asked[0]) != 3 || got[0] != "one" || got[1] != "two" || got[2] != "two" || services.KindOf(errs[3]) != services.NotFound {
			t.Errorf("asked %v, got %q, %v", asked, got, errs)
		}
		g.Wait()
		added, batches, cached := c.c.window.sums(g.clock.now())
		if added != 3 || batches != 1 || cached != 1 || state(t, g, "GetMany").Events["collapsed"] != 3 {
			t.Errorf("%d added, %d batches, %d cached", added, batches, cached)
		}
	})
}

func TestCollapserGoesAtOnceWhenFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGroup(telemetry.Discard(), Options{})
		c := NewCollapser(g, "GetMany", CollapserOptions{Delay: time.Hour, MaxBatch: 2}, func(_ context.Context, keys []int) (map[int]int, error) {
			return map[int]int{keys[0]: len(keys), keys[1]: len(keys)}, nil
		})
		start := time.Now()
		var wg sync.WaitGroup
		for key := range 2 {
			wg.Go(func() {
				if n, err := c.Do(t.Context(), key); n != 2 || err != nil {
					t.Errorf("%d, %v", n, err)
				}
			})
		}
		wg.Wait()
		if time.Since(start) != 0 {
			t.Errorf("a full batch waited %s", time.Since(start))
		}
	})
}

func TestCollapserWhoLeavesAndWhoPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGroup(telemetry.Discard(), Options{})
		c := NewCollapser(g, "GetMany", CollapserOptions{}, func(_ context.Context, keys []int) (map[int]int, error) {
			if keys[0] == 13 {
				panic("bug")
			}
			return map[int]int{1: 1}, nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := c.Do(ctx, 1); !errors.Is(err, context.Canceled) {
				t.Errorf("who left got %v", err)
			}
		})
		wg.Go(func() {
			if n, err := c.Do(t.Context(), 1); n != 1 || err != nil {
				t.Errorf("who stayed got %d, %v", n, err)
			}
		})
		synctest.Wait()
		cancel()
		wg.Wait()
		if _, err := c.Do(t.Context(), 13); services.KindOf(err) != services.Internal {
			t.Errorf("a panic became %v", err)
		}
		g.Wait()
	})
}

func TestOnceWithinAScope(t *testing.T) {
	g := NewGroup(telemetry.Discard(), Options{Timeout: time.Minute})
	cmd := New[string](g, "Get", Options{})
	calls := 0
	f := func(context.Context) (int, error) { calls++; return calls, nil }
	ctx := WithScope(t.Context())
	for range 3 {
		if v, err := Once(ctx, cmd, "k", f); v != 1 || err != nil {
			t.Errorf("%d, %v", v, err)
		}
	}
	if v, _ := Once(ctx, cmd, "other", f); v != 2 {
		t.Errorf("another key: %d", v)
	}
	if v, _ := Once(WithScope(t.Context()), cmd, "k", f); v != 3 {
		t.Errorf("another request: %d", v)
	}
	if v, _ := Once(t.Context(), cmd, "k", f); v != 4 {
		t.Errorf("no request: %d", v)
	}
	failures := 0
	for range 2 {
		if _, err := Once(ctx, cmd, "broken", func(context.Context) (int, error) { failures++; return 0, errBroken }); !errors.Is(err, errBroken) {
			t.Errorf("%v", err)
		}
	}
	if failures != 2 {
		t.Errorf("a failure was remembered")
	}
	if n := state(t, g, "Get").Events["response_from_cache"]; n != 2 {
		t.Errorf("%d responses from cache, want 2", n)
	}
}
