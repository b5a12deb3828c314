// Package telemetry gives every instance its own metrics registry, logger,
// tracer and run-time properties, and the admin endpoint that exposes them.
//
// It keeps nothing global: two instances in one process never share a counter.
// Spans stay in a bounded ring inside the instance and are exported over OTLP
// too when an exporter is given.
package telemetry

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Telemetry is the instruments of one instance. Use New; a nil *Telemetry is
// not valid.
type Telemetry struct {
	// Instance, Role and Region say whose instruments these are.
	Instance, Role, Region string
	// Log writes structured records that name the instance.
	Log *slog.Logger
	// Metrics is the instance's own Prometheus registry.
	Metrics *prometheus.Registry
	// Tracer starts the instance's spans.
	Tracer trace.Tracer
	// Properties are settings that change while the instance runs.
	Properties *Properties

	added    adminPaths
	spans    *ring
	provider *sdktrace.TracerProvider
}

// Config of an instance's telemetry.
type Config struct {
	Instance, Role, Region string
	// Log receives the instance's records; nil discards them.
	Log slog.Handler
	// Exporter receives every span besides the ring; nil for none. It may be
	// shared by instances and is not shut down by Close.
	Exporter sdktrace.SpanExporter
	// Properties at start.
	Properties map[string]string
}

// Propagator carries trace context over HTTP headers and gRPC metadata in the
// W3C form.
var Propagator propagation.TextMapPropagator = propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})

// New makes the instruments of one instance.
func New(c Config) *Telemetry {
	h := c.Log
	if h == nil {
		h = slog.DiscardHandler
	}
	t := &Telemetry{
		Instance: c.Instance, Role: c.Role, Region: c.Region,
		Log:        slog.New(h).With("instance", c.Instance),
		Metrics:    prometheus.NewRegistry(),
		Properties: NewProperties(c.Properties),
		spans:      newRing(ringBytes),
	}
	opts := []sdktrace.TracerProviderOption{
		sdktrace.WithSpanProcessor(t.spans),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", c.Role),
			attribute.String("service.instance.id", c.Instance),
			attribute.String("cloud.region", c.Region),
		)),
	}
	if c.Exporter != nil {
		opts = append(opts, sdktrace.WithBatcher(textExporter{c.Exporter}))
	}
	t.provider = sdktrace.NewTracerProvider(opts...)
	t.Tracer = t.provider.Tracer("flix")
	return t
}

// Discard returns instruments whose output nobody reads; for tests and for
// short-lived clients.
func Discard() *Telemetry { return New(Config{Instance: "test", Role: "test"}) }

// Close flushes what the exporter has not got yet, and records no more. The
// exporter is its owner's to end: others use it, too.
func (t *Telemetry) Close(ctx context.Context) error { return t.provider.Shutdown(ctx) }

// TraceID returns the hexadecimal trace id of the context, or "".
func TraceID(ctx context.Context) string {
	if sc := trace.SpanContextFromContext(ctx); sc.HasTraceID() {
		return sc.TraceID().String()
	}
	return ""
}
