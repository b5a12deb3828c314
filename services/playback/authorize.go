package playback

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/evcache"
	"github.com/flix-lab/flix/services/playback/playbackpb"
	"github.com/flix-lab/flix/services/sqldb"
)

// ReasonNoMember: the member of the token is not in the store.
const ReasonNoMember = "no_such_member"

// membership is what a decision needs of a member; nothing personal goes into
// the cache.
type membership struct {
	Plan    string `json:"plan"`
	Country string `json:"country"`
}

// title is what a decision needs of a title.
type title struct {
	Name      string   `json:"name"`
	Live      bool     `json:"live"`
	Countries []string `json:"countries,omitempty"`
	// Available is the date before which it is not played; zero is none.
	Available time.Time `json:"available,omitzero"`
}

// facts are what a decision is made from.
type facts struct {
	title   evcache.Copy[title]
	member  evcache.Copy[membership]
	plans   evcache.Copy[[]sqldb.Plan]
	titleOK error // why the title is not known
	memOK   error // why member or plans are not known
}

func (f *facts) cached() bool { return f.title.Cached || f.member.Cached || f.plans.Cached }
func (f *facts) stale() bool  { return f.title.Stale || f.member.Stale || f.plans.Stale }

// Authorize implements playbackpb.PlaybackServer.
func (s *Server) Authorize(ctx context.Context, r *playbackpb.AuthorizeRequest) (*playbackpb.AuthorizeReply, error) {
	op := "playback.Authorize " + r.GetTitleId()
	for _, f := range []struct{ name, value string }{
		{"session_id", r.GetSessionId()}, {"member_id", r.GetMemberId()}, {"title_id", r.GetTitleId()},
		{"device", r.GetDevice()}, {"country", r.GetCountry()},
	} {
		if f.value == "" {
			return nil, services.Errorf(services.Invalid, "%s: %s: it is empty", op, f.name)
		}
	}
	if err := validSession(r.GetSessionId()); err != nil {
		return nil, services.Wrap(op, err)
	}
	f := s.gather(ctx, r, false)
	plan, err := decide(f, r)
	if err != nil && f.cached() && !f.stale() {
		// The plan may have been upgraded, the title published, since the copy
		// was made: ask the stores before refusing. Where they are late the
		// copies stand, and with them the refusal; a stale copy says that they
		// have been asked already.
		f = s.gather(ctx, r, true)
		plan, err = decide(f, r)
	}
	if err != nil {
		return nil, services.Wrap(op, err)
	}
	if err := s.open(ctx, r, plan); err != nil {
		return nil, services.Wrap(op, err)
	}
	return &playbackpb.AuthorizeReply{
		MaxHeight: uint32(plan.MaxHeight), MaxStreams: uint32(plan.MaxStreams),
		TitleName: f.title.Value.Name, Stale: f.stale(),
	}, nil
}

// gather reads title, member and plans at once; with anew set it passes the
// fresh copies by.
func (s *Server) gather(ctx context.Context, r *playbackpb.AuthorizeRequest, anew bool) *facts {
	var f facts
	var planErr, memErr error
	var g errgroup.Group // every error is a fact: none ends the others
	g.Go(func() error {
		f.title, f.titleOK = fetch(ctx, s.titles, anew, titleKey(r.GetTitleId()), func(ctx context.Context) (title, error) {
			t, err := s.d.DB.Title(ctx, services.TitleID(r.GetTitleId()))
			return title{Name: t.Name, Live: t.Live, Countries: t.Countries, Available: t.Available}, err
		})
		return nil
	})
	g.Go(func() error {
		f.member, memErr = fetch(ctx, s.members, anew, memberKey(r.GetMemberId()), func(ctx context.Context) (membership, error) {
			m, err := s.d.DB.Member(ctx, services.MemberID(r.GetMemberId()))
			return membership{Plan: m.Plan, Country: m.Country}, err
		})
		return nil
	})
	f.plans, planErr = fetch(ctx, s.plans, anew, "playback/plans", s.d.DB.Plans)
	_ = g.Wait() // they return nil
	switch {
	case services.KindOf(memErr) == services.NotFound:
		f.memOK = services.Errorf(services.Denied, "the member is not known").WithReason(ReasonNoMember).WithRemedy("sign in again, or sign up")
	case memErr != nil:
		f.memOK = memErr
	default:
		f.memOK = planErr
	}
	return &f
}

func fetch[T any](ctx context.Context, r *evcache.Reader[T], anew bool, key string, load func(context.Context) (T, error)) (evcache.Copy[T], error) {
	if anew {
		return r.Refresh(ctx, key, load)
	}
	return r.Read(ctx, key, load)
}

// decide checks everything but the streams of the household, in the order in
// which the reasons matter to a person: the title first, then what they pay for.
func decide(f *facts, r *playbackpb.AuthorizeRequest) (sqldb.Plan, error) {
	var none sqldb.Plan
	t := sqldb.Title{Countries: f.title.Value.Countries}
	switch {
	case services.KindOf(f.titleOK) == services.NotFound:
		return none, services.Errorf(services.NotFound, "there is no title %q", r.GetTitleId()).WithReason(services.ReasonNoTitle).WithRemedy("search for it by name")
	case f.titleOK != nil:
		return none, f.titleOK
	case !f.title.Value.Live:
		return none, services.Errorf(services.Conflict, "%q is not live yet", f.title.Value.Name).WithReason(services.ReasonNotLive).WithRemedy("wait until it is published")
	case time.Now().Before(f.title.Value.Available):
		return none, services.Errorf(services.Conflict, "%q is not live yet: its date is %s", f.title.Value.Name, f.title.Value.Available.UTC().Format(time.RFC3339)).
			WithReason(services.ReasonNotLive).WithRemedy("play it then")
	case !t.LicensedIn(r.GetCountry()):
		return none, services.Errorf(services.Denied, "%q is not licensed in %s; it is in %s", f.title.Value.Name, r.GetCountry(), strings.Join(t.Countries, ", ")).
			WithReason(services.ReasonNotLicensed).WithRemedy("choose a title that is licensed in %s", r.GetCountry())
	case f.memOK != nil:
		return none, f.memOK
	}
	// The store's plan counts, not the token's: a token outlives a change of plan.
	i := slices.IndexFunc(f.plans.Value, func(p sqldb.Plan) bool { return p.ID == f.member.Value.Plan })
	if i < 0 {
		return none, services.Errorf(services.Internal, "the member's plan %q is not among the plans", f.member.Value.Plan)
	}
	plan := f.plans.Value[i]
	return plan, allows(plan, f.plans.Value, r)
}

// allows checks device and resolution.
func allows(plan sqldb.Plan, all []sqldb.Plan, r *playbackpb.AuthorizeRequest) error {
	if !slices.Contains(plan.Devices, r.GetDevice()) {
		return services.Errorf(services.Denied, "the plan %q plays on %s, not on %s", plan.Name, strings.Join(plan.Devices, ", "), r.GetDevice()).
			WithReason(services.ReasonPlanDevice).
			WithRemedy("%s", upgrade("play on one of its devices", all, func(p sqldb.Plan) bool { return slices.Contains(p.Devices, r.GetDevice()) }))
	}
	if want := int(r.GetWantHeight()); want > plan.MaxHeight {
		return services.Errorf(services.Denied, "the plan %q allows %d lines, not %d", plan.Name, plan.MaxHeight, want).
			WithReason(services.ReasonPlanResolution).
			WithRemedy("%s", upgrade(fmt.Sprintf("ask for %d lines or fewer", plan.MaxHeight), all, func(p sqldb.Plan) bool { return p.MaxHeight >= want }))
	}
	return nil
}

// upgrade names the cheapest plan that would do, beside what helps without one.
func upgrade(without string, all []sqldb.Plan, does func(sqldb.Plan) bool) string {
	var best *sqldb.Plan
	for i, p := range all {
		if does(p) && (best == nil || p.PriceCents < best.PriceCents) {
			best = &all[i]
		}
	}
	if best == nil {
		return without
	}
	return fmt.Sprintf("%s, or change to the plan %q (%s)", without, best.Name, best.ID)
}
