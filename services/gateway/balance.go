package gateway

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/resilience/cost"
)

// server is something a request can be tried on: an instance of an API, or a
// gateway of another region.
type server struct {
	id, region, addr string
	// rank orders servers before their load does: lower first.
	rank int
	load *load
}

// ejectedRank puts a server that is left out behind all that are not; when
// nothing else is left it is tried nevertheless. probationRank does the same to
// one on probation that has its share.
const (
	ejectedRank   = 1000
	probationRank = 100
)

// balancer knows the load of servers by address.
type balancer struct {
	eject time.Duration
	mu    sync.Mutex
	loads map[string]*load
}

func (b *balancer) init(eject time.Duration) { b.eject, b.loads = eject, make(map[string]*load) }

// maxLoads is where loads of servers that are gone are looked for.
const maxLoads = 512

// load returns the load of an address.
func (b *balancer) load(addr string) *load {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.loads[addr]
	if l == nil {
		if len(b.loads) >= maxLoads {
			b.forget()
		}
		l = new(load)
		b.loads[addr] = l
	}
	return l
}

// forget drops loads that say nothing: no request, no ejection, nothing heard
// for long. A view that still has one goes on using it.
func (b *balancer) forget() {
	now := time.Now()
	for a, l := range b.loads {
		if l.Quiet(now) && !l.ejected(now) {
			delete(b.loads, a)
		}
	}
}

// pick chooses among the servers of the lowest rank that have not been tried:
// two at random, of them the one that a further request costs less (choice of
// two by latency, requests in flight and utilisation).
func pick(servers []server, tried []string, now time.Time) (server, bool) {
	rank := func(s *server) int {
		switch {
		case s.load.ejected(now):
			return s.rank + ejectedRank
		case s.load.onProbation():
			return s.rank + probationRank
		}
		return s.rank
	}
	var (
		one, two *server
		best     int
		seen     int
	)
	for i := range servers {
		s := &servers[i]
		if slices.Contains(tried, s.addr) {
			continue
		}
		r := rank(s)
		if one == nil || r < best {
			one, two, best, seen = s, nil, r, 1
			continue
		}
		if r > best {
			continue
		}
		// Reservoir sampling of two.
		seen++
		switch {
		case two == nil:
			two = s
		default:
			if j := rand.IntN(seen); j == 0 {
				one = s
			} else if j == 1 {
				two = s
			}
		}
	}
	if one == nil {
		return server{}, false
	}
	if two != nil && cost.Cheaper(&two.load.Cost, &one.load.Cost, now) {
		one = two
	}
	return *one, true
}

// guards bound the requests at once per VIP, so that one slow API does not
// take all the memory of the edge.
type guards struct {
	mu   sync.RWMutex
	open map[string]*guard
}

// guard counts the requests under way to one VIP, and how tries ended; it finds
// how many the API takes, and has its servers and its budget of retries.
type guard struct {
	atomic.Int64
	view     atomic.Pointer[view]
	adaptive adaptive
	budget   budget
	refused  atomic.Uint64
	tries    [len(allOutcomes)]atomic.Pointer[prometheus.Counter]
}

// of returns the guard of a VIP; there is one per VIP of the routing tables
// ever set.
func (g *guards) of(vip string) *guard {
	g.mu.RLock()
	n := g.open[vip]
	g.mu.RUnlock()
	if n != nil {
		return n
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if n = g.open[vip]; n == nil {
		if g.open == nil {
			g.open = make(map[string]*guard)
		}
		n = new(guard)
		g.open[vip] = n
	}
	return n
}

// enter counts a request to a VIP in, if fewer than limit are under way and than
// the algorithm finds ("" for none); Add(-1) when it is over.
func (g *guards) enter(vip string, limit int64, algorithm string) (*guard, error) {
	n := g.of(vip)
	n.budget.earn()
	limit = n.adaptive.now(algorithm, limit)
	if n.Add(1) > limit {
		n.Add(-1)
		n.refused.Add(1)
		return nil, services.Errorf(services.Exhausted, "%s: %d requests are under way already", vip, limit).
			WithReason(ReasonConcurrency).WithRemedy("try again in a moment")
	}
	return n, nil
}

// tried counts how a try ended.
func (g *guard) tried(m *metrics, vip string, o outcome) {
	for k, name := range allOutcomes {
		if name != o {
			continue
		}
		c := g.tries[k].Load()
		if c == nil {
			made := m.tries.WithLabelValues(vip, string(o))
			c = &made
			g.tries[k].Store(c)
		}
		(*c).Inc()
		return
	}
}
