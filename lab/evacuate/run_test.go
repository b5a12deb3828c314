package evacuate

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flix-lab/flix/topology"
)

// scaling is what each of two savers gets for a region of defaults.
func scaling(savers ...string) []string {
	var out []string
	for _, s := range savers {
		for _, role := range scaled {
			out = append(out, fmt.Sprintf("scale %s %s 1", s, role))
		}
	}
	return append(out, "light")
}

// back are the calls that move everything back.
var back = []string{"drain us-east false", "weight us-east 1", "leaving us-east false", "proxy us-east 0 []", `evacuated us-east ""`}

func TestFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 3)
		r, x := run(p)
		rep, err := r.Failover(t.Context(), "us-east", false)
		if err != nil {
			t.Fatal(err)
		}
		want := append(append([]string{"leaving us-east true", "drain us-east true"}, scaling("us-west", "eu-west")...),
			"proxy us-east 0.1 [us-west eu-west]", "proxy us-east 0.5 [us-west eu-west]", "proxy us-east 1 [us-west eu-west]",
			"weight us-east 0", "primary us-west", "leaving us-east false", "adopt us-east [us-west eu-west]", `evacuated us-east "ev-1"`)
		if got := p.changes(); !slices.Equal(got, want) {
			t.Errorf("calls\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if rep.State != "done" || rep.Verb != "failover" || rep.Region != "us-east" || rep.ID != "ev-1" || rep.Error != "" {
			t.Errorf("report %+v", rep)
		}
		if got := stepNames(rep); got != "plan scale caches flip check proxy dns sql drain offsets verify" {
			t.Errorf("steps %q", got)
		}
		if got := fmt.Sprint(rep.Shares); got != "[10% 50% 100%]" {
			t.Errorf("shares %s", got)
		}
		if rep.PlaysFailed != 0 || rep.PlaysDuring < 8 {
			t.Errorf("%d of %d plays failed", rep.PlaysFailed, rep.PlaysDuring)
		}
		for k, s := range []string{"us-west", "eu-west"} {
			if got := rep.Savers[k]; got.Region != s || got.Share != 0.5 || len(got.Added) != 4 || !strings.HasPrefix(got.Added[0], s+"/") {
				t.Errorf("saver %+v, want %s with half and four instances of its own", got, s)
			}
		}
		if x.kinds[0] != "failover.step plan" || x.kinds[len(x.kinds)-1] != "failover.step verify" {
			t.Errorf("told %q", x.kinds)
		}
		if !p.evacuated["us-east"] || p.primary != "us-west" {
			t.Errorf("evacuated %v, primary in %s", p.evacuated, p.primary)
		}
	})
}

// TestDNSLeavesWithTheLastShare: what is watched after DNS has moved is watched
// while its answers run out, and does not come on top. Those that are kept for as long
// as ever were given before the run said that the region is left.
func TestDNSLeavesWithTheLastShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 3)
		p.t.Timing.DNSTTL = topology.Duration(20 * time.Second)
		var left, last, weight, drained time.Time
		p.hook = func(call string) {
			switch {
			case call == "leaving us-east true":
				left = time.Now()
			case strings.HasPrefix(call, "proxy us-east 1 "):
				last = time.Now()
			case call == "weight us-east 0":
				weight = time.Now()
			case strings.HasPrefix(call, "adopt"):
				drained = time.Now()
			}
		}
		r, _ := run(p)
		if _, err := r.Failover(t.Context(), "us-east", false); err != nil {
			t.Fatal(err)
		}
		if !weight.Equal(last) {
			t.Errorf("DNS moved %s after the last share was given", weight.Sub(last))
		}
		if got, want := drained.Sub(left), p.t.Timing.DNSTTL.D(); got != want {
			t.Errorf("it waited %s for DNS answers that last %s", got, want)
		}
		if short := p.t.Timing.LeavingTTL(); drained.Sub(weight) < short || short != 5*time.Second {
			t.Errorf("it waited %s for answers that last %s after DNS moved", drained.Sub(weight), short)
		}
	})
}

// TestPrimaryElsewhereStays leaves SQL alone when the primary is not there.
func TestPrimaryElsewhereStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 3)
		p.primary = "eu-west"
		r, _ := run(p)
		if _, err := r.Failover(t.Context(), "us-east", false); err != nil {
			t.Fatal(err)
		}
		if p.primary != "eu-west" || len(after(p.changes(), "primary")) != 0 {
			t.Errorf("the primary moved to %s", p.primary)
		}
	})
}

// TestRTO checks rto_ms: from the start to the last client request that the
// region answered, however long it is watched afterwards.
func TestRTO(t *testing.T) {
	for name, last := range map[string]time.Duration{"a while after dns": 3500 * time.Millisecond, "before it began": -time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlanet(t, 3)
				p.until = time.Now().Add(last)
				p.began = time.Now().Add(-time.Minute)
				r, _ := run(p)
				rep, err := r.Failover(t.Context(), "us-east", false)
				if err != nil {
					t.Fatal(err)
				}
				want := max(0, float64(last.Milliseconds()))
				if math.Abs(rep.RTOMS-want) > 0.001 || rep.RequestsInRegionAfter != 0 {
					t.Errorf("RTO %g ms, %d requests after; want %g, 0", rep.RTOMS, rep.RequestsInRegionAfter, want)
				}
			})
		})
	}
}

// TestStragglers has clients that never leave: verify gives up on them after a
// bound, and counts what they still ask.
func TestStragglers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 3)
		began := time.Now()
		r, _ := run(p)
		rep, err := r.Failover(t.Context(), "us-east", false)
		if err != nil {
			t.Fatal(err)
		}
		// 100 a second for half the quiet time.
		if want := uint64(50); rep.RequestsInRegionAfter < want-1 || rep.RequestsInRegionAfter > want+1 {
			t.Errorf("%d requests afterwards, want about %d", rep.RequestsInRegionAfter, want)
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("it waited %s for clients that stay", took)
		}
	})
}

// TestBegun is called once, when the plan stands and before anything is moved;
// what it fails does not begin.
func TestBegun(t *testing.T) {
	for _, back := range []bool{false, true} {
		for _, fails := range []error{nil, errors.New("disk full")} {
			synctest.Test(t, func(t *testing.T) {
				p := newPlanet(t, 2)
				r, _ := run(p)
				do := r.Failover
				if back {
					p.evacuated["us-east"], do = true, r.Failback
				}
				n := 0
				r.Begun = func(time.Time) error {
					n++
					p.untouched(t)
					return fails
				}
				rep, err := do(t.Context(), "us-east", false)
				if n != 1 {
					t.Errorf("called %d times", n)
				}
				if fails == nil {
					if err != nil || rep.State != "done" {
						t.Errorf("state %s, error %v", rep.State, err)
					}
					return
				}
				if !errors.Is(err, fails) || rep.State != Refused {
					t.Errorf("state %s, error %v", rep.State, err)
				}
				p.untouched(t)
			})
		}
	}
}
