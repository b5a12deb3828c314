package registry

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/flix-lab/flix/services/telemetry"
)

// Explanation says why the registry lists what it lists.
type Explanation struct {
	// SelfPreservation is on when the policy applies to this many leases;
	// Preserving when it keeps leases that ran out, Kept how many.
	SelfPreservation bool  `json:"self_preservation"`
	Preserving       bool  `json:"preserving"`
	Kept             int64 `json:"kept"`
	// Leases, by application and instance.
	Leases []LeaseInfo `json:"leases"`
}

// LeaseInfo is one lease as the admin endpoint shows it.
type LeaseInfo struct {
	App      string `json:"app"`
	ID       string `json:"id"`
	Status   string `json:"status"`
	Reported string `json:"reported"`
	Override string `json:"override,omitempty"`
	// SilentMS is the time since the last renewal, DurationMS how long a
	// lease lives without one.
	SilentMS   int64 `json:"silent_ms"`
	DurationMS int64 `json:"duration_ms"`
	Expired    bool  `json:"expired"`
}

// RegisterAdmin adds the registry's admin paths:
//
//	GET  /registry/leases   Explanation
//	POST /registry/evict    evicts every expired lease now, kept ones too: 204
func (s *Server) RegisterAdmin(mux *http.ServeMux, key string) {
	mux.Handle("GET /registry/leases", telemetry.Guard(key, func(w http.ResponseWriter, _ *http.Request) {
		telemetry.WriteJSON(w, http.StatusOK, s.explain())
	}))
	mux.Handle("POST /registry/evict", telemetry.Guard(key, func(w http.ResponseWriter, _ *http.Request) {
		s.evictAll()
		w.WriteHeader(http.StatusNoContent)
	}))
}

func (s *Server) explain() Explanation {
	now := s.deps.Clock()
	e := Explanation{Preserving: s.policy.active.Load(), Kept: s.policy.kept.Load(), Leases: []LeaseInfo{}}
	s.store.each(func(k key, l *lease) {
		e.Leases = append(e.Leases, LeaseInfo{
			App: k.app, ID: k.id, Status: l.inst.Status, Reported: l.reported, Override: s.store.overrides[k],
			SilentMS: now.Sub(l.renewed).Milliseconds(), DurationMS: l.duration.Milliseconds(), Expired: l.expired(now, 0),
		})
	})
	e.SelfPreservation = s.policy.enabled(len(e.Leases))
	slices.SortFunc(e.Leases, func(a, b LeaseInfo) int {
		return strings.Compare(a.App+"\x00"+a.ID, b.App+"\x00"+b.ID)
	})
	return e
}

func (s *Server) evictAll() {
	gone := s.store.evict(s.deps.Clock(), time.Duration(0), func(_ []*lease, expired []key) []key { return expired })
	s.policy.note(0)
	for _, k := range gone {
		s.metrics.evictions.Inc()
		s.log.Info("lease evicted by hand", "app", k.app, "id", k.id)
	}
}
