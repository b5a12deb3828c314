package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/flix-lab/flix/lab/control"
)

// blockedFill is a lab whose only appliance lacks something.
type blockedFill struct{ why string }

func (blockedFill) FillRun(context.Context, control.FillRunRequest) (control.FillRunResult, error) {
	return control.FillRunResult{Appliances: 1}, nil
}

func (f blockedFill) FillStatus(context.Context) (control.FillStatus, error) {
	a := control.ApplianceFill{Name: "x/oca/1", Assigned: 2, Held: 1, Blocked: f.why}
	a.MissingBytes = 9
	return control.FillStatus{Appliances: []control.ApplianceFill{a}}, nil
}

// A run that brings nothing since fills are paused says so; a closed window is no
// reason, as what is urgent comes outside it.
func TestFillRunThatBringsNothing(t *testing.T) {
	for why, told := range map[string]bool{"fills of us-east are paused": true, "its disk is full": true, "the fill window is closed, 04:00 there": false, "": false} {
		var out bytes.Buffer
		a := &app{env: Env{Out: &out, Err: &out, Getenv: func(string) string { return "" }}}
		o := &fillRunOptions{req: control.FillRunRequest{Title: "tt"}}
		if err := o.run(t.Context(), a, blockedFill{why}); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(out.String(), "nothing comes as things are: x/oca/1: "+why+";"); got != told || !strings.Contains(out.String(), "1 appliances") {
			t.Errorf("%q: it says %q", why, out.String())
		}
	}
}
