package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/lookup"
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
	// v2, then TLS 1.3 with HTTP/2 or HTTP/1.1.
	TLS net.Listener
	// TLSConfig carries the certificate for the hosts of the public API.
	TLSConfig *tls.Config
	// HTTP takes plain HTTP/1.1 for browsers on this machine; nil for none.
	HTTP net.Listener
	// Instance is this gateway's id, Region and Zone where it stands.
	Instance, Region, Zone string
	// Lookup finds the instances of this region's APIs.
	Lookup Lookup
	// Remote returns the live gateways of another region, from memory.
	Remote func(region string) []RemoteGateway
	// Dial opens connections to gateways of other regions, over the WAN.
	Dial services.DialFunc
	// RootCAs verifies the gateways of other regions, which all carry a
	// certificate for api.flix.test.
	RootCAs *x509.CertPool
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
}

// Server is one gateway. Use New.
type Server struct {
	d          Deps
	gate       gate
	conns      sync.WaitGroup
	settings   settings
	chain      *chain
	servers    balancer
	guards     guards
	transports *transports
	metrics    *metrics
	edge       edgeCounts

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
}

// New makes a gateway; it does nothing before Serve.
func New(d Deps) (*Server, error) {
	if d.TLS == nil || d.TLSConfig == nil || d.Lookup == nil || d.Topology == nil || d.Tel == nil {
		return nil, services.Errorf(services.Invalid, "gateway: TLS, TLSConfig, Lookup, Topology and Tel are needed")
	}
	if len(d.OriginCIDRs) == 0 {
		return nil, services.Errorf(services.Invalid, "gateway: OriginCIDRs is empty").
			WithRemedy("declare the networks that the region's instances listen in")
	}
	s := &Server{d: d}
	s.copies.New = func() any { b := make([]byte, copyBuffer); return &b }
	s.servers.init(d.Timing.BreakerSleep.D())
	s.transports = newTransports(d)
	s.counted, s.tokens, s.places = s.countDone, newTokenCache(), newPlaces()
	c, err := newChain(d.Tel.Log, append(s.builtin(), d.Filters...))
	if err != nil {
		return nil, err
	}
	s.chain = c
	s.metrics = newMetrics(d.Tel.Metrics, d.Region, s.gate.count, c)
	if err := s.settings.init(d, c, s.metrics.route); err != nil {
		return nil, err
	}
	d.Tel.Properties.Watch(s.settings.changed)
	return s, nil
}

// Serve implements services.Unit.
func (s *Server) Serve(ctx context.Context) error {
	defer s.transports.close()
	var wg sync.WaitGroup
	failed := make(chan error, 2)
	var servers []*http.Server
	run := func(l net.Listener, plain bool) {
		srv := s.httpServer(ctx, plain)
		servers = append(servers, srv)
		wg.Go(func() {
			var err error
			if edge := s.edgeListener(l); plain {
				err = srv.Serve(edge)
			} else {
				err = srv.ServeTLS(edge, "", "")
			}
			if !errors.Is(err, http.ErrServerClosed) {
				failed <- err
			}
		})
	}
	run(s.d.TLS, false)
	if s.d.HTTP != nil {
		run(s.d.HTTP, true)
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		err = services.Wrap("gateway "+s.d.Instance, err)
	}
	s.gate.shut()
	for _, srv := range servers {
		_ = srv.Close()
	}
	_ = s.d.TLS.Close() // Close misses a listener that Serve has not seen yet
	if s.d.HTTP != nil {
		_ = s.d.HTTP.Close()
	}
	wg.Wait()
	s.conns.Wait()
	s.gate.wait(context.Background())
	return err
}

// Drain implements services.Drainer. It is the property gateway.drain from
// within, and lasts until the gateway ends.
func (s *Server) Drain(ctx context.Context) error {
	s.settings.drained.Store(true)
	return s.gate.wait(ctx)
}

func (s *Server) httpServer(ctx context.Context, plain bool) *http.Server {
	timing := s.d.Timing
	srv := &http.Server{
		Handler:           &codec{s: s, plain: plain},
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       withConn,
		ConnState:         s.trackConn,
		MaxHeaderBytes:    maxHeaderBytes,
		ReadHeaderTimeout: 5 * timing.RPCTimeout.D(),
		IdleTimeout:       timing.MaxConnectionAge.D(),
		ErrorLog:          slog.NewLogLogger(s.d.Tel.Log.Handler(), slog.LevelDebug),
	}
	srv.Protocols = new(http.Protocols)
	srv.Protocols.SetHTTP1(true)
	if !plain {
		srv.Protocols.SetHTTP2(true)
		srv.TLSConfig = s.d.TLSConfig.Clone()
		srv.TLSConfig.MinVersion = tls.VersionTLS13
		srv.TLSConfig.NextProtos = []string{"h2", "http/1.1"}
	}
	return srv
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
