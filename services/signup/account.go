package signup

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/edge"
	"github.com/flix-lab/flix/services/sqldb"
)

// The kinds of ledger entries.
const (
	entryTrial  = "trial"
	entryCharge = "charge"
	entryCredit = "credit"
)

// account answers with a membership. What is due by now is charged first: the
// ledger is settled by whoever reads it, by keys that make it happen once.
func (s *Server) account(r *http.Request, c edge.Caller) (any, error) {
	m, entries, err := s.settled(r.Context(), services.MemberID(c.Member), time.Now())
	if err != nil {
		return nil, services.Wrap("account", err)
	}
	return s.shown(m, entries, time.Now()), nil
}

// changePlan settles what is due under the old plan, then changes to the new
// one and charges or credits the difference for the rest of the period, in one
// transaction. The same key again changes nothing.
func (s *Server) changePlan(r *http.Request, c edge.Caller) (any, error) {
	ctx := r.Context()
	req, err := edge.Decode[PlanRequest](r)
	if err != nil {
		return nil, err
	}
	plans, err := s.readPlans(ctx)
	if err != nil {
		return nil, services.Wrap("plan", err)
	}
	to, err := planIn(plans.Value, req.Plan)
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	m, entries, err := s.settled(ctx, services.MemberID(c.Member), now)
	if err != nil {
		return nil, services.Wrap("plan", err)
	}
	was := m.Plan
	m, e, err := s.move(ctx, plans.Value, m, to, planKey(m.ID, req.Key), now)
	if err != nil {
		return nil, services.Wrap("plan", err)
	}
	if m.Plan != to.ID { // the key did its work before, and another change came after
		return nil, services.Errorf(services.Conflict, "key: it was used for an earlier change").WithReason(ReasonKeyReused).WithRemedy("make a new key for a new change")
	}
	if was != to.ID {
		s.count("plan", "changed")
		s.announce(ctx, "plan", e.Key, m)
	}
	// Not read again: the region's replica may be behind.
	if !slices.ContainsFunc(entries, func(had sqldb.Entry) bool { return had.Key == e.Key }) {
		entries = append(entries, e)
	}
	return s.shown(m, entries, now), nil
}

// maxMoves is how often a change of plan is reckoned anew because the member's
// plan was another than thought.
const maxMoves = 8

// moved is a member after a change of plan, or with done false the one that has
// another plan than the change was from.
type moved struct {
	member sqldb.Member
	done   bool
}

// move changes a member's plan and returns what it costs. The plan that was read
// may be over by now, at a replica that is behind or by another change: the
// difference is to the one that the member really has.
func (s *Server) move(ctx context.Context, plans []sqldb.Plan, m sqldb.Member, to sqldb.Plan, key string, now time.Time) (sqldb.Member, sqldb.Entry, error) {
	for range maxMoves {
		from, err := planIn(plans, m.Plan)
		if err != nil {
			return m, sqldb.Entry{}, services.Errorf(services.Internal, "the member's plan %q is not among the plans", m.Plan)
		}
		e := s.difference(m, from, to, now)
		e.Key = key
		got, err := s.setPlan.Do(ctx, func(ctx context.Context) (moved, error) {
			m, done, err := s.d.Members.ChangePlan(ctx, sqldb.PlanChange{Member: m.ID, From: from.ID, To: to.ID, Entry: e})
			return moved{m, done}, err
		})
		if err != nil || got.done {
			return got.member, e, err
		}
		m = got.member
	}
	return m, sqldb.Entry{}, services.Errorf(services.Unavailable, "the plan is changed by others at the same time").WithRemedy("try again in a moment")
}

// planKey is the key of the ledger's entry for a change of plan.
func planKey(id services.MemberID, key string) string { return "plan/" + string(id) + "/" + key }

// difference is the ledger's entry for a change of plan: the part of the prices'
// difference that the rest of the period is of it, in cents, rounded down; in
// the trial nothing is due.
func (s *Server) difference(m sqldb.Member, from, to sqldb.Plan, now time.Time) sqldb.Entry {
	e := sqldb.Entry{Member: m.ID, Kind: entryTrial, At: now}
	period := s.d.Timing.BillingPeriod.D()
	elapsed := now.Sub(m.Created)
	if elapsed < period || period <= 0 {
		return e
	}
	rest := period - elapsed%period
	cents := int(int64(to.PriceCents-from.PriceCents) * int64(rest/time.Millisecond) / int64(period/time.Millisecond))
	if e.Kind = entryCharge; cents < 0 {
		e.Kind, cents = entryCredit, -cents
	}
	e.Cents = cents
	return e
}

// maxDue bounds the charges that one request makes.
const maxDue = 120

// settled charges a member for every period that began since, at the plan it
// has, and returns it with its ledger. A period's key has its number, so that
// several at once charge it once.
func (s *Server) settled(ctx context.Context, id services.MemberID, now time.Time) (sqldb.Member, []sqldb.Entry, error) {
	m, err := s.getMember.Do(ctx, func(ctx context.Context) (sqldb.Member, error) { return s.d.Members.Member(ctx, id) })
	if err != nil {
		return m, nil, err
	}
	entries, err := s.entries(ctx, id)
	if err != nil {
		return m, nil, err
	}
	period := s.d.Timing.BillingPeriod.D()
	if period <= 0 {
		return m, entries, nil
	}
	plans, err := s.readPlans(ctx)
	if err != nil {
		return m, nil, err
	}
	plan, err := planIn(plans.Value, m.Plan)
	if err != nil {
		return m, nil, services.Errorf(services.Internal, "the member's plan %q is not among the plans", m.Plan)
	}
	have := make(map[string]bool, len(entries))
	for _, e := range entries {
		have[e.Key] = true
	}
	charged := 0
	for n := int64(1); n <= int64(now.Sub(m.Created)/period) && charged < maxDue; n++ {
		e := sqldb.Entry{Key: fmt.Sprintf("charge/%s/%d", id, n), Member: id, Kind: entryCharge, Cents: plan.PriceCents, At: m.Created.Add(time.Duration(n) * period)}
		if have[e.Key] {
			continue
		}
		if _, err := s.charge.Do(ctx, func(ctx context.Context) (struct{}, error) {
			return struct{}{}, s.d.Members.AppendEntry(ctx, e)
		}); err != nil {
			return m, nil, err
		}
		charged++
		entries = append(entries, e)
	}
	return m, entries, nil
}

func (s *Server) entries(ctx context.Context, id services.MemberID) ([]sqldb.Entry, error) {
	return s.ledger.Do(ctx, func(ctx context.Context) ([]sqldb.Entry, error) { return s.d.Members.Ledger(ctx, id) })
}

func (s *Server) shown(m sqldb.Member, entries []sqldb.Entry, now time.Time) Account {
	period := s.d.Timing.BillingPeriod.D()
	a := Account{
		Member: string(m.ID), Email: m.Email, Name: m.Name, Plan: m.Plan, Country: m.Country,
		TrialEnds: m.Created.Add(period).UTC(), Ledger: make([]Line, 0, len(entries)),
	}
	if a.NextCharge = a.TrialEnds; period > 0 && now.After(a.TrialEnds) {
		a.NextCharge = m.Created.Add((now.Sub(m.Created)/period + 1) * period).UTC()
	}
	for _, e := range entries {
		switch e.Kind {
		case entryCharge:
			a.BalanceCents += e.Cents
		case entryCredit:
			a.BalanceCents -= e.Cents
		}
		a.Ledger = append(a.Ledger, Line{Kind: e.Kind, Cents: e.Cents, At: e.At.UTC()})
	}
	return a
}
