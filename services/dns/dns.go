// Package dns is a region's authoritative DNS for the zone flix.test. It
// steers clients to a region: the one nearest to their network by EDNS Client
// Subnet (RFC 7871), moved elsewhere by failover weights and by health, and
// within it over the load balancers of every zone.
//
// It answers for flix.test only, from memory, and never recurses. Every
// region's server gives the same answers, apart from the region it takes for
// a client whose network it does not know: its own.
package dns

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	mdns "github.com/miekg/dns"
	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

// Endpoint is where clients reach one load balancer.
type Endpoint struct {
	// Host is an IP address.
	Host string
	// Port of HTTPS.
	Port int
	// Zone the load balancer is in.
	Zone string
	// Check is the host:port of its plain HTTP inside the lab, for health
	// checks; "" for none.
	Check string
}

// Deps is what a DNS server needs.
type Deps struct {
	// UDP and TCP serve DNS, by custom on the same port.
	UDP net.PacketConn
	TCP net.Listener
	// Topology says which networks are near which region, and how far the
	// regions are apart. SetTopology replaces it.
	Topology topology.Topology
	// Zones returns the healthy load balancers of a region; none means that
	// the region is given no clients. It is called for each answer: it must
	// not block, and be safe for concurrent use.
	Zones func(region string) []Endpoint
	// Region of this server.
	Region string
	// Appliances is the address that every name below oc.flix.test has; the
	// zero value is 127.0.0.1.
	Appliances netip.Addr
	// Tel are the instance's instruments. Property dns.weights: see Weights;
	// dns.leaving: see PropLeaving.
	Tel *telemetry.Telemetry
	// Timing gives the time to live of answers.
	Timing topology.Timing
	// Dial opens the connections of health checks; nil for no checks.
	Dial services.DialFunc
	// Misanswer is an injected fault of this server: "servfail", "refuse", "drop",
	// or "" while there is none; nil is never any.
	Misanswer func() string
}

// Server is one DNS server.
type Server struct {
	deps    Deps
	log     *slog.Logger
	ttl     uint32 // seconds
	metrics *metrics
	turn    atomic.Uint32 // rotates the records
	health  health

	mu      sync.Mutex // serialises changes of plan
	plan    atomic.Pointer[plan]
	weights Weights  // guarded by mu
	leaving []string // guarded by mu
}

var _ services.Unit = (*Server)(nil)

// New returns a server that answers once Serve is called.
func New(d Deps) (*Server, error) {
	if d.UDP == nil || d.TCP == nil || d.Tel == nil || d.Zones == nil {
		return nil, services.Errorf(services.Invalid, "dns: UDP, TCP, Zones and Tel are needed")
	}
	if !d.Appliances.IsValid() {
		d.Appliances = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	s := &Server{deps: d, log: d.Tel.Log, ttl: uint32(d.Timing.DNSTTL.D() / time.Second), metrics: newMetrics(d.Tel.Metrics)}
	s.SetTopology(d.Topology)
	d.Tel.Properties.Watch(s.property)
	return s, nil
}

// SetTopology replaces the topology, e.g. when a region was added.
func (s *Server) SetTopology(t topology.Topology) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deps.Topology = t
	s.plan.Store(newPlan(t, s.deps.Region, s.weights, s.leaving))
}

// property takes up a changed run-time property.
func (s *Server) property(name, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	switch name {
	case PropWeights:
		var w Weights
		if w, err = parseWeights(value); err == nil {
			s.weights = w
		}
	case PropLeaving:
		var leaving []string
		if leaving, err = parseLeaving(value); err == nil {
			s.leaving = leaving
		}
	default:
		return
	}
	if err != nil {
		s.log.Error("a property keeps its value", "property", name, "err", err)
		return
	}
	s.plan.Store(newPlan(s.deps.Topology, s.deps.Region, s.weights, s.leaving))
	s.log.Info("a property changed", "property", name, "value", value)
}

// Serve implements services.Unit.
func (s *Server) Serve(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.watch(ctx) })
	g.Go(func() error { return s.serve(ctx, &mdns.Server{PacketConn: s.deps.UDP, UDPSize: maxUDP}) })
	g.Go(func() error {
		return s.serve(ctx, &mdns.Server{
			Listener: s.deps.TCP, ReadTimeout: s.deps.Timing.RPCTimeout.D(),
			IdleTimeout: s.deps.Timing.MaxConnectionAge.D,
		})
	})
	return g.Wait()
}

// serve runs one transport until ctx ends.
func (s *Server) serve(ctx context.Context, srv *mdns.Server) error {
	started := make(chan struct{})
	srv.NotifyStartedFunc = func() { close(started) }
	srv.Handler = mdns.HandlerFunc(s.handle)
	done := make(chan error, 1)
	go func() { done <- srv.ActivateAndServe() }()
	select {
	case err := <-done:
		return fmt.Errorf("dns: %w", err)
	case <-started:
	}
	select {
	case err := <-done:
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("dns: %w", err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.deps.Timing.RPCTimeout.D())
	defer cancel()
	if err := srv.ShutdownContext(drain); err != nil {
		s.log.Warn("dns: connections did not end in time", "err", err)
	}
	<-done
	return nil
}

// handle answers one query on the wire.
func (s *Server) handle(w mdns.ResponseWriter, req *mdns.Msg) {
	size := mdns.MaxMsgSize
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
		size = udpSize(req)
	}
	resp := s.answer(req)
	if s.deps.Misanswer != nil {
		switch s.deps.Misanswer() {
		case "drop":
			return
		case "servfail":
			resp = new(mdns.Msg).SetRcode(req, mdns.RcodeServerFailure)
		case "refuse":
			resp = new(mdns.Msg).SetRcode(req, mdns.RcodeRefused)
		}
	}
	resp.Truncate(size)
	if err := w.WriteMsg(resp); err != nil {
		s.log.Debug("dns: answer not sent", "err", err)
	}
}
