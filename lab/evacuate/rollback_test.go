package evacuate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flix-lab/flix/services"
)

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
				if got, want := after(calls, "drain us-east false"), append(slices.Clone(back), "unscale"); !slices.Equal(got, want) {
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
			if strings.HasPrefix(call, "adopt") {
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
				if !errors.Is(err, context.Canceled) || rep.State != "rolled_back" || rep.PlaysFailed != 0 || rep.Error != "interrupted: context canceled" {
					t.Errorf("state %s, %d failed, error %v", rep.State, rep.PlaysFailed, err)
				}
				if p.share != 0 || p.weight != 1 || len(p.evacuated) != 0 || p.primary != "us-east" {
					t.Errorf("it ends at share %g, weight %g, evacuated %v, primary in %s", p.share, p.weight, p.evacuated, p.primary)
				}
			})
		})
	}
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
