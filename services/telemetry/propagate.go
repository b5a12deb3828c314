package telemetry

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/flix-lab/flix/services"
)

// carrier adapts gRPC metadata to the propagator.
type carrier metadata.MD

func (c carrier) Get(key string) string {
	if v := metadata.MD(c).Get(key); len(v) > 0 {
		return v[0]
	}
	return ""
}
func (c carrier) Set(key, value string) { metadata.MD(c).Set(key, value) }
func (c carrier) Keys() []string {
	keys := make([]string, 0, len(c))
	for k := range c {
		keys = append(keys, k)
	}
	return keys
}

// ServerOptions instrument a gRPC server: a server span that continues the
// caller's trace, the metrics rpc_server_requests_total and rpc_server_seconds
// per method, and errors turned into statuses by services' table (see
// toStatus). A stream is one request, which ends when its handler returns.
func (t *Telemetry) ServerOptions() []grpc.ServerOption {
	m := rpcMetrics{
		total:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rpc_server_requests_total", Help: "gRPC requests answered."}, []string{"method", "kind"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "rpc_server_seconds", Help: "Time to answer a gRPC request.", Buckets: prometheus.ExponentialBuckets(0.0001, 4, 8)}, []string{"method"}),
	}
	t.Metrics.MustRegister(m.total, m.seconds)
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			ctx, span := t.serverSpan(ctx, info.FullMethod)
			start := time.Now()
			resp, err := next(ctx, req)
			m.answered(info.FullMethod, start, err)
			End(span, err)
			return resp, toStatus(err)
		}),
		grpc.ChainStreamInterceptor(func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			ctx, span := t.serverSpan(ss.Context(), info.FullMethod)
			start := time.Now()
			err := next(srv, serverStream{ss, ctx})
			m.answered(info.FullMethod, start, err)
			End(span, err)
			return toStatus(err)
		}),
	}
}

// rpcMetrics count what a gRPC server answers.
type rpcMetrics struct {
	total   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
}

func (m rpcMetrics) answered(method string, start time.Time, err error) {
	m.seconds.WithLabelValues(method).Observe(time.Since(start).Seconds())
	kind := "ok"
	if err != nil {
		kind = string(services.KindOf(err))
	}
	m.total.WithLabelValues(method, kind).Inc()
}

func (t *Telemetry) serverSpan(ctx context.Context, method string) (context.Context, trace.Span) {
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		ctx = Propagator.Extract(ctx, carrier(md))
	}
	return t.Tracer.Start(ctx, method, trace.WithSpanKind(trace.SpanKindServer))
}

// DialOptions instrument a gRPC client: a client span per call, trace context
// in the metadata, and statuses turned back into services errors, those that
// end a stream too.
func (t *Telemetry) DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			ctx, span := t.Tracer.Start(ctx, method, trace.WithSpanKind(trace.SpanKindClient))
			err := FromStatus(invoke(inject(ctx), method, req, reply, cc, opts...))
			End(span, err)
			return err
		}),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			ctx, span := t.Tracer.Start(ctx, method, trace.WithSpanKind(trace.SpanKindClient))
			s, err := streamer(inject(ctx), desc, cc, method, opts...)
			if err != nil {
				err = FromStatus(err)
				End(span, err)
				return nil, err
			}
			return newClientStream(ctx, s, desc, span), nil
		}),
	}
}

func inject(ctx context.Context) context.Context {
	md, ok := metadata.FromOutgoingContext(ctx)
	if ok {
		md = md.Copy()
	} else {
		md = metadata.MD{}
	}
	Propagator.Inject(ctx, carrier(md))
	return metadata.NewOutgoingContext(ctx, md)
}

// End ends a span and marks it failed when err is not nil.
func End(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
		span.SetAttributes(attribute.String("error.kind", string(services.KindOf(err))))
	}
	span.End()
}
