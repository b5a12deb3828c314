package gateway

import (
	"cmp"
	"net/netip"
	"time"

	"github.com/flix-lab/flix/services/lookup"
	"github.com/flix-lab/flix/topology"
)

// toOrigin is the endpoint that asks an instance of the route's API in this
// region.
func (s *Server) toOrigin(ex *Exchange) error {
	route := ex.Route
	leave, err := s.guards.enter(route.VIP, s.settings.concurrency.Load())
	if err != nil {
		return err
	}
	ex.OnDone(func(*Exchange) { leave() })
	return s.send(&call{
		ex: ex, what: route.VIP,
		span: func(server) string { return ex.Request.Method + " " + route.VIP },
		next: func(tried []string) (server, bool) {
			return pick(s.instances(route.VIP), tried, time.Now())
		},
		transport: s.transports.origin,
		header:    ex.inside,
		timeout:   cmp.Or(route.Timeout.D(), time.Duration(s.settings.timeout.Load())),
	})
}

// instances are the servers of a VIP: its live instances inside the declared
// networks, those of the own zone first.
func (s *Server) instances(vip string) []server {
	up := s.d.Lookup.VIP(vip)
	out := make([]server, 0, len(up))
	for _, i := range up {
		addr := i.Addr(topology.PortHTTP)
		if addr == "" || !s.inside(i) {
			continue
		}
		srv := server{id: i.ID, region: i.Region, addr: addr, load: s.servers.load(addr)}
		if i.Zone != s.d.Zone {
			srv.rank = 1
		}
		out = append(out, srv)
	}
	return out
}

// inside says whether an instance lies in the declared networks. A name
// instead of an address does not: it could come to mean anything.
func (s *Server) inside(i lookup.Instance) bool {
	if a, err := netip.ParseAddr(i.Host); err == nil {
		for _, p := range s.d.OriginCIDRs {
			if p.Contains(a.Unmap()) {
				return true
			}
		}
	}
	s.metrics.refused.WithLabelValues("origin_outside").Inc()
	s.d.Tel.Log.Warn("instance left out: it is outside the declared networks", "server", i.ID, "host", i.Host)
	return false
}
