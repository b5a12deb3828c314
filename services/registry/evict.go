package registry

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"github.com/flix-lab/flix/services/telemetry"
)

// Self-preservation keeps leases that ran out when too many did at once: then
// the network between the registry and its clients is likelier to be at fault
// than all of them, and a stale list is better than an empty one.
//
// The original judges by share alone: under 85 % of the expected renewals it
// evicts nothing, however long. That suits hundreds of instances. In a lab a
// region has some thirty, one zone is half of them, and to kill a zone is an
// experiment, not an accident of the network: the dead would stay listed for
// ever. So it is a property, by default decided by size, and an application
// can be exempt:
//
//	registry.selfPreservation          on, off or auto (default): on from preserveFrom leases
//	registry.selfPreservation.<app>    off: leases of this application always run out
const propPreservation = "registry.selfPreservation"

const (
	// preserveShare of the leases must be alive for any to be evicted.
	preserveShare = 0.85
	// preserveFrom is the number of leases at which "auto" turns on: from here
	// 15 % is more than a zone of one application.
	preserveFrom = 100
)

// preservation decides which expired leases may go.
type preservation struct {
	props *telemetry.Properties
	// active: the last pass kept leases that had run out.
	active atomic.Bool
	kept   atomic.Int64
}

func newPreservation(p *telemetry.Properties) *preservation { return &preservation{props: p} }

// enabled reports whether self-preservation applies to that many leases.
func (p *preservation) enabled(leases int) bool {
	switch p.props.Get(propPreservation) {
	case "on":
		return true
	case "off":
		return false
	}
	return leases >= preserveFrom
}

func (p *preservation) exempt(app string) bool {
	return p.props.Get(propPreservation+"."+strings.ToLower(app)) == "off"
}

// allow returns the expired leases that may be evicted in this pass.
func (p *preservation) allow(all []*lease, expired []key) []key {
	if !p.enabled(len(all)) {
		p.note(0)
		return expired
	}
	var free, held []key
	for _, k := range expired {
		if p.exempt(k.app) {
			free = append(free, k)
		} else {
			held = append(held, k)
		}
	}
	// The most that may go while preserveShare stays, as in the original.
	limit := len(all) - int(float64(len(all))*preserveShare)
	if len(held) > limit {
		p.note(len(held))
		return free
	}
	p.note(0)
	return append(free, held...)
}

func (p *preservation) note(kept int) {
	p.kept.Store(int64(kept))
	p.active.Store(kept > 0)
}

// evictLoop looks for expired leases at every eviction interval until ctx ends.
func (s *Server) evictLoop(ctx context.Context) {
	interval := s.deps.Timing.EvictionInterval.D()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	last := s.deps.Clock()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := s.deps.Clock()
		// When this pass is late, so were the renewals: the process was
		// stopped, or the machine asleep. Leases live that much longer.
		late := max(0, now.Sub(last)-interval)
		last = now
		s.evict(now, late)
	}
}

func (s *Server) evict(now time.Time, grace time.Duration) {
	was := s.policy.active.Load()
	for _, k := range s.store.evict(now, grace, s.policy.allow) {
		s.metrics.evictions.Inc()
		s.log.Info("lease ran out", "app", k.app, "id", k.id)
	}
	if is := s.policy.active.Load(); is != was {
		s.log.Warn("self-preservation changed", "active", is, "kept", s.policy.kept.Load())
	}
}
