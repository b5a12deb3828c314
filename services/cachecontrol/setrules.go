package cachecontrol

import (
	"context"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/flix-lab/flix/services"
	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/kv"
)

const (
	rulesPartition = "rules"
	// endedRule is how long the end of a rule is remembered: longer than a
	// region is cut off, or the rule would come back with it.
	endedRule = 7 * 24 * time.Hour
	// maxRules bounds the rules in force.
	maxRules = 10_000
)

// SetFillRules implements the change of rules. The region it comes to stores
// them before it answers; the others are told at once and read them from the
// store, too.
func (s *Server) SetFillRules(ctx context.Context, r *pb.SetFillRulesRequest) (*pb.SetFillRulesReply, error) {
	forwarded := isForwarded(ctx)
	for _, rule := range r.GetRules() {
		if rule.GetVersion() == 0 {
			rule.Version = s.d.Clock().UnixNano()
		}
		if err := s.checkRule(rule); err != nil {
			return nil, err
		}
	}
	if !forwarded && len(r.GetRules()) > 0 {
		items := make([]kv.Item, 0, len(r.GetRules()))
		for _, rule := range r.GetRules() {
			items = append(items, ruleItem(rule))
		}
		if err := s.put(ctx, kv.FillRules, rulesPartition, items...); err != nil {
			return nil, services.Wrap("fill rules", err)
		}
	}
	s.update(func(time.Time) { s.takeRules(r.GetRules()) })
	if !forwarded && len(r.GetRules()) > 0 {
		s.ask(ctx, func(ctx context.Context, _ string, c pb.CacheControlClient) error {
			_, err := c.SetFillRules(ctx, r)
			return err
		})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return &pb.SetFillRulesReply{Rules: s.planner.rules.active()}, nil
}

// checkRule says what is wrong with a rule: its kind, what it names, or that
// there are too many.
func (s *Server) checkRule(r *pb.FillRule) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch r.GetKind() {
	case rulePause:
		if r.GetTitleId() != "" {
			return services.Errorf(services.Invalid, "fill rule: a pause is of appliances, not of title %q", r.GetTitleId())
		}
	case rulePin, ruleUrgent:
		if r.GetActive() && s.planner.cat.assets[r.GetTitleId()] == nil {
			return services.Errorf(services.NotFound, "fill rule: no title %q is published", r.GetTitleId()).WithReason(services.ReasonNoTitle).WithRemedy("flix title ls lists the titles")
		}
		if strings.Contains(r.GetTitleId(), "/") {
			return services.Errorf(services.Invalid, "fill rule: %q is not a title id", r.GetTitleId())
		}
	default:
		return services.Errorf(services.Invalid, "fill rule: kind %q is none of pause, pin, urgent", r.GetKind())
	}
	if r.GetActive() {
		if err := s.planner.knowsScope(r.GetScope()); err != nil {
			return err
		}
		if n := len(s.planner.rules.active()); n >= maxRules && !s.planner.rules[keyOfRule(r)].GetActive() {
			return services.Errorf(services.Exhausted, "fill rules: there are %d", n).WithRemedy("end some: flix fill unpin, flix fill resume")
		}
	}
	return nil
}

// knowsScope says whether a scope is the lab, or a region, site or appliance
// that is known.
func (p *planner) knowsScope(scope string) error {
	if scope == "" || p.nodes[scope] != nil || p.sites[scope] != nil || p.near[scope] != nil {
		return nil
	}
	return services.Errorf(services.NotFound, "no appliance, site or region is called %q", scope).WithRemedy("flix fill status lists the appliances; a site is the middle part of a name")
}

// takeRules takes rules in. Called with the lock held.
func (s *Server) takeRules(rules []*pb.FillRule) {
	for _, r := range rules {
		if s.planner.setRule(r) {
			s.d.Tel.Log.Info("fill rule", "kind", r.GetKind(), "scope", scopeName(r.GetScope()), "title", r.GetTitleId(), "active", r.GetActive())
		}
	}
}

func ruleItem(r *pb.FillRule) kv.Item {
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(r)
	if err != nil { // only for strings that are not UTF-8, which gRPC refused
		panic("cachecontrol: encode rule: " + err.Error())
	}
	it := kv.Item{Sort: keyOfRule(r).String(), Value: value}
	if !r.GetActive() {
		it.TTL = endedRule
	}
	return it
}

// syncRules takes the rules that the store holds. One that cannot be read is
// skipped and counted.
func (s *Server) syncRules(ctx context.Context, items []kv.Item) error {
	var read []*pb.FillRule
	for _, it := range items {
		r := &pb.FillRule{}
		if err := proto.Unmarshal(it.Value, r); err != nil || keyOfRule(r).String() != it.Sort {
			s.metrics.unreadable.Inc()
			s.d.Tel.Log.Error("a fill rule in the store is unreadable", "rule", it.Sort, "error", err)
			continue
		}
		read = append(read, r)
	}
	s.update(func(now time.Time) {
		s.takeRules(read)
		s.planner.rules.forget(now)
	})
	return s.fulfil(ctx)
}

// fulfil ends the urgent rules of titles that everybody they are for holds.
func (s *Server) fulfil(ctx context.Context) error {
	s.mu.Lock()
	var done []kv.Item
	var ended []*pb.FillRule
	for _, r := range s.planner.rules.active() {
		if r.GetKind() == ruleUrgent && s.planner.fulfilled(r) {
			end := proto.CloneOf(r)
			end.Active, end.Version = false, max(r.GetVersion()+1, s.d.Clock().UnixNano())
			ended = append(ended, end)
			done = append(done, ruleItem(end))
		}
	}
	s.mu.Unlock()
	if len(done) == 0 {
		return nil
	}
	if err := s.put(ctx, kv.FillRules, rulesPartition, done...); err != nil {
		return err
	}
	s.update(func(time.Time) { s.takeRules(ended) })
	return nil
}

// fulfilled says whether every appliance of an urgent rule that is assigned the
// title holds it.
func (p *planner) fulfilled(r *pb.FillRule) bool {
	asset := p.cat.assets[r.GetTitleId()]
	for _, n := range p.nodes {
		if n.presence != present || !covers(r.GetScope(), n) {
			continue
		}
		if slices.ContainsFunc(p.numbers(asset), func(f int32) bool { return n.assigned.files.has(f) && !n.held.has(f) }) {
			return false
		}
	}
	return true
}

// numbers lists the numbers of an asset's files.
func (p *planner) numbers(a *pb.Asset) []int32 {
	out := make([]int32, 0, len(a.GetFiles()))
	for _, f := range a.GetFiles() {
		out = append(out, p.cat.byRef[fileRef{a.GetTitleId(), a.GetVersion(), f.GetPath()}])
	}
	return out
}
