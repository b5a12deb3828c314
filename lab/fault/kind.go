package fault

import (
	"slices"
	"strings"

	"github.com/flix-lab/flix/services"
)

// Kind describes a kind of fault.
type Kind struct {
	Name string `json:"name"`
	// Group is what it is about: life, network, call or resource.
	Group   string `json:"group"`
	Summary string `json:"summary"`
	// Targets are the sorts of target it takes.
	Targets []string `json:"targets"`
	// To says that it lies between two targets; without the second it lies
	// between the first and everything else.
	To     bool    `json:"to,omitempty"`
	Params []Param `json:"params"`
	// Reverts says that there is something to revert: such a fault has a time
	// to live.
	Reverts bool `json:"reverts"`
	// Runtimes it works on, and what it does not reach there.
	Runtimes []string `json:"runtimes"`
	Limits   string   `json:"limits,omitempty"`

	plan func(*planner) error
}

// Param is a parameter of a kind.
type Param struct {
	Name    string `json:"name"`
	Default string `json:"default,omitempty"`
	Help    string `json:"help"`
}

// Sorts of target.
const (
	sortInstance  = "instance"
	sortService   = "service"
	sortZone      = "zone"
	sortRegion    = "region"
	sortISP       = "isp"
	sortExchange  = "exchange"
	sortAppliance = "appliance"
	sortCall      = "call"
)

// The runtimes.
const (
	onEmbedded   = "embedded"
	onContainers = "containers"
)

var (
	lives  = []string{sortInstance, sortService, sortZone, sortRegion, sortISP, sortExchange, sortAppliance}
	both   = []string{onEmbedded, onContainers}
	scopes = []Param{
		{"percent", "100", "share of the calls in scope that are hit"},
		{"members", "", "only for these members (ids, separated by |)"},
		{"devices", "", "only on these devices (web, phone, tablet, tv)"},
		{"countries", "", "only from these countries"},
		{"isps", "", "only from these ISPs"},
		{"clients", "", "only from these networks of client addresses"},
		{"viewers", "", "only for this percentage of the viewers, each in or out for good"},
	}
)

// storesOnly is what the containers runtime does not reach.
const storesOnly = "on containers not of real stores: freeze is of flix's own sockets"

// Kinds lists every kind, in the order in which they are shown.
func Kinds() []Kind {
	all := []Kind{
		{Name: "kill", Group: "life", Summary: "end at once: sockets are reset, memory is lost, the disk stays", Targets: lives, Reverts: true, Runtimes: both, plan: planKill},
		{Name: "stop", Group: "life", Summary: "end in order: deregistered, drained, closed", Targets: lives, Reverts: true, Runtimes: both, plan: planStop},
		{Name: "pause", Group: "life", Summary: "freeze: sockets neither take nor give a byte, and nothing is closed", Targets: lives, Reverts: true, Runtimes: both, Limits: storesOnly, plan: planPause},
		{Name: "restart", Group: "life", Summary: "kill and start again at once", Targets: lives, Runtimes: both, plan: planRestart},
		{Name: "broker-down", Group: "life", Summary: "kill a region's Kafka", Targets: []string{sortRegion, sortInstance}, Reverts: true, Runtimes: both, plan: planRole("kafka")},
		{Name: "store-down", Group: "life", Summary: "kill a region's node of a store", Targets: []string{sortRegion, sortInstance}, Params: []Param{{"store", "kv", "kv, sql, search, s3 or evcache"}}, Reverts: true, Runtimes: both, plan: planStore},

		{Name: "latency", Group: "network", Summary: "delay what passes, in each direction", Targets: lives, To: true, Params: []Param{{"delay", "100ms", "added to each direction"}, {"jitter", "0s", "more or less of it at random"}}, Reverts: true, Runtimes: both, plan: planLatency},
		{Name: "jitter", Group: "network", Summary: "vary the delay of what passes", Targets: lives, To: true, Params: []Param{{"jitter", "50ms", "at most so much more"}}, Reverts: true, Runtimes: both, plan: planJitter},
		{Name: "loss", Group: "network", Summary: "lose packets: streams wait for them again, datagrams are gone", Targets: lives, To: true, Params: []Param{{"percent", "5", "of the packets"}}, Reverts: true, Runtimes: both, plan: planLoss},
		{Name: "bandwidth", Group: "network", Summary: "cap each connection", Targets: lives, To: true, Params: []Param{{"rate", "1Mbit", "of one connection in one direction"}}, Reverts: true, Runtimes: both, plan: planBandwidth},
		{Name: "reset", Group: "network", Summary: "reset what is open, and a share of what is dialled", Targets: lives, To: true, Params: []Param{{"percent", "100", "of new connections"}}, Reverts: true, Runtimes: both, plan: planReset},
		{Name: "blackhole", Group: "network", Summary: "swallow what is sent: connections stay open and silent", Targets: lives, To: true, Reverts: true, Runtimes: both, plan: planBlackhole},
		{Name: "partition", Group: "network", Summary: "cut apart: what is open is reset, what is dialled gets no answer", Targets: lives, To: true, Params: []Param{{"one_way", "false", "only what target sends to the other is lost"}}, Reverts: true, Runtimes: both, plan: planPartition},

		{Name: "fail-call", Group: "call", Summary: "fail calls of a dependency for scoped viewers", Targets: []string{sortCall}, Params: append([]Param{{"region", "", "only calls made in this region"}}, scopes...), Reverts: true, Runtimes: both, plan: planFailCall},
		{Name: "slow-call", Group: "call", Summary: "delay calls of a dependency for scoped viewers", Targets: []string{sortCall}, Params: append([]Param{{"delay", "500ms", "of each call"}, {"region", "", "only calls made in this region"}}, scopes...), Reverts: true, Runtimes: both, plan: planSlowCall},

		{Name: "disk-full", Group: "resource", Summary: "an appliance's disk takes no byte more", Targets: []string{sortAppliance, sortISP, sortExchange}, Reverts: true, Runtimes: both, plan: planDiskFull},
		{Name: "disk-slow", Group: "resource", Summary: "an appliance's disk answers late", Targets: []string{sortAppliance, sortISP, sortExchange}, Params: []Param{{"delay", "200ms", "of each file opened and each piece written"}}, Reverts: true, Runtimes: both, plan: planDiskSlow},
		{Name: "cache-flush", Group: "resource", Summary: "cache servers forget everything", Targets: []string{sortRegion, sortZone, sortInstance}, Runtimes: both, plan: planFlush},
		{Name: "clock-skew", Group: "resource", Summary: "the clock of licences, of wide-column writes or of appliances is off", Targets: lives, Params: []Param{{"offset", "1m", "ahead, or behind with a minus"}}, Reverts: true, Runtimes: []string{onEmbedded}, plan: planClock},
		{Name: "cpu-hog", Group: "resource", Summary: "keep processors of a region's host busy", Targets: []string{sortRegion}, Params: []Param{{"cores", "1", "how many"}}, Reverts: true, Runtimes: []string{onEmbedded}, plan: planCPU},
		{Name: "dns-fail", Group: "resource", Summary: "a DNS server answers wrongly", Targets: []string{sortRegion, sortInstance}, Params: []Param{{"mode", "servfail", "servfail, refuse or drop"}}, Reverts: true, Runtimes: both, plan: planDNS},
		{Name: "cert-expired", Group: "resource", Summary: "a gateway or an appliance shows an expired certificate", Targets: lives, Reverts: true, Runtimes: both, plan: planCertificate},
	}
	for i := range all {
		if all[i].Params == nil {
			all[i].Params = []Param{} // an empty list to a program, never null
		}
	}
	return all
}

// KindOf finds a kind by its name.
func KindOf(name string) (Kind, error) {
	all := Kinds()
	i := slices.IndexFunc(all, func(k Kind) bool { return k.Name == name })
	if i >= 0 {
		return all[i], nil
	}
	var names []string
	for _, k := range all {
		names = append(names, k.Name)
	}
	return Kind{}, services.Errorf(services.NotFound, "there is no kind of fault %q", name).WithRemedy("there are %s", strings.Join(names, ", "))
}
