package evacuate

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
)

// The runtime is asked once what runs, however many regions may save.
func TestPlanLooksOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 5)
		r, _ := run(p)
		if _, err := r.Failover(t.Context(), "us-east", true); err != nil {
			t.Fatal(err)
		}
		if p.inspections != 1 {
			t.Errorf("it looked %d times", p.inspections)
		}
	})
}

func TestDryRunTouchesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 3)
		r, _ := run(p)
		rep, err := r.Failover(t.Context(), "us-east", true)
		if err != nil || rep.State != "planned" || !rep.DryRun || len(rep.Savers) != 2 || !rep.Capacity.Fits {
			t.Errorf("report %+v, error %v", rep, err)
		}
		p.untouched(t)
		p.evacuated["us-east"] = true
		rep, err = r.Failback(t.Context(), "us-east", true)
		if err != nil || rep.State != "planned" || rep.Verb != "failback" {
			t.Errorf("report %+v, error %v", rep, err)
		}
		p.untouched(t)
	})
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		regions int
		region  string
		back    bool
		prepare func(*fakePlanet)
		kind    services.Kind
		text    string
	}{
		"unknown region":    {2, "mars", false, nil, services.NotFound, `there is no region "mars"`},
		"evacuated already": {3, "us-west", false, func(p *fakePlanet) { p.evacuated["us-west"] = true }, services.Conflict, "us-west is evacuated already"},
		"only region":       {1, "us-east", false, nil, services.Conflict, "us-east is the last healthy region: nobody could take its traffic; 1 of 1 region can serve viewers now, 1 − 1 = 0 afterwards"},
		"others evacuated":  {2, "us-east", false, func(p *fakePlanet) { p.evacuated["us-west"] = true }, services.Conflict, "last healthy region"},
		"others without gateways": {3, "us-east", false, func(p *fakePlanet) {
			for _, n := range []string{"us-west", "eu-west"} {
				p.unhealthy[n], p.edges[n] = "no gateway", Edge{}
			}
		}, services.Conflict, "last healthy region"},
		"others do not play": {3, "us-east", false, func(p *fakePlanet) {
			p.unhealthy["us-west"], p.unhealthy["eu-west"] = "no kv", "no play"
			p.playErr = func(string, float64) error { return errPlay }
		}, services.Unavailable, "no region can take its traffic"},
		"health out of reach":       {2, "us-east", false, func(p *fakePlanet) { p.fail["Lacks"] = services.Errorf(services.Unavailable, "no answer") }, services.Unavailable, "plan: no answer"},
		"edge out of reach":         {2, "us-east", false, func(p *fakePlanet) { p.fail["Edge us-east"] = services.Errorf(services.Unavailable, "no answer") }, services.Unavailable, "plan: no answer"},
		"back: unknown region":      {2, "mars", true, nil, services.NotFound, `there is no region "mars"`},
		"back: not evacuated":       {2, "us-east", true, nil, services.Conflict, "us-east is not evacuated"},
		"back: not fit for traffic": {2, "us-east", true, func(p *fakePlanet) { p.evacuated["us-east"], p.unhealthy["us-east"] = true, "no kv" }, services.Conflict, "us-east is not fit to take traffic: no kv"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlanet(t, c.regions)
				if c.prepare != nil {
					c.prepare(p)
				}
				r, _ := run(p)
				r.Begun = func(time.Time) error { t.Error("what was refused has begun"); return nil }
				do := r.Failover
				if c.back {
					do = r.Failback
				}
				rep, err := do(t.Context(), c.region, false)
				if services.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.text) {
					t.Errorf("error %v (%s), want %s: %s", err, services.KindOf(err), c.kind, c.text)
				}
				if err != nil && c.kind == services.Conflict && services.ProblemOf(err).Remedy == "" {
					t.Errorf("%v: nothing is said of what to do", err)
				}
				if rep.State != Refused || rep.Error == "" || rep.Region != c.region {
					t.Errorf("report %+v", rep)
				}
				p.untouched(t)
			})
		})
	}
}

// TestCapacity checks the arithmetic: a gateway's limit is requests in flight
// over seconds per answer, and the savers grow by the leaving region's own.
func TestCapacity(t *testing.T) {
	for name, c := range map[string]struct {
		edge                Edge // of each saver
		rate                float64
		fits                bool
		demand, used, limit float64
	}{
		// 64/2 in flight per gateway, 2+1 gateways, 10 ms each, two savers.
		"room": {Edge{Gateways: 2, Concurrency: 64, BusySeconds: 1, Answered: 100}, 100, true, 100, 200, 2 * 32 * 3 / 0.01},
		// 2 s an answer: 2 × 32 × 3 / 2 = 96 requests/s.
		"slow": {Edge{Gateways: 2, Concurrency: 64, BusySeconds: 200, Answered: 100}, 100, false, 100, 200, 96},
		// Nothing answered yet: 5 ms is taken.
		"young": {Edge{Gateways: 1, Concurrency: 10}, 100, true, 100, 200, 2 * 10 * 2 / 0.005},
		"idle":  {Edge{Gateways: 2, Concurrency: 64, BusySeconds: 200, Answered: 100}, 0, true, 0, 0, 96},
		"none":  {Edge{}, 100, false, 100, 200, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlanet(t, 3)
				for n := range p.edges {
					p.edges[n], p.rate[n] = c.edge, c.rate
				}
				r, _ := run(p)
				rep, err := r.Failover(t.Context(), "us-east", true)
				got := rep.Capacity
				near := func(a, b float64) bool { return math.Abs(a-b) < 0.001*max(1, b) }
				if got.Fits != c.fits || !near(got.Demand, c.demand) || !near(got.Used, c.used) || !near(got.Limit, c.limit) {
					t.Errorf("capacity %+v, want demand %g, used %g, limit %g, fits %v", got, c.demand, c.used, c.limit, c.fits)
				}
				if c.fits {
					if err != nil {
						t.Errorf("refused: %v", err)
					}
					return
				}
				var se *services.Error
				if !errors.As(err, &se) || se.Kind != services.Exhausted || se.Remedy == "" || rep.State != Refused {
					t.Errorf("error %v, state %s", err, rep.State)
				}
			})
		})
	}
}

// Requests come in lumps: a plan that is only looked at measures for longer than one
// that viewers wait for, and says what its figures are made of.
func TestDryRunMeasuresLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 3)
		p.measured(20, 0.1)
		r, _ := run(p)
		at := time.Now()
		rep, err := r.Failover(t.Context(), "us-east", true)
		if took := time.Since(at); err != nil || took < planLook || took > 2*planLook {
			t.Errorf("it took %s, error %v", took, err)
		}
		for _, s := range rep.Capacity.Services {
			if s.AtOnce != 20 || math.Abs(s.MeanMS-100) > 1 || math.Abs(s.Demand-100) > 1 || s.PerInstance != s.AtOnce/s.MeanMS*1000 {
				t.Errorf("%+v", s)
			}
		}
	})
}

// TestRatesAreOfTheTimeThatPassed has instances that take long to tell their counts.
func TestRatesAreOfTheTimeThatPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 3)
		p.measured(20, 0.1)
		p.slow = planLook / 2
		r, _ := run(p)
		rep, err := r.Failover(t.Context(), "us-east", true)
		if c := rep.Capacity; err != nil || math.Abs(c.Demand-100) > 1 || math.Abs(c.Used-200) > 1 {
			t.Errorf("demand %g, used %g, want 100 and 200, error %v", c.Demand, c.Used, err)
		}
		for _, s := range rep.Capacity.Services {
			if math.Abs(s.Demand-100) > 1 {
				t.Errorf("%s: demand %g, want 100", s.Role, s.Demand)
			}
		}
	})
}

// TestRestartedGatewayHasNoRate gives a counter that goes back.
func TestRestartedGatewayHasNoRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 2)
		p.began = time.Now().Add(-time.Minute)
		r, _ := run(p)
		go func() { // between the two readings
			_ = sleep(t.Context(), p.t.Timing.EvacuationStep.D()/2)
			p.mu.Lock()
			p.began = time.Now()
			p.mu.Unlock()
		}()
		rep, err := r.Failover(t.Context(), "us-east", true)
		if err != nil || rep.Capacity.Demand != 0 || rep.Capacity.Used != 0 {
			t.Errorf("capacity %+v, error %v", rep.Capacity, err)
		}
	})
}

func TestInterruptedWhilePlanning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 2)
		ctx, cancel := context.WithTimeout(t.Context(), p.t.Timing.EvacuationStep.D()/2)
		defer cancel()
		r, _ := run(p)
		rep, err := r.Failover(ctx, "us-east", false)
		if !errors.Is(err, context.DeadlineExceeded) || rep.State != Refused {
			t.Errorf("state %s, error %v", rep.State, err)
		}
		p.untouched(t)
	})
}

// TestSaverWithoutGateways keeps the names of what was added at their region.
func TestSaverWithoutGateways(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 3)
		p.edges["us-west"] = Edge{}
		r, _ := run(p)
		rep, err := r.Failover(t.Context(), "us-east", false)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(rep.Savers, func(s control.Saver) bool { return s.Region == "us-west" }) {
			t.Errorf("savers %+v", rep.Savers)
		}
		for _, s := range rep.Savers {
			for _, id := range s.Added {
				if !strings.HasPrefix(id, s.Region+"/") {
					t.Errorf("%s is told of %s", id, s.Region)
				}
			}
		}
	})
}

// TestSaverThatIsNotWhole may save when a title plays there all the same.
func TestSaverThatIsNotWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 3)
		p.unhealthy["us-west"] = "no recommend"
		r, x := run(p)
		rep, err := r.Failover(t.Context(), "us-east", false)
		if err != nil || rep.State != "done" || len(rep.Savers) != 2 {
			t.Errorf("report %+v, error %v", rep, err)
		}
		if x.kinds[0] != "failover.note" {
			t.Errorf("told %q, want a note on us-west first", x.kinds)
		}
	})
}

// TestUnfitSaverIsLeftOut tries a region out in vain; the other one saves, and
// the trial is no failed play of the evacuation.
func TestUnfitSaverIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 3)
		p.unhealthy["us-west"] = "no kv"
		p.playErr = func(near string, _ float64) error {
			if near == "us-west" {
				return errPlay
			}
			return nil
		}
		r, _ := run(p)
		rep, err := r.Failover(t.Context(), "us-east", false)
		if err != nil || rep.State != "done" || len(rep.Savers) != 1 || rep.Savers[0].Region != "eu-west" || rep.PlaysFailed != 0 {
			t.Errorf("state %s, savers %+v, %d failed, error %v", rep.State, rep.Savers, rep.PlaysFailed, err)
		}
	})
}
