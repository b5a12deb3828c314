package evacuate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// Run is one evacuation or failback.
type Run struct {
	Planet Planet
	// ID of the report.
	ID string
	// Progress gets every step and every failed canary.
	Progress func(kind, text string, data map[string]any)
	// Begun is called once the plan stands, before anything is moved; nil is
	// nothing to do. What is refused before it has not begun.
	Begun func() error
	// Clock is time.Now but in tests.
	Clock func() time.Time

	report  control.Failover
	timing  topology.Timing
	mu      sync.Mutex
	plays   int
	failed  int
	lastErr error
	// movedSQL says that the SQL primary left the region.
	movedSQL bool
}

// shares are the growing parts of a region's requests that its gateways send
// to the savers.
var shares = []float64{0.1, 0.5, 1}

// scaled are the roles that take the traffic of an evacuated region.
var scaled = []topology.Role{topology.RoleSignup, topology.RoleDiscovery, topology.RolePlay, topology.RoleGateway}

// Failover evacuates a region. The report is meaningful beside an error too:
// what had been moved has then been moved back.
func (r *Run) Failover(ctx context.Context, region string, dryRun bool) (control.Failover, error) {
	r.begin("failover", region, dryRun)
	savers, err := r.plan(ctx, region)
	if err != nil {
		return r.end(Refused, err)
	}
	if dryRun {
		return r.end("planned", nil)
	}
	if err := r.begun(); err != nil {
		return r.end(Refused, err)
	}
	err = r.withCanaries(ctx, region, func(ctx context.Context) error { return r.evacuate(ctx, region, savers) })
	if err != nil {
		back, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTime)
		defer cancel()
		if rerr := r.rollback(back, region); rerr != nil {
			return r.end("failed", errors.Join(err, fmt.Errorf("and rolling back: %w", rerr)))
		}
		return r.end("rolled_back", err)
	}
	return r.end("done", nil)
}

// rollbackTime bounds the way back of a failed evacuation.
const rollbackTime = 20 * time.Second

func (r *Run) playsFailed() error {
	return &services.Error{Kind: services.Unavailable, Reason: services.ReasonPlayFailed, Err: r.lastErr,
		Msg:    fmt.Sprintf("%d plays failed during it", r.failures()),
		Remedy: "look at the savers: flix lab status, flix events"}
}

func (r *Run) begin(verb, region string, dryRun bool) {
	if r.Clock == nil {
		r.Clock = time.Now
	}
	r.timing = r.Planet.Topology().Timing
	r.report = control.Failover{ID: r.ID, Verb: verb, Region: region, DryRun: dryRun, State: "planned", Started: r.Clock().UTC(), Steps: []control.Step{}, Savers: []control.Saver{}}
}

// Refused is the state of what did not begin.
const Refused = "refused"

func (r *Run) begun() error {
	r.report.State = "running"
	if r.Begun == nil {
		return nil
	}
	return r.Begun()
}

func (r *Run) end(state string, err error) (control.Failover, error) {
	r.report.State = state
	r.mu.Lock()
	r.report.PlaysDuring, r.report.PlaysFailed = r.plays, r.failed
	r.mu.Unlock()
	if err != nil {
		r.report.Error = err.Error()
	}
	return r.report, err
}

func (r *Run) step(ctx context.Context, name string, f func(context.Context) (string, error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	at := r.Clock()
	text, err := f(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	took := float64(r.Clock().Sub(at).Microseconds()) / 1000
	r.report.Steps = append(r.report.Steps, control.Step{Name: name, MS: took})
	r.tell(r.report.Verb+".step", text, map[string]any{"step": name, "ms": took})
	return nil
}

func (r *Run) tell(kind, text string, data map[string]any) {
	if r.Progress != nil {
		r.Progress(kind, text, data)
	}
}

// plan refuses what cannot be, picks the savers and does the arithmetic.
func (r *Run) plan(ctx context.Context, region string) ([]string, error) {
	t := r.Planet.Topology()
	if _, ok := t.Region(region); !ok {
		return nil, services.Errorf(services.NotFound, "there is no region %q", region).WithRemedy("the lab's regions are %v", t.RegionNames())
	}
	gone := r.Planet.Evacuated()
	if gone[region] {
		return nil, services.Errorf(services.Conflict, "%s is evacuated already", region).WithRemedy("return its traffic with: flix failback %s", region)
	}
	var (
		savers []string
		unfit  []error
	)
	err := r.step(ctx, "plan", func(ctx context.Context) (string, error) {
		for _, name := range t.Nearest(region) {
			if name == region || gone[name] {
				continue
			}
			ok, why, err := r.Planet.Healthy(ctx, name)
			if err != nil {
				return "", err
			}
			if !ok {
				if err := r.tryOut(ctx, name, why); err != nil {
					unfit = append(unfit, err)
					continue
				}
			}
			savers = append(savers, name)
		}
		if len(savers) == 0 && r.failures() > 0 {
			return "", &services.Error{Kind: services.Unavailable, Reason: services.ReasonPlayFailed, Err: errors.Join(unfit...), Msg: "no region can take its traffic", Remedy: "mend them first: flix lab up starts what is missing"}
		}
		if len(savers) == 0 {
			return "", services.Errorf(services.Conflict, "%s is the last healthy region: nobody could take its traffic", region).WithRemedy("bring another region up first: flix failback REGION, or flix lab up --regions N")
		}
		return fmt.Sprintf("savers: %v", savers), r.capacity(ctx, region, savers)
	})
	return savers, err
}

// tryOut plays near a region that is not whole, when its edge is there: what
// it lacks may not matter to a play. It says why the region cannot save.
func (r *Run) tryOut(ctx context.Context, region, why string) error {
	e, err := r.Planet.Edge(ctx, region)
	if err == nil && e.Gateways == 0 {
		err = errors.New("none of its gateways answers")
	}
	if err == nil {
		err = r.play(ctx, region)
	}
	if err == nil {
		r.tell(r.report.Verb+".note", fmt.Sprintf("%s is not whole (%s), but a title plays there", region, why), nil)
		return nil
	}
	r.tell(r.report.Verb+".note", fmt.Sprintf("%s cannot save: %s", region, why), nil)
	return fmt.Errorf("%s: %s: %w", region, why, err)
}

// capacity compares what the region serves with what the savers can. By
// Little's law a gateway that may have c requests in flight and spends w
// seconds on each answers c/w of them per second; w is measured.
func (r *Run) capacity(ctx context.Context, region string, savers []string) error {
	first, err := r.edges(ctx, append([]string{region}, savers...))
	if err != nil {
		return err
	}
	if err := sleep(ctx, r.timing.EvacuationStep.D()); err != nil {
		return err
	}
	second, err := r.edges(ctx, append([]string{region}, savers...))
	if err != nil {
		return err
	}
	rate := func(name string) float64 {
		if second[name].ClientRequests < first[name].ClientRequests { // a gateway started anew
			return 0
		}
		return float64(second[name].ClientRequests-first[name].ClientRequests) / r.timing.EvacuationStep.D().Seconds()
	}
	leaving, _ := r.Planet.Topology().Region(region)
	c := control.Capacity{Demand: rate(region)}
	add := r.extra(leaving, topology.RoleGateway, len(savers))
	for _, s := range savers {
		e := second[s]
		c.Used += rate(s)
		r.report.Savers = append(r.report.Savers, control.Saver{Region: s, Share: 1 / float64(len(savers)), Added: []string{}})
		if e.Gateways == 0 {
			continue
		}
		mean := 0.005 // seconds; before the first request there is nothing to measure
		if e.Answered > 0 && e.BusySeconds > 0 {
			mean = e.BusySeconds / float64(e.Answered)
		}
		c.Limit += float64(e.Concurrency) / float64(e.Gateways) * float64(e.Gateways+add) / mean
	}
	c.Fits = c.Demand+c.Used <= c.Limit
	r.report.Capacity = c
	if !c.Fits {
		return services.Errorf(services.Exhausted, "the savers answer at most %.0f requests/s and serve %.0f; %s brings %.0f more", c.Limit, c.Used, region, c.Demand).WithRemedy("declare more gateways in the topology, or wait until the load falls")
	}
	return nil
}

func (r *Run) edges(ctx context.Context, regions []string) (map[string]Edge, error) {
	out := make(map[string]Edge, len(regions))
	for _, name := range regions {
		e, err := r.Planet.Edge(ctx, name)
		if err != nil {
			return nil, err
		}
		out[name] = e
	}
	return out, nil
}

// extra is how many instances of a role each saver gets on top: the leaving
// region's, spread over the savers.
func (r *Run) extra(leaving topology.Region, role topology.Role, savers int) int {
	n, ok := leaving.Services[role]
	if !ok {
		n = topology.DefaultServices(len(leaving.Zones))[role]
	}
	return int(math.Ceil(float64(n) / float64(savers)))
}

func (r *Run) evacuate(ctx context.Context, region string, savers []string) error {
	leaving, _ := r.Planet.Topology().Region(region)
	steps := []struct {
		name string
		do   func(context.Context) (string, error)
	}{
		{"scale", func(ctx context.Context) (string, error) { return r.scale(ctx, leaving, savers) }},
		{"check", func(ctx context.Context) (string, error) { return "a title plays in every saver", r.check(ctx, savers) }},
		{"proxy", func(ctx context.Context) (string, error) { return r.proxy(ctx, region, savers, shares) }},
		{"sql", func(ctx context.Context) (string, error) { return r.primary(ctx, region, savers[0]) }},
		{"dns", func(ctx context.Context) (string, error) {
			return "DNS answers with the savers", r.Planet.SetWeight(ctx, region, 0)
		}},
		{"drain", func(ctx context.Context) (string, error) { return r.drain(ctx, region) }},
		{"verify", func(ctx context.Context) (string, error) { return r.verify(ctx, region) }},
	}
	for _, s := range steps {
		if err := r.step(ctx, s.name, s.do); err != nil {
			return err
		}
		if r.failures() > 0 {
			return fmt.Errorf("%s: %w", s.name, r.playFailed("a play failed"))
		}
	}
	return r.Planet.SetEvacuated(region, r.ID)
}

func (r *Run) scale(ctx context.Context, leaving topology.Region, savers []string) (string, error) {
	total := 0
	for k, s := range savers {
		for _, role := range scaled {
			names, err := r.Planet.Scale(ctx, s, role, r.extra(leaving, role, len(savers)))
			if err != nil {
				return "", err
			}
			total += len(names)
			r.report.Savers[k].Added = append(r.report.Savers[k].Added, names...)
		}
	}
	return fmt.Sprintf("%d instances added to %d savers", total, len(savers)), nil
}

// check plays near every saver: one that cannot serve its own viewers shall
// not get more.
func (r *Run) check(ctx context.Context, savers []string) error {
	for _, s := range savers {
		if err := r.play(ctx, s); err != nil {
			return &services.Error{Kind: services.Unavailable, Reason: services.ReasonPlayFailed, Err: err,
				Msg: fmt.Sprintf("a play near %s fails: it cannot save another region", s), Remedy: "mend it first: flix lab status, flix events"}
		}
	}
	return nil
}

func (r *Run) proxy(ctx context.Context, region string, savers []string, steps []float64) (string, error) {
	for _, share := range steps {
		if err := r.Planet.SetProxy(ctx, region, share, savers); err != nil {
			return "", err
		}
		r.report.Shares = append(r.report.Shares, fmt.Sprintf("%.0f%%", share*100))
		if err := r.settle(ctx, region, share); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("its gateways send %.0f%% to the savers", steps[len(steps)-1]*100), nil
}

// settle watches one share: for a step's time no canary may fail.
func (r *Run) settle(ctx context.Context, region string, share float64) error {
	if err := sleep(ctx, r.timing.EvacuationStep.D()); err != nil {
		return err
	}
	if err := r.play(ctx, region); err != nil || r.failures() > 0 {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return r.playFailed(fmt.Sprintf("plays fail with %.0f%% of the requests at the savers", share*100))
	}
	return nil
}

// playFailed is the error of a run that a failed canary ends.
func (r *Run) playFailed(msg string) error {
	return &services.Error{Kind: services.Unavailable, Reason: services.ReasonPlayFailed, Err: r.lastError(), Msg: msg, Remedy: "look at the savers: flix lab status, flix events"}
}

func (r *Run) primary(ctx context.Context, leaving, to string) (string, error) {
	at, err := r.Planet.PrimaryRegion(ctx)
	if err != nil {
		return "", err
	}
	if at != leaving {
		return "the SQL primary is in " + at, nil
	}
	r.movedSQL = true
	if _, err := r.Planet.MovePrimary(ctx, to); err != nil {
		return "", err
	}
	return "the SQL primary moved to " + to, nil
}

// drain closes kept connections and waits until DNS answers have run out.
func (r *Run) drain(ctx context.Context, region string) (string, error) {
	if err := r.Planet.SetDrain(ctx, region, true); err != nil {
		return "", err
	}
	if err := sleep(ctx, r.timing.DNSTTL.D()); err != nil {
		return "", err
	}
	e, err := r.Planet.Edge(ctx, region)
	return fmt.Sprintf("DNS answers have run out, %d requests in flight", e.Inflight), err
}

// verify waits until no client request has reached the region for a while. It
// gives up on clients that ignore DNS after some time: they are proxied, and
// counted.
func (r *Run) verify(ctx context.Context, region string) (string, error) {
	quiet, giveUp := r.timing.EvacuationVerify.D(), r.Clock().Add(10*r.timing.EvacuationVerify.D())
	last, err := r.Planet.Edge(ctx, region)
	if err != nil {
		return "", err
	}
	since := r.Clock()
	for r.Clock().Sub(since) < quiet && r.Clock().Before(giveUp) {
		if err := sleep(ctx, quiet/10); err != nil {
			return "", err
		}
		e, err := r.Planet.Edge(ctx, region)
		if err != nil {
			return "", err
		}
		if e.ClientRequests != last.ClientRequests {
			last, since = e, r.Clock()
		}
	}
	r.report.RTOMS = max(0, float64(last.LastClient.Sub(r.report.Started).Microseconds())/1000)
	// Declared empty now: whatever comes after is a client that should not.
	if err := sleep(ctx, quiet/2); err != nil {
		return "", err
	}
	e, err := r.Planet.Edge(ctx, region)
	if err != nil {
		return "", err
	}
	if e.ClientRequests > last.ClientRequests {
		r.report.RequestsInRegionAfter = e.ClientRequests - last.ClientRequests
	}
	return fmt.Sprintf("the last client request was answered there %.0f ms after the start", r.report.RTOMS), nil
}

func (r *Run) rollback(ctx context.Context, region string) error {
	r.tell(r.report.Verb+".rollback", "moving the traffic back", nil)
	errs := []error{
		r.Planet.SetDrain(ctx, region, false),
		r.Planet.SetWeight(ctx, region, 1),
		r.Planet.SetProxy(ctx, region, 0, nil),
		r.Planet.SetEvacuated(region, ""),
	}
	if r.movedSQL {
		_, err := r.Planet.MovePrimary(ctx, region)
		errs = append(errs, err)
	}
	if len(r.Planet.Evacuated()) == 0 { // another one lives on what was added
		errs = append(errs, r.Planet.Unscale(ctx))
	}
	return errors.Join(errs...)
}

// Failback returns traffic to an evacuated region: the same path in reverse.
func (r *Run) Failback(ctx context.Context, region string, dryRun bool) (control.Failover, error) {
	r.begin("failback", region, dryRun)
	t := r.Planet.Topology()
	if _, ok := t.Region(region); !ok {
		return r.end(Refused, services.Errorf(services.NotFound, "there is no region %q", region).WithRemedy("the lab's regions are %v", t.RegionNames()))
	}
	if !r.Planet.Evacuated()[region] {
		return r.end(Refused, services.Errorf(services.Conflict, "%s is not evacuated: there is nothing to return", region))
	}
	err := r.step(ctx, "plan", func(ctx context.Context) (string, error) {
		ok, why, err := r.Planet.Healthy(ctx, region)
		if err == nil && !ok {
			err = services.Errorf(services.Conflict, "%s is not fit to take traffic: %s", region, why).WithRemedy("bring it up first: flix lab up")
		}
		return region + " is whole", err
	})
	if err != nil {
		return r.end(Refused, err)
	}
	if dryRun {
		return r.end("planned", nil)
	}
	if err := r.begun(); err != nil {
		return r.end(Refused, err)
	}
	err = r.withCanaries(ctx, region, func(ctx context.Context) error { return r.restore(ctx, region) })
	switch {
	case err != nil:
		return r.end("failed", err)
	case r.failures() > 0:
		return r.end("done", r.playsFailed())
	}
	return r.end("done", nil)
}

func (r *Run) restore(ctx context.Context, region string) error {
	var savers []string
	for _, n := range r.Planet.Topology().Nearest(region) {
		if n != region && !r.Planet.Evacuated()[n] {
			savers = append(savers, n)
		}
	}
	back := slices.Clone(shares)
	slices.Reverse(back)
	steps := []struct {
		name string
		do   func(context.Context) (string, error)
	}{
		{"undrain", func(ctx context.Context) (string, error) {
			return "its gateways keep connections again", r.Planet.SetDrain(ctx, region, false)
		}},
		{"dns", func(ctx context.Context) (string, error) {
			return "DNS answers with it again", r.Planet.SetWeight(ctx, region, 1)
		}},
		{"sql", func(ctx context.Context) (string, error) {
			if r.Planet.Topology().Regions[0].Name != region {
				return "the SQL primary stays where it is", nil
			}
			moved, err := r.Planet.MovePrimary(ctx, region)
			if !moved {
				return "the SQL primary is there already", err
			}
			return "the SQL primary moved back", err
		}},
		{"unproxy", func(ctx context.Context) (string, error) { return r.proxy(ctx, region, savers, append(back[1:], 0)) }},
		{"scale-in", func(ctx context.Context) (string, error) {
			if len(r.Planet.Evacuated()) > 1 {
				return "the savers keep what was added: another region is still evacuated", nil
			}
			return "what was added to the savers is gone", r.Planet.Unscale(ctx)
		}},
	}
	for _, s := range steps {
		if err := r.step(ctx, s.name, s.do); err != nil {
			return err
		}
	}
	return r.Planet.SetEvacuated(region, "")
}

// canaryEvery is the pause between two canary plays.
const canaryEvery = 200 * time.Millisecond

// withCanaries runs f while a canary near the region plays again and again,
// and counts the plays in the report.
func (r *Run) withCanaries(ctx context.Context, region string, f func(context.Context) error) error {
	canaries, stop := context.WithCancel(ctx)
	var (
		wg   sync.WaitGroup
		over atomic.Bool
	)
	wg.Go(func() {
		for !over.Load() && canaries.Err() == nil {
			// A play that has begun is played to its end: cutting it off would
			// make a failure of what was none.
			_ = r.play(ctx, region)
			_ = sleep(canaries, canaryEvery) // cancelled: the loop ends
		}
	})
	err := f(ctx)
	over.Store(true)
	stop()
	wg.Wait()
	return err
}

func (r *Run) play(ctx context.Context, near string) error {
	err := r.Planet.Play(ctx, near)
	if ctx.Err() != nil { // the whole run was cancelled: not the play's fault
		return ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.plays++
	if err != nil {
		r.failed++
		r.lastErr = err
		r.tell(r.report.Verb+".play_failed", fmt.Sprintf("a play near %s failed: %v", near, err), nil)
	}
	return err
}

func (r *Run) failures() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

func (r *Run) lastError() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lastErr
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
