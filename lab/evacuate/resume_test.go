package evacuate

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A move that was cut short is taken up by its own verb and undone by the other,
// wherever that was: also behind its last step, when the region counts as moved.
func TestCutShort(t *testing.T) {
	for name, c := range map[string]struct {
		cut, verb string
		evacuated bool
		last      string // the last call
	}{
		"failover goes on":               {Leave, Leave, false, `evacuated us-east "ev-1"`},
		"failover that had all but done": {Leave, Leave, true, `evacuated us-east "ev-1"`},
		"failover is undone":             {Leave, Return, false, `evacuated us-east ""`},
		"failover is undone at its end":  {Leave, Return, true, `evacuated us-east ""`},
		"failback goes on":               {Return, Return, true, `evacuated us-east ""`},
		"failback that had all but done": {Return, Return, false, `evacuated us-east ""`},
		"failback is undone":             {Return, Leave, true, `evacuated us-east "ev-1"`},
		"failback is undone at its end":  {Return, Leave, false, `evacuated us-east "ev-1"`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlanet(t, 3)
				if c.evacuated {
					p.evacuated["us-east"] = true
				}
				r, _ := run(p)
				r.CutShort, r.Since = c.cut, time.Now().Add(-time.Minute)
				rep, err := r.Do(t.Context(), c.verb, "us-east", false)
				if err != nil || rep.State != "done" || rep.PlaysFailed != 0 {
					t.Fatalf("report %+v, error %v", rep, err)
				}
				if !rep.Started.Equal(r.Since) {
					t.Errorf("it counts from %s, want %s", rep.Started, r.Since)
				}
				got := p.changes()
				if got[len(got)-1] != c.last {
					t.Errorf("the last call is %q, want %q", got[len(got)-1], c.last)
				}
				if c.verb == Return && slices.ContainsFunc(got, func(s string) bool {
					return strings.HasPrefix(s, "proxy us-east") && !strings.HasPrefix(s, "proxy us-east 0 ")
				}) {
					t.Errorf("a share that is not known goes up: %q", got)
				}
			})
		})
	}
}

// What an earlier attempt may have moved goes back with a rollback.
func TestRollbackOfWhatWasCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 3)
		p.primary = "us-west"
		p.fail["drain us-east true"] = errPlay
		r, _ := run(p)
		r.CutShort = Leave
		rep, err := r.Failover(t.Context(), "us-east", false)
		if err == nil || rep.State != "rolled_back" {
			t.Fatalf("state %s, error %v", rep.State, err)
		}
		if p.primary != "us-east" || !slices.Contains(p.changes(), "return us-east") {
			t.Errorf("the primary is in %s; calls %q", p.primary, p.changes())
		}
	})
}

// A move of the SQL primary was cut short between the fence and the promotion:
// whatever comes next, somebody takes writes again.
func TestMoveOfThePrimaryWasCutShort(t *testing.T) {
	for _, c := range []struct{ name, primary, verb, region, want string }{
		{"the region is evacuated again", "us-east", "failover", "us-east", "us-west"},
		{"it was on its way back from another", "eu-west", "failover", "us-east", "eu-west"},
		{"the region is given back", "eu-west", "failback", "us-east", "us-east"},
		{"another than the first is given back", "eu-west", "failback", "us-west", "eu-west"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlanet(t, 3)
				p.primary, p.fenced = c.primary, true
				r, _ := run(p)
				do := r.Failover
				if c.verb == "failback" {
					p.evacuated[c.region] = true
					do = r.Failback
				}
				if _, err := do(t.Context(), c.region, false); err != nil {
					t.Fatal(err)
				}
				if p.primary != c.want || p.fenced {
					t.Errorf("the primary is in %s, fenced %v; want it to take writes in %s", p.primary, p.fenced, c.want)
				}
			})
		})
	}
}
