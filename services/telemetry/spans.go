package telemetry

import (
	"context"
	"sync"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// spanCapacity bounds the finished spans an instance keeps: at some 500 bytes
// each, a megabyte.
const spanCapacity = 2048

// Span is one finished span as the admin endpoint and "flix trace" show it.
type Span struct {
	TraceID  string `json:"trace_id"`
	SpanID   string `json:"span_id"`
	ParentID string `json:"parent_id,omitempty"`
	Name     string `json:"name"`
	// Kind is client, server, producer, consumer or internal.
	Kind     string `json:"kind"`
	Instance string `json:"instance"`
	Region   string `json:"region,omitempty"`
	// StartUnixNano and EndUnixNano are wall-clock times of the instance.
	StartUnixNano int64             `json:"start_unix_nano"`
	EndUnixNano   int64             `json:"end_unix_nano"`
	Error         string            `json:"error,omitempty"`
	Attributes    map[string]string `json:"attributes,omitempty"`
}

// ring is a span processor that keeps the last finished spans.
type ring struct {
	mu    sync.Mutex
	cap   int
	next  int
	spans []sdktrace.ReadOnlySpan
}

func newRing(capacity int) *ring { return &ring{cap: capacity} }

func (*ring) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (*ring) Shutdown(context.Context) error                  { return nil }
func (*ring) ForceFlush(context.Context) error                { return nil }

func (r *ring) OnEnd(s sdktrace.ReadOnlySpan) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.spans) < r.cap {
		r.spans = append(r.spans, s)
		return
	}
	r.spans[r.next] = s
	r.next = (r.next + 1) % r.cap
}

// Spans returns the kept spans of one trace.
func (t *Telemetry) Spans(traceID string) []Span {
	t.spans.mu.Lock()
	defer t.spans.mu.Unlock()
	var out []Span
	for _, s := range t.spans.spans {
		if s.SpanContext().TraceID().String() == traceID {
			out = append(out, t.span(s))
		}
	}
	return out
}

func (t *Telemetry) span(s sdktrace.ReadOnlySpan) Span {
	sp := Span{
		TraceID: s.SpanContext().TraceID().String(), SpanID: s.SpanContext().SpanID().String(),
		Name: s.Name(), Kind: s.SpanKind().String(), Instance: t.Instance, Region: t.Region,
		StartUnixNano: s.StartTime().UnixNano(), EndUnixNano: s.EndTime().UnixNano(),
	}
	if s.Parent().HasSpanID() {
		sp.ParentID = s.Parent().SpanID().String()
	}
	if st := s.Status(); st.Code == codes.Error {
		sp.Error = st.Description
		if sp.Error == "" {
			sp.Error = "error"
		}
	}
	if as := s.Attributes(); len(as) > 0 {
		sp.Attributes = make(map[string]string, len(as))
		for _, a := range as {
			sp.Attributes[string(a.Key)] = a.Value.String()
		}
	}
	return sp
}
