package signup

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/edge"
)

// joined makes Ada a member who joined so long ago, and signs her in.
func joined(t *testing.T, ago time.Duration) *rig {
	t.Helper()
	r := start(t)
	var in SigninReply
	if p := r.do("POST", PathSignup, ada(), &in); p.Kind != "" {
		t.Fatalf("%+v", p)
	}
	r.member = in.Member
	for email, m := range r.store.members {
		m.Created = m.Created.Add(-ago)
		r.store.members[email] = m
	}
	return r
}

func (r *rig) account() Account {
	r.t.Helper()
	var a Account
	if p := r.do("GET", PathAccount, nil, &a); p.Kind != "" {
		r.t.Fatalf("%+v", p)
	}
	return a
}

func TestTrialCostsNothing(t *testing.T) {
	r := joined(t, 0)
	a := r.account()
	if a.Plan != ada().Plan || a.BalanceCents != 0 || len(a.Ledger) != 1 || a.Ledger[0].Kind != entryTrial || !a.TrialEnds.After(time.Now()) || a.NextCharge != a.TrialEnds {
		t.Errorf("%+v", a)
	}
	r.member = ""
	if p := r.do("GET", PathAccount, nil, nil); p.Kind != services.Denied {
		t.Errorf("nobody's account: %+v", p)
	}
}

// Every period since the trial is charged once, however often the account is
// read.
func TestPeriodsAreChargedOnce(t *testing.T) {
	period := start(t).server.d.Timing.BillingPeriod.D()
	r := joined(t, 3*period+period/2)
	for range 3 {
		a := r.account()
		if a.BalanceCents != 3*1800 || len(a.Ledger) != 4 || time.Until(a.NextCharge) > period/2 {
			t.Fatalf("%+v", a)
		}
	}
}

func TestChangeOfPlan(t *testing.T) {
	period := start(t).server.d.Timing.BillingPeriod.D()
	r := joined(t, period+period/2) // half of the first period that costs is over
	change := func(key, plan string) (a Account, p services.Problem) {
		t.Helper()
		p = r.do("POST", PathPlan, PlanRequest{key, plan}, &a)
		return a, p
	}
	for range 2 { // the same key changes nothing the second time
		a, p := change("k1", "basic")
		if p.Kind != "" || a.Plan != "basic" || a.BalanceCents < 1800-450 || a.BalanceCents > 1800-440 || len(a.Ledger) != 3 || a.Ledger[2].Kind != entryCredit {
			t.Fatalf("%+v %+v", a, p)
		}
	}
	a, p := change("k2", "premium")
	if p.Kind != "" || a.Plan != "premium" || a.BalanceCents < 1790 || a.BalanceCents > 1800 || a.Ledger[len(a.Ledger)-1].Kind != entryCharge {
		t.Errorf("back again: %+v %+v", a, p)
	}
	if _, p := change("k1", "basic"); p.Reason != ReasonKeyReused {
		t.Errorf("an old key: %+v", p)
	}
	if _, p := change("k3", "gold"); p.Reason != ReasonNoPlan {
		t.Errorf("a plan that is none: %+v", p)
	}
	if _, p := change("", "basic"); p.Reason != edge.ReasonFields {
		t.Errorf("no key: %+v", p)
	}
}

// A change costs the difference to the plan that the member has, whatever a
// replica that is behind says.
func TestChangeFromAPlanThatIsOver(t *testing.T) {
	period := start(t).server.d.Timing.BillingPeriod.D()
	r := joined(t, period+period/2)
	var a Account
	if p := r.do("POST", PathPlan, PlanRequest{"k1", "basic"}, &a); p.Kind != "" {
		t.Fatalf("%+v", p)
	}
	r.store.mu.Lock()
	r.store.behind = "premium"
	r.store.mu.Unlock()
	if p := r.do("POST", PathPlan, PlanRequest{"k2", "premium"}, &a); p.Kind != "" || a.Plan != "premium" || a.BalanceCents < 1790 || a.BalanceCents > 1800 {
		t.Errorf("%+v %+v", a, p)
	}
}

// However many changes come at once, they cost the difference of the first plan
// and the last.
func TestChangesAtOnceCostTheirDifference(t *testing.T) {
	period := start(t).server.d.Timing.BillingPeriod.D()
	r := joined(t, period+period/2)
	if before := r.account(); before.BalanceCents != 1800 {
		t.Fatalf("%+v", before)
	}
	const changes = 12
	var wg sync.WaitGroup
	for i := range changes {
		wg.Go(func() {
			p := r.do("POST", PathPlan, PlanRequest{fmt.Sprint("k", i), []string{"basic", "premium"}[i%2]}, new(Account))
			if p.Kind != "" && p.Kind != services.Unavailable {
				t.Errorf("%+v", p)
			}
		})
	}
	wg.Wait()
	a, want := r.account(), 1800
	if a.Plan == "basic" {
		want -= 450
	}
	if off := a.BalanceCents - want; off < -changes || off > changes { // a cent for each that is rounded
		t.Errorf("%d cents off: %+v", off, a)
	}
}

func TestChangeInTheTrialIsFree(t *testing.T) {
	r := joined(t, 0)
	var a Account
	if p := r.do("POST", PathPlan, PlanRequest{"k", "basic"}, &a); p.Kind != "" || a.Plan != "basic" || a.BalanceCents != 0 {
		t.Errorf("%+v %+v", a, p)
	}
	if es := r.store.entries; len(es) != 2 {
		t.Errorf("ledger %+v", es)
	}
}
