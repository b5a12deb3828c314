package cachecontrol

import (
	"cmp"
	"context"
	"slices"
	"sync/atomic"
	"time"

	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
)

// FillStatus implements the report on every appliance of every region.
func (s *Server) FillStatus(context.Context, *pb.FillStatusRequest) (*pb.FillStatusReply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.d.Clock()
	s.replan(now) // assignments follow the assets
	reply := &pb.FillStatusReply{Rules: s.planner.rules.active()}
	var nodes []*node
	assigned := map[string]*bitset{} // region → contents, by their first number
	for id, a := range s.appliances {
		n := s.planner.nodes[id]
		if n == nil || !s.inLab(a) {
			continue
		}
		nodes = append(nodes, n)
		reply.Appliances = append(reply.Appliances, s.fillOf(a, n, now))
		if assigned[n.site.region] == nil {
			assigned[n.site.region] = &bitset{}
		}
		assigned[n.site.region].add(n.assigned.files)
	}
	for _, files := range assigned {
		reply.UniqueBytes += s.planner.cat.distinct(*files)
	}
	reply.Time = s.planner.fillTime(nodes, s.rateOf, now)
	reply.Unheld, reply.Waits = s.notPlayable(now)
	for _, w := range reply.Waits {
		reply.Waiting = append(reply.Waiting, w.GetTitleId())
	}
	reply.Uneven, reply.Ignored = s.uneven(), s.ignored()
	slices.SortFunc(reply.Appliances, func(a, b *pb.ApplianceFill) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return reply, nil
}

// inLab says whether the appliance's region is one of the lab: when it was
// taken out, the last report has yet to age.
func (s *Server) inLab(a *appliance) bool {
	_, ok := s.declared.Region(a.hello.GetRegion())
	return ok
}

func (s *Server) fillOf(a *appliance, n *node, now time.Time) *pb.ApplianceFill {
	files, bytes := n.missing(s.planner)
	return &pb.ApplianceFill{
		Name: n.id, Region: n.site.region, Site: n.site.name, Kind: string(n.site.kind),
		Assigned: uint32(n.assigned.count), AssignedBytes: n.assigned.bytes,
		Held: uint32(n.assigned.count - files), HeldBytes: n.assigned.bytes - bytes,
		Filled: a.report.GetFilled(), Healthy: a.report.GetHealthy(), ReportedUnixMs: a.reported.UnixMilli(),
		Blocked: s.planner.blocked(n, false, now), Time: s.planner.fillTime([]*node{n}, s.rateOf, now),
	}
}

// distinct is the bytes of the contents behind some files.
func (c *catalogue) distinct(files bitset) (total uint64) {
	var contents bitset
	files.each(nil, func(f int32) {
		first := c.bySum[c.files[f].sum][0]
		if !contents.has(first) {
			contents.set(first)
			total += c.files[f].file.GetSize()
		}
	})
	return total
}

// FillRun implements the request to compare and fill at once, in all regions.
// The orders it counts are those under way when it answers; what a comparison
// finds missing is ordered as it is reported.
func (s *Server) FillRun(ctx context.Context, r *pb.FillRunRequest) (*pb.FillRunReply, error) {
	var appliances, orders atomic.Uint32
	if !isForwarded(ctx) {
		s.ask(ctx, func(ctx context.Context, _ string, c pb.CacheControlClient) error {
			reply, err := c.FillRun(ctx, r)
			appliances.Add(reply.GetAppliances())
			orders.Add(reply.GetOrders())
			return err
		})
	}
	rescan := &pb.ControlMessage{Body: &pb.ControlMessage_Rescan{Rescan: &pb.Rescan{Deep: r.GetDeep()}}}
	s.update(func(time.Time) {
		if r.GetNow() {
			s.planner.urge()
		}
		for _, a := range s.appliances {
			if a.session != nil {
				a.session.enqueue(outbound{message: rescan})
				appliances.Add(1)
			}
		}
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, a := range s.appliances {
		if a.session != nil {
			orders.Add(uint32(len(s.planner.nodes[id].flights)))
		}
	}
	return &pb.FillRunReply{Appliances: appliances.Load(), Orders: orders.Load()}, nil
}

// Suspect implements the report of a bad copy. It is delivered once, by the
// cache control that the appliance is connected to.
func (s *Server) Suspect(ctx context.Context, r *pb.SuspectRequest) (*pb.SuspectReply, error) {
	s.metrics.suspects.Inc()
	if s.verify(r) {
		return &pb.SuspectReply{Delivered: true}, nil
	}
	if r.GetForwarded() {
		return &pb.SuspectReply{}, nil
	}
	var delivered atomic.Bool
	s.ask(ctx, func(ctx context.Context, _ string, c pb.CacheControlClient) error {
		reply, err := c.Suspect(ctx, &pb.SuspectRequest{
			Appliance: r.GetAppliance(), TitleId: r.GetTitleId(), Version: r.GetVersion(), Path: r.GetPath(), Reporter: r.GetReporter(), Forwarded: true,
		})
		if reply.GetDelivered() {
			delivered.Store(true)
		}
		return err
	})
	return &pb.SuspectReply{Delivered: delivered.Load()}, nil
}

// verify asks an appliance that is connected here to read a file again.
func (s *Server) verify(r *pb.SuspectRequest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.appliances[r.GetAppliance()]
	if a == nil || a.session == nil {
		return false
	}
	a.session.enqueue(outbound{message: verifyMessage(fileRef{r.GetTitleId(), r.GetVersion(), r.GetPath()}.held(0))})
	s.d.Tel.Log.Info("a client suspects a file", "appliance", a.id, "title", r.GetTitleId(), "path", r.GetPath(), "reporter", r.GetReporter())
	return true
}
