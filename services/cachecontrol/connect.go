package cachecontrol

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/flix-lab/flix/services"
	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/topology"
)

// Connect implements the appliance's control channel.
func (s *Server) Connect(stream grpc.BidiStreamingServer[pb.ApplianceMessage, pb.ControlMessage]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	hello := first.GetHello()
	if err := checkHello(hello); err != nil {
		return err
	}
	se := newSession()
	s.update(func(now time.Time) { s.connected(hello, first.GetCounter(), se, now) })
	defer s.update(func(time.Time) { s.disconnected(hello.GetAppliance(), se) })

	received := make(chan error, 1)
	s.tasks.Add(1)
	go func() { // ends with the stream, which ends when this handler returns
		defer s.tasks.Done()
		received <- s.receive(stream, hello.GetAppliance(), se)
	}()
	for {
		select {
		case <-s.lifetime.Done():
			return services.Errorf(services.Unavailable, "cache control %s is stopping", s.d.Instance)
		case <-se.closed:
			return services.Errorf(services.Conflict, "the stream of %s was replaced, or fell too far behind", hello.GetAppliance())
		case err := <-received:
			return err
		case <-se.note:
			for _, o := range se.take() {
				if err := s.deliver(stream, hello.GetAppliance(), o); err != nil {
					return err
				}
			}
		}
	}
}

func checkHello(h *pb.Hello) error {
	switch {
	case h == nil:
		return services.Errorf(services.Invalid, "the first message of an appliance must be Hello")
	case h.GetAppliance() == "" || h.GetRegion() == "" || h.GetSite() == "":
		return services.Errorf(services.Invalid, "Hello lacks appliance, region or site")
	case h.GetKind() != string(topology.SiteISP) && h.GetKind() != string(topology.SiteExchange):
		return services.Errorf(services.Invalid, "Hello: kind %q is neither isp nor exchange", h.GetKind())
	}
	return nil
}

func (s *Server) receive(stream grpc.BidiStreamingServer[pb.ApplianceMessage, pb.ControlMessage], id string, se *session) error {
	for {
		msg, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		s.update(func(now time.Time) { s.apply(id, se, msg, now) })
	}
}

// connected makes an appliance known by its Hello, in place of a stream before
// it or another cache control's view of it. Called with the lock held.
func (s *Server) connected(h *pb.Hello, counter uint64, se *session, now time.Time) {
	a := s.appliances[h.GetAppliance()]
	if a == nil {
		a = &appliance{id: h.GetAppliance()}
		s.appliances[a.id] = a
	}
	if a.session != nil {
		a.session.close()
	}
	a.session, a.counter, a.hidden = se, counter, nil
	a.setHoldings(h.GetHoldings())
	h.Holdings = nil
	a.hello = h
	// A new one is taken for healthy, since it can say Hello, and one that was
	// not, or had no room, stays so; the first report follows at once.
	a.report = &pb.Report{
		Healthy: a.report == nil || a.report.GetHealthy(), Reason: a.report.GetReason(), Unrouted: a.report.GetUnrouted(), Full: a.report.GetFull(),
		UsedBytes: a.bytes, Filled: h.GetFilled(),
	}
	s.touch(a, now)
	s.planner.setNode(a.info(), a.held())
	s.d.Tel.Log.Info("appliance connected", "appliance", a.id, "files", a.files, "bytes", a.bytes)
}

// disconnected lets go of a stream; the appliance stays known until its last
// report expires. Called with the lock held.
func (s *Server) disconnected(id string, se *session) {
	a := s.appliances[id]
	if a == nil || a.session != se {
		return
	}
	a.session = nil
	delete(s.dirty, id)
	s.planner.disconnect(id)
	s.d.Tel.Log.Info("appliance disconnected", "appliance", id)
}

// touch notes a change of an appliance connected here. Called with the lock
// held.
func (s *Server) touch(a *appliance, now time.Time) {
	a.state, a.reported, a.changed = nil, now, now
	s.notify(applianceKey(a.id))
	s.markDirty(a.id)
}

// apply takes one message of an appliance. Called with the lock held.
func (s *Server) apply(id string, se *session, msg *pb.ApplianceMessage, now time.Time) {
	a := s.appliances[id]
	if a == nil || a.session != se || msg.GetCounter() <= a.counter {
		return
	}
	a.counter = msg.GetCounter()
	switch b := msg.GetBody().(type) {
	case *pb.ApplianceMessage_Report:
		progress := filledTotal(b.Report.GetFilled()) > filledTotal(a.report.GetFilled())
		a.report = b.Report
		a.pace.see(b.Report.GetFilled(), now)
		a.hidden = s.shed(a)
		s.planner.setHealth(id, illness(b.Report), progress, now)
		s.planner.setFull(id, b.Report.GetFull())
	case *pb.ApplianceMessage_Held:
		s.applyHeld(a, b.Held)
	case *pb.ApplianceMessage_Removed:
		s.applyRemoved(a, b.Removed)
	case *pb.ApplianceMessage_Routes:
		a.setRoutes(b.Routes)
	case *pb.ApplianceMessage_FillFailed:
		s.applyFailed(a, b.FillFailed, now)
	}
	s.touch(a, now)
}

func filledTotal(f *pb.FillBytes) uint64 { return f.GetCache() + f.GetTier() + f.GetPeer() }

func (s *Server) applyHeld(a *appliance, h *pb.Held) {
	files := make([]heldFile, 0, len(h.GetFiles()))
	for _, f := range h.GetFiles() {
		ref := refOf(f)
		a.add(ref, stockOf(f))
		files = append(files, heldFile{ref: ref, size: f.GetSize()})
		s.events.fill(a, "stored", f, sourceName(h.GetSource()), "")
	}
	a.report = withFilled(a.report, h.GetFilled())
	s.planner.setHeld(a.id, files)
}

func (s *Server) applyRemoved(a *appliance, r *pb.Removed) {
	refs := make([]fileRef, 0, len(r.GetFiles()))
	for _, f := range r.GetFiles() {
		ref := refOf(f)
		if a.remove(ref) {
			s.events.fill(a, "removed", f, "", r.GetReason())
		}
		refs = append(refs, ref)
	}
	s.metrics.removed.WithLabelValues(r.GetReason()).Add(float64(len(refs)))
	s.planner.setLost(a.id, refs)
}

// applyFailed takes the failure of one source, while the order goes on (url is
// set), or of the whole order. An appliance that was a useless source has to
// read its copy again.
func (s *Server) applyFailed(a *appliance, f *pb.FillFailed, now time.Time) {
	ref := refOf(f.GetFile())
	s.metrics.failures.Inc()
	s.events.fill(a, "failed", f.GetFile(), "", f.GetError())
	s.d.Tel.Log.Warn("fill failed", "appliance", a.id, "title", ref.title, "path", ref.path, "url", f.GetUrl(), "error", f.GetError())
	if f.GetUrl() == "" {
		s.planner.setFailed(a.id, ref, now)
		return
	}
	for _, b := range s.appliances {
		if base := b.hello.GetFillUrl(); base == "" || !strings.HasPrefix(f.GetUrl(), base+"/") {
			continue
		}
		s.planner.setRefused(a.id, ref, b.id, now)
		if b.session != nil {
			b.session.enqueue(outbound{message: verifyMessage(f.GetFile())})
		}
	}
}

// deliver sends one order or message; presigned URLs are made only now.
func (s *Server) deliver(stream grpc.BidiStreamingServer[pb.ApplianceMessage, pb.ControlMessage], id string, o outbound) error {
	if o.order == nil {
		return stream.Send(o.message)
	}
	if len(o.order.evict) > 0 {
		ev := &pb.Evict{}
		for _, h := range o.order.evict {
			ev.Files = append(ev.Files, h.ref.held(h.size))
		}
		if err := stream.Send(&pb.ControlMessage{Body: &pb.ControlMessage_Evict{Evict: ev}}); err != nil {
			return err
		}
	}
	fill, err := s.fillOrder(o.order)
	if err != nil {
		s.d.Tel.Log.Error("cannot sign the URL of an order", "appliance", id, "error", err)
		s.update(func(now time.Time) { s.planner.setFailed(id, o.order.file.ref, now) })
		return nil
	}
	return stream.Send(&pb.ControlMessage{Body: &pb.ControlMessage_Fill{Fill: fill}})
}

func (s *Server) fillOrder(o *order) (*pb.FillOrder, error) {
	ref := o.file.ref
	fill := &pb.FillOrder{TitleId: ref.title, Version: ref.version, File: o.file.file}
	for _, src := range o.sources {
		u, err := s.sourceURL(src)
		if err != nil {
			return nil, err
		}
		fill.Sources = append(fill.Sources, &pb.FillSource{Source: src.kind, Appliance: src.appliance, Region: src.region, Url: u})
	}
	if s.d.Origin != nil && o.sources[0].appliance == "" {
		s.d.Tel.Log.Debug("cache fill", "appliance", o.to, "title", ref.title, "path", ref.path, "origin", s.d.Origin(o.sources[0].region))
	}
	return fill, nil
}

func verifyMessage(f *pb.HeldFile) *pb.ControlMessage {
	return &pb.ControlMessage{Body: &pb.ControlMessage_Verify{Verify: &pb.Verify{File: f}}}
}

// rpcContext bounds a call that this server makes.
func (s *Server) rpcContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.d.Timing.RPCTimeout.D())
}
