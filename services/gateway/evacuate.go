package gateway

import (
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/token"
)

// viaHeader carries the proof that a gateway of the lab passed a request on
// from another region: a token.Discharge token. Its claims name the gateway
// (Member), the client's address (Client) and the request (Session).
const viaHeader = "X-Flix-Via"

// viaTTL is how long a proof is good: as long as one try may take.
func (s *Server) viaTTL() time.Duration { return 10 * s.d.Timing.RPCTimeout.D() }

// arrived reads the proof that a request comes from another region. A bad one
// is worth nothing: the request then counts as its sender's own.
func (s *Server) arrived(ex *Exchange) {
	via := ex.Request.Header.Get(viaHeader)
	if via == "" {
		return
	}
	claims, err := s.d.Key.Verify(token.Discharge, via, ex.Received)
	client, aerr := netip.ParseAddr(claims.Client)
	if err != nil || aerr != nil || claims.Member == "" {
		s.metrics.refused.WithLabelValues("via").Inc()
		s.d.Tel.Log.Warn("a request claims to come from another region without proof", "peer", ex.Peer, "error", err)
		return
	}
	ex.ProxiedFrom, ex.Client = claims.Member, client
}

// evacuate decides whether the request leaves the region.
func (s *Server) evacuate(ex *Exchange) error {
	if ex.ProxiedFrom != "" || s.d.Remote == nil {
		return nil
	}
	plan := s.settings.evacuation.Load()
	if plan.Share <= 0 || plan.Share < 1 && position("", evacueeKey(ex)) >= plan.Share {
		s.lend(ex)
		return nil
	}
	ex.Savers = ex.Savers[:0] // another region that the route leads to may be gone as well
	t := s.d.Topology()
	for _, region := range t.Nearest(s.d.Region) {
		if region != s.d.Region && slices.Contains(plan.Savers, region) {
			ex.Savers = append(ex.Savers, region)
		}
	}
	if len(ex.Savers) == 0 {
		s.metrics.stayed.Inc()
		s.d.Tel.Log.Warn("no saver is a region of the lab, the request is answered here", "savers", plan.Savers)
	}
	return nil
}

// evacueeKey is by what a viewer is evacuated.
func evacueeKey(ex *Exchange) string {
	if ex.Member != nil {
		return ex.Member.Member
	}
	return ex.address()
}

// deviceIDHeader is by what a device that nobody has signed in on is known.
const deviceIDHeader = "Device-Id"

// stickyKey is by what a share of the viewers is chosen: the member, else the
// device, else the address.
func stickyKey(ex *Exchange) string {
	if ex.Member != nil {
		return ex.Member.Member
	}
	if id := ex.Request.Header.Get(deviceIDHeader); id != "" {
		return id
	}
	return ex.address()
}

// address is the client's, as text.
func (ex *Exchange) address() string {
	if ex.place != nil {
		return ex.place.text
	}
	return ex.Client.String()
}

// position maps a key evenly to [0, 1), the same in every gateway; keys lie
// elsewhere under another salt. It is FNV-1a of salt, a zero byte and key, or
// of the key alone where there is no salt.
func position(salt, key string) float64 {
	const offset, prime = 14695981039346656037, 1099511628211
	x := uint64(offset)
	if salt != "" {
		for i := range len(salt) {
			x = (x ^ uint64(salt[i])) * prime
		}
		x *= prime
	}
	for i := range len(key) {
		x = (x ^ uint64(key[i])) * prime
	}
	// FNV leaves the high bits of like keys alike: stir (MurmurHash3's
	// finalizer).
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	x ^= x >> 33
	return float64(x>>11) / math.Exp2(53)
}

// toSaver is the endpoint that passes the request on to another region. When
// no gateway there takes a connection, nothing has been done yet and this
// region's APIs are the client's best hope: the request stays, counted.
func (s *Server) toSaver(ex *Exchange) error {
	proof := s.d.Key.Sign(token.Discharge, token.Claims{
		Member: s.d.Instance, Client: ex.Client.String(), Session: ex.RequestID,
	}, time.Now(), s.viaTTL())
	h := NewHeader(viaHeader, proof, "X-Request-Id", ex.RequestID)
	if ex.Debug {
		h.Set(DebugHeader, ex.debugToken)
	}
	rt := s.transports.remote
	if ex.Request.Upgrade != "" {
		rt = s.transports.upgrade
	}
	c := ex.call()
	c.what, c.span, c.servers, c.guard = "saver", s.spanOfSaver, s.saverGateways, s.guards.of("saver")
	c.transport, c.header, c.timeout = rt, h, time.Duration(s.settings.timeout.Load())
	err := s.send(c)
	if len(ex.Attempts) > 0 {
		ex.AnsweredBy = ex.Attempts[len(ex.Attempts)-1].Region
	}
	if err == nil {
		s.edge.proxiedOut.Add(1)
		return nil
	}
	if r := services.ReasonOf(err); r != ReasonConnect && r != ReasonNoServers {
		return err
	}
	s.metrics.stayed.Inc()
	s.d.Tel.Log.Warn("no saver takes the request, it is answered here", "savers", ex.Savers, "error", err)
	return s.stay(ex)
}

// stay takes the request through what it skipped on its way out.
func (s *Server) stay(ex *Exchange) error {
	ex.Savers, ex.AnsweredBy = nil, ""
	ex.Route = s.settings.routes.Load().match(ex, true)
	for _, skipped := range []func(*Exchange) error{s.operate, s.authorize, s.clientContext} {
		if err := skipped(ex); err != nil {
			return err
		}
	}
	if chosenTargets(ex) {
		return s.toTarget(ex)
	}
	return s.toOrigin(ex)
}

// spanOfSaver names a try at a saver in traces: from region to region.
func (s *Server) spanOfSaver(_ *call, to server) string {
	return "proxy " + s.d.Region + "→" + to.region
}

// saverGateways appends the gateways of the savers, nearest region first.
func (s *Server) saverGateways(ex *Exchange, out []server) []server {
	for i, region := range ex.Savers {
		for _, g := range s.d.Remote(region) {
			if g.Addr != "" {
				out = append(out, server{id: g.ID, region: region, addr: g.Addr, rank: i, load: s.servers.load(g.Addr)})
			}
		}
	}
	return out
}
