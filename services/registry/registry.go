// Package registry is a region's service registry: instances register, renew
// a lease and are found by application or VIP. Its wire is Eureka's REST API
// under /eureka/v2 (and /eureka), in JSON and XML, so stock clients work.
//
// State is in memory only. A registry that restarts is empty; its clients
// learn so from a 404 at their next renewal and register again. There is one
// registry per region and no replication between them: a region's instances
// are known in that region, and whoever needs another region's asks there.
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
	// Clock tells the time; nil is time.Now.
	Clock func() time.Time
}

// Server is one registry.
type Server struct {
	deps    Deps
	log     *slog.Logger
	store   *store
	cache   *answers
	policy  *preservation
	metrics *metrics
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
	st := newStore(d.Timing, d.Clock())
	s := &Server{deps: d, log: d.Tel.Log, store: st, cache: newAnswers(st), policy: newPreservation(d.Tel.Properties)}
	s.metrics = newMetrics(d.Tel.Metrics, st)
	return s, nil
}

// Serve implements services.Unit.
func (s *Server) Serve(ctx context.Context) error {
	srv := &http.Server{
		Handler: s.handler(),
		// A header that takes longer than a call may take is an attack or a bug.
		ReadHeaderTimeout: s.deps.Timing.RPCTimeout.D(),
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
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := srv.Serve(s.deps.Listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("registry: %w", err)
		}
		return nil
	})
	g.Go(func() error { s.evictLoop(ctx); return nil })
	g.Go(func() error {
		<-ctx.Done()
		// Not a graceful end: a request is done in a moment or will be tried
		// again, while a fresh connection without one would hold it up.
		return srv.Close()
	})
	err := g.Wait()
	conns.Wait()
	return err
}
