package oca

import (
	"context"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/flix-lab/flix/oca/wire"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/token"
	"github.com/flix-lab/flix/topology"
)

// clientSide answers clients: GET and HEAD of files, by signed path.
type clientSide struct {
	*Server
	// plain: the client can send no PROXY header.
	plain bool
}

// visit is what is known of a client's request until it is answered.
type visit struct {
	start  time.Time
	claims token.Claims
	name   ref
	span   trace.Span // nil before the client is admitted
	err    error
}

// Serve implements wire.Handler.
func (s clientSide) Serve(r *wire.Request, a *wire.Answer) {
	s.inFlight.Add(1)
	v := &visit{start: s.d.Clock()}
	a.State = v
	if wire.Method(r, a) {
		return
	}
	if s.plain {
		s.standIn(r)
	}
	if v.err = s.answerClient(r, a, v); v.err != nil {
		wire.Problem(r, a, statusOf(v.err), v.err)
	}
}

// standIn gives a request of this machine's browser, which can send no PROXY
// header, the simulated address that its URL was signed for: who sits at the
// lab's machine is whichever client the play API took it for. From elsewhere
// the peer's own address counts.
func (s *Server) standIn(r *wire.Request) {
	if !trusts(s.d.TrustedProxies, r.Client.Addr()) {
		return
	}
	tok, _, err := parseClientPath(r.Path)
	if err != nil {
		return
	}
	claims, err := s.admitted.verify(s.d.Key, tok, s.d.Clock())
	if err != nil {
		return
	}
	if a, err := netip.ParseAddr(claims.Client); err == nil {
		r.Client = netip.AddrPortFrom(a.Unmap(), r.Client.Port())
	}
}

// statusOf is the status of an answer that is an error.
func statusOf(err error) int {
	if services.ReasonOf(err) == reasonSuperseded {
		return http.StatusGone
	}
	return services.KindOf(err).HTTPStatus()
}

// answerClient checks the token and begins the span that Done ends.
func (s *Server) answerClient(r *wire.Request, a *wire.Answer, v *visit) error {
	tok, name, err := parseClientPath(r.Path)
	if err != nil {
		return err
	}
	v.name = name
	if v.claims, err = s.admit(tok, name, r.Client.Addr()); err != nil {
		return err
	}
	ctx := propagation.TraceContext{}.Extract(context.Background(), carrier{r})
	if !trace.SpanContextFromContext(ctx).IsValid() {
		ctx = trace.ContextWithRemoteSpanContext(ctx, playContext(v.claims.Trace))
	}
	_, v.span = s.d.Tel.Tracer.Start(ctx, "oca GET "+name.path, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("flix.appliance", string(s.d.ID)), attribute.String("flix.title", name.title), attribute.String("http.request.header.range", r.Get("Range"))))
	return s.sendFile(r, a, name)
}

// Done implements wire.Handler.
func (s clientSide) Done(r *wire.Request, a *wire.Answer) {
	v, _ := a.State.(*visit)
	if v == nil { // no request: the client sent something else
		s.metrics.requests.WithLabelValues(strconv.Itoa(a.Status)).Inc()
		return
	}
	defer s.inFlight.Add(-1)
	if v.span != nil {
		v.span.SetAttributes(attribute.Int("http.response.status_code", a.Status), attribute.Int64("http.response.body.size", a.Sent))
		if a.Status >= http.StatusInternalServerError {
			v.span.SetStatus(codes.Error, http.StatusText(a.Status))
		}
		v.span.End()
	}
	s.metrics.requests.WithLabelValues(strconv.Itoa(a.Status)).Inc()
	s.metrics.sent.Add(float64(a.Sent))
	s.sent.Add(uint64(a.Sent))
	if v.name.title != "" {
		s.traffic.add(v.name.title, a.Sent)
	}
	s.logAccess(r, a, v)
}

// carrier reads a trace's context from a request.
type carrier struct{ r *wire.Request }

// Get implements propagation.TextMapCarrier.
func (c carrier) Get(key string) string { return c.r.Get(key) }

// Set implements propagation.TextMapCarrier; a request is only read.
func (carrier) Set(string, string) {}

// Keys implements propagation.TextMapCarrier.
func (c carrier) Keys() []string {
	keys := make([]string, 0, len(c.r.Fields))
	for _, f := range c.r.Fields {
		keys = append(keys, f.Name)
	}
	return keys
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
	return s.announces.Load().table.Contains(client)
}

// sendFile answers with a stored file or a part of it.
func (s *Server) sendFile(r *wire.Request, a *wire.Answer, name ref) error {
	s.store.fault().wait()
	f, e, err := s.store.acquire(name)
	if err != nil {
		if services.ReasonOf(err) == reasonLost {
			s.doubts.add(e.sum)
		}
		return err
	}
	a.Content(r, f, s.d.Clock())
	return nil
}

// fillSide answers other appliances.
type fillSide struct{ *Server }

// Serve implements wire.Handler.
func (s fillSide) Serve(r *wire.Request, a *wire.Answer) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		a.Set("Allow", "GET, HEAD")
		wire.Problem(r, a, http.StatusMethodNotAllowed, services.Errorf(services.Invalid, "%q is not a method of fill", r.Method).WithReason("method"))
		return
	}
	if err := s.answerFill(r, a); err != nil {
		wire.Problem(r, a, statusOf(err), err)
	}
}

func (s *Server) answerFill(r *wire.Request, a *wire.Answer) error {
	name, err := parseFillPath(r.Path)
	if err == nil && !s.d.NoAuth {
		bearer, _ := strings.CutPrefix(r.Get("Authorization"), "Bearer ")
		_, err = s.d.Key.Verify(token.Fill, bearer, s.d.Clock())
	}
	if err != nil {
		return err
	}
	return s.sendFile(r, a, name)
}

// Done implements wire.Handler.
func (s fillSide) Done(r *wire.Request, a *wire.Answer) {
	s.metrics.fillRequests.WithLabelValues(strconv.Itoa(a.Status)).Inc()
	s.metrics.fillSent.Add(float64(a.Sent))
	s.d.Tel.Log.Debug("fill access", "from", r.Client, "path", r.Path, "range", r.Get("Range"), "status", a.Status, "bytes", a.Sent, "error", a.Err)
}
