package lab

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
)

// halter is a runtime that can stop its hosts without forgetting them.
type halter interface {
	// Halt ends every instance in order, stores last; data and containers stay.
	Halt(ctx context.Context) error
}

// Halt implements control.Engine: every instance ends in order and stays down
// until the lab is started again or brought up. Their data stay.
func (l *Lab) Halt(ctx context.Context, _ struct{}, p control.Progress) (control.Switched, error) {
	end, err := l.begin(ctx, "lab stop")
	if err != nil {
		return control.Switched{}, err
	}
	defer end()
	if _, err := l.need(); err != nil {
		return control.Switched{}, err
	}
	st := l.steps("stop", p)
	ids, err := l.halt(ctx, st)
	return control.Switched{Lab: l.paths.Name, State: string(runtime.Stopped), Instances: ids, Steps: st.done, MS: st.elapsed()}, err
}

// halt stops the lab and returns which instances ran. The intent says so first:
// whatever dies in between, nobody takes the lab for broken.
func (l *Lab) halt(ctx context.Context, st *steps) ([]string, error) {
	ids := []string{}
	live, err := l.rt.List(ctx)
	if err != nil {
		return ids, err
	}
	for _, i := range live {
		if i.State == runtime.Running || i.State == runtime.Failed {
			ids = append(ids, i.Spec.ID)
		}
	}
	if err := l.changeIntent(func(i *intent) { i.Halted = true }); err != nil {
		return ids, err
	}
	if err := st.do(ctx, "stop", func(ctx context.Context) (string, error) {
		return fmt.Sprintf("%s stopped, their data kept", services.Count(len(ids), "instance")), l.haltHosts(ctx)
	}); err != nil {
		return ids, err
	}
	l.log.Add("lab.stop", l.paths.Name, fmt.Sprintf("%s stopped, their data kept", services.Count(len(ids), "instance")), nil)
	return ids, nil
}

func (l *Lab) haltHosts(ctx context.Context) error {
	if h, ok := l.rt.(halter); ok {
		if err := l.tellWorld(ctx); err != nil {
			return err
		}
		return h.Halt(ctx)
	}
	g, ctx := errgroup.WithContext(ctx)
	for host := range l.rt.Hosts() {
		g.Go(func() error { return l.rt.EndHost(ctx, host, true) })
	}
	return g.Wait()
}

// Resume implements control.Engine: what the lab's stop has ended runs again
// with the state it had. Instances that were stopped one by one stay down.
func (l *Lab) Resume(ctx context.Context, _ struct{}, p control.Progress) (control.Switched, error) {
	end, err := l.begin(ctx, "lab start")
	if err != nil {
		return control.Switched{}, err
	}
	defer end()
	if _, err := l.need(); err != nil {
		return control.Switched{}, err
	}
	st := l.steps("start", p)
	ids, err := l.resume(ctx, st)
	return control.Switched{Lab: l.paths.Name, State: string(runtime.Running), Instances: ids, Steps: st.done, MS: st.elapsed()}, err
}

// resume starts what is wanted and does not run, and returns once a title has
// played from every region. It returns the instances that it started.
func (l *Lab) resume(ctx context.Context, st *steps) ([]string, error) {
	ids := []string{}
	if err := l.changeIntent(func(i *intent) { i.Halted = false }); err != nil {
		return ids, err
	}
	i := l.current()
	specs, err := l.specs(i)
	if err != nil {
		return ids, err
	}
	todo, err := l.compare(ctx, unstopped(specs, i))
	if err != nil {
		return ids, err
	}
	for _, s := range todo.start {
		ids = append(ids, s.ID)
	}
	if len(ids) == 0 {
		return ids, nil
	}
	if err := l.rt.SetWorld(ctx, l.world(i, specs)); err != nil {
		return ids, err
	}
	later, err := l.startNeeded(ctx, st, todo.start, unstopped(specs, i))
	if err != nil {
		return ids, err
	}
	guarded, unguard := l.guardHosts(ctx, func(id string) bool { return l.expected(id) && !later.holds(id) })
	defer unguard()
	if err := l.awaitStores(guarded, st, except(specs, later.specs), todo); err != nil {
		return ids, lostCause(guarded, err)
	}
	// With an instance that is to stay down, a title may not play at all.
	if len(i.Stopped) == 0 {
		if err := l.gate(guarded, st); err != nil {
			return ids, lostCause(guarded, err)
		}
	}
	if err := l.startLater(guarded, st, later); err != nil {
		return ids, lostCause(guarded, err)
	}
	l.log.Add("lab.start", l.paths.Name, fmt.Sprintf("%s run again", services.Count(len(ids), "instance")), nil)
	return ids, nil
}

// unstopped leaves out the instances that were stopped one by one.
func unstopped(specs []runtime.Spec, i *intent) []runtime.Spec {
	var out []runtime.Spec
	for _, s := range specs {
		if !i.Stopped[s.ID] {
			out = append(out, s)
		}
	}
	return out
}

// halted refuses what needs the lab to run as a whole.
func (l *Lab) halted(i *intent) error {
	if !i.Halted {
		return nil
	}
	return services.Errorf(services.Conflict, "lab %s is stopped as a whole", l.paths.Name).WithRemedy("start it: flix lab start%s", nameFlag(l.paths.Name))
}

// tellWorld gives the runtime the world as it is wanted: a daemon that was
// started anew has told it nothing yet.
func (l *Lab) tellWorld(ctx context.Context) error {
	i, err := l.need()
	if err != nil {
		return err
	}
	w := l.world(i, mustSpecs(l, i))
	l.wan.Impose(rulesOf(w.Faults))
	return l.rt.SetWorld(ctx, w)
}

// resumeTime bounds the start of a lab whose client has gone.
const resumeTime = storesTime + time.Minute
