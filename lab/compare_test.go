package lab

import (
	"strings"
	"testing"

	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/topology"
)

// An appliance takes its lines and its clients' prefixes when it starts: one that is
// declared with others is another.
func TestRedeclared(t *testing.T) {
	appliance := func(change func(*topology.Site, *topology.Appliance)) runtime.Spec {
		s := topology.Site{Name: "ix", Kind: topology.SiteExchange, Prefixes: []string{"10.0.0.0/8"}}
		a := topology.Appliance{Capacity: 1 << 30, Bandwidth: 1e9}
		change(&s, &a)
		return runtime.Spec{Instance: topology.Instance{ID: "us-east/ix/oca/1", Site: &s, Appliance: &a}}
	}
	same := func(*topology.Site, *topology.Appliance) {}
	was := appliance(same)
	for name, change := range map[string]func(*topology.Site, *topology.Appliance){
		"bandwidth": func(_ *topology.Site, a *topology.Appliance) { a.Bandwidth = 2e9 },
		"capacity":  func(_ *topology.Site, a *topology.Appliance) { a.Capacity = 1 << 31 },
		"prefixes":  func(s *topology.Site, _ *topology.Appliance) { s.Prefixes = s.Prefixes[:0] },
		"asn":       func(s *topology.Site, _ *topology.Appliance) { s.ASN = 7 },
	} {
		if !redeclared(was, appliance(change)) {
			t.Errorf("another %s is no other declaration", name)
		}
	}
	if redeclared(was, appliance(same)) {
		t.Error("the same is another declaration")
	}
	if redeclared(runtime.Spec{}, runtime.Spec{Instance: topology.Instance{Ports: []string{"rpc"}}}) {
		t.Error("a service is another for its ports")
	}
}

func TestTimingKept(t *testing.T) {
	now := topology.LabTiming()
	before := &intent{}
	before.Topology.Timing = now
	if got := timingKept("x", before, now); got != "" {
		t.Errorf("of the same intervals: %q", got)
	}
	if got := timingKept("x", nil, now); got != "" {
		t.Errorf("of a new lab: %q", got)
	}
	now.DNSTTL++
	now.LeaseRenewal++
	if got := timingKept("x", before, now); !strings.HasPrefix(got, "timing.dns_ttl, timing.lease_renewal changed") || !strings.Contains(got, "flix lab start --name x") {
		t.Errorf("of two others: %q", got)
	}
}
