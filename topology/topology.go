package topology

import (
	"net/netip"
)

// Topology is a declared planet. The zero value is not valid: build one with
// Preset or Parse, both of which return a validated value.
type Topology struct {
	// Name of the lab this topology was made for; informative.
	Name string `yaml:"name,omitempty" json:"name,omitempty"`
	// Timing holds every interval the system runs by.
	Timing Timing `yaml:"timing" json:"timing"`
	// Regions in order; the first one holds the SQL primary at start.
	Regions []Region `yaml:"regions" json:"regions"`
	// Links between regions. A pair that is not listed has no added delay.
	Links []Link `yaml:"links,omitempty" json:"links,omitempty"`
	// BGP has the appliances learn their routes over BGP sessions with their
	// sites' routers; without it they announce what is declared.
	BGP bool `yaml:"bgp,omitempty" json:"bgp,omitempty"`
	// Containers says how the containers runtime runs it.
	Containers Containers `yaml:"containers,omitempty" json:"containers,omitzero"`
}

// Region is one cloud region with the Open Connect sites and ISPs near it.
type Region struct {
	// Name is a DNS label, e.g. "us-east".
	Name string `yaml:"name" json:"name"`
	// Country is the ISO 3166-1 alpha-2 code of clients near this region
	// whose ISP does not say otherwise.
	Country string `yaml:"country" json:"country"`
	// UTCOffset says what the sites' local time is, for the fill window; where
	// it is not declared the fill window goes by the machine's time.
	UTCOffset UTCOffset `yaml:"utc_offset,omitempty" json:"utc_offset,omitempty"`
	// Zones are the availability zones, one letter or DNS label each.
	Zones []string `yaml:"zones" json:"zones"`
	// Services is the number of instances of each role in this region. A role
	// that is absent takes the default of DefaultServices; zero removes it.
	Services map[Role]int `yaml:"services,omitempty" json:"services,omitempty"`
	// Exchange is the internet exchange point of the region.
	Exchange Exchange `yaml:"exchange" json:"exchange"`
	// ISPs whose clients are nearest to this region.
	ISPs []ISP `yaml:"isps" json:"isps"`
}

// Exchange is an internet exchange (IX) site with appliances reachable from
// every ISP of its region.
type Exchange struct {
	// Name is a DNS label unique in the lab, e.g. "us-east-ix".
	Name string `yaml:"name" json:"name"`
	// Appliances at the site.
	Appliances []Appliance `yaml:"appliances" json:"appliances"`
	// Router of the site; nil is one that the lab runs. Only with BGP.
	Router *Router `yaml:"router,omitempty" json:"router,omitempty"`
}

// ISP is an access network with an embedded Open Connect site.
type ISP struct {
	// Name is a DNS label unique in the lab, e.g. "us-east-isp-1". The
	// embedded site carries the same name.
	Name string `yaml:"name" json:"name"`
	// ASN is the autonomous system number.
	ASN uint32 `yaml:"asn" json:"asn"`
	// Country of its clients (ISO 3166-1 alpha-2).
	Country string `yaml:"country" json:"country"`
	// Prefixes of its clients, inside 198.18.0.0/15 or 2001:db8::/32.
	Prefixes []netip.Prefix `yaml:"prefixes" json:"prefixes"`
	// Appliances inside the ISP. None is allowed: clients then use the exchange.
	Appliances []Appliance `yaml:"appliances" json:"appliances"`
	// Router of the site; nil is one that the lab runs. Only with BGP.
	Router *Router `yaml:"router,omitempty" json:"router,omitempty"`
}

// Appliance is one Open Connect appliance.
type Appliance struct {
	// Capacity of its storage in bytes ("4GiB" in YAML).
	Capacity Size `yaml:"capacity" json:"capacity"`
	// Bandwidth it serves at most, in bits per second ("10Gbit" in YAML).
	Bandwidth Rate `yaml:"bandwidth" json:"bandwidth"`
	// FillBandwidth it fills at most, in bits per second; 0 means Bandwidth.
	FillBandwidth Rate `yaml:"fill_bandwidth,omitempty" json:"fill_bandwidth,omitempty"`
}

// Link joins two regions, both directions alike.
type Link struct {
	// Between names the two regions.
	Between [2]string `yaml:"between,flow" json:"between"`
	// RTT is the round-trip time added to traffic between them.
	RTT Duration `yaml:"rtt" json:"rtt"`
	// Bandwidth of one connection in bits per second; 0 is unlimited.
	Bandwidth Rate `yaml:"bandwidth,omitempty" json:"bandwidth,omitempty"`
}

// SiteKind says what a site is to its clients.
type SiteKind string

// The kinds of site. An origin is a region's object store.
const (
	SiteISP      SiteKind = "isp"
	SiteExchange SiteKind = "exchange"
	SiteOrigin   SiteKind = "origin"
)

// RTT is the round-trip time between two regions; zero inside one region and
// for a pair that no link joins.
func (t Topology) RTT(a, b string) Duration {
	for _, l := range t.Links {
		if (l.Between[0] == a && l.Between[1] == b) || (l.Between[0] == b && l.Between[1] == a) {
			return l.RTT
		}
	}
	return 0
}

// Region returns the region of that name.
func (t Topology) Region(name string) (Region, bool) {
	for _, r := range t.Regions {
		if r.Name == name {
			return r, true
		}
	}
	return Region{}, false
}

// ISP returns the ISP of that name and the region it is near.
func (t Topology) ISP(name string) (ISP, Region, bool) {
	for _, r := range t.Regions {
		for _, i := range r.ISPs {
			if i.Name == name {
				return i, r, true
			}
		}
	}
	return ISP{}, Region{}, false
}

// Locate returns the ISP that a client address belongs to (longest prefix)
// and the region it is near.
func (t Topology) Locate(addr netip.Addr) (ISP, Region, bool) {
	var (
		isp    ISP
		region Region
		bits   = -1
	)
	for _, r := range t.Regions {
		for _, i := range r.ISPs {
			for _, p := range i.Prefixes {
				if p.Contains(addr.Unmap()) && p.Bits() > bits {
					isp, region, bits = i, r, p.Bits()
				}
			}
		}
	}
	return isp, region, bits >= 0
}

// RegionNames lists the regions in order.
func (t Topology) RegionNames() []string {
	names := make([]string, len(t.Regions))
	for i, r := range t.Regions {
		names[i] = r.Name
	}
	return names
}

// Nearest orders the lab's regions by round-trip time from the given one,
// itself first; ties keep the declared order.
func (t Topology) Nearest(from string) []string {
	names := t.RegionNames()
	rtt := func(n string) Duration {
		if n == from {
			return -1
		}
		return t.RTT(from, n)
	}
	// Insertion sort: stable, and there are at most a handful of regions.
	for i := 1; i < len(names); i++ {
		for j := i; j > 0 && rtt(names[j]) < rtt(names[j-1]); j-- {
			names[j], names[j-1] = names[j-1], names[j]
		}
	}
	return names
}
