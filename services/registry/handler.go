package registry

import (
	"cmp"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/lookup"
	"github.com/flix-lab/flix/services/lookup/eureka"
	"github.com/flix-lab/flix/services/telemetry"
)

const (
	// maxInstance bounds the body of a registration, in bytes.
	maxInstance = 64 << 10
	// headerPeer marks a request of another registry.
	headerPeer = "X-Netflix-Discovery-Replication"
)

// handler routes the REST API.
func (s *Server) handler() http.Handler {
	api := http.NewServeMux()
	route := func(pattern, resource string, h http.HandlerFunc) {
		api.Handle(pattern, s.metrics.count(resource, h))
	}
	route("GET /apps", "apps", s.list("apps", func(string) content { return s.store.full(nil) }))
	route("GET /apps/delta", "delta", s.list("delta", func(string) content { return s.store.delta() }))
	route("GET /vips/{name}", "vips", s.list("vips", func(v string) content {
		return s.store.full(func(i *eureka.Instance) bool { return i.HasVIP(v) })
	}))
	route("GET /svips/{name}", "svips", s.list("svips", func(v string) content {
		return s.store.full(func(i *eureka.Instance) bool { return i.HasSecureVIP(v) })
	}))
	route("GET /apps/{app}", "app", s.application)
	route("POST /apps/{app}", "register", s.register)
	route("GET /apps/{app}/{id}", "instance", s.instance)
	route("GET /instances/{id}", "instance", s.instance)
	route("PUT /apps/{app}/{id}", "renew", s.renew)
	route("DELETE /apps/{app}/{id}", "cancel", s.cancel)
	route("PUT /apps/{app}/{id}/status", "status", s.override)
	route("DELETE /apps/{app}/{id}/status", "status", s.override)
	route("PUT /apps/{app}/{id}/metadata", "metadata", s.annotate)

	root := http.NewServeMux()
	root.Handle("/eureka/v2/", http.StripPrefix("/eureka/v2", api))
	root.Handle("/eureka/", http.StripPrefix("/eureka", api))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Some clients end every path with a slash.
		if p := r.URL.Path; len(p) > 1 && strings.HasSuffix(p, "/") {
			r.URL.Path, r.URL.RawPath = strings.TrimSuffix(p, "/"), strings.TrimSuffix(r.URL.RawPath, "/")
		}
		root.ServeHTTP(w, r)
	})
}

// refuse answers with a problem.
func refuse(w http.ResponseWriter, kind services.Kind, format string, args ...any) {
	telemetry.WriteJSON(w, kind.HTTPStatus(), services.ProblemOf(services.Errorf(kind, "registry: "+format, args...)))
}

func pathKey(r *http.Request) key {
	return key{strings.ToUpper(r.PathValue("app")), r.PathValue("id")}
}

// media chooses the form of an answer: XML unless JSON is asked for.
func media(r *http.Request) string {
	if strings.Contains(strings.Join(r.Header.Values("Accept"), ","), "json") {
		return eureka.JSON
	}
	return eureka.XML
}

func wantsGzip(r *http.Request) bool {
	for _, h := range r.Header.Values("Accept-Encoding") {
		for enc := range strings.SplitSeq(h, ",") {
			name, q, _ := strings.Cut(strings.TrimSpace(enc), ";")
			if strings.EqualFold(strings.TrimSpace(name), "gzip") && strings.TrimLeft(strings.TrimSpace(q), "q=0. ") != "" || strings.EqualFold(name, "gzip") && q == "" {
				return true
			}
		}
	}
	return false
}

// list answers with applications: all, the recent changes, or those of a VIP.
func (s *Server) list(resource string, gather func(name string) content) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		name := strings.ToLower(r.PathValue("name"))
		a, err := s.cache.get(wanted{resource, name, media(r), wantsGzip(r)}, func() (content, func(string) ([]byte, error)) {
			c := gather(name)
			if name != "" {
				c.apps.Version = "-1" // of no use with deltas, as the original says
			}
			return c, func(m string) ([]byte, error) { return eureka.EncodeApplications(&c.apps, m) }
		})
		if err == nil && name != "" && !a.found {
			refuse(w, services.NotFound, "no instance has the address %s", name)
			return
		}
		s.write(w, r, a, err)
	}
}

func (s *Server) application(w http.ResponseWriter, r *http.Request) {
	name := strings.ToUpper(r.PathValue("app"))
	a, err := s.cache.get(wanted{"app", name, media(r), wantsGzip(r)}, func() (content, func(string) ([]byte, error)) {
		c := s.store.full(func(i *eureka.Instance) bool { return i.App == name })
		return c, func(m string) ([]byte, error) {
			app := eureka.Application{Name: name}
			if len(c.apps.Regional) > 0 {
				app = c.apps.Regional[0]
			}
			return eureka.EncodeApplication(&app, m)
		}
	})
	if err == nil && !a.found {
		refuse(w, services.NotFound, "no instance of %s", name)
		return
	}
	s.write(w, r, a, err)
}

func (s *Server) write(w http.ResponseWriter, r *http.Request, a answer, err error) {
	if err != nil {
		s.log.Error("encoding failed", "path", r.URL.Path, "err", err)
		refuse(w, services.Internal, "encoding the answer failed: %v", err)
		return
	}
	h := w.Header()
	h.Set("Etag", a.etag)
	h.Set("Vary", "Accept, Accept-Encoding")
	h.Set(lookup.HeaderEpoch, s.store.epoch)
	h.Set(lookup.HeaderSince, strconv.FormatUint(a.since, 10))
	if r.Header.Get("If-None-Match") == a.etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if wantsGzip(r) {
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("Content-Type", media(r))
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	_, _ = w.Write(a.body) // the client is gone: nothing to tell it
}

func (s *Server) instance(w http.ResponseWriter, r *http.Request) {
	k := pathKey(r)
	in := s.store.find(k.app, k.id)
	if in == nil {
		refuse(w, services.NotFound, "no instance %s", k.id)
		return
	}
	s.writeInstance(w, r, http.StatusOK, in)
}

func (s *Server) writeInstance(w http.ResponseWriter, r *http.Request, status int, in *eureka.Instance) {
	body, err := eureka.EncodeInstance(in, media(r))
	if err != nil {
		refuse(w, services.Internal, "encoding the answer failed: %v", err)
		return
	}
	w.Header().Set("Content-Type", media(r))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client is gone: nothing to tell it
}

func (s *Server) register(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxInstance))
	if err != nil {
		refuse(w, services.Invalid, "reading the instance: %v", err)
		return
	}
	form := eureka.JSON
	if t, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); strings.HasSuffix(t, "xml") {
		form = eureka.XML
	}
	in, err := eureka.DecodeInstance(body, form)
	if err != nil {
		refuse(w, services.Invalid, "%v", err)
		return
	}
	app := strings.ToUpper(r.PathValue("app"))
	in.App = strings.ToUpper(in.App)
	in.InstanceID = cmp.Or(in.InstanceID, in.HostName)
	switch {
	case in.InstanceID == "":
		refuse(w, services.Invalid, "Missing instanceId")
	case in.HostName == "":
		refuse(w, services.Invalid, "Missing hostname")
	case in.App == "":
		refuse(w, services.Invalid, "Missing appName")
	case in.App != app:
		refuse(w, services.Invalid, "Mismatched appName, expecting %s but was %s", app, in.App)
	case in.DataCenter.Name == "":
		refuse(w, services.Invalid, "Missing dataCenterInfo name")
	default:
		s.store.register(in, s.deps.Clock())
		w.WriteHeader(http.StatusNoContent)
	}
}

func (s *Server) renew(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	var dirty int64
	if v := q.Get("lastDirtyTimestamp"); v != "" {
		var err error
		if dirty, err = strconv.ParseInt(v, 10, 64); err != nil {
			refuse(w, services.Invalid, "lastDirtyTimestamp %q is not an integer", v)
			return
		}
	}
	k := pathKey(r)
	outcome, in := s.store.renew(k, dirty, q.Get("overriddenstatus"), r.Header.Get(headerPeer) == "true", s.deps.Clock())
	switch outcome {
	case unknown:
		refuse(w, services.NotFound, "no lease of %s, or an older one: register", k.id)
	case conflict:
		s.writeInstance(w, r, http.StatusConflict, in)
	default:
		s.metrics.renewals.Inc()
		w.WriteHeader(http.StatusOK)
	}
}

func (s *Server) cancel(w http.ResponseWriter, r *http.Request) {
	s.found(w, pathKey(r), s.store.cancel(pathKey(r), s.deps.Clock()))
}

func (s *Server) override(w http.ResponseWriter, r *http.Request) {
	value := r.URL.Query().Get("value")
	status, fallback := eureka.ParseStatus(value), ""
	if r.Method == http.MethodDelete {
		status, fallback = "", value
	} else if status == eureka.StatusUnknown {
		refuse(w, services.Invalid, "value %q is no status", value)
		return
	}
	s.found(w, pathKey(r), s.store.override(pathKey(r), status, fallback, s.deps.Clock()))
}

func (s *Server) annotate(w http.ResponseWriter, r *http.Request) {
	values := map[string]string{}
	for k, v := range r.URL.Query() {
		values[k] = v[0]
	}
	s.found(w, pathKey(r), s.store.annotate(pathKey(r), values, s.deps.Clock()))
}

func (s *Server) found(w http.ResponseWriter, k key, ok bool) {
	if !ok {
		refuse(w, services.NotFound, "no instance %s of %s", k.id, k.app)
		return
	}
	w.WriteHeader(http.StatusOK)
}
