package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/journal"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// steps times the parts of a verb and tells its caller and the event log.
type steps struct {
	mu    sync.Mutex
	lab   *Lab
	verb  string
	p     control.Progress
	start time.Time
	done  []control.Step
}

func (l *Lab) steps(verb string, p control.Progress) *steps {
	return &steps{lab: l, verb: verb, p: p, start: time.Now()}
}

// do runs a named step; its time counts when it succeeds.
func (s *steps) do(ctx context.Context, name string, f func(context.Context) (string, error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.lab.ending.Load() {
		return services.Errorf(services.Conflict, "lab %s is being taken down", s.lab.paths.Name).WithRemedy("bring it up again once it is down: flix lab up%s", nameFlag(s.lab.paths.Name))
	}
	s.tell(s.verb+".begin", name, name)
	at := time.Now()
	text, err := f(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	took := float64(time.Since(at).Microseconds()) / 1000
	s.mu.Lock()
	s.done = append(s.done, control.Step{Name: name, MS: took})
	s.mu.Unlock()
	s.note(s.verb+".step", name, text, map[string]any{"ms": took})
	return nil
}

// tell reports progress to the caller only.
func (s *steps) tell(kind, subject, text string) {
	if s.p != nil {
		s.p(control.Event{At: time.Now().UTC(), Kind: kind, Subject: subject, Text: text})
	}
}

// note reports progress to the caller and the event log.
func (s *steps) note(kind, subject, text string, data map[string]any) {
	s.lab.log.Add(kind, subject, text, data)
	if s.p != nil {
		s.p(control.Event{At: time.Now().UTC(), Kind: kind, Subject: subject, Text: text, Data: data})
	}
}

func (s *steps) elapsed() float64 { return float64(time.Since(s.start).Microseconds()) / 1000 }

// Up implements control.Engine: it converges what runs to the wanted topology
// and returns when a title has played from every region, all of it runs, and its
// appliances are full. Cancelled or killed anywhere, the same request goes on from
// what is there.
func (l *Lab) Up(ctx context.Context, r control.UpRequest, p control.Progress) (control.UpResult, error) {
	end, err := l.begin(ctx, "lab up")
	if err != nil {
		return control.UpResult{}, err
	}
	defer end()
	l.rising.Store(true)
	defer l.rising.Store(false)
	st := l.steps("up", p)
	res := control.UpResult{Name: l.paths.Name, Runtime: r.Runtime}
	if err := r.Topology.Validate(); err != nil {
		return res, &services.Error{Op: "topology", Kind: services.Invalid, Err: err}
	}
	if err := l.servedBy(r.Topology); err != nil {
		return res, err
	}
	if err := l.useRuntime(ctx, r); err != nil {
		return res, err
	}
	todo, specs, err := l.prepare(ctx, st, r.Topology)
	if err != nil {
		return res, err
	}
	if err := l.renew(ctx, st, todo.renew); err != nil {
		return res, err
	}
	later, err := l.startNeeded(ctx, st, todo.start, specs)
	if err != nil {
		return res, err
	}
	res.Changes = control.Changes{Added: len(todo.start), Removed: len(todo.stop), Renewed: len(todo.renew)}
	guarded, unguard := l.guardHosts(ctx, func(id string) bool { return l.expected(id) && !later.holds(id) })
	defer unguard()
	if err := l.awaitStores(guarded, st, except(specs, later.specs), todo); err != nil {
		return res, lostCause(guarded, err)
	}
	if res.ReadyMS, err = l.settle(guarded, st, todo, later); err != nil {
		return res, lostCause(guarded, err)
	}
	res.WholeMS = st.elapsed()
	status, err := l.Status(ctx)
	if err != nil {
		return res, err
	}
	for _, reg := range status.Regions {
		res.Regions = append(res.Regions, control.RegionState{Name: reg.Name, State: reg.State})
	}
	res.Instances, res.RSSBytes, res.Steps = status.Instances, status.RSSBytes, st.done
	l.log.Add("lab.up", l.paths.Name, fmt.Sprintf("%s in %s, ready in %.0f ms", services.Count(res.Instances, "instance"), services.Count(len(res.Regions), "region"), res.ReadyMS),
		map[string]any{"added": res.Changes.Added, "removed": res.Changes.Removed})
	return res, nil
}

// prepare makes a topology the intent, tells the hosts, and returns what is to be done
// of all that is wanted.
func (l *Lab) prepare(ctx context.Context, st *steps, t topology.Topology) (todo diff, specs []runtime.Spec, err error) {
	before := l.current()
	if before != nil {
		if err := l.dropFaults(); err != nil {
			return todo, nil, err
		}
	}
	err = st.do(ctx, "prepare", func(ctx context.Context) (string, error) {
		keep, err := l.egressToKeep(ctx, t)
		if err != nil {
			st.note("up.note", l.paths.Name, fmt.Sprintf("the origin egress ratio still counts what is gone: %v", err), nil)
		}
		if err := l.want(t, keep); err != nil {
			return "", err
		}
		if specs, err = l.specs(l.current()); err != nil {
			return "", err
		}
		if todo, err = l.compare(ctx, specs); err != nil {
			return "", err
		}
		if before != nil && todo.same > 0 {
			if kept := TimingKept(l.paths.Name, timingChanged(before.Topology.Timing, t.Timing)); kept != "" {
				st.note("up.note", l.paths.Name, kept, nil)
			}
		}
		// Also what an up that was cut short had not told them yet.
		err = l.rt.SetWorld(ctx, l.world(l.current(), specs))
		return fmt.Sprintf("%d to start, %d to stop, %d to start anew, %d as they are", len(todo.start), len(todo.stop), len(todo.renew), todo.same), err
	})
	return todo, specs, err
}

// servedBy refuses a topology whose every region is evacuated: an up would take
// away the regions that serve, and no title would play from what is left.
func (l *Lab) servedBy(t topology.Topology) error {
	i := l.current()
	if i == nil {
		return nil
	}
	names := t.RegionNames()
	for _, region := range names {
		if i.Evacuated[region] == "" {
			return nil
		}
	}
	return services.Errorf(services.Conflict, "regions: none would be left that serves: all that would stay are evacuated (%s)", strings.Join(names, ", ")).
		WithRemedy("return the traffic first: flix failback %s%s; or keep a region that serves", names[0], nameFlag(l.paths.Name))
}

// want makes the topology the intent, with the lab's key and certificates, and has
// the origin egress count so many bytes more.
func (l *Lab) want(t topology.Topology, egress int64) error {
	l.mu.Lock()
	if l.intent == nil {
		l.intent = &intent{ID: newID()}
	}
	id := l.intent.ID
	l.mu.Unlock()
	if err := l.secrets(id); err != nil {
		return err
	}
	return l.changeIntent(func(i *intent) {
		i.retime(time.Now(), t.Timing)
		i.Name, i.Runtime, i.Topology = l.paths.Name, l.rt.Name(), t
		// A stop that the operator asked for ends with the next up.
		i.Stopped, i.Halted = nil, false
		i.EgressOfOthers += egress
		for name := range i.Evacuated {
			if _, ok := t.Region(name); !ok {
				delete(i.Evacuated, name)
			}
		}
	})
}

// stopGrace bounds the orderly end of an instance.
const stopGrace = 3 * time.Second

// settle takes the lab from running instances to one that is seeded, ready,
// whole and filled. It returns the time at which a title had played from every
// region; what comes later starts then.
func (l *Lab) settle(ctx context.Context, st *steps, d diff, later *rest) (readyMS float64, err error) {
	if _, seeded := l.journal.Get(journal.Seed, sqlSeed); !seeded || len(l.unseeded()) > 0 || len(d.start) > 0 {
		if err := st.do(ctx, "seed", func(ctx context.Context) (string, error) { return l.seed(ctx, later.specs) }); err != nil {
			return 0, err
		}
	}
	if len(d.stop) > 0 {
		if err := st.do(ctx, "remove", func(ctx context.Context) (string, error) {
			return fmt.Sprintf("%s stopped", services.Count(len(d.stop), "instance")), l.remove(ctx, d.stop)
		}); err != nil {
			return 0, err
		}
	}
	if err := l.gate(ctx, st); err != nil {
		return 0, err
	}
	readyMS = st.elapsed()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.startLater(gctx, st, later) })
	fresh := l.unseeded()
	if len(fresh) > 0 {
		g.Go(func() error { return st.do(gctx, "catalogue", l.catalogue) })
	}
	if err := errors.Join(g.Wait(), ctx.Err()); err != nil {
		return readyMS, err
	}
	if err := l.sown(fresh); err != nil {
		return readyMS, err
	}
	return readyMS, st.do(ctx, "fill", l.awaitFill)
}

// hostLost is the cause of an up that a dying host ends.
type hostLost struct{ host string }

func (h *hostLost) Error() string { return "host " + h.host + " ended" }

func (h *hostLost) err() error {
	what := "the host of region " + h.host
	if h.host == "oc" {
		what = "the host of the Open Connect appliances"
	}
	return services.Errorf(services.Unavailable, "%s ended while the lab was coming up", what).WithRemedy("run flix lab up again: it starts it anew and goes on")
}

// lostCause is the reason for which the context of an up ended, if that is the
// loss of a part of the lab, and err otherwise.
func lostCause(guarded context.Context, err error) error {
	cause := context.Cause(guarded)
	if lost := new(hostLost); errors.As(cause, &lost) {
		return lost.err()
	}
	if dead := new(died); errors.As(cause, &dead) {
		return dead.error
	}
	return err
}

// died is the cause of an up that the end of one instance ends.
type died struct{ error }

// mourner is a runtime that notices the end of single instances.
type mourner interface {
	Died(ctx context.Context, expected func(id string) bool) error
}

// expected says whether an instance is to run.
func (l *Lab) expected(id string) bool {
	i := l.current()
	return !i.Stopped[id] && slices.ContainsFunc(i.instances(), func(x topology.Instance) bool { return x.ID == id })
}

// guardHosts returns a context that ends when a host of the lab does, or an
// instance that is expected to run: nothing is to be waited for then.
func (l *Lab) guardHosts(ctx context.Context, expected func(id string) bool) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(l.guardInterval())
		defer tick.Stop()
		for {
			if err := l.lost(ctx, expected); err != nil && ctx.Err() == nil {
				cancel(err)
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	return ctx, func() { cancel(nil); wg.Wait() }
}

// lost says what has ended of the lab that is to run; nil if nothing has.
func (l *Lab) lost(ctx context.Context, expected func(id string) bool) error {
	if m, ok := l.rt.(mourner); ok {
		if err := m.Died(ctx, expected); err != nil {
			return &died{err}
		}
		return nil
	}
	for host, alive := range l.rt.Hosts() {
		if _, wanted := l.current().Topology.Region(host); !alive && (wanted || host == "oc") {
			return &hostLost{host}
		}
	}
	return nil
}

// guardInterval is how often an up looks whether its parts live. An engine that
// starts dozens of containers has better to do than to list them all the time.
func (l *Lab) guardInterval() time.Duration {
	if _, ok := l.rt.(mourner); ok {
		return time.Second
	}
	return 200 * time.Millisecond
}

// remove stops instances that are no longer wanted and gives back what they
// had: ports, data, and whole hosts of regions that are gone.
func (l *Lab) remove(ctx context.Context, gone []runtime.Instance) error {
	ids := make([]string, len(gone))
	for k, i := range gone {
		ids[k] = i.Spec.ID
	}
	if err := l.leaving(ctx, gone); err != nil {
		return err
	}
	if err := l.leaveRing(ctx, gone); err != nil {
		return err
	}
	if err := l.rt.Stop(ctx, ids, stopGrace); err != nil {
		return err
	}
	for _, i := range gone {
		if err := errors.Join(l.ports.release(i.Spec.Instance), l.rt.Release(i.Spec.Instance)); err != nil {
			return err
		}
	}
	return l.removeRegions(ctx)
}

// removeRegions ends the hosts, slots and data of regions that are not in the
// topology any more.
func (l *Lab) removeRegions(ctx context.Context) error {
	i := l.current()
	var g errgroup.Group
	for host := range l.rt.Hosts() {
		if _, ok := i.Topology.Region(host); ok || host == "oc" {
			continue
		}
		g.Go(func() error {
			if err := l.rt.EndHost(ctx, host, false); err != nil {
				return err
			}
			return errors.Join(l.ports.releaseRegion(host), l.journal.Delete(journal.Seed, host), removeAll(l.paths.Data(), host))
		})
	}
	return g.Wait()
}
