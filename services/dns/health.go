package dns

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flix-lab/flix/services"
)

// A load balancer is checked as Route 53 checks an endpoint: a request through
// it every interval, from every DNS server; one that fails so many times in a
// row is not answered with until it succeeds again. A connection that is
// refused tells more than one that is slow: it counts at once. When every one
// of them fails, all are answered with: then it is the checker that is cut off.
const slowFailures = 2

// health is what a server's checks have found.
type health struct {
	mu     sync.Mutex
	failed map[string]int // checks in a row, by the address checked
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

// note counts a check's outcome.
func (h *health) note(addr string, refused bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err == nil:
		delete(h.failed, addr)
	case refused:
		h.failed[addr] = slowFailures
	default:
		h.failed[addr]++
	}
}

// settle makes what was counted the truth for answers; of are the addresses
// that there are.
func (h *health) settle(of []string) (changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	sick := map[string]bool{}
	for addr, n := range h.failed {
		if !slices.Contains(of, addr) {
			delete(h.failed, addr)
		} else if n >= slowFailures {
			sick[addr] = true
		}
	}
	if len(sick) == len(of) {
		clear(sick)
	}
	was := h.sick.Swap(&sick)
	return was == nil && len(sick) > 0 || was != nil && len(*was) != len(sick)
}

// watch checks the load balancers until ctx ends.
func (s *Server) watch(ctx context.Context) error {
	if s.deps.Dial == nil {
		return nil
	}
	tick := time.NewTicker(s.deps.Timing.LeaseRenewal.D())
	defer tick.Stop()
	for {
		s.round(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// round checks every load balancer once, all at once.
func (s *Server) round(ctx context.Context) {
	var (
		wg  sync.WaitGroup
		all []string
	)
	t := s.plan.Load()
	for _, region := range t.nearest[t.own] {
		limit := s.deps.Timing.RPCTimeout.D() + 2*t.rtt[region]
		for _, e := range s.deps.Zones(region) {
			if e.Check == "" {
				continue
			}
			all = append(all, e.Check)
			wg.Go(func() {
				cctx, cancel := context.WithTimeout(ctx, limit)
				defer cancel()
				refused, err := s.check(cctx, e.Check)
				if ctx.Err() == nil {
					s.health.note(e.Check, refused, err)
				}
			})
		}
	}
	wg.Wait()
	if ctx.Err() == nil && s.health.settle(all) {
		s.log.Info("dns: other load balancers are healthy now", "failing", *s.health.sick.Load())
	}
}

// check asks for something through a load balancer. Whatever a gateway answers
// shows that the way is whole; refused says that nobody listens there.
func (s *Server) check(ctx context.Context, addr string) (refused bool, err error) {
	c, err := s.deps.Dial(ctx, "tcp", addr)
	if err != nil {
		return ctx.Err() == nil, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	return false, ask(c)
}

func ask(c net.Conn) error {
	if _, err := c.Write([]byte("GET /healthz HTTP/1.1\r\nHost: api.flix.test\r\nConnection: close\r\n\r\n")); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(c, 512), nil)
	if err != nil {
		return err
	}
	_ = resp.Body.Close() // the status is all that is wanted
	if resp.StatusCode >= http.StatusInternalServerError {
		return services.Errorf(services.Unavailable, "%s", fmt.Sprint(resp.Status))
	}
	return nil
}
