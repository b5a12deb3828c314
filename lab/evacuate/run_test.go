package evacuate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
)

// scaling is what each of two savers gets for a region of defaults.
func scaling(savers ...string) []string {
	var out []string
	for _, s := range savers {
		for _, role := range scaled {
			out = append(out, fmt.Sprintf("scale %s %s 1", s, role))
		}
	}
	return out
}

// back are the calls that move everything back.
var back = []string{"drain us-east false", "weight us-east 1", "proxy us-east 0 []", `evacuated us-east ""`}

func TestFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 3)
		r, x := run(p)
		rep, err := r.Failover(t.Context(), "us-east", false)
		if err != nil {
			t.Fatal(err)
		}
		want := append(scaling("us-west", "eu-west"),
			"proxy us-east 0.1 [us-west eu-west]", "proxy us-east 0.5 [us-west eu-west]", "proxy us-east 1 [us-west eu-west]",
			"primary us-west", "weight us-east 0", "drain us-east true", "adopt us-east [us-west eu-west]", `evacuated us-east "ev-1"`)
		if got := p.changes(); !slices.Equal(got, want) {
			t.Errorf("calls\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if rep.State != "done" || rep.Verb != "failover" || rep.Region != "us-east" || rep.ID != "ev-1" || rep.Error != "" {
			t.Errorf("report %+v", rep)
		}
		if got := stepNames(rep); got != "plan scale caches check proxy sql dns drain offsets verify" {
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
		"only region":       {1, "us-east", false, nil, services.Conflict, "us-east is the last healthy region"},
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
		"health out of reach":       {2, "us-east", false, func(p *fakePlanet) { p.fail["Healthy us-west"] = services.Errorf(services.Unavailable, "no answer") }, services.Unavailable, "plan: no answer"},
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
				r.Begun = func() error { t.Error("what was refused has begun"); return nil }
				do := r.Failover
				if c.back {
					do = r.Failback
				}
				rep, err := do(t.Context(), c.region, false)
				if services.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.text) {
					t.Errorf("error %v (%s), want %s: %s", err, services.KindOf(err), c.kind, c.text)
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

// TestCanaryFailsAtEachShare moves everything back, in order, from wherever it
// failed.
func TestCanaryFailsAtEachShare(t *testing.T) {
	for k, share := range shares {
		t.Run(fmt.Sprint(share), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlanet(t, 3)
				p.playErr = func(_ string, at float64) error {
					if at >= share {
						return errPlay
					}
					return nil
				}
				r, x := run(p)
				rep, err := r.Failover(t.Context(), "us-east", false)
				var se *services.Error
				if !errors.As(err, &se) || se.Kind != services.Unavailable || se.Reason != services.ReasonPlayFailed || !errors.Is(err, errPlay) {
					t.Fatalf("error %#v", err)
				}
				if want := fmt.Sprintf("%.0f%% of the requests at the savers", share*100); !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
				if rep.State != "rolled_back" || rep.PlaysFailed == 0 || rep.PlaysDuring <= rep.PlaysFailed || rep.Error != err.Error() {
					t.Errorf("report %+v", rep)
				}
				if len(rep.Shares) != k+1 {
					t.Errorf("shares %v, want %d", rep.Shares, k+1)
				}
				calls := p.changes()
				if got, want := after(calls, "drain"), append(slices.Clone(back), "unscale"); !slices.Equal(got, want) {
					t.Errorf("the way back\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
				if p.share != 0 || p.weight != 1 || len(p.evacuated) != 0 || p.primary != "us-east" {
					t.Errorf("it ends at share %g, weight %g, evacuated %v, primary in %s", p.share, p.weight, p.evacuated, p.primary)
				}
				if !slices.Contains(x.kinds, "failover.play_failed") || x.kinds[len(x.kinds)-1] != "failover.rollback" {
					t.Errorf("told %q", x.kinds)
				}
			})
		})
	}
}

// TestCanaryFailureBetweenShares fails one play while the gateways are being
// told of the next share: nobody watches just then, and it still counts.
func TestCanaryFailureBetweenShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 3)
		switching := false
		p.hook = func(call string) {
			if strings.HasPrefix(call, "proxy us-east 0.5") {
				p.mu.Lock()
				switching = true
				p.mu.Unlock()
				_ = sleep(t.Context(), time.Second) // slow gateways
				p.mu.Lock()
				switching = false
				p.mu.Unlock()
			}
		}
		p.playErr = func(string, float64) error {
			p.mu.Lock()
			defer p.mu.Unlock()
			if switching {
				return errPlay
			}
			return nil
		}
		r, _ := run(p)
		rep, err := r.Failover(t.Context(), "us-east", false)
		if services.ReasonOf(err) != services.ReasonPlayFailed || rep.State != "rolled_back" {
			t.Errorf("state %s, error %v", rep.State, err)
		}
		for _, c := range p.changes() {
			if strings.HasPrefix(c, "proxy us-east 1") || strings.HasPrefix(c, "weight us-east 0") {
				t.Errorf("it went on: %s", c)
			}
		}
	})
}

// TestCanaryFailsLate fails a play in each step after the last share: the
// traffic moves back from there, too.
func TestCanaryFailsLate(t *testing.T) {
	for _, from := range []string{"primary us-west", "weight us-east 0", "drain us-east true"} {
		t.Run(from, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlanet(t, 3)
				p.playErr = func(string, float64) error {
					if calls := p.changes(); len(after(calls, from)) > 0 && len(after(calls, "weight us-east 1")) == 0 {
						return errPlay
					}
					return nil
				}
				if from == "primary us-west" { // the step itself takes no time
					p.hook = func(call string) {
						if call == "weight us-east 0" {
							_ = sleep(t.Context(), time.Second)
						}
					}
				}
				r, _ := run(p)
				rep, err := r.Failover(t.Context(), "us-east", false)
				if services.ReasonOf(err) != services.ReasonPlayFailed || rep.State != "rolled_back" || rep.PlaysFailed == 0 {
					t.Errorf("state %s, %d failed, error %v", rep.State, rep.PlaysFailed, err)
				}
				if p.share != 0 || p.weight != 1 || p.primary != "us-east" || p.evacuated["us-east"] {
					t.Errorf("it ends at share %g, weight %g, primary in %s, evacuated %v", p.share, p.weight, p.primary, p.evacuated)
				}
			})
		})
	}
}

// TestSaverThatCannotPlay is found before any traffic has moved.
func TestSaverThatCannotPlay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 3)
		p.playErr = func(near string, _ float64) error {
			if near == "eu-west" {
				return errPlay
			}
			return nil
		}
		r, _ := run(p)
		rep, err := r.Failover(t.Context(), "us-east", false)
		if services.ReasonOf(err) != services.ReasonPlayFailed || !strings.Contains(err.Error(), "a play near eu-west fails") || rep.State != "rolled_back" {
			t.Errorf("state %s, error %v", rep.State, err)
		}
		for _, c := range p.changes() {
			if strings.HasPrefix(c, "proxy us-east 0.") || strings.HasPrefix(c, "weight us-east 0") {
				t.Errorf("traffic moved: %s", c)
			}
		}
	})
}

// TestCallFails breaks each change in turn: everything is moved back, and what
// else fails on the way back is told as well.
func TestCallFails(t *testing.T) {
	broken := services.Errorf(services.Unavailable, "no answer")
	for _, call := range []string{"scale eu-west gateway", "proxy us-east 0.5", "primary us-west", "weight us-east 0", "drain us-east true", `evacuated us-east "ev-1"`} {
		t.Run(call, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlanet(t, 3)
				p.fail[call] = broken
				r, _ := run(p)
				rep, err := r.Failover(t.Context(), "us-east", false)
				if !errors.Is(err, broken) || rep.State != "rolled_back" {
					t.Errorf("state %s, error %v", rep.State, err)
				}
				calls := p.changes()
				for _, want := range append(slices.Clone(back), "unscale") {
					if !slices.Contains(after(calls, call), want) {
						t.Errorf("%q is missing on the way back: %q", want, after(calls, call))
					}
				}
				if p.share != 0 || p.weight != 1 || len(p.evacuated) != 0 || p.primary != "us-east" {
					t.Errorf("it ends at share %g, weight %g, evacuated %v, primary in %s", p.share, p.weight, p.evacuated, p.primary)
				}
			})
		})
	}
}

func TestRollbackFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 3)
		first, second := errors.New("proxy is stuck"), errors.New("dns is stuck")
		p.fail["proxy us-east 1"], p.fail["weight us-east 1"] = first, second
		r, _ := run(p)
		rep, err := r.Failover(t.Context(), "us-east", false)
		if rep.State != "failed" || !errors.Is(err, first) || !errors.Is(err, second) {
			t.Errorf("state %s, error %v", rep.State, err)
		}
		if p.share != 0 || !slices.Contains(p.changes(), "unscale") {
			t.Error("one failure kept the rest of the way back from being gone")
		}
	})
}

// TestRollbackMovesPrimaryBack cancels in verify, when everything has moved.
func TestRollbackMovesPrimaryBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 3)
		ctx, cancel := context.WithCancel(t.Context())
		p.hook = func(call string) {
			if call == "drain us-east true" {
				cancel()
			}
		}
		r, _ := run(p)
		rep, err := r.Failover(ctx, "us-east", false)
		if !errors.Is(err, context.Canceled) || rep.State != "rolled_back" {
			t.Errorf("state %s, error %v", rep.State, err)
		}
		if p.primary != "us-east" {
			t.Errorf("the SQL primary stays in %s", p.primary)
		}
	})
}

func TestRollbackKeepsCapacityOfAnotherEvacuation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 3)
		p.evacuated["us-west"] = true
		p.playErr = func(_ string, share float64) error {
			if share > 0 {
				return errPlay
			}
			return nil
		}
		r, _ := run(p)
		rep, err := r.Failover(t.Context(), "us-east", false)
		if err == nil || rep.State != "rolled_back" || len(rep.Savers) != 1 || rep.Savers[0].Share != 1 {
			t.Errorf("report %+v, error %v", rep, err)
		}
		if slices.Contains(p.changes(), "unscale") {
			t.Error("it took what the other evacuation lives on")
		}
	})
}

// TestInterrupted ends the run's context at every call: what had been moved is
// moved back, and no play is called a failure for it.
func TestInterrupted(t *testing.T) {
	for _, at := range []string{"scale us-west", "proxy us-east 0.1", "proxy us-east 1", "weight us-east 0"} {
		t.Run(at, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlanet(t, 3)
				ctx, cancel := context.WithCancel(t.Context())
				p.hook = func(call string) {
					if strings.HasPrefix(call, at) {
						cancel()
					}
				}
				r, _ := run(p)
				rep, err := r.Failover(ctx, "us-east", false)
				if !errors.Is(err, context.Canceled) || rep.State != "rolled_back" || rep.PlaysFailed != 0 {
					t.Errorf("state %s, %d failed, error %v", rep.State, rep.PlaysFailed, err)
				}
				if p.share != 0 || p.weight != 1 || len(p.evacuated) != 0 || p.primary != "us-east" {
					t.Errorf("it ends at share %g, weight %g, evacuated %v, primary in %s", p.share, p.weight, p.evacuated, p.primary)
				}
			})
		})
	}
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

func TestFailback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 3)
		p.evacuated["us-east"], p.primary, p.share, p.weight = true, "us-west", 1, 0
		r, _ := run(p)
		rep, err := r.Failback(t.Context(), "us-east", false)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"catch up us-east from us-west", "return us-east", "drain us-east false", "weight us-east 1", "primary us-east",
			"proxy us-east 0.5 [us-west eu-west]", "proxy us-east 0.1 [us-west eu-west]", "proxy us-east 0 [us-west eu-west]",
			"unscale", `evacuated us-east ""`}
		if got := p.changes(); !slices.Equal(got, want) {
			t.Errorf("calls\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if rep.State != "done" || rep.Verb != "failback" || stepNames(rep) != "plan catch-up caches offsets undrain dns sql unproxy scale-in" || rep.PlaysDuring == 0 || rep.PlaysFailed != 0 {
			t.Errorf("report %+v", rep)
		}
	})
}

// TestFailbackOfOneOfTwo keeps what the region that stays evacuated needs, and
// leaves the SQL primary where it is.
func TestFailbackOfOneOfTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 3)
		p.evacuated["us-west"], p.evacuated["us-east"], p.primary = true, true, "eu-west"
		r, _ := run(p)
		if _, err := r.Failback(t.Context(), "us-west", false); err != nil {
			t.Fatal(err)
		}
		calls := p.changes()
		if slices.Contains(calls, "unscale") || len(after(calls, "primary")) != 0 {
			t.Errorf("calls %q", calls)
		}
		if !slices.Contains(calls, "proxy us-west 0.5 [eu-west]") {
			t.Errorf("an evacuated region was named a saver: %q", calls)
		}
		if p.evacuated["us-west"] || !p.evacuated["us-east"] {
			t.Errorf("evacuated %v", p.evacuated)
		}
	})
}

func TestFailbackFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 2)
		p.evacuated["us-east"] = true
		p.playErr = func(string, float64) error { return errPlay }
		r, _ := run(p)
		rep, err := r.Failback(t.Context(), "us-east", false)
		if services.ReasonOf(err) != services.ReasonPlayFailed || rep.State != "failed" || rep.PlaysFailed == 0 {
			t.Errorf("state %s, error %v", rep.State, err)
		}
		// It stays marked, so that the same command goes on.
		if !p.evacuated["us-east"] {
			t.Error("it is not called evacuated any more")
		}
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
				r.Begun = func() error {
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

// TestLastCanaryFails fails the play that is under way when everything has
// moved: it must not pass for a success.
func TestLastCanaryFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 3)
		late, failed := make(chan struct{}), make(chan struct{})
		p.hook = func(call string) {
			if call == `evacuated us-east "ev-1"` {
				close(late)
				<-failed
			}
		}
		var once sync.Once
		p.playErr = func(string, float64) error {
			select {
			case <-late:
				once.Do(func() { close(failed) })
				return errPlay
			default:
				return nil
			}
		}
		r, _ := run(p)
		rep, err := r.Failover(t.Context(), "us-east", false)
		if services.ReasonOf(err) != services.ReasonPlayFailed || rep.PlaysFailed == 0 {
			t.Errorf("state %s, %d failed, error %v", rep.State, rep.PlaysFailed, err)
		}
	})
}
