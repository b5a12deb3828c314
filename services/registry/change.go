package registry

import (
	"cmp"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/lookup/eureka"
)

func (s *Server) register(w http.ResponseWriter, r *http.Request, path []string) {
	media, ok := contentForm(r)
	if !ok {
		refuseMedia(w, r, "application/json or application/xml")
		return
	}
	body, err := readBody(w, r, maxInstance)
	if err != nil {
		refuseBody(w, err)
		return
	}
	in, err := eureka.DecodeInstance(body, media)
	if err != nil {
		refuseBody(w, err)
		return
	}
	if err := s.admit(in, strings.ToUpper(path[1]), fromPeer(r)); err != nil {
		refuse(w, services.KindOf(err), "%v", err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// admit checks a registration and takes it over.
func (s *Server) admit(in *eureka.Instance, app string, peer bool) error {
	in.App = strings.ToUpper(strings.TrimSpace(in.App))
	// Amazon's clients of old name the instance in their data centre.
	in.InstanceID = cmp.Or(in.InstanceID, in.DataCenter.Metadata["instance-id"], in.HostName)
	for _, f := range []struct{ value, missing string }{
		{in.InstanceID, "instanceId"}, {in.HostName, "hostname"}, {in.IPAddr, "ip address"}, {in.App, "appName"},
	} {
		if strings.TrimSpace(f.value) == "" {
			return services.Errorf(services.Invalid, "Missing %s", f.missing)
		}
	}
	switch {
	case in.App != app:
		return services.Errorf(services.Invalid, "Mismatched appName, expecting %s but was %s", app, in.App)
	case in.DataCenter.Class == "" && in.DataCenter.Name == "":
		return services.Errorf(services.Invalid, "Missing dataCenterInfo")
	case in.DataCenter.Name == "":
		return services.Errorf(services.Invalid, "Missing dataCenterInfo Name")
	case !in.DataCenter.Known():
		return services.Errorf(services.Invalid, "dataCenterInfo name %q is none of %s", in.DataCenter.Name, strings.Join(eureka.DataCenters, ", "))
	}
	in.AppGroup = strings.ToUpper(in.AppGroup)
	if in.DataCenter.Name == eureka.Amazon && in.DataCenter.Metadata["instance-id"] == "" {
		md := maps.Clone(in.DataCenter.Metadata)
		if md == nil {
			md = eureka.Metadata{}
		}
		md["instance-id"] = in.InstanceID // the original's clients cannot read such a record without one
		in.DataCenter.Metadata = md
	}
	in.CountryID = cmp.Or(in.CountryID, 1)
	in.Coordinating = false // only a server's own record says so
	if !s.store.register(in, peer, s.deps.Clock()) {
		s.log.Debug("a peer's record of an instance that has left is not taken", "app", in.App, "id", in.InstanceID)
		return nil // it would try again and again
	}
	if !peer {
		s.peers.tell(eureka.ActRegister, key{in.App, in.InstanceID})
	}
	return nil
}

// dirtyOf reads lastDirtyTimestamp; 0 when it is not given.
func dirtyOf(q url.Values) (int64, error) {
	v := q.Get("lastDirtyTimestamp")
	if v == "" || v == "null" { // clients of old send the word
		return 0, nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return 0, services.Errorf(services.Invalid, "lastDirtyTimestamp %q is not an integer", v)
	}
	return n, nil
}

func (s *Server) renew(w http.ResponseWriter, r *http.Request, path []string) {
	q := r.URL.Query()
	dirty, err := dirtyOf(q)
	if err != nil {
		refuse(w, services.Invalid, "%v", err)
		return
	}
	switch outcome, in := s.heartbeat(pathKey(path), dirty, q.Get("overriddenstatus"), fromPeer(r)); outcome {
	case unknown:
		// Without a body: the original's client takes one for an instance.
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(http.StatusNotFound)
	case conflict:
		writeInstance(w, r, http.StatusConflict, in)
	default:
		w.WriteHeader(http.StatusOK)
	}
}

func (s *Server) heartbeat(k key, dirty int64, override string, peer bool) (renewal, *eureka.Instance) {
	outcome, in := s.store.renew(k, dirty, override, peer, s.deps.Clock())
	if outcome == renewed {
		s.metrics.renewals.Inc()
		if !peer {
			s.peers.tell(eureka.ActHeartbeat, k)
		}
	}
	return outcome, in
}

func (s *Server) cancel(w http.ResponseWriter, r *http.Request, path []string) {
	k := pathKey(path)
	dirty, err := dirtyOf(r.URL.Query())
	if err != nil {
		refuse(w, services.Invalid, "%v", err)
		return
	}
	found(w, k, s.leave(k, dirty, fromPeer(r)))
}

func (s *Server) leave(k key, dirty int64, peer bool) bool {
	if !s.store.cancel(k, dirty, peer, s.deps.Clock()) {
		return false
	}
	if !peer {
		s.peers.tell(eureka.ActCancel, k)
	}
	return true
}

func (s *Server) override(w http.ResponseWriter, r *http.Request, path []string) {
	q := r.URL.Query()
	value, k := q.Get("value"), pathKey(path)
	if s.store.find(k.app, k.id) == nil {
		found(w, k, false)
		return
	}
	status := eureka.ParseStatus(value)
	if status == eureka.StatusUnknown && !strings.EqualFold(value, eureka.StatusUnknown) && (value != "" || r.Method == http.MethodPut) {
		refuse(w, services.Invalid, "value %q is no status: UP, DOWN, STARTING or OUT_OF_SERVICE is", value)
		return
	}
	dirty, err := dirtyOf(q)
	if err != nil {
		refuse(w, services.Invalid, "%v", err)
		return
	}
	if r.Method == http.MethodDelete {
		found(w, k, s.setStatus(k, "", value, dirty, fromPeer(r)))
		return
	}
	found(w, k, s.setStatus(k, status, "", dirty, fromPeer(r)))
}

// setStatus overrides a status, or takes the override back where it is "".
func (s *Server) setStatus(k key, status, fallback string, dirty int64, peer bool) bool {
	if s.store.override(k, status, fallback, dirty, s.deps.Clock()) == nil {
		return false
	}
	if !peer {
		act := eureka.ActStatusUpdate
		if status == "" {
			act = eureka.ActDeleteOverride
		}
		s.peers.tell(act, k)
	}
	return true
}

func (s *Server) annotate(w http.ResponseWriter, r *http.Request, path []string) {
	k, values := pathKey(path), map[string]string{}
	for name, v := range r.URL.Query() {
		values[name] = v[0]
	}
	if s.store.annotate(k, values, s.deps.Clock()) == nil {
		found(w, k, false)
		return
	}
	if !fromPeer(r) {
		s.peers.tellFor(eureka.ActRegister, k, wordKept)
	}
	found(w, k, true)
}

// setGroup puts a scaling group out of service or back in.
func (s *Server) setGroup(w http.ResponseWriter, r *http.Request, path []string) {
	var enabled bool
	switch value := strings.ToUpper(r.URL.Query().Get("value")); value {
	case "ENABLED":
		enabled = true
	case "DISABLED":
	default:
		refuse(w, services.Invalid, "value %q is neither ENABLED nor DISABLED", value)
		return
	}
	s.store.setGroup(path[1], enabled, s.deps.Clock())
	if !fromPeer(r) {
		s.peers.tellGroup(path[1], enabled)
	}
	w.WriteHeader(http.StatusOK)
}

func found(w http.ResponseWriter, k key, ok bool) {
	if !ok {
		refuse(w, services.NotFound, "no instance %s of %s", k.id, k.app)
		return
	}
	w.WriteHeader(http.StatusOK)
}
