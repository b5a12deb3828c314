package dns

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A load balancer is checked in the manner of Route 53: requests through it,
// from every DNS server; one that fails so many of them in a row is not answered
// with until it succeeds again. A connection that is refused tells more than one
// that is slow: it counts at once. When every one of them fails, all are
// answered with: then it is the checker that is cut off.
const slowFailures = 2

// farther is by how much less often than those of its own region a server
// checks the balancers of another while they are well: what ends with a reset is
// noticed without a check.
const farther = 2

// health is what a server's checks have found.
type health struct {
	mu     sync.Mutex
	failed map[string]int // checks in a row, by the address checked; each that there is
	sick   atomic.Pointer[map[string]bool]
}

// well leaves out what fails its checks.
func (h *health) well(es []Endpoint) []Endpoint {
	sick := h.sick.Load()
	if sick == nil || len(*sick) == 0 {
		return es
	}
	return slices.DeleteFunc(slices.Clone(es), func(e Endpoint) bool { return (*sick)[e.Check] })
}

// know says which balancers there are.
func (h *health) know(now map[balancer]bool) (changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	was := h.failed
	h.failed = make(map[string]int, len(now))
	for b := range now {
		h.failed[b.addr] = was[b.addr]
	}
	return h.settle()
}

// note counts a check's outcome.
func (h *health) note(addr string, refused bool, err error) (changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n, known := h.failed[addr]
	switch {
	case !known:
		return false // it has gone meanwhile
	case err == nil:
		n = 0
	case refused:
		n = slowFailures
	default:
		n++
	}
	h.failed[addr] = n
	return h.settle()
}

// settle makes what was counted the truth for answers.
func (h *health) settle() (changed bool) {
	sick := map[string]bool{}
	for addr, n := range h.failed {
		if n >= slowFailures {
			sick[addr] = true
		}
	}
	if len(sick) == len(h.failed) {
		clear(sick)
	}
	was := h.sick.Swap(&sick)
	return was == nil && len(sick) > 0 || was != nil && !maps.Equal(*was, sick)
}

// balancer is a load balancer that is checked.
type balancer struct{ region, addr string }

// watch checks the load balancers that there are until ctx ends.
func (s *Server) watch(ctx context.Context) error {
	if s.deps.Dial == nil {
		return nil
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	checked := map[balancer]context.CancelFunc{}
	tick := time.NewTicker(s.deps.Timing.LeaseRenewal.D())
	defer tick.Stop()
	for {
		now := s.balancers()
		s.tell(s.health.know(now))
		for b, end := range checked {
			if !now[b] {
				end()
				delete(checked, b)
			}
		}
		for b := range now {
			if checked[b] == nil {
				bctx, end := context.WithCancel(ctx)
				checked[b] = end
				wg.Go(func() { s.check(bctx, b) })
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (s *Server) balancers() map[balancer]bool {
	out := map[balancer]bool{}
	t := s.plan.Load()
	for _, region := range t.nearest[t.own] {
		for _, e := range s.deps.Zones(region) {
			if e.Check != "" {
				out[balancer{region, e.Check}] = true
			}
		}
	}
	return out
}

func (s *Server) tell(changed bool) {
	if changed {
		s.log.Info("dns: other load balancers are healthy now", "failing", slices.Sorted(maps.Keys(*s.health.sick.Load())))
	}
}

// check checks one balancer until ctx ends: at its times, and at once when its
// connection ends, which tells of most deaths without a check.
func (s *Server) check(ctx context.Context, b balancer) {
	p := probe{dial: s.deps.Dial, addr: b.addr}
	defer p.close()
	interval := s.deps.Timing.LeaseRenewal.D()
	var hasty time.Time // the last check before its time
	for ctx.Err() == nil {
		t, began := s.plan.Load(), time.Now()
		refused, err := p.check(ctx, s.deps.Timing.RPCTimeout.D()+2*t.rtt[b.region])
		if ctx.Err() != nil {
			return
		}
		s.tell(s.health.note(b.addr, refused, err))
		next := began.Add(interval)
		if err == nil && b.region != t.own {
			next = began.Add(farther * interval)
		}
		if !p.rest(ctx, next) {
			continue
		}
		// A balancer that ends every connection is not asked in a tight loop.
		if again := hasty.Add(interval); time.Now().Before(again) {
			p.rest(ctx, again)
		}
		hasty = time.Now()
	}
}
