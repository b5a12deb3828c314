package cachecontrol

import (
	"fmt"
	"testing"

	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
)

// A title that an appliance sheds is not shown as stored there, as long as
// somebody else shows it.
func TestShedTitlesAreHiddenWhileOthersServeThem(t *testing.T) {
	p := newPlanet(t)
	c := p.start("us-east")
	a, b := asset("tt-a", 1, 1, origins, 10), asset("tt-b", 1, 1, origins, 10)
	p.publish(c, a)
	p.publish(c, b)
	one, two := p.connect(c, east1, 0), p.connect(c, east2, 0)
	w := p.watch(c)
	one.held(heldFileOf(a, 0), heldFileOf(b, 0))
	two.held(heldFileOf(a, 0))
	shows := func(f *fakeAppliance, titles int, files uint32) {
		t.Helper()
		w.until(t, func() string {
			if s := w.states[f.id]; s == nil || len(s.Titles) != titles || s.HeldFiles != files {
				return fmt.Sprintf("%s shows %v, want %d titles", f.id, s, titles)
			}
			return ""
		})
	}
	shed := func(f *fakeAppliance, healthy bool, titles ...string) {
		f.send(&pb.ApplianceMessage{Body: &pb.ApplianceMessage_Report{Report: &pb.Report{Healthy: healthy, Shed: titles}}})
	}
	shows(one, 2, 2)
	shows(two, 1, 1)
	shed(one, true, "tt-a", "tt-b") // nobody else has tt-b
	shows(one, 1, 2)
	shed(two, true, "tt-a") // and now nobody else shows tt-a
	shed(two, true, "tt-a")
	shows(two, 1, 1)
	shed(one, true)
	shows(one, 2, 2)
	shed(two, true, "tt-a")
	shows(two, 0, 1)
	shed(two, true)
	shows(two, 1, 1)
	shed(two, false)
	w.until(t, func() string {
		if w.states[east2].Report.Healthy {
			return "still healthy"
		}
		return ""
	})
	shed(one, true, "tt-a") // the other one that has it is not well
	w.until(t, func() string {
		if s := w.states[east1]; len(s.Report.Shed) != 1 || len(s.Titles) != 2 {
			return fmt.Sprint(s)
		}
		return ""
	})
}
