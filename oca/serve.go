package oca

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/token"
	"github.com/flix-lab/flix/topology"
)

// maxCMCD bounds what an access log line repeats of a client's report.
const maxCMCD = 1024

// cmcdHeaders carry Common Media Client Data (CTA-5004) when the query does
// not.
var cmcdHeaders = [...]string{"CMCD-Object", "CMCD-Request", "CMCD-Session", "CMCD-Status"}

// serveClient answers clients: GET and HEAD of files, by signed path.
func (s *Server) serveClient(w http.ResponseWriter, r *http.Request) {
	s.inFlight.Add(1)
	defer s.inFlight.Add(-1)
	start := s.d.Clock()
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", "Accept-Ranges, Content-Length, Content-Range, ETag")
	h.Set("Timing-Allow-Origin", "*")
	cw := &countingWriter{ResponseWriter: w, ctx: r.Context(), bucket: &s.serveBucket}
	client := clientAddr(r)
	var claims token.Claims
	var err error
	switch r.Method {
	case http.MethodOptions:
		preflight(cw)
	case http.MethodGet, http.MethodHead:
		claims, err = s.answerClient(cw, r, client)
	default:
		h.Set("Allow", "GET, HEAD, OPTIONS")
		err = services.Errorf(services.Invalid, "%s is not a method of an appliance", r.Method).WithReason("method")
		writeProblem(cw, http.StatusMethodNotAllowed, err)
	}
	s.metrics.requests.WithLabelValues(strconv.Itoa(cw.status)).Inc()
	s.metrics.sent.Add(float64(cw.bytes))
	s.sent.Add(uint64(cw.bytes))
	if s.d.Tel.Log.Enabled(r.Context(), slog.LevelDebug) {
		s.d.Tel.Log.Debug("access", "client", client, "method", r.Method, "path", logPath(r.URL.Path), "range", r.Header.Get("Range"), "status", cw.status,
			"bytes", cw.bytes, "session", claims.Session, "cmcd", cmcd(r), "took", s.d.Clock().Sub(start), "error", err)
	}
}

// answerClient checks the token and sends the file, inside a span.
func (s *Server) answerClient(w *countingWriter, r *http.Request, client netip.Addr) (token.Claims, error) {
	tok, name, err := parseClientPath(r.URL.Path)
	if err != nil {
		writeProblem(w, http.StatusNotFound, err)
		return token.Claims{}, err
	}
	claims, err := s.admit(tok, name, client)
	if err != nil {
		writeProblem(w, services.KindOf(err).HTTPStatus(), err)
		return claims, err
	}
	ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	if !trace.SpanContextFromContext(ctx).IsValid() {
		ctx = trace.ContextWithRemoteSpanContext(ctx, playContext(claims.Trace))
	}
	_, span := s.d.Tel.Tracer.Start(ctx, "oca GET "+name.path, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("flix.appliance", string(s.d.ID)), attribute.String("flix.title", name.title), attribute.String("http.request.header.range", r.Header.Get("Range"))))
	err = s.sendFile(w, r, name)
	span.SetAttributes(attribute.Int("http.response.status_code", w.status), attribute.Int64("http.response.body.size", w.bytes))
	if w.status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, http.StatusText(w.status))
	}
	span.End()
	return claims, err
}

// playContext stands for the play that a URL was signed for, so that the
// requests of a client that sends no traceparent are found by its trace.
func playContext(id string) trace.SpanContext {
	t, err := trace.TraceIDFromHex(id)
	if err != nil {
		return trace.SpanContext{}
	}
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: t, SpanID: trace.SpanID(t[8:]), TraceFlags: trace.FlagsSampled, Remote: true})
}

// admit checks that the URL was signed for this title and client, and that
// the client is one the site serves: embedded appliances only those inside the
// prefixes announced to them, exchanges everybody.
func (s *Server) admit(tok string, r ref, client netip.Addr) (token.Claims, error) {
	if s.d.NoAuth {
		return token.Claims{}, nil
	}
	claims, err := s.admitted.verify(s.d.Key, tok, s.d.Clock())
	if err != nil {
		return claims, err
	}
	if claims.Title != r.title {
		return claims, services.Errorf(services.Denied, "the URL was signed for another title").WithReason("token_title")
	}
	if a, err := netip.ParseAddr(claims.Client); err != nil || a.Unmap() != client {
		return claims, services.Errorf(services.Denied, "the URL was signed for another address than %s", client).WithReason("token_client").
			WithRemedy("ask the play API for URLs from this address")
	}
	if s.d.Site.Kind == topology.SiteISP && !s.announced(client) {
		return claims, services.Errorf(services.Denied, "%s is not in a prefix announced to %s", client, s.d.Site.Name).WithReason("client_not_routed").
			WithRemedy("use an appliance at the exchange")
	}
	return claims, nil
}

func (s *Server) announced(client netip.Addr) bool {
	for _, p := range s.prefixes {
		if p.Contains(client) {
			return true
		}
	}
	return false
}

// sendFile answers with a stored file or a part of it.
func (s *Server) sendFile(w *countingWriter, r *http.Request, name ref) error {
	f, e, err := s.store.open(name)
	if err != nil {
		if services.ReasonOf(err) == reasonLost {
			s.doubts.add(e.sum)
		}
		status := http.StatusNotFound
		if services.ReasonOf(err) == reasonSuperseded {
			status = http.StatusGone
		}
		writeProblem(w, status, err)
		return err
	}
	defer f.Close()
	h := w.Header()
	h.Set("ETag", `"`+e.sum.String()+`"`)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Content-Type", contentType(name.path))
	normaliseRange(r, e.size)
	http.ServeContent(w, r, "", time.Time{}, f)
	return nil
}

// normaliseRange makes up for what net/http does not tell apart: a suffix of
// no bytes cannot be satisfied (RFC 9110, 14.1.2), so it becomes a range that
// lies behind the end.
func normaliseRange(r *http.Request, size uint64) {
	if spec, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok && strings.TrimLeft(strings.TrimPrefix(strings.TrimSpace(spec), "-"), "0") == "" && strings.HasPrefix(strings.TrimSpace(spec), "-0") {
		r.Header.Set("Range", "bytes="+strconv.FormatUint(size, 10)+"-")
	}
}

// serveFill answers other appliances.
func (s *Server) serveFill(w http.ResponseWriter, r *http.Request) {
	cw := &countingWriter{ResponseWriter: w, ctx: r.Context(), bucket: &s.fillOutBucket}
	err := s.answerFill(cw, r)
	s.metrics.fillRequests.WithLabelValues(strconv.Itoa(cw.status)).Inc()
	s.metrics.fillSent.Add(float64(cw.bytes))
	s.d.Tel.Log.Debug("fill access", "from", r.RemoteAddr, "path", r.URL.Path, "range", r.Header.Get("Range"), "status", cw.status, "bytes", cw.bytes, "error", err)
}

func (s *Server) answerFill(w *countingWriter, r *http.Request) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		err := services.Errorf(services.Invalid, "%s is not a method of fill", r.Method)
		writeProblem(w, http.StatusMethodNotAllowed, err)
		return err
	}
	name, err := parseFillPath(r.URL.Path)
	if err == nil && !s.d.NoAuth {
		bearer, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		_, err = s.d.Key.Verify(token.Fill, bearer, s.d.Clock())
	}
	if err != nil {
		writeProblem(w, services.KindOf(err).HTTPStatus(), err)
		return err
	}
	return s.sendFile(w, r, name)
}

func preflight(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Access-Control-Allow-Methods", "GET, HEAD")
	h.Set("Access-Control-Allow-Headers", "Range, If-Range, If-None-Match, Traceparent, Tracestate, CMCD-Object, CMCD-Request, CMCD-Session, CMCD-Status")
	h.Set("Access-Control-Max-Age", "86400")
	w.WriteHeader(http.StatusNoContent)
}

// writeProblem answers with an error as JSON; it is never cached.
func writeProblem(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Cache-Control", "no-store")
	body, jerr := json.Marshal(services.ProblemOf(err))
	if jerr != nil { // Problem holds only strings
		panic("oca: problem: " + jerr.Error())
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client is gone: nothing to tell it
}

// clientAddr is the address that the PROXY header gave, or the peer's own.
func clientAddr(r *http.Request) netip.Addr {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap().WithZone("")
}

func cmcd(r *http.Request) string {
	if q := r.URL.Query().Get("CMCD"); q != "" {
		return q[:min(len(q), maxCMCD)]
	}
	var parts []string
	for _, name := range cmcdHeaders {
		if v := r.Header.Get(name); v != "" {
			parts = append(parts, v)
		}
	}
	all := strings.Join(parts, ",")
	return all[:min(len(all), maxCMCD)]
}

// logPath leaves the token out: a log must not let its reader replay a URL.
func logPath(p string) string {
	if _, rest, ok := strings.Cut(p, "/t/"); ok {
		return "/t/" + rest
	}
	return p
}
