package rpc

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// healthService is gRPC's, whose watches end with the server: each is a call in
// flight that would else hold the end up for the whole grace.
type healthService struct {
	*health.Server
	ending context.Context
	ended  context.CancelFunc
}

func newHealthService() *healthService {
	h := &healthService{Server: health.NewServer()}
	h.ending, h.ended = context.WithCancel(context.Background())
	return h
}

// end tells every watcher that nothing is served any more, and lets it go.
func (h *healthService) end() {
	h.ended()
	h.Shutdown()
}

// Watch implements grpc_health_v1.HealthServer.
func (h *healthService) Watch(r *grpc_health_v1.HealthCheckRequest, stream grpc.ServerStreamingServer[grpc_health_v1.HealthCheckResponse]) error {
	w := &watch{ServerStreamingServer: stream, ending: h.ending}
	var cancel context.CancelFunc
	w.ctx, cancel = context.WithCancel(stream.Context())
	defer cancel()
	w.leave = cancel
	defer context.AfterFunc(h.ending, w.check)()
	return h.Server.Watch(r, w)
}

// watch is the stream of one watcher. It ends once the server does, after the
// watcher was told.
type watch struct {
	grpc.ServerStreamingServer[grpc_health_v1.HealthCheckResponse]
	ctx    context.Context
	leave  context.CancelFunc
	ending context.Context

	mu   sync.Mutex
	told grpc_health_v1.HealthCheckResponse_ServingStatus
}

// Context implements grpc.ServerStream.
func (w *watch) Context() context.Context { return w.ctx }

// Send implements grpc.ServerStreamingServer.
func (w *watch) Send(r *grpc_health_v1.HealthCheckResponse) error {
	err := w.ServerStreamingServer.Send(r)
	w.mu.Lock()
	w.told = r.GetStatus()
	w.mu.Unlock()
	if w.ending.Err() != nil {
		w.check()
	}
	return err
}

// check ends the watch of a server that ends, unless the watcher still takes it
// to serve: the word that it does not is on its way then.
func (w *watch) check() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.told != grpc_health_v1.HealthCheckResponse_SERVING {
		w.leave()
	}
}
