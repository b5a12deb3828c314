package lookup_test

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/lookup"
	"github.com/flix-lab/flix/services/telemetry"
)

// backend is a gRPC server registered as an instance of "kv".
func backend(t *testing.T, c *lookup.Client, n int) (id string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	healthpb.RegisterHealthServer(s, health.NewServer())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(l) })
	in := kv(n)
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	num, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	in.Ports = map[string]int{"rpc": num}
	if err := c.Register(in); err != nil {
		t.Fatal(err)
	}
	stop = func() { s.Stop(); wg.Wait() }
	t.Cleanup(stop)
	return in.ID, stop
}

// call makes one call and says who answered.
func call(t *testing.T, conn *grpc.ClientConn) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var p peer.Peer
	_, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.Peer(&p))
	if err != nil {
		return "", err
	}
	return p.Addr.String(), nil
}

// A call made before anything is up succeeds, calls spread over the
// instances, and follow them as they come and go.
func TestDial(t *testing.T) {
	r := startRegistry(t)
	c, _ := runClient(t, r.timing, r.url())
	conn, err := c.Dial("kv", "rpc", telemetry.Discard().DialOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	early := make(chan error, 1)
	go func() {
		_, err := call(t, conn)
		early <- err
	}()
	_, stop := backend(t, c, 1)
	if err := <-early; err != nil {
		t.Fatalf("the first call did not wait: %v", err)
	}
	second, _ := backend(t, c, 2)
	both := map[string]bool{}
	eventually(t, func() error {
		addr, err := call(t, conn)
		if both[addr] = true; len(both) < 2 || err != nil {
			return errors.Join(errNotYet, err)
		}
		return nil
	})
	if err := c.SetStatus(second, lookup.StatusOutOfService); err != nil {
		t.Fatal(err)
	}
	eventually(t, count(c, "kv", 1))
	stop()
	if err := c.Deregister(deadline(t), kv(1).ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, count(c, "kv", 0))
	// It fails for that reason and not for its deadline: it did not wait.
	_, err = call(t, conn)
	if services.KindOf(err) != services.Unavailable || services.ReasonOf(err) != lookup.ReasonNoInstance {
		t.Errorf("nobody is up: %v", err)
	}
	if err := c.SetStatus(second, lookup.StatusUp); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error { _, err := call(t, conn); return err })
}

func TestDialWaitsNoLongerThanItsDeadline(t *testing.T) {
	c, _ := runClient(t, testTiming(), "http://127.0.0.1:1")
	conn, err := c.Dial("kv", "rpc")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err = healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("%v, want a deadline exceeded", err)
	}
	if _, err := c.Dial("", "rpc"); services.KindOf(err) != services.Invalid {
		t.Errorf("Dial without a VIP: %v", err)
	}
}

// Whoever is gone is not waited for, also by a connection that has never made
// a call: a client of a killed service has to hear of it at once.
func TestDialDoesNotWaitForWhoIsGone(t *testing.T) {
	r := startRegistry(t)
	c, _ := runClient(t, r.timing, r.url())
	id, stop := backend(t, c, 1)
	eventually(t, count(c, "kv", 1))
	fails := func(reason string, method func(ctx context.Context, conn *grpc.ClientConn) error) {
		t.Helper()
		conn, err := c.Dial("kv", "rpc", telemetry.Discard().DialOptions()...)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ctx := deadline(t)
		err = method(ctx, conn)
		if ctx.Err() != nil {
			t.Errorf("a call waited until its deadline: %v", err)
		}
		if services.KindOf(err) != services.Unavailable || services.ReasonOf(err) != reason {
			t.Errorf("%v with reason %q, want %q", err, services.ReasonOf(err), reason)
		}
		if !strings.Contains(err.Error(), "kv") {
			t.Errorf("%v does not say who is away", err)
		}
	}
	unary := func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
		return err
	}
	watch := func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := healthpb.NewHealthClient(conn).Watch(ctx, &healthpb.HealthCheckRequest{})
		return err
	}
	stop() // killed: it stays in the registry until its lease has run out
	fails("", unary)
	fails("", watch)
	if err := c.Deregister(deadline(t), id); err != nil {
		t.Fatal(err)
	}
	eventually(t, count(c, "kv", 0))
	fails(lookup.ReasonNoInstance, unary)
	fails(lookup.ReasonNoInstance, watch)
}
