package lab

import (
	"testing"

	"github.com/flix-lab/flix/topology"
)

// A unit that has ended is told no topology any more, and its host keeps nothing
// of it: an instance that is restarted often would fill the memory.
func TestEndedUnitIsForgotten(t *testing.T) {
	w, world := edgeWorld(t)
	told := map[string]int{}
	units := map[string]*unit{}
	for _, id := range []string{"first", "second"} { // of one instance, one after the other
		u := edgeOf(w, world, "us-east/a/gateway/1")
		u.onTopology(func(topology.Topology) { told[id]++ })
		units[id] = u
	}
	if err := units["first"].close(); err != nil {
		t.Fatal(err)
	}
	if err := w.SetWorld(world.World); err != nil {
		t.Fatal(err)
	}
	if told["first"] != 0 || told["second"] != 1 {
		t.Errorf("told %v, want the second alone, once", told)
	}
	if err := units["second"].close(); err != nil {
		t.Fatal(err)
	}
	if len(w.setters) != 0 {
		t.Errorf("%d units are kept", len(w.setters))
	}
}
