package telemetry

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// TestSpansComeBackWhole ends spans of every shape and compares what is kept
// with what was said.
func TestSpansComeBackWhole(t *testing.T) {
	tel := New(Config{Instance: "us-east/a/play/1", Region: "us-east"})
	at := time.Unix(1_700_000_000, 123_456_789)
	ctx, root := tel.Tracer.Start(t.Context(), "root", trace.WithTimestamp(at), trace.WithSpanKind(trace.SpanKindServer))
	_, child := tel.Tracer.Start(ctx, "GET /ü\xff", trace.WithTimestamp(at.Add(-time.Hour)), trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("url.path", "/a\x00b"), attribute.String("empty", ""),
		attribute.Int64("least", math.MinInt64), attribute.Int64("most", math.MaxInt64), attribute.Int("zero", 0),
		attribute.Float64("half", -0.5), attribute.Float64("inf", math.Inf(1)),
		attribute.Bool("yes", true), attribute.Bool("no", false),
		attribute.StringSlice("list", []string{"a", "b"}),
	))
	child.SetStatus(codes.Error, "it broke")
	child.RecordError(errors.New("not kept"))
	child.End(trace.WithTimestamp(at.Add(time.Second)))
	root.SetStatus(codes.Error, "")
	root.End(trace.WithTimestamp(at.Add(2 * time.Second)))

	id := root.SpanContext().TraceID().String()
	want := []Span{
		{
			TraceID: id, SpanID: child.SpanContext().SpanID().String(), ParentID: root.SpanContext().SpanID().String(),
			Name: "GET /ü\xff", Kind: "client", Instance: "us-east/a/play/1", Region: "us-east",
			StartUnixNano: at.Add(-time.Hour).UnixNano(), EndUnixNano: at.Add(time.Second).UnixNano(), Error: "it broke",
			Attributes: map[string]string{
				"url.path": "/a\x00b", "empty": "", "least": "-9223372036854775808", "most": "9223372036854775807", "zero": "0",
				"half": "-0.5", "inf": attribute.Float64Value(math.Inf(1)).String(), "yes": "true", "no": "false", "list": attribute.StringSliceValue([]string{"a", "b"}).String(),
			},
		},
		{
			TraceID: id, SpanID: root.SpanContext().SpanID().String(), Name: "root", Kind: "server",
			Instance: "us-east/a/play/1", Region: "us-east", StartUnixNano: at.UnixNano(), EndUnixNano: at.Add(2 * time.Second).UnixNano(), Error: "error",
		},
	}
	if got := tel.Spans(id); !reflect.DeepEqual(got, want) {
		t.Errorf("kept\n%+v\nwant\n%+v", got, want)
	}
}

// TestKeysBeyondTheNumbered ends spans with more different keys than get a
// number: the rest are kept by name.
func TestKeysBeyondTheNumbered(t *testing.T) {
	tel := New(Config{Instance: "x"})
	for k := range maxKeys + 10 {
		key := fmt.Sprintf("key-%d", k)
		_, s := tel.Tracer.Start(t.Context(), "s", trace.WithAttributes(attribute.Int("first", k), attribute.Int(key, k)))
		s.End()
		got := tel.Spans(s.SpanContext().TraceID().String())
		if want := map[string]string{"first": fmt.Sprint(k), key: fmt.Sprint(k)}; len(got) != 1 || !reflect.DeepEqual(got[0].Attributes, want) {
			t.Fatalf("kept %+v, want %v", got, want)
		}
	}
	if n := len(tel.spans.keys.names); n != maxKeys {
		t.Errorf("%d keys have a number, want %d", n, maxKeys)
	}
}

func BenchmarkOnEnd(b *testing.B) {
	tel := New(Config{Instance: "x"})
	for b.Loop() {
		_, s := tel.Tracer.Start(b.Context(), "GET /segment", trace.WithAttributes(
			attribute.String("http.request.method", "GET"), attribute.String("url.path", "/v/title/v3/000017.m4s"), attribute.Int("http.response.status_code", 200),
			attribute.Int("http.response.body.size", 131_072), attribute.String("client.address", "127.0.0.1"), attribute.Bool("reused", true)))
		s.End()
	}
}
