// Package registry is a region's service registry: instances register, renew
// a lease and are found by application or VIP. Its wire is Eureka's REST API,
// complete, in JSON and XML, under /eureka/v2, /eureka or a client's own
// context, so that stock clients and servers work with it.
//
// State is in memory only. A registry that restarts copies a peer's contents,
// or is empty; its clients learn so from a 404 at their next renewal and
// register again. A region's registries tell one another what their clients
// say, in batches. Another region's are copied when somebody asks for it by
// ?regions=. It prefers being available to being right: a lease that runs out
// may be kept (see preservation), and says so when asked.
package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

// Deps is what a registry needs.
type Deps struct {
	// Listener serves the REST API.
	Listener net.Listener
	// Tel are the instance's instruments; properties: see preservation.
	Tel *telemetry.Telemetry
	// Timing gives lease, eviction and fetch intervals.
	Timing topology.Timing
	// Region the registry serves.
	Region string
	// Peers are the base URLs of the region's other registries; nil for none.
	// It is asked now and then and must not block; it may name this registry.
	Peers func() []string
	// Remotes are the base URLs of other regions' registries by region, for
	// ?regions=; nil for none.
	Remotes func() map[string][]string
	// Dial opens connections to both; nil dials directly.
	Dial services.DialFunc
	// Limits throttle fetches; the zero value does not.
	Limits Limits
	// EmptyWait is how long fetches are refused after a start that found
	// nothing at any peer. The original waits 5 minutes; 0 does not wait.
	EmptyWait time.Duration
	// DeltaRetention is how long a change stays in the delta; 0 is the
	// original's 180 s.
	DeltaRetention time.Duration
	// BodyTime is how long a client may take to send a request; 0 is 15 s.
	BodyTime time.Duration
	// Clock tells the time; nil is time.Now.
	Clock func() time.Time
}

// Server is one registry.
type Server struct {
	deps    Deps
	log     *slog.Logger
	started time.Time
	store   *store
	cache   *answers
	policy  *preservation
	limiter *limiter
	peers   *peers
	remotes *remotes
	metrics *metrics

	fillMu    sync.Mutex
	fillAsked bool // every peer was asked once what there is
	fillCount int  // instances copied
}

var _ services.Unit = (*Server)(nil)

// New returns a registry that serves once Serve is called.
func New(d Deps) (*Server, error) {
	if d.Listener == nil || d.Tel == nil {
		return nil, services.Errorf(services.Invalid, "registry: a listener and telemetry are needed")
	}
	if d.Timing.LeaseDuration <= 0 || d.Timing.EvictionInterval <= 0 || d.Timing.LeaseRenewal <= 0 {
		return nil, services.Errorf(services.Invalid, "registry: lease_renewal, lease_duration and eviction_interval must be above zero")
	}
	if d.Clock == nil {
		d.Clock = time.Now
	}
	if d.Dial == nil {
		d.Dial = (&net.Dialer{}).DialContext
	}
	if d.BodyTime <= 0 {
		d.BodyTime = bodyTime
	}
	if d.DeltaRetention <= 0 {
		d.DeltaRetention = deltaRetention
	}
	now := d.Clock()
	s := &Server{deps: d, log: d.Tel.Log, started: now, store: newStore(d.Timing, d.DeltaRetention, now), cache: newAnswers(d.Clock), policy: newPreservation(d.Tel.Properties), limiter: newLimiter(d.Limits, d.Clock)}
	s.peers, s.remotes = newPeers(s), newRemotes(s)
	s.metrics = newMetrics(s)
	return s, nil
}

const (
	// bodyTime is Deps.BodyTime where none is given.
	bodyTime = 15 * time.Second
	// answerTime bounds how long it may take to read an answer.
	answerTime = 2 * time.Minute
)

// Serve implements services.Unit.
func (s *Server) Serve(ctx context.Context) error {
	srv := &http.Server{
		Handler: s.Handler(),
		// A header that takes longer than a call may take is an attack or a bug.
		ReadHeaderTimeout: max(s.deps.Timing.RPCTimeout.D(), time.Second),
		ReadTimeout:       s.deps.BodyTime,
		WriteTimeout:      answerTime,
		IdleTimeout:       s.deps.Timing.MaxConnectionAge.D(),
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	var conns sync.WaitGroup
	srv.ConnState = func(_ net.Conn, st http.ConnState) {
		switch st {
		case http.StateNew:
			conns.Add(1)
		case http.StateClosed, http.StateHijacked:
			conns.Done()
		}
	}
	watchHeaders(srv)
	g, ctx := errgroup.WithContext(ctx)
	s.peers.start(ctx)
	g.Go(func() error {
		if err := srv.Serve(headerListener{s.deps.Listener}); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("registry: %w", err)
		}
		return nil
	})
	g.Go(func() error { s.evictLoop(ctx); return nil })
	if s.deps.Peers != nil {
		g.Go(func() error { s.fill(ctx); return nil })
	}
	g.Go(func() error {
		<-ctx.Done()
		// Not a graceful end: a request is done in a moment or will be tried
		// again, while a fresh connection without one would hold it up.
		return srv.Close()
	})
	err := g.Wait()
	conns.Wait()
	s.peers.wait()
	s.remotes.close()
	return err
}
