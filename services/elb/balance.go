package elb

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// balancer picks targets: those of its own zone before others, among them the
// less loaded of two picked at random, and none that refused a moment ago
// while another is left.
type balancer struct {
	zone  string
	eject time.Duration

	mu    sync.Mutex
	loads map[string]*load // by address: a target that moved starts anew
}

// load is what a balancer knows of a target.
type load struct {
	active       atomic.Int64
	ejectedUntil atomic.Int64 // Unix nanoseconds
}

func (b *balancer) init(zone string, eject time.Duration) {
	b.zone, b.eject, b.loads = zone, eject, make(map[string]*load)
}

// candidate is a target that can still be tried.
type candidate struct {
	id, addr string
	own      bool
	load     *load
}

// candidates returns every target that has an address, with its load.
func (b *balancer) candidates(targets []Target, addr func(Target) string) []candidate {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]candidate, 0, len(targets))
	for _, t := range targets {
		a := addr(t)
		if a == "" {
			continue
		}
		l := b.loads[a]
		if l == nil {
			l = new(load)
			b.loads[a] = l
		}
		out = append(out, candidate{id: t.ID, addr: a, own: t.Zone == b.zone, load: l})
	}
	b.forget(targets)
	return out
}

// forget drops the loads of targets that are gone, once they outnumber the
// living: every target has two addresses.
func (b *balancer) forget(targets []Target) {
	if len(b.loads) <= 4*len(targets)+16 {
		return
	}
	known := make(map[string]bool, 2*len(targets))
	for _, t := range targets {
		known[t.Addr], known[t.PlainAddr] = true, true
	}
	for a, l := range b.loads {
		if !known[a] && l.active.Load() == 0 {
			delete(b.loads, a)
		}
	}
}

// pick takes the best candidate out of cs. Ejected targets are the last
// resort: when all have refused, trying is better than refusing a client.
func (b *balancer) pick(cs []candidate, now time.Time) (candidate, []candidate) {
	class := func(c candidate) int {
		n := 0
		if !c.own {
			n++
		}
		if c.load.ejectedUntil.Load() > now.UnixNano() {
			n += 2
		}
		return n
	}
	best := class(cs[0])
	for _, c := range cs[1:] {
		best = min(best, class(c))
	}
	var first, second, seen = -1, -1, 0
	for i, c := range cs {
		if class(c) != best {
			continue
		}
		// Reservoir sampling of two without a slice of the class.
		seen++
		switch {
		case first < 0:
			first = i
		case second < 0:
			second = i
		default:
			if j := rand.IntN(seen); j == 0 {
				first = i
			} else if j == 1 {
				second = i
			}
		}
	}
	chosen := first
	if second >= 0 {
		a, o := cs[first].load.active.Load(), cs[second].load.active.Load()
		if o < a || (o == a && rand.IntN(2) == 0) {
			chosen = second
		}
	}
	c := cs[chosen]
	cs[chosen] = cs[len(cs)-1]
	return c, cs[:len(cs)-1]
}

// refusedAt leaves a target out for a while.
func (b *balancer) refusedAt(c candidate, now time.Time) {
	c.load.ejectedUntil.Store(now.Add(b.eject).UnixNano())
}

// accepted takes a target back in.
func (b *balancer) accepted(c candidate) { c.load.ejectedUntil.Store(0) }
