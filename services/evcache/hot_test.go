package evcache

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/services/telemetry/telemetrytest"
)

func TestHotKeysAreReadFromMemory(t *testing.T) {
	servers, nodes := zones(t, 1)
	ctx := t.Context()
	tel := telemetry.Discard()
	c := newClient(t, Config{Hot: Hot{PerSecond: 5, TTL: time.Hour}, Tel: tel}, nodes...)
	for _, k := range []string{"hot", "cold"} {
		if err := c.Set(ctx, k, []byte("v"), 0); err != nil {
			t.Fatal(err)
		}
	}
	want(t, c, "cold", "v")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				if v, err := c.Get(ctx, "hot"); err != nil || string(v) != "v" {
					t.Errorf("%q, %v", v, err)
				} else {
					v[0] = 'x' // the value is the caller's
				}
			}
		})
	}
	wg.Wait()
	if n := servers[0].server.cache.getHits; n > 400 {
		t.Errorf("the server was asked %d times for 1600 reads", n)
	}
	if n, _ := telemetrytest.Metric(t, tel.Metrics, "evcache_gets_total", map[string]string{"result": "hot_hit"}); n < 1200 {
		t.Errorf("%v reads from memory", n)
	}
	// An own write shows at once, a foreign one after the time to live.
	if err := c.Set(ctx, "hot", []byte("w"), 0); err != nil {
		t.Fatal(err)
	}
	want(t, c, "hot", "w")
	if err := c.Delete(ctx, "hot"); err != nil {
		t.Fatal(err)
	}
	if v, err := c.Get(ctx, "hot"); err != ErrMiss { //nolint:errorlint // itself is returned
		t.Errorf("a deleted hot key: %q, %v", v, err)
	}
}

func TestHotTierIsBounded(t *testing.T) {
	m := newClientMetrics(telemetry.Discard().Metrics)
	h := newHotTier(Hot{PerSecond: 1, TTL: time.Hour, MaxBytes: 64 << 10}, m)
	for i := range 10_000 {
		h.put(fmt.Sprint(i), make([]byte, 1000))
	}
	h.put("too large", make([]byte, 32<<10))
	if _, ok := h.get("too large"); ok {
		t.Error("a value of half the bound is kept")
	}
	sum := 0
	for k, v := range h.kept {
		sum += len(k) + len(v.value) + hotOverhead
	}
	if sum != h.bytes || sum > 64<<10 || len(h.kept) < 10 {
		t.Errorf("%d bytes in %d values, counted %d", sum, len(h.kept), h.bytes)
	}
}

func TestTheSketchForgets(t *testing.T) {
	h := newHotTier(Hot{PerSecond: 3}.withDefaults(), nil)
	c := &h.rows[0][0]
	for i, want := range []uint64{1, 2, 3} {
		if n := tick(c, 7); n != want {
			t.Errorf("read %d counts %d", i, n)
		}
	}
	if n := tick(c, 8); n != 3 { // the second before still tells
		t.Errorf("in the next second %d", n)
	}
	if n := tick(c, 10); n != 1 {
		t.Errorf("after a second without a read %d", n)
	}
}
