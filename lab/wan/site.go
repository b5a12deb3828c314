package wan

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/flix-lab/flix/topology"
)

// Site is where traffic starts: as much of it as the dialer knows.
type Site struct {
	Region   string
	Zone     string
	Role     topology.Role
	Instance string
	// ISP of a client, or that an appliance stands in.
	ISP string
}

// Side is one end of a rule. Traffic that starts there is known by the fields
// that are set, traffic that goes there by its address; one without any is
// everywhere.
type Side struct {
	Site
	// Addrs are the host:port of what lies there. Without any, an address lies
	// at a side that is a whole region when it lies in that region.
	Addrs map[string]bool
}

func (s Side) any() bool { return s.Site == Site{} && len(s.Addrs) == 0 }

// from says whether traffic of a site starts at the side.
func (s Side) from(x Site) bool {
	if s.any() {
		return true
	}
	return s.Site != Site{} &&
		(s.Region == "" || s.Region == x.Region) && (s.Zone == "" || s.Zone == x.Zone) && (s.Role == "" || s.Role == x.Role) &&
		(s.Instance == "" || s.Instance == x.Instance) && (s.ISP == "" || s.ISP == x.ISP)
}

// to says whether an address lies at the side.
func (s Side) to(addr, region string) bool {
	switch {
	case s.any():
		return true
	case len(s.Addrs) > 0:
		return s.Addrs[addr]
	}
	return s.Site == Site{Region: s.Region} && s.Region == region
}

// Rule is a fault of the network between two sides. It ends by itself.
type Rule struct {
	A, B   Side
	OneWay bool
	// Until is when it ends.
	Until time.Time
	// Delay of each direction, give or take Jitter.
	Delay, Jitter time.Duration
	// Loss of packets, 0 to 1: a stream waits for them to be sent again, a
	// datagram is gone.
	Loss float64
	// Rate of one connection in one direction, bits per second; 0 is no cap.
	Rate topology.Rate
	// Hole swallows everything; Cut resets what is open besides.
	Hole, Cut bool
	// Reset is the share of new connections that are reset.
	Reset float64
}

// rank is how closely a side says what it is.
func (s Side) rank() int {
	switch {
	case s.Instance != "":
		return 4
	case s.ISP != "":
		return 3
	case s.Zone != "" || s.Role != "" || len(s.Addrs) > 0:
		return 2
	case s.Region != "":
		return 1
	}
	return 0
}

// way says which directions of a connection from a site to an address the rule
// is about: what the site sends (out), and what it gets (in). What would lie on
// both sides lies on the one that says more of it: an ISP's client on its ISP's
// and not on the region's that it is near to.
func (r Rule) way(from Site, addr, region string) (out, in bool) {
	fa, fb := only(r.A.from(from), r.B.from(from), r.A.rank()-r.B.rank())
	ta, tb := only(r.A.to(addr, region), r.B.to(addr, region), r.A.rank()-r.B.rank())
	forth, back := fa && tb, fb && ta
	return forth || back && !r.OneWay, back || forth && !r.OneWay
}

// only settles what lies on both sides; what neither says more of lies on none.
func only(a, b bool, more int) (bool, bool) {
	if !a || !b {
		return a, b
	}
	return more > 0, more < 0
}

// trouble is what rules add to a path in one direction, as they stand now.
type trouble struct {
	delay, jitter time.Duration
	loss          float64
	rate          topology.Rate
	// held is until when nothing is delivered; zero when it is.
	held time.Time
}

// flow is a connection's two ends, and what the rules in force do to it.
type flow struct {
	t            *Table
	from         Site
	addr, region string
}

// live returns the rules that were imposed last; some may be over.
func (t *Table) live() []Rule {
	p := t.rules.Load()
	if p == nil {
		return nil
	}
	return *p
}

// trouble sums up the rules for one direction.
func (f flow) trouble(out bool) trouble {
	var sum trouble
	rules := f.t.live()
	if len(rules) == 0 {
		return sum
	}
	now, pass := time.Now(), 1.0
	for _, r := range rules {
		if !r.Until.After(now) {
			continue
		}
		o, i := r.way(f.from, f.addr, f.region)
		if out && !o || !out && !i {
			continue
		}
		sum.delay += r.Delay
		sum.jitter += r.Jitter
		pass *= 1 - r.Loss
		if r.Rate > 0 && (sum.rate == 0 || r.Rate < sum.rate) {
			sum.rate = r.Rate
		}
		if (r.Hole || r.Cut) && r.Until.After(sum.held) {
			sum.held = r.Until
		}
	}
	sum.loss = 1 - pass
	return sum
}

// blocked says until when no new connection comes about: a handshake needs
// both directions.
func (f flow) blocked() time.Time {
	out, in := f.trouble(true).held, f.trouble(false).held
	if in.After(out) {
		return in
	}
	return out
}

// refused says whether a new connection is reset.
func (f flow) refused() bool {
	now := time.Now()
	for _, r := range f.t.live() {
		if r.Reset == 0 || !r.Until.After(now) {
			continue
		}
		if o, i := r.way(f.from, f.addr, f.region); (o || i) && rand.Float64() < r.Reset {
			return true
		}
	}
	return false
}

// touched says whether any rule in force is about the flow.
func (f flow) touched() bool {
	now := time.Now()
	return slices.ContainsFunc(f.t.live(), func(r Rule) bool {
		if !r.Until.After(now) {
			return false
		}
		o, i := r.way(f.from, f.addr, f.region)
		return o || i
	})
}

// path is the flow's path in one direction, the rules included.
func (f flow) path(out bool) func() Path {
	return func() Path {
		p := f.t.Path(f.from.Region, f.region)
		tr := f.trouble(out)
		p.RTT += 2 * tr.delay // a direction takes half of it
		if tr.jitter > 0 {
			p.RTT += time.Duration(float64(2*tr.jitter) * (2*rand.Float64() - 1))
			p.RTT = max(p.RTT, 0)
		}
		if tr.rate > 0 && (p.Rate == 0 || tr.rate < p.Rate) {
			p.Rate = tr.rate
		}
		p.loss, p.held = tr.loss, tr.held
		return p
	}
}
