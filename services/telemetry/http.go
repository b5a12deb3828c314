package telemetry

import (
	"io"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Handler gives an HTTP handler a server span that continues the caller's
// trace, named after name and the method. A handler that writes nothing has
// answered 200, as net/http does for it.
func (t *Telemetry) Handler(name string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := Propagator.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := t.Tracer.Start(ctx, name+" "+r.Method, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attribute.String("url.path", r.URL.Path)))
		defer span.End() // a handler may end its answer by a panic
		sw := &statusWriter{ResponseWriter: w}
		h.ServeHTTP(sw, r.WithContext(ctx))
		sw.answered()
		span.SetAttributes(attribute.Int("http.response.status_code", sw.status))
		if sw.status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, http.StatusText(sw.status))
		}
	})
}

// statusWriter remembers the status. It hands io.ReaderFrom on, so that a file
// still goes to the socket by sendfile, and unwraps so that flushing and
// hijacking reach the real writer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader notes the status of the answer; an informational one (1xx) is
// not the answer's yet, but for a switch of protocols.
func (s *statusWriter) WriteHeader(status int) {
	if s.status == 0 && (status >= http.StatusOK || status == http.StatusSwitchingProtocols) {
		s.status = status
	}
	s.ResponseWriter.WriteHeader(status)
}

// answered notes that without a status the answer is 200.
func (s *statusWriter) answered() {
	if s.status == 0 {
		s.status = http.StatusOK
	}
}

// Write implements io.Writer.
func (s *statusWriter) Write(b []byte) (int, error) {
	s.answered()
	return s.ResponseWriter.Write(b)
}

// ReadFrom implements io.ReaderFrom by the writer beneath; one that has no
// ReadFrom gets the bytes by Write.
func (s *statusWriter) ReadFrom(r io.Reader) (int64, error) {
	s.answered()
	return io.Copy(s.ResponseWriter, r)
}

// Unwrap is for http.ResponseController.
func (s *statusWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// spanOfClient is a span's of a request.
var spanOfClient = trace.WithSpanKind(trace.SpanKindClient)

// Transport gives outgoing HTTP requests a client span and trace headers.
func (t *Telemetry) Transport(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		ctx, span := t.Tracer.Start(r.Context(), r.Method+" "+r.URL.Host, spanOfClient)
		if span.IsRecording() {
			span.SetAttributes(attribute.String("url.path", r.URL.Path))
		}
		if span.SpanContext().IsValid() || baggage.FromContext(ctx).Len() > 0 { // otherwise there is nothing to tell
			r = r.Clone(ctx)
			Propagator.Inject(ctx, propagation.HeaderCarrier(r.Header))
		}
		resp, err := next.RoundTrip(r)
		if resp != nil && span.IsRecording() {
			span.SetAttributes(attribute.Int("http.response.status_code", resp.StatusCode))
		}
		End(span, err)
		return resp, err
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
