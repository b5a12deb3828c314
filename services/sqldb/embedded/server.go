package embedded

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/rpc"
	"github.com/flix-lab/flix/services/sqldb/sqldbpb"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

// Config of a region's node.
type Config struct {
	// Dir holds the database; it is made when missing. One server at a time.
	Dir string
	// Region that the node belongs to.
	Region string
	// RPC serves the region's clients, Replication the nodes of other regions;
	// both are bound and speak the same service. Replication may be nil when
	// there is only one region.
	RPC, Replication net.Listener
	// Primary makes the node the lab's first primary. It counts at the first
	// start only; from then on the node's own state says what it is.
	Primary bool
	// Peers lists the other regions' nodes, region → replication address. It
	// is asked again and again, must be cheap, and may include Region itself.
	Peers func() map[string]string
	// Dial connects to a peer over the emulated WAN.
	Dial services.DialFunc
	// Tel are the instance's instruments.
	Tel *telemetry.Telemetry
	// Timing gives the intervals: RegistryFetch between looks at the peers,
	// RPCTimeout for one call to a peer and for a replica's confirmation,
	// BreakerSleep as the longest pause before a peer is dialled again.
	Timing topology.Timing
}

// Server is one region's node.
type Server struct {
	sqldbpb.UnimplementedSQLServer

	cfg       Config
	history   *history
	peers     *peers
	followers *followers
	metrics   *metrics
	rpc       *rpc.Server
	// checked is closed once the peers have been asked who is primary: until
	// then a primary of an earlier run accepts no write.
	checked chan struct{}
}

var _ services.Unit = (*Server)(nil)

// ioBuffer is enough for connections that carry small messages.
const ioBuffer = 8 << 10

// NewServer opens the database. On an error the listeners stay the caller's.
func NewServer(c Config) (*Server, error) {
	if c.Dir == "" || c.Region == "" || c.RPC == nil || c.Tel == nil {
		return nil, services.Errorf(services.Invalid, "sqldb: Dir, Region, RPC and Tel are needed")
	}
	if c.Peers == nil {
		c.Peers = func() map[string]string { return nil }
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{}).DialContext
	}
	h, err := openHistory(c.Dir, c.Primary)
	if err != nil {
		return nil, fmt.Errorf("sqldb of %s: %w", c.Region, err)
	}
	s := &Server{cfg: c, history: h, followers: newFollowers(), checked: make(chan struct{})}
	s.peers = newPeers(c, h)
	s.metrics = newMetrics(c.Tel.Metrics, s)
	s.rpc = rpc.New("sqldb", c.Tel, grpc.ReadBufferSize(ioBuffer), grpc.WriteBufferSize(ioBuffer))
	sqldbpb.RegisterSQLServer(s.rpc, s)
	return s, nil
}

// Serve implements services.Unit.
func (s *Server) Serve(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	listeners := []net.Listener{s.cfg.RPC}
	if s.cfg.Replication != nil {
		listeners = append(listeners, s.cfg.Replication)
	}
	g.Go(func() error { return s.rpc.Serve(ctx, 0, listeners...) })
	g.Go(func() error { s.peers.watch(ctx, s.checked); return nil })
	g.Go(func() error { return s.play(ctx) })
	return errors.Join(g.Wait(), s.peers.close(), s.history.db.close())
}

// play takes the part that is the node's at the time: a primary looks out for
// a newer one, a replica follows the newest.
func (s *Server) play(ctx context.Context) error {
	for ctx.Err() == nil {
		st, changed := s.history.look()
		lead, moved := s.peers.leader()
		if st.primary {
			if err := s.yield(ctx, st, lead); err != nil && ctx.Err() == nil {
				return err
			}
			if now, _ := s.history.look(); !now.primary {
				continue
			}
			select {
			case <-changed:
			case <-moved:
			case <-ctx.Done():
			}
			continue
		}
		if lead == nil || lead.epoch < st.epoch {
			select {
			case <-changed:
			case <-moved:
			case <-ctx.Done():
			}
			continue
		}
		s.followUntil(ctx, lead)
	}
	return nil
}

// yield makes a primary a replica when another one was promoted after it. Two
// of the same epoch are the work of two promotions at once: the first region
// by name stays.
func (s *Server) yield(ctx context.Context, st state, lead *leader) error {
	if lead == nil || lead.epoch < st.epoch || (lead.epoch == st.epoch && lead.region > s.cfg.Region) {
		return nil
	}
	s.cfg.Tel.Log.Warn("another primary was promoted, this node becomes a replica", "primary", lead.region, "epoch", lead.epoch, "own_epoch", st.epoch)
	_, err := s.history.update(ctx, func(_ *sql.Tx, now *state) error {
		now.primary, now.fenced = false, false
		return nil
	})
	return err
}

// followUntil follows a primary until that fails, another one appears or this
// node is promoted; after a failure it pauses, longer each time in a row.
func (s *Server) followUntil(ctx context.Context, lead *leader) {
	fctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.follow(fctx, lead) }()
	for {
		st, changed := s.history.look()
		now, moved := s.peers.leader()
		if st.primary || (now != nil && (now.region != lead.region || now.addr != lead.addr) && now.epoch >= lead.epoch) {
			cancel()
			<-done
			return
		}
		select {
		case err := <-done:
			s.lost(ctx, lead, err)
			return
		case <-changed:
		case <-moved:
		}
	}
}

// lost notes that a primary cannot be followed now and pauses.
func (s *Server) lost(ctx context.Context, lead *leader, err error) {
	if ctx.Err() != nil {
		return
	}
	s.metrics.interrupted.Inc()
	s.cfg.Tel.Log.Info("replication interrupted", "primary", lead.region, "err", err)
	s.peers.refresh()
	timer := time.NewTimer(s.peers.backoff.next())
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
