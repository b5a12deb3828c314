package playback

import (
	"context"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
)

// rpcBuffer is the read buffer of a connection, in bytes: messages here are
// small, and there are many connections in one process.
const rpcBuffer = 4 << 10

// newRPC makes the role's gRPC server with its health service.
func newRPC(tel *telemetry.Telemetry) (*grpc.Server, *health.Server) {
	srv := grpc.NewServer(append(tel.ServerOptions(), grpc.WaitForHandlers(true), grpc.ReadBufferSize(rpcBuffer))...)
	h := health.NewServer()
	grpc_health_v1.RegisterHealthServer(srv, h)
	return srv, h
}

// serveRPC answers on the listener until ctx ends, lets calls in flight finish
// within the grace and returns when every handler has.
func serveRPC(ctx context.Context, name string, srv *grpc.Server, h *health.Server, ln net.Listener, grace time.Duration) error {
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	select {
	case err := <-done:
		srv.Stop()
		return services.Wrap(name+" serve", err)
	case <-ctx.Done():
	}
	h.Shutdown()
	stopped := make(chan struct{})
	hard := time.AfterFunc(grace, func() { srv.Stop(); close(stopped) })
	srv.GracefulStop()
	if !hard.Stop() {
		<-stopped
	}
	<-done
	return nil
}
