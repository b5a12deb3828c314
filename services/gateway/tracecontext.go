package gateway

import (
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/flix-lab/flix/services"
)

// traceparentHeader carries the trace context of W3C Trace Context level 2.
const traceparentHeader = "Traceparent"

// traceContext is the trace that a request belongs to.
type traceContext struct {
	span trace.Span // nil while nothing is recorded
	id   trace.TraceID
	// parent is what the API reads, and remote what the context gets, when
	// nothing is recorded.
	parent string
	remote trace.SpanContext
}

// Traced says whether the spans of this request are recorded. Where they are
// not, making them is waste.
func (ex *Exchange) Traced() bool { return ex.trace.span != nil }

// TraceID is the request's trace, recorded or not.
func (ex *Exchange) TraceID() string {
	if !ex.trace.id.IsValid() {
		return ""
	}
	return ex.trace.id.String()
}

// parseTraceparent reads the header by W3C Trace Context: version, trace id,
// parent id and flags in lower-case hex. A later version may have more behind
// them; version ff and zero ids are invalid.
func parseTraceparent(h string) (sc trace.SpanContext, ok bool) {
	if len(h) < 55 || h[2] != '-' || h[35] != '-' || h[52] != '-' || len(h) > 512 {
		return sc, false
	}
	var version, flags [1]byte
	var tid trace.TraceID
	var sid trace.SpanID
	if !lowerHex(version[:], h[:2]) || !lowerHex(tid[:], h[3:35]) || !lowerHex(sid[:], h[36:52]) || !lowerHex(flags[:], h[53:55]) {
		return sc, false
	}
	if version[0] == 0xff || (version[0] == 0 && len(h) != 55) || (len(h) > 55 && h[55] != '-') || !tid.IsValid() || !sid.IsValid() {
		return sc, false
	}
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: tid, SpanID: sid, TraceFlags: trace.TraceFlags(flags[0]) & trace.FlagsSampled, Remote: true}), true
}

func lowerHex(dst []byte, src string) bool {
	for k := range dst {
		hi, lo := unhex(src[2*k]), unhex(src[2*k+1])
		if hi > 15 || lo > 15 {
			return false
		}
		dst[k] = hi<<4 | lo
	}
	return true
}

func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}

// sampler decides which requests that come without a trace begin a recorded
// one: so many per second, so that a trace costs a busy gateway nothing and an
// idle one shows every request.
type sampler struct {
	perSecond atomic.Int64
	second    atomic.Int64
	used      atomic.Int64
}

// defaultSampled is how many traces a gateway begins per second.
const defaultSampled = 20

func (s *sampler) option() Option {
	return Option{
		Name: "sample", Doc: "traces begun per second; those that a client began and samples are always recorded", Default: "20",
		Set: func(v string) error { return setCount(&s.perSecond, v, defaultSampled) },
	}
}

func (s *sampler) take(now time.Time) bool {
	sec := now.Unix()
	if s.second.Load() != sec {
		s.second.Store(sec)
		s.used.Store(0)
	}
	limit := s.perSecond.Load()
	return s.used.Load() < limit && s.used.Add(1) <= limit
}

// traceRequest continues the client's trace, or begins one.
func (s *Server) traceRequest(ex *Exchange) error {
	sc, ok := parseTraceparent(ex.Request.Header.Get(traceparentHeader))
	if ok {
		if state, err := trace.ParseTraceState(ex.Request.Header.Get("Tracestate")); err == nil {
			sc = sc.WithTraceState(state)
		}
	} else {
		// What is no trace context must not reach an API beside ours.
		ex.Request.Header.Del(traceparentHeader)
		ex.Request.Header.Del("Tracestate")
	}
	if (ok && !sc.IsSampled()) || (!ok && !s.traces.take(ex.Received)) {
		if !ok {
			sc = newSpanContext()
		}
		ex.trace.id = sc.TraceID()
		ex.trace.parent, ex.trace.remote = formatTraceparent(sc), sc
		if ok && sc.TraceState().Len() > 0 {
			ex.SetContext(trace.ContextWithRemoteSpanContext(ex.Context(), sc))
		}
		return nil
	}
	ctx := ex.Context()
	if ok {
		ctx = trace.ContextWithRemoteSpanContext(ctx, sc)
	}
	ctx, span := s.d.Tel.Tracer.Start(ctx, "gateway "+ex.Request.Method+" "+ex.Request.Path,
		trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(ex.Received),
		trace.WithAttributes(attribute.String("client.address", ex.Client.String()), attribute.String("request.id", ex.RequestID)))
	if ex.ProxiedFrom != "" {
		span.SetAttributes(attribute.String("proxied.from", ex.ProxiedFrom))
	}
	ex.trace = traceContext{span: span, id: span.SpanContext().TraceID()}
	ex.SetContext(ctx)
	ex.OnDone(endTrace)
	return nil
}

// formatTraceparent is the header of a trace that is not recorded.
func formatTraceparent(sc trace.SpanContext) string {
	tid, sid := sc.TraceID(), sc.SpanID()
	var b [55]byte
	copy(b[:], "00-")
	hex.Encode(b[3:], tid[:])
	b[35] = '-'
	hex.Encode(b[36:], sid[:])
	copy(b[52:], "-00")
	return string(b[:])
}

// newSpanContext is a trace that nobody records, so that the logs of all who
// serve the request name the same one.
func newSpanContext() trace.SpanContext {
	var b [24]byte
	for k := 0; k < len(b); k += 8 {
		n := rand.Uint64() | 1 // no id is all zeros
		for j := range 8 {
			b[k+j] = byte(n >> (8 * j))
		}
	}
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID(b[:16]), SpanID: trace.SpanID(b[16:])})
}

// endTrace closes the request's span with what became of it.
func endTrace(ex *Exchange) {
	span := ex.trace.span
	span.SetAttributes(attribute.Int("http.response.status_code", ex.Response.Status), attribute.String("status.category", ex.Category.String()),
		attribute.String("passport", ex.Passport.Text(ex.Received, time.Now())))
	if ex.Route != nil {
		span.SetAttributes(attribute.String("http.route", ex.Route.Name))
	}
	if ex.Response.Status >= http.StatusInternalServerError {
		what := http.StatusText(ex.Response.Status)
		if ex.Err != nil {
			what = ex.Err.Error()
		}
		span.SetStatus(codes.Error, what)
	}
	span.End()
}

// requestID keeps a well-formed id that the client made, or makes one.
func (s *Server) requestID(ex *Exchange) error {
	ex.RequestID = ex.Request.Header.Get("X-Request-Id")
	if !goodRequestID(ex.RequestID) {
		ex.RequestID = newRequestID()
	}
	return nil
}

// newRequestID is 96 random bits in hex.
func newRequestID() string {
	var raw [12]byte
	a, b := rand.Uint64(), rand.Uint32()
	for k := range 8 {
		raw[k] = byte(a >> (8 * k))
	}
	for k := range 4 {
		raw[8+k] = byte(b >> (8 * k))
	}
	var text [24]byte
	hex.Encode(text[:], raw[:])
	return string(text[:])
}

func goodRequestID(id string) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	for _, c := range []byte(id) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

// setCount takes a number from 0 on over.
func setCount(to *atomic.Int64, value string, def int64) error {
	if value == "" {
		to.Store(def)
		return nil
	}
	n, ok := wholeNumber(value)
	if !ok {
		return services.Errorf(services.Invalid, "%q is not a whole number from 0 on", value)
	}
	to.Store(n)
	return nil
}
