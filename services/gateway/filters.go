package gateway

import (
	"slices"
	"strings"

	"github.com/flix-lab/flix/services"
	api "github.com/flix-lab/flix/services/edge"
	"github.com/flix-lab/flix/services/gateway/wire"
	"github.com/flix-lab/flix/services/rpc"
)

// signinPath is where a client gets a member token.
const signinPath = "/signup/signin"

// builtin are the filters every gateway has. Evacuation comes before whatever
// may refuse: a region that is being left answers nothing by itself, not even
// a refusal.
func (s *Server) builtin() []Filter {
	leaving := func(ex *Exchange) bool { return len(ex.Savers) > 0 }
	staying := func(ex *Exchange) bool { return len(ex.Savers) == 0 && !ex.health }
	has := func(name string) func(*Exchange) bool {
		return func(ex *Exchange) bool { return ex.Request.Header.Get(name) != "" }
	}
	return []Filter{
		{Name: "metrics", Phase: Inbound, Order: 10, Run: s.count},
		{Name: "client-address", Phase: Inbound, Order: 20, Run: s.clientAddress},
		{Name: "request-id", Phase: Inbound, Order: 30, Run: s.requestID},
		{Name: "trace", Phase: Inbound, Order: 40, Run: s.traceRequest, Options: []Option{s.traces.option()}},
		{Name: "debug", Phase: Inbound, Order: 45, Applies: has(DebugHeader), Run: s.askedForDetail},
		{Name: "strip-headers", Phase: Inbound, Order: 50, Run: s.stripHeaders},
		{Name: "limits", Phase: Inbound, Order: 60, Run: s.limits},
		{Name: "authenticate", Phase: Inbound, Order: 70, Applies: has("Authorization"), Run: s.authenticate},
		{Name: "place", Phase: Inbound, Order: 75, Run: s.locate},
		{Name: "route", Phase: Inbound, Order: 80, Run: s.findRoute},
		{Name: "health", Phase: Inbound, Order: 82, Applies: asksGateway, Run: s.asksHealth},
		{Name: "surgical", Phase: Inbound, Order: 85, Run: s.operate},
		{Name: "evacuate", Phase: Inbound, Order: 90, Applies: func(ex *Exchange) bool { return !ex.health }, Run: s.evacuate},
		{Name: "rate-limit", Phase: Inbound, Order: 92, Applies: staying, Run: s.limitRate, Options: s.limiter.options()},
		{Name: "cors", Phase: Inbound, Order: 94, Applies: staying, Run: s.fromPage, Options: s.cors.options()},
		{Name: "authorize", Phase: Inbound, Order: 100, Applies: func(ex *Exchange) bool { return staying(ex) && !ex.preflight }, Run: s.authorize},
		{Name: "load-shed", Phase: Inbound, Order: 105, Applies: staying, Run: s.shed, Options: s.shedder.options()},
		{Name: "faults", Phase: Inbound, Order: 107, Applies: staying, Run: s.markFaults},
		{Name: "context", Phase: Inbound, Order: 110, Applies: staying, Run: s.clientContext},

		{Name: "health-answer", Phase: Endpoint, Order: 4, Applies: func(ex *Exchange) bool { return ex.health }, Run: s.answerHealth},
		{Name: "preflight", Phase: Endpoint, Order: 5, Applies: func(ex *Exchange) bool { return ex.preflight }, Run: s.answerPreflight},
		{Name: "saver", Phase: Endpoint, Order: 10, Applies: leaving, Run: s.toSaver},
		{Name: "target", Phase: Endpoint, Order: 15, Applies: chosenTargets, Run: s.toTarget},
		{Name: "origin", Phase: Endpoint, Order: 20, Applies: func(ex *Exchange) bool { return ex.Route != nil }, Run: s.toOrigin},

		{Name: "errors", Phase: Outbound, Order: 10, Applies: func(ex *Exchange) bool { return ex.Err != nil }, Run: s.mapError},
		{Name: "status", Phase: Outbound, Order: 15, Run: s.categorizeRequest},
		{Name: "decorate", Phase: Outbound, Order: 20, Run: s.decorate},
		{Name: "cors-answer", Phase: Outbound, Order: 25, Applies: func(ex *Exchange) bool { return ex.origin != "" || ex.byOrigin }, Run: s.toPage},
		{Name: "compress", Phase: Outbound, Order: 27, Run: s.compress, Optional: true, Options: s.compressor.options()},
		{Name: "connection", Phase: Outbound, Order: 30, Run: s.retireConnection},
		{Name: "debug-answer", Phase: Outbound, Order: 40, Applies: func(ex *Exchange) bool { return ex.Debug }, Run: s.detail, Optional: true},
	}
}

// clientAddress takes the client's address from the connection, or from the
// proof of another region's gateway.
func (s *Server) clientAddress(ex *Exchange) error {
	ex.Client = ex.Peer.Addr().Unmap()
	s.arrived(ex)
	return nil
}

// insidePrefixes are headers that only gateways of the lab write.
var insidePrefixes = [...]string{"x-flix-", "x-zuul-", "x-forwarded-"}

// stripHeaders removes what a client must not tell an API. Where an API reads
// fields as variables, in the manner of CGI, "_" in a name is the same as "-".
func (s *Server) stripHeaders(ex *Exchange) error {
	r := &ex.Request
	r.Header.DelFunc(insideName)
	if came := r.Trailer; came != nil {
		r.Trailers = slices.DeleteFunc(r.Trailers, insideName)
		r.Trailer = func() Header {
			t := came()
			t.DelFunc(insideName)
			return t
		}
	}
	return nil
}

// insideName says that only gateways write a field.
func insideName(name string) bool {
	switch name[0] | 0x20 {
	case 'x', 'f':
	case 'b': // who is in the scope of a fault the gateway says
		return wire.SameName(name, rpc.HeaderMark)
	default:
		return false
	}
	if strings.IndexByte(name, '_') >= 0 {
		name = strings.ReplaceAll(name, "_", "-")
	}
	for _, p := range insidePrefixes {
		if wire.HasNamePrefix(name, p) {
			return true
		}
	}
	return wire.SameName(name, "Forwarded") || wire.SameName(name, "X-Real-Ip")
}

// limits refuses what no API could answer.
func (s *Server) limits(ex *Exchange) error {
	r := &ex.Request
	if !cleanPath(r.Path) && r.Path != wholeServer {
		return services.Errorf(services.Invalid, "the path %q is not a clean absolute one", r.Path)
	}
	if limit := s.settings.maxBody.Load(); r.ContentLength > limit {
		return services.Errorf(services.Invalid, "the body has %d bytes, at most %d are taken", r.ContentLength, limit).
			WithReason(ReasonTooLarge).WithRemedy("send less at once")
	}
	return nil
}

// authorize refuses a path without an API, and one that needs a member's
// token without a good one.
func (s *Server) authorize(ex *Exchange) error {
	if ex.Route == nil {
		return noRoute(ex)
	}
	if !ex.Route.Member || ex.Member != nil {
		return nil
	}
	e := services.Errorf(services.Denied, "%s is for members", ex.Route.Prefix+ex.Route.Path).WithReason(ReasonNoToken).
		WithRemedy("sign in with POST %s and send the token as Authorization: Bearer TOKEN", signinPath)
	e.Err = ex.authErr
	return e
}

func noRoute(ex *Exchange) error {
	return services.Errorf(services.NotFound, "no API answers %s", ex.Request.Path).WithReason(ReasonNoRoute)
}

// clientContext tells the API who asks, from where and on what.
func (s *Server) clientContext(ex *Exchange) error {
	h := ex.insideHeader()
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
	set(api.HeaderCountry, ex.Country)
	set(api.HeaderISP, ex.ISP)
	if ex.Client.IsValid() {
		set(api.HeaderClientIP, ex.address())
		set("X-Forwarded-For", ex.address())
	}
	proto := "http"
	if ex.Request.TLS {
		proto = "https"
	}
	set("X-Forwarded-Proto", proto)
	set("X-Forwarded-Host", ex.Request.Host)
	set("X-Request-Id", ex.RequestID)
	set(rpc.HeaderMark, ex.faults)
	ex.inside = h
	return nil
}

// decorate says who answered. What another region's gateway said stays.
func (s *Server) decorate(ex *Exchange) error {
	h := ex.Response.Header
	if ex.AnsweredBy == "" || h.Get("X-Flix-Region") == "" {
		h.Set("X-Flix-Region", s.d.Region)
		h.Set("X-Flix-Gateway", s.d.Instance)
		h.Set(statusHeader, ex.Category.String())
	} else {
		h.Set("X-Flix-Proxied-By", s.d.Instance)
	}
	if ex.RequestID != "" { // the filter that makes one may be off
		h.Set("X-Request-Id", ex.RequestID)
	}
	return nil
}

// retireConnection makes clients connect anew while the gateway drains, and
// now and then in any case: a connection that is kept never sees DNS change.
func (s *Server) retireConnection(ex *Exchange) error {
	if s.settings.draining() || (ex.conn != nil && ex.now().After(ex.conn.retire)) {
		ex.CloseConnection = true
	}
	return nil
}

// FilterProperty is the property of a filter's option.
func FilterProperty(filter, option string) string { return filterPrefix + filter + "." + option }

// splitFilterProperty reads gateway.filter.<name>.<option>.
func splitFilterProperty(property string) (filter, option string, ok bool) {
	rest, ok := strings.CutPrefix(property, filterPrefix)
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, ".")
}
