package lab

import (
	"testing"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// A region that there is not is refused with those that there are, as a person
// lists them.
func TestNoRegionListsRegions(t *testing.T) {
	topo, err := topology.Preset(3)
	if err != nil {
		t.Fatal(err)
	}
	p := services.ProblemOf(noRegion("mars", topo))
	if want := "the lab's regions are us-east, us-west, eu-west"; p.Remedy != want || p.Kind != services.NotFound {
		t.Errorf("%+v, want %s", p, want)
	}
}
