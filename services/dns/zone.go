package dns

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	mdns "github.com/miekg/dns"
)

// apex of the zone.
const apex = "flix.test."

// Names in the zone:
//
//	flix.test                       SOA, NS
//	ns.flix.test                    this server
//	api, play                       A, AAAA, HTTPS: the edge of the client's region
//	_https._tcp.api, ….play         SRV of the same
//	<zone>.<region>.elb.flix.test   A, AAAA: one load balancer
//	*.oc.flix.test                  A: appliances
const (
	labelAPI  = "api"
	labelPlay = "play"
	labelNS   = "ns"
	labelELB  = "elb"
	labelOC   = "oc"
)

func isEdge(label string) bool { return label == labelAPI || label == labelPlay }

// resolve finds what there is for a question.
func (s *Server) resolve(q mdns.Question, client netip.Prefix) outcome {
	labels, ok := relative(q.Name)
	if !ok || q.Qclass != mdns.ClassINET || q.Qtype == mdns.TypeAXFR || q.Qtype == mdns.TypeIXFR {
		return outcome{rcode: mdns.RcodeRefused, label: "other"}
	}
	o := s.lookup(q, labels, client)
	if o.rcode == mdns.RcodeSuccess && q.Qtype == mdns.TypeANY {
		// One record stands for all of them (RFC 8482).
		o.answer, o.extra = []mdns.RR{&mdns.HINFO{Hdr: s.header(q.Name, mdns.TypeHINFO), Cpu: "RFC8482"}}, nil
	}
	return o
}

func (s *Server) lookup(q mdns.Question, labels []string, client netip.Prefix) outcome {
	n := len(labels)
	switch {
	case n == 0:
		return s.top(q)
	case n == 1 && labels[0] == labelNS:
		return outcome{label: "ns", answer: s.address(q, s.deps.Appliances)}
	case n == 1 && isEdge(labels[0]):
		return s.edge(q, labels[0], client)
	case n == 2 && labels[0] == "_tcp" && isEdge(labels[1]):
		return outcome{label: labels[1]} // holds names, but no records
	case n == 3 && labels[0] == "_https" && labels[1] == "_tcp" && isEdge(labels[2]):
		return s.edge(q, labels[2], client)
	case labels[n-1] == labelOC:
		if n == 1 {
			return outcome{label: labelOC}
		}
		return outcome{label: labelOC, answer: s.address(q, s.deps.Appliances)}
	case labels[n-1] == labelELB:
		return s.balancer(q, labels[:n-1])
	}
	return outcome{rcode: mdns.RcodeNameError, label: "other"}
}

// top answers for the apex itself.
func (s *Server) top(q mdns.Question) outcome {
	o := outcome{label: "apex"}
	switch q.Qtype {
	case mdns.TypeSOA:
		o.answer = []mdns.RR{s.soa()}
	case mdns.TypeNS:
		o.answer = []mdns.RR{&mdns.NS{Hdr: s.header(q.Name, mdns.TypeNS), Ns: labelNS + "." + apex}}
	}
	return o
}

// edge answers with the load balancers of the client's region, a different
// one first each time.
func (s *Server) edge(q mdns.Question, label string, client netip.Prefix) outcome {
	o := outcome{label: label, geo: true}
	var region string
	found := map[string][]endpoint{}
	plan := s.plan.Load()
	region, o.bits = plan.choose(client, label, func(r string) bool {
		found[r] = endpoints(s.health.well(s.deps.Zones(r)))
		return len(found[r]) > 0
	})
	all := found[region]
	if region == "" {
		o.rcode = mdns.RcodeServerFailure
		return o
	}
	o.region = region
	first := int(s.turn.Add(1)) % len(all)
	all = append(all[first:len(all):len(all)], all[:first]...)
	service := strings.HasPrefix(q.Name, "_")
	for _, e := range all {
		switch {
		case q.Qtype == mdns.TypeSRV && service:
			target := e.zone + "." + region + "." + labelELB + "." + apex
			o.answer = append(o.answer, &mdns.SRV{Hdr: s.header(q.Name, mdns.TypeSRV), Port: e.port, Target: target})
			o.extra = append(o.extra, s.address(mdns.Question{Name: target, Qtype: addressType(e.addr)}, e.addr)...)
		case q.Qtype == mdns.TypeHTTPS && !service:
			o.answer = append(o.answer, s.https(q.Name, e))
		case !service:
			o.answer = append(o.answer, s.address(q, e.addr)...)
		}
	}
	// Several load balancers may share an address and differ by port: a set
	// holds each address once.
	o.answer, o.extra = mdns.Dedup(o.answer, nil), mdns.Dedup(o.extra, nil)
	s.shorten(plan, o)
	return o
}

// shorten has an answer kept for less time if it leads to a region that is about to
// be left: whoever asks now is moved the sooner.
func (s *Server) shorten(p *plan, o outcome) {
	if !slices.Contains(p.leaving, o.region) {
		return
	}
	ttl := uint32(s.deps.Timing.LeavingTTL() / time.Second)
	for _, rr := range slices.Concat(o.answer, o.extra) {
		rr.Header().Ttl = ttl
	}
}

// https is the service binding of one load balancer (RFC 9460).
func (s *Server) https(name string, e endpoint) mdns.RR {
	rr := &mdns.HTTPS{SVCB: mdns.SVCB{Hdr: s.header(name, mdns.TypeHTTPS), Priority: 1, Target: "."}}
	rr.Value = []mdns.SVCBKeyValue{
		&mdns.SVCBAlpn{Alpn: []string{"h2", "http/1.1"}},
		&mdns.SVCBPort{Port: e.port},
	}
	if e.addr.Is4() {
		rr.Value = append(rr.Value, &mdns.SVCBIPv4Hint{Hint: []net.IP{e.addr.AsSlice()}})
	} else {
		rr.Value = append(rr.Value, &mdns.SVCBIPv6Hint{Hint: []net.IP{e.addr.AsSlice()}})
	}
	return rr
}

// balancer answers for <zone>.<region>.elb, one load balancer's name.
func (s *Server) balancer(q mdns.Question, labels []string) outcome {
	o := outcome{label: labelELB}
	plan := s.plan.Load()
	switch {
	case len(labels) == 0:
		return o
	case len(labels) == 1 && plan.nearest[labels[0]] != nil:
		return o
	case len(labels) == 2:
		for _, e := range endpoints(s.deps.Zones(labels[1])) {
			if e.zone == labels[0] {
				o.region = labels[1]
				o.answer = append(o.answer, s.address(q, e.addr)...)
			}
		}
		if o.region != "" {
			o.answer = mdns.Dedup(o.answer, nil)
			s.shorten(plan, o)
			return o
		}
	}
	o.rcode = mdns.RcodeNameError
	return o
}

// address answers an address query with the address, or with nothing when it
// is of the other family.
func (s *Server) address(q mdns.Question, a netip.Addr) []mdns.RR {
	switch {
	case q.Qtype == mdns.TypeA && a.Is4():
		return []mdns.RR{&mdns.A{Hdr: s.header(q.Name, mdns.TypeA), A: a.AsSlice()}}
	case q.Qtype == mdns.TypeAAAA && a.Is6():
		return []mdns.RR{&mdns.AAAA{Hdr: s.header(q.Name, mdns.TypeAAAA), AAAA: a.AsSlice()}}
	}
	return nil
}

func addressType(a netip.Addr) uint16 {
	if a.Is4() {
		return mdns.TypeA
	}
	return mdns.TypeAAAA
}

func (s *Server) header(name string, typ uint16) mdns.RR_Header {
	return mdns.RR_Header{Name: name, Rrtype: typ, Class: mdns.ClassINET, Ttl: s.ttl}
}

// soa also says for how long the absence of a name may be remembered.
func (s *Server) soa() mdns.RR {
	return &mdns.SOA{
		Hdr: s.header(apex, mdns.TypeSOA), Ns: labelNS + "." + apex, Mbox: "hostmaster." + apex,
		Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: s.ttl,
	}
}

// endpoint is an Endpoint that can stand in a record.
type endpoint struct {
	addr netip.Addr
	port uint16
	zone string
}

// endpoints returns those that can stand in a record, ordered by zone.
func endpoints(in []Endpoint) []endpoint {
	out := make([]endpoint, 0, len(in))
	for _, e := range in {
		a, err := netip.ParseAddr(e.Host)
		if err != nil || e.Port <= 0 || e.Port > 65535 {
			continue
		}
		out = append(out, endpoint{addr: a.Unmap(), port: uint16(e.Port), zone: e.Zone})
	}
	slices.SortFunc(out, func(a, b endpoint) int {
		if c := strings.Compare(a.zone, b.zone); c != 0 {
			return c
		}
		if c := a.addr.Compare(b.addr); c != 0 {
			return c
		}
		return int(a.port) - int(b.port)
	})
	return out
}
