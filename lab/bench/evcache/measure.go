package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"github.com/flix-lab/flix/services/evcache"
	"github.com/flix-lab/flix/services/telemetry"
)

// result compares the two clients at one operation.
type result struct {
	Server     string  `json:"server"`
	Operation  string  `json:"operation"`
	Callers    int     `json:"callers"`
	Peer       figures `json:"gomemcache"`
	Flix       figures `json:"flix"`
	AddedP99US float64 `json:"added_p99_us"`
}

// figures are those of one client, in microseconds and per operation.
type figures struct {
	P50US  float64 `json:"p50_us"`
	P99US  float64 `json:"p99_us"`
	Allocs float64 `json:"allocs"`
	Bytes  float64 `json:"bytes"`
}

// operation is one thing that both clients do.
type operation struct {
	name       string
	peer, flix func(i int) error
}

// document is a value like those that services keep: JSON, which gzip halves
// and more.
func document(n int) []byte {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, `{"title":"t-%d","rung":%d,"position_s":%d.5},`, i*7919%10007, i%5, i*37%3600)
	}
	return []byte(b.String()[:n])
}

// keys are enough that no cache line and no connection is special.
const keys = 512

func measure(ctx context.Context, server, addr string, c config) ([]result, error) {
	most := slices.Max(c.callers)
	peer := memcache.New(addr)
	peer.Timeout, peer.MaxIdleConns = time.Second, most
	defer func() { _ = peer.Close() }() // its measuring is over
	client := func(compressOver int) (*evcache.Client, error) {
		return evcache.New(evcache.Config{
			Servers: func() []evcache.Node { return []evcache.Node{{Addr: addr, Zone: "a"}} }, Zone: "a", Prefix: "flix", Conns: most,
			CompressOver: compressOver, Timeouts: evcache.Timeouts{Read: time.Second}, Hot: evcache.Hot{PerSecond: 1 << 19}, Tel: telemetry.Discard(),
		})
	}
	plain, err := client(-1)
	if err != nil {
		return nil, err
	}
	defer func() { _ = plain.Close() }() // its measuring is over
	packing, err := client(0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = packing.Close() }() // its measuring is over
	small, large := document(100), document(1024)
	key := func(kind string, i int) string { return fmt.Sprint(kind, "-", i%keys) }
	for i := range keys {
		for kind, v := range map[string][]byte{"small": small, "large": large} {
			// As the other client stores it: the same key to both.
			if err := plain.Set(ctx, key(kind, i), v, time.Hour); err != nil {
				return nil, err
			}
		}
		if err := packing.Set(ctx, key("packed", i), large, time.Hour); err != nil {
			return nil, err
		}
	}
	var names [keys]struct{ small, large, packed string }
	for i := range names {
		names[i].small, names[i].large, names[i].packed = key("small", i), key("large", i), key("packed", i)
	}
	get := func(e *evcache.Client, name func(i int) string) func(int) error {
		return func(i int) error { _, err := e.Get(ctx, name(i)); return err }
	}
	set := func(e *evcache.Client, name func(i int) string, v []byte) func(int) error {
		return func(i int) error { return e.Set(ctx, name(i), v, time.Hour) }
	}
	smallKey := func(i int) string { return names[i%keys].small }
	largeKey := func(i int) string { return names[i%keys].large }
	packedKey := func(i int) string { return names[i%keys].packed }
	peerGet := func(name func(i int) string) func(int) error {
		return func(i int) error { _, err := peer.Get("flix:" + name(i)); return err }
	}
	peerSet := func(name func(i int) string, v []byte) func(int) error {
		return func(i int) error {
			return peer.Set(&memcache.Item{Key: "flix:" + name(i), Value: v, Flags: uint32(evcache.Bytes), Expiration: 3600})
		}
	}
	var out []result
	for _, op := range []operation{
		{"get 100 B", peerGet(smallKey), get(plain, smallKey)},
		{"get 1 KiB", peerGet(largeKey), get(plain, largeKey)},
		// The plain client reads the packed bytes and unpacks nothing.
		{"get 1 KiB, gzip", peerGet(packedKey), get(packing, packedKey)},
		{"set 100 B", peerSet(smallKey, small), set(plain, smallKey, small)},
		{"set 1 KiB", peerSet(largeKey, large), set(plain, largeKey, large)},
		// The plain client sends the value as it is.
		{"set 1 KiB, gzip", peerSet(largeKey, large), set(packing, packedKey, large)},
	} {
		for _, callers := range c.callers {
			r, err := compare(ctx, op, callers, c)
			if err != nil {
				return out, fmt.Errorf("%s: %w", op.name, err)
			}
			r.Server = server
			out = append(out, r)
		}
	}
	return out, nil
}

// compare lets the clients take turns.
func compare(ctx context.Context, op operation, callers int, c config) (result, error) {
	r := result{Operation: op.name, Callers: callers}
	var peer, flix tally
	for done := 0; done < c.ops; done += c.turn {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		first, second := turn{&peer, op.peer}, turn{&flix, op.flix}
		if done/c.turn%2 == 1 {
			first, second = second, first
		}
		for _, t := range []turn{first, second} {
			if err := t.take(callers, c.turn, done); err != nil {
				return r, err
			}
		}
	}
	r.Peer, r.Flix = peer.figures(), flix.figures()
	r.AddedP99US = r.Flix.P99US - r.Peer.P99US
	return r, nil
}

// turn is some operations of one client.
type turn struct {
	into *tally
	do   func(i int) error
}

// tally is what one client took so far: the median and the 99th percentile of
// each of its turns.
type tally struct {
	p50, p99            []time.Duration
	ops, mallocs, bytes uint64
}

func (t turn) take(callers, n, from int) error {
	each := max(n/callers, 1)
	took := make([][]time.Duration, callers)
	for i := range took {
		took[i] = make([]time.Duration, 0, each)
	}
	errs := make([]error, callers)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var wg sync.WaitGroup
	for w := range callers {
		wg.Go(func() {
			for i := range each {
				start := time.Now()
				if err := t.do(from + i*callers + w); err != nil {
					errs[w] = err
					return
				}
				took[w] = append(took[w], time.Since(start))
			}
		})
	}
	wg.Wait()
	runtime.ReadMemStats(&after)
	var all []time.Duration
	for w := range callers {
		if errs[w] != nil {
			return errs[w]
		}
		all = append(all, took[w]...)
	}
	slices.Sort(all)
	t.into.p50 = append(t.into.p50, all[len(all)/2])
	t.into.p99 = append(t.into.p99, all[len(all)*99/100])
	// The goroutines of a turn are few beside its operations.
	t.into.ops += uint64(len(all))
	t.into.mallocs += after.Mallocs - before.Mallocs
	t.into.bytes += after.TotalAlloc - before.TotalAlloc
	return nil
}

// figures takes the median over the turns, which a turn that the machine spent
// on something else does not move.
func (t *tally) figures() figures {
	middle := func(of []time.Duration) float64 { slices.Sort(of); return us(of[len(of)/2]) }
	n := float64(t.ops)
	return figures{P50US: middle(t.p50), P99US: middle(t.p99), Allocs: float64(t.mallocs) / n, Bytes: float64(t.bytes) / n}
}
