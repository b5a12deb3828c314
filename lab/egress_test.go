package lab

import (
	"slices"
	"testing"

	"github.com/flix-lab/flix/lab/control"
)

// The origin egress ratio stood at 2 and more after an up with fewer regions: the
// stores that stayed had served appliances that were gone.
func TestEgressCountsWhatStays(t *testing.T) {
	if got := goneRegions(preset(t, 3), preset(t, 1)); !slices.Equal(got, []string{"us-west", "eu-west"}) {
		t.Errorf("gone are %v", got)
	}
	if got := goneRegions(preset(t, 1), preset(t, 3)); len(got) != 0 {
		t.Errorf("gone are %v of a lab that grows", got)
	}
	all := []control.ApplianceFill{{Name: "a", CacheFillBytes: 5}, {Name: "b", CacheFillBytes: 7, PeerFillBytes: 100}, {Name: "c", CacheFillBytes: 11}}
	if got := takenByOthers(all, map[string]bool{"a": true}); got != 18 {
		t.Errorf("the others took %d bytes, want 18", got)
	}
	l := testLab(t, testEnv(t), "x")
	if n, err := l.egressToKeep(t.Context(), preset(t, 2)); n != 0 || err != nil {
		t.Errorf("before there is a lab: %d, %v", n, err)
	}
	if err := l.want(preset(t, 2), 0); err != nil {
		t.Fatal(err)
	}
	if n, err := l.egressToKeep(t.Context(), preset(t, 2)); n != 0 || err != nil {
		t.Errorf("with nothing gone: %d, %v", n, err)
	}
	for _, n := range []int64{-30, 10} {
		if err := l.want(preset(t, 1), n); err != nil {
			t.Fatal(err)
		}
	}
	if got := l.current().EgressOfOthers; got != -20 {
		t.Errorf("the intent keeps %d bytes, want -20", got)
	}
}
