package telemetry

import (
	"context"
	"slices"
	"strings"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// textExporter makes every text of a span UTF-8 on its way out. Paths and errors
// quote what clients send, protocol buffers take nothing else, and one such span
// would cost its whole batch.
type textExporter struct{ sdktrace.SpanExporter }

// ExportSpans implements sdktrace.SpanExporter.
func (e textExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	for i, s := range spans {
		if !isText(s) {
			spans = slices.Clone(spans) // they are the caller's
			for ; i < len(spans); i++ {
				spans[i] = textSpan{spans[i]}
			}
			break
		}
	}
	return e.SpanExporter.ExportSpans(ctx, spans)
}

// Shutdown implements sdktrace.SpanExporter: instances share the exporter.
func (textExporter) Shutdown(context.Context) error { return nil }

// isText says whether all that textSpan looks at is UTF-8.
func isText(s sdktrace.ReadOnlySpan) bool {
	if !utf8.ValidString(s.Name()) || !utf8.ValidString(s.Status().Description) || !areText(s.Attributes()) {
		return false
	}
	for _, e := range s.Events() {
		if !utf8.ValidString(e.Name) || !areText(e.Attributes) {
			return false
		}
	}
	return true
}

func areText(all []attribute.KeyValue) bool {
	for _, a := range all {
		if text(a) != a {
			return false
		}
	}
	return true
}

// textSpan is a span with a replacement character for what is no UTF-8.
type textSpan struct{ sdktrace.ReadOnlySpan }

func valid(s string) string { return strings.ToValidUTF8(s, "\ufffd") }

// Name implements sdktrace.ReadOnlySpan.
func (s textSpan) Name() string { return valid(s.ReadOnlySpan.Name()) }

// Status implements sdktrace.ReadOnlySpan.
func (s textSpan) Status() sdktrace.Status {
	st := s.ReadOnlySpan.Status()
	st.Description = valid(st.Description)
	return st
}

// Attributes implements sdktrace.ReadOnlySpan.
func (s textSpan) Attributes() []attribute.KeyValue { return texts(s.ReadOnlySpan.Attributes()) }

// Events implements sdktrace.ReadOnlySpan.
func (s textSpan) Events() []sdktrace.Event {
	out := slices.Clone(s.ReadOnlySpan.Events())
	for i := range out {
		out[i].Name, out[i].Attributes = valid(out[i].Name), texts(out[i].Attributes)
	}
	return out
}

func texts(all []attribute.KeyValue) []attribute.KeyValue {
	out := slices.Clone(all)
	for i := range out {
		out[i] = text(out[i])
	}
	return out
}

// text is an attribute whose value is UTF-8; its key is of this program.
func text(a attribute.KeyValue) attribute.KeyValue {
	switch a.Value.Type() {
	case attribute.STRING:
		if s := a.Value.AsString(); !utf8.ValidString(s) {
			a.Value = attribute.StringValue(valid(s))
		}
	case attribute.STRINGSLICE:
		ss := a.Value.AsStringSlice()
		if slices.ContainsFunc(ss, func(s string) bool { return !utf8.ValidString(s) }) {
			for i := range ss {
				ss[i] = valid(ss[i])
			}
			a.Value = attribute.StringSliceValue(ss)
		}
	}
	return a
}
