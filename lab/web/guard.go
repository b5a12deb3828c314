package web

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
)

// policy is the page's Content-Security-Policy: scripts and styles of its own
// only, video that scripts make, and requests to itself and the appliances.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self' blob:; " +
	"connect-src 'self' http://*.localhost:*; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// guard lets only this page's own requests through: by the name that the
// request is for (a name of another site that points to loopback is not ours)
// and, where a browser says from which page a request comes, by that.
func guard(port string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		if !ours(r.Host, port) {
			refuse(w, services.Errorf(services.Denied, "%.100q is not this page's host", r.Host).WithReason("host").WithRemedy("use the address that flix open printed"))
			return
		}
		if err := fromUs(r); err != nil {
			refuse(w, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// ours says whether a Host names this machine's loopback, and this port.
func ours(host, port string) bool {
	name, p, err := net.SplitHostPort(host)
	if err != nil || p != port {
		return false
	}
	name = strings.ToLower(name)
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}
	a, err := netip.ParseAddr(name)
	return err == nil && a.IsLoopback()
}

// fromUs refuses requests that another site's page makes. What stock players
// ask for is open to every page: its URL is the permission.
func fromUs(r *http.Request) error {
	if _, path := near(r.URL.Path); strings.HasPrefix(path, "/play/stock/") && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		return nil
	}
	origin := r.Header.Get("Origin")
	site := r.Header.Get("Sec-Fetch-Site")
	if origin == "" {
		// Without one it is no page's script; a form or an image of another
		// site may not reach the API either.
		if site != "" && site != "same-origin" && site != "none" && r.Header.Get("Sec-Fetch-Mode") != "navigate" {
			return foreign(site)
		}
		return nil
	}
	u, err := url.Parse(origin)
	if err != nil || u.Scheme != "http" || !strings.EqualFold(u.Host, r.Host) {
		return foreign(origin)
	}
	return nil
}

func foreign(from string) error {
	return services.Errorf(services.Denied, "a page of %.100q may not use the lab", from).WithReason("origin").WithRemedy("use the page itself")
}

// refuse answers with a problem.
func refuse(w http.ResponseWriter, err error) {
	telemetry.WriteJSON(w, services.KindOf(err).HTTPStatus(), services.ProblemOf(err))
}
