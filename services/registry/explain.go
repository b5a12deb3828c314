package registry

import (
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/flix-lab/flix/services/lookup"
	"github.com/flix-lab/flix/services/lookup/eureka"
)

// Explanation says what the registry lists and why.
type Explanation struct {
	Region string `json:"region"`
	// SelfPreservation is on when the policy applies to this many leases;
	// Preserving when it keeps leases that ran out, Kept how many.
	SelfPreservation bool  `json:"self_preservation"`
	Preserving       bool  `json:"preserving"`
	Kept             int64 `json:"kept"`
	// Preservation has the figures behind it.
	Preservation PreservationInfo `json:"preservation"`
	// Filling says why fetches are refused, or is empty.
	Filling string       `json:"filling,omitempty"`
	Peers   []PeerInfo   `json:"peers"`
	Remotes []RemoteInfo `json:"remotes"`
	// Leases, by application and instance.
	Leases []LeaseInfo `json:"leases"`
}

// PreservationInfo explains self-preservation.
type PreservationInfo struct {
	// Mode is the property: on, off or auto.
	Mode string `json:"mode"`
	// Applies: to this many leases it does.
	Applies bool `json:"applies"`
	// Preserving: leases that ran out are kept, since Since.
	Preserving bool      `json:"preserving"`
	Since      time.Time `json:"since,omitzero"`
	Leases     int       `json:"leases"`
	// Apps are the applications for which it is set otherwise: on or off.
	Apps    map[string]string `json:"apps,omitempty"`
	Expired int               `json:"expired"`
	// MayEvict is the most that one pass evicts while it applies.
	MayEvict int `json:"may_evict"`
	// Expected renewals a minute if every instance renews as it says it does,
	// Threshold 85 % of them, and what really came in the last minute.
	Expected         int `json:"expected_renews_per_minute"`
	Threshold        int `json:"renews_threshold"`
	RenewsLastMinute int `json:"renews_last_minute"`
	// Why says all that in a sentence.
	Why string `json:"why"`
}

// LeaseInfo is one lease as the admin endpoint shows it.
type LeaseInfo struct {
	App      string `json:"app"`
	ID       string `json:"id"`
	VIP      string `json:"vip,omitempty"`
	Address  string `json:"address"`
	Zone     string `json:"zone,omitempty"`
	Status   string `json:"status"`
	Reported string `json:"reported"`
	Override string `json:"override,omitempty"`
	// SilentMS is the time since the last renewal, DurationMS how long a
	// lease lives without one.
	SilentMS   int64 `json:"silent_ms"`
	DurationMS int64 `json:"duration_ms"`
	Expired    bool  `json:"expired"`
}

// Why says why an instance is or is not UP.
type Why struct {
	ID  string `json:"id"`
	App string `json:"app,omitempty"`
	// Listed: the registry has a lease of it. Up: it is given work.
	Listed bool   `json:"listed"`
	Up     bool   `json:"up"`
	Status string `json:"status"`
	// Rule that decided: reported, not_ready, override, scaling_group; for an
	// instance that is not listed: never_seen, cancelled, peer, evicted or
	// by_hand.
	Rule string `json:"rule"`
	// Because has the reasons, the first one first.
	Because []string `json:"because"`
	// Remedy says what can be done, if anything can.
	Remedy string     `json:"remedy,omitempty"`
	Lease  *LeaseInfo `json:"lease,omitempty"`
	// LeftAt is when an instance that is gone left, HeardAt when it was last
	// heard of.
	LeftAt  time.Time `json:"left_at,omitzero"`
	HeardAt time.Time `json:"heard_at,omitzero"`
}

func (s *Server) explain() Explanation {
	now := s.deps.Clock()
	e := Explanation{
		Region: s.deps.Region, Preserving: s.policy.active.Load(), Kept: s.policy.kept.Load(), Preservation: s.preservation(),
		Filling: s.filling(), Peers: s.peers.report(), Remotes: s.remotes.report(), Leases: []LeaseInfo{},
	}
	s.store.each(func(l *lease) { e.Leases = append(e.Leases, s.store.info(l, now)) })
	e.SelfPreservation = e.Preservation.Applies
	return e
}

// info describes a lease; the store is locked.
func (s *store) info(l *lease, now time.Time) LeaseInfo {
	port := l.inst.Port
	if !port.Enabled && l.inst.SecurePort.Enabled {
		port = l.inst.SecurePort
	}
	return LeaseInfo{
		App: l.key.app, ID: l.key.id, VIP: l.inst.VIP, Zone: l.zone(),
		Address: net.JoinHostPort(l.inst.IPAddr, strconv.Itoa(int(port.Number))),
		Status:  l.inst.Status, Reported: l.reported, Override: s.overrides[l.key],
		SilentMS: now.Sub(l.renewed).Milliseconds(), DurationMS: l.duration.Milliseconds(), Expired: l.expired(now, 0),
	}
}

// preservation gives the figures of self-preservation as they are now.
func (s *Server) preservation() PreservationInfo {
	now := s.deps.Clock()
	i := PreservationInfo{Mode: s.policy.mode(), Apps: s.policy.apps(), Preserving: s.policy.active.Load()}
	expected := 0.0
	s.store.each(func(l *lease) {
		i.Leases++
		if l.expired(now, 0) {
			i.Expired++
		}
		expected += float64(time.Minute) / float64(max(l.interval, time.Millisecond))
	})
	s.store.mu.Lock()
	i.RenewsLastMinute = s.store.renewals.lastMinute(now)
	s.store.mu.Unlock()
	i.Applies, i.MayEvict = s.policy.enabled(i.Leases), limit(i.Leases)
	i.Expected, i.Threshold = int(expected), int(expected*preserveShare)
	if i.Preserving {
		i.Since = time.UnixMilli(s.policy.since.Load()).UTC()
	}
	i.Why = i.words(int(s.policy.kept.Load()))
	return i
}

func (i PreservationInfo) words(kept int) string {
	switch {
	case i.Preserving:
		return fmt.Sprintf("%d of %d leases have run out, which is more than the %d that 85 %% leaves room for: the network is likelier to be at fault than all of them, and they stay listed. %d renewals came in the last minute, %d are expected and the threshold is %d. It ends when enough of them renew, or by hand: flix registry evict INSTANCE",
			kept, i.Leases, i.MayEvict, i.RenewsLastMinute, i.Expected, i.Threshold)
	case !i.Applies && i.Mode == "off":
		return "it is off: every lease that runs out is evicted"
	case !i.Applies:
		return fmt.Sprintf("%d leases are too few to tell a dead network from dead instances: from %d it applies, and until then every lease that runs out is evicted, unless most of every zone do at once: these are kept for %d times their duration", i.Leases, preserveFrom, keptDurations)
	}
	return fmt.Sprintf("it applies and keeps nothing: %d of %d leases have run out, and up to %d may be evicted at once", i.Expired, i.Leases, i.MayEvict)
}

// why explains one instance; app may be empty.
func (s *Server) why(app, id string) Why {
	now := s.deps.Clock()
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	w := Why{ID: id, App: app, Status: eureka.StatusUnknown, Because: []string{}}
	l := s.store.lease(app, id)
	if l == nil {
		s.store.whyGone(&w, now)
		return w
	}
	info := s.store.info(l, now)
	w.App, w.Listed, w.Status, w.Up, w.Lease = l.key.app, true, l.inst.Status, l.inst.Status == eureka.StatusUp, &info
	w.HeardAt = l.renewed.UTC()
	_, w.Rule = s.store.verdict(l)
	w.reasons(l, info, s.store.asgOff[l.inst.ASGName])
	if info.Expired {
		s.whyExpired(&w, l, len(s.store.leases), now)
	}
	return w
}

func (w *Why) reasons(l *lease, info LeaseInfo, groupOff bool) {
	say := func(format string, args ...any) { w.Because = append(w.Because, fmt.Sprintf(format, args...)) }
	switch w.Rule {
	case ruleOverride:
		say("an operator has set its status to %s; the instance itself says %s", info.Override, l.reported)
		w.Remedy = "take the override back: flix registry status " + lookup.DecodeID(l.key.id) + " clear"
	case ruleNotReady:
		say("the instance says %s, and one that is not ready is believed: the operator's override %s counts once it is", l.reported, info.Override)
	case ruleGroup:
		say("its scaling group %s is out of service; the instance itself says %s", l.inst.ASGName, l.reported)
	default:
		say("the instance itself says %s, and nothing overrides it", l.reported)
		if !w.Up {
			w.Remedy = "it turns UP when the instance says so"
		}
	}
	if groupOff && w.Rule != ruleGroup {
		say("its scaling group %s is out of service too", l.inst.ASGName)
	}
	if !info.Expired {
		say("it renewed its lease %s ago; the lease lives %s", round(time.Duration(info.SilentMS)*time.Millisecond), round(l.duration))
	}
}

// whyExpired says why a lease that has run out is still listed.
func (s *Server) whyExpired(w *Why, l *lease, leases int, now time.Time) {
	over := now.Sub(l.renewed.Add(l.duration))
	w.Because = append(w.Because, fmt.Sprintf("its lease ran out %s ago and it is listed still: it was last heard of %s ago", round(over), round(now.Sub(l.renewed))))
	switch {
	case s.policy.active.Load() && s.policy.covers(l.key.app, s.policy.enabled(leases) || s.policy.fewKept(now, l)):
		w.Because = append(w.Because, "self-preservation keeps it: too many leases ran out at once")
		w.Remedy = "if it is really gone: flix registry evict " + lookup.DecodeID(l.key.id)
	default:
		w.Because = append(w.Because, fmt.Sprintf("leases are looked through every %s: it is evicted at the next pass", round(s.deps.Timing.EvictionInterval.D())))
	}
}

// whyGone says how an instance left; the store is locked.
func (s *store) whyGone(w *Why, now time.Time) {
	var (
		d     departure
		known bool
	)
	for k, e := range s.left.by {
		if k.id == w.ID && (w.App == "" || k.app == w.App) {
			d, known, w.App = e.Value.(*aged[departure]).val, true, k.app
		}
	}
	if !known {
		w.Rule = "never_seen"
		w.Because = append(w.Because, fmt.Sprintf("it has not registered here, or left more than %s ago, or before this registry started", departureKept))
		w.Remedy = "see whether it runs: flix lab status -o wide"
		return
	}
	w.Rule, w.LeftAt, w.HeardAt = d.how, d.at.UTC(), d.heard.UTC()
	ago := round(now.Sub(d.at))
	switch d.how {
	case leftCancelled:
		w.Because = append(w.Because, fmt.Sprintf("it cancelled its lease itself %s ago, as instances do that end in order", ago))
	case leftPeer:
		w.Because = append(w.Because, fmt.Sprintf("it cancelled its lease at a peer %s ago", ago))
	case leftByHand:
		w.Because = append(w.Because, fmt.Sprintf("an operator evicted it %s ago; one that is alive registers again at its next renewal", ago))
	default:
		w.Because = append(w.Because, fmt.Sprintf("its lease ran out and it was evicted %s ago: it had last been heard of %s before", ago, round(d.at.Sub(d.heard))))
	}
	w.Remedy = "it comes back when it registers: see whether it runs with flix lab status -o wide"
}

// round makes a duration short enough to read.
func round(d time.Duration) time.Duration {
	switch {
	case d >= time.Minute:
		return d.Round(time.Second)
	case d >= time.Second:
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Millisecond)
}

// hostPort splits an address; what cannot be read is empty.
func hostPort(addr string) (string, int) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return "", 0
	}
	return host, n
}
