package dns

import (
	"net/netip"
	"strings"

	mdns "github.com/miekg/dns"
)

// maxUDP is the largest answer over UDP whatever the client offers, in bytes:
// what passes any path unfragmented (DNS flag day 2020).
const maxUDP = 1232

// udpSize is how large an answer over UDP may be.
func udpSize(req *mdns.Msg) int {
	size := mdns.MinMsgSize
	if opt := req.IsEdns0(); opt != nil {
		size = max(size, int(opt.UDPSize()))
	}
	return min(size, maxUDP)
}

// outcome is what there is for one question.
type outcome struct {
	rcode  int
	answer []mdns.RR
	extra  []mdns.RR
	// region that the answer leads to; "" if it leads to none.
	region string
	// label of the name in metrics.
	label string
	// geo: the answer depends on the client's subnet.
	geo  bool
	bits int
}

// answer makes the response to any message. It never fails: what cannot be
// answered gets a code that says why.
func (s *Server) answer(req *mdns.Msg) *mdns.Msg {
	resp := new(mdns.Msg)
	resp.SetReply(req)
	resp.Compress = true
	resp.RecursionAvailable = false
	opt := req.IsEdns0()
	var client netip.Prefix
	if opt != nil {
		client = subnet(opt)
	}
	var o outcome
	typ := uint16(0)
	switch {
	case req.Opcode != mdns.OpcodeQuery:
		o.rcode = mdns.RcodeNotImplemented
	case len(req.Question) != 1:
		o.rcode = mdns.RcodeFormatError
	case opt != nil && opt.Version() != 0:
		o.rcode = mdns.RcodeBadVers
	default:
		typ = req.Question[0].Qtype
		o = s.resolve(req.Question[0], client)
	}
	resp.Rcode = o.rcode
	resp.Answer, resp.Extra = o.answer, o.extra
	resp.Authoritative = o.rcode == mdns.RcodeSuccess || o.rcode == mdns.RcodeNameError
	if resp.Authoritative && len(o.answer) == 0 {
		resp.Ns = []mdns.RR{s.soa()}
	}
	if opt != nil {
		resp.Extra = append(resp.Extra, reply(opt, o))
	}
	s.metrics.count(o, typ)
	return resp
}

// subnet reads the client's subnet from the query; not valid if there is none
// or the client asks that it plays no part (a source length of 0).
func subnet(opt *mdns.OPT) netip.Prefix {
	for _, option := range opt.Option {
		e, ok := option.(*mdns.EDNS0_SUBNET)
		if !ok {
			continue
		}
		addr, ok := netip.AddrFromSlice(e.Address)
		if !ok || e.SourceNetmask == 0 {
			return netip.Prefix{}
		}
		p, err := addr.Unmap().Prefix(int(e.SourceNetmask))
		if err != nil {
			return netip.Prefix{}
		}
		return p
	}
	return netip.Prefix{}
}

// reply makes the EDNS part of the response: the client's subnet comes back
// with the number of bits that the answer holds for.
func reply(req *mdns.OPT, o outcome) *mdns.OPT {
	opt := &mdns.OPT{Hdr: mdns.RR_Header{Name: ".", Rrtype: mdns.TypeOPT}}
	opt.SetUDPSize(maxUDP)
	if req.Do() {
		opt.SetDo()
	}
	for _, option := range req.Option {
		e, ok := option.(*mdns.EDNS0_SUBNET)
		if !ok {
			continue
		}
		back := *e
		back.SourceScope = 0
		if o.geo && e.SourceNetmask > 0 {
			// Shares are drawn by the whole subnet sent, the region by the
			// matching network, which may be the longer of the two.
			back.SourceScope = max(e.SourceNetmask, uint8(o.bits))
		}
		opt.Option = append(opt.Option, &back)
		break
	}
	if o.rcode == mdns.RcodeServerFailure {
		opt.Option = append(opt.Option, &mdns.EDNS0_EDE{InfoCode: mdns.ExtendedErrorCodeNotReady, ExtraText: "no region has a healthy edge"})
	}
	return opt
}

// relative returns the labels of a name below the zone's apex, outermost
// last; false if it is outside the zone.
func relative(name string) ([]string, bool) {
	name = strings.ToLower(name)
	if name == apex {
		return nil, true
	}
	rest, ok := strings.CutSuffix(name, "."+apex)
	if !ok {
		return nil, false
	}
	return strings.Split(rest, "."), true
}
