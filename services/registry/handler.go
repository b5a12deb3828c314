package registry

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/lookup"
	"github.com/flix-lab/flix/services/telemetry"
)

const (
	// headerPeer marks a request of another registry.
	headerPeer = "X-Netflix-Discovery-Replication"
	// headerAccept asks for short records with "compact".
	headerAccept = "X-Eureka-Accept"
)

// Handler serves the REST API under any of the paths that clients use for it:
// /eureka/v2, /eureka, a context of the client's own, or none.
func (s *Server) Handler() http.Handler {
	route := s.routes()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		// Of every answer: a client, and a peer, sees from it whose memory this is.
		h[lookup.HeaderEpoch] = []string{s.store.epoch}
		path, ok := split(r.URL)
		var ms methods
		if ok {
			ms = route(path)
		}
		if ms == nil {
			refuse(w, services.NotFound, "there is no resource %s", r.URL.Path)
			return
		}
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		e, ok := ms[method]
		if method == http.MethodOptions {
			h.Set("Allow", ms.allow())
			w.WriteHeader(http.StatusNoContent)
			return
		}
		if !acceptable(r) {
			telemetry.WriteJSON(w, http.StatusNotAcceptable, services.ProblemOf(services.Errorf(services.Invalid, "registry: Accept %q has neither application/json nor application/xml", r.Header.Get("Accept"))))
			return
		}
		if !ok {
			h.Set("Allow", ms.allow())
			telemetry.WriteJSON(w, http.StatusMethodNotAllowed, services.ProblemOf(services.Errorf(services.Invalid, "registry: %s does not take %s; it takes %s", r.URL.Path, r.Method, ms.allow())))
			return
		}
		sw := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		e.serve(sw, r, path)
		s.metrics.requests.WithLabelValues(e.resource, strconv.Itoa(sw.status)).Inc()
	})
}

// refuse answers with a problem.
func refuse(w http.ResponseWriter, kind services.Kind, format string, args ...any) {
	telemetry.WriteJSON(w, kind.HTTPStatus(), services.ProblemOf(services.Errorf(kind, "registry: "+format, args...)))
}

// pathKey is the instance that a path /apps/APP/ID… names.
func pathKey(path []string) key { return key{strings.ToUpper(path[1]), path[2]} }

// fromPeer says whether another registry sends it: then it is not told to
// others.
func fromPeer(r *http.Request) bool { return r.Header.Get(headerPeer) == "true" }
