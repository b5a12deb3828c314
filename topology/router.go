package topology

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"gopkg.in/yaml.v3"
)

// Autonomous systems that are not of an ISP, out of those for documentation (RFC
// 5398): of the appliances, all over the lab, and of an exchange's router.
const (
	ApplianceASN = 64511
	ExchangeASN  = 64510
)

// Router is a router that stands at a site and is not of the lab: any BGP
// speaker.
type Router struct {
	// Address the appliances connect to, HOST:PORT with an IP address; "" means
	// that it connects to theirs, each of which has a port for it.
	Address string `yaml:"address,omitempty" json:"address,omitempty"`
	// From is the address that the site's first appliance connects from; the others
	// take the next ones, for a router knows its neighbours by their addresses. ""
	// is the machine's choice, but for a router on IPv4 loopback: 127.0.0.1.
	From string `yaml:"from,omitempty" json:"from,omitempty"`
	// ASN of the router; 0 is the ISP's, or ExchangeASN at an exchange.
	ASN uint32 `yaml:"asn,omitempty" json:"asn,omitempty"`
}

// Speaks says whether the site's appliances have BGP sessions.
func (s Site) Speaks() bool { return s.RouterASN != 0 }

// routed completes a site with its router.
func (t Topology) routed(s Site, r *Router) Site {
	if !t.BGP {
		return s
	}
	s.RouterASN, s.Router = s.ASN, r
	if s.Kind == SiteExchange {
		s.RouterASN = ExchangeASN
	}
	if r != nil && r.ASN != 0 {
		s.RouterASN = r.ASN
	}
	return s
}

// router checks a site's router; asn is the one it has where it does not say.
func (c *checker) router(field string, t Topology, r *Router, asn uint32) {
	if !t.BGP {
		if r != nil {
			c.fail(field+".router", "", "is of no use without BGP", "write bgp: true at the top, or leave the router out")
		}
		return
	}
	of, value := field+".asn", asn
	if r != nil {
		if r.Address != "" && !isAddress(r.Address) {
			c.fail(field+".router.address", r.Address, "is not an IP address and a port", "write it like 127.0.0.1:1179, or leave it out for a router that connects to the appliances")
		}
		if r.From != "" {
			c.routerFrom(field+".router.from", r)
		}
		if r.ASN != 0 {
			of, value = field+".router.asn", r.ASN
		}
	}
	if value == ApplianceASN {
		c.fail(of, strconv.Itoa(int(value)), "is the number of the appliances' own autonomous system", "choose another: a session is between two")
	}
}

// routerFrom checks where a site's appliances connect from.
func (c *checker) routerFrom(field string, r *Router) {
	from, err := netip.ParseAddr(r.From)
	to, _ := netip.ParseAddrPort(r.Address) // checked beside it
	switch {
	case err != nil:
		c.fail(field, r.From, "is not an IP address", "write it like 127.0.0.1, or leave it out")
	case r.Address == "":
		c.fail(field, r.From, "is of no use to a router that connects to the appliances", "leave it out, or name the router's address")
	case to.IsValid() && to.Addr().Is4() != from.Is4():
		c.fail(field, r.From, "is of another family than the router's address", "use IPv4 for both, or IPv6")
	}
}

// Source is the address that the site's n-th appliance, from 1, connects to the
// router from; the zero Addr is the machine's choice.
func (r Router) Source(n int) netip.Addr {
	from, err := netip.ParseAddr(r.From)
	if err != nil {
		to, err := netip.ParseAddrPort(r.Address)
		if err != nil || !to.Addr().Is4() || !to.Addr().IsLoopback() || n < 2 {
			return netip.Addr{}
		}
		from = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	for range n - 1 {
		if next := from.Next(); next.IsValid() {
			from = next
		}
	}
	return from
}

func isAddress(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	_, err = netip.ParseAddr(host)
	n, perr := strconv.ParseUint(port, 10, 16)
	return err == nil && perr == nil && n > 0
}

// flag reads true or false.
func (p *parser) flag(n *yaml.Node, field string) bool {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" {
		p.fail(n, field, "is "+kindName(n)+" where true or false is expected", "write true or false")
		return false
	}
	var v bool
	if err := n.Decode(&v); err != nil {
		p.fail(n, field, fmt.Sprintf("cannot be read: %v", err), "write true or false")
	}
	return v
}

func (p *parser) router(n *yaml.Node, field string) *Router {
	r := &Router{}
	p.fields(n, field, map[string]fieldReader{
		"address": func(n *yaml.Node, f string) { r.Address = p.str(n, f, "127.0.0.1:1179") },
		"from":    func(n *yaml.Node, f string) { r.From = p.str(n, f, "127.0.0.1") },
		"asn": func(n *yaml.Node, f string) {
			v, _ := p.number(n, f, 1, 1<<32-1)
			r.ASN = uint32(v)
		},
	})
	return r
}
