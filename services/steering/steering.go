// Package steering ranks appliances for a client and a title. It follows cache
// control's stream of what every appliance announces, holds and reports, and
// answers from memory: a decision takes no lock and makes no call.
//
// It never asks an appliance, and it never forgets because cache control is
// away: what it knows then ages, and it says so.
package steering

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/services"
	ccpb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/rpc"
	pb "github.com/flix-lab/flix/services/steering/steeringpb"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

// Deps is what steering needs.
type Deps struct {
	// RPC serves steeringpb.Steering.
	RPC net.Listener
	// CacheControl of the region; its Watch stream feeds the decisions.
	CacheControl ccpb.CacheControlClient
	// Topology orders exchanges by their distance from the client; the zero
	// value makes all other regions equally far. SetTopology replaces it.
	Topology topology.Topology
	// Region of this instance: where a client of an unknown network is taken
	// to be.
	Region string
	// Tel are the instance's instruments.
	Tel *telemetry.Telemetry
	// Timing gives the age at which a report is stale.
	Timing topology.Timing
}

// Server is one steering instance.
type Server struct {
	pb.UnimplementedSteeringServer
	deps    Deps
	log     *slog.Logger
	expiry  time.Duration
	metrics *metrics
	model   *model // owned by the watch loop

	// What decisions read, all without locks.
	table  atomic.Pointer[table]
	places atomic.Pointer[places]
	titles titles
	// waiting holds a *ccpb.WaitingTitle for each title that may not be played
	// yet, by its id: the reason of a refusal.
	waiting sync.Map
	// regions number the regions, for routes and places alike.
	regions regionNames
	// sample is some of the latest decisions, for what-if questions.
	sample sample
	// tally counts misses; loaded is the table of routes read from a file, and
	// reload has a token when that was replaced.
	tally  tally
	loaded atomic.Pointer[topology.RouteTable]
	reload chan struct{}
	// bell rings when what a decision reads has changed, for who follows.
	bell bell
	// ready: a whole snapshot has been received since the start.
	ready atomic.Bool
	// connected: the stream is up and past its snapshot.
	connected atomic.Bool
	// settled is when appliances have had the time to report since then, in Unix
	// milliseconds.
	settled atomic.Int64
}

var _ services.Unit = (*Server)(nil)

// New returns a server that answers once Serve is called.
func New(d Deps) (*Server, error) {
	if d.RPC == nil || d.CacheControl == nil || d.Tel == nil {
		return nil, services.Errorf(services.Invalid, "steering: RPC, CacheControl and Tel are needed")
	}
	if d.Timing.ReportExpiry <= 0 || d.Timing.RPCTimeout <= 0 {
		return nil, services.Errorf(services.Invalid, "steering: report_expiry and rpc_timeout must be above zero")
	}
	s := &Server{deps: d, log: d.Tel.Log, expiry: d.Timing.ReportExpiry.D(), reload: make(chan struct{}, 1)}
	s.model = newModel(s)
	s.table.Store(&table{routes: newPrefixes()})
	s.SetTopology(d.Topology)
	s.metrics = newMetrics(d.Tel.Metrics, s)
	d.Tel.Metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "steering_followers", Help: "Clients that are told when their order changes."}, func() float64 { return float64(s.bell.followers.Load()) }))
	d.Tel.Properties.Watch(s.setProperty)
	return s, nil
}

// SetTopology replaces the topology, e.g. when a region was added.
func (s *Server) SetTopology(t topology.Topology) {
	s.tally.planet.Store(&t)
	s.places.Store(newPlaces(t, &s.regions, s.deps.Region))
	s.bell.ring()
}

// Serve implements services.Unit.
func (s *Server) Serve(ctx context.Context) error {
	srv := rpc.New("steering", s.deps.Tel)
	pb.RegisterSteeringServer(srv, s)
	g, ctx := errgroup.WithContext(ctx)
	// Decisions take microseconds: those under way need no grace.
	g.Go(func() error { return srv.Serve(ctx, 0, s.deps.RPC) })
	g.Go(func() error { s.follow(ctx); return nil })
	return g.Wait()
}
