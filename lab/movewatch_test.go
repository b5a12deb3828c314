package lab

import (
	"testing"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/evacuate"
	"github.com/flix-lab/flix/lab/record"
)

// An evacuation that was undone has no RTO: 0 ms would be better than any.
func TestRecordOfMoveHasRTOOnceLeft(t *testing.T) {
	for _, c := range []struct {
		verb, state string
		want        bool
	}{
		{evacuate.Leave, evacuate.Done, true},
		{evacuate.Leave, evacuate.RolledBack, false},
		{evacuate.Return, evacuate.Done, false},
	} {
		var rec record.Record
		(&moveWatch{}).fill(&rec, control.Failover{Verb: c.verb, State: c.state}, felt{}, felt{}, nil)
		_, rto := rec.Figure("RTO")
		_, after := rec.Figure("requests in the region after")
		if _, plays := rec.Figure("new plays tried"); rto != c.want || after != c.want || !plays {
			t.Errorf("%s, %s: RTO %v, requests after %v, plays %v", c.verb, c.state, rto, after, plays)
		}
	}
}
