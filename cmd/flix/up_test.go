package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// TestTooLittleMemory checks that a lab which the machine cannot hold is refused
// with what would fit: a smaller profile, which has fewer nodes, fewer regions,
// or the other runtime.
func TestTooLittleMemory(t *testing.T) {
	three, err := topology.Preset(3)
	if err != nil {
		t.Fatal(err)
	}
	profile := func(p topology.Profile) topology.Topology {
		out := three
		out.Containers.Profile, out.Containers.Pack = p, topology.PackZone
		return out
	}
	need := func(rt string, top topology.Topology) int64 {
		plan, err := lab.PlanUp("x", rt, lab.SizeStores(rt, top))
		if err != nil {
			t.Fatal(err)
		}
		return plan.Budget.MemoryBytes
	}
	const containers = lab.ContainersRuntime
	one := firstRegions(profile(topology.Small), 1)
	for name, c := range map[string]struct {
		rt     string
		top    topology.Topology
		free   int64
		remedy string // "" when there is room
	}{
		"room enough":                {containers, profile(topology.Large), need(containers, profile(topology.Large)), ""},
		"nobody knows":               {containers, profile(topology.Large), 0, ""},
		"standard fits":              {containers, profile(topology.Large), need(containers, profile(topology.Standard)), "--profile standard fits"},
		"small fits":                 {containers, profile(topology.Large), need(containers, profile(topology.Small)), "--profile small fits"},
		"one region fits":            {containers, profile(topology.Standard), need(containers, one), "--regions 1 --profile small fits"},
		"not even one region fits":   {containers, profile(topology.Small), 64 << 20, "--runtime embedded needs far less"},
		"fewer regions, embedded":    {lab.EmbeddedRuntime, three, need(lab.EmbeddedRuntime, one), "--regions 1 fits"},
		"nothing fits, embedded":     {lab.EmbeddedRuntime, three, 1 << 20, "not even one region fits"},
		"profiles are no embedded's": {lab.EmbeddedRuntime, profile(topology.Large), need(lab.EmbeddedRuntime, three), ""},
	} {
		err := enoughMemory("x", c.rt, c.top, c.free)
		if c.remedy == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		var e *services.Error
		if !errors.As(err, &e) || e.Kind != services.Exhausted || !strings.Contains(e.Remedy, c.remedy) {
			t.Errorf("%s: %v, want the remedy %q", name, err, c.remedy)
		}
	}
}

// What comes next is a move that can be made.
func TestNextMove(t *testing.T) {
	east, west, gone := control.RegionState{Name: "us-east", State: "ready"}, control.RegionState{Name: "us-west", State: "ready"}, control.RegionState{Name: "us-east", State: "evacuated"}
	for want, all := range map[string][]control.RegionState{"": {east}, "flix failover us-east": {east, west}, "flix failback us-east": {gone, west}} {
		if got := nextMove(all); got != want {
			t.Errorf("%+v: %q, want %q", all, got, want)
		}
	}
}
