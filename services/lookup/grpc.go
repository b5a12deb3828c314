package lookup

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/rpc"
)

// scheme of the targets that Dial makes; private to each connection.
const scheme = "flix"

// Dial returns a gRPC connection to the named port of every UP instance of
// the VIP, balanced by choice of two (rpc.ChoiceOfTwo) and kept up to date from
// the copy. It does no I/O: connections open on the first call. While no instance
// of the VIP has been seen yet, a call waits for one until its deadline
// (Timing.RPCTimeout if it has none), so that start-up order does not matter.
// After that a call fails at once when none is reachable: Unavailable, with
// ReasonNoInstance when none is registered either.
func (c *Client) Dial(vip, port string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	if vip == "" || port == "" {
		return nil, services.Errorf(services.Invalid, "lookup.Dial: VIP %q and port %q are needed", vip, port)
	}
	first := &firstCall{client: c, vip: vip, timeout: c.cfg.Timing.RPCTimeout.D()}
	all := []grpc.DialOption{
		grpc.WithResolvers(&builder{client: c, vip: vip, port: port}),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"` + rpc.ChoiceOfTwo + `":{}}]}`),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return c.cfg.Dial(ctx, "tcp", addr)
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: c.cfg.Timing.RPCTimeout.D(),
		}),
		grpc.WithReadBufferSize(8 << 10),
		// The first interceptor is the outermost.
		grpc.WithChainUnaryInterceptor(first.named),
		grpc.WithChainStreamInterceptor(first.namedStream),
	}
	all = append(append(all, rpc.DialOptions()...), opts...)
	// Inside of the caller's, so that a call that is of no use has a span too.
	all = append(all, grpc.WithChainUnaryInterceptor(first.unary), grpc.WithChainStreamInterceptor(first.stream))
	return grpc.NewClient(scheme+":///"+vip, all...)
}

// ReasonNoInstance is the reason of a call's error when nobody is registered
// that could answer it.
const ReasonNoInstance = "no_instance"

// firstCall makes calls wait for the VIP's first instance. Once there has been
// one, nobody waits: who is gone may never come back, and whoever calls again
// says when.
type firstCall struct {
	client  *Client
	vip     string
	timeout time.Duration
	done    atomic.Bool
}

// waits reports whether a call is to wait, or why it is of no use to make it.
func (f *firstCall) waits() (bool, error) {
	v, key := f.client.view.Load(), strings.ToLower(f.vip)
	switch {
	case len(v.vips[key]) > 0:
		// Known: a connection that is being made is waited for all the same.
		return false, nil
	case v.ever[key]:
		return false, services.Errorf(services.Unavailable, "no instance is registered in %s", f.client.cfg.Region).
			WithReason(ReasonNoInstance).WithRemedy("flix lab status shows what is down")
	}
	return !f.done.Load(), nil
}

func (f *firstCall) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	wait, err := f.waits()
	if err != nil {
		return err
	}
	if !wait {
		return f.seen(invoke(ctx, method, req, reply, cc, opts...))
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.timeout)
		defer cancel()
	}
	return f.seen(invoke(ctx, method, req, reply, cc, append([]grpc.CallOption{grpc.WaitForReady(true)}, opts...)...))
}

func (f *firstCall) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	wait, err := f.waits()
	if err != nil {
		return nil, err
	}
	if wait {
		opts = append([]grpc.CallOption{grpc.WaitForReady(true)}, opts...)
	}
	s, err := open(ctx, desc, cc, method, opts...)
	return s, f.seen(err)
}

// seen notes that a call got through, and passes its error on.
func (f *firstCall) seen(err error) error {
	if !f.done.Load() && (err == nil || reached(err)) {
		f.done.Store(true)
	}
	return err
}

// named says whom an error is about that may not come from there: the ones of
// gRPC know addresses only.
func (f *firstCall) named(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return f.name(invoke(ctx, method, req, reply, cc, opts...))
}

func (f *firstCall) namedStream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := open(ctx, desc, cc, method, opts...)
	return s, f.name(err)
}

func (f *firstCall) name(err error) error {
	if services.KindOf(err) == services.Unavailable {
		return services.Wrap(f.vip, err)
	}
	return err
}

// reached reports whether a failed call was answered by an instance.
func reached(err error) bool {
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
