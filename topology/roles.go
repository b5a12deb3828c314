package topology

import (
	"fmt"
	"slices"
)

// Role is what an instance does.
type Role string

// The roles of a lab.
const (
	RoleDNS          Role = "dns"
	RoleELB          Role = "elb"
	RoleRegistry     Role = "registry"
	RoleGateway      Role = "gateway"
	RoleSignup       Role = "signup"
	RoleDiscovery    Role = "discovery"
	RolePlay         Role = "play"
	RolePlayback     Role = "playback"
	RoleLicense      Role = "license"
	RoleSteering     Role = "steering"
	RoleCacheControl Role = "cachecontrol"
	RoleRecommend    Role = "recommend"
	RoleKeystone     Role = "keystone"
	RoleTranscode    Role = "transcode"
	RoleEVCache      Role = "evcache"
	RoleKafka        Role = "kafka"
	RoleKV           Role = "kv"
	RoleSQL          Role = "sql"
	RoleSearch       Role = "search"
	RoleS3           Role = "s3"
	RoleOCA          Role = "oca"
)

// OwnProtocol says that the role's port rpc speaks the wire protocol of a store,
// which is neither HTTP nor gRPC on every runtime.
func (r Role) OwnProtocol() bool {
	switch r {
	case RoleKafka, RoleKV, RoleSQL, RoleSearch, RoleEVCache:
		return true
	}
	return false
}

// Placement says how the count of a role is spread.
type roleInfo struct {
	role    Role
	count   int  // default per region, or per zone
	perZone bool // count is per zone
	// ports the role listens on, by name. "admin" is added to every role.
	ports []string
}

// Names of ports. An instance declares the ones its role listens on.
const (
	// PortAdmin serves metrics, health, traces and run-time properties.
	PortAdmin = "admin"
	// PortRPC serves gRPC (or the store's own wire protocol) inside the lab.
	PortRPC = "rpc"
	// PortHTTP serves plain HTTP inside the lab.
	PortHTTP = "http"
	// PortTLS serves TLS behind PROXY protocol v2.
	PortTLS = "tls"
	// PortClient is dialled by clients.
	PortClient = "client"
	// PortFill serves files to other appliances.
	PortFill = "fill"
	// PortPlain serves clients without TLS that can send no PROXY header:
	// browsers on the lab's machine.
	PortPlain = "plain"
	// PortBGP is where an appliance waits for its site's router.
	PortBGP = "bgp"
	// PortReplication carries a store's replication between regions.
	PortReplication = "replication"
)

// The order is the order of start: stores first.
var roles = []roleInfo{
	{RoleRegistry, 1, false, []string{PortHTTP}},
	{RoleKafka, 1, false, []string{PortRPC}},
	{RoleKV, 1, false, []string{PortRPC, PortReplication}},
	{RoleSQL, 1, false, []string{PortRPC, PortReplication}},
	{RoleSearch, 1, false, []string{PortRPC}},
	{RoleS3, 1, false, []string{PortHTTP}},
	{RoleEVCache, 1, true, []string{PortRPC}},
	{RoleCacheControl, 1, false, []string{PortRPC}},
	{RoleSteering, 1, false, []string{PortRPC}},
	{RoleLicense, 1, false, []string{PortRPC}},
	{RolePlayback, 1, false, []string{PortRPC}},
	{RoleRecommend, 1, false, []string{PortRPC}},
	{RoleKeystone, 1, false, nil},
	{RoleTranscode, 1, false, []string{PortRPC}},
	{RoleSignup, 2, false, []string{PortHTTP}},
	{RoleDiscovery, 2, false, []string{PortHTTP}},
	{RolePlay, 2, false, []string{PortHTTP}},
	{RoleGateway, 2, false, []string{PortTLS, PortHTTP}},
	{RoleELB, 1, true, []string{PortClient, PortHTTP}},
	{RoleDNS, 1, false, []string{PortClient}},
}

// DefaultServices is the number of instances of each cloud role in a region
// with the given number of zones.
func DefaultServices(zones int) map[Role]int {
	m := make(map[Role]int, len(roles))
	for _, r := range roles {
		m[r.role] = r.count
		if r.perZone {
			m[r.role] = zones
		}
	}
	return m
}

// Instance is one declared instance.
type Instance struct {
	// ID is region/zone/role/number; for an appliance the zone is its site.
	ID string `json:"id"`
	// Region the instance belongs to.
	Region string `json:"region"`
	// Zone, or the site's name for an appliance.
	Zone string `json:"zone"`
	// Role of the instance.
	Role Role `json:"role"`
	// Number from 1, within region and role (within the site for an appliance).
	Number int `json:"number"`
	// Ports it listens on, by name.
	Ports []string `json:"ports"`
	// Site is set for an appliance.
	Site *Site `json:"site,omitempty"`
	// Appliance is set for an appliance.
	Appliance *Appliance `json:"appliance,omitempty"`
}

// Site is where appliances stand, as an appliance knows it.
type Site struct {
	Name string   `json:"name"`
	Kind SiteKind `json:"kind"`
	// ASN of the ISP; 0 at an exchange.
	ASN uint32 `json:"asn,omitempty"`
	// Prefixes the site's appliances announce: the ISP's own, or those of
	// every ISP of the region at an exchange. Text form of netip.Prefix.
	Prefixes []string `json:"prefixes"`
	// RouterASN is the autonomous system of the site's router; 0 without BGP.
	RouterASN uint32 `json:"router_asn,omitempty"`
	// Router is one that is not of the lab.
	Router *Router `json:"router,omitempty"`
}

// Host is the fault domain that an instance runs in on the embedded runtime:
// its region, or "oc" for every appliance.
func (i Instance) Host() string {
	if i.Role == RoleOCA {
		return "oc"
	}
	return i.Region
}

// InstanceID builds the identifier of an instance.
func InstanceID(region, zone string, role Role, number int) string {
	return fmt.Sprintf("%s/%s/%s/%d", region, zone, role, number)
}

// NewInstance declares the number-th instance of a cloud role in a region,
// placed round-robin over its zones. It is also how a scaled-up instance
// beyond the declared count is named.
func NewInstance(r Region, role Role, number int) Instance {
	zone := r.Zones[(number-1)%len(r.Zones)]
	ports := []string{PortAdmin}
	for _, ri := range roles {
		if ri.role == role {
			ports = append(ports, ri.ports...)
		}
	}
	return Instance{ID: InstanceID(r.Name, zone, role, number), Region: r.Name, Zone: zone, Role: role, Number: number, Ports: ports}
}

// Instances compiles the topology to every instance it declares, in start
// order within each region, appliances last.
func (t Topology) Instances() []Instance {
	var all []Instance
	for _, r := range t.Regions {
		all = append(all, t.instances(r)...)
	}
	return all
}

func (t Topology) instances(r Region) []Instance {
	counts := DefaultServices(len(r.Zones))
	for role, n := range r.Services {
		counts[role] = n
	}
	var out []Instance
	for _, ri := range roles {
		for n := 1; n <= counts[ri.role]; n++ {
			out = append(out, NewInstance(r, ri.role, n))
		}
	}
	var all []string
	for _, isp := range r.ISPs {
		for _, p := range isp.Prefixes {
			all = append(all, p.String())
		}
	}
	slices.Sort(all)
	out = append(out, r.siteInstances(t.routed(Site{Name: r.Exchange.Name, Kind: SiteExchange, Prefixes: all}, r.Exchange.Router), r.Exchange.Appliances)...)
	for _, isp := range r.ISPs {
		var own []string
		for _, p := range isp.Prefixes {
			own = append(own, p.String())
		}
		out = append(out, r.siteInstances(t.routed(Site{Name: isp.Name, Kind: SiteISP, ASN: isp.ASN, Prefixes: own}, isp.Router), isp.Appliances)...)
	}
	return out
}

func (r Region) siteInstances(site Site, appliances []Appliance) []Instance {
	var out []Instance
	ports := []string{PortAdmin, PortClient, PortFill, PortPlain}
	if site.Speaks() {
		ports = append(ports, PortBGP)
	}
	for i, a := range appliances {
		out = append(out, Instance{
			ID: InstanceID(r.Name, site.Name, RoleOCA, i+1), Region: r.Name, Zone: site.Name, Role: RoleOCA, Number: i + 1,
			Ports: slices.Clone(ports), Site: &site, Appliance: &a,
		})
	}
	return out
}

// Roles lists every cloud role in start order.
func Roles() []Role {
	out := make([]Role, len(roles))
	for i, r := range roles {
		out[i] = r.role
	}
	return out
}
