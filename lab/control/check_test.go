package control

import (
	"testing"

	"github.com/flix-lab/flix/services"
)

// TestCheckReportsBesideAnError has the report of a check that found a loss, and
// its reason, on the client's side.
func TestCheckReportsBesideAnError(t *testing.T) {
	c, _ := serve(t, &fakeEngine{}, nil)
	var steps []string
	rep, err := c.Check(t.Context(), CheckRequest{Region: "us-east"}, func(e Event) { steps = append(steps, e.Text) })
	if services.ReasonOf(err) != services.ReasonDataLost {
		t.Errorf("error %v", err)
	}
	if rep.Region != "us-east" || len(rep.Kinds) != 1 || rep.Kinds[0].Lost != 1 || len(steps) != 1 {
		t.Errorf("report %+v, steps %q", rep, steps)
	}
}
