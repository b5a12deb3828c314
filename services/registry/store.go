package registry

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/flix-lab/flix/services/lookup/eureka"
	"github.com/flix-lab/flix/topology"
)

const (
	// maxLeaseSecs bounds the lease an instance may ask for: a day.
	maxLeaseSecs = 24 * 60 * 60
	// deltaRetention is how long a change stays in the delta, as in the
	// original: stock clients fetch every 30 s, whatever the timing here.
	deltaRetention = 180 * time.Second
	// maxChanges bounds the changes that are kept for it.
	maxChanges = 100_000
	// renewalShown is how old a renewal may be in a list: the record of an
	// instance is not written anew at each of its renewals.
	renewalShown = 30 * time.Second
)

// key names an instance: identifiers are unique within an application.
type key struct{ app, id string }

// lease is an instance and when it was last heard of.
type lease struct {
	key key
	// inst is never changed: a change makes a new one.
	inst *eureka.Instance
	// reported is the status the instance gave itself, before any override.
	reported string
	// forced: the override is newer than what the instance reported.
	forced   bool
	duration time.Duration
	// interval at which the instance says it renews.
	interval time.Duration
	renewed  time.Time
}

func (l *lease) expired(now time.Time, grace time.Duration) bool {
	return now.After(l.renewed.Add(l.duration + grace))
}

// zone is where the instance says that it runs, "" if it does not.
func (l *lease) zone() string { return l.inst.Metadata["zone"] }

// change is the latest thing that happened to an instance.
type change struct {
	inst    *eureka.Instance // with its action
	version uint64
}

// application is the leases of one application.
type application struct {
	name   string
	sorted []*lease // by id
}

// store holds the leases, the operator's overrides and the recent changes.
type store struct {
	timing topology.Timing
	epoch  string
	// keep is how long a change stays in the delta.
	keep time.Duration

	mu        sync.Mutex
	leases    map[key]*lease
	apps      []*application // sorted by name
	counts    map[string]int // leases by effective status
	overrides map[key]string
	asgOff    map[string]bool // scaling groups out of service
	recent    *aging[change]
	left      *aging[departure]
	renewals  meter
	version   uint64
	// since is the version after which recent lacks no change.
	since uint64
}

func newStore(t topology.Timing, keep time.Duration, now time.Time) *store {
	return &store{
		timing: t, keep: keep, epoch: strconv.FormatInt(now.UnixNano(), 36) + strconv.FormatUint(rand.Uint64(), 36),
		leases: map[key]*lease{}, counts: map[string]int{}, overrides: map[key]string{}, asgOff: map[string]bool{},
		recent: newAging[change](), left: newAging[departure](),
	}
}

// register takes over the instance and grants it a lease. What the registry
// knows wins over an older report (by dirty timestamp) of the same instance.
// It reports false when a peer speaks of an instance that has left since.
func (s *store) register(in *eureka.Instance, peer bool, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := key{in.App, in.InstanceID}
	if in.LastDirty == 0 {
		in.LastDirty = eureka.Millis(now.UnixMilli())
	}
	old := s.leases[k]
	if old == nil && s.buried(k, in, peer) {
		return false
	}
	reported := eureka.ParseStatus(in.Status)
	if in.Status == "" {
		reported = eureka.StatusUp
	}
	l := &lease{key: k, inst: in, renewed: now, duration: s.timing.LeaseDuration.D(), interval: s.timing.LeaseRenewal.D()}
	if old != nil && old.inst.LastDirty > in.LastDirty {
		cp := *old.inst
		l.inst, reported, l.forced = &cp, old.reported, old.forced
	}
	if o := eureka.ParseStatus(in.OverriddenStatus); o != eureka.StatusUnknown && s.overrides[k] == "" {
		s.overrides[k] = o
		// A peer's record carries the outcome of the override, not what the
		// instance itself had said.
		l.forced = peer && reported == o
	}
	l.reported = reported
	l.inst.Lease = l.grant(in.Lease, now)
	if old != nil {
		l.inst.Lease.ServiceUp = old.inst.Lease.ServiceUp
	}
	s.left.drop(k)
	s.place(l)
	s.settle(l, eureka.ActionAdded, now)
	return true
}

// grant makes the lease of what the instance asks for.
func (l *lease) grant(asked *eureka.Lease, now time.Time) *eureka.Lease {
	if asked != nil && asked.DurationSecs > 0 {
		l.duration = time.Duration(min(asked.DurationSecs, maxLeaseSecs)) * time.Second
	}
	if asked != nil && asked.RenewalSecs > 0 {
		l.interval = time.Duration(min(asked.RenewalSecs, maxLeaseSecs)) * time.Second
	}
	return &eureka.Lease{RenewalSecs: seconds(l.interval), DurationSecs: seconds(l.duration), Registered: eureka.Num(now.UnixMilli())}
}

func seconds(d time.Duration) eureka.Num {
	return eureka.Num((d + time.Second - 1) / time.Second)
}

// place puts a lease in the maps, in the stead of an older one.
func (s *store) place(l *lease) {
	if old := s.leases[l.key]; old != nil {
		s.count(old.inst.Status, -1)
	}
	s.leases[l.key] = l
	s.count(l.inst.Status, 1)
	n, found := slices.BinarySearchFunc(s.apps, l.key.app, func(a *application, name string) int { return strings.Compare(a.name, name) })
	if !found {
		s.apps = slices.Insert(s.apps, n, &application{name: l.key.app})
	}
	a := s.apps[n]
	if n, found = a.find(l.key.id); found {
		a.sorted[n] = l
	} else {
		a.sorted = slices.Insert(a.sorted, n, l)
	}
}

func (s *store) count(status string, by int) {
	if s.counts[status] += by; s.counts[status] == 0 {
		delete(s.counts, status)
	}
}

func (a *application) find(id string) (int, bool) {
	return slices.BinarySearchFunc(a.sorted, id, func(l *lease, id string) int { return strings.Compare(l.key.id, id) })
}

// unplace is the inverse of place.
func (s *store) unplace(l *lease) {
	s.count(l.inst.Status, -1)
	delete(s.leases, l.key)
	for n, a := range s.apps {
		if a.name != l.key.app {
			continue
		}
		if at, found := a.find(l.key.id); found {
			a.sorted = slices.Delete(a.sorted, at, at+1)
		}
		if len(a.sorted) == 0 {
			s.apps = slices.Delete(s.apps, n, n+1)
		}
		return
	}
}

// settle computes the effective status of a lease whose inst nobody else has
// seen yet, and notes the change.
func (s *store) settle(l *lease, action string, now time.Time) {
	in := l.inst
	s.count(in.Status, -1)
	in.OverriddenStatus = eureka.StatusUnknown
	if o := s.overrides[l.key]; o != "" {
		in.OverriddenStatus = o
	}
	in.Status, _ = s.verdict(l)
	s.count(in.Status, 1)
	if in.Status == eureka.StatusUp && in.Lease.ServiceUp == 0 {
		in.Lease.ServiceUp = eureka.Num(now.UnixMilli())
	}
	in.Lease.LastRenewal = eureka.Num(l.renewed.UnixMilli())
	in.LastUpdated = eureka.Millis(now.UnixMilli())
	in.Action = action
	s.note(l.key, in, now)
}

func (s *store) note(k key, in *eureka.Instance, now time.Time) {
	s.version++
	s.recent.put(k, change{inst: in, version: s.version}, now)
}

// edit replaces the lease's instance by a copy for f to change, and tells of it
// by the action.
func (s *store) edit(l *lease, action string, now time.Time, f func(*eureka.Instance)) {
	l.inst = l.copied()
	if f != nil {
		f(l.inst)
	}
	s.settle(l, action, now)
}

func (l *lease) copied() *eureka.Instance {
	cp, info := *l.inst, *l.inst.Lease
	cp.Lease = &info
	return &cp
}

// renewal is the outcome of a heartbeat.
type renewal int

const (
	renewed renewal = iota
	// unknown: no such lease, or the sender has newer state: it registers.
	unknown
	// conflict: a peer's copy is older than ours.
	conflict
)

// renew extends a lease for its duration. (The original adds the duration
// twice by mistake, as its own source admits; here it is added once.)
func (s *store) renew(k key, dirty int64, override string, peer bool, now time.Time) (renewal, *eureka.Instance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.leases[k]
	if l == nil {
		return unknown, nil
	}
	// A sender with newer state is alive all the same, and so the lease is
	// renewed before it is told to register.
	l.renewed = now
	s.renewals.add(now)
	switch {
	case dirty > int64(l.inst.LastDirty):
		// Only of a peer that knows more than we do is its override believed:
		// a heartbeat that was sent before an override was taken back would
		// bring it back otherwise.
		if o := eureka.ParseStatus(override); peer && o != eureka.StatusUnknown && s.overrides[k] == "" {
			s.overrides[k] = o
			s.edit(l, eureka.ActionModified, now, nil)
		}
		return unknown, nil
	case dirty > 0 && dirty < int64(l.inst.LastDirty) && peer:
		return conflict, l.inst
	}
	return renewed, l.inst
}

// cancel ends a lease; false if there is none, or if the peer that says so
// knows an older state of the instance than we do.
func (s *store) cancel(k key, dirty int64, peer bool, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.leases[k]
	if l == nil || peer && dirty > 0 && dirty < int64(l.inst.LastDirty) {
		return false
	}
	how := leftCancelled
	if peer {
		how = leftPeer
	}
	s.remove(l, how, now)
	return true
}

func (s *store) remove(l *lease, how string, now time.Time) {
	s.unplace(l)
	delete(s.overrides, l.key)
	in := l.copied()
	in.Action, in.LastUpdated = eureka.ActionDeleted, eureka.Millis(now.UnixMilli())
	in.Lease.LastRenewal = eureka.Num(l.renewed.UnixMilli())
	in.Lease.Evicted = eureka.Num(now.UnixMilli()) // of those that left by themselves too, as the original
	s.note(l.key, in, now)
	s.left.put(l.key, departure{how: how, dirty: in.LastDirty, at: now, heard: l.renewed}, now)
}

// annotate merges metadata into an instance, which counts as a registration.
func (s *store) annotate(k key, values map[string]string, now time.Time) *eureka.Instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.leases[k]
	if l == nil {
		return nil
	}
	s.edit(l, eureka.ActionAdded, now, func(in *eureka.Instance) {
		merged := make(eureka.Metadata, len(in.Metadata)+len(values))
		for _, m := range []map[string]string{in.Metadata, values} {
			for name, v := range m {
				merged[name] = v
			}
		}
		in.Metadata = merged
	})
	return l.inst
}

// evict ends expired leases as far as allowed says, at random when not all
// may go, and returns their keys.
func (s *store) evict(now time.Time, grace time.Duration, how string, allowed func(leases map[key]*lease, expired []key) []key) []key {
	s.mu.Lock()
	defer s.mu.Unlock()
	var expired []key
	for k, l := range s.leases {
		if l.expired(now, grace) {
			expired = append(expired, k)
		}
	}
	rand.Shuffle(len(expired), func(i, j int) { expired[i], expired[j] = expired[j], expired[i] })
	gone := allowed(s.leases, expired)
	for _, k := range gone {
		s.remove(s.leases[k], how, now)
	}
	s.forget(now)
	return gone
}

// evictOne ends one lease whether it has run out or not, and explains its end:
// one that is alive may be listed again before anybody can ask.
func (s *store) evictOne(k key, now time.Time) (Why, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.leases[k]
	if l == nil {
		return Why{}, false
	}
	s.remove(l, leftByHand, now)
	w := Why{ID: k.id, App: k.app, Status: eureka.StatusUnknown, Because: []string{}}
	s.whyGone(&w, now)
	return w, true
}

// forget drops changes older than the retention of deltas, and departures.
func (s *store) forget(now time.Time) {
	s.recent.prune(now.Add(-s.keep), maxChanges, func(c change) { s.since = max(s.since, c.version) })
	s.left.prune(now.Add(-departureKept), maxDepartures, nil)
}
