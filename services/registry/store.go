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

// maxLeaseSecs bounds the lease an instance may ask for: a day.
const maxLeaseSecs = 24 * 60 * 60

// key names an instance: identifiers are unique within an application.
type key struct{ app, id string }

// lease is an instance and when it was last heard of.
type lease struct {
	// inst is never changed: a change makes a new one.
	inst *eureka.Instance
	// reported is the status the instance gave itself, before any override.
	reported string
	duration time.Duration
	renewed  time.Time
}

func (l *lease) expired(now time.Time, grace time.Duration) bool {
	return now.After(l.renewed.Add(l.duration + grace))
}

// change is the latest thing that happened to an instance.
type change struct {
	key     key
	inst    *eureka.Instance // with its action
	at      time.Time
	version uint64
}

// store holds the leases, the operator's overrides and the recent changes.
type store struct {
	timing topology.Timing
	epoch  string

	mu        sync.Mutex
	leases    map[key]*lease
	overrides map[key]string
	recent    map[key]change
	version   uint64
	// since is the version after which recent lacks no change.
	since uint64
}

func newStore(t topology.Timing, now time.Time) *store {
	return &store{
		timing: t, epoch: strconv.FormatInt(now.UnixNano(), 36),
		leases: map[key]*lease{}, overrides: map[key]string{}, recent: map[key]change{},
	}
}

// register takes over the instance and grants it a lease. What the registry
// knows wins over an older report (by dirty timestamp) of the same instance.
func (s *store) register(in *eureka.Instance, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := key{in.App, in.InstanceID}
	old := s.leases[k]
	reported := eureka.ParseStatus(in.Status)
	if old != nil && old.inst.LastDirty > in.LastDirty {
		cp := *old.inst
		in, reported = &cp, old.reported
	}
	if o := eureka.ParseStatus(in.OverriddenStatus); o != eureka.StatusUnknown && s.overrides[k] == "" {
		s.overrides[k] = o
	}
	l := &lease{inst: in, reported: reported, renewed: now, duration: s.timing.LeaseDuration.D()}
	info := eureka.Lease{RenewalSecs: seconds(s.timing.LeaseRenewal), DurationSecs: seconds(s.timing.LeaseDuration), Registered: eureka.Num(now.UnixMilli())}
	if in.Lease != nil && in.Lease.DurationSecs > 0 {
		info.DurationSecs = min(in.Lease.DurationSecs, maxLeaseSecs)
		l.duration = time.Duration(info.DurationSecs) * time.Second
	}
	if in.Lease != nil && in.Lease.RenewalSecs > 0 {
		info.RenewalSecs = in.Lease.RenewalSecs
	}
	if old != nil {
		info.ServiceUp = old.inst.Lease.ServiceUp
	}
	in.Lease = &info
	s.leases[k] = l
	s.settle(k, l, eureka.ActionAdded, now)
}

func seconds(d topology.Duration) eureka.Num {
	return eureka.Num((d.D() + time.Second - 1) / time.Second)
}

// settle computes the effective status of a lease whose inst nobody else has
// seen yet, and notes the change.
func (s *store) settle(k key, l *lease, action string, now time.Time) {
	in := l.inst
	in.Status, in.OverriddenStatus = l.reported, eureka.StatusUnknown
	if o := s.overrides[k]; o != "" {
		in.OverriddenStatus = o
		// An instance that is not ready stays so, whatever the operator says.
		if l.reported != eureka.StatusDown && l.reported != eureka.StatusStarting {
			in.Status = o
		}
	}
	if in.Status == eureka.StatusUp && in.Lease.ServiceUp == 0 {
		in.Lease.ServiceUp = eureka.Num(now.UnixMilli())
	}
	in.Lease.LastRenewal = eureka.Num(l.renewed.UnixMilli())
	in.LastUpdated = eureka.Millis(now.UnixMilli())
	in.Action = action
	s.note(k, in, now)
}

func (s *store) note(k key, in *eureka.Instance, now time.Time) {
	s.version++
	s.recent[k] = change{key: k, inst: in, at: now, version: s.version}
}

// edit replaces the lease's instance by a copy for f to change.
func (s *store) edit(k key, l *lease, now time.Time, f func(*eureka.Instance)) {
	cp, info := *l.inst, *l.inst.Lease
	cp.Lease = &info
	f(&cp)
	l.inst = &cp
	s.settle(k, l, eureka.ActionModified, now)
}

// renewal is the outcome of a heartbeat.
type renewal int

const (
	renewed renewal = iota
	// unknown: no such lease, or the client has newer state: it registers.
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
	if l == nil || dirty > int64(l.inst.LastDirty) {
		return unknown, nil
	}
	if dirty > 0 && dirty < int64(l.inst.LastDirty) && peer {
		return conflict, l.inst
	}
	l.renewed = now
	if o := eureka.ParseStatus(override); o != eureka.StatusUnknown && s.overrides[k] == "" {
		s.overrides[k] = o
		s.edit(k, l, now, func(*eureka.Instance) {})
	}
	return renewed, l.inst
}

// cancel ends a lease; false if there is none.
func (s *store) cancel(k key, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.remove(k, now, false)
}

func (s *store) remove(k key, now time.Time, evicted bool) bool {
	l := s.leases[k]
	if l == nil {
		return false
	}
	delete(s.leases, k)
	delete(s.overrides, k)
	cp, info := *l.inst, *l.inst.Lease
	cp.Lease, cp.Action, cp.LastUpdated = &info, eureka.ActionDeleted, eureka.Millis(now.UnixMilli())
	if evicted {
		info.Evicted = eureka.Num(now.UnixMilli())
	}
	s.note(k, &cp, now)
	return true
}

// override sets the operator's word on an instance's status; "" takes it
// back, and the instance's own word counts again unless fallback is given.
func (s *store) override(k key, status, fallback string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.leases[k]
	if l == nil {
		return false
	}
	if status == "" {
		delete(s.overrides, k)
		if f := eureka.ParseStatus(fallback); f != eureka.StatusUnknown {
			l.reported = f
		}
	} else {
		s.overrides[k] = status
	}
	s.edit(k, l, now, func(*eureka.Instance) {})
	return true
}

// annotate merges metadata into an instance.
func (s *store) annotate(k key, values map[string]string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.leases[k]
	if l == nil {
		return false
	}
	s.edit(k, l, now, func(in *eureka.Instance) {
		merged := make(eureka.Metadata, len(in.Metadata)+len(values))
		for _, m := range []map[string]string{in.Metadata, values} {
			for name, v := range m {
				merged[name] = v
			}
		}
		in.Metadata = merged
	})
	return true
}

// evict ends expired leases as far as allowed says, at random when not all
// may go, and returns their keys.
func (s *store) evict(now time.Time, grace time.Duration, allowed func(all []*lease, expired []key) []key) []key {
	s.mu.Lock()
	defer s.mu.Unlock()
	var (
		all     = make([]*lease, 0, len(s.leases))
		expired []key
	)
	for k, l := range s.leases {
		all = append(all, l)
		if l.expired(now, grace) {
			expired = append(expired, k)
		}
	}
	rand.Shuffle(len(expired), func(i, j int) { expired[i], expired[j] = expired[j], expired[i] })
	gone := allowed(all, expired)
	for _, k := range gone {
		s.remove(k, now, true)
	}
	s.forget(now)
	return gone
}

// forget drops changes older than the retention of deltas: six fetches, as
// the original's 180 s are six of its 30 s.
func (s *store) forget(now time.Time) {
	old := now.Add(-6 * s.timing.RegistryFetch.D())
	for k, c := range s.recent {
		if c.at.Before(old) {
			s.since = max(s.since, c.version)
			delete(s.recent, k)
		}
	}
}

// content is what one answer is made of.
type content struct {
	apps    eureka.Applications
	version uint64
	since   uint64
}

// full lists the instances that pass the filter (nil: all) by application.
func (s *store) full(pass func(*eureka.Instance) bool) content {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*eureka.Instance, 0, len(s.leases))
	counts := map[string]int{}
	for _, l := range s.leases {
		if pass == nil || pass(l.inst) {
			list = append(list, l.inst)
			counts[l.inst.Status]++
		}
	}
	return s.content(list, counts)
}

// delta lists the recent changes, with the hash of the whole registry.
func (s *store) delta() content {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*eureka.Instance, 0, len(s.recent))
	for _, c := range s.recent {
		list = append(list, c.inst)
	}
	counts := map[string]int{}
	for _, l := range s.leases {
		counts[l.inst.Status]++
	}
	return s.content(list, counts)
}

func (s *store) content(list []*eureka.Instance, counts map[string]int) content {
	slices.SortFunc(list, func(a, b *eureka.Instance) int {
		if c := strings.Compare(a.App, b.App); c != 0 {
			return c
		}
		return strings.Compare(a.InstanceID, b.InstanceID)
	})
	c := content{version: s.version, since: s.since}
	c.apps.Version, c.apps.Hash = strconv.FormatUint(s.version, 10), eureka.Hash(counts)
	for _, in := range list {
		if n := len(c.apps.Regional); n == 0 || c.apps.Regional[n-1].Name != in.App {
			c.apps.Regional = append(c.apps.Regional, eureka.Application{Name: in.App})
		}
		app := &c.apps.Regional[len(c.apps.Regional)-1]
		app.Instances = append(app.Instances, *in)
	}
	return c
}

// current is the version of the registry now.
func (s *store) current() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version
}

// find returns the instance, of any application when app is empty.
func (s *store) find(app, id string) *eureka.Instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	if app != "" {
		if l := s.leases[key{app, id}]; l != nil {
			return l.inst
		}
		return nil
	}
	for k, l := range s.leases {
		if k.id == id {
			return l.inst
		}
	}
	return nil
}

// each calls f for every lease; f must be quick.
func (s *store) each(f func(key, *lease)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, l := range s.leases {
		f(k, l)
	}
}
