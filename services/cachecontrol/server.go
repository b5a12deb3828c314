package cachecontrol

import (
	"context"
	"hash/maphash"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/flix-lab/flix/services"
	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/kv"
	"github.com/flix-lab/flix/services/rpc"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

// maxMessage bounds one message of an appliance: a Hello lists everything that
// it stores, some sixty bytes a file.
const maxMessage = 64 << 20

// Deps is what a cache control needs.
type Deps struct {
	// RPC serves gRPC; the server closes it.
	RPC net.Listener
	// Region and Instance say who this cache control is.
	Region, Instance string
	// KV is the region's wide-column store: assets and the appliances that
	// are connected to other cache controls come from it.
	KV kv.Store
	// Events receives TitleEvent and FillEvent; nil drops them.
	Events interface {
		Send(ctx context.Context, topic, key string, event any) error
	}
	// Peers returns a client of another region's cache control, false if
	// there is none; nil for a lab of one region.
	Peers func(region string) (pb.CacheControlClient, bool)
	// Regions lists all regions of the lab, this one too; nil like Peers.
	Regions func() []string
	// Origin returns the base URL of a region's object store, for logs; may
	// be nil.
	Origin func(region string) string
	// Presign returns a signed URL to GET an object of the bucket "media" of
	// a region's object store. It does no I/O.
	Presign func(region, key string) (string, error)
	// Topology returns the planet as declared now.
	Topology func() topology.Topology
	// Tel is the instance's instruments.
	Tel *telemetry.Telemetry
	// Timing holds every interval.
	Timing topology.Timing
	// Clock is the wall clock; nil means time.Now. The fill window is judged
	// by its time in its location.
	Clock func() time.Time
}

// Server is one cache control. Use New.
type Server struct {
	pb.UnimplementedCacheControlServer
	d       Deps
	metrics *metrics
	events  *eventQueue

	// lifetime ends when the server begins to stop; streams and calls in the
	// background, which no caller's context bounds, end by it.
	lifetime context.Context
	stop     context.CancelFunc
	// tasks counts goroutines that outlive the call that started them.
	tasks sync.WaitGroup
	// whole is closed when all of the store has been read once. Who watches is
	// told nothing before: what a cache control that has just started does not
	// know yet would look like titles and appliances that are gone.
	whole     chan struct{}
	readWhole func()

	mu          sync.Mutex // guards what follows
	planner     *planner
	appliances  map[string]*appliance
	declared    topology.Topology
	subscribers map[*subscriber]struct{}
	dirty       map[string]struct{} // appliances to persist
	dirtyNote   chan struct{}
	seed        maphash.Seed
	seenAssets  map[string]uint64 // hash of the store's copy, by title
	// told is the version of each title whose publication this instance has
	// put, or need not put, into the pipeline.
	told map[string]uint64
	// synced: assets have been read from the store once.
	synced bool
	// departed holds the last counter of appliances that are gone while the
	// store still has a copy, lest they come back to life from it.
	departed map[string]uint64
	// withheld are titles that may not be played yet, and so are not shown; shown
	// is the version of each title that may.
	withheld map[string]struct{}
	shown    map[string]*pb.Asset
	// unevenSites are the sites that were last found to announce differently.
	unevenSites []string
}

// New returns a cache control that serves when Serve is called.
func New(d Deps) (*Server, error) {
	for name, missing := range map[string]bool{"RPC": d.RPC == nil, "KV": d.KV == nil, "Presign": d.Presign == nil, "Topology": d.Topology == nil, "Tel": d.Tel == nil} {
		if missing {
			return nil, services.Errorf(services.Invalid, "cachecontrol: Deps.%s is missing", name)
		}
	}
	if d.Clock == nil {
		d.Clock = time.Now
	}
	s := &Server{
		d:          d,
		appliances: map[string]*appliance{}, subscribers: map[*subscriber]struct{}{},
		dirty: map[string]struct{}{}, dirtyNote: make(chan struct{}, 1), seenAssets: map[string]uint64{}, told: map[string]uint64{},
		seed: maphash.MakeSeed(), departed: map[string]uint64{}, withheld: map[string]struct{}{}, shown: map[string]*pb.Asset{},
	}
	s.whole = make(chan struct{})
	s.readWhole = sync.OnceFunc(func() { close(s.whole) })
	s.lifetime, s.stop = context.WithCancel(context.Background())
	s.planner = newPlanner(d.Timing, func(region string) []string { return s.declared.Nearest(region) })
	s.metrics = newMetrics(s)
	s.events = newEventQueue(d, s.metrics)
	s.declare(d.Clock())
	return s, nil
}

// Serve implements services.Unit.
func (s *Server) Serve(ctx context.Context) error {
	g := rpc.New("cachecontrol", s.d.Tel, grpc.MaxRecvMsgSize(maxMessage))
	pb.RegisterCacheControlServer(g, s)
	group, ctx := errgroup.WithContext(ctx)
	// Streams end by lifetime; a unary call in flight gets this long.
	group.Go(func() error { return g.Serve(ctx, s.d.Timing.RPCTimeout.D(), s.d.RPC) })
	group.Go(func() error { return s.syncLoop(ctx) })
	group.Go(func() error { return s.tickLoop(ctx) })
	group.Go(func() error { return s.persistLoop(ctx) })
	group.Go(func() error { return s.events.run(ctx) })
	group.Go(func() error {
		<-ctx.Done()
		s.stop()
		return nil
	})
	err := group.Wait()
	s.tasks.Wait()
	return err
}

// update changes the state under the lock, then plans and hands out the orders
// that follow from the change.
func (s *Server) update(change func(now time.Time)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.d.Clock()
	change(now)
	s.replan(now)
}

// replan gives the orders that can be given. Called with the lock held.
func (s *Server) replan(now time.Time) {
	for _, o := range s.planner.plan(now) {
		a := s.appliances[o.to]
		if a == nil || a.session == nil {
			continue // it has just gone; its return repeats the order
		}
		a.session.enqueue(outbound{order: &o})
		s.metrics.orders.WithLabelValues(sourceName(o.sources[0].kind)).Inc()
	}
}

func (s *Server) tickLoop(ctx context.Context) error {
	t := time.NewTicker(s.d.Timing.CacheControlSync.D())
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			s.update(func(now time.Time) {
				s.declare(now)
				s.expire(now)
				s.planner.tick(now)
				s.release(now)
				s.watchPrefixes()
			})
		}
	}
}

// declare tells the planner what the topology declares now. Called with the
// lock held, or before anybody else knows the server.
func (s *Server) declare(now time.Time) {
	s.declared = s.d.Topology()
	s.planner.declare(s.declared, now)
}

// expire lets go of appliances not heard of for ReportExpiry. Called with the
// lock held.
func (s *Server) expire(now time.Time) {
	for id, a := range s.appliances {
		if now.Sub(a.changed) < s.d.Timing.ReportExpiry.D() {
			continue
		}
		s.d.Tel.Log.Warn("appliance is gone: no report in time", "appliance", id, "connected", a.session != nil)
		if a.session != nil {
			a.session.close()
		}
		delete(s.appliances, id)
		s.departed[id] = a.counter
		delete(s.dirty, id)
		s.planner.setGone(id)
		s.notify(applianceKey(id))
	}
}

func sourceName(k pb.Source) string {
	switch k {
	case pb.Source_SOURCE_CACHE:
		return "cache"
	case pb.Source_SOURCE_TIER:
		return "tier"
	case pb.Source_SOURCE_PEER:
		return "peer"
	}
	return "local"
}
