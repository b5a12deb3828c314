package player

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// place is who and where a client is.
type place struct {
	ip  netip.Addr
	isp topology.ISP
	// home is the region the client lives near.
	home string
}

// abroad stands for the ISP of a client whose network is of no ISP of the lab: it
// comes by transit.
const abroad = "abroad"

// placeOf works out a client's place from what was asked for.
func placeOf(t topology.Topology, o Options) (place, error) {
	if o.Region != "" {
		if _, ok := t.Region(o.Region); !ok {
			return place{}, services.Errorf(services.Invalid, "no region is called %q", o.Region).
				WithReason("unknown_region").WithRemedy("use one of %s", strings.Join(t.RegionNames(), ", "))
		}
	}
	isp, near, err := ispOf(t, o)
	if err != nil {
		return place{}, err
	}
	p := place{ip: o.IP.Unmap(), isp: isp, home: o.Region}
	if p.home == "" {
		p.home = near.Name
	}
	if p.ip.IsValid() {
		return p, nil
	}
	if isp.Name == abroad {
		p.ip, _ = topology.AbroadAddr(isp.Country, o.Seed) // the country was checked
		return p, nil
	}
	if len(isp.Prefixes) == 0 {
		return place{}, services.Errorf(services.Invalid, "ISP %q has no prefix to take a client address from", isp.Name).WithRemedy("declare prefixes of it in the topology")
	}
	from := isp.Prefixes[0]
	if i := slices.IndexFunc(isp.Prefixes, func(x netip.Prefix) bool { return x.Addr().Is4() }); i >= 0 {
		from = isp.Prefixes[i]
	}
	p.ip = pickAddr(from, o.Seed)
	return p, nil
}

// ispOf finds the client's ISP: by address, by name, by country, or the first
// one of its region. What is given has to agree.
func ispOf(t topology.Topology, o Options) (topology.ISP, topology.Region, error) {
	if o.IP.IsValid() {
		if ip := o.IP.Unmap(); !ip.IsGlobalUnicast() || ip.Zone() != "" {
			return topology.ISP{}, topology.Region{}, services.Errorf(services.Invalid, "%s is not an address that a client on the Internet has", o.IP).
				WithReason("client_address").WithRemedy("use one inside an ISP's prefixes, or any other single host's, which comes by transit")
		}
		isp, region, ok := t.Locate(o.IP)
		if !ok && o.ISP == "" {
			return foreign(t, o)
		}
		if !ok {
			return isp, region, unknownISP(t, "no ISP announces %s", o.IP)
		}
		if o.ISP != "" && isp.Name != o.ISP {
			return isp, region, unknownISP(t, "%s belongs to ISP %q, not to %q", o.IP, isp.Name, o.ISP)
		}
		return isp, region, agrees(isp.Country, o.Country)
	}
	if o.ISP != "" {
		isp, region, ok := t.ISP(o.ISP)
		if !ok {
			return isp, region, unknownISP(t, "no ISP is called %q", o.ISP)
		}
		return isp, region, agrees(isp.Country, o.Country)
	}
	home := o.Region
	if home == "" {
		home = t.Regions[0].Name
	}
	for _, name := range t.Nearest(home) {
		region, _ := t.Region(name)
		for _, isp := range region.ISPs {
			if o.Country == "" || strings.EqualFold(isp.Country, o.Country) {
				return isp, region, nil
			}
		}
	}
	if o.Country == "" {
		return topology.ISP{}, topology.Region{}, unknownISP(t, "the topology has no ISP")
	}
	country := strings.ToUpper(o.Country)
	if _, ok := topology.AbroadAddr(country, 0); !ok {
		return topology.ISP{}, topology.Region{}, services.Errorf(services.Invalid, "%q is not a country", o.Country).
			WithReason("unknown_country").WithRemedy("use an ISO 3166-1 alpha-2 code; the lab's ISPs are in %s", strings.Join(countries(t), ", "))
	}
	near, _ := t.Region(home)
	return topology.ISP{Name: abroad, Country: country}, near, nil
}

// foreign is the network of an address that no ISP of the lab announces. Where its
// country is not known either it is taken for one near the client's region, as the
// gateway does.
func foreign(t topology.Topology, o Options) (topology.ISP, topology.Region, error) {
	near := t.Regions[0]
	if r, ok := t.Region(o.Region); ok {
		near = r
	}
	country := cmp.Or(t.CountryOf(o.IP), near.Country)
	return topology.ISP{Name: abroad, Country: country}, near, agrees(country, o.Country)
}

// agrees refuses a country that is not the one of the client's network: it is
// the address that decides, as it does for the service.
func agrees(have, want string) error {
	if want == "" || strings.EqualFold(have, want) {
		return nil
	}
	return services.Errorf(services.Invalid, "the client's network is in %s, not in %s", have, want).
		WithReason("unknown_country").WithRemedy("leave the country out, or name an ISP of that country")
}

func unknownISP(t topology.Topology, format string, args ...any) error {
	var names []string
	for _, r := range t.Regions {
		for _, i := range r.ISPs {
			names = append(names, i.Name)
		}
	}
	return services.Errorf(services.Invalid, format, args...).WithReason(services.ReasonUnknownISP).WithRemedy("the lab's ISPs are %s", strings.Join(names, ", "))
}

func countries(t topology.Topology) []string {
	var out []string
	for _, r := range t.Regions {
		for _, i := range r.ISPs {
			out = append(out, i.Country)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// pickAddr takes an address inside a prefix, the same one for the same seed, and
// never the first or, of IPv4, the last. Of IPv6 it varies the last 32 bits.
func pickAddr(p netip.Prefix, seed uint64) netip.Addr {
	first := p.Masked().Addr()
	hosts := min(first.BitLen()-p.Bits(), 32)
	if hosts < 2 {
		return first
	}
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %d", p, seed)
	n := 1 + uint32(h.Sum64()%(1<<hosts-2))
	b := first.AsSlice()
	last := b[len(b)-4:]
	binary.BigEndian.PutUint32(last, binary.BigEndian.Uint32(last)+n)
	addr, _ := netip.AddrFromSlice(b) // of the length of an address
	return addr
}
