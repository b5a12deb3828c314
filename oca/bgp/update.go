package bgp

import (
	"cmp"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"

	packet "github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"github.com/flix-lab/flix/topology"
)

// change is what an UPDATE says.
type change struct {
	withdrawn []netip.Prefix
	announced []topology.Route
	end       packet.Family // whose End-of-RIB it is; 0 is none
	mild      string        // what was wrong with it, though not for the session
}

// readUpdate parses an UPDATE. What is malformed is handled as RFC 7606 says:
// most errors withdraw the message's routes, those of optional attributes drop the
// attribute, and only where the routes themselves cannot be read is the error for
// the session.
//
// ASPath of a route is the number of networks on the way after the neighbour's
// own, in which, or next to which, the speaker stands.
func readUpdate(asn uint32, fourByte bool, body []byte) (c change, err error) {
	option := &packet.MarshallingOption{Use2ByteAS: !fourByte}
	m, err := decode(packet.BGP_MSG_UPDATE, body, option)
	withdraw := false
	var bad *packet.MessageError
	if err != nil {
		if !errors.As(err, &bad) || m == nil || bad.ErrorHandling >= packet.ERROR_HANDLING_AFISAFI_DISABLE {
			return c, faultOf(err)
		}
		withdraw = bad.ErrorHandling == packet.ERROR_HANDLING_TREAT_AS_WITHDRAW
		c.mild = bad.Message
	}
	u := m.Body.(*packet.BGPUpdate)
	if withdraw && u.NLRI == nil {
		if u.NLRI, err = lastNLRI(body, option); err != nil {
			return c, faultOf(err)
		}
	}
	if err == nil || !withdraw {
		if err := validate(u); err != nil {
			if !errors.As(err, &bad) || bad.ErrorHandling >= packet.ERROR_HANDLING_AFISAFI_DISABLE {
				return c, faultOf(err)
			}
			withdraw = withdraw || bad.ErrorHandling == packet.ERROR_HANDLING_TREAT_AS_WITHDRAW
			c.mild = bad.Message
		}
	}
	if end, f := u.IsEndOfRib(); end && c.mild == "" {
		c.end = f
		return c, nil
	}
	c.gather(asn, u, withdraw)
	return c, nil
}

// validate checks an UPDATE's attributes. The codec does not look whether there is
// a next hop in the attribute of that name before it looks at it.
func validate(u *packet.BGPUpdate) (err error) {
	const code = packet.BGP_ERROR_UPDATE_MESSAGE_ERROR
	defer func() {
		if r := recover(); r != nil {
			err = faultf(code, packet.BGP_ERROR_SUB_MALFORMED_ATTRIBUTE_LIST, "the attributes of an UPDATE cannot be read: %v", r)
		}
	}()
	for _, a := range u.PathAttributes {
		if hop, ok := a.(*packet.PathAttributeNextHop); ok && !hop.Value.Is4() {
			return packet.NewMessageErrorWithErrorHandling(code, packet.BGP_ERROR_SUB_ATTRIBUTE_LENGTH_ERROR, nil, packet.ERROR_HANDLING_TREAT_AS_WITHDRAW, nil, "a next hop is no IPv4 address")
		}
	}
	known := map[packet.Family]packet.BGPAddPathMode{packet.RF_IPv4_UC: 0, packet.RF_IPv6_UC: 0}
	_, err = packet.ValidateUpdateMsg(u, known, true, false, true)
	return err
}

// lastNLRI reads the IPv4 routes of an UPDATE whose attributes cannot be.
func lastNLRI(body []byte, option *packet.MarshallingOption) ([]packet.PathNLRI, error) {
	short := faultf(packet.BGP_ERROR_UPDATE_MESSAGE_ERROR, packet.BGP_ERROR_SUB_MALFORMED_ATTRIBUTE_LIST, "an UPDATE is shorter than it says")
	rest := body
	for range 2 { // withdrawn routes, attributes
		if len(rest) < 2 {
			return nil, short
		}
		n := int(binary.BigEndian.Uint16(rest))
		if len(rest) < 2+n {
			return nil, short
		}
		rest = rest[2+n:]
	}
	m, err := decode(packet.BGP_MSG_UPDATE, append([]byte{0, 0, 0, 0}, rest...), option)
	if err != nil {
		return nil, err
	}
	return m.Body.(*packet.BGPUpdate).NLRI, nil
}

// gather sorts an UPDATE's routes into withdrawn and announced. A path with the
// speaker's own network in it is a loop, and as good as withdrawn.
func (c *change) gather(asn uint32, u *packet.BGPUpdate, withdraw bool) {
	c.withdrawn = appendPrefixes(c.withdrawn, u.WithdrawnRoutes)
	fresh := appendPrefixes(nil, u.NLRI)
	var path, med uint32
	for _, a := range u.PathAttributes {
		switch a := a.(type) {
		case *packet.PathAttributeMpReachNLRI:
			fresh = appendPrefixes(fresh, a.Value)
		case *packet.PathAttributeMpUnreachNLRI:
			c.withdrawn = appendPrefixes(c.withdrawn, a.Value)
		case *packet.PathAttributeMultiExitDisc:
			med = a.Value
		case *packet.PathAttributeAsPath:
			n, own := pathLength(a.Value, asn)
			path, withdraw = n, withdraw || own
		case *packet.PathAttributeAs4Path:
			for _, s := range a.Value {
				withdraw = withdraw || slices.Contains(s.AS, asn)
			}
		}
	}
	if withdraw {
		c.withdrawn = append(c.withdrawn, fresh...)
		return
	}
	for _, p := range fresh {
		c.announced = append(c.announced, topology.Route{Prefix: p, ASPath: path - min(path, 1), MED: med})
	}
}

// pathLength counts the networks of a path, a set for one (RFC 4271 section
// 9.1.2.2) and those inside a confederation not (RFC 5065), and says whether a
// network is among them.
func pathLength(segments []packet.AsPathParamInterface, asn uint32) (n uint32, has bool) {
	for _, s := range segments {
		has = has || slices.Contains(s.GetAS(), asn)
		switch s.GetType() {
		case packet.BGP_ASPATH_ATTR_TYPE_SEQ:
			n += uint32(len(s.GetAS()))
		case packet.BGP_ASPATH_ATTR_TYPE_SET:
			n++
		}
	}
	return n, has
}

func appendPrefixes(out []netip.Prefix, routes []packet.PathNLRI) []netip.Prefix {
	for _, r := range routes {
		if p, ok := r.NLRI.(*packet.IPAddrPrefix); ok && p.Prefix.IsValid() {
			out = append(out, p.Prefix.Masked())
		}
	}
	return out
}

// perUpdate is how many routes go into one message: of IPv6, with the longest
// path, they fit.
const perUpdate = 150

// updates are the messages that say that routes are gone, and others there.
// nextHop is the speaker's address.
func updates(asn uint32, nextHop netip.Addr, gone []netip.Prefix, fresh []topology.Route) ([]*packet.BGPMessage, error) {
	var out []*packet.BGPMessage
	for _, f := range families {
		of := func(p netip.Prefix) bool { return p.Addr().Is4() == (f == packet.RF_IPv4_UC) }
		withdrawn := slices.DeleteFunc(slices.Clone(gone), func(p netip.Prefix) bool { return !of(p) })
		for chunk := range slices.Chunk(withdrawn, perUpdate) {
			m, err := withdrawal(f, chunk)
			if err != nil {
				return nil, err
			}
			out = append(out, m)
		}
		announced := slices.DeleteFunc(slices.Clone(fresh), func(r topology.Route) bool { return !of(r.Prefix) })
		slices.SortFunc(announced, func(a, b topology.Route) int {
			return cmp.Or(cmp.Compare(a.ASPath, b.ASPath), cmp.Compare(a.MED, b.MED), a.Prefix.Compare(b.Prefix))
		})
		for len(announced) > 0 {
			n := 1
			for n < len(announced) && n < perUpdate && announced[n].ASPath == announced[0].ASPath && announced[n].MED == announced[0].MED {
				n++
			}
			m, err := announcement(f, asn, nextHop, announced[:n])
			if err != nil {
				return nil, err
			}
			out, announced = append(out, m), announced[n:]
		}
	}
	return out, nil
}

func withdrawal(f packet.Family, gone []netip.Prefix) (*packet.BGPMessage, error) {
	routes, err := nlri(gone)
	if err != nil || f == packet.RF_IPv4_UC {
		return packet.NewBGPUpdateMessage(routes, nil, nil), err
	}
	un, err := packet.NewPathAttributeMpUnreachNLRI(f, routes)
	return packet.NewBGPUpdateMessage(nil, []packet.PathAttributeInterface{un}, nil), err
}

// announcement is of routes with the same attributes. The networks on the way
// have no numbers in a table of routes: the speaker's own stands for each, as a
// router says that wants a path to look longer.
func announcement(f packet.Family, asn uint32, nextHop netip.Addr, fresh []topology.Route) (*packet.BGPMessage, error) {
	var prefixes []netip.Prefix
	for _, r := range fresh {
		prefixes = append(prefixes, r.Prefix)
	}
	routes, err := nlri(prefixes)
	if err != nil {
		return nil, err
	}
	var path []packet.AsPathParamInterface
	for segment := range slices.Chunk(slices.Repeat([]uint32{asn}, int(fresh[0].ASPath)+1), 255) {
		path = append(path, packet.NewAs4PathParam(packet.BGP_ASPATH_ATTR_TYPE_SEQ, segment))
	}
	attrs := []packet.PathAttributeInterface{packet.NewPathAttributeOrigin(packet.BGP_ORIGIN_ATTR_TYPE_IGP), packet.NewPathAttributeAsPath(path)}
	if f != packet.RF_IPv4_UC {
		reach, err := packet.NewPathAttributeMpReachNLRI(f, routes, netip.AddrFrom16(nextHop.As16()))
		return packet.NewBGPUpdateMessage(nil, append(attrs, packet.NewPathAttributeMultiExitDisc(fresh[0].MED), reach), nil), err
	}
	hop, err := packet.NewPathAttributeNextHop(nextHop)
	return packet.NewBGPUpdateMessage(nil, append(attrs, hop, packet.NewPathAttributeMultiExitDisc(fresh[0].MED)), routes), err
}

func nlri(prefixes []netip.Prefix) ([]packet.PathNLRI, error) {
	out := make([]packet.PathNLRI, 0, len(prefixes))
	for _, p := range prefixes {
		n, err := packet.NewIPAddrPrefix(p)
		if err != nil {
			return nil, err
		}
		out = append(out, packet.PathNLRI{NLRI: n})
	}
	return out, nil
}
