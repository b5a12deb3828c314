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
// ever. But where most leases of every zone run out at once, zones and services
// have nothing to do with it: what they share is at fault, the machine, the network
// or this registry. These are kept for some time; whoever is silent for longer is
// dead. So it is a property, by default decided by size, and an application can be
// exempt:
//
//	registry.selfPreservation          on, off or auto (default): on from preserveFrom leases,
//	                                   below when most in every zone run out at once
//	registry.selfPreservation.<app>    off: leases of this application always run out;
//	                                   on: they are kept whatever the size
const propPreservation = "registry.selfPreservation"

const (
	// preserveShare of the leases must be alive for any to be evicted.
	preserveShare = 0.85
	// preserveFrom is the number of leases at which "auto" turns on: from here
	// 15 % is more than a zone of one application.
	preserveFrom = 100
	// Below, leases are kept for keptDurations of them since they were renewed.
	keptDurations = 10
)

// preservation decides which expired leases may go.
type preservation struct {
	props *telemetry.Properties
	// active: the last pass kept leases that had run out.
	active atomic.Bool
	kept   atomic.Int64
	// since is when it became active, in milliseconds since 1970.
	since atomic.Int64
}

func newPreservation(p *telemetry.Properties) *preservation { return &preservation{props: p} }

// mode is on, off or auto.
func (p *preservation) mode() string {
	switch v := p.props.Get(propPreservation); v {
	case "on", "off":
		return v
	}
	return "auto"
}

// apps are the applications for which it is set otherwise.
func (p *preservation) apps() map[string]string {
	out := map[string]string{}
	for name, v := range p.props.All() {
		if app, ok := strings.CutPrefix(name, propPreservation+"."); ok && (v == "on" || v == "off") {
			out[app] = v
		}
	}
	return out
}

// enabled reports whether self-preservation applies to that many leases.
func (p *preservation) enabled(leases int) bool {
	switch p.mode() {
	case "on":
		return true
	case "off":
		return false
	}
	return leases >= preserveFrom
}

// covers reports whether it applies to an application, where it applies to leases
// at large or not.
func (p *preservation) covers(app string, atLarge bool) bool {
	switch p.props.Get(propPreservation + "." + strings.ToLower(app)) {
	case "off":
		return false
	case "on":
		return true
	}
	return atLarge
}

// fewKept reports whether it applies to a lease of too few to judge by number,
// provided that most in every zone ran out.
func (p *preservation) fewKept(now time.Time, l *lease) bool {
	return p.mode() == "auto" && now.Sub(l.renewed) <= keptDurations*l.duration
}

// everywhere says whether most leases of every zone are among the expired. One
// zone alone says nothing.
func everywhere(leases map[key]*lease, expired []key) bool {
	alive := map[string]int{} // less those that have expired
	for _, l := range leases {
		alive[l.zone()]++
	}
	for _, k := range expired {
		alive[leases[k].zone()] -= 2
	}
	for _, n := range alive {
		if n >= 0 {
			return false
		}
	}
	return len(alive) > 1
}

// limit is the most that may be evicted in a pass while preserveShare stays,
// as in the original.
func limit(leases int) int { return leases - int(float64(leases)*preserveShare) }

// allow returns the expired leases that may be evicted in this pass.
func (p *preservation) allow(now time.Time, leases map[key]*lease, expired []key) []key {
	var free, held []key
	all := len(leases)
	many, wide := p.enabled(all), everywhere(leases, expired)
	for _, k := range expired {
		if p.covers(k.app, many || wide && p.fewKept(now, leases[k])) {
			held = append(held, k)
		} else {
			free = append(free, k)
		}
	}
	if len(held) > limit(all) {
		p.note(now, len(held))
		return free
	}
	p.note(now, 0)
	return append(free, held...)
}

func (p *preservation) note(now time.Time, kept int) {
	p.kept.Store(int64(kept))
	if was := p.active.Swap(kept > 0); kept > 0 && !was {
		p.since.Store(now.UnixMilli())
	}
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
		s.peers.refresh()
	}
}

func (s *Server) evict(now time.Time, grace time.Duration) {
	was := s.policy.active.Load()
	for _, k := range s.store.evict(now, grace, leftEvicted, func(leases map[key]*lease, expired []key) []key { return s.policy.allow(now, leases, expired) }) {
		s.metrics.evictions.Inc()
		s.log.Info("lease ran out", "app", k.app, "id", k.id)
	}
	if is := s.policy.active.Load(); is != was {
		s.log.Warn("self-preservation changed", "active", is, "kept", s.policy.kept.Load())
	}
}
