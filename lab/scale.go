package lab

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/flix-lab/flix/lab/autoscale"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// scalable are the roles that can have more instances while the lab runs: they
// keep nothing of their own.
var scalable = []topology.Role{
	topology.RoleSteering, topology.RoleLicense, topology.RolePlayback, topology.RoleRecommend,
	topology.RoleSignup, topology.RoleDiscovery, topology.RolePlay, topology.RoleGateway,
}

const (
	// scaleInterval is how often the autoscaler looks.
	scaleInterval = time.Second
	// assumedLimit is how many requests an instance may have under way where
	// nothing says so.
	assumedLimit = 64
)

// scaler is what the autoscaler remembers.
type scaler struct {
	mu     sync.Mutex
	states map[scaleKey]*scaleState
}

type scaleKey struct {
	region string
	role   topology.Role
}

// scaleState is one service as the autoscaler sees it.
type scaleState struct {
	auto    autoscale.State
	last    map[string]work
	lastAt  time.Time
	use     usage // of an instance, on average
	share   float64
	known   bool
	born    map[string]time.Time // instances since they were first seen
	want    int
	reason  string
	changed time.Time
}

func (s *scaler) state(k scaleKey) *scaleState {
	if s.states == nil {
		s.states = map[scaleKey]*scaleState{}
	}
	st, ok := s.states[k]
	if !ok {
		st = &scaleState{born: map[string]time.Time{}}
		s.states[k] = st
	}
	return st
}

// forget drops what was decided by a policy that is no more.
func (s *scaler) forget(k scaleKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state(k)
	st.want, st.reason = 0, ""
}

// autoscale looks at every service with a policy until ctx ends, and changes
// what they ask for. It waits for verbs that change the lab, and they for it.
func (l *Lab) autoscale(ctx context.Context) {
	tick := time.NewTicker(scaleInterval)
	defer tick.Stop()
	idle := idleWatch{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		i := l.current()
		if i == nil || i.Halted {
			idle = idleWatch{}
			continue
		}
		idle.look(ctx, l, i)
		for _, region := range i.Topology.RegionNames() {
			for _, role := range slices.Sorted(maps.Keys(i.Policies[region])) {
				if err := l.scaleOne(ctx, scaleKey{region, role}); err != nil && ctx.Err() == nil {
					l.log.Add("scale.failed", region, fmt.Sprintf("%s in %s could not be scaled: %v", role, region, err), nil)
				}
			}
		}
	}
}

// scaleOne measures one service, decides and acts.
func (l *Lab) scaleOne(ctx context.Context, k scaleKey) error {
	if l.isDown(k.region) {
		return nil
	}
	if err := l.measure(ctx, k); err != nil {
		return err
	}
	l.scaler.mu.Lock()
	i := l.current() // with the lock: a policy that changes after this forgets what is decided here
	p, ok := i.Policies[k.region][k.role]
	if !ok {
		l.scaler.mu.Unlock()
		return nil
	}
	have := instancesOf(i, k)
	now := time.Now()
	st := l.scaler.state(k)
	fresh := 0
	for _, inst := range have {
		if i.Grown[inst.ID] && now.Sub(st.born[inst.ID]) < p.WarmUp {
			fresh++
		}
	}
	load := autoscale.Load{Known: st.known}
	switch p.Metric {
	case autoscale.Rate:
		load.Total = st.use.rate * float64(len(have))
	case autoscale.Utilisation:
		load.Total = st.share * float64(len(have))
	default:
		load.Total = st.use.concurrency * float64(len(have))
	}
	d := p.Decide(&st.auto, now, len(have), fresh, load)
	st.want, st.reason = d.Want, d.Reason
	l.scaler.mu.Unlock()
	unlit := slices.DeleteFunc(slices.Clone(have), func(x topology.Instance) bool { return !i.Grown[x.ID] || !i.Dark[x.ID] })
	if d.Want == len(have) && len(unlit) == 0 {
		return nil
	}
	return l.resize(ctx, k, have, unlit, d)
}

// resize adds or takes away instances, and raises those that an earlier attempt
// added and did not come to raise, unless a verb has the lab: then the next
// look decides anew.
func (l *Lab) resize(ctx context.Context, k scaleKey, have, unlit []topology.Instance, d autoscale.Decision) error {
	if !l.verb.TryLock() {
		return nil
	}
	defer l.verb.Unlock()
	given, cancel := context.WithCancel(ctx)
	cancel() // a verb that comes meanwhile waits for this instead of refusing
	l.mu.Lock()
	l.busy, l.busyCtx = fmt.Sprintf("scaling %s in %s", k.role, k.region), given
	l.mu.Unlock()
	err := l.raise(ctx, unlit)
	up := d.Want > len(have)
	if err != nil || d.Want == len(have) {
		return err
	}
	if up {
		err = l.grow(ctx, k, d.Want-len(have))
	} else {
		err = l.shrink(ctx, k, have, len(have)-d.Want)
	}
	l.scaler.mu.Lock()
	st := l.scaler.state(k)
	st.auto.Changed(time.Now(), up)
	st.changed = time.Now()
	l.scaler.mu.Unlock()
	if err != nil {
		return err
	}
	now := len(instancesOf(l.current(), k))
	if now != len(have) {
		l.log.Add("scale.changed", k.region, fmt.Sprintf("%s in %s: %s instead of %d (%s)", k.role, k.region, services.Count(now, "instance"), len(have), d.Reason), map[string]any{"role": k.role, "from": len(have), "to": now})
	}
	return nil
}

func (l *Lab) grow(ctx context.Context, k scaleKey, n int) error {
	r, ok := l.current().Topology.Region(k.region)
	if !ok {
		return nil
	}
	fresh := l.current().next(r, k.role, n)
	if err := l.changeIntent(func(i *intent) {
		i.addDark(fresh)
		if i.Grown == nil {
			i.Grown = map[string]bool{}
		}
		for _, x := range fresh {
			i.Grown[x.ID] = true
		}
	}); err != nil {
		return err
	}
	return l.raise(ctx, fresh)
}

// raise starts instances that were added, and has them take work.
func (l *Lab) raise(ctx context.Context, fresh []topology.Instance) error {
	if len(fresh) == 0 {
		return nil
	}
	if err := l.startExtra(ctx, fresh); err != nil {
		return err
	}
	return l.light(ctx, fresh)
}

// shrink drains the youngest of those that were added, and ends them.
func (l *Lab) shrink(ctx context.Context, k scaleKey, have []topology.Instance, n int) error {
	i := l.current()
	var gone []topology.Instance
	for _, x := range slices.Backward(have) {
		if i.Grown[x.ID] && len(gone) < n {
			gone = append(gone, x)
		}
	}
	if err := l.drainOut(ctx, k, gone); err != nil {
		return err
	}
	return l.dropExtra(ctx, gone)
}

// drainTime bounds the wait for an instance to be left alone.
const drainTime = 15 * time.Second

// drainOut takes instances out of the registry's service and waits until nobody
// asks them any more.
func (l *Lab) drainOut(ctx context.Context, k scaleKey, gone []topology.Instance) error {
	if len(gone) == 0 {
		return nil
	}
	for _, x := range gone {
		if _, err := l.RegistryChange(ctx, control.RegistryChange{Instance: x.ID, Status: "OUT_OF_SERVICE"}); err != nil && services.KindOf(err) != services.NotFound {
			return err
		}
		if k.role != topology.RoleGateway {
			continue
		}
		s, err := l.spec(l.current(), x)
		if err != nil {
			return err
		}
		if err := l.admin(ctx, s, http.MethodPost, "/properties", map[string]string{propDrain: "on"}, nil); err != nil {
			return err
		}
	}
	// Everybody has heard of it after two fetches; then only what is under way
	// is left.
	t := l.current().Topology.Timing
	if err := pause(ctx, 2*t.RegistryFetch.D()+t.LeaseRenewal.D()); err != nil {
		return err
	}
	deadline := time.Now().Add(drainTime)
	var before map[string]work
	for {
		now, err := l.works(ctx, k.region, k.role)
		if err != nil {
			return err
		}
		busy := before == nil
		for _, x := range gone {
			busy = busy || used(before[x.ID], now[x.ID], time.Second, time.Hour).answered > 0
		}
		if !busy || time.Now().After(deadline) {
			return nil
		}
		before = now
		if err := pause(ctx, t.RegistryFetch.D()); err != nil {
			return err
		}
	}
}

// instancesOf lists the wanted instances of a service, those that were added
// last.
func instancesOf(i *intent, k scaleKey) []topology.Instance {
	var out []topology.Instance
	for _, x := range i.instances() {
		if x.Region == k.region && x.Role == k.role && !i.Stopped[x.ID] {
			out = append(out, x)
		}
	}
	return out
}

// measure compares a service's instances with the last look at them. Those that
// are still warming up do not count.
func (l *Lab) measure(ctx context.Context, k scaleKey) error {
	seen, err := l.works(ctx, k.region, k.role)
	if err != nil {
		return err
	}
	limit, _ := l.limitOf(ctx, k)
	i := l.current()
	warmUp := i.Policies[k.region][k.role].WarmUp
	stream := i.Topology.Timing.RPCTimeout.D() * 4
	now := time.Now()
	l.scaler.mu.Lock()
	defer l.scaler.mu.Unlock()
	st := l.scaler.state(k)
	took := now.Sub(st.lastAt)
	var sum usage
	n := 0
	for id, w := range seen {
		if _, ok := st.born[id]; !ok {
			st.born[id] = now
		}
		b, ok := st.last[id]
		if !ok || i.Grown[id] && now.Sub(st.born[id]) < warmUp {
			continue
		}
		u := used(b, w, took, stream)
		sum.rate += u.rate
		sum.concurrency += u.concurrency
		n++
	}
	maps.DeleteFunc(st.born, func(id string, _ time.Time) bool { _, ok := seen[id]; return !ok })
	if st.known = n > 0 && took > 0; st.known {
		st.use = usage{rate: sum.rate / float64(n), concurrency: sum.concurrency / float64(n)}
		st.share = min(st.use.concurrency/limit, 1)
	}
	st.last, st.lastAt = seen, now
	return nil
}

// limitOf is how many requests an instance of a service may have under way: as
// the region's gateways are set for themselves and for the APIs behind them,
// else the assumed limit, which is then not known.
func (l *Lab) limitOf(ctx context.Context, k scaleKey) (limit float64, known bool) {
	switch k.role {
	case topology.RoleGateway, topology.RoleSignup, topology.RoleDiscovery, topology.RolePlay:
	default:
		return assumedLimit, false
	}
	e, err := planet{l}.Edge(ctx, k.region)
	if err != nil || e.Gateways == 0 || e.Concurrency == 0 {
		return assumedLimit, false
	}
	return float64(e.Concurrency) / float64(max(len(instancesOf(l.current(), k)), 1)), true
}
