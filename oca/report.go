package oca

import (
	"cmp"
	"context"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"

	"github.com/flix-lab/flix/services"
	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
)

// firstBackoff is the first wait before another try.
const firstBackoff = 10 * time.Millisecond

type controlStream = grpc.BidiStreamingClient[pb.ApplianceMessage, pb.ControlMessage]

// controlLoop keeps one stream to a cache control. A lost one is replaced at
// once, then with growing, jittered waits.
func (s *Server) controlLoop(ctx context.Context) error {
	s.whole(ctx)
	wait := firstBackoff
	for ctx.Err() == nil {
		start := time.Now()
		region, err := s.session(ctx)
		if ctx.Err() != nil {
			return nil
		}
		s.d.Tel.Log.Debug("control stream ended", "region", region, "error", err)
		s.metrics.reconnects.Inc()
		if time.Since(start) > s.d.Timing.HealthReport.D() {
			wait = firstBackoff
		}
		// Half to all of the wait, so that a site's appliances spread.
		if !sleep(ctx, wait/2+rand.N(wait/2)) {
			return nil
		}
		wait = max(firstBackoff, min(2*wait, s.d.Timing.HealthReport.D()))
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// session runs one stream until it breaks or a nearer cache control is back.
func (s *Server) session(ctx context.Context) (region string, err error) {
	c, region, err := s.pick(ctx)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Connect(ctx)
	if err != nil {
		return region, err
	}
	s.learning.Lock()
	s.store.snapshot(func(files []*pb.HeldFile, filled fillBytes) { s.outbox.start(s.hello(files, filled)) })
	s.learning.Unlock()
	defer s.outbox.stop()
	received := make(chan error, 1)
	go func() { received <- s.obey(stream) }()
	err = s.talk(ctx, stream, region, received)
	cancel()
	if err != errStreamEnded {
		<-received
	}
	return region, err
}

func (s *Server) pick(ctx context.Context) (pb.CacheControlClient, string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.d.Timing.RPCTimeout.D())
	defer cancel()
	return s.d.Control(ctx)
}

var errStreamEnded = services.Errorf(services.Unavailable, "cache control ended the stream")

// talk sends what the outbox has, and a report every HealthReport and when
// health changes.
func (s *Server) talk(ctx context.Context, stream controlStream, region string, received <-chan error) error {
	if err := s.flush(stream); err != nil {
		return err
	}
	s.report()
	every := s.d.Timing.HealthReport.D()
	t := time.NewTimer(untilBeat(time.Now(), every))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-received:
			s.d.Tel.Log.Debug("control stream broke", "error", err)
			return errStreamEnded
		case <-s.outbox.note:
			if err := s.flush(stream); err != nil {
				return err
			}
		case <-s.health.note:
			s.report()
		case <-t.C:
			t.Reset(untilBeat(time.Now(), every))
			s.report()
			if region == s.d.Region {
				continue
			}
			if _, now, err := s.pick(ctx); err == nil && now != region {
				return services.Errorf(services.Unavailable, "the cache control of %s is back", now)
			}
		}
	}
}

func (s *Server) flush(stream controlStream) error {
	queue, ok := s.outbox.take()
	for _, m := range queue {
		if err := stream.Send(m); err != nil {
			return err
		}
	}
	if !ok {
		return services.Errorf(services.Exhausted, "too much waited for cache control: saying everything again")
	}
	return nil
}

func (s *Server) hello(files []*pb.HeldFile, filled fillBytes) *pb.Hello {
	say := s.announces.Load()
	return &pb.Hello{
		Appliance: string(s.d.ID), Region: s.d.Region, Site: s.d.Site.Name, Kind: string(s.d.Site.Kind), Asn: s.d.Site.ASN, Prefixes: say.prefixes, Routes: say.routes,
		ClientUrl: s.d.ClientURL, FillUrl: s.d.FillURL, PlainUrl: s.d.PlainURL, CapacityBytes: uint64(s.d.Appliance.Capacity), BandwidthBps: uint64(s.d.Appliance.Bandwidth),
		FillBps:  uint64(cmp.Or(s.d.Appliance.FillBandwidth, s.d.Appliance.Bandwidth)),
		Holdings: &pb.Holdings{Files: files}, Filled: filled.message(),
	}
}

// report queues a health report.
func (s *Server) report() {
	used, _, filled := s.store.usage()
	reason, full := s.health.reason(), s.health.noRoom()
	s.outbox.send(&pb.ApplianceMessage{Body: &pb.ApplianceMessage_Report{Report: &pb.Report{
		Healthy: reason == "", Reason: cmp.Or(reason, full), Unrouted: s.health.unrouted(), Full: full != "", Load: s.health.load(), BytesServed: s.sent.Load(),
		Connections: uint64(max(0, s.connections())), UsedBytes: used, Filled: filled.message(), Shed: s.health.shedding(),
	}}})
}

// obey carries out what cache control says until the stream ends. Nothing here
// waits for a disk or a network, except that room is made before the fill that
// needs it.
func (s *Server) obey(stream controlStream) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		switch b := m.GetBody().(type) {
		case *pb.ControlMessage_Fill:
			s.filler.order(b.Fill)
		case *pb.ControlMessage_Verify:
			s.verifyFile(refOf(b.Verify.GetFile()))
		case *pb.ControlMessage_Rescan:
			s.doubts.rescan(b.Rescan.GetDeep())
		case *pb.ControlMessage_Evict:
			s.evict(b.Evict.GetFiles())
		}
	}
}

func (s *Server) evict(files []*pb.HeldFile) {
	refs := make([]ref, 0, len(files))
	for _, f := range files {
		refs = append(refs, refOf(f))
	}
	if _, err := s.store.remove(refs, reasonEvicted); err != nil {
		s.diskFailed(err)
	}
}
