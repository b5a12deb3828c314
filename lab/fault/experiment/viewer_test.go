package experiment

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/flix-lab/flix/lab/fault"
)

// The networks that a fault is limited to hold all of the experiment group and none
// of the control group, for IPv6, too.
func TestNetworksTellTheGroupsApart(t *testing.T) {
	for _, prefixes := range [][]string{
		{"198.18.0.0/20"}, {"198.18.4.0/24"}, {"2001:db8::/48"}, {"2001:db8:0:8000::/49"}, {"2001:db8::100/120"}, {"2001:db8::/32", "198.18.0.0/20"},
	} {
		s := newStage(t)
		isps := s.t.Regions[0].ISPs
		for k := range isps {
			isps[k].Prefixes = nil
			for _, p := range prefixes {
				isps[k].Prefixes = append(isps[k].Prefixes, netip.MustParsePrefix(p))
			}
		}
		e := defaults()
		e.Groups.By, e.Traffic.Region, e.Traffic.ISP = "client", s.t.Regions[0].Name, isps[0].Name
		r := &runner{Config: Config{Lab: s}, e: e}
		if bad := r.place(); len(bad) > 0 {
			t.Errorf("%v: %v", prefixes, bad)
			continue
		}
		var clients []netip.Prefix
		f := r.scoped(fault.Request{Params: map[string]string{}})
		for _, n := range strings.Split(f.Params["clients"], "|") {
			clients = append(clients, netip.MustParsePrefix(n))
		}
		if len(clients) != len(prefixes) {
			t.Errorf("%v: a fault is limited to %v", prefixes, clients)
		}
		rng := rand.New(rand.NewPCG(1, 2))
		seen := map[netip.Addr]bool{}
		for range 200 {
			for _, group := range []string{control, treated} {
				a := address(isps[0], group, rng)
				seen[a] = true
				if within(a, isps[0].Prefixes) != 1 || within(a, clients) > 0 != (group == treated) {
					t.Fatalf("%v: %s has %v, the fault is for %v", prefixes, group, a, clients)
				}
			}
		}
		if len(seen) < 100 {
			t.Errorf("%v: %d addresses only", prefixes, len(seen))
		}
	}
}

func within(a netip.Addr, of []netip.Prefix) (n int) {
	for _, p := range of {
		if p.Contains(a) {
			n++
		}
	}
	return n
}
