package fault

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/flix-lab/flix/services/rpc"
	"github.com/flix-lab/flix/topology"
)

// Fault is one fault that is in force or was.
type Fault struct {
	ID   string `json:"id"`
	Kind string `json:"kind"`
	// Target as it was asked for, To the other end of a fault between two.
	Target string `json:"target"`
	To     string `json:"to,omitempty"`
	// Params as they hold, defaults filled in.
	Params map[string]string `json:"params,omitempty"`
	// Began is when it was pushed; Until when it reverts by itself, the zero
	// time for one that is over at once or holds until it is stopped.
	Began time.Time `json:"began"`
	Until time.Time `json:"until,omitzero"`
	// By says who asked: "run", "experiment NAME", "monkey".
	By string `json:"by,omitempty"`
	// Effect is what is enforced.
	Effect Effect `json:"effect"`
}

// Over says whether a fault's time is up.
func (f Fault) Over(now time.Time) bool { return !f.Until.IsZero() && !now.Before(f.Until) }

// String names the fault for a person.
func (f Fault) String() string {
	s := f.Kind + " on " + f.Target
	if f.To != "" {
		s += " to " + f.To
	}
	return s
}

// Effect is what a fault does, with its targets resolved to instances and
// sides. A field that is empty does nothing.
type Effect struct {
	// Down are instances that are held down, Orderly without a kill.
	Down    []string `json:"down,omitempty"`
	Orderly bool     `json:"orderly,omitempty"`
	// Lost are regions whose host is killed as a whole.
	Lost []string `json:"lost,omitempty"`
	// Restart are instances that are killed and started at once.
	Restart []string `json:"restart,omitempty"`
	// Frozen are instances whose sockets neither take nor give a byte.
	Frozen []string `json:"frozen,omitempty"`
	// Link lies between two sides.
	Link *Link `json:"link,omitempty"`
	// Call fails or delays calls of a dependency.
	Call *rpc.Call `json:"call,omitempty"`
	// Disk is a disk that is full or slow, of appliances.
	Disk *Disk `json:"disk,omitempty"`
	// Flush are cache servers that forget everything, once.
	Flush []string `json:"flush,omitempty"`
	// Clock is a clock that is off.
	Clock *Clock `json:"clock,omitempty"`
	// CPU keeps processors busy.
	CPU *CPU `json:"cpu,omitempty"`
	// DNS servers that answer wrongly.
	DNS *DNS `json:"dns,omitempty"`
	// Expired are instances that show an expired certificate.
	Expired []string `json:"expired,omitempty"`
}

// Side is one end of a link fault: traffic that starts there is known by the
// fields that are set, traffic that goes there by its address. A Side without
// any is everywhere.
type Side struct {
	Region   string        `json:"region,omitempty"`
	Zone     string        `json:"zone,omitempty"`
	Role     topology.Role `json:"role,omitempty"`
	Instance string        `json:"instance,omitempty"`
	ISP      string        `json:"isp,omitempty"`
	// Instances that lie there. The lab turns them into addresses when it
	// pushes the fault, since instances come and go.
	Instances []string `json:"instances,omitempty"`
	// Addrs are the host:port of Instances.
	Addrs []string `json:"addrs,omitempty"`
}

// Any says that the side is everywhere.
func (s Side) Any() bool { return s.is(Side{}) }

// is says whether two sides are the same place.
func (s Side) is(o Side) bool {
	return s.Region == o.Region && s.Zone == o.Zone && s.Role == o.Role && s.Instance == o.Instance && s.ISP == o.ISP
}

// String names the side for a person.
func (s Side) String() string {
	switch {
	case s.Any():
		return "the rest"
	case s.Role != "" && s.Region != "":
		return string(s.Role) + "@" + s.Region
	case s.Zone != "":
		return s.Region + "/" + s.Zone
	}
	return cmp.Or(s.Instance, s.ISP, string(s.Role), s.Region)
}

// Link is a fault between two sides, in both directions or, OneWay, of what
// goes from A to B.
type Link struct {
	A      Side `json:"a"`
	B      Side `json:"b"`
	OneWay bool `json:"one_way,omitempty"`
	// Delay is added in each direction, give or take Jitter.
	Delay  time.Duration `json:"delay,omitempty"`
	Jitter time.Duration `json:"jitter,omitempty"`
	// Loss of packets, 0 to 1.
	Loss float64 `json:"loss,omitempty"`
	// Rate caps one connection in one direction, bits per second.
	Rate topology.Rate `json:"rate,omitempty"`
	// Hole swallows what is sent: connections stay open and silent.
	Hole bool `json:"hole,omitempty"`
	// Cut resets what is open besides.
	Cut bool `json:"cut,omitempty"`
	// Reset is the share of new connections that are reset, 0 to 1; those that
	// are open when it begins are all reset.
	Reset float64 `json:"reset,omitempty"`
}

// severs says whether nothing gets through from A to B.
func (l *Link) severs() bool {
	return l != nil && (l.Cut || l.Hole || l.Loss >= 1 || l.Reset >= 1)
}

// Disk is a disk fault of appliances.
type Disk struct {
	Instances []string `json:"instances"`
	// Full takes no byte more.
	Full bool `json:"full,omitempty"`
	// Delay of each read and write.
	Delay time.Duration `json:"delay,omitempty"`
}

// Clock is a clock fault of instances.
type Clock struct {
	Instances []string      `json:"instances"`
	Offset    time.Duration `json:"offset"`
}

// CPU is a fault of hosts: so many processors are kept busy in each.
type CPU struct {
	Hosts []string `json:"hosts"`
	Cores int      `json:"cores"`
}

// DNS is a fault of DNS servers.
type DNS struct {
	Instances []string `json:"instances"`
	// Mode is servfail, refuse or drop.
	Mode string `json:"mode"`
}

// Lasting says whether there is something to revert.
func (e Effect) Lasting() bool { return len(e.Restart) == 0 && len(e.Flush) == 0 }

// Holds says whether the effect keeps an instance from running.
func (e Effect) Holds(i topology.Instance) bool {
	return slices.Contains(e.Down, i.ID) || i.Role != topology.RoleOCA && slices.Contains(e.Lost, i.Region)
}

// claims are the points that a fault takes: no other may take one of them.
func (f Fault) claims(instances []topology.Instance) []string {
	var out []string
	add := func(what string, ids ...string) {
		for _, id := range ids {
			out = append(out, what+" of "+id)
		}
	}
	e := f.Effect
	add("the life", e.Down...)
	add("the life", e.Restart...)
	add("the life", e.Frozen...)
	for _, r := range e.Lost {
		for _, i := range instances {
			if i.Region == r && i.Role != topology.RoleOCA {
				add("the life", i.ID)
			}
		}
	}
	if l := e.Link; l != nil {
		ends := []string{l.A.String(), l.B.String()}
		if !l.B.Any() {
			slices.Sort(ends)
		}
		add("the link", strings.Join(ends, " and "))
	}
	if c := e.Call; c != nil {
		add("the call", fmt.Sprintf("%s for %s", c.Name, c.Scope))
	}
	if e.Disk != nil {
		add("the disk", e.Disk.Instances...)
	}
	if e.Clock != nil {
		add("the clock", e.Clock.Instances...)
	}
	if e.CPU != nil {
		add("the processors", e.CPU.Hosts...)
	}
	if e.DNS != nil {
		add("the answers", e.DNS.Instances...)
	}
	add("the certificate", e.Expired...)
	return out
}
