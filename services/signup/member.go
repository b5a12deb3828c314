package signup

import (
	"context"
	"crypto/rand"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/edge"
	"github.com/flix-lab/flix/services/evcache"
	"github.com/flix-lab/flix/services/events"
	"github.com/flix-lab/flix/services/sqldb"
	"github.com/flix-lab/flix/services/telemetry"
)

// signupDevice is what a sign-up's token is for: the form is a web page.
const signupDevice = "web"

func (s *Server) listPlans(r *http.Request) (any, error) {
	a, err := s.readPlans(r.Context())
	if err != nil {
		return nil, services.Wrap("plans", err)
	}
	return a.Value, nil
}

func (s *Server) readPlans(ctx context.Context) (evcache.Copy[[]sqldb.Plan], error) {
	return s.plans.Read(ctx, "signup/plans", s.d.Members.Plans)
}

// signup makes a member with a free trial. It is idempotent by the request's
// key: the ledger entry that opens the trial carries it, in the transaction
// that makes the member.
func (s *Server) signup(r *http.Request) (any, error) {
	ctx := r.Context()
	req, err := edge.Decode[SignupRequest](r)
	if err != nil {
		return nil, err
	}
	req.Email = normalise(req.Email)
	plans, err := s.readPlans(ctx)
	if err != nil {
		return nil, services.Wrap("signup", err)
	}
	if _, err := planIn(plans.Value, req.Plan); err != nil {
		s.count("signup", "refused")
		return nil, err
	}
	m, err := s.create(ctx, req)
	if err != nil {
		s.count("signup", "refused")
		return nil, services.Wrap("signup", err)
	}
	s.count("signup", "ok")
	s.announce(ctx, "signup", "signup/"+req.Key, m)
	return s.token(m, signupDevice), nil
}

func (s *Server) create(ctx context.Context, req SignupRequest) (sqldb.Member, error) {
	var hashed string
	if err := s.withCPU(ctx, func() (err error) {
		hashed, err = HashPassword(req.Password, s.d.Iterations)
		return err
	}); err != nil {
		return sqldb.Member{}, err
	}
	now := time.Now().UTC()
	m := sqldb.Member{
		ID: services.MemberID("m-" + strings.ToLower(rand.Text())), Email: req.Email, Name: strings.TrimSpace(req.Name),
		Plan: req.Plan, Country: req.Country, PasswordHash: hashed, Created: now,
	}
	trial := sqldb.Entry{Key: "signup/" + req.Key, Member: m.ID, Kind: entryTrial, At: now}
	saved, err := s.saveMember.Do(ctx, func(ctx context.Context) (sqldb.Member, error) {
		return s.d.Members.CreateMember(ctx, m, trial)
	})
	switch {
	case services.KindOf(err) == services.Conflict:
		return sqldb.Member{}, services.Errorf(services.Conflict, "%s is a member already", req.Email).WithReason(ReasonEmailTaken).WithRemedy("sign in, or sign up with another e-mail address")
	case err != nil:
		return sqldb.Member{}, err
	case saved.ID == m.ID:
		return saved, nil
	}
	return saved, s.sameRequest(ctx, saved, req)
}

// sameRequest refuses a key that was used for another request: an idempotent
// answer carries a token, which only the member's own password may bring, and
// must not pass for one to a sign-up with another plan. The plan may have been
// changed since, which the ledger tells.
func (s *Server) sameRequest(ctx context.Context, saved sqldb.Member, req SignupRequest) error {
	ok := saved.Email == req.Email && saved.Name == strings.TrimSpace(req.Name) && saved.Country == req.Country
	if ok {
		var err error
		if ok, err = s.check(ctx, saved.PasswordHash, req.Password); err != nil {
			return err
		}
	}
	if ok && saved.Plan != req.Plan {
		entries, err := s.entries(ctx, saved.ID)
		if err != nil {
			return err
		}
		ok = slices.ContainsFunc(entries, func(e sqldb.Entry) bool { return strings.HasPrefix(e.Key, planKey(saved.ID, "")) })
	}
	if !ok {
		return services.Errorf(services.Conflict, "key: it was used for another sign-up").WithReason(ReasonKeyReused).WithRemedy("make a new key for a new sign-up")
	}
	return nil
}

// signin answers a wrong password and an unknown e-mail alike, in words and in
// time: who is a member is nobody's business.
func (s *Server) signin(r *http.Request) (any, error) {
	ctx := r.Context()
	req, err := edge.Decode[SigninRequest](r)
	if err != nil {
		return nil, err
	}
	m, err := s.findMember.Do(ctx, func(ctx context.Context) (sqldb.Member, error) {
		return s.d.Members.MemberByEmail(ctx, normalise(req.Email))
	})
	known := err == nil
	if !known && services.KindOf(err) != services.NotFound {
		return nil, services.Wrap("signin", err)
	}
	stored := s.unknown.String()
	if known {
		stored = m.PasswordHash
	}
	ok, err := s.check(ctx, stored, req.Password)
	if err != nil {
		return nil, services.Wrap("signin", err)
	}
	if !ok || !known {
		s.count("signin", "refused")
		return nil, services.Errorf(services.Denied, "signin: the e-mail address or the password is wrong").WithReason(ReasonCredentials).WithRemedy("check both, or sign up")
	}
	s.count("signin", "ok")
	s.announce(ctx, "signin", rand.Text(), m)
	return s.token(m, req.Device), nil
}

func (s *Server) check(ctx context.Context, stored, password string) (ok bool, err error) {
	h, err := parseHash(stored)
	if err != nil {
		return false, err
	}
	err = s.withCPU(ctx, func() (err error) {
		ok, err = h.matches(password)
		return err
	})
	return ok, err
}

// withCPU waits for a core's place before it hashes, so that a burst of
// sign-ins queues here instead of slowing every request of the machine.
func (s *Server) withCPU(ctx context.Context, hash func() error) error {
	select {
	case s.hashing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.hashing }()
	return hash()
}

// announce tells the pipeline. The membership stands without it, so a failure
// is counted and logged, not answered.
func (s *Server) announce(ctx context.Context, kind, id string, m sqldb.Member) {
	_, err := s.sendEvent.Do(ctx, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, s.d.Events.Send(ctx, events.TopicMembers, string(m.ID), events.MemberEvent{
			Header: events.Header{ID: id, At: time.Now().UTC(), Region: s.d.Region, Instance: s.d.Instance, TraceID: telemetry.TraceID(ctx)},
			Kind:   kind, Member: string(m.ID), Plan: m.Plan,
		})
	})
	if err != nil {
		s.d.Tel.Log.WarnContext(ctx, "member event not sent", "kind", kind, "member", m.ID, "error", err)
	}
}

func (s *Server) count(action, result string) { s.memberships.WithLabelValues(action, result).Inc() }
