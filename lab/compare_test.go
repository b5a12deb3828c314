package lab

import (
	"strings"
	"testing"
	"time"

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

func TestTimingChanged(t *testing.T) {
	was := topology.LabTiming()
	now := was
	if got := timingChanged(was, now); got != nil || TimingKept("x", got) != "" {
		t.Errorf("of the same intervals: %q", got)
	}
	now.DNSTTL++
	now.LeaseRenewal++
	text := TimingKept("x", timingChanged(was, now))
	if !strings.HasPrefix(text, "timing.dns_ttl, timing.lease_renewal changed") || !strings.Contains(text, "flix lab start --name x") {
		t.Errorf("of two others: %q", text)
	}
}

// What started before the intervals changed has the old ones until it starts
// anew, also after another change; what changed back is no difference.
func TestDiffTiming(t *testing.T) {
	at := func(minute int) time.Time { return time.Date(2026, 1, 1, 0, minute, 0, 0, time.UTC) }
	top := preset(t, 1)
	first := top.Timing
	i := &intent{Name: "x"}
	to := func(minute int, now topology.Timing) {
		i.retime(at(minute), now)
		i.Topology = top
		i.Topology.Timing = now
	}
	second := first
	second.DNSTTL++
	to(0, first)
	to(10, second)
	to(10, second) // no change
	live := []runtime.Instance{runs(top.Instances()[0]), runs(top.Instances()[1])}
	live[0].Started, live[1].Started = at(1), at(11)
	d := diffTiming(i, live)
	if len(d) != 1 || !strings.Contains(d[0].Text, "timing.dns_ttl as declared before in 1 instance") || !strings.Contains(d[0].Remedy, "flix lab stop --name x") {
		t.Errorf("after a change: %+v", d)
	}
	to(20, first)
	live[1].Started = at(21)
	if d := diffTiming(i, live); len(d) != 0 {
		t.Errorf("after it changed back: %+v", d)
	}
	live[1].Started = at(11)
	if d := diffTiming(i, live); len(d) != 1 {
		t.Errorf("of one that started in between: %+v", d)
	}
}
