package cachecontrol

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/flix-lab/flix/services"
	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
)

// maxMoves bounds the moves of one answer.
const maxMoves = 1000

// FillPlan implements the question what would move. Each region's cache control
// answers for the appliances that are connected to it; for those that none has,
// the one that was asked answers by what it knows.
func (s *Server) FillPlan(ctx context.Context, r *pb.FillPlanRequest) (*pb.FillPlanReply, error) {
	if err := s.checkQuestion(r.GetScope(), r.GetTitleId()); err != nil {
		return nil, err
	}
	limit := int(cmp.Or(r.GetLimit(), maxMoves))
	if isForwarded(ctx) {
		return s.planView(r, limit, func(n *node) bool { return n.connected }), nil
	}
	var (
		mu     sync.Mutex
		others []*pb.FillPlanReply
	)
	s.ask(ctx, func(ctx context.Context, _ string, c pb.CacheControlClient) error {
		reply, err := c.FillPlan(ctx, r)
		if err == nil {
			mu.Lock()
			others = append(others, reply)
			mu.Unlock()
		}
		return err
	})
	answered := map[string]*pb.AppliancePlan{}
	for _, o := range others {
		for _, a := range o.GetAppliances() {
			answered[a.GetName()] = a
		}
	}
	reply := s.planView(r, limit, func(n *node) bool { return answered[n.id] == nil })
	for _, o := range others {
		reply.Appliances = append(reply.Appliances, o.GetAppliances()...)
		reply.Moves = append(reply.Moves, o.GetMoves()...)
		reply.LeftOff += o.GetLeftOff()
	}
	slices.SortFunc(reply.Appliances, func(a, b *pb.AppliancePlan) int { return cmp.Compare(a.GetName(), b.GetName()) })
	if over := len(reply.Moves) - limit; over > 0 {
		reply.Moves, reply.LeftOff = reply.Moves[:limit], reply.LeftOff+uint32(over)
	}
	return reply, nil
}

// checkQuestion says what a question names that there is not.
func (s *Server) checkQuestion(scope, title string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.planner.knowsScope(scope); err != nil {
		return err
	}
	if title != "" && s.planner.cat.assets[title] == nil {
		return services.Errorf(services.NotFound, "no title %q is published", title).WithReason(services.ReasonNoTitle).WithRemedy("flix title ls lists the titles")
	}
	return nil
}

// planView is the plan as this cache control sees it; moves are of the
// appliances that mine says yes to.
func (s *Server) planView(r *pb.FillPlanRequest, limit int, mine func(*node) bool) *pb.FillPlanReply {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.d.Clock()
	s.replan(now)
	reply := &pb.FillPlanReply{}
	var nodes []*node
	for _, n := range s.planner.inOrder() {
		if a := s.appliances[n.id]; !covers(r.GetScope(), n) || a != nil && !s.inLab(a) {
			continue
		}
		nodes = append(nodes, n)
		if !mine(n) {
			continue
		}
		reply.Appliances = append(reply.Appliances, s.appliancePlan(n, now))
		s.planner.moves(reply, n, r.GetTitleId(), limit, now)
	}
	reply.Time = s.planner.fillTime(nodes, s.rateOf, now)
	reply.Sites = s.planner.placements(r.GetScope())
	return reply
}

func (s *Server) appliancePlan(n *node, now time.Time) *pb.AppliancePlan {
	files, _ := n.missing(s.planner)
	return &pb.AppliancePlan{
		Name: n.id, Region: n.site.region, Site: n.site.name, Kind: string(n.site.kind), Missing: uint32(files), InFlight: uint32(len(n.flights)),
		Blocked: s.planner.blocked(n, false, now), RemovableBytes: n.removable(s.planner), Time: s.planner.fillTime([]*node{n}, s.rateOf, now),
	}
}

// moves adds what an appliance lacks, in the order of fill.
func (p *planner) moves(reply *pb.FillPlanReply, n *node, title string, limit int, now time.Time) {
	var lacks []int32
	n.assigned.files.each(n.held, func(f int32) {
		if title == "" || p.cat.files[f].ref.title == title {
			lacks = append(lacks, f)
		}
	})
	rank := n.site.feed.rank
	slices.SortFunc(lacks, func(a, b int32) int { return cmp.Compare(rank[a], rank[b]) })
	for _, f := range lacks {
		if len(reply.GetMoves()) >= limit {
			reply.LeftOff++
			continue
		}
		ref := p.cat.files[f].ref
		reply.Moves = append(reply.Moves, &pb.PlannedMove{Appliance: n.id, TitleId: ref.title, Version: ref.version, File: p.fileOutlook(n, f, now)})
	}
}

// placements describes the sites that a scope touches.
func (p *planner) placements(scope string) []*pb.SitePlacement {
	var out []*pb.SitePlacement
	for _, s := range p.sites {
		if scope == "" || scope == s.region || s.covered(scope) {
			out = append(out, s.describe())
		}
	}
	slices.SortFunc(out, func(a, b *pb.SitePlacement) int { return cmp.Compare(a.GetSite(), b.GetSite()) })
	return out
}

func (s *site) describe() *pb.SitePlacement {
	pl := s.placement
	if pl == nil {
		pl = &placement{}
	}
	return &pb.SitePlacement{
		Site: s.name, Region: s.region, Appliances: uint32(len(pl.members)), Titles: uint32(pl.placed), Unplaced: uint32(pl.unplaced),
		Popular: uint32(pl.popular), CutOff: pl.cutOff, PopularBytes: pl.popularBytes, StoredBytes: pl.stored, CapacityBytes: pl.capacity, Imbalance: pl.imbalance,
	}
}

// FillExplain implements the question why a title is, or is not, somewhere.
func (s *Server) FillExplain(ctx context.Context, r *pb.FillExplainRequest) (*pb.FillExplainReply, error) {
	if err := s.checkQuestion(r.GetAppliance(), r.GetTitleId()); err != nil {
		return nil, err
	}
	own, err := s.explain(r)
	if err != nil || own.GetOwn() || isForwarded(ctx) {
		return own, err
	}
	var (
		mu     sync.Mutex
		better *pb.FillExplainReply
	)
	s.ask(ctx, func(ctx context.Context, _ string, c pb.CacheControlClient) error {
		reply, err := c.FillExplain(ctx, r)
		if reply.GetOwn() {
			mu.Lock()
			better = reply
			mu.Unlock()
		}
		return err
	})
	return cmp.Or(better, own), nil
}

func (s *Server) explain(r *pb.FillExplainRequest) (*pb.FillExplainReply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.d.Clock()
	s.replan(now)
	n := s.planner.nodes[r.GetAppliance()]
	if n == nil {
		return nil, services.Errorf(services.NotFound, "no appliance is called %q", r.GetAppliance()).WithRemedy("flix fill status lists the appliances")
	}
	a := s.planner.cat.assets[r.GetTitleId()]
	out := &pb.FillExplainReply{
		TitleId: a.GetTitleId(), Name: a.GetName(), Version: a.GetVersion(), Appliance: n.id, Region: n.site.region, Site: n.site.name,
		Planner: s.d.Instance, Own: n.connected, Placement: n.site.describe(),
	}
	out.Files = s.explainFiles(n, a, now)
	out.State, out.Why = summary(out.GetFiles())
	out.Checks = s.checks(n, a, now)
	return out, nil
}

// explainFiles says of each file of a title where it came or would come from.
func (s *Server) explainFiles(n *node, a *pb.Asset, now time.Time) []*pb.FileOutlook {
	var out []*pb.FileOutlook
	files := s.planner.numbers(a)
	slices.SortFunc(files, func(a, b int32) int { return cmp.Compare(n.site.feed.rank[a], n.site.feed.rank[b]) })
	for _, f := range files {
		x := s.planner.fileOutlook(n, f, now)
		placed := n.assigned.files.has(f)
		switch {
		case n.held.has(f):
			if ap := s.appliances[n.id]; ap != nil {
				x.Source, x.From = ap.origin(s.planner.cat.files[f].ref)
			}
			if !placed {
				x.Why = "it has no place here any more and goes when its room is needed"
			}
		case !placed:
			x.State, x.Why = stateNotAssigned, ""
			if x.GetFrom() != "" {
				x.Why = "if it had a place here it would come from there"
			}
		}
		out = append(out, x)
	}
	return out
}

// summary is a title's state by its files', and a sentence on it.
func summary(files []*pb.FileOutlook) (state, why string) {
	n := map[string]int{}
	var first *pb.FileOutlook
	for _, f := range files {
		n[f.GetState()]++
		if first == nil && f.GetState() != stateHeld {
			first = f
		}
	}
	switch {
	case n[stateHeld] == len(files):
		return stateHeld, "all of it is stored"
	case n[stateNotAssigned] > 0:
		return stateNotAssigned, "it has no place here"
	case n[stateInFlight] > 0:
		return "filling", fmt.Sprintf("%d of %s stored, %d under way", n[stateHeld], count(len(files), "file is", "files are"), n[stateInFlight])
	case n[stateReady] > 0:
		return "filling", fmt.Sprintf("%d of %s stored, the others wait for their turn", n[stateHeld], count(len(files), "file is", "files are"))
	case n[stateBlocked] > 0:
		return stateBlocked, first.GetWhy()
	}
	return stateWaiting, strings.TrimSpace(first.GetWhy() + " (" + first.GetFrom() + ")")
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
