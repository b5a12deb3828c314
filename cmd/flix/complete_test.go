package main

import (
	"slices"
	"testing"

	"github.com/flix-lab/flix/lab/control"
)

// The shell offers the regions that the command takes.
func TestRegionsThatMove(t *testing.T) {
	st := control.Status{Regions: []control.RegionStatus{{Name: "here", Share: 1}, {Name: "gone"}, {Name: "half", Share: 1}, {Name: "back", Share: 1}}}
	now := []control.Failover{{Region: "half", State: "cut short"}, {Region: "back", State: "done"}}
	if got := moves(st, now, false); !slices.Equal(got, []string{"here", "half", "back"}) {
		t.Errorf("failover is offered %v", got)
	}
	if got := moves(st, now, true); !slices.Equal(got, []string{"gone", "half"}) {
		t.Errorf("failback is offered %v", got)
	}
}
