package lab

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/flix-lab/flix/lab/autoscale"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// Scale implements control.Engine.
func (l *Lab) Scale(ctx context.Context) (control.Scale, error) {
	i, err := l.need()
	if err != nil {
		return control.Scale{}, err
	}
	out := control.Scale{Services: []control.ScaleService{}, IdleStopMS: float64(i.IdleStop.Milliseconds())}
	for _, region := range i.Topology.RegionNames() {
		for _, role := range scalable {
			k := scaleKey{region, role}
			p, has := i.Policies[region][role]
			if !has && !i.Halted && !l.isDown(region) {
				// Nobody measures it: this look stands for the time since the last.
				if err := l.measure(ctx, k); err != nil {
					return out, err
				}
			}
			s := l.scaleService(i, k)
			if has {
				s.Policy = &p
			}
			out.Services = append(out.Services, s)
		}
	}
	return out, nil
}

func (l *Lab) scaleService(i *intent, k scaleKey) control.ScaleService {
	have := instancesOf(i, k)
	s := control.ScaleService{Region: k.region, Role: k.role, Declared: declared(i, k), Instances: len(have), Want: len(have)}
	l.scaler.mu.Lock()
	defer l.scaler.mu.Unlock()
	st := l.scaler.state(k)
	s.Rate, s.Concurrency, s.Utilisation, s.Measured, s.Reason = st.use.rate, st.use.concurrency, st.share, st.known, st.reason
	if st.want > 0 {
		s.Want = st.want
	}
	if !st.changed.IsZero() {
		at := st.changed.UTC()
		s.Changed = &at
	}
	return s
}

// declared counts the instances that the topology wants.
func declared(i *intent, k scaleKey) int {
	n := 0
	for _, x := range i.Topology.Instances() {
		if x.Region == k.region && x.Role == k.role {
			n++
		}
	}
	return n
}

// SetScale implements control.Engine.
func (l *Lab) SetScale(ctx context.Context, r control.ScaleRequest) (control.Scale, error) {
	i, err := l.need()
	if err != nil {
		return control.Scale{}, err
	}
	if r.IdleStopMS != nil {
		d := time.Duration(*r.IdleStopMS * float64(time.Millisecond))
		if d != 0 && (d < minIdle || d > maxIdle) {
			return control.Scale{}, services.Errorf(services.Invalid, "an idle time of %s is not between %s and %s", d, minIdle, maxIdle).WithRemedy("write it like 30m, or off")
		}
		if err := l.changeIntent(func(i *intent) { i.IdleStop = d }); err != nil {
			return control.Scale{}, err
		}
		return l.Scale(ctx)
	}
	keys, err := scaleKeys(i, r)
	if err != nil {
		return control.Scale{}, err
	}
	next := map[scaleKey]autoscale.Policy{}
	for _, k := range keys {
		p, ok := i.Policies[k.region][k.role]
		if !ok && r.Set == nil {
			continue
		}
		if !ok {
			p = autoscale.Defaults(declared(i, k))
		}
		if r.Set != nil {
			r.Set.Apply(&p)
		}
		p.Paused = p.Paused && !r.Resume || r.Pause
		if err := p.Validate(); err != nil {
			return control.Scale{}, err
		}
		if d := declared(i, k); r.Set != nil && p.Min < d {
			return control.Scale{}, services.Errorf(services.Invalid, "--min: %d is below the %d instances of %s that the topology declares in %s", p.Min, d, k.role, k.region).
				WithRemedy("declare fewer in the topology (flix lab up --topology), or use a minimum of %d", d)
		}
		next[k] = p
	}
	if len(next) == 0 {
		return control.Scale{}, services.Errorf(services.NotFound, "no policy is there to change").WithRemedy("make one: flix scale set ROLE --target N")
	}
	if r.Remove {
		return l.removeScale(ctx, next)
	}
	err = l.changeIntent(func(i *intent) {
		for k, p := range next {
			if i.Policies == nil {
				i.Policies = map[string]map[topology.Role]autoscale.Policy{}
			}
			if i.Policies[k.region] == nil {
				i.Policies[k.region] = map[topology.Role]autoscale.Policy{}
			}
			i.Policies[k.region][k.role] = p
		}
	})
	if err != nil {
		return control.Scale{}, err
	}
	for k := range next {
		l.scaler.forget(k)
		l.log.Add("scale.policy", k.region, fmt.Sprintf("policy of %s in %s set", k.role, k.region), nil)
	}
	return l.Scale(ctx)
}

// removeScale drops policies and takes away what they added.
func (l *Lab) removeScale(ctx context.Context, gone map[scaleKey]autoscale.Policy) (control.Scale, error) {
	end, err := l.begin(ctx, "scale")
	if err != nil {
		return control.Scale{}, err
	}
	defer end()
	if err := l.changeIntent(func(i *intent) {
		for k := range gone {
			delete(i.Policies[k.region], k.role)
		}
	}); err != nil {
		return control.Scale{}, err
	}
	for k := range gone {
		have := instancesOf(l.current(), k)
		if err := l.shrink(ctx, k, have, len(have)); err != nil {
			return control.Scale{}, err
		}
		l.scaler.mu.Lock()
		delete(l.scaler.states, k)
		l.scaler.mu.Unlock()
		l.log.Add("scale.policy", k.region, fmt.Sprintf("policy of %s in %s removed", k.role, k.region), nil)
	}
	return l.Scale(ctx)
}

// scaleKeys are the services that a request means.
func scaleKeys(i *intent, r control.ScaleRequest) ([]scaleKey, error) {
	regions, roles := i.Topology.RegionNames(), scalable
	if r.Region != "" {
		if !slices.Contains(regions, r.Region) {
			return nil, noRegion(r.Region, i.Topology)
		}
		regions = []string{r.Region}
	}
	switch {
	case r.Role != "" && !slices.Contains(scalable, r.Role):
		return nil, services.Errorf(services.Invalid, "%q cannot be scaled while the lab runs", r.Role).WithRemedy("use one of %s", services.List(scalable))
	case r.Role != "":
		roles = []topology.Role{r.Role}
	case r.Set != nil || r.Remove:
		return nil, services.Errorf(services.Invalid, "no role was named").WithRemedy("use one of %s", services.List(scalable))
	}
	var out []scaleKey
	for _, region := range regions {
		for _, role := range roles {
			out = append(out, scaleKey{region, role})
		}
	}
	return out, nil
}

// Bounds of the time after which an idle lab stops.
const (
	minIdle = 5 * time.Second
	maxIdle = 30 * 24 * time.Hour
)

// idleWatch sees whether anybody asks a lab for anything.
type idleWatch struct {
	requests map[string]uint64
	since    time.Time
	looked   time.Time
}

// look stops the lab when nobody has asked for anything for as long as the
// operator wants it to wait. A verb that is under way is a use, too.
func (w *idleWatch) look(ctx context.Context, l *Lab, i *intent) {
	now := time.Now()
	if i.IdleStop <= 0 {
		*w = idleWatch{}
		return
	}
	if now.Sub(w.looked) < min(i.IdleStop/10, 10*time.Second) {
		return
	}
	w.looked = now
	requests := map[string]uint64{}
	for _, r := range i.Topology.RegionNames() {
		e, err := planet{l}.Edge(ctx, r)
		if err != nil {
			return
		}
		requests[r] = e.ClientRequests
	}
	quiet := w.requests != nil
	for r, n := range requests {
		quiet = quiet && w.requests[r] == n
	}
	if w.requests = requests; !quiet {
		w.since = now
	}
	if now.Sub(w.since) < i.IdleStop {
		return
	}
	if !l.verb.TryLock() {
		w.since = now
		return
	}
	defer l.verb.Unlock()
	l.mu.Lock()
	l.busy, l.busyCtx = "stopping the idle lab", ctx
	l.mu.Unlock()
	l.log.Add("lab.idle", l.paths.Name, fmt.Sprintf("nobody asked for anything for %s: the lab stops; flix lab start starts it again", i.IdleStop), nil)
	if _, err := l.halt(ctx, l.steps("stop", nil)); err != nil && ctx.Err() == nil {
		l.log.Add("lab.idle", l.paths.Name, "the idle lab could not be stopped: "+err.Error(), nil)
	}
	*w = idleWatch{}
}
