package registry

import (
	"time"

	"github.com/flix-lab/flix/services/lookup/eureka"
)

// verdict is the status of a lease and the rule it comes from. The rules are
// the original's, in its order: an instance that says it is not ready is
// believed; then the operator's override counts; then the scaling group. An
// override that is newer than the instance's last registration counts at once.
func (s *store) verdict(l *lease) (status, rule string) {
	ready := l.reported == eureka.StatusUp || l.reported == eureka.StatusOutOfService
	switch o := s.overrides[l.key]; {
	case o != "" && (ready || l.forced):
		return o, ruleOverride
	case !ready && o != "":
		return l.reported, ruleNotReady
	case ready && s.asgOff[l.inst.ASGName]:
		return eureka.StatusOutOfService, ruleGroup
	}
	return l.reported, ruleReported
}

// The rules by which a status comes about, as explanations name them.
const (
	ruleReported = "reported"
	ruleNotReady = "not_ready"
	ruleOverride = "override"
	ruleGroup    = "scaling_group"
)

// override sets the operator's word on an instance's status; "" takes it
// back, and the instance's own word counts again unless fallback is given. A
// dirty timestamp above ours, of a peer, becomes ours. It returns the instance
// as it is then, or nil.
func (s *store) override(k key, status, fallback string, dirty int64, now time.Time) *eureka.Instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.leases[k]
	if l == nil {
		return nil
	}
	l.renewed = now
	switch {
	case status == "" && s.overrides[k] == "":
		return l.inst // there is nothing to take back, and the fallback is no word of the instance's
	case status == "":
		delete(s.overrides, k)
		l.forced = false
		if f := eureka.ParseStatus(fallback); f != eureka.StatusUnknown {
			l.reported = f
		}
	default:
		s.overrides[k] = status
		l.forced = true
	}
	s.edit(l, eureka.ActionModified, now, func(in *eureka.Instance) { in.LastDirty = max(in.LastDirty, eureka.Millis(dirty)) })
	return l.inst
}

// setGroup puts a scaling group out of service, or back.
func (s *store) setGroup(name string, enabled bool, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if enabled {
		delete(s.asgOff, name)
	} else {
		s.asgOff[name] = true
	}
	for _, l := range s.leases {
		if l.inst.ASGName == name {
			s.edit(l, eureka.ActionModified, now, nil)
		}
	}
}

// How an instance left.
const (
	leftCancelled = "cancelled" // it said so itself
	leftPeer      = "peer"      // a peer heard it from the instance
	leftEvicted   = "evicted"   // its lease ran out
	leftByHand    = "by_hand"   // an operator evicted it
)

const (
	// departureKept is how long it is known how an instance left.
	departureKept = time.Hour
	maxDepartures = 10_000
)

// departure is the last that was heard of an instance that is gone. It is a
// tombstone too: what a peer has queued from before cannot raise the dead.
type departure struct {
	how   string
	dirty eureka.Millis
	at    time.Time
	heard time.Time
}

// buried says whether a peer's record of an instance is from before it left.
// The instance itself may come back with whatever timestamp it has. A lease
// that ran out here may live at a peer, which hears of the instance still.
func (s *store) buried(k key, in *eureka.Instance, peer bool) bool {
	d, _, ok := s.left.get(k)
	return ok && peer && d.how != leftEvicted && in.LastDirty <= d.dirty
}
