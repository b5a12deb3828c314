package embedded

import (
	"context"
	"errors"
	"maps"
	"net"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/rpc"
	"github.com/flix-lab/flix/services/sqldb/sqldbpb"
)

// Metadata of State between nodes: who asks, what it has applied, and which
// epoch it knows. A primary counts a replica's confirmation by it, and a node
// that hears of a newer epoch looks at its peers at once.
const (
	mdRegion  = "flix-sql-region"
	mdApplied = "flix-sql-applied"
	mdEpoch   = "flix-sql-epoch"
)

// leader is the newest primary that the peers tell of.
type leader struct {
	region, addr string
	epoch        uint64
}

// link is the connection to one peer.
type link struct {
	addr string
	conn *grpc.ClientConn
	rpc  sqldbpb.SQLClient
	// silent is how many calls in a row nothing came back for; under peers.mu.
	silent int
}

// silences in a row have a link dropped. One alone may be a peer that is short of
// processor time, and dialing it anew would make that worse.
const silences = 2

// peers knows the other regions' nodes.
type peers struct {
	cfg     Config
	history *history
	wake    chan struct{}
	backoff backoff

	mu     sync.Mutex
	links  map[string]*link
	states map[string]*sqldbpb.StateReply // of those that answered last time
	lead   *leader
	moved  chan struct{} // closed after each look at the peers
}

func newPeers(c Config, h *history) *peers {
	return &peers{
		cfg: c, history: h, wake: make(chan struct{}, 1), links: map[string]*link{},
		states: map[string]*sqldbpb.StateReply{}, moved: make(chan struct{}),
		backoff: backoff{most: c.Timing.BreakerSleep.D()},
	}
}

// refresh makes watch look at the peers now.
func (p *peers) refresh() {
	select {
	case p.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// leader returns the newest primary, nil when none is known, and a channel
// that is closed after the next look.
func (p *peers) leader() (*leader, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lead, p.moved
}

// newestEpoch that any peer told of.
func (p *peers) newestEpoch() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	var e uint64
	for _, s := range p.states {
		e = max(e, s.GetEpoch())
	}
	return e
}

// watch looks at the peers until ctx ends, at first often, then at the
// interval of registry fetches. It closes checked after the first look.
func (p *peers) watch(ctx context.Context, checked chan<- struct{}) {
	pause := firstBackoff
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-timer.C:
			pause = min(2*pause, max(p.cfg.Timing.RegistryFetch.D(), firstBackoff))
			timer.Reset(pause)
		}
		p.look(ctx)
		if checked != nil {
			close(checked)
			checked = nil
		}
	}
}

// look asks every peer for its state and settles who leads.
func (p *peers) look(ctx context.Context) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	states := map[string]*sqldbpb.StateReply{}
	for region, l := range p.connect() {
		wg.Go(func() {
			if r, err := p.state(ctx, region, l); err == nil {
				mu.Lock()
				defer mu.Unlock()
				states[region] = r
			}
		})
	}
	wg.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.states, p.lead = states, nil
	for region, r := range states {
		better := p.lead == nil || r.GetEpoch() > p.lead.epoch || (r.GetEpoch() == p.lead.epoch && region < p.lead.region)
		if l := p.links[region]; r.GetPrimary() && better && l != nil {
			p.lead = &leader{region: region, addr: l.addr, epoch: r.GetEpoch()}
		}
	}
	close(p.moved)
	p.moved = make(chan struct{})
}

// connect brings the links in line with the configured peers; it waits for
// nothing.
func (p *peers) connect() map[string]*link {
	want := maps.Clone(p.cfg.Peers())
	delete(want, p.cfg.Region)
	p.mu.Lock()
	defer p.mu.Unlock()
	for region, l := range p.links {
		if want[region] != l.addr {
			p.drop(region, l)
		}
	}
	for region, addr := range want {
		if addr == "" || p.links[region] != nil {
			continue
		}
		conn, err := grpc.NewClient("passthrough:///"+addr, p.dialOptions()...)
		if err != nil { // only a malformed address
			p.cfg.Tel.Log.Error("peer has no usable address", "peer", region, "addr", addr, "err", err)
			continue
		}
		p.links[region] = &link{addr: addr, conn: conn, rpc: sqldbpb.NewSQLClient(conn)}
	}
	return maps.Clone(p.links)
}

func (p *peers) dialOptions() []grpc.DialOption {
	return append(append(p.cfg.Tel.DialOptions(), rpc.DialOptions()...),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, a string) (net.Conn, error) { return p.cfg.Dial(ctx, "tcp", a) }),
		grpc.WithReadBufferSize(ioBuffer), grpc.WithWriteBufferSize(ioBuffer), grpc.WithIdleTimeout(0),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           grpcbackoff.Config{BaseDelay: firstBackoff, Multiplier: 2, Jitter: 0.2, MaxDelay: max(p.cfg.Timing.BreakerSleep.D(), firstBackoff)},
			MinConnectTimeout: p.cfg.Timing.RPCTimeout.D(),
		}))
}

// drop closes a link; the caller holds mu.
func (p *peers) drop(region string, l *link) {
	if err := l.conn.Close(); err != nil {
		p.cfg.Tel.Log.Debug("close link", "peer", region, "err", err)
	}
	delete(p.links, region)
}

func (p *peers) link(region string) *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.links[region]
}

func (p *peers) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, l := range p.links {
		errs = append(errs, l.conn.Close())
	}
	p.links = nil
	return errors.Join(errs...)
}

// unsampled keeps calls that nobody asked for out of the bounded store of
// spans, on both sides: they would push the traces of plays out of it.
func unsampled(ctx context.Context) context.Context {
	return trace.ContextWithSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}}))
}

// state asks a peer what it is, and tells it what this node has. A link on
// which nothing comes back twice is dropped: TCP may take minutes to notice.
func (p *peers) state(ctx context.Context, region string, l *link) (*sqldbpb.StateReply, error) {
	cctx, cancel := context.WithTimeout(ctx, p.cfg.Timing.RPCTimeout.D())
	defer cancel()
	own, _ := p.history.look()
	md := metadata.Pairs(mdRegion, p.cfg.Region, mdApplied, strconv.FormatUint(own.position, 10), mdEpoch, strconv.FormatUint(own.epoch, 10))
	r, err := l.rpc.State(metadata.NewOutgoingContext(unsampled(cctx), md), &sqldbpb.StateRequest{})
	p.heard(region, l, err == nil || ctx.Err() != nil || cctx.Err() == nil)
	if err != nil {
		return nil, err
	}
	if r.GetRegion() != region {
		return nil, services.Errorf(services.Unavailable, "the node of %s answers at %s, not of %s", r.GetRegion(), l.addr, region)
	}
	return r, nil
}

// heard counts the calls that nothing came back for, not even a refusal, and drops
// a link after the second in a row.
func (p *peers) heard(region string, l *link, something bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if something {
		l.silent = 0
		return
	}
	if l.silent++; l.silent >= silences && p.links[region] == l {
		p.drop(region, l)
	}
}
