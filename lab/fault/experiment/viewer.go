package experiment

import (
	"cmp"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/flix-lab/flix/lab/fault"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// viewer is the n-th that the k-th place of a group plays as. The seed decides
// everything about it.
func (r *runner) viewer(group string, k, n int) Viewer {
	t := r.e.Traffic
	v := Viewer{Region: t.Region, ISP: t.ISP, Device: t.Device, Title: t.Title, Seconds: t.Seconds, Speed: t.Speed, Bandwidth: t.Bandwidth}
	if r.e.Groups.By == "region" && group == control {
		v.Region, v.ISP = r.e.Groups.Control, ""
	}
	rng := rand.New(rand.NewPCG(r.e.Seed, uint64(k)<<32|uint64(n)))
	region, _ := r.Lab.Topology().Region(v.Region)
	isps := region.ISPs
	if v.ISP == "" && len(isps) > 0 {
		v.ISP = isps[rng.IntN(len(isps))].Name
	}
	for _, isp := range isps {
		if isp.Name == v.ISP {
			v.Client = address(isp, group, rng)
		}
	}
	return v
}

// isps are those that the experiment group may be with.
func (r *runner) isps() []topology.ISP {
	region, _ := r.Lab.Topology().Region(r.e.Traffic.Region)
	if r.e.Traffic.ISP == "" {
		return region.ISPs
	}
	return slices.DeleteFunc(slices.Clone(region.ISPs), func(i topology.ISP) bool { return i.Name != r.e.Traffic.ISP })
}

// networks are those of an ISP that clients have addresses of.
func networks(isp topology.ISP) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(isp.Prefixes), func(p netip.Prefix) bool { return !p.Addr().Is4() || p.Bits() > 24 })
}

// address picks a client's address of an ISP. The last bit tells the groups
// apart, so that one network list names all of a group.
func address(isp topology.ISP, group string, rng *rand.Rand) netip.Addr {
	of := networks(isp)
	if len(of) == 0 {
		return netip.Addr{}
	}
	half := halves(of[0])
	px := half[0]
	if group == treated {
		px = half[1]
	}
	b := px.Addr().As4()
	host := rng.Uint32N(1<<(32-px.Bits())-2) + 1
	for i := range 4 {
		b[i] |= byte(host >> (8 * (3 - i)))
	}
	return netip.AddrFrom4(b)
}

// halves of an IPv4 network: the control group lives in the lower, the
// experiment group in the upper.
func halves(p netip.Prefix) [2]netip.Prefix {
	low := p.Masked().Addr().As4()
	high := low
	high[p.Bits()/8] |= 1 << (7 - p.Bits()%8)
	return [2]netip.Prefix{netip.PrefixFrom(netip.AddrFrom4(low), p.Bits()+1), netip.PrefixFrom(netip.AddrFrom4(high), p.Bits()+1)}
}

// scoped limits a fault of calls to the experiment group's networks.
func (r *runner) scoped(f fault.Request) fault.Request {
	if r.e.Groups.By != "client" || f.Params["clients"] != "" {
		return f
	}
	var clients []string
	for _, isp := range r.isps() {
		for _, p := range networks(isp) {
			clients = append(clients, halves(p)[1].String())
		}
	}
	f.Params["clients"] = strings.Join(clients, "|")
	return f
}

// place fills in where the groups are, and says which places there are not, or
// that do not tell the groups apart.
func (r *runner) place() (out []refusal) {
	t := r.Lab.Topology()
	names := t.RegionNames()
	r.e.Traffic.Region = cmp.Or(r.e.Traffic.Region, names[0])
	r.e.Groups.Control = cmp.Or(r.e.Groups.Control, names[len(names)-1])
	bad := func(field string, err *services.Error, remedy string) {
		err.Remedy = remedy
		out = append(out, refusal{field, err})
	}
	for _, x := range []struct{ field, name string }{{"traffic.region", r.e.Traffic.Region}, {"groups.control", r.e.Groups.Control}} {
		if _, ok := t.Region(x.name); !ok {
			bad(x.field, services.Errorf(services.NotFound, "there is no region %q", x.name), "the lab's regions are "+services.List(names))
		}
	}
	if isp := r.e.Traffic.ISP; isp != "" {
		_, near, ok := t.ISP(isp)
		switch {
		case !ok:
			bad("traffic.isp", services.Errorf(services.NotFound, "there is no ISP %q", isp), "the lab's ISPs are "+services.List(ispNames(t)))
		case near.Name != r.e.Traffic.Region:
			bad("traffic.isp", services.Errorf(services.Invalid, "%s is near %s, the traffic near %s", isp, near.Name, r.e.Traffic.Region), "write traffic.region: "+near.Name)
		}
	}
	if r.e.Groups.By == "region" && r.e.Traffic.Region == r.e.Groups.Control {
		bad("groups.control", services.Errorf(services.Invalid, "both groups are near %s", r.e.Traffic.Region), "bring the lab up with a second region, or tell the groups apart by time")
	}
	if r.e.Groups.By == "client" {
		for _, isp := range r.isps() {
			if len(networks(isp)) == 0 {
				bad("groups.by", services.Errorf(services.Invalid, "%s has no IPv4 network whose halves could tell clients apart", isp.Name), "name another traffic.isp, or tell the groups apart by region or time")
			}
		}
	}
	return out
}

func ispNames(t topology.Topology) (names []string) {
	for _, r := range t.Regions {
		for _, isp := range r.ISPs {
			names = append(names, isp.Name)
		}
	}
	return names
}
