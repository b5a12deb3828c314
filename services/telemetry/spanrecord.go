package telemetry

import (
	"encoding/binary"
	"math"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// record is a finished span as the ring keeps it: bytes without pointers, a tenth
// of what the SDK's snapshot takes, and nothing that a request's buffers hang on.
//
//	16  trace ID
//	 8  span ID
//	 8  ID of the parent, zero without
//	 8  start, Unix nanoseconds, big-endian
//	 8  end
//	 1  kind
//	 1  status code
//	    description of the status, name: each a length (varint) and bytes
//	    attributes to the end: key (varint: its number in keys plus one, or 0 and
//	    the key), type (1), value
type record []byte

// Sizes of a record's fixed part.
const (
	recordTrace  = 16
	recordSpan   = recordTrace + 8
	recordParent = recordSpan + 8
	recordFixed  = recordParent + 8 + 8 + 1 + 1
)

// maxKeys bounds the keys that are numbered: they are the code's own names.
const maxKeys = 256

// keys numbers the attribute keys of a ring, so that a record need not name them.
type keys struct {
	numbers map[attribute.Key]uint64
	names   []string
}

// number of a key plus one, or 0 when it has none.
func (k *keys) number(key attribute.Key) uint64 {
	if n, ok := k.numbers[key]; ok {
		return n
	}
	if len(k.names) == maxKeys {
		return 0
	}
	if k.numbers == nil {
		k.numbers = map[attribute.Key]uint64{}
	}
	name := strings.Clone(string(key)) // it outlives what it may be a part of
	k.names = append(k.names, name)
	n := uint64(len(k.names))
	k.numbers[attribute.Key(name)] = n
	return n
}

func appendSpan(b record, k *keys, s sdktrace.ReadOnlySpan) record {
	c, parent, status := s.SpanContext(), s.Parent().SpanID(), s.Status()
	traceID, spanID := c.TraceID(), c.SpanID()
	b = append(append(append(b, traceID[:]...), spanID[:]...), parent[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(s.StartTime().UnixNano()))
	b = binary.BigEndian.AppendUint64(b, uint64(s.EndTime().UnixNano()))
	b = append(b, byte(s.SpanKind()), byte(status.Code))
	b = appendText(appendText(b, status.Description), s.Name())
	for _, a := range s.Attributes() {
		n := k.number(a.Key)
		if b = binary.AppendUvarint(b, n); n == 0 {
			b = appendText(b, string(a.Key))
		}
		b = appendValue(b, a.Value)
	}
	return b
}

func appendText(b record, s string) record {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendValue(b record, v attribute.Value) record {
	switch v.Type() {
	case attribute.INT64:
		return binary.AppendVarint(append(b, byte(attribute.INT64)), v.AsInt64())
	case attribute.FLOAT64:
		return binary.BigEndian.AppendUint64(append(b, byte(attribute.FLOAT64)), math.Float64bits(v.AsFloat64()))
	case attribute.BOOL:
		if v.AsBool() {
			return append(b, byte(attribute.BOOL), 1)
		}
		return append(b, byte(attribute.BOOL), 0)
	default:
		return appendText(append(b, byte(attribute.STRING)), v.String())
	}
}

// trace is the ID of a record's trace.
func (r record) trace() trace.TraceID { return trace.TraceID(r[:recordTrace]) }

// span reads a record that appendSpan wrote with the same keys.
func (r record) span(k *keys) Span {
	s := Span{TraceID: r.trace().String(), SpanID: trace.SpanID(r[recordTrace:recordSpan]).String()}
	if p := trace.SpanID(r[recordSpan:recordParent]); p.IsValid() {
		s.ParentID = p.String()
	}
	s.StartUnixNano = int64(binary.BigEndian.Uint64(r[recordParent:]))
	s.EndUnixNano = int64(binary.BigEndian.Uint64(r[recordParent+8:]))
	s.Kind = trace.SpanKind(r[recordFixed-2]).String()
	code := codes.Code(r[recordFixed-1])
	r = r[recordFixed:]
	if description := r.text(); code == codes.Error {
		if s.Error = description; s.Error == "" {
			s.Error = "error"
		}
	}
	s.Name = r.text()
	for len(r) > 0 {
		if s.Attributes == nil {
			s.Attributes = map[string]string{}
		}
		key := ""
		if n := r.uvarint(); n > 0 {
			key = k.names[n-1]
		} else {
			key = r.text()
		}
		s.Attributes[key] = r.value().String()
	}
	return s
}

// uvarint, text and value take the next of these from a record.
func (r *record) uvarint() uint64 {
	v, n := binary.Uvarint(*r)
	*r = (*r)[n:]
	return v
}

func (r *record) text() string {
	n := r.uvarint()
	s := string((*r)[:n])
	*r = (*r)[n:]
	return s
}

func (r *record) value() attribute.Value {
	kind := attribute.Type((*r)[0])
	*r = (*r)[1:]
	switch kind {
	case attribute.INT64:
		v, n := binary.Varint(*r)
		*r = (*r)[n:]
		return attribute.Int64Value(v)
	case attribute.FLOAT64:
		v := math.Float64frombits(binary.BigEndian.Uint64(*r))
		*r = (*r)[8:]
		return attribute.Float64Value(v)
	case attribute.BOOL:
		v := (*r)[0] == 1
		*r = (*r)[1:]
		return attribute.BoolValue(v)
	default:
		return attribute.StringValue(r.text())
	}
}
