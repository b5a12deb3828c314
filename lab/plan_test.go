package lab

import (
	"slices"
	"testing"

	"github.com/flix-lab/flix/fixtures"
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
	running := []string{all[0].ID, "us-east/a/gateway/9", "eu-west/a/kv/1"}
	p, err := PlanUp("x", EmbeddedRuntime, two, running)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Add) != len(all)-1 || slices.Contains(p.Add, all[0].ID) || !slices.Equal(p.Remove, running[1:]) {
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
	ids := make([]string, len(all))
	for k, i := range all {
		ids[k] = i.ID
	}
	if p, err = PlanUp("x", EmbeddedRuntime, two, ids); err != nil || p.Add == nil || p.Remove == nil || len(p.Add)+len(p.Remove) != 0 {
		t.Errorf("plan %+v, error %v", p, err)
	}
}

// TestBudgetGrows compares budgets: more regions, more instances and larger
// appliances never cost less, and a small appliance bounds its disk.
func TestBudgetGrows(t *testing.T) {
	budget := func(top topology.Topology) (memory, disk int64) {
		t.Helper()
		p, err := PlanUp("x", EmbeddedRuntime, top, nil)
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

func TestPlanOfInvalidTopology(t *testing.T) {
	if _, err := PlanUp("x", EmbeddedRuntime, topology.Topology{}, nil); services.KindOf(err) != services.Invalid {
		t.Errorf("error %v", err)
	}
}
