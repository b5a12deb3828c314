package lab

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/dns"
	"github.com/flix-lab/flix/services/elb"
	"github.com/flix-lab/flix/services/gateway"
	"github.com/flix-lab/flix/services/play"
	"github.com/flix-lab/flix/topology"
)

func buildGateway(u *unit) (services.Unit, error) {
	u.knowAll() // it may have to pass requests on to any
	return gateway.New(gateway.Deps{
		TLS: u.ls.TCP[topology.PortTLS], TLSConfig: u.tlsConfig("gateways of "+u.spec.Region, "h2", "http/1.1"), HTTP: u.ls.TCP[topology.PortHTTP],
		Instance: u.spec.ID, Region: u.spec.Region, Zone: u.spec.Zone, Lookup: u.local(),
		Remote: func(region string) []gateway.RemoteGateway {
			var out []gateway.RemoteGateway
			for _, i := range u.w.lookup(u.spec.Region, region).VIP(string(topology.RoleGateway)) {
				out = append(out, gateway.RemoteGateway{ID: i.ID, Region: region, Addr: i.Addr(topology.PortTLS)})
			}
			return out
		},
		Lacks: u.lacks(),
		Dial:  u.dial(), RootCAs: u.world.ca, Key: u.world.key, Topology: u.w.topology,
		OriginCIDRs: u.world.Peers, TrustedProxies: u.world.Peers, Tel: u.tel, Timing: u.farTiming(), Faults: &u.w.inject,
		PlayPath: play.PathStart,
	})
}

// essential are the services without which a region serves no play.
var essential = []topology.Role{
	topology.RoleSignup, topology.RolePlay, topology.RolePlayback, topology.RoleLicense, topology.RoleSteering, topology.RoleSQL,
}

// lacks names a service that a region has had and has not now, by the copies of
// the registries in this process. Of another region whose registry does not
// answer nothing is known: it lacks that.
func (u *unit) lacks() func(region string) string {
	home := u.local()
	return func(region string) string {
		reg := home
		if region != u.spec.Region {
			reg = u.w.lookup(u.spec.Region, region)
			if !reg.Fetched() || reg.Age() > u.timing().ReportExpiry.D() {
				return string(topology.RoleRegistry)
			}
		}
		for _, r := range essential {
			if reg.Lost(string(r)) {
				return string(r)
			}
		}
		return ""
	}
}

func buildELB(u *unit) (services.Unit, error) {
	reg := u.local()
	return elb.New(elb.Deps{
		Client: u.ls.TCP[topology.PortClient], HTTP: u.ls.TCP[topology.PortHTTP], Zone: u.spec.Zone, Dial: u.dial(), Tel: u.tel, Timing: u.timing(),
		Targets: func() []elb.Target {
			is := reg.VIP(string(topology.RoleGateway))
			out := make([]elb.Target, 0, len(is))
			for _, i := range is {
				out = append(out, elb.Target{ID: i.ID, Zone: i.Zone, Addr: i.Addr(topology.PortTLS), PlainAddr: i.Addr(topology.PortHTTP)})
			}
			return out
		},
	})
}

func buildDNS(u *unit) (services.Unit, error) {
	// Clients are told where the edges are published, which is not where they
	// listen when they are containers.
	u.knowAll()
	public := u.world.Client
	clients, err := netip.ParseAddr(cmp.Or(public, u.spec.Address))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", u.spec.ID, err)
	}
	s, err := dns.New(dns.Deps{
		UDP: u.ls.UDP[topology.PortClient], TCP: u.ls.TCP[topology.PortClient], Topology: u.world.Topology,
		Region: u.spec.Region, Appliances: clients, Tel: u.tel, Timing: u.timing(), Misanswer: u.misanswers, Dial: u.dial(),
		Zones: func(region string) []dns.Endpoint {
			var out []dns.Endpoint
			for _, i := range u.w.lookup(u.spec.Region, region).VIP(string(topology.RoleELB)) {
				out = append(out, dns.Endpoint{Host: cmp.Or(public, i.Host), Port: i.Ports[topology.PortClient], Zone: i.Zone, Check: i.Addr(topology.PortHTTP)})
			}
			return out
		},
	})
	if err != nil {
		return nil, err
	}
	u.onTopology(s.SetTopology)
	return s, nil
}

// applianceHost is the DNS name of an appliance.
func applianceHost(i topology.Instance) string {
	return fmt.Sprintf("oca-%d-%s.oc.flix.test", i.Number, strings.ToLower(i.Zone))
}

// plainHost is an appliance's name for browsers on this machine, where it is
// published: names under localhost mean loopback (RFC 6761, 6.3), and browsers
// know that by themselves. Each appliance has a name of its own, since players
// give a host up, not a port.
func plainHost(i topology.Instance) string {
	return fmt.Sprintf("oca-%d-%s.localhost", i.Number, strings.ToLower(i.Zone))
}

func hostPort(host string, port int) string { return net.JoinHostPort(host, fmt.Sprint(port)) }
