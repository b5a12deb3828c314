package gateway

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/flix-lab/flix/services"
	api "github.com/flix-lab/flix/services/edge"
	"github.com/flix-lab/flix/services/gateway/wire"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/services/token"
)

// Headers of clients that ask for, and get, the list of attempts.
const (
	debugHeader    = "X-Flix-Debug"
	attemptsHeader = "X-Flix-Proxy-Attempts"
)

// signinPath is where a client gets a member token.
const signinPath = "/signup/signin"

// builtin are the filters every gateway has. Evacuation comes before
// authorization: a region that is being left answers nothing by itself, not
// even a refusal.
func (s *Server) builtin() []Filter {
	leaving := func(ex *Exchange) bool { return len(ex.Savers) > 0 }
	staying := func(ex *Exchange) bool { return len(ex.Savers) == 0 }
	return []Filter{
		{Name: "metrics", Phase: Inbound, Order: 10, Run: s.count},
		{Name: "client-address", Phase: Inbound, Order: 20, Run: s.clientAddress},
		{Name: "request-id", Phase: Inbound, Order: 30, Run: s.requestID},
		{Name: "trace", Phase: Inbound, Order: 40, Run: s.trace},
		{Name: "strip-headers", Phase: Inbound, Order: 50, Run: s.stripHeaders},
		{Name: "limits", Phase: Inbound, Order: 60, Run: s.limits},
		{Name: "authenticate", Phase: Inbound, Order: 70, Run: s.authenticate},
		{Name: "route", Phase: Inbound, Order: 80, Run: s.route},
		{Name: "evacuate", Phase: Inbound, Order: 90, Run: s.evacuate},
		{Name: "authorize", Phase: Inbound, Order: 100, Applies: staying, Run: s.authorize},
		{Name: "context", Phase: Inbound, Order: 110, Applies: staying, Run: s.clientContext},
		{Name: "saver", Phase: Endpoint, Order: 10, Applies: leaving, Run: s.toSaver},
		{Name: "origin", Phase: Endpoint, Order: 20, Applies: func(ex *Exchange) bool { return ex.Route != nil }, Run: s.toOrigin},
		{Name: "errors", Phase: Outbound, Order: 10, Applies: func(ex *Exchange) bool { return ex.Err != nil }, Run: s.mapError},
		{Name: "decorate", Phase: Outbound, Order: 20, Run: s.decorate},
		{Name: "connection", Phase: Outbound, Order: 30, Run: s.retireConnection},
	}
}

// clientAddress takes the client's address from the connection, or from the
// proof of another region's gateway.
func (s *Server) clientAddress(ex *Exchange) error {
	ex.Client = ex.Peer.Addr().Unmap()
	s.arrived(ex)
	return nil
}

// requestID keeps a well-formed id that the client made, or makes one.
func (s *Server) requestID(ex *Exchange) error {
	ex.RequestID = ex.Request.Header.Get("X-Request-Id")
	if !goodRequestID(ex.RequestID) {
		var b [12]byte
		_, _ = rand.Read(b[:]) // never fails
		ex.RequestID = hex.EncodeToString(b[:])
	}
	return nil
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

// trace gives the request a server span that continues the client's trace.
func (s *Server) trace(ex *Exchange) error {
	ctx := telemetry.Propagator.Extract(ex.Context(), carrier{ex.Request.Header})
	ctx, span := s.d.Tel.Tracer.Start(ctx, "gateway "+ex.Request.Method+" "+ex.Request.Path,
		trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(ex.Received),
		trace.WithAttributes(attribute.String("client.address", ex.Client.String()), attribute.String("request.id", ex.RequestID)))
	if ex.ProxiedFrom != "" {
		span.SetAttributes(attribute.String("proxied.from", ex.ProxiedFrom))
	}
	ex.SetContext(ctx)
	ex.OnDone(func(ex *Exchange) {
		span.SetAttributes(attribute.Int("http.response.status_code", ex.Response.Status))
		if ex.Response.Status >= http.StatusInternalServerError {
			what := http.StatusText(ex.Response.Status)
			if ex.Err != nil {
				what = ex.Err.Error()
			}
			span.SetStatus(codes.Error, what)
		}
		span.End()
	})
	return nil
}

// insidePrefixes are headers that only gateways of the lab write.
var insidePrefixes = [...]string{"x-flix-", "x-zuul-", "x-forwarded-"}

// stripHeaders removes what a client must not tell an API.
func (s *Server) stripHeaders(ex *Exchange) error {
	h := ex.Request.Header
	ex.Debug = h.Get(debugHeader) != ""
	h.DelFunc(func(name string) bool {
		for _, p := range insidePrefixes {
			if wire.HasNamePrefix(name, p) {
				return true
			}
		}
		return wire.SameName(name, "Forwarded") || wire.SameName(name, "X-Real-Ip")
	})
	return nil
}

// limits refuses what no API could answer.
func (s *Server) limits(ex *Exchange) error {
	r := &ex.Request
	if !cleanPath(r.Path) {
		return services.Errorf(services.Invalid, "the path %q is not a clean absolute one", r.Path)
	}
	if limit := s.settings.maxBody.Load(); r.ContentLength > limit {
		return services.Errorf(services.Invalid, "the body has %d bytes, at most %d are taken", r.ContentLength, limit).
			WithReason(ReasonTooLarge).WithRemedy("send less at once")
	}
	if r.ContentLength != 0 {
		ex.body = &replayBody{src: r.Body}
		ex.OnDone(func(ex *Exchange) { _ = ex.Request.Body.Close() })
	}
	return nil
}

// authenticate verifies the member token, if there is one. Whether one is
// needed is the route's to say.
func (s *Server) authenticate(ex *Exchange) error {
	scheme, tok, ok := strings.Cut(ex.Request.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return nil
	}
	claims, err := s.d.Key.Verify(token.Member, strings.TrimSpace(tok), ex.Received)
	if err != nil {
		ex.authErr = err
		return nil
	}
	ex.Member = &claims
	return nil
}

// route finds the API of the path.
func (s *Server) route(ex *Exchange) error {
	ex.Route = s.settings.routes.Load().match(ex.Request.Path)
	return nil
}

// authorize refuses a path without an API, and one that needs a member's
// token without a good one.
func (s *Server) authorize(ex *Exchange) error {
	if ex.Route == nil {
		return services.Errorf(services.NotFound, "no API answers %s", ex.Request.Path).WithReason(ReasonNoRoute)
	}
	if !ex.Route.Member || ex.Member != nil {
		return nil
	}
	e := services.Errorf(services.Denied, "%s is for members", ex.Route.Prefix).WithReason(ReasonNoToken).
		WithRemedy("sign in with POST %s and send the token as Authorization: Bearer TOKEN", signinPath)
	e.Err = ex.authErr
	return e
}

// clientContext tells the API who asks, from where and on what.
func (s *Server) clientContext(ex *Exchange) error {
	h := NewHeader()
	set := func(name, value string) {
		if value != "" {
			h.Add(name, value)
		}
	}
	if m := ex.Member; m != nil {
		set(api.HeaderMember, m.Member)
		set(api.HeaderPlan, m.Plan)
		set(api.HeaderDevice, m.Device)
	}
	t := s.d.Topology()
	if isp, _, ok := t.Locate(ex.Client); ok {
		set(api.HeaderCountry, isp.Country)
		set(api.HeaderISP, isp.Name)
	} else if c := t.CountryOf(ex.Client); c != "" {
		set(api.HeaderCountry, c)
	} else if r, ok := t.Region(s.d.Region); ok {
		// A client of no declared ISP, a browser on this machine say, is
		// taken for one near this region.
		set(api.HeaderCountry, r.Country)
	}
	if ex.Client.IsValid() {
		set(api.HeaderClientIP, ex.Client.String())
		set("X-Forwarded-For", ex.Client.String())
	}
	proto := "http"
	if ex.Request.TLS {
		proto = "https"
	}
	set("X-Forwarded-Proto", proto)
	set("X-Forwarded-Host", ex.Request.Host)
	set("X-Request-Id", ex.RequestID)
	ex.inside = h
	return nil
}

// mapError turns an error into the problem that the client reads.
func (s *Server) mapError(ex *Exchange) error {
	ex.answerProblem(ex.Err)
	if ex.Response.Status >= http.StatusInternalServerError {
		s.d.Tel.Log.Warn("request failed", "request", ex.RequestID, "method", ex.Request.Method, "path", ex.Request.Path, "status", ex.Response.Status, "error", ex.Err)
	}
	return nil
}

// decorate says who answered. What another region's gateway said stays.
func (s *Server) decorate(ex *Exchange) error {
	h := ex.Response.Header
	if ex.AnsweredBy == "" || h.Get("X-Flix-Region") == "" {
		h.Set("X-Flix-Region", s.d.Region)
		h.Set("X-Flix-Gateway", s.d.Instance)
	} else {
		h.Set("X-Flix-Proxied-By", s.d.Instance)
	}
	h.Set("X-Request-Id", ex.RequestID)
	if ex.Debug {
		b, err := json.Marshal(ex.Attempts)
		if err != nil {
			return services.Wrap("attempts", err)
		}
		h.Add(attemptsHeader, string(b))
	}
	return nil
}

// retireConnection makes clients connect anew while the gateway drains, and
// now and then in any case: a connection that is kept never sees DNS change.
func (s *Server) retireConnection(ex *Exchange) error {
	if s.settings.draining() || (ex.conn != nil && time.Now().After(ex.conn.retire)) {
		ex.CloseConnection = true
	}
	return nil
}
