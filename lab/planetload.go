package lab

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/flix-lab/flix/lab/check"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/evacuate"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/play"
	"github.com/flix-lab/flix/topology"
)

// Services implements evacuate.Planet by what the instances count themselves.
func (p planet) Services(ctx context.Context, region string, roles []topology.Role) (map[topology.Role]evacuate.Service, error) {
	out := map[topology.Role]evacuate.Service{}
	if p.l.isDown(region) {
		return out, nil
	}
	works, err := p.l.works(ctx, region, roles...)
	if err != nil {
		return nil, err
	}
	i := p.l.current()
	extra := map[string]bool{}
	for _, x := range i.Extra {
		extra[x.ID] = !i.Grown[x.ID]
	}
	stream := 4 * i.Topology.Timing.RPCTimeout.D().Seconds()
	for id, w := range works {
		parts := strings.Split(id, "/") // region/zone/role/number
		if len(parts) != 4 {
			continue
		}
		role := topology.Role(parts[2])
		s := out[role]
		s.Instances++
		if extra[id] {
			s.Extra++
		}
		for _, t := range w {
			if t.count > 0 && t.seconds/t.count <= stream { // streams stand open: they are no work
				s.Answered += t.count
				s.BusySeconds += t.seconds
			}
		}
		out[role] = s
	}
	for role, s := range out {
		s.Limit, s.LimitKnown = p.l.limitOf(ctx, scaleKey{region, role})
		out[role] = s
	}
	return out, nil
}

// coldShare of its fullest sibling's items makes a zone's cache cold, if the
// sibling has at least coldItems.
const (
	coldShare = 0.5
	coldItems = 50
)

// Caches implements evacuate.Planet.
func (p planet) Caches(ctx context.Context, region string) (evacuate.Caches, error) {
	var out evacuate.Caches
	if len(p.l.cacheNodes(region)) == 0 || p.l.isDown(region) {
		return out, nil
	}
	st := p.l.cacheStatus(ctx, p.l.current(), region)
	most := int64(0)
	for _, z := range st.Zones {
		most = max(most, z.Items)
		for _, s := range z.Servers {
			out.Hits += uint64(max(s.Hits, 0))
			out.Misses += uint64(max(s.Misses, 0))
		}
	}
	for _, z := range st.Zones {
		up := true
		for _, s := range z.Servers {
			up = up && s.Up
		}
		if up && most >= coldItems && float64(z.Items) < coldShare*float64(most) {
			out.Cold = append(out.Cold, z.Zone)
		}
	}
	return out, nil
}

// WarmCache implements evacuate.Planet. The zone stays in use meanwhile: with
// others cold it may be the only one.
func (p planet) WarmCache(ctx context.Context, region, zone string) error {
	_, err := p.l.CacheWarm(ctx, control.CacheWarmRequest{Region: region, Zone: zone, KeepMode: true}, func(control.Event) {})
	return err
}

// Bounds of the look whether a region has caught up.
const (
	catchUpWrites  = 10
	catchUpSeconds = 1.0
	catchUpWait    = 15 * time.Second
)

// CaughtUp implements evacuate.Planet: what is written in the other region from
// now on has to arrive. Replication keeps the order of writes, so what was
// written before is there, too.
func (p planet) CaughtUp(ctx context.Context, region, from string) error {
	c, err := p.l.checkUntil(ctx, ctx, control.CheckRequest{Region: from, Seconds: catchUpSeconds, Rate: catchUpWrites, WaitMS: float64(catchUpWait.Milliseconds())}, nil)
	if err != nil {
		return err
	}
	for _, r := range c.Regions {
		if r.Region != region {
			continue
		}
		missing := 0
		for _, kind := range []check.Kind{check.Local, check.Global, check.SQL} {
			missing += r.Missing[string(kind)]
		}
		if !r.Up || missing > 0 {
			return services.Errorf(services.Conflict, "%s has not caught up: after %s it lacks %d writes of %s", region, catchUpWait, missing, from).
				WithRemedy("wait until replication has, then run flix failback %s again", region)
		}
		return nil
	}
	return services.Errorf(services.Internal, "the check says nothing of %s", region)
}

// vitals look at every region as a sentinel does.
func (l *Lab) vitals(ctx context.Context) ([]evacuate.Vitals, error) {
	i, err := l.need()
	if err != nil {
		return nil, err
	}
	p := planet{l}
	gone := p.Evacuated()
	regions := i.Topology.RegionNames()
	missing, err := p.Lacks(ctx, regions)
	if err != nil {
		missing = map[string]string{}
		for _, region := range regions {
			missing[region] = fmt.Sprintf("its instances do not answer: %v", err)
		}
	}
	var out []evacuate.Vitals
	for _, region := range regions {
		v := evacuate.Vitals{Region: region, Evacuated: gone[region]}
		if v.Evacuated {
			out = append(out, v)
			continue
		}
		e, err := p.Edge(ctx, region)
		if err != nil {
			return nil, err
		}
		v.Gateways, v.Answered, v.Failed = e.Gateways, float64(e.Answered), float64(e.Failed)
		v.Plays, v.PlaysFailed = float64(e.Plays), float64(e.PlaysFailed)
		v.Missing = missing[region]
		if !l.isDown(region) {
			v.Starts, v.PlayAPIs = l.playsBegun(ctx, region)
		}
		out = append(out, v)
	}
	return out, nil
}

// playsBegun counts the plays that a region's play APIs have let begin, and how
// many of these answered.
func (l *Lab) playsBegun(ctx context.Context, region string) (n float64, apis int) {
	works, err := l.works(ctx, region, topology.RolePlay)
	if err != nil {
		return 0, 0
	}
	for _, w := range works {
		for route, t := range w {
			if strings.Contains(route, play.PathStart) {
				n += t.count
			}
		}
	}
	return n, len(works)
}
