package lookup

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/flix-lab/flix/services"
)

// scheme of the targets that Dial makes; private to each connection.
const scheme = "flix"

// Dial returns a gRPC connection to the named port of every UP instance of
// the VIP, balanced round robin and kept up to date from the copy. It does no
// I/O: connections open on the first call. A call made before the first one
// has succeeded waits for an instance until its deadline
// (Timing.RPCTimeout if it has none), so that start-up order does not matter;
// later calls fail at once when none is reachable.
func (c *Client) Dial(vip, port string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	if vip == "" || port == "" {
		return nil, services.Errorf(services.Invalid, "lookup.Dial: VIP %q and port %q are needed", vip, port)
	}
	first := &firstCall{timeout: c.cfg.Timing.RPCTimeout.D()}
	all := []grpc.DialOption{
		grpc.WithResolvers(&builder{client: c, vip: vip, port: port}),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return c.cfg.Dial(ctx, "tcp", addr)
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: c.cfg.Timing.RPCTimeout.D(),
		}),
		grpc.WithReadBufferSize(8 << 10),
		grpc.WithChainUnaryInterceptor(first.unary),
		grpc.WithChainStreamInterceptor(first.stream),
	}
	return grpc.NewClient(scheme+":///"+vip, append(all, opts...)...)
}

// firstCall makes calls wait for a connection until one call got through.
type firstCall struct {
	timeout time.Duration
	done    atomic.Bool
}

func (f *firstCall) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if f.done.Load() {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.timeout)
		defer cancel()
	}
	err := invoke(ctx, method, req, reply, cc, append([]grpc.CallOption{grpc.WaitForReady(true)}, opts...)...)
	f.settle(err)
	return err
}

func (f *firstCall) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if !f.done.Load() {
		opts = append([]grpc.CallOption{grpc.WaitForReady(true)}, opts...)
	}
	s, err := open(ctx, desc, cc, method, opts...)
	f.settle(err)
	return s, err
}

func (f *firstCall) settle(err error) {
	if err == nil || reached(err) {
		f.done.Store(true)
	}
}

// reached reports whether a failed call was answered by an instance. Inner
// interceptors may have turned the status into a services.Error already.
func reached(err error) bool {
	var e *services.Error
	if errors.As(err, &e) {
		return e.Kind != services.Unavailable
	}
	return services.KindFromGRPC(uint32(status.Code(err))) != services.Unavailable
}

// builder makes the resolver of one connection: nothing is registered with
// gRPC's global table.
type builder struct {
	client    *Client
	vip, port string
}

// Scheme implements resolver.Builder.
func (*builder) Scheme() string { return scheme }

// Build implements resolver.Builder.
func (b *builder) Build(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	stop := b.client.Subscribe(b.vip, func(up []Instance) {
		state := resolver.State{}
		for _, i := range up {
			if a := i.Addr(b.port); a != "" {
				state.Addresses = append(state.Addresses, resolver.Address{Addr: a})
			}
		}
		if len(state.Addresses) == 0 && !b.client.Fetched() {
			return // not known yet is not the same as none: let calls wait
		}
		// An error means that gRPC wants to be asked again: it asks ResolveNow,
		// and the next change of the VIP answers.
		_ = cc.UpdateState(state)
	})
	return &vipResolver{client: b.client, stop: stop}, nil
}

// vipResolver follows one VIP.
type vipResolver struct {
	client *Client
	stop   func()
}

// ResolveNow implements resolver.Resolver: a connection broke, so the copy may
// be out of date.
func (r *vipResolver) ResolveNow(resolver.ResolveNowOptions) { signal(r.client.kick) }

// Close implements resolver.Resolver.
func (r *vipResolver) Close() { r.stop() }
