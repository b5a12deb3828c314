package lab

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/cachecontrol"
)

func TestWhatAFillLacks(t *testing.T) {
	whole := control.ApplianceFill{Name: "r/s/oca/1", Held: 9, Assigned: 9}
	full := control.ApplianceFill{Name: "r/s/oca/2", Held: 4, Assigned: 9, Blocked: "it is not healthy: disk: no space left on device"}
	slow := control.ApplianceFill{Name: "r/s/oca/3", Held: 8, Assigned: 9}
	for _, c := range []struct {
		have []control.ApplianceFill
		says string
	}{
		{[]control.ApplianceFill{whole, full, slow}, "r/s/oca/2 lacks 5 of 9 files (it is not healthy: disk: no space left on device), r/s/oca/3 lacks 1 of 9 files"},
		{[]control.ApplianceFill{whole, slow}, "1 of 3 appliances have not reported, r/s/oca/3 lacks 1 of 9 files"},
		{[]control.ApplianceFill{slow, slow, slow, slow, slow}, "r/s/oca/3 lacks 1 of 9 files, r/s/oca/3 lacks 1 of 9 files, r/s/oca/3 lacks 1 of 9 files, and 2 more do"},
		{[]control.ApplianceFill{whole, whole, whole}, "no file is published yet"},
	} {
		if got := unfilled(control.FillStatus{Appliances: c.have}, 3); got != c.says {
			t.Errorf("%q, want %q", got, c.says)
		}
	}
}

// Who waits for a window does not come by waiting: the remedy is a run.
func TestFillsThatWaitForTheirWindow(t *testing.T) {
	whole := control.ApplianceFill{Held: 9, Assigned: 9, Blocked: "the fill window is closed, 11:10 there"}
	closed := control.ApplianceFill{Assigned: 9, Blocked: "the fill window is closed, 11:10 there"}
	paused := control.ApplianceFill{Assigned: 9, Blocked: "fills of r are paused"}
	idle := control.ApplianceFill{}
	for _, c := range []struct {
		have            []control.ApplianceFill
		lacking, behind int
	}{
		{[]control.ApplianceFill{whole, whole}, 0, 0},
		{[]control.ApplianceFill{whole, closed, closed}, 2, 2},
		{[]control.ApplianceFill{closed, paused, idle}, 3, 1},
	} {
		st := control.FillStatus{Appliances: c.have}
		if l, b := lacking(st), blockedBy(st, cachecontrol.WindowClosed); l != c.lacking || b != c.behind {
			t.Errorf("%v: %d lack something, %d wait for their window", c.have, l, b)
		}
		cause := unready("other", "us-west", services.Errorf(services.NotFound, "no appliance holds all of it").WithReason(services.ReasonNoReplica))
		var e *services.Error
		if err := fillingLater("other", st, cause); !errors.As(err, &e) || services.KindOf(err) != services.NotFound {
			t.Fatal(err)
		}
		if told := strings.Contains(e.Remedy, "flix fill run --now --name other, then run flix lab up --name other"); told != (c.behind > 0) {
			t.Errorf("%v: remedy %q", c.have, e.Remedy)
		}
	}
}

// Nor does it where no disk takes more.
func TestFillsOfFullDisks(t *testing.T) {
	full := control.ApplianceFill{Held: 4, Assigned: 9, Blocked: cachecontrol.DiskFull + ": it serves what it holds"}
	cause := services.Errorf(services.NotFound, "no appliance holds all of it").WithReason(services.ReasonNoReplica).WithRemedy("wait")
	var e *services.Error
	if err := fillingLater("default", control.FillStatus{Appliances: []control.ApplianceFill{full, full, {Assigned: 9}}}, cause); !errors.As(err, &e) || !strings.HasPrefix(e.Remedy, "the disks of 2 appliances are full: free space") {
		t.Errorf("remedy %q", e.Remedy)
	}
	if err := fillingLater("default", control.FillStatus{Appliances: []control.ApplianceFill{{Assigned: 9}}}, cause); err != error(cause) {
		t.Errorf("with one that fills: %v", err)
	}
}

// Nor does it where an operator has paused fills; and an error that is about
// something else stays as it is.
func TestFillsThatArePaused(t *testing.T) {
	st := control.FillStatus{Appliances: []control.ApplianceFill{{Assigned: 9, Blocked: "fills of us-east are paused"}}, Rules: []control.FillRule{{Kind: "pin", Scope: "x"}, {Kind: "pause", Scope: "us-east"}}}
	cause := services.Errorf(services.NotFound, "no appliance holds all of it").WithReason(services.ReasonNoReplica).WithRemedy("wait")
	var e *services.Error
	if err := fillingLater("default", st, cause); !errors.As(err, &e) || e.Remedy != "fills are paused: flix fill resume us-east, then wait" || err.Error() != cause.Error() || services.ReasonOf(err) != services.ReasonNoReplica {
		t.Errorf("%v, remedy %q", err, e.Remedy)
	}
	for _, other := range []error{services.Errorf(services.Denied, "no"), context.Canceled} {
		if err := fillingLater("default", st, other); err != other {
			t.Errorf("%v became %v", other, err)
		}
	}
}
