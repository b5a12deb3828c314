package gateway

import (
	"cmp"
	"net/netip"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/lookup"
)

// toOrigin is the endpoint that asks an instance of the route's API in this
// region.
func (s *Server) toOrigin(ex *Exchange) error {
	return s.ask(ex, ex.Route.VIP, s.own)
}

// ask sends the request to one of the servers.
func (s *Server) ask(ex *Exchange, what string, servers func(*Exchange, []server) []server) error {
	guard, err := s.guards.enter(what, s.settings.concurrency.Load(), *s.settings.limit.Load())
	if err != nil {
		ex.retryAfter = momentLater
		return err
	}
	ex.guard = guard
	c := ex.call()
	c.what, c.span, c.servers, c.guard = what, spanOfAPI, servers, guard
	if r := ex.Route; r.compiled != nil && len(r.compiled.origins) > 0 {
		c.fixed = r
	}
	c.transport, c.header = s.transports.to(ex), ex.inside
	c.timeout = cmp.Or(ex.Route.Timeout.D(), time.Duration(s.settings.timeout.Load()))
	return s.send(c)
}

// noServers says why there is nobody to send a call to.
func (s *Server) noServers(c *call) error {
	r := c.ex.Route
	if r != nil && r.VIP == c.what && c.fixed == nil && !c.ex.callsGRPC() && len(s.view(r.VIP).callees) > 0 {
		return services.Errorf(services.Unavailable, "%s: its instances have the port rpc and no port http, so that only gRPC reaches them", c.what).WithReason(ReasonNoServers).
			WithRemedy("call it as gRPC does, over HTTP/2 with Content-Type: application/grpc and TE: trailers, or lead the route %s to a VIP that answers HTTP", r.Name)
	}
	return services.Errorf(services.Unavailable, "%s: no live server", c.what).WithReason(ReasonNoServers).WithRemedy("try again in a moment")
}

func spanOfAPI(c *call, _ server) string { return c.ex.Request.Method + " " + c.what }

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
