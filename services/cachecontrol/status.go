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
	s.replan(s.d.Clock()) // assignments follow the assets
	reply := &pb.FillStatusReply{}
	assigned := map[string]map[checksum]uint64{} // region → content → size
	planet := s.d.Topology()
	for id, a := range s.appliances {
		if _, ok := planet.Region(a.hello.GetRegion()); !ok {
			continue // its region was taken out of the lab; its last report has yet to age
		}
		n := s.planner.nodes[id]
		fill := &pb.ApplianceFill{
			Name: id, Region: a.hello.GetRegion(), Site: a.hello.GetSite(), Kind: a.hello.GetKind(),
			Assigned: uint32(n.assigned.count), AssignedBytes: n.assigned.bytes, Filled: a.report.GetFilled(),
			Healthy: a.report.GetHealthy(), ReportedUnixMs: a.reported.UnixMilli(),
		}
		contents := assigned[fill.Region]
		if contents == nil {
			contents = map[checksum]uint64{}
			assigned[fill.Region] = contents
		}
		n.assigned.files.each(nil, func(f int32) {
			file := s.planner.cat.files[f]
			contents[file.sum] = file.file.GetSize()
			if n.held.has(f) {
				fill.Held++
				fill.HeldBytes += file.file.GetSize()
			}
		})
		reply.Appliances = append(reply.Appliances, fill)
	}
	for _, contents := range assigned {
		for _, size := range contents {
			reply.UniqueBytes += size
		}
	}
	slices.SortFunc(reply.Appliances, func(a, b *pb.ApplianceFill) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return reply, nil
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
