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

// networks are those of an ISP that clients have addresses of, IPv4 first: as many
// plays have addresses of their own in a half of each.
func networks(isp topology.ISP) (out []netip.Prefix) {
	for _, v4 := range []bool{true, false} {
		for _, p := range isp.Prefixes {
			if a := p.Addr(); a.Is4() == v4 && a.BitLen()-p.Bits() >= 8 {
				out = append(out, p)
			}
		}
	}
	return out
}

// address picks a client's address of an ISP. The first bit after its network's
// tells the groups apart, so that one network list names all of a group.
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
	b := px.Addr().AsSlice()
	bits := min(px.Addr().BitLen()-px.Bits(), 32)
	host := rng.Uint64N(1<<bits-2) + 1
	for i := range 4 {
		b[len(b)-1-i] |= byte(host >> (8 * i))
	}
	a, _ := netip.AddrFromSlice(b) // it has an address's length
	return a
}

// halves of a network: the control group lives in the lower, the experiment group
// in the upper.
func halves(p netip.Prefix) [2]netip.Prefix {
	low := p.Masked().Addr()
	b := low.AsSlice()
	b[p.Bits()/8] |= 1 << (7 - p.Bits()%8)
	high, _ := netip.AddrFromSlice(b) // it has an address's length
	return [2]netip.Prefix{netip.PrefixFrom(low, p.Bits()+1), netip.PrefixFrom(high, p.Bits()+1)}
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
				bad("groups.by", services.Errorf(services.Invalid, "%s has no network of 256 addresses or more whose halves could tell clients apart", isp.Name), "name another traffic.isp, or tell the groups apart by region or time")
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
