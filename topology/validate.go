package topology

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limits of a declaration.
const (
	MaxRegions    = 16
	MaxZones      = 8
	MaxInstances  = 32 // of one role in one region
	MaxISPs       = 8  // of one region
	MaxPrefixes   = 16 // of one ISP
	MaxAppliances = 64 // of one site
	MaxRTT        = 10 * time.Second

	// maxLabel leaves room for "oca-64-" before a site's name in a DNS label.
	maxLabel     = 40
	minCapacity  = Size(1 << 20)
	maxCapacity  = Size(1 << 50)
	minBandwidth = Rate(1e3)
	maxBandwidth = Rate(1e15)
	maxInterval  = Duration(366 * 24 * time.Hour)
)

// hostOC is the fault domain of the appliances, which no region may be named
// after; see Instance.Host.
const hostOC = "oc"

var (
	label       = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
	countryCode = regexp.MustCompile(`^[A-Z]{2}$`)
	// Blocks that stand for the clients of the lab: benchmarking (RFC 2544)
	// and documentation (RFC 3849) addresses, which no real host has.
	clientBlocks = []netip.Prefix{netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("2001:db8::/32")}
)

// optionalRoles may be left out of a region: what they do is missed, but
// titles still play.
var optionalRoles = []Role{RoleEVCache, RoleRecommend, RoleKeystone, RoleTranscode}

// storeRoles are one server per region: their data is not sharded. The kv is,
// on the containers runtime; see MaxKVNodes.
var storeRoles = []Role{RoleKafka, RoleSQL, RoleSearch, RoleS3}

// MaxKVNodes bounds the nodes of the kv in a region; the embedded runtime has
// one.
const MaxKVNodes = 3

// Validate checks everything that the rest of the system relies on. The error
// is a ParseErrors with every problem found.
func (t Topology) Validate() error {
	c := checker{sites: map[string]string{}}
	c.topology(t)
	return c.errs.err()
}

// checker gathers the problems of a topology.
type checker struct {
	errs     ParseErrors
	sites    map[string]string // name of a site to the field that declared it
	prefixes []declaredPrefix
}

type declaredPrefix struct {
	prefix netip.Prefix
	field  string
}

func (c *checker) fail(field, value, problem, remedy string, args ...any) {
	c.errs = append(c.errs, &ParseError{Field: field, Value: value, Problem: problem, Remedy: fmt.Sprintf(remedy, args...)})
}

func (c *checker) topology(t Topology) {
	if t.Name != "" {
		c.label("name", t.Name)
	}
	c.timing(t.Timing)
	c.containers(t.Containers)
	switch n := len(t.Regions); {
	case n == 0:
		c.fail("regions", "", "has no region", "declare at least one, e.g. regions: [us-east]")
	case n > MaxRegions:
		c.fail("regions", strconv.Itoa(n), "is too many regions", "declare at most %d", MaxRegions)
	}
	seen := map[string]int{}
	for i, r := range t.Regions {
		field := fmt.Sprintf("regions[%d]", i)
		if first, dup := seen[r.Name]; dup && r.Name != "" {
			c.fail(field+".name", r.Name, fmt.Sprintf("is already the name of regions[%d]", first), "give each region its own name")
		} else {
			seen[r.Name] = i
		}
		c.region(field, t, r)
	}
	c.links(t)
}

func (c *checker) label(field, value string) bool {
	switch {
	case value == "":
		c.fail(field, "", "is missing", "write a DNS label: lower-case letters, digits and inner dashes, e.g. us-east")
	case len(value) > maxLabel:
		c.fail(field, value, fmt.Sprintf("has %d characters", len(value)), "use at most %d", maxLabel)
	case !label.MatchString(value):
		c.fail(field, value, "is not a DNS label", "use lower-case letters, digits and inner dashes, e.g. us-east")
	default:
		return true
	}
	return false
}

func (c *checker) country(field, value string) {
	if value == "" {
		c.fail(field, "", "is missing", "write the two capital letters of ISO 3166-1, e.g. US")
	} else if !countryCode.MatchString(value) {
		c.fail(field, value, "is not a country code", "write the two capital letters of ISO 3166-1, e.g. US")
	}
}

func (c *checker) region(field string, t Topology, r Region) {
	if c.label(field+".name", r.Name) && r.Name == hostOC {
		c.fail(field+".name", r.Name, "is the name of the appliances' own fault domain", "choose another name")
	}
	c.country(field+".country", r.Country)
	if _, ok := r.UTCOffset.Get(); !ok && r.UTCOffset != "" {
		c.fail(field+".utc_offset", string(r.UTCOffset), "is not an offset from UTC", `write it like "-05:00" or "+05:30", in quotes`)
	}
	c.zones(field+".zones", r.Zones)
	c.services(field+".services", r.Services)
	c.site(field+".exchange", r.Exchange.Name, r.Exchange.Appliances)
	c.router(field+".exchange", t, r.Exchange.Router, ExchangeASN)
	if len(r.ISPs) > MaxISPs {
		c.fail(field+".isps", strconv.Itoa(len(r.ISPs)), "is too many ISPs", "declare at most %d per region", MaxISPs)
	}
	for k, isp := range r.ISPs {
		f := fmt.Sprintf("%s.isps[%d]", field, k)
		c.site(f, isp.Name, isp.Appliances)
		c.country(f+".country", isp.Country)
		if isp.ASN == 0 {
			c.fail(f+".asn", "0", "is not an autonomous system number", "write 1 to 4294967295, e.g. 64512")
		}
		c.prefixesOf(f+".prefixes", isp.Prefixes)
		c.router(f, t, isp.Router, isp.ASN)
	}
}

func (c *checker) zones(field string, zones []string) {
	switch n := len(zones); {
	case n == 0:
		c.fail(field, "", "has no zone", "declare at least one, e.g. zones: [a, b]")
	case n > MaxZones:
		c.fail(field, strconv.Itoa(n), "is too many zones", "declare at most %d", MaxZones)
	}
	for i, z := range zones {
		f := fmt.Sprintf("%s[%d]", field, i)
		if c.label(f, z) && slices.Index(zones, z) < i {
			c.fail(f, z, "is declared twice", "give each zone of a region its own name")
		}
	}
}

func (c *checker) services(field string, counts map[Role]int) {
	roles := Roles()
	names := make([]Role, 0, len(counts))
	for role := range counts {
		names = append(names, role)
	}
	slices.Sort(names) // problems come in the same order each time
	for _, role := range names {
		n := counts[role]
		f, v := field+"."+string(role), strconv.Itoa(n)
		most := MaxInstances
		if slices.Contains(storeRoles, role) {
			most = 1
		}
		if role == RoleKV {
			most = MaxKVNodes
		}
		switch {
		case role == RoleOCA:
			c.fail(f, v, "is not counted here", "declare appliances at an exchange or an ISP")
		case !slices.Contains(roles, role):
			c.fail(f, "", "is not a role", "%s", didYouMean(string(role), roleNames(roles)))
		case n < 0:
			c.fail(f, v, "is negative", "write 0 to %d, or leave the role out for its default", most)
		case n == 0 && !slices.Contains(optionalRoles, role):
			c.fail(f, v, "would leave the region without a role it cannot play titles without", "write 1 or more; only %s may be 0", strings.Join(roleNames(optionalRoles), ", "))
		case n > most:
			c.fail(f, v, "is too many instances", "write at most %d", most)
		}
	}
}

func roleNames(roles []Role) []string {
	out := make([]string, len(roles))
	for i, r := range roles {
		out[i] = string(r)
	}
	return out
}

// didYouMean names what was meant, or everything that there is.
func didYouMean(s string, known []string) string {
	if n := nearest(s, known); n != "" {
		return fmt.Sprintf("did you mean %q?", n)
	}
	return "use one of " + strings.Join(known, ", ")
}

func (c *checker) site(field, name string, appliances []Appliance) {
	if c.label(field+".name", name) {
		if first, dup := c.sites[name]; dup {
			c.fail(field+".name", name, "is already the name of "+first, "give each exchange and ISP of the lab its own name")
		} else {
			c.sites[name] = field
		}
	}
	if n := len(appliances); n > MaxAppliances {
		c.fail(field+".appliances", strconv.Itoa(n), "is too many appliances", "declare at most %d per site", MaxAppliances)
	}
	for i, a := range appliances {
		f := fmt.Sprintf("%s.appliances[%d]", field, i)
		if a.Capacity < minCapacity || a.Capacity > maxCapacity {
			c.fail(f+".capacity", a.Capacity.String(), fmt.Sprintf("is outside %s to %s", minCapacity, maxCapacity), "write e.g. 4GiB")
		}
		if a.Bandwidth < minBandwidth || a.Bandwidth > maxBandwidth {
			c.fail(f+".bandwidth", a.Bandwidth.String(), fmt.Sprintf("is outside %s to %s", minBandwidth, maxBandwidth), "write e.g. 10Gbit")
		}
		if a.FillBandwidth != 0 && (a.FillBandwidth < minBandwidth || a.FillBandwidth > maxBandwidth) {
			c.fail(f+".fill_bandwidth", a.FillBandwidth.String(), fmt.Sprintf("is outside %s to %s", minBandwidth, maxBandwidth), "write e.g. 1Gbit, or leave it out for the same as bandwidth")
		}
	}
}

func (c *checker) prefixesOf(field string, prefixes []netip.Prefix) {
	switch n := len(prefixes); {
	case n == 0:
		c.fail(field, "", "has no prefix, so no client could be of this ISP", "leave prefixes out to have some allocated, or write e.g. [198.18.0.0/20]")
	case n > MaxPrefixes:
		c.fail(field, strconv.Itoa(n), "is too many prefixes", "declare at most %d per ISP", MaxPrefixes)
	}
	for i, p := range prefixes {
		f, v := fmt.Sprintf("%s[%d]", field, i), p.String()
		switch {
		case !p.IsValid():
			c.fail(f, v, "is not a prefix", "write it like 198.18.0.0/20 or 2001:db8:1::/48")
			continue
		case p != p.Masked():
			c.fail(f, v, "has bits set beyond its length", "write %s", p.Masked())
			continue
		case !inClientBlocks(p):
			c.fail(f, v, "is outside the lab's client addresses", "choose one inside %s or %s", clientBlocks[0], clientBlocks[1])
			continue
		}
		for _, other := range c.prefixes {
			if p.Overlaps(other.prefix) {
				c.fail(f, v, fmt.Sprintf("overlaps %s of %s", other.prefix, other.field), "give each ISP addresses of its own")
				break
			}
		}
		c.prefixes = append(c.prefixes, declaredPrefix{p, f})
	}
}

func inClientBlocks(p netip.Prefix) bool {
	return slices.ContainsFunc(clientBlocks, func(b netip.Prefix) bool { return b.Bits() <= p.Bits() && b.Contains(p.Addr()) })
}

func (c *checker) links(t Topology) {
	names := t.RegionNames()
	seen := map[[2]string]int{}
	for i, l := range t.Links {
		f := fmt.Sprintf("links[%d]", i)
		known := true
		for e, end := range l.Between {
			if !slices.Contains(names, end) {
				known = false
				c.fail(fmt.Sprintf("%s.between[%d]", f, e), end, "is not a region of this topology", "%s", didYouMean(end, names))
			}
		}
		if known && l.Between[0] == l.Between[1] {
			c.fail(f+".between", l.Between[0], "is linked to itself", "name two regions")
		}
		key := l.Between
		slices.Sort(key[:])
		if first, dup := seen[key]; dup && known {
			c.fail(f+".between", key[0]+", "+key[1], fmt.Sprintf("are already joined by links[%d]", first), "keep one link per pair: it counts in both directions")
		} else {
			seen[key] = i
		}
		if l.RTT < 0 || l.RTT.D() > MaxRTT {
			c.fail(f+".rtt", l.RTT.String(), fmt.Sprintf("is outside 0s to %s", MaxRTT), "write e.g. 62ms")
		}
		if l.Bandwidth != 0 && (l.Bandwidth < minBandwidth || l.Bandwidth > maxBandwidth) {
			c.fail(f+".bandwidth", l.Bandwidth.String(), fmt.Sprintf("is outside %s to %s", minBandwidth, maxBandwidth), "write e.g. 100Mbit, or leave it out for no limit")
		}
	}
}

func (c *checker) timing(t Timing) {
	for _, f := range timingFields(&t) {
		if f.name == "fill_window_start" {
			continue // a time of day, checked below
		}
		if *f.value <= 0 || *f.value > maxInterval {
			c.fail("timing."+f.name, f.value.String(), fmt.Sprintf("is not above 0s and at most %s", maxInterval), "write e.g. 30s, or leave it out for the preset's")
		}
	}
	if t.FillWindowStart < 0 || t.FillWindowStart >= 24*h {
		c.fail("timing.fill_window_start", t.FillWindowStart.String(), "is not a time of day", "write the time since midnight, 0s to 23h59m")
	}
	if t.LeaseDuration <= t.LeaseRenewal {
		c.fail("timing.lease_duration", t.LeaseDuration.String(), fmt.Sprintf("is not longer than lease_renewal, %s: every lease would lapse", t.LeaseRenewal), "write at least %s", 2*t.LeaseRenewal)
	}
	if t.RetryWaitMax < t.RetryWait {
		c.fail("timing.retry_wait_max", t.RetryWaitMax.String(), fmt.Sprintf("is shorter than retry_wait, %s", t.RetryWait), "write at least %s", t.RetryWait)
	}
	if t.StallTimeout <= t.FetchWatch {
		c.fail("timing.stall_timeout", t.StallTimeout.String(), fmt.Sprintf("is not longer than fetch_watch, %s: it would not be noticed", t.FetchWatch), "write at least %s", 2*t.FetchWatch)
	}
	if t.ReportExpiry <= t.HealthReport {
		c.fail("timing.report_expiry", t.ReportExpiry.String(), fmt.Sprintf("is not longer than health_report, %s: every appliance would be stale", t.HealthReport), "write at least %s", 2*t.HealthReport)
	}
}
