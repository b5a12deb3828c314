package topology

import (
	"fmt"
	"net/netip"
	"slices"
)

// regionDraft is a region as written, before what was left out is derived.
type regionDraft struct {
	Region
	// exchangeGiven says that the exchange's appliances are as written.
	exchangeGiven bool
	// ispsGiven says that isps are as written.
	ispsGiven bool
	isps      []ispDraft
}

type ispDraft struct {
	ISP
	prefixesGiven, appliancesGiven bool
}

// What a region has when its declaration does not say.
const (
	defaultISPs       = 2
	defaultAppliances = 2
	defaultCapacity   = Size(4 << 30)
	// firstASN begins the numbers for private use (RFC 6996); each region
	// takes MaxISPs of them.
	firstASN = 64512
)

func exchangeAppliance() Appliance { return Appliance{Capacity: defaultCapacity, Bandwidth: 100e9} }
func ispAppliance() Appliance      { return Appliance{Capacity: defaultCapacity, Bandwidth: 10e9} }

// complete derives what the drafts leave out. Derived numbers and prefixes
// depend on a region's place in the list and avoid everything written.
func complete(drafts []regionDraft) []Region {
	u := newUsed(drafts)
	var out []Region
	for i, d := range drafts {
		out = append(out, d.complete(i, u))
	}
	return out
}

func (d regionDraft) complete(i int, u *used) Region {
	r := d.Region
	stem := r.Name
	if !label.MatchString(stem) {
		stem = fmt.Sprintf("region-%d", i+1) // the name itself is reported
	}
	if r.Country == "" {
		if k := slices.IndexFunc(places[:], func(p place) bool { return p.name == r.Name }); k >= 0 {
			r.Country = places[k].country
		}
	}
	if r.Zones == nil {
		r.Zones = []string{"a", "b"}
	}
	if r.Exchange.Name == "" {
		r.Exchange.Name = stem + "-ix"
	}
	if !d.exchangeGiven {
		r.Exchange.Appliances = slices.Repeat([]Appliance{exchangeAppliance()}, defaultAppliances)
	}
	isps := d.isps
	if !d.ispsGiven {
		isps = make([]ispDraft, defaultISPs)
	}
	for k, isp := range isps {
		if isp.Name == "" {
			isp.Name = fmt.Sprintf("%s-isp-%d", stem, k+1)
		}
		if isp.Country == "" {
			isp.Country = r.Country
			if !countryCode.MatchString(isp.Country) {
				isp.Country = "ZZ" // the region's own is reported
			}
		}
		if isp.ASN == 0 {
			isp.ASN = u.asn(i, k)
		}
		if !isp.prefixesGiven {
			isp.Prefixes = u.allocate(i, k)
		}
		if !isp.appliancesGiven {
			isp.Appliances = slices.Repeat([]Appliance{ispAppliance()}, defaultAppliances)
		}
		r.ISPs = append(r.ISPs, isp.ISP)
	}
	return r
}

// used is what has been given out, or written.
type used struct {
	asns     map[uint32]bool
	prefixes []netip.Prefix
}

func newUsed(drafts []regionDraft) *used {
	u := &used{asns: map[uint32]bool{}}
	for _, d := range drafts {
		for _, isp := range d.isps {
			u.asns[isp.ASN] = true
			for _, p := range isp.Prefixes {
				if p.IsValid() {
					u.prefixes = append(u.prefixes, p)
				}
			}
		}
	}
	return u
}

func (u *used) asn(region, isp int) uint32 {
	n := uint32(firstASN + region*MaxISPs + isp)
	for u.asns[n] {
		n++
	}
	u.asns[n] = true
	return n
}

func (u *used) free(p netip.Prefix) bool {
	return !slices.ContainsFunc(u.prefixes, p.Overlaps)
}

// allocate finds an IPv4 and an IPv6 prefix for an ISP: those of its place if
// they are free, else the first that are; none where everything is taken.
func (u *used) allocate(region, isp int) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range []netip.Prefix{u.v4(region, isp), u.v6(region, isp)} {
		if p.IsValid() {
			out = append(out, p)
			u.prefixes = append(u.prefixes, p)
		}
	}
	return out
}

// v4 gives each of the first eight regions a /18 of 198.18.0.0/15 and each of
// its first four ISPs a /20 of that.
func (u *used) v4(region, isp int) netip.Prefix {
	at := func(n, bits int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{198, byte(18 + n>>8), byte(n), 0}), bits)
	}
	if region < 8 && isp < 4 {
		if p := at(region*64+isp*16, 20); u.free(p) {
			return p
		}
	}
	for _, bits := range []int{20, 22, 24} {
		step := 1 << (24 - bits)
		// From the end: the places of regions to come stay free for long.
		for n := 512 - step; n >= 0; n -= step {
			if p := at(n, bits); u.free(p) {
				return p
			}
		}
	}
	return netip.Prefix{}
}

func (u *used) v6(region, isp int) netip.Prefix {
	for n := region<<8 | isp; n < 1<<16; n++ {
		p := netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, byte(n >> 8), byte(n)}), 48)
		if u.free(p) {
			return p
		}
	}
	return netip.Prefix{}
}
