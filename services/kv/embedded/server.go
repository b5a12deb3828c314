package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/kv/kvpb"
	"github.com/flix-lab/flix/services/rpc"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

// Config of a region's store.
type Config struct {
	// Dir holds the store; it is made when missing. One server at a time.
	Dir string
	// Region that the store belongs to.
	Region string
	// RPC serves the region's clients, Replication the stores of other
	// regions; both are bound and speak the same service. Replication may be
	// nil when there is only one region.
	RPC, Replication net.Listener
	// Peers lists the other regions' stores, region → replication address. It
	// is asked again and again, must be cheap, and may include Region itself.
	Peers func() map[string]string
	// Dial connects to a peer over the emulated WAN.
	Dial services.DialFunc
	// Clock is the wall clock; nil is time.Now.
	Clock func() time.Time
	// Tel are the instance's instruments.
	Tel *telemetry.Telemetry
	// Timing gives the intervals: RegistryFetch between looks at Peers,
	// EvictionInterval between steps of the sweep, BreakerSleep as the longest
	// pause before a peer is tried again, RPCTimeout for dead connections.
	Timing topology.Timing
	// TombstoneGrace is how long a deletion is remembered; 0 takes
	// Timing.KafkaRetention, which like it bounds how long a region may be cut
	// off and still catch up.
	TombstoneGrace time.Duration
	// MaxLog is how many writes are kept for a peer that does not answer; 0
	// is 100000. Beyond it the peer gets a full copy when it is back.
	MaxLog uint64
}

const defaultMaxLog = 100_000

// Server is one region's store.
type Server struct {
	kvpb.UnimplementedKVServer

	cfg     Config
	store   *store
	clock   *clock
	repl    *replicator
	metrics *metrics
	rpc     *rpc.Server
}

var _ services.Unit = (*Server)(nil)

// NewServer opens the store. On an error the listeners stay the caller's.
func NewServer(c Config) (*Server, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	st, err := openStore(c.Dir, c.Tel.Log)
	if err != nil {
		return nil, fmt.Errorf("kv of %s: %w", c.Region, err)
	}
	ck := &clock{now: c.Clock}
	s := &Server{cfg: c, store: st, clock: ck, repl: &replicator{
		region: c.Region, store: st, clock: ck, dial: c.Dial, listed: c.Peers, tel: c.Tel, timing: c.Timing,
		maxLog: c.MaxLog, wake: make(chan struct{}, 1), peers: map[string]*peer{},
	}}
	if err := s.repl.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("kv of %s: %w", c.Region, err), st.close())
	}
	s.metrics = newMetrics(c.Tel.Metrics, s.repl)
	s.rpc = rpc.New("kv", c.Tel, grpc.ReadBufferSize(ioBuffer), grpc.WriteBufferSize(ioBuffer))
	kvpb.RegisterKVServer(s.rpc, s)
	return s, nil
}

func (c *Config) complete() error {
	switch {
	case c.Dir == "", c.Region == "", c.RPC == nil, c.Tel == nil:
		return services.Errorf(services.Invalid, "kv: Dir, Region, RPC and Tel are needed")
	case len(c.Region) > 255:
		return services.Errorf(services.Invalid, "kv: region %.16q…: at most 255 bytes", c.Region)
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Peers == nil {
		c.Peers = func() map[string]string { return nil }
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{}).DialContext
	}
	if c.MaxLog == 0 {
		c.MaxLog = defaultMaxLog
	}
	if c.TombstoneGrace == 0 {
		c.TombstoneGrace = c.Timing.KafkaRetention.D()
	}
	return nil
}

// Serve implements services.Unit.
func (s *Server) Serve(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	listeners := []net.Listener{s.cfg.RPC}
	if s.cfg.Replication != nil {
		listeners = append(listeners, s.cfg.Replication)
	}
	g.Go(func() error { return s.rpc.Serve(ctx, 0, listeners...) })
	g.Go(s.store.files.settle)
	g.Go(func() error { return s.repl.run(ctx) })
	g.Go(func() error { return (&sweeper{s: s}).run(ctx) })
	g.Go(func() error {
		select {
		case <-ctx.Done():
		case <-s.store.broken.ch:
		}
		return s.store.broken.cause()
	})
	return errors.Join(g.Wait(), s.store.close())
}
