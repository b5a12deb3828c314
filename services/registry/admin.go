package registry

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/lookup/eureka"
	"github.com/flix-lab/flix/services/telemetry"
)

// EvictRequest names what an operator wants evicted.
type EvictRequest struct {
	// App may be empty: the instance of any application.
	App string `json:"app,omitempty"`
	// ID as it is on the wire. Empty is every lease that has run out.
	ID string `json:"id,omitempty"`
}

// RegisterAdmin adds the registry's admin paths:
//
//	GET  /registry/leases          Explanation
//	GET  /registry/why?id=[&app=]  Why
//	POST /registry/evict           EvictRequest: one lease, and the answer is its
//	                               Why as it is gone, 200 or 404; without a body
//	                               every expired one, kept ones too: 204
func (s *Server) RegisterAdmin(mux *http.ServeMux, adminKey string) {
	mux.Handle("GET /registry/leases", telemetry.Guard(adminKey, func(w http.ResponseWriter, _ *http.Request) {
		telemetry.WriteJSON(w, http.StatusOK, s.explain())
	}))
	mux.Handle("GET /registry/why", telemetry.Guard(adminKey, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		telemetry.WriteJSON(w, http.StatusOK, s.why(strings.ToUpper(q.Get("app")), q.Get("id")))
	}))
	mux.Handle("POST /registry/evict", telemetry.Guard(adminKey, s.evictByHand))
}

func (s *Server) evictByHand(w http.ResponseWriter, r *http.Request) {
	body, err := readBody(w, r, maxInstance)
	if err != nil {
		refuseBody(w, err)
		return
	}
	var req EvictRequest
	if len(body) > 0 {
		// A name in error would be no name at all, and that is everybody's lease.
		d := json.NewDecoder(bytes.NewReader(body))
		d.DisallowUnknownFields()
		if err := d.Decode(&req); err != nil {
			telemetry.WriteJSON(w, http.StatusBadRequest, services.ProblemOf(services.Errorf(services.Invalid, "registry: the body %.60q is not what is evicted", body).
				WithRemedy(`write {"app":"APP","id":"ID"}, or no body to evict every lease that has run out`)))
			return
		}
	}
	if req.ID == "" {
		s.evictAll()
		w.WriteHeader(http.StatusNoContent)
		return
	}
	k, ok := s.store.key(strings.ToUpper(req.App), req.ID)
	var gone Why
	if ok {
		gone, ok = s.store.evictOne(k, s.deps.Clock())
	}
	if !ok {
		found(w, key{req.App, req.ID}, false)
		return
	}
	s.metrics.evictions.Inc()
	s.log.Info("lease evicted by hand", "app", k.app, "id", k.id)
	s.peers.tell(eureka.ActCancel, k)
	telemetry.WriteJSON(w, http.StatusOK, gone)
}

// key completes the name of an instance that is listed.
func (s *store) key(app, id string) (key, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.lease(app, id); l != nil {
		return l.key, true
	}
	return key{}, false
}

func (s *Server) evictAll() {
	now := s.deps.Clock()
	gone := s.store.evict(now, 0, leftByHand, func(_ map[key]*lease, expired []key) []key { return expired })
	s.policy.note(now, 0)
	for _, k := range gone {
		s.metrics.evictions.Inc()
		s.log.Info("lease evicted by hand", "app", k.app, "id", k.id)
	}
}
