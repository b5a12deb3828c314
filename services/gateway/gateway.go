package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/gateway/wire"
	"github.com/flix-lab/flix/services/lookup"
	"github.com/flix-lab/flix/services/rpc"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/services/token"
	"github.com/flix-lab/flix/topology"
)

// maxHeaderBytes bounds the header of a request.
const maxHeaderBytes = 64 << 10

// Lookup answers which instances of a VIP are up, from memory.
// *lookup.Client is one.
type Lookup interface {
	VIP(vip string) []lookup.Instance
}

// RemoteGateway is a gateway of another region.
type RemoteGateway struct {
	// ID of the instance and its region.
	ID, Region string
	// Addr is host:port of its TLS port.
	Addr string
}

// Deps are what a gateway is made of.
type Deps struct {
	// TLS is where the balancers of the region connect for clients: PROXY
	// v2, then TLS 1.3 with HTTP/2 or HTTP/1.1; nil for none.
	TLS net.Listener
	// TLSConfig carries the certificate for the hosts of the public API.
	TLSConfig *tls.Config
	// HTTP takes plain HTTP/1.1, for browsers on this machine, and HTTP/2 of
	// clients that begin with it; nil for none.
	HTTP net.Listener
	// Instance is this gateway's id, Region and Zone where it stands.
	Instance, Region, Zone string
	// Lookup finds the instances of this region's APIs.
	Lookup Lookup
	// Remote returns the live gateways of another region, from memory.
	Remote func(region string) []RemoteGateway
	// Lacks names a service without which a region serves no play, which it has
	// had and has not now; "" is none. It answers from memory: it is called for
	// every request. Nil is no such knowledge.
	Lacks func(region string) string
	// Dial opens connections to instances of the region and, over the WAN, to
	// gateways of others; nil is a plain one.
	Dial services.DialFunc
	// RootCAs verifies the gateways of other regions, which all carry a
	// certificate for api.flix.test.
	RootCAs *x509.CertPool
	// OriginCAs verify fixed origins over TLS; nil takes the system's.
	OriginCAs *x509.CertPool
	// Key verifies member tokens and signs the proof between gateways.
	Key token.Key
	// Topology tells a client's ISP and country by address, and which
	// regions are near. It must be cheap: it is called for every request.
	Topology func() topology.Topology
	// OriginCIDRs are the networks that instances may lie in; at least one.
	OriginCIDRs []netip.Prefix
	// TrustedProxies may tell a client's address with a PROXY header. From
	// any other peer such a header ends the connection.
	TrustedProxies []netip.Prefix
	// Filters run besides the built-in ones, in the place their phase and
	// order say; may be nil.
	Filters []Filter
	// Tel is the instance's telemetry.
	Tel *telemetry.Telemetry
	// Timing: RPCTimeout bounds headers (×5), one try (×10) and a whole
	// request until its answer begins (×30); MaxConnectionAge bounds
	// connections; BreakerSleep is how long an instance that refused a
	// connection is left out.
	Timing topology.Timing
	// DrainFor is how long requests under way may last once the gateway ends: it
	// takes no connections any more, says so to the clients it has, and waits.
	// With 0 they are cut off, as where somebody has drained it before.
	DrainFor time.Duration
	// Faults are the injected ones; nil for none.
	Faults *rpc.Injector
	// PlayPath is where a POST begins a play; EdgeReport counts these by
	// themselves. "" is none.
	PlayPath string
}

// Server is one gateway. Use New.
type Server struct {
	d        Deps
	gate     gate
	conns    sync.WaitGroup
	settings settings
	chain    *chain
	servers  balancer
	guards   guards
	// Sources of servers, made once: a method value costs an allocation.
	own, fixed, favoured func(*Exchange, []server) []server
	transports           *transports
	metrics              *metrics
	edge                 edgeCounts
	// lacking is what the region lacked when a request last came.
	lacking atomic.Pointer[string]

	// What the built-in filters need.
	counted    func(*Exchange)
	traces     sampler
	tokens     *tokenCache
	places     *places
	limiter    limiter
	cors       cors
	shedder    shedder
	compressor compressor

	copies sync.Pool

	tls          *tls.Config
	bounds       wire.Limits
	grace        time.Duration // for a client that has ended its sending
	buffers      *wire.Buffers
	transactions sync.Pool
	watcher      *wire.Watcher // from Serve on
	streams      *h2Server     // from Serve on
}

// New makes a gateway; it does nothing before Serve.
func New(d Deps) (*Server, error) {
	if d.TLS == nil && d.HTTP == nil || d.Lookup == nil || d.Topology == nil || d.Tel == nil {
		return nil, services.Errorf(services.Invalid, "gateway: TLS or HTTP, Lookup, Topology and Tel are needed")
	}
	if d.TLS != nil && d.TLSConfig == nil {
		return nil, services.Errorf(services.Invalid, "gateway: TLS needs TLSConfig")
	}
	if len(d.OriginCIDRs) == 0 {
		return nil, services.Errorf(services.Invalid, "gateway: OriginCIDRs is empty").
			WithRemedy("declare the networks that the region's instances listen in")
	}
	s := &Server{d: d}
	s.copies.New = func() any { b := make([]byte, copyBuffer); return &b }
	s.servers.init(d.Timing.BreakerSleep.D())
	s.transactions.New = func() any { return new(transaction) }
	s.own, s.fixed, s.favoured = s.instances, s.fixedOrigins, s.preferred
	s.buffers = wire.NewBuffers()
	s.transports = newTransports(d, s.buffers)
	rpc := d.Timing.RPCTimeout.D()
	s.bounds = wire.Limits{
		MaxHeader: maxHeaderBytes, Header: 5 * rpc, Idle: d.Timing.MaxConnectionAge.D(),
		Body: 10 * rpc, Write: 30 * rpc, Linger: rpc,
	}
	s.grace = rpc / 2
	if d.TLS != nil {
		s.tls = d.TLSConfig.Clone()
		s.tls.MinVersion = tls.VersionTLS13
		s.tls.NextProtos = []string{"h2", "http/1.1"}
	}
	s.counted, s.tokens, s.places = s.countDone, newTokenCache(), newPlaces()
	c, err := newChain(d.Tel.Log, append(s.builtin(), d.Filters...))
	if err != nil {
		return nil, err
	}
	s.chain = c
	s.metrics = newMetrics(d.Tel.Metrics, d.Region, s.gate.count, c)
	if err := s.settings.init(d, c, &s.guards, s.metrics.route); err != nil {
		return nil, err
	}
	d.Tel.Metrics.MustRegister(newOriginCollector(s))
	d.Tel.Properties.Watch(s.settings.changed)
	return s, nil
}

// Serve implements services.Unit.
func (s *Server) Serve(until context.Context) error {
	defer s.transports.close()
	watcher, err := wire.NewWatcher()
	if err != nil {
		return services.Wrap("gateway "+s.d.Instance, err)
	}
	s.watcher = watcher
	ctx, cancel := context.WithCancel(context.WithoutCancel(until)) // requests may last longer
	defer cancel()
	var (
		wg        sync.WaitGroup
		failed    = make(chan error, 4)
		acceptors []*acceptor
	)
	start := func(f func() error) {
		wg.Go(func() {
			if err := f(); err != nil {
				failed <- err
			}
		})
	}
	start(watcher.Run)
	streams := s.h2Server(ctx)
	s.streams = streams
	for _, l := range []net.Listener{s.d.TLS, s.d.HTTP} {
		if l == nil {
			continue
		}
		a := s.acceptor(l, l == s.d.HTTP, s.serveConn)
		acceptors = append(acceptors, a)
		start(func() error { return a.run(ctx) })
	}
	start(streams.run)
	select {
	case <-until.Done():
		// Before anybody is refused: an answer that still keeps its connection
		// would have its client ask on one that is about to end.
		s.settings.drained.Store(true)
		for _, a := range acceptors {
			a.stop()
		}
		s.letFinish(ctx)
	case err = <-failed:
		err = services.Wrap("gateway "+s.d.Instance, err)
	}
	s.gate.shut()
	cancel()
	for _, a := range acceptors {
		a.close()
	}
	streams.close()
	_ = watcher.Close()
	wg.Wait()
	for _, a := range acceptors {
		a.wg.Wait()
	}
	s.conns.Wait()
	s.gate.wait(context.Background())
	return err
}

// letFinish waits for the requests under way, for DrainFor at most.
func (s *Server) letFinish(ctx context.Context) {
	if s.d.DrainFor <= 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.d.DrainFor)
	defer cancel()
	if err := s.Drain(ctx); err != nil {
		s.d.Tel.Log.Warn("requests are cut off at the gateway's end", "requests", s.gate.count(), "after", s.d.DrainFor)
	}
}

// Drain implements services.Drainer. It is the property gateway.drain from
// within, and lasts until the gateway ends.
func (s *Server) Drain(ctx context.Context) error {
	s.settings.drained.Store(true)
	return s.gate.wait(ctx)
}

// serveConn serves one connection with the codec that its client speaks.
func (s *Server) serveConn(ctx context.Context, c *edgeConn, plain bool) {
	if err := s.greet(c); err != nil {
		return
	}
	var nc net.Conn = c
	if !plain {
		t := tls.Server(c, s.tls)
		hctx, cancel := context.WithTimeout(ctx, 5*s.d.Timing.RPCTimeout.D())
		err := t.HandshakeContext(hctx)
		cancel()
		if err != nil {
			s.refuseTLS(c, err)
			return
		}
		if t.ConnectionState().NegotiatedProtocol == "h2" {
			s.streams.take(c, t)
			return
		}
		nc = t
	}
	early, err := s.serveH1(ctx, nc, c, plain)
	if errors.Is(err, errHandover) && plain {
		c.early = early
		s.streams.take(c, c)
	}
}

// refuseTLS notes a handshake that failed. A client that began with HTTP reads
// why.
func (s *Server) refuseTLS(c *edgeConn, err error) {
	s.d.Tel.Log.Debug("no TLS", "peer", c.peer, "error", err)
	var odd tls.RecordHeaderError
	if !errors.As(err, &odd) || odd.Conn == nil || !beginsHTTP(odd.RecordHeader[:]) {
		return
	}
	s.metrics.refused.WithLabelValues("no_tls").Inc()
	plain := wire.NewConn(c, c.tcp, true, nil, s.buffers, &s.bounds)
	defer plain.Close()
	plain.Refuse(http.StatusBadRequest, "application/json", problemOf(services.Errorf(services.Invalid, "this port speaks TLS, and the request came without").
		WithReason(ReasonMalformed).WithRemedy("ask with https://")))
}

// beginsHTTP says whether five bytes may begin a request of HTTP/1.1.
func beginsHTTP(b []byte) bool {
	for k, c := range b {
		if c == ' ' && k > 2 {
			return true
		}
		if c < 'A' || c > 'Z' {
			return false
		}
	}
	return true
}

// trackConn counts the goroutines of connections, so that Serve can wait for
// them.
func (s *Server) trackConn(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.conns.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.conns.Done()
	}
}
