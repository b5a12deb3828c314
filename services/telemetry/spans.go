package telemetry

import (
	"context"
	"sync"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// spanCapacity bounds the finished spans an instance keeps: at some 300 bytes
// each (see record), half a megabyte.
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

// ring is a span processor that keeps the last finished spans, as records.
type ring struct {
	mu      sync.Mutex
	cap     int
	next    int
	records []record
	keys    keys
	scratch record
}

func newRing(capacity int) *ring { return &ring{cap: capacity} }

func (*ring) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (*ring) Shutdown(context.Context) error                  { return nil }
func (*ring) ForceFlush(context.Context) error                { return nil }

func (r *ring) OnEnd(s sdktrace.ReadOnlySpan) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.scratch = appendSpan(r.scratch[:0], &r.keys, s)
	if len(r.records) < r.cap {
		r.records = append(r.records, fit(nil, r.scratch))
		return
	}
	r.records[r.next] = fit(r.records[r.next], r.scratch)
	r.next = (r.next + 1) % r.cap
}

// fit is a copy of a record in the place of an older one, if it is of its size.
func fit(old, r record) record {
	if n := len(r); cap(old) >= n && cap(old) <= 2*n {
		return append(old[:0], r...)
	}
	return append(make(record, 0, len(r)), r...)
}

// Spans returns the kept spans of one trace, the oldest first.
func (t *Telemetry) Spans(traceID string) []Span {
	id, err := trace.TraceIDFromHex(traceID)
	if err != nil {
		return nil // nothing has such an ID
	}
	r := t.spans
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Span
	for k := range r.records {
		if rec := r.records[(r.next+k)%len(r.records)]; rec.trace() == id {
			s := rec.span(&r.keys)
			s.Instance, s.Region = t.Instance, t.Region
			out = append(out, s)
		}
	}
	return out
}
