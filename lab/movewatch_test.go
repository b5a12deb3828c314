package lab

import (
	"testing"
	"time"

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

// What a gateway or a play API that missed a look has ever counted did not come in
// the time until the next; what new ones counted did.
func TestRatesOfMoveKnowWhoAnswered(t *testing.T) {
	full := regionLoad{gateways: 2, apis: 2, requests: 10_000, answered: 10_000, failed: 500, busy: 100, starts: 2000}
	more := full
	more.requests, more.answered, more.failed, more.busy, more.starts = 10_040, 10_040, 502, 101, 2010
	half := regionLoad{gateways: 1, apis: 1, requests: 5000, answered: 5000, failed: 250, busy: 50, starts: 1000}
	grown := more
	grown.gateways, grown.apis = 3, 3
	for name, c := range map[string]struct {
		before, after                  regionLoad
		requests, mean, failed, starts float64
	}{
		"all answer":          {full, more, 20, 25, 2, 5},
		"one missed a look":   {half, full, 0, 0, 0, 0},
		"all missed a look":   {regionLoad{}, full, 0, 0, 0, 0},
		"one misses this one": {full, half, 0, 0, 0, 0},
		"one is new":          {full, grown, 20, 25, 2, 5},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Now()
			w := &moveWatch{regions: []string{"us-east"}, requests: map[string][]record.Point{}, lastAt: now.Add(-2 * time.Second),
				last: map[string]regionLoad{"us-east": c.before}, most: map[string]regionLoad{"us-east": full}}
			starts := w.rates(map[string]regionLoad{"us-east": c.after}, now, 2)
			if got := w.requests["us-east"][0].Value; got != c.requests {
				t.Errorf("%g requests per second, want %g", got, c.requests)
			}
			if w.latency[0].Value != c.mean || w.errors[0].Value != c.failed || starts != c.starts {
				t.Errorf("mean %g ms, %g failed, %g starts per second, want %g, %g and %g", w.latency[0].Value, w.errors[0].Value, starts, c.mean, c.failed, c.starts)
			}
		})
	}
}
