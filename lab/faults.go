package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/fault"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
)

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
	v := fault.View{Topology: i.Topology, Instances: i.instances(), Running: map[string]bool{}, Runtime: i.Runtime, Stores: map[string]bool{}, Now: time.Now(),
		Evacuated: planet{l}.Evacuated(), Calls: dependencies()}
	for _, r := range i.table().Routes {
		v.Paths = append(v.Paths, cmp.Or(r.Prefix, r.Path))
	}
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
	if len(r.Beside) > 0 && !r.DryRun {
		return out, services.Errorf(services.Invalid, "beside: %s are assumed by a dry run only", services.Count(len(r.Beside), "fault")).WithRemedy("begin each by itself")
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
	l.newFault()
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

// endFault takes a fault out of the intent and undoes what it did, unless it is
// one that was done as a whole. It is called with faulting held.
func (l *Lab) endFault(ctx context.Context, f fault.Fault, how, note string) (control.FaultEnded, error) {
	ended := control.FaultEnded{Fault: f, Ended: time.Now().UTC(), How: how, Note: note}
	if err := l.changeIntent(func(i *intent) {
		i.Faults = slices.DeleteFunc(i.Faults, func(x fault.Fault) bool { return x.ID == f.ID })
	}); err != nil {
		return ended, err
	}
	if how != "done" && !l.current().Halted {
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
