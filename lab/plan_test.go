package lab

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/flix-lab/flix/fixtures"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

func TestPlanUp(t *testing.T) {
	two := preset(t, 2)
	all := two.Instances()
	ports := 0
	for _, i := range all {
		ports += len(i.Ports)
	}
	live := []runtime.Instance{runs(all[0]), runs(topology.Instance{ID: "us-east/a/gateway/9"}), runs(topology.Instance{ID: "eu-west/a/kv/1"})}
	p, err := planUp("x", EmbeddedRuntime, two, all, live)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Add) != len(all)-1 || slices.Contains(p.Add, all[0].ID) || !slices.Equal(p.Remove, []string{"us-east/a/gateway/9", "eu-west/a/kv/1"}) {
		t.Errorf("%d to add, remove %v", len(p.Add), p.Remove)
	}
	b := p.Budget
	if b.Instances != len(all) || b.Ports != ports || b.Processes != 4 {
		t.Errorf("budget %+v, want %d instances, %d ports, 4 processes", b, len(all), ports)
	}
	media, err := fixtures.MediaBytes()
	if err != nil {
		t.Fatal(err)
	}
	if want := media * (2 + 12); b.DiskBytes != want { // an S3 and six appliances a region
		t.Errorf("disk %d, want %d", b.DiskBytes, want)
	}
	if b.FreeMemoryBytes <= 0 {
		t.Errorf("free memory %d", b.FreeMemoryBytes)
	}
	// Nothing changes: nothing to do, and empty lists instead of none.
	live = nil
	for _, i := range all {
		live = append(live, runs(i))
	}
	if p, err = planUp("x", EmbeddedRuntime, two, all, live); err != nil || p.Add == nil || p.Remove == nil || p.Renew == nil || len(p.Add)+len(p.Remove)+len(p.Renew) != 0 {
		t.Errorf("plan %+v, error %v", p, err)
	}
}

func runs(i topology.Instance) runtime.Instance {
	return runtime.Instance{Spec: runtime.Spec{Instance: i}, State: runtime.Running}
}

// running is a runtime in which instances run.
type running struct {
	runtime.Runtime
	live []runtime.Instance
}

func (r running) List(context.Context) ([]runtime.Instance, error) { return r.live, nil }

// A plan names the appliances that an up starts anew and the intervals that what
// runs keeps, and leaves alone what the lab was given since its first up.
func TestPlanOfOtherDeclaration(t *testing.T) {
	was := preset(t, 1)
	extra := topology.Instance{ID: "us-east/a/play/9", Region: "us-east", Zone: "a", Role: topology.RolePlay, Number: 9}
	l := testLab(t, testEnv(t), "x")
	l.intent = &intent{Name: "x", Topology: was, Extra: []topology.Instance{extra}}
	var live []runtime.Instance
	for _, i := range l.intent.instances() {
		live = append(live, runs(i))
	}
	l.rt = running{l.rt, live}
	now := preset(t, 1)
	now.Regions[0].Exchange.Appliances[1].Capacity = 1 << 30
	now.Timing.DNSTTL++
	p, err := l.Plan(t.Context(), control.UpRequest{Runtime: EmbeddedRuntime, Topology: now})
	if err != nil || len(p.Add)+len(p.Remove) != 0 || !slices.Equal(p.Renew, []string{"us-east/us-east-ix/oca/2"}) || !slices.Equal(p.TimingKept, []string{"timing.dns_ttl"}) {
		t.Errorf("to add %v, to remove %v, to renew %v, timing kept %v, error %v", p.Add, p.Remove, p.Renew, p.TimingKept, err)
	}
	l.rt = running{l.rt, nil} // stopped as a whole
	if p, err = l.Plan(t.Context(), control.UpRequest{Runtime: EmbeddedRuntime, Topology: now}); err != nil || len(p.Renew)+len(p.TimingKept) != 0 || len(p.Add) != len(live) {
		t.Errorf("of a stopped lab: %d to add, to renew %v, timing kept %v, error %v", len(p.Add), p.Renew, p.TimingKept, err)
	}
}

// TestBudgetGrows compares budgets: more regions, more instances and larger
// appliances never cost less, and a small appliance bounds its disk.
func TestBudgetGrows(t *testing.T) {
	budget := func(top topology.Topology) (memory, disk int64) {
		t.Helper()
		p, err := PlanUp("x", EmbeddedRuntime, top)
		if err != nil {
			t.Fatal(err)
		}
		return p.Budget.MemoryBytes, p.Budget.DiskBytes
	}
	m1, d1 := budget(preset(t, 1))
	m2, d2 := budget(preset(t, 2))
	if m2-m1 < memoryRegion || d2 != 2*d1 {
		t.Errorf("one region %d and %d bytes, two %d and %d", m1, d1, m2, d2)
	}
	more := preset(t, 1)
	more.Regions[0].Services = map[topology.Role]int{topology.RoleGateway: 12}
	if m, _ := budget(more); m-m1 != 10*memoryInstance {
		t.Errorf("ten gateways more cost %d bytes", m-m1)
	}
	small := preset(t, 1)
	small.Regions[0].Exchange.Appliances[0].Capacity = 1 << 20
	if _, d := budget(small); d >= d1 || d < d1-(12<<20) {
		t.Errorf("with a small appliance %d bytes of disk, without %d", d, d1)
	}
}

// What an up refuses its plan does, too, of a lab that is not there as well.
func TestPlanRefusesWhatAnUpDoes(t *testing.T) {
	e := testEnv(t)
	nodes := preset(t, 1)
	nodes.Regions[0].Services = map[topology.Role]int{topology.RoleKV: 2}
	bgp := preset(t, 1)
	bgp.BGP = true
	for what, r := range map[string]control.UpRequest{"kv": {Runtime: EmbeddedRuntime, Topology: nodes}, "bgp": {Runtime: ContainersRuntime, Topology: bgp}} {
		_, err := PreviewUp(t.Context(), e, testPaths(t, e, "x"), r.Runtime, r.Topology)
		if services.KindOf(err) != services.Invalid || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: error %v", what, err)
		}
	}
}

func TestPlanOfInvalidTopology(t *testing.T) {
	if _, err := PlanUp("x", EmbeddedRuntime, topology.Topology{}); services.KindOf(err) != services.Invalid {
		t.Errorf("error %v", err)
	}
}
