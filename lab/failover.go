package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/evacuate"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// Properties of roles that an evacuation sets.
const (
	propWeights  = "dns.weights"
	propLeaving  = "dns.leaving"
	propEvacuate = "gateway.evacuate"
	propDrain    = "gateway.drain"
)

// Failover implements control.Engine.
func (l *Lab) Failover(ctx context.Context, r control.FailoverRequest, p control.Progress) (control.Failover, error) {
	return l.move(ctx, evacuate.Leave, r, p)
}

// Failback implements control.Engine.
func (l *Lab) Failback(ctx context.Context, r control.FailoverRequest, p control.Progress) (control.Failover, error) {
	return l.move(ctx, evacuate.Return, r, p)
}

func (l *Lab) move(ctx context.Context, verb string, r control.FailoverRequest, p control.Progress) (control.Failover, error) {
	if c := l.underway(); c != nil && !r.DryRun && c.verb == verb && c.region == r.Region && c.forsaken() {
		if !c.unwanted() {
			return c.follow(ctx, p)
		}
		if err := c.await(ctx, p); err != nil {
			return control.Failover{}, err
		}
	}
	end, err := l.begin(ctx, verb+" "+r.Region)
	if err != nil {
		return control.Failover{}, err
	}
	defer end()
	i, err := l.need()
	if err != nil {
		return control.Failover{}, err
	}
	m := i.Moving
	if m != nil && !r.DryRun && m.Region != r.Region {
		return control.Failover{}, services.Errorf(services.Conflict, "a %s of %s was cut short", m.Verb, m.Region).
			WithRemedy("finish it first: flix %s %s, or undo it: flix %s %s", m.Verb, m.Region, opposite(m.Verb), m.Region)
	}
	run := &evacuate.Run{Planet: planet{l}, ID: newID(), Pace: r.Pace}
	if m != nil && m.Region == r.Region {
		run.CutShort = m.Verb
		if m.Verb == verb { // it is the same one still
			run.ID, run.Since = m.ID, m.Started
		}
	}
	if r.DryRun {
		run.Progress = l.hear(r.Region, p)
		return run.Do(ctx, verb, r.Region, true)
	}
	ctx, c, land := l.embark(ctx, verb, r.Region, p)
	rep, err := l.carryOut(ctx, run, c, r)
	land(rep, err)
	return rep, err
}

// opposite is the verb that undoes another.
func opposite(verb string) string {
	if verb == evacuate.Leave {
		return evacuate.Return
	}
	return evacuate.Leave
}

// hear notes what a run tells in the event log, and passes it on.
func (l *Lab) hear(region string, p control.Progress) func(kind, text string, data map[string]any) {
	return func(kind, text string, data map[string]any) {
		l.log.Add(kind, region, text, data)
		if p != nil {
			p(control.Event{At: time.Now().UTC(), Kind: kind, Subject: region, Text: text, Data: data})
		}
	}
}

// carryOut moves a region, looks at the lab meanwhile and keeps the report.
// Whatever state the run ends in that is not half-moved ends what the intent
// says of it.
func (l *Lab) carryOut(ctx context.Context, run *evacuate.Run, c *course, r control.FailoverRequest) (control.Failover, error) {
	watch := l.watchMove(ctx, c.verb, r, c.tell)
	tell := l.hear(r.Region, c.tell)
	run.Progress = func(kind, text string, data map[string]any) {
		watch.heard(kind, text, data)
		tell(kind, text, data)
	}
	run.Begun = func(started time.Time) error {
		return l.changeIntent(func(i *intent) {
			i.Moving = &moving{ID: run.ID, Verb: c.verb, Region: r.Region, Started: started}
		})
	}
	rep, err := run.Do(ctx, c.verb, r.Region, false)
	rec := watch.end(ctx, rep)
	if rep.State == evacuate.Refused {
		return rep, orUndo(err, run.CutShort, c)
	}
	err = errors.Join(err, Records(l.paths).Keep(rec))
	if rep.State != evacuate.Failed {
		err = errors.Join(err, l.changeIntent(func(i *intent) { i.Moving = nil }))
	}
	err = errors.Join(err, l.keepMove(rep))
	l.log.Add(c.verb+"."+rep.State, r.Region, fmt.Sprintf("%s of %s: %s", c.verb, r.Region, rep.State), nil)
	return rep, err
}

// orUndo adds to the error of a move that cannot go on what can be done instead.
func orUndo(err error, cutShort string, c *course) error {
	var e *services.Error
	if cutShort != c.verb || !errors.As(err, &e) {
		return err
	}
	out := *e
	undo := fmt.Sprintf("undo what was moved: flix %s %s", opposite(c.verb), c.region)
	if out.Remedy != "" {
		undo = out.Remedy + "; or " + undo
	}
	out.Remedy = undo
	return &out
}

// keepMoves bounds the reports that are kept.
const keepMoves = 100

func movesPath(dir string) string { return filepath.Join(dir, "evacuations.json") }

func readMoves(dir string) ([]control.Failover, error) {
	b, err := os.ReadFile(movesPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("evacuations: %w", err)
	}
	var out []control.Failover
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, fmt.Errorf("evacuations: %s is damaged: %w", movesPath(dir), err)
	}
	return out, nil
}

func (l *Lab) keepMove(r control.Failover) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.moves = slices.DeleteFunc(l.moves, func(f control.Failover) bool { return f.ID == r.ID }) // its earlier attempt
	l.moves = append(l.moves, r)
	if n := len(l.moves); n > keepMoves {
		l.moves = l.moves[n-keepMoves:]
	}
	b, err := json.Marshal(l.moves)
	if err != nil {
		return fmt.Errorf("evacuations: %w", err)
	}
	return writeFile(movesPath(l.paths.Dir), b)
}

// FailoverStatus implements control.Engine: the reports, oldest first, then
// the one that is running or was cut short.
func (l *Lab) FailoverStatus(context.Context) ([]control.Failover, error) {
	i, err := l.need()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	out := append([]control.Failover{}, l.moves...)
	if m := i.Moving; m != nil {
		state := "cut short"
		if l.course != nil {
			state = "running"
		}
		// One that failed is in the list, too: it is the same.
		out = slices.DeleteFunc(out, func(f control.Failover) bool { return f.ID == m.ID })
		out = append(out, control.Failover{ID: m.ID, Verb: m.Verb, Region: m.Region, State: state, Started: m.Started, Steps: []control.Step{}, Savers: []control.Saver{}})
	}
	return out, nil
}

// planet is the lab as an evacuation sees it.
type planet struct{ l *Lab }

var _ evacuate.Planet = planet{}

func (p planet) Topology() topology.Topology { return p.l.current().Topology }

func (p planet) Evacuated() map[string]bool {
	out := map[string]bool{}
	for r, id := range p.l.current().Evacuated {
		out[r] = id != ""
	}
	return out
}

func (p planet) SetEvacuated(region, id string) error {
	return p.l.changeIntent(func(i *intent) {
		if i.Evacuated == nil {
			i.Evacuated = map[string]string{}
		}
		i.Evacuated[region] = id
		if id == "" {
			delete(i.Evacuated, region)
		}
	})
}

// Lacks implements evacuate.Planet.
func (p planet) Lacks(ctx context.Context, regions []string) (map[string]string, error) {
	live, err := p.l.rt.List(ctx)
	if err != nil {
		return nil, err
	}
	out := make(map[string]string, len(regions))
	for _, region := range regions {
		out[region] = lacks(region, p.l.current().instances(), live)
	}
	return out, nil
}

// lacks names the first role that is declared in a region and of which nothing
// runs there; "" is none. Appliances do not count.
func lacks(region string, declared []topology.Instance, live []runtime.Instance) string {
	running := map[topology.Role]bool{}
	for _, x := range live {
		if x.Spec.Region == region && x.State == runtime.Running {
			running[x.Spec.Role] = true
		}
	}
	for _, inst := range declared {
		if inst.Region == region && inst.Role != topology.RoleOCA && !running[inst.Role] {
			return fmt.Sprintf("no %s runs in %s", inst.Role, region)
		}
	}
	return ""
}

// each calls f for every wanted instance of a role, side by side.
func (l *Lab) each(region string, role topology.Role, f func(runtime.Spec) error) error {
	i := l.current()
	var g errgroup.Group
	for _, inst := range i.instances() {
		if inst.Region != region || inst.Role != role || i.Stopped[inst.ID] {
			continue
		}
		s, err := l.spec(i, inst)
		if err != nil {
			return err
		}
		g.Go(func() error { return f(s) })
	}
	return g.Wait()
}

func (p planet) Edge(ctx context.Context, region string) (evacuate.Edge, error) {
	var sum evacuate.Edge
	if p.l.isDown(region) {
		return sum, nil
	}
	var mu sync.Mutex
	err := p.l.each(region, topology.RoleGateway, func(s runtime.Spec) error {
		var a edgeAnswer
		if err := p.l.admin(ctx, s, http.MethodGet, "/edge", nil, &a); err != nil {
			return nil // a gateway that is down answers no client either
		}
		mu.Lock()
		defer mu.Unlock()
		sum.Gateways++
		sum.ClientRequests += a.ClientRequests
		sum.Inflight += a.Inflight
		sum.BusySeconds += a.BusySeconds
		sum.Answered += a.Answered
		sum.Failed += a.Failed
		sum.Concurrency += a.Concurrency
		sum.Plays += a.Plays
		sum.PlaysFailed += a.PlaysFailed
		if at := time.UnixMilli(a.LastClientMS); a.LastClientMS > 0 && at.After(sum.LastClient) {
			sum.LastClient = at
		}
		return nil
	})
	return sum, err
}

// edgeAnswer is what a gateway says at /edge.
type edgeAnswer struct {
	ClientRequests uint64  `json:"client_requests"`
	LastClientMS   int64   `json:"last_client_request_unix_ms"`
	Inflight       int     `json:"inflight"`
	BusySeconds    float64 `json:"busy_seconds"`
	Answered       uint64  `json:"answered"`
	Failed         uint64  `json:"failed"`
	Concurrency    int     `json:"concurrency"`
	Plays          uint64  `json:"plays"`
	PlaysFailed    uint64  `json:"plays_failed"`
}

func (p planet) SetWeight(ctx context.Context, region string, weight float64) error {
	weights := map[string]float64{}
	for r := range p.Evacuated() {
		weights[r] = 0
	}
	weights[region] = weight
	b, err := json.Marshal(weights)
	if err != nil {
		return err
	}
	return p.everywhere(func(r string) error { return p.l.setProperty(ctx, r, topology.RoleDNS, propWeights, string(b)) })
}

// SetLeaving implements evacuate.Planet: one region at a time is left.
func (p planet) SetLeaving(ctx context.Context, region string, leaving bool) error {
	regions := []string{}
	if leaving {
		regions = append(regions, region)
	}
	b, err := json.Marshal(regions)
	if err != nil {
		return err
	}
	return p.everywhere(func(r string) error { return p.l.setProperty(ctx, r, topology.RoleDNS, propLeaving, string(b)) })
}

// everywhere runs f for every region that is there; one that is down takes
// what was set when it starts again.
func (p planet) everywhere(f func(region string) error) error {
	var errs []error
	for _, r := range p.Topology().RegionNames() {
		if err := f(r); err != nil && p.anyRunning(r) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (p planet) anyRunning(region string) bool { return p.l.rt.Hosts()[region] }

// isDown says that the runtime knows of a region's processes and that none runs.
// A runtime that does not answer says nothing of the kind.
func (l *Lab) isDown(region string) bool {
	alive, known := l.rt.Hosts()[region]
	return known && !alive
}

func (p planet) SetProxy(ctx context.Context, region string, share float64, savers []string) error {
	value := ""
	if share > 0 {
		b, err := json.Marshal(map[string]any{"share": share, "savers": savers})
		if err != nil {
			return err
		}
		value = string(b)
	}
	return p.set(ctx, region, propEvacuate, value)
}

func (p planet) SetDrain(ctx context.Context, region string, on bool) error {
	value := ""
	if on {
		value = "on"
	}
	return p.set(ctx, region, propDrain, value)
}

// set sets a gateway property; a region that is down cannot take it and serves
// nobody either.
func (p planet) set(ctx context.Context, region, name, value string) error {
	err := p.l.setProperty(ctx, region, topology.RoleGateway, name, value)
	if err != nil && !p.anyRunning(region) {
		return nil
	}
	return err
}

func (p planet) Play(ctx context.Context, near string) error { return p.l.canary(ctx, near) }

func (p planet) PlayIn(ctx context.Context, region string) error {
	t := p.Topology().Timing
	return playedIn(ctx, region, p.l.canaryReport, t.RegistryFetch.D(), (t.LeaseDuration + t.RegistryFetch).D())
}

// playedIn plays near a region, and fails when another one answers. On a busy
// machine a lease may lapse of a service that is there: the gateways pass requests
// on until it is renewed and they have fetched that. So it plays again, with a
// pause, until another region has answered for as long as that takes.
func playedIn(ctx context.Context, region string, play func(context.Context, string) (PlayReport, error), pause, patience time.Duration) error {
	first := time.Now()
	for {
		r, err := play(ctx, region)
		if err != nil || r.Region == region {
			return err
		}
		if time.Since(first) >= patience {
			return services.Errorf(services.Unavailable, "it was answered by %s: %s lacks a service", r.Region, region).WithReason(services.ReasonPlayFailed)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
