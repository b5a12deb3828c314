package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/fault"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/steering"
	"github.com/flix-lab/flix/topology"
)

// hostKiller is a runtime that can end a region's processes without a word.
type hostKiller interface {
	KillHost(ctx context.Context, host string) error
}

// Faults implements control.Engine.
func (l *Lab) Faults(context.Context) (control.Faults, error) {
	if _, err := l.need(); err != nil {
		return control.Faults{}, err
	}
	l.faulting.Lock() // what a daemon that was started anew lifts is over
	defer l.faulting.Unlock()
	i := l.current()
	out := control.Faults{Active: []control.ActiveFault{}, Kinds: fault.Kinds()}
	for _, f := range i.Faults {
		a := control.ActiveFault{Fault: f}
		if !f.Until.IsZero() {
			a.RemainingS = max(0, time.Until(f.Until).Seconds())
		}
		out.Active = append(out.Active, a)
	}
	return out, nil
}

// view is the lab as the plan of a fault sees it.
func (l *Lab) view(ctx context.Context) (fault.View, error) {
	i := l.current()
	live, err := l.rt.List(ctx)
	if err != nil {
		return fault.View{}, err
	}
	v := fault.View{Topology: i.Topology, Instances: i.instances(), Running: map[string]bool{}, Runtime: i.Runtime, Stores: map[string]bool{}, Now: time.Now()}
	for _, x := range live {
		v.Running[x.Spec.ID] = x.State == runtime.Running
		v.Stores[x.Spec.ID] = x.Spec.Sidecar
	}
	for _, f := range i.Faults {
		if !f.Over(v.Now) {
			v.Active = append(v.Active, f)
		}
	}
	return v, nil
}

// RunFault implements control.Engine. The fault is in the intent before
// anything acts, so that whatever dies in between, it is lifted.
func (l *Lab) RunFault(ctx context.Context, r control.FaultRequest) (control.FaultStarted, error) {
	out := control.FaultStarted{DryRun: r.DryRun}
	i, err := l.need()
	if err != nil {
		return out, err
	}
	if err := l.halted(i); err != nil {
		return out, err
	}
	l.faulting.Lock()
	defer l.faulting.Unlock()
	start := time.Now()
	v, err := l.view(ctx)
	if err != nil {
		return out, err
	}
	if out.Fault, out.Blast, err = fault.Plan("f-"+newID()[:8], r.Request, v); err != nil {
		return out, err
	}
	if out.State = "planned"; r.DryRun {
		return out, nil
	}
	if l.ending.Load() {
		return out, services.Errorf(services.Conflict, "lab %s is being taken down", l.paths.Name)
	}
	f := out.Fault
	if err := l.changeIntent(func(i *intent) { i.Faults = append(i.Faults, f) }); err != nil {
		return out, err
	}
	l.log.Add("fault.begin", f.Target, fmt.Sprintf("%s: %s", f.ID, f), map[string]any{"id": f.ID, "kind": f.Kind, "until": f.Until, "blast_radius": out.Blast.Instances})
	// Half a fault is worse than either: it goes on without its client.
	act := context.WithoutCancel(ctx)
	if err := l.act(act, f); err != nil {
		_, uerr := l.endFault(act, f, "failed", err.Error())
		return out, errors.Join(err, uerr)
	}
	out.State = "active"
	if !f.Effect.Lasting() {
		out.State = "done"
		if _, err := l.endFault(act, f, "done", ""); err != nil {
			return out, err
		}
	}
	out.MS = float64(time.Since(start).Microseconds()) / 1000
	return out, nil
}

// act makes a fault true.
func (l *Lab) act(ctx context.Context, f fault.Fault) error {
	e := f.Effect
	if len(e.Restart) > 0 {
		return l.restartInstances(ctx, e.Restart)
	}
	if len(e.Flush) > 0 {
		return l.flush(ctx, e.Flush)
	}
	if l.needsKeeper(f) && !f.Until.IsZero() {
		if err := l.keeper(ctx, f); err != nil {
			return err
		}
	}
	if len(e.Lost) > 0 {
		k, ok := l.rt.(hostKiller)
		if !ok {
			return services.Errorf(services.Invalid, "the %s runtime cannot kill a region as a whole", l.rt.Name())
		}
		g, gctx := errgroup.WithContext(ctx)
		for _, r := range e.Lost {
			g.Go(func() error { return k.KillHost(gctx, r) })
		}
		return g.Wait()
	}
	if err := l.tellWorld(ctx); err != nil {
		return err
	}
	for _, id := range l.ownContainers(e.Down) {
		end := func() error { return l.rt.Kill(ctx, id) }
		if e.Orderly {
			end = func() error { return l.rt.Stop(ctx, []string{id}, stopGrace) }
		}
		if err := end(); err != nil {
			return err
		}
	}
	return nil
}

// ownContainers are the instances of a list that a host of flix's own does not
// hold down: real stores.
func (l *Lab) ownContainers(ids []string) []string {
	i := l.current()
	if i.Runtime != ContainersRuntime {
		return nil
	}
	var out []string
	for _, inst := range i.instances() {
		if !slices.Contains(ids, inst.ID) {
			continue
		}
		if s, err := l.spec(i, inst); err == nil && s.Sidecar {
			out = append(out, inst.ID)
		}
	}
	return out
}

// needsKeeper says whether nothing that is left of the lab reverts the fault by
// itself.
func (l *Lab) needsKeeper(f fault.Fault) bool {
	return len(f.Effect.Lost) > 0 || len(l.ownContainers(f.Effect.Down)) > 0
}

func (l *Lab) restartInstances(ctx context.Context, ids []string) error {
	if err := l.tellWorld(ctx); err != nil {
		return err
	}
	var specs []runtime.Spec
	for _, id := range ids {
		s, err := l.instance(id)
		if err != nil {
			return err
		}
		specs = append(specs, s)
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, id := range ids {
		g.Go(func() error { return l.rt.Kill(gctx, id) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return l.rt.Start(ctx, specs)
}

// flush has cache servers forget what they hold, by memcached's own command.
func (l *Lab) flush(ctx context.Context, ids []string) error {
	g, gctx := errgroup.WithContext(ctx)
	for _, id := range ids {
		g.Go(func() error {
			s, err := l.instance(id)
			if err != nil {
				return err
			}
			return services.Wrap(id, flushAll(gctx, s.Addr(topology.PortRPC)))
		})
	}
	return g.Wait()
}

// flushTime bounds the flush of one cache server.
const flushTime = 3 * time.Second

func flushAll(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, flushTime)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if d, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(d); err != nil {
			return err
		}
	}
	if _, err := c.Write([]byte("flush_all\r\n")); err != nil {
		return err
	}
	answer := make([]byte, 64)
	n, err := c.Read(answer)
	if err != nil {
		return err
	}
	if got := strings.TrimSpace(string(answer[:n])); got != "OK" {
		return services.Errorf(services.Unavailable, "the cache server answers %q", got)
	}
	return nil
}

// StopFaults implements control.Engine.
func (l *Lab) StopFaults(ctx context.Context, r control.FaultStop) (control.FaultsStopped, error) {
	out := control.FaultsStopped{Stopped: []control.FaultEnded{}}
	if _, err := l.need(); err != nil {
		return out, err
	}
	l.faulting.Lock()
	defer l.faulting.Unlock()
	active := l.current().Faults
	var stop []fault.Fault
	for _, f := range active {
		if r.All || slices.Contains(r.IDs, f.ID) {
			stop = append(stop, f)
		}
	}
	for _, id := range r.IDs {
		if slices.ContainsFunc(active, func(f fault.Fault) bool { return f.ID == id }) {
			continue
		}
		return out, l.unknownFault(id, active)
	}
	var errs []error
	for _, f := range stop {
		ended, err := l.endFault(context.WithoutCancel(ctx), f, "stopped", "")
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f.ID, err))
			continue
		}
		out.Stopped = append(out.Stopped, ended)
	}
	return out, errors.Join(errs...)
}

func (l *Lab) unknownFault(id string, active []fault.Fault) error {
	past, err := readFaults(l.paths.Dir)
	if err != nil {
		return err
	}
	for _, f := range past {
		if f.ID == id {
			return services.Errorf(services.Conflict, "fault %s is over: %s at %s", id, f.How, f.Ended.Local().Format(time.TimeOnly)).WithRemedy("flix chaos history shows it")
		}
	}
	var ids []string
	for _, f := range active {
		ids = append(ids, f.ID)
	}
	e := services.Errorf(services.NotFound, "there is no fault %q", id)
	if len(ids) == 0 {
		return e.WithRemedy("none is active")
	}
	return e.WithRemedy("active are %s", strings.Join(ids, ", "))
}

// FaultHistory implements control.Engine.
func (l *Lab) FaultHistory(context.Context) (control.FaultHistory, error) {
	fs, err := readFaults(l.paths.Dir)
	return control.FaultHistory{Faults: fs}, err
}

// endFault takes a fault out of the intent and undoes what it did. It is called
// with faulting held.
func (l *Lab) endFault(ctx context.Context, f fault.Fault, how, note string) (control.FaultEnded, error) {
	ended := control.FaultEnded{Fault: f, Ended: time.Now().UTC(), How: how, Note: note}
	if err := l.changeIntent(func(i *intent) {
		i.Faults = slices.DeleteFunc(i.Faults, func(x fault.Fault) bool { return x.ID == f.ID })
	}); err != nil {
		return ended, err
	}
	if !l.current().Halted {
		what, err := l.undo(ctx, f)
		if what != "" {
			ended.Note = strings.TrimPrefix(ended.Note+"; "+what, "; ")
		}
		if err != nil {
			// The fault is over for all that is asked; what could not be undone is
			// what flix lab up converges.
			ended.Note = strings.TrimPrefix(ended.Note+"; the undo failed: "+err.Error()+" (flix lab up mends it)", "; ")
		}
	}
	l.log.Add("fault.end", f.Target, fmt.Sprintf("%s: %s is over: %s", f.ID, f, how), map[string]any{"id": f.ID, "how": how, "note": ended.Note})
	return ended, appendFault(l.paths.Dir, ended)
}

// undo reverts a fault. What is not there any more need not be reverted, and is
// said.
func (l *Lab) undo(ctx context.Context, f fault.Fault) (string, error) {
	e := f.Effect
	if !e.Lasting() {
		return "", nil
	}
	if err := l.tellWorld(ctx); err != nil {
		return "", err
	}
	i := l.current()
	var (
		start []runtime.Spec
		gone  []string
	)
	wanted := map[string]bool{}
	containers := l.ownContainers(e.Down)
	for _, inst := range i.instances() {
		wanted[inst.ID] = true
		lost := slices.Contains(e.Lost, inst.Region) && inst.Role != topology.RoleOCA
		if !lost && !slices.Contains(containers, inst.ID) || i.Stopped[inst.ID] {
			continue
		}
		s, err := l.spec(i, inst)
		if err != nil {
			return "", err
		}
		start = append(start, s)
	}
	for _, id := range slices.Concat(e.Down, e.Frozen) {
		if !wanted[id] {
			gone = append(gone, id)
		}
	}
	for _, r := range e.Lost {
		if _, ok := i.Topology.Region(r); !ok {
			gone = append(gone, r)
		}
	}
	what := ""
	if len(gone) > 0 {
		what = strings.Join(gone, ", ") + " is not in the lab any more: nothing to undo there"
	} else if !l.hostsAlive(e.Down) {
		what = "its region does not run: it stays down until flix lab up"
	}
	if len(start) == 0 {
		return what, nil
	}
	return what, l.startLost(ctx, start, e.Lost)
}

// startLost starts instances again. Real stores come back seconds after the
// edge of a region that was lost: until they answer, DNS sends nobody there.
func (l *Lab) startLost(ctx context.Context, start []runtime.Spec, lost []string) (err error) {
	var stores []runtime.Spec
	for _, s := range start {
		if s.Sidecar && slices.Contains(lost, s.Region) {
			stores = append(stores, s)
		}
	}
	if len(stores) == 0 {
		return l.rt.Start(ctx, start)
	}
	p := planet{l: l}
	for _, region := range lost {
		if _, evacuated := p.Evacuated()[region]; evacuated {
			continue
		}
		if err := p.SetWeight(ctx, region, 0); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, p.SetWeight(context.WithoutCancel(ctx), region, 1)) }()
	}
	if err := l.rt.Start(ctx, start); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, storesTime)
	defer cancel()
	if err := l.storesAnswer(ctx, stores, func(runtime.Spec, time.Duration) {}); err != nil {
		return err
	}
	for _, region := range lost {
		if err := l.steers(ctx, region); err != nil {
			return err
		}
	}
	return nil
}

// steers waits until a region's steering knows appliances for a client there:
// one that has just started is told of them anew.
func (l *Lab) steers(ctx context.Context, region string) error {
	title, err := canaryTitle()
	if err != nil {
		return err
	}
	r, ok := l.current().Topology.Region(region)
	if !ok || len(r.ISPs) == 0 || len(r.ISPs[0].Prefixes) == 0 {
		return nil // nobody is there to be sent anywhere
	}
	path := "/steering/explain?" + url.Values{"ip": {r.ISPs[0].Prefixes[0].Addr().Next().String()}, "title": {title}}.Encode()
	for {
		var out steering.Explained
		err := l.askSteering(ctx, region, path, &out)
		if err == nil && len(out.Candidates) > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(services.Errorf(services.Unavailable, "the steering of %s knows no appliance for its clients", region).WithRemedy("look at its log: flix lab logs %s", region), err, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// hostsAlive says whether the hosts of some instances run.
func (l *Lab) hostsAlive(ids []string) bool {
	for _, inst := range l.current().instances() {
		if slices.Contains(ids, inst.ID) && l.isDown(inst.Host()) {
			return false
		}
	}
	return true
}

// addressed are the faults of an intent that are not over, with the addresses
// of their sides as they are now.
func (l *Lab) addressed(i *intent) []fault.Fault {
	var (
		out   []fault.Fault
		addrs map[string][]string
	)
	now := time.Now()
	for _, f := range i.Faults {
		if f.Over(now) {
			continue
		}
		if f.Effect.Link != nil {
			if addrs == nil {
				addrs = l.addressesOf(i)
			}
			link := *f.Effect.Link
			link.A, link.B = placed(link.A, addrs), placed(link.B, addrs)
			f.Effect.Link = &link
		}
		out = append(out, f)
	}
	return out
}

// addressesOf maps each instance to the host:port of its ports, but for the
// admin one: the lab's own eyes.
func (l *Lab) addressesOf(i *intent) map[string][]string {
	out := map[string][]string{}
	if l.rt == nil {
		return out
	}
	for _, inst := range i.instances() {
		s, err := l.spec(i, inst)
		if err != nil {
			continue // it has no ports yet: nobody can dial it
		}
		for _, port := range inst.Ports {
			if port == topology.PortAdmin {
				continue
			}
			a := s.Addr(port)
			out[inst.ID] = append(out[inst.ID], a)
			if p := endpoint(runtime.World{Client: publicAddress}, s, port); p != a && i.Runtime == ContainersRuntime {
				out[inst.ID] = append(out[inst.ID], p)
			}
		}
	}
	return out
}

func placed(s fault.Side, addrs map[string][]string) fault.Side {
	s.Addrs = nil
	for _, id := range s.Instances {
		s.Addrs = append(s.Addrs, addrs[id]...)
	}
	return s
}
