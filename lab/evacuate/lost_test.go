package evacuate

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/flix-lab/flix/services"
)

// lose makes a region one of whose gateways none answers, and with it the SQL
// primary, if it was there: plays near it fail until DNS names others.
func (p *fakePlanet) lose(region string) {
	p.edges[region], p.rate[region] = Edge{}, 0
	p.unhealthy[region] = "nothing runs"
	p.primaryLost = p.primary == region
	p.playErr = func(near string, _ float64) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if near == region && p.weight > 0 {
			return errPlay
		}
		return nil
	}
}

func TestLostRegion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 3)
		p.lose("us-east")
		r, x := run(p)
		rep, err := r.Failover(t.Context(), "us-east", false)
		if err != nil {
			t.Fatal(err)
		}
		want := append(scaling("us-west", "eu-west"), "take primary [us-west eu-west]", "weight us-east 0", "proxy us-east 1 [us-west eu-west]",
			"drain us-east true", "adopt us-east [us-west eu-west]", `evacuated us-east "ev-1"`)
		if got := p.changes(); !slices.Equal(got, want) {
			t.Errorf("calls\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if rep.State != "done" || rep.PlaysFailed != 0 || rep.PlaysDuring == 0 || rep.RTOMS != 0 || stepNames(rep) != "plan scale flip check sql dns proxy drain offsets verify" {
			t.Errorf("report %+v", rep)
		}
		if p.primary != "eu-west" {
			t.Errorf("the primary is in %s, want the saver with the most", p.primary)
		}
		if !slices.Contains(x.kinds, "failover.note") {
			t.Errorf("it does not say that the region is lost: %v", x.kinds)
		}
	})
}

// TestLostRegionIsNotGivenBack fails after DNS has moved: viewers stay where
// they are served, and the same command again goes on.
func TestLostRegionIsNotGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 3)
		p.lose("us-east")
		p.fail["adopt"] = services.Errorf(services.Unavailable, "no answer")
		r, _ := run(p)
		rep, err := r.Failover(t.Context(), "us-east", false)
		if services.KindOf(err) != services.Unavailable || rep.State != "failed" {
			t.Errorf("state %s, error %v", rep.State, err)
		}
		if p.weight != 0 || slices.Contains(p.changes(), "unscale") || slices.Contains(p.changes(), "primary us-east") {
			t.Errorf("it moved back: %v", p.changes())
		}
		delete(p.fail, "adopt")
		r, _ = run(p)
		if rep, err := r.Failover(t.Context(), "us-east", false); err != nil || rep.State != "done" {
			t.Errorf("again: state %s, error %v", rep.State, err)
		}
	})
}

// TestNoSaverCanLead says why no primary was promoted.
func TestNoSaverCanLead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 3)
		p.lose("us-east")
		p.fail["take primary"] = services.Errorf(services.Unavailable, "no saver's SQL node answers").WithRemedy("mend them")
		r, _ := run(p)
		rep, err := r.Failover(t.Context(), "us-east", false)
		if services.KindOf(err) != services.Unavailable || rep.State != "failed" || !strings.Contains(rep.Error, "no saver's SQL node answers") {
			t.Errorf("state %s, error %v", rep.State, err)
		}
		if got := after(p.changes(), "weight"); got != nil {
			t.Errorf("it went on with %v", got)
		}
	})
}

// TestLostPrimaryOfALivingRegion promotes another when only the SQL node of the
// region is gone; a rollback leaves it there.
func TestLostPrimaryOfALivingRegion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 3)
		p.primaryLost = true
		p.fail["adopt"] = errors.New("no answer")
		r, _ := run(p)
		if rep, err := r.Failover(t.Context(), "us-east", false); err == nil || rep.State != "rolled_back" {
			t.Errorf("state %s, error %v", rep.State, err)
		}
		if p.primary != "eu-west" {
			t.Errorf("the primary is in %s", p.primary)
		}
	})
}

// TestRollbackReturnsEvents fails once a saver handles the region's events.
func TestRollbackReturnsEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 3)
		p.fail["adopt"] = errors.New("no answer")
		r, _ := run(p)
		if rep, err := r.Failover(t.Context(), "us-east", false); err == nil || rep.State != "rolled_back" {
			t.Errorf("state %s, error %v", rep.State, err)
		}
		if !slices.Contains(p.changes(), "return us-east") {
			t.Errorf("the events stay with the saver: %v", p.changes())
		}
	})
}

// A region whose plays fail before anything is moved is evacuated at once, and
// its failures are not the evacuation's: they are why it is evacuated.
func TestSickRegion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 3)
		p.unhealthy["us-east"] = "no license runs in us-east"
		p.playErr = func(near string, share float64) error {
			if near == "us-east" && share == 0 {
				return errPlay
			}
			return nil
		}
		r, x := run(p)
		rep, err := r.Failover(t.Context(), "us-east", false)
		if err != nil || rep.State != "done" || rep.PlaysFailed != 0 || rep.PlaysDuring == 0 {
			t.Fatalf("report %+v, error %v", rep, err)
		}
		if got := stepNames(rep); got != "plan scale flip check proxy sql dns drain offsets verify" {
			t.Errorf("steps %q", got)
		}
		if !slices.Contains(x.kinds, "failover.note") {
			t.Errorf("told %q: nothing of why", x.kinds)
		}
		if got := p.changes(); !slices.Contains(got, "proxy us-east 1 [us-west eu-west]") || slices.Contains(got, "proxy us-east 0.1 [us-west eu-west]") {
			t.Errorf("calls %q", got)
		}
	})
}

// A sick region is left where it is when no saver can serve, with nothing moved.
func TestSickRegionWithoutSavers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 3)
		p.playErr = func(string, float64) error { return errPlay }
		r, _ := run(p)
		rep, err := r.Failover(t.Context(), "us-east", false)
		if rep.State != "rolled_back" || services.ReasonOf(err) != services.ReasonPlayFailed {
			t.Errorf("state %s, error %v", rep.State, err)
		}
		if got := after(p.changes(), "drain"); !slices.Equal(got, append(slices.Clone(back), "unscale")) {
			t.Errorf("it moved back by %q", got)
		}
	})
}
