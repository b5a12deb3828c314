package telemetry

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
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

// ServerOptions instrument a gRPC server: a server span and the metrics
// rpc_server_requests_total and rpc_server_seconds per method, and errors
// turned into statuses by services' table (see ToStatus).
func (t *Telemetry) ServerOptions() []grpc.ServerOption {
	total := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rpc_server_requests_total", Help: "gRPC requests answered."}, []string{"method", "kind"})
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "rpc_server_seconds", Help: "Time to answer a gRPC request.", Buckets: prometheus.ExponentialBuckets(0.0001, 4, 8)}, []string{"method"})
	t.Metrics.MustRegister(total, seconds)
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			ctx, span := t.serverSpan(ctx, info.FullMethod)
			start := time.Now()
			resp, err := next(ctx, req)
			seconds.WithLabelValues(info.FullMethod).Observe(time.Since(start).Seconds())
			kind := "ok"
			if err != nil {
				kind = string(services.KindOf(err))
				End(span, err)
				err = ToStatus(err)
			} else {
				span.End()
			}
			total.WithLabelValues(info.FullMethod, kind).Inc()
			return resp, err
		}),
		grpc.ChainStreamInterceptor(func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			err := next(srv, ss)
			kind := "ok"
			if err != nil {
				kind = string(services.KindOf(err))
			}
			total.WithLabelValues(info.FullMethod, kind).Inc()
			return ToStatus(err)
		}),
		grpc.SharedWriteBuffer(true),
	}
}

func (t *Telemetry) serverSpan(ctx context.Context, method string) (context.Context, trace.Span) {
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		ctx = Propagator.Extract(ctx, carrier(md))
	}
	return t.Tracer.Start(ctx, method, trace.WithSpanKind(trace.SpanKindServer))
}

// DialOptions instrument a gRPC client: a client span per call, trace context
// in the metadata, and statuses turned back into services errors.
func (t *Telemetry) DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			ctx, span := t.Tracer.Start(ctx, method, trace.WithSpanKind(trace.SpanKindClient))
			err := FromStatus(invoke(inject(ctx), method, req, reply, cc, opts...))
			End(span, err)
			return err
		}),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			s, err := streamer(inject(ctx), desc, cc, method, opts...)
			return s, FromStatus(err)
		}),
		grpc.WithSharedWriteBuffer(true),
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

// Handler gives an HTTP handler a server span that continues the caller's
// trace, named after name and the path.
func (t *Telemetry) Handler(name string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := Propagator.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := t.Tracer.Start(ctx, name+" "+r.Method, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attribute.String("url.path", r.URL.Path)))
		sw := &statusWriter{ResponseWriter: w}
		h.ServeHTTP(sw, r.WithContext(ctx))
		span.SetAttributes(attribute.Int("http.response.status_code", sw.status))
		if sw.status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, http.StatusText(sw.status))
		}
		span.End()
	})
}

// statusWriter remembers the status; it unwraps so that flushing, hijacking
// and sendfile still reach the real writer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (s *statusWriter) WriteHeader(status int) {
	s.status = status
	s.ResponseWriter.WriteHeader(status)
}
func (s *statusWriter) Write(b []byte) (int, error) {
	if s.status == 0 {
		s.status = http.StatusOK
	}
	return s.ResponseWriter.Write(b)
}
func (s *statusWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// Transport gives outgoing HTTP requests a client span and trace headers.
func (t *Telemetry) Transport(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		ctx, span := t.Tracer.Start(r.Context(), r.Method+" "+r.URL.Host, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attribute.String("url.path", r.URL.Path)))
		r = r.Clone(ctx)
		Propagator.Inject(ctx, propagation.HeaderCarrier(r.Header))
		resp, err := next.RoundTrip(r)
		if resp != nil {
			span.SetAttributes(attribute.Int("http.response.status_code", resp.StatusCode))
		}
		End(span, err)
		return resp, err
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
