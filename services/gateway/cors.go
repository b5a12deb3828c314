package gateway

import (
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/flix-lab/flix/services"
)

// defaultCORSOrigins are pages on this machine and of the lab's own names, on
// any port.
const defaultCORSOrigins = "http://localhost, http://*.localhost, http://127.0.0.1, https://localhost, https://*.localhost, https://*.flix.test"

// Headers that pages may send, and read, beyond those the Fetch standard allows
// anyway. Players send the CMCD ones (CTA-5004) with each request if they are told
// to.
const (
	corsAllowHeaders  = "Authorization, CMCD-Object, CMCD-Request, CMCD-Session, CMCD-Status, Content-Type, Idempotency-Key, If-Match, If-None-Match, Priority, Range, Traceparent, Tracestate, X-Flix-Debug, X-Request-Id"
	corsExposeHeaders = "Content-Range, ETag, Retry-After, X-Flix-Gateway, X-Flix-Region, X-Flix-Status, X-Request-Id"
	corsAllowMethods  = "GET, HEAD, POST, PUT, PATCH, DELETE"
)

// corsOrigin is one origin that may use the API: a scheme, a host, of which
// the first label may be "*", and a port, or any if there is none.
type corsOrigin struct {
	any                bool
	scheme, host, port string
	below              bool // host and everything below it
}

// parseCORSOrigins reads a comma-separated list.
func parseCORSOrigins(text string) ([]corsOrigin, error) {
	var out []corsOrigin
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		if item == "*" {
			out = append(out, corsOrigin{any: true})
			continue
		}
		u, err := url.Parse(item)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			return nil, services.Errorf(services.Invalid, "origin %q is not scheme://host[:port]", item).WithRemedy("write it like https://www.example.org, https://*.example.org or *")
		}
		o := corsOrigin{scheme: u.Scheme, host: strings.ToLower(u.Hostname()), port: u.Port()}
		if rest, ok := strings.CutPrefix(o.host, "*."); ok {
			o.host, o.below = rest, true
		}
		if o.host == "" || strings.Contains(o.host, "*") {
			return nil, services.Errorf(services.Invalid, "origin %q: only the first label of a host may be *", item)
		}
		out = append(out, o)
	}
	return out, nil
}

func (o corsOrigin) allows(scheme, host, port string) bool {
	if o.any {
		return true
	}
	if scheme != o.scheme || (o.port != "" && port != o.port) {
		return false
	}
	if o.below {
		rest, ok := strings.CutSuffix(host, o.host)
		return ok && len(rest) > 1 && rest[len(rest)-1] == '.'
	}
	return host == o.host
}

// CORSPass is the value of the filter's option origins with which the filter leaves
// pages, and their preflights, to the APIs.
const CORSPass = "pass"

// cors is the filter that lets pages of other origins use the API, by the
// Fetch standard. Tokens travel in a header that a page must set, never in a
// cookie, so credentials are not allowed and need not be.
type cors struct {
	// origins is nil where the APIs themselves answer pages.
	origins atomic.Pointer[[]corsOrigin]
	maxAge  atomic.Int64
}

func (c *cors) options() []Option {
	return []Option{
		{Name: "origins", Doc: "origins of pages that may use the API, separated by commas; * for all, none to allow no page, pass to leave pages to the APIs", Default: defaultCORSOrigins, Set: func(v string) error {
			switch v {
			case "":
				v = defaultCORSOrigins
			case "none":
				v = ","
			case CORSPass:
				c.origins.Store(nil)
				return nil
			}
			list, err := parseCORSOrigins(v)
			if err == nil {
				c.origins.Store(&list)
			}
			return err
		}},
		{Name: "max-age", Doc: "how long a browser may remember the answer to a preflight", Default: "10m", Set: func(v string) error {
			return setDuration(&c.maxAge, v, 10*time.Minute)
		}},
	}
}

// allowed says whether pages of an origin may use the API. The origin is what
// a browser wrote: scheme "://" host [":" port].
func (c *cors) allowed(origin string) bool {
	list := c.origins.Load()
	if list == nil {
		return false
	}
	scheme, rest, ok := strings.Cut(origin, "://")
	if !ok || strings.ContainsAny(rest, "/?#@\\ ") {
		return false
	}
	host, port := rest, ""
	if i := strings.LastIndexByte(rest, ':'); i >= 0 && !strings.HasSuffix(rest, "]") {
		host, port = rest[:i], rest[i+1:]
	}
	for _, o := range *list {
		if o.allows(scheme, host, port) {
			return true
		}
	}
	return false
}

// anyOrigin is what an answer says that every page may read.
const anyOrigin = "*"

// fromPage is the inbound filter: it notes where the page comes from, and
// whether the request is only the browser's question whether it may ask. A cache
// may keep what a request without a page gets, and give it to one: that says the
// same of pages, or that it depends on them.
func (s *Server) fromPage(ex *Exchange) error {
	h := ex.Request.Header
	origin, fromPage := h.Get("Origin"), h.Has("Origin")
	list := s.cors.origins.Load()
	switch {
	case ex.Route != nil && ex.Route.AnyPage:
		ex.origin = anyOrigin
	case list == nil:
		return nil
	default:
		ex.byOrigin = len(*list) > 0
		if fromPage && s.cors.allowed(origin) {
			ex.origin = origin
		}
	}
	if !fromPage || ex.Request.Method != http.MethodOptions || h.Get("Access-Control-Request-Method") == "" {
		return nil
	}
	ex.preflight = true
	if ex.origin == "" {
		return services.Errorf(services.Denied, "pages of %q may not use the API", origin).WithReason(ReasonPreflight).
			WithRemedy("allow it: flix gateway filters set cors origins=%s", origin)
	}
	return nil
}

// answerPreflight is the endpoint for those questions.
func (s *Server) answerPreflight(ex *Exchange) error {
	h := NewHeader("Access-Control-Allow-Methods", corsAllowMethods, "Access-Control-Allow-Headers", corsAllowHeaders,
		"Access-Control-Max-Age", seconds(time.Duration(s.cors.maxAge.Load())))
	if ex.Request.Header.Get("Access-Control-Request-Private-Network") == "true" {
		h.Set("Access-Control-Allow-Private-Network", "true")
	}
	ex.Response = Response{Status: http.StatusNoContent, Header: h}
	return nil
}

// toPage is the outbound filter: errors too must reach the page.
func (s *Server) toPage(ex *Exchange) error {
	h := ex.Response.Header
	if ex.byOrigin && (ex.origin != "" || keepable(ex)) {
		addVary(h, "Origin")
	}
	if ex.origin == "" {
		return nil
	}
	h.Set("Access-Control-Allow-Origin", ex.origin)
	if !ex.preflight {
		h.Set("Access-Control-Expose-Headers", corsExposeHeaders)
	}
	return nil
}

// keepable says whether a cache may keep the answer.
func keepable(ex *Exchange) bool {
	switch ex.Request.Method {
	case http.MethodGet, http.MethodHead:
		return !ex.Response.Header.HasToken("Cache-Control", "no-store")
	}
	return false
}

// addVary adds a name to Vary unless it is there.
func addVary(h Header, name string) {
	if h.HasToken("Vary", name) || h.HasToken("Vary", "*") {
		return
	}
	if v := h.Get("Vary"); v != "" {
		h.Set("Vary", v+", "+name)
		return
	}
	h.Set("Vary", name)
}
