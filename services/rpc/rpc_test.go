package rpc

import (
	"context"
	"net"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/addresstest"
	"github.com/flix-lab/flix/services/license/licensepb"
	"github.com/flix-lab/flix/services/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// slow issues a licence when it is released.
type slow struct {
	licensepb.UnimplementedLicenseServer
	began, release chan struct{}
}

func (s *slow) Issue(ctx context.Context, _ *licensepb.IssueRequest) (*licensepb.IssueReply, error) {
	close(s.began)
	select {
	case <-s.release:
		return &licensepb.IssueReply{License: "l"}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", addresstest.Host(t)+":0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func dial(t *testing.T, ln net.Listener) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(ln.Addr().String(), append(telemetry.Discard().DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// A tool that has no .proto learns what a server serves.
func TestReflection(t *testing.T) {
	s := New("x", telemetry.Discard())
	licensepb.RegisterLicenseServer(s, &slow{})
	ln := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, 0, ln) }()
	stream, err := reflectionpb.NewServerReflectionClient(dial(t, ln)).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	reply, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, x := range reply.GetListServicesResponse().GetService() {
		names = append(names, x.GetName())
	}
	if !slices.Contains(names, licensepb.License_ServiceDesc.ServiceName) || !slices.Contains(names, "grpc.health.v1.Health") {
		t.Errorf("it serves %v", names)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestEnd ends a server with a call in flight.
func TestEnd(t *testing.T) {
	for _, x := range []struct {
		name    string
		grace   time.Duration
		release bool // the call may go on once the server ends
	}{
		{"within the grace", time.Minute, true},
		{"after the grace", 10 * time.Millisecond, false},
		{"without a grace", 0, false},
	} {
		t.Run(x.name, func(t *testing.T) {
			impl := &slow{began: make(chan struct{}), release: make(chan struct{})}
			s := New("x", telemetry.Discard())
			licensepb.RegisterLicenseServer(s, impl)
			ln := listen(t)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- s.Serve(ctx, x.grace, ln) }()
			answered := make(chan error, 1)
			go func() {
				_, err := licensepb.NewLicenseClient(dial(t, ln)).Issue(t.Context(), &licensepb.IssueRequest{})
				answered <- err
			}()
			<-impl.began
			cancel()
			if x.release {
				close(impl.release)
			}
			if err := <-answered; (err == nil) != x.release || err != nil && services.KindOf(err) != services.Unavailable {
				t.Errorf("the call in flight got %v", err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
			if c, err := net.Dial("tcp", ln.Addr().String()); err == nil {
				c.Close()
				t.Error("it still listens")
			}
		})
	}
}

func TestHealthOnEveryListener(t *testing.T) {
	s := New("x", telemetry.Discard())
	lns := []net.Listener{listen(t), listen(t)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, time.Minute, lns...) }()
	for _, ln := range lns {
		r, err := grpc_health_v1.NewHealthClient(dial(t, ln)).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
		if err != nil || r.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
			t.Errorf("health %v (%v)", r, err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestHealthOfEachService(t *testing.T) {
	s := New("x", telemetry.Discard())
	licensepb.RegisterLicenseServer(s, &slow{})
	name := licensepb.License_ServiceDesc.ServiceName
	ln := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, time.Minute, ln) }()
	health := grpc_health_v1.NewHealthClient(dial(t, ln))
	for _, service := range []string{"", name, grpc_health_v1.Health_ServiceDesc.ServiceName} {
		r, err := health.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: service})
		if err != nil || r.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
			t.Errorf("health of %q: %v (%v)", service, r, err)
		}
	}
	if _, err := health.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: "flix.y.v1.Y"}); services.KindOf(err) != services.NotFound {
		t.Errorf("health of a service that is not here: %v", err)
	}
	watch, err := health.Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: name})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := watch.Recv(); err != nil || r.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("watch: %v (%v)", r, err)
	}
	cancel()
	if r, err := watch.Recv(); err != nil || r.GetStatus() != grpc_health_v1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("watch after the end: %v (%v)", r, err)
	}
	// A watcher does not hold the end up for the whole grace.
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestServe(t *testing.T) {
	t.Run("fails with any of its listeners", func(t *testing.T) {
		good, bad := listen(t), listen(t)
		bad.Close()
		if err := New("x", telemetry.Discard()).Serve(t.Context(), time.Minute, good, bad); err == nil {
			t.Error("served on a closed listener")
		}
		if err := good.Close(); err == nil {
			t.Error("the other listener was left open")
		}
	})
	t.Run("ended before it began", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		ln := listen(t)
		if err := New("x", telemetry.Discard()).Serve(ctx, time.Minute, ln); err != nil {
			t.Error(err)
		}
		if err := ln.Close(); err == nil {
			t.Error("the listener was left open")
		}
	})
}
