package gateway

import (
	"slices"
	"strings"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/gateway/wire"
)

// A signed debug header may send its own request elsewhere: the claim Session
// is then "instance=ID" or "vip=NAME". The path still decides which API is
// meant, and what that asks of a client.
const (
	surgicalInstance = "instance="
	surgicalVIP      = "vip="
)

// operate is the inbound filter "surgical": it follows what a signed header
// asks for this one request, and a squeeze of the route's VIP. Overlays of the
// table have been applied by the filter "route".
func (s *Server) operate(ex *Exchange) error {
	if ex.Route == nil {
		return nil
	}
	if ex.debug != nil && ex.debug.Session != "" {
		if err := s.redirect(ex, ex.debug.Session); err != nil {
			return err
		}
	}
	ex.pin = ex.Route.Instance
	if q := s.settings.squeeze.Load(); q != nil && ex.pin == "" && q.vip == ex.Route.VIP && len(ex.Route.Origins) == 0 {
		q.steer(ex)
	}
	return nil
}

func (s *Server) redirect(ex *Exchange, to string) error {
	over := &Route{Name: "signed", Overlay: true, When: "path ^= /"}
	switch {
	case strings.HasPrefix(to, surgicalInstance):
		over.Instance = to[len(surgicalInstance):]
	case strings.HasPrefix(to, surgicalVIP):
		over.VIP = to[len(surgicalVIP):]
	}
	if field, err := over.check(nil); err != nil {
		return services.Wrap(DebugHeader+": "+field, err)
	}
	rs := s.settings.routes.Load()
	if err := rs.compile(over); err != nil {
		return err
	}
	ex.Route = rs.derive(ex.Route, over)
	return nil
}

// chosenTargets says whether the endpoint "target" answers: the route leads to
// servers of its own, or a server is to be preferred or left out.
func chosenTargets(ex *Exchange) bool {
	return ex.Route != nil && (ex.Route.compiled != nil && len(ex.Route.compiled.origins) > 0 || ex.pin != "" || ex.avoid != "")
}

// toTarget is the endpoint for those. A request loses nothing by its
// preference: when the instance is not up the others of the VIP are asked.
func (s *Server) toTarget(ex *Exchange) error {
	if origins := ex.Route.compiled.origins; len(origins) > 0 {
		return s.ask(ex, ex.Route.Name, s.fixed)
	}
	start := ex.looked
	err := s.ask(ex, ex.Route.VIP, s.favoured)
	if ex.squeeze != nil {
		ex.squeeze.answered(ex, ex.looked-start)
	}
	return err
}

// preferred are the servers of the route's VIP, in the order of the request's
// preference.
func (s *Server) preferred(ex *Exchange, out []server) []server {
	out = s.instances(ex, out)
	for k := range out {
		switch out[k].id {
		case ex.avoid:
			out[k].rank += ejectedRank / 2
		case ex.pin:
			out[k].rank -= ejectedRank / 2
		}
	}
	return out
}

// fixedOrigins appends a route's fixed origins.
func (s *Server) fixedOrigins(ex *Exchange, out []server) []server {
	for _, addr := range ex.Route.compiled.origins {
		out = append(out, server{id: addr, region: s.d.Region, addr: addr, load: s.servers.load(addr)})
	}
	return out
}

// aim makes a request what the route's fixed origins want to get.
func (r *Route) aim(to *wire.Request, in *Request, srv server) {
	c := r.compiled
	if c.scheme == schemeTLS {
		to.Host = secureHost(c.secure, srv.addr)
	}
	if c.rewrite != "" {
		to.Target = in.rewritten(r.Prefix+r.Path, c.rewrite)
	}
}

// leavesFor says whether a request for a route is passed on to its region.
func (s *Server) leavesFor(ex *Exchange) bool {
	r := ex.Route
	return r != nil && r.Region != "" && r.Region != s.d.Region && ex.ProxiedFrom == "" && s.d.Remote != nil
}

// findRoute is the inbound filter "route". A request that came from another
// region, or that no gateway of another region took, stays.
func (s *Server) findRoute(ex *Exchange) error {
	if ex.Request.Path == wholeServer {
		return nil
	}
	rs := s.settings.routes.Load()
	ex.Route = rs.match(ex, ex.ProxiedFrom != "" || s.d.Remote == nil)
	if s.leavesFor(ex) && !slices.Contains(ex.Savers, ex.Route.Region) {
		ex.Savers = append(ex.Savers, ex.Route.Region)
	}
	return nil
}

// ToInstance and ToVIP are the claims of a debug token that sends its requests
// to an instance, or to another VIP.
func ToInstance(id string) string { return surgicalInstance + id }

// ToVIP is ToInstance for a VIP.
func ToVIP(vip string) string { return surgicalVIP + vip }
