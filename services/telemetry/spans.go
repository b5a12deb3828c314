package telemetry

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// An instance keeps as many finished spans as have room in ringBytes: at some 120
// bytes each (see record) a thousand. They lie in blocks of blockBytes, which are
// made as spans come; an instance that is asked little holds one or two.
const (
	ringBytes  = 128 << 10
	blockBytes = 4 << 10
)

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

// ring is a span processor that keeps the last finished spans, as records. What
// it holds is bounded in bytes and is few objects without pointers, however many
// spans there are and whatever their sizes.
type ring struct {
	mu    sync.Mutex
	limit int // bytes that the blocks may take together
	size  int // that they do
	// blocks hold records, the oldest first, each after its length (varint).
	blocks  [][]byte
	keys    keys
	scratch record
}

func newRing(limit int) *ring { return &ring{limit: limit} }

func (*ring) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (*ring) Shutdown(context.Context) error                  { return nil }
func (*ring) ForceFlush(context.Context) error                { return nil }

func (r *ring) OnEnd(s sdktrace.ReadOnlySpan) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.scratch = appendSpan(r.scratch[:0], &r.keys, s)
	r.add(r.scratch)
	if cap(r.scratch) > blockBytes {
		r.scratch = nil
	}
}

// add keeps a record in the place of the oldest ones; one that is larger than
// the whole ring is not kept.
func (r *ring) add(rec record) {
	need := binary.MaxVarintLen32 + len(rec)
	if need > r.limit {
		return
	}
	if n := len(r.blocks); n == 0 || cap(r.blocks[n-1])-len(r.blocks[n-1]) < need {
		r.open(max(need, blockBytes))
	}
	last := &r.blocks[len(r.blocks)-1]
	*last = append(binary.AppendUvarint(*last, uint64(len(rec))), rec...)
}

// open begins a block of a size, in the memory of the oldest where that fits.
func (r *ring) open(size int) {
	var b []byte
	for r.size+size > r.limit && len(r.blocks) > 0 {
		b = r.blocks[0]
		r.size -= cap(b)
		r.blocks = slices.Delete(r.blocks, 0, 1)
	}
	if cap(b) != size {
		b = make([]byte, 0, size)
	}
	r.size += size
	r.blocks = append(r.blocks, b[:0])
}

// all are the records, the oldest first; they change with the next add.
func (r *ring) all(yield func(record) bool) {
	for _, b := range r.blocks {
		for len(b) > 0 {
			n, k := binary.Uvarint(b)
			end := k + int(n)
			if !yield(record(b[k:end])) {
				return
			}
			b = b[end:]
		}
	}
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
	for rec := range r.all {
		if rec.trace() == id {
			s := rec.span(&r.keys)
			s.Instance, s.Region = t.Instance, t.Region
			out = append(out, s)
		}
	}
	return out
}
