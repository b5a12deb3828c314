package lab

import (
	"context"
	"hash/fnv"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/oca"
	"github.com/flix-lab/flix/oca/bgp"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// propRouterRoutes names a file with a table of routes (see topology.ParseRoutes)
// that the lab's own routers announce to the appliances; unset leaves them the
// declared prefixes.
const propRouterRoutes = "router.routes"

// The times of a session. Routes of a lost one are kept as long as a report is
// fresh.
const (
	leastHold = 3 * time.Second // of BGP
	mostHold  = 90 * time.Second
	// holdLeases makes three lease durations a hold: 9 s in a lab, 90 s in
	// production.
	holdLeases = 3
)

// routed is an appliance and, beside it, its end of the site's router that the
// lab runs. They speak over a session like any other: what the appliance learns it
// learns from there.
type routed struct {
	*oca.Server
	router *bgp.Speaker
}

// Serve implements services.Unit.
func (r *routed) Serve(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.Server.Serve(ctx) })
	group.Go(func() error { return r.router.Serve(ctx) })
	return group.Wait()
}

// sessions makes an appliance's speaker, and the router's where the lab has to run
// that; nil where the site has no BGP.
func (u *unit) sessions() (appliance, router *bgp.Speaker, err error) {
	site := u.spec.Site
	if !site.Speaks() {
		return nil, nil, nil
	}
	t := u.timing()
	c := bgp.Config{
		ASN: topology.ApplianceASN, PeerASN: site.RouterASN, ID: identifier(u.spec.ID), Listener: u.ls.TCP[topology.PortBGP], Log: u.tel.Log,
		Hold: min(mostHold, max(leastHold, holdLeases*t.LeaseDuration.D())), Stale: t.ReportExpiry.D(), RetryMin: t.RetryWait.D(), RetryMax: t.RetryWaitMax.D(),
	}
	own := c
	if site.Router != nil && site.Router.Address != "" {
		c.Dial = bgp.DialFrom(site.Router.Source(u.spec.Number), site.Router.Address)
	}
	if appliance, err = bgp.New(c); err != nil || site.Router != nil {
		return appliance, nil, err
	}
	own.ASN, own.PeerASN, own.ID = c.PeerASN, c.ASN, identifier(site.Name+" router of "+u.spec.ID)
	own.Listener, own.Dial = nil, bgp.DialFrom(netip.Addr{}, c.Listener.Addr().String())
	own.Log = u.tel.Log.With("at", "router")
	if router, err = bgp.New(own); err != nil {
		return nil, nil, err
	}
	u.originate(router, nil)
	u.tel.Properties.Watch(func(name, value string) {
		if name == propRouterRoutes {
			u.loadRouter(router, value)
		}
	})
	return appliance, router, nil
}

// identifier derives a speaker's identifier from its name: all of a lab differ but
// for a chance of one to millions, and neighbours always do.
func identifier(name string) netip.Addr {
	h := fnv.New32a()
	h.Write([]byte(name))
	n := h.Sum32()
	return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
}

// loadRouter has the router announce a table. One that cannot be read leaves the
// one before and is logged: whoever set the property has checked the file.
func (u *unit) loadRouter(router *bgp.Speaker, file string) {
	if file == "" {
		u.originate(router, nil)
		return
	}
	f, err := os.Open(file)
	if err == nil {
		defer f.Close()
		var t *topology.RouteTable
		if t, err = topology.ParseRoutes(file, f); err == nil {
			u.originate(router, t)
			return
		}
	}
	u.tel.Log.Error("the table of routes cannot be read", "file", file, "error", err)
}

// originate has the router announce what is its to announce.
func (u *unit) originate(router *bgp.Speaker, t *topology.RouteTable) {
	router.Originate(announcedBy(*u.spec.Site, u.spec.ID, t))
}

// announcedBy are the routes of a site and its appliance in a table, which may be
// nil, and the declared prefixes that are not among them.
func announcedBy(site topology.Site, appliance string, t *topology.RouteTable) []topology.Route {
	var routes []topology.Route
	if t != nil {
		routes = slices.Concat(t.At(site.Name), t.At(appliance))
	}
	listed := make(map[netip.Prefix]bool, len(routes))
	for _, r := range routes {
		listed[r.Prefix] = true
	}
	for _, text := range site.Prefixes {
		if p, err := netip.ParsePrefix(text); err == nil && !listed[p.Masked()] { // the appliance has refused others
			routes = append(routes, topology.Route{Prefix: p})
		}
	}
	return routes
}

// SteerSessions implements control.SteeringEngine. An appliance that does not
// answer is listed with that for an error.
func (l *Lab) SteerSessions(ctx context.Context) (control.BGPSessions, error) {
	out := control.BGPSessions{Sessions: []control.BGPSession{}}
	i, err := l.need()
	if err != nil {
		return out, err
	}
	if !i.Topology.BGP {
		return out, services.Errorf(services.Conflict, "the lab's sites have no BGP").WithRemedy("declare bgp: true in the topology, and bring the lab up with it")
	}
	for _, inst := range i.instances() {
		if inst.Role != topology.RoleOCA {
			continue
		}
		s, err := l.spec(i, inst)
		if err != nil {
			return out, err
		}
		var one control.BGPSession
		short, cancel := context.WithTimeout(ctx, askTime)
		err = l.admin(short, s, http.MethodGet, "/oca/bgp", nil, &one)
		cancel()
		if err != nil {
			one = control.BGPSession{Appliance: inst.ID, Site: inst.Site.Name, RouterASN: inst.Site.RouterASN}
			one.Error = err.Error()
		}
		out.Sessions = append(out.Sessions, one)
	}
	return out, nil
}
