package elb

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

// maxConnections bounds what one balancer carries at once. Each connection
// costs two goroutines and two sockets.
const maxConnections = 16384

// Target is a gateway that connections go to.
type Target struct {
	// ID of the instance, and its zone.
	ID, Zone string
	// Addr takes TLS, PlainAddr plain HTTP, both behind PROXY v2. A target
	// without one of them gets no connections of that sort.
	Addr, PlainAddr string
}

// Deps are what a balancer is made of.
type Deps struct {
	// Client is where clients connect. Every connection starts with a PROXY
	// v2 header, then whatever the gateway's TLS port understands.
	Client net.Listener
	// HTTP is where browsers on this machine connect, with plain HTTP and no
	// PROXY header; nil for none.
	HTTP net.Listener
	// Targets returns the healthy gateways of the region. It is called for
	// every connection and must not block.
	Targets func() []Target
	// Dial opens connections to targets; nil is a plain one.
	Dial services.DialFunc
	// Zone of this balancer.
	Zone string
	// Tel is the instance's telemetry.
	Tel *telemetry.Telemetry
	// Timing: RPCTimeout bounds the wait for a PROXY header and for a
	// target's answer to a connect, RegistryFetch is how long a target that
	// refused is left out, MaxConnectionAge ends an idle connection.
	Timing topology.Timing
}

// Server is one balancer. Use New.
type Server struct {
	d       Deps
	dial    services.DialFunc
	targets balancer
	places  chan struct{}

	connections *prometheus.CounterVec
	refused     *prometheus.CounterVec
	active      prometheus.Gauge
}

// New makes a balancer; it does nothing before Serve.
func New(d Deps) (*Server, error) {
	if d.Client == nil || d.Targets == nil || d.Tel == nil {
		return nil, services.Errorf(services.Invalid, "elb: Client, Targets and Tel are needed")
	}
	if d.Dial == nil {
		d.Dial = (&net.Dialer{}).DialContext
	}
	s := &Server{
		d:      d,
		dial:   d.Dial.Within(d.Timing.RPCTimeout.D()),
		places: make(chan struct{}, maxConnections),
		connections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "elb_connections_total", Help: "Connections passed to a target.",
		}, []string{"target"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "elb_refused_total", Help: "Client connections closed without a target, by reason: proxy_header, no_target, limit.",
		}, []string{"reason"}),
		active: prometheus.NewGauge(prometheus.GaugeOpts{Name: "elb_active", Help: "Client connections open now."}),
	}
	s.targets.init(d.Zone, d.Timing.RegistryFetch.D())
	d.Tel.Metrics.MustRegister(s.connections, s.refused, s.active)
	return s, nil
}

// Serve implements services.Unit.
func (s *Server) Serve(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { s.accept(ctx, s.d.Client, s.fromClient, &wg) })
	if s.d.HTTP != nil {
		wg.Go(func() { s.accept(ctx, s.d.HTTP, s.fromBrowser, &wg) })
	}
	<-ctx.Done()
	_ = s.d.Client.Close() // accept sees the closed listener and ends
	if s.d.HTTP != nil {
		_ = s.d.HTTP.Close()
	}
	wg.Wait()
	return nil
}

// accept hands every connection of l to serve, each on its own goroutine.
func (s *Server) accept(ctx context.Context, l net.Listener, serve func(context.Context, net.Conn), wg *sync.WaitGroup) {
	backoff := acceptBackoff
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of file descriptors, most likely: wait for some to be free.
			s.d.Tel.Log.Warn("accept failed", "error", err)
			select {
			case <-time.After(backoff):
			case <-ctx.Done():
				return
			}
			backoff = min(2*backoff, s.d.Timing.RPCTimeout.D())
			continue
		}
		backoff = acceptBackoff
		select {
		case s.places <- struct{}{}:
		default:
			s.refuse(c, "limit")
			continue
		}
		wg.Go(func() {
			defer func() { <-s.places }()
			s.active.Inc()
			defer s.active.Dec()
			// The connection ends with the balancer, whatever it waits for.
			defer context.AfterFunc(ctx, func() { _ = c.Close() })()
			defer c.Close()
			serve(ctx, c)
		})
	}
}

// acceptBackoff is the first wait after a failed accept; it doubles.
const acceptBackoff = 10 * time.Millisecond

func (s *Server) refuse(c net.Conn, reason string) {
	s.refused.WithLabelValues(reason).Inc()
	_ = c.Close()
}
