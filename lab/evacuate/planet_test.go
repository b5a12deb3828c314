package evacuate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/topology"
)

// fakePlanet is three regions in memory. It writes down every change that is
// asked of it, in order.
type fakePlanet struct {
	t topology.Topology

	mu        sync.Mutex
	calls     []string
	evacuated map[string]bool
	unhealthy map[string]string
	// inspections is how often it was asked what regions lack.
	inspections int
	edges       map[string]Edge
	// services there are in a region, and what each is asked for per second and
	// takes; none are measured without.
	services map[string]map[topology.Role]Service
	demand   map[string]float64
	mean     float64
	cold     map[string][]string // zones
	// warming runs while a cache is warmed.
	warming func(context.Context)
	// onEdge changes what a look at a region's edge sees.
	onEdge func(region string, e *Edge)
	// onServices does so for each of its services.
	onServices func(region string, s *Service)
	// onCaches does so for a region's caches.
	onCaches func(region string, c *Caches)
	looks    int
	// slow is how long a look takes, up to the answer.
	slow    time.Duration
	dark    int // instances that were started and not lit
	primary string
	// primaryLost says that the primary does not answer.
	primaryLost bool
	// fenced says that the primary takes no writes: a move was cut short.
	fenced bool
	share  float64
	weight float64
	// draining says that the leaving region's gateways keep no connections.
	draining bool
	// rate is the requests per second each region's edge counts while DNS
	// sends it traffic; until is when the last client of the leaving one leaves.
	rate  map[string]float64
	until time.Time
	began time.Time
	// playErr fails a play near a region at a share of proxied traffic.
	playErr func(near string, share float64) error
	// fail fails a call by its name.
	fail map[string]error
	// hook runs at the begin of a call.
	hook func(call string)
}

func newPlanet(t *testing.T, regions int) *fakePlanet {
	t.Helper()
	top, err := topology.Preset(regions)
	if err != nil {
		t.Fatal(err)
	}
	p := &fakePlanet{
		t: top, evacuated: map[string]bool{}, unhealthy: map[string]string{}, edges: map[string]Edge{},
		primary: top.Regions[0].Name, weight: 1, rate: map[string]float64{}, demand: map[string]float64{}, cold: map[string][]string{}, fail: map[string]error{}, began: time.Now(),
		playErr: func(string, float64) error { return nil }, hook: func(string) {},
	}
	for _, r := range top.Regions {
		// 64 requests in flight at 10 ms each: 6400 requests/s with two gateways.
		p.edges[r.Name] = Edge{Gateways: 2, Concurrency: 64, BusySeconds: 1, Answered: 100}
		p.rate[r.Name] = 100
	}
	return p
}

// call notes a change; the state of the planet changes only by do.
func (p *fakePlanet) call(do func(), format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	p.hook(text)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, text)
	for name, err := range p.fail {
		if strings.HasPrefix(text, name) {
			return err
		}
	}
	do()
	return nil
}

func (p *fakePlanet) Topology() topology.Topology { return p.t }
func (p *fakePlanet) Evacuated() map[string]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.evacuated)
}
func (p *fakePlanet) Lacks(_ context.Context, regions []string) (map[string]string, error) {
	p.mu.Lock()
	p.inspections++
	p.mu.Unlock()
	return p.unhealthy, p.fail["Lacks"]
}
func (p *fakePlanet) Edge(_ context.Context, region string) (Edge, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.edges[region]
	last := time.Now()
	if !p.until.IsZero() && region == p.t.Regions[0].Name && last.After(p.until) {
		last = p.until
	}
	e.ClientRequests = uint64(p.rate[region] * last.Sub(p.began).Seconds())
	e.LastClient = last
	if p.onEdge != nil {
		p.onEdge(region, &e)
	}
	return e, p.fail["Edge "+region]
}
func (p *fakePlanet) Services(ctx context.Context, region string, roles []topology.Role) (map[topology.Role]Service, error) {
	if err := sleep(ctx, p.slow); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[topology.Role]Service{}
	for role, s := range p.services[region] {
		s.Answered += p.demand[region] * time.Since(p.began).Seconds()
		if p.onServices != nil {
			p.onServices(region, &s)
		}
		s.BusySeconds = s.Answered * p.mean
		out[role] = s
	}
	return out, p.fail["Services "+region]
}
func (p *fakePlanet) Caches(_ context.Context, region string) (Caches, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := Caches{Cold: p.cold[region]}
	if p.onCaches != nil {
		p.onCaches(region, &c)
	}
	return c, p.fail["Caches "+region]
}
func (p *fakePlanet) WarmCache(ctx context.Context, region, zone string) error {
	if p.warming != nil {
		p.warming(ctx)
	}
	return p.call(func() { p.cold[region] = nil }, "warm %s/%s", region, zone)
}
func (p *fakePlanet) CaughtUp(_ context.Context, region, from string) error {
	return p.call(func() {}, "catch up %s from %s", region, from)
}
func (p *fakePlanet) SetWeight(_ context.Context, region string, weight float64) error {
	return p.call(func() { p.weight = weight }, "weight %s %g", region, weight)
}
func (p *fakePlanet) SetLeaving(_ context.Context, region string, leaving bool) error {
	return p.call(func() {}, "leaving %s %v", region, leaving)
}
func (p *fakePlanet) SetProxy(_ context.Context, region string, share float64, savers []string) error {
	return p.call(func() { p.share = share }, "proxy %s %g %v", region, share, savers)
}
func (p *fakePlanet) SetDrain(_ context.Context, region string, on bool) error {
	return p.call(func() { p.draining = on }, "drain %s %v", region, on)
}
func (p *fakePlanet) Scale(_ context.Context, add map[string]map[topology.Role]int) (map[string][]string, error) {
	names := map[string][]string{}
	for _, region := range p.t.RegionNames() {
		for _, role := range planned {
			n := add[region][role]
			if n == 0 {
				continue
			}
			if err := p.call(func() { p.dark += n }, "scale %s %s %d", region, role, n); err != nil {
				return nil, err
			}
			for k := range n {
				names[region] = append(names[region], topology.InstanceID(region, "a", role, 3+k))
			}
		}
	}
	return names, nil
}
func (p *fakePlanet) Light(context.Context) (int, error) {
	lit := 0
	err := p.call(func() { lit, p.dark = p.dark, 0 }, "light")
	return lit, err
}
func (p *fakePlanet) Unscale(context.Context) error { return p.call(func() {}, "unscale") }
func (p *fakePlanet) MovePrimary(_ context.Context, to string) (bool, error) {
	p.mu.Lock()
	moved := p.primary != to || p.fenced
	p.mu.Unlock()
	if !moved {
		return false, nil
	}
	return moved, p.call(func() { p.primary, p.fenced = to, false }, "primary %s", to)
}
func (p *fakePlanet) PrimaryRegion(context.Context) (string, bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.primary, p.primaryLost, p.fail["PrimaryRegion"]
}
func (p *fakePlanet) TakePrimary(_ context.Context, of []string) (string, error) {
	to := of[len(of)-1] // not the nearest: the one with the most
	return to, p.call(func() { p.primary, p.primaryLost = to, false }, "take primary %v", of)
}
func (p *fakePlanet) AdoptEvents(_ context.Context, region string, savers []string) (Adoption, error) {
	return Adoption{Saver: savers[0], Waiting: 3}, p.call(func() {}, "adopt %s %v", region, savers)
}
func (p *fakePlanet) ReturnEvents(_ context.Context, region string) (int, error) {
	return 1, p.call(func() {}, "return %s", region)
}
func (p *fakePlanet) PlayIn(ctx context.Context, region string) error { return p.Play(ctx, region) }
func (p *fakePlanet) Play(ctx context.Context, near string) error {
	p.mu.Lock()
	share := p.share
	p.mu.Unlock()
	if err := sleep(ctx, 50*time.Millisecond); err != nil {
		return err
	}
	return p.playErr(near, share)
}
func (p *fakePlanet) SetEvacuated(region, id string) error {
	return p.call(func() {
		if id == "" {
			delete(p.evacuated, region)
		} else {
			p.evacuated[region] = true
		}
	}, "evacuated %s %q", region, id)
}

func (p *fakePlanet) changes() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.calls)
}

// untouched says whether nothing was changed.
func (p *fakePlanet) untouched(t *testing.T) {
	t.Helper()
	if got := p.changes(); len(got) != 0 {
		t.Errorf("it changed %q", got)
	}
}

// told gathers a run's progress.
type told struct {
	mu    sync.Mutex
	kinds []string
}

func (x *told) tell(kind, _ string, data map[string]any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if s, ok := data["step"]; ok {
		kind += " " + s.(string)
	}
	x.kinds = append(x.kinds, kind)
}

func run(p *fakePlanet) (*Run, *told) {
	x := &told{}
	return &Run{Planet: p, ID: "ev-1", Progress: x.tell}, x
}

func stepNames(r control.Failover) string {
	var names []string
	for _, s := range r.Steps {
		names = append(names, s.Name)
	}
	return strings.Join(names, " ")
}

// after returns the calls from the first with a prefix on.
func after(calls []string, prefix string) []string {
	k := slices.IndexFunc(calls, func(c string) bool { return strings.HasPrefix(c, prefix) })
	if k < 0 {
		return nil
	}
	return calls[k:]
}

var errPlay = errors.New("no segment came")
