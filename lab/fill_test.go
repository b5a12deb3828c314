package lab

import (
	"testing"

	"github.com/flix-lab/flix/lab/control"
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
