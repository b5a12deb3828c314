// Package rpc is the life of a gRPC server, the same in every role that has
// one: instruments, a health service, reflection, and an end that waits for its
// handlers.
//
// It promises that Serve returns only when no handler runs any more. It never
// dials: clients are the wiring's, and have their options and the policy by
// which they choose among servers from here.
package rpc

import (
	"context"
	"errors"
	"net"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
)

// readBuffer is the read buffer of a connection, in bytes: most messages are
// small, a large one passes it by, and there are many connections in one
// process. Write buffers are shared by the connections of a server.
const readBuffer = 4 << 10

// workers handle calls on goroutines whose stacks have grown already: to grow a
// new one for each call takes a twentieth of a lab's processor time under load.
// Calls beyond them, and beside streams that hold one, get goroutines of their own.
const workers = 2

// Server is one gRPC server. Use New, register services, then Serve it once.
type Server struct {
	name     string
	opts     []grpc.ServerOption
	services []registration
	health   *healthService
}

// registration is a service and who implements it.
type registration struct {
	desc *grpc.ServiceDesc
	impl any
}

var _ grpc.ServiceRegistrar = (*Server)(nil)

// New makes the server of the role of that name, with the role's instruments, a
// health service, reflection and a report of its load with every answer. The
// options come after the server's own and win.
func New(name string, tel *telemetry.Telemetry, opts ...grpc.ServerOption) *Server {
	all := append(new(gauge).options(), tel.ServerOptions()...)
	all = append(all, grpc.WaitForHandlers(true), grpc.ReadBufferSize(readBuffer), grpc.NumStreamWorkers(workers))
	all = append(all, ServerOptions()...)
	s := &Server{name: name, opts: append(all, opts...), health: newHealthService()}
	grpc_health_v1.RegisterHealthServer(s, s.health)
	return s
}

// RegisterService implements grpc.ServiceRegistrar. Services are registered
// before Serve. The health service answers for each by its name, and for all of
// them by "": a probe may ask for either.
func (s *Server) RegisterService(d *grpc.ServiceDesc, impl any) {
	s.services = append(s.services, registration{d, impl})
	s.health.SetServingStatus(d.ServiceName, grpc_health_v1.HealthCheckResponse_SERVING)
}

// server makes the server of gRPC, which has goroutines from its first moment:
// one that is never served would leave them behind.
func (s *Server) server() *grpc.Server {
	g := grpc.NewServer(s.opts...)
	for _, r := range s.services {
		g.RegisterService(r.desc, r.impl)
	}
	reflection.Register(g) // what it serves, for tools such as grpcurl
	return g
}

// Serve answers on the listeners until ctx ends or one of them fails. Then the
// health service says so to who watches it, calls in flight have the grace to finish, and those
// that have not are cut: their contexts end. Without a grace all are cut at
// once, which suits calls that take microseconds and streams that know no end.
// It returns, with every listener closed, when the last handler has; nil if
// ctx ended. It may be called once.
func (s *Server) Serve(ctx context.Context, grace time.Duration, listeners ...net.Listener) error {
	g, ctx := errgroup.WithContext(ctx)
	server := s.server()
	for _, ln := range listeners {
		g.Go(func() error {
			err := server.Serve(ln)
			if errors.Is(err, grpc.ErrServerStopped) {
				return nil // it was stopped before it began
			}
			return services.Wrap(s.name+" serve", err)
		})
	}
	g.Go(func() error {
		<-ctx.Done()
		s.health.end()
		stop(server, grace)
		return nil
	})
	return g.Wait()
}

func stop(s *grpc.Server, grace time.Duration) {
	if grace <= 0 {
		s.Stop()
		return
	}
	stopped := make(chan struct{})
	hard := time.AfterFunc(grace, func() {
		defer close(stopped)
		s.Stop()
	})
	s.GracefulStop()
	if !hard.Stop() {
		<-stopped
	}
}
