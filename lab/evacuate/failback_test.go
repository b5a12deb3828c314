package evacuate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
)

func TestFailback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := evacuatedPlanet(t)
		r, _ := run(p)
		rep, err := r.Failback(t.Context(), "us-east", false)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"catch up us-east from us-west", "return us-east", "drain us-east false", "leaving us-east false", "weight us-east 1", "primary us-east",
			"proxy us-east 0.5 [us-west eu-west]", "proxy us-east 0.1 [us-west eu-west]", "proxy us-east 0 [us-west eu-west]",
			"unscale", `evacuated us-east ""`}
		if got := p.changes(); !slices.Equal(got, want) {
			t.Errorf("calls\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if rep.State != "done" || rep.Verb != "failback" || stepNames(rep) != "plan catch-up caches offsets undrain dns sql unproxy scale-in" || rep.PlaysDuring == 0 || rep.PlaysFailed != 0 {
			t.Errorf("report %+v", rep)
		}
		// It computes no capacity, and says nothing of any, such as that it lacks.
		if b, err := json.Marshal(rep); err != nil || bytes.Contains(b, []byte("fits")) {
			t.Errorf("JSON %s, %v", b, err)
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

// TestFailbackLeavesALostPrimary does not wait for, or open, a primary elsewhere that
// does not answer; one that cannot be asked for ends the failback.
func TestFailbackLeavesALostPrimary(t *testing.T) {
	for name, asked := range map[string]error{"lost": nil, "unknown": errors.New("no SQL node answers")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlanet(t, 3)
				p.evacuated["us-west"], p.primary, p.primaryLost, p.fenced = true, "eu-west", true, true
				p.fail["PrimaryRegion"] = asked
				r, _ := run(p)
				rep, err := r.Failback(t.Context(), "us-west", false)
				if !errors.Is(err, asked) || (rep.State == Done) != (asked == nil) {
					t.Errorf("state %s, error %v", rep.State, err)
				}
				if calls := p.changes(); len(after(calls, "primary")) != 0 {
					t.Errorf("calls %q", calls)
				}
			})
		})
	}
}

// evacuatedPlanet is one whose first region was evacuated.
func evacuatedPlanet(t *testing.T) *fakePlanet {
	t.Helper()
	p := newPlanet(t, 3)
	p.evacuated["us-east"], p.primary, p.share, p.weight, p.draining = true, "us-west", 1, 0, true
	return p
}

// staysEvacuated fails unless the savers have everything as before.
func (p *fakePlanet) staysEvacuated(t *testing.T, rep control.Failover) {
	t.Helper()
	if rep.State != RolledBack || p.share != 1 || p.weight != 0 || !p.draining || p.primary != "us-west" || !p.evacuated["us-east"] {
		t.Errorf("state %s, share %g, weight %g, draining %v, primary in %s, evacuated %v", rep.State, p.share, p.weight, p.draining, p.primary, p.evacuated)
	}
	calls := p.changes()
	if given := after(calls, "return us-east"); given != nil && !slices.Contains(given, "adopt us-east [us-west eu-west]") {
		t.Errorf("its events stay where nobody goes: %q", calls)
	}
	if slices.Contains(calls, "unscale") {
		t.Errorf("the savers lost what they live on: %q", calls)
	}
}

// TestFailbackFails gives traffic back to a region in which plays fail: viewers
// must not stay there.
func TestFailbackFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := evacuatedPlanet(t)
		p.playErr = func(_ string, share float64) error {
			if share < 1 {
				return errPlay
			}
			return nil
		}
		r, x := run(p)
		rep, err := r.Failback(t.Context(), "us-east", false)
		var se *services.Error
		if services.ReasonOf(err) != services.ReasonPlayFailed || rep.PlaysFailed == 0 || !errors.As(err, &se) || !strings.Contains(se.Remedy, "look at us-east") {
			t.Errorf("%d plays failed, error %#v", rep.PlaysFailed, err)
		}
		p.staysEvacuated(t, rep)
		if !slices.Contains(x.kinds, "failback.rollback") {
			t.Errorf("told %q", x.kinds)
		}
	})
}

// TestFailbackSpendsTheBudget looks at the region, not at those who lose its
// traffic.
func TestFailbackSpendsTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := evacuatedPlanet(t)
		looks := uint64(0)
		p.onEdge = func(region string, e *Edge) {
			if region == "us-east" && p.share < 1 {
				looks++
				e.Answered, e.Failed = e.Answered+1000*looks, e.Failed+100*looks
			}
		}
		r, _ := run(p)
		rep, err := r.Failback(t.Context(), "us-east", false)
		if services.KindOf(err) != services.Exhausted || !strings.Contains(err.Error(), "us-east fails 100 of 1000 requests") {
			t.Errorf("error %v", err)
		}
		p.staysEvacuated(t, rep)
	})
}

// TestFailbackIsInterrupted ends the run's context at every call.
func TestFailbackIsInterrupted(t *testing.T) {
	for _, at := range []string{"catch up", "return us-east", "weight us-east 1", "primary us-east", "proxy us-east 0.5", "proxy us-east 0 "} {
		t.Run(at, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := evacuatedPlanet(t)
				ctx, cancel := context.WithCancel(t.Context())
				p.hook = func(call string) {
					if strings.HasPrefix(call, at) {
						cancel()
					}
				}
				r, _ := run(p)
				rep, err := r.Failback(ctx, "us-east", false)
				if !errors.Is(err, context.Canceled) || rep.Error != "interrupted: context canceled" || rep.PlaysFailed != 0 {
					t.Errorf("%d failed, error %v", rep.PlaysFailed, err)
				}
				p.staysEvacuated(t, rep)
			})
		})
	}
}

// TestFailbackOfAFailoverCutShort that fails leaves what it undid: it was no
// evacuation yet.
func TestFailbackOfAFailoverCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 3)
		p.share = 0.5
		p.playErr = func(string, float64) error { return errPlay }
		r, _ := run(p)
		r.CutShort = Leave
		rep, err := r.Failback(t.Context(), "us-east", false)
		if services.ReasonOf(err) != services.ReasonPlayFailed || rep.State != Failed || p.weight != 1 {
			t.Errorf("state %s, weight %g, error %v", rep.State, p.weight, err)
		}
	})
}

// TestLastStepOfFailbackFails keeps what the region has: the savers may have lost
// what they had for it.
func TestLastStepOfFailbackFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := evacuatedPlanet(t)
		p.fail["unscale"] = errPlay
		r, _ := run(p)
		rep, err := r.Failback(t.Context(), "us-east", false)
		if err == nil || rep.State != Failed || p.share != 0 || p.weight != 1 {
			t.Errorf("state %s, share %g, weight %g, error %v", rep.State, p.share, p.weight, err)
		}
	})
}
