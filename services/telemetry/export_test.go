package telemetry

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/trace"
)

// A path that is no UTF-8 spoils neither its own span nor those that are
// exported with it: a collector takes a whole batch or nothing of it.
func TestSpansOfAnyBytesAreExported(t *testing.T) {
	var (
		mu  sync.Mutex
		got bytes.Buffer
	)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = io.Copy(&got, r.Body)
	}))
	defer collector.Close()
	exporter, err := otlptracehttp.New(t.Context(), otlptracehttp.WithEndpointURL(collector.URL), otlptracehttp.WithCompression(otlptracehttp.NoCompression))
	if err != nil {
		t.Fatal(err)
	}
	tel := New(Config{Instance: "i", Role: "r", Exporter: exporter})
	_, span := tel.Tracer.Start(context.Background(), "named \xff", trace.WithAttributes(attribute.String("url.path", "/path-\xfe"), attribute.StringSlice("all", []string{"listed-\xfd"})))
	span.AddEvent("event \xfc", trace.WithAttributes(attribute.String("what", "told-\xfb")))
	span.SetStatus(codes.Error, "failed \xfa")
	span.End()
	_, span = tel.Tracer.Start(context.Background(), "beside it")
	span.End()
	if err := tel.Close(t.Context()); err != nil {
		t.Errorf("export: %v", err)
	}
	if err := exporter.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, want := range []string{"named ", "/path-", "listed-", "event ", "told-", "failed ", "beside it"} {
		if !strings.Contains(got.String(), want) {
			t.Errorf("%q was not exported", want)
		}
	}
}
