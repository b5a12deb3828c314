package lab

import (
	"context"
	"slices"
	"strings"

	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// instance finds a wanted instance by its whole name and declares it.
func (l *Lab) instance(name string) (runtime.Spec, error) {
	inst, err := l.named(name)
	if err != nil {
		return runtime.Spec{}, err
	}
	return l.spec(l.current(), inst)
}

// named finds a wanted instance by its whole name.
func (l *Lab) named(name string) (topology.Instance, error) {
	i, err := l.need()
	if err != nil {
		return topology.Instance{}, err
	}
	var near []string
	for _, inst := range i.instances() {
		if inst.ID == name {
			return inst, nil
		}
		if strings.Contains(inst.ID, name) || strings.HasPrefix(inst.ID, strings.SplitN(name, "/", 2)[0]+"/") && strings.Contains(name, string(inst.Role)) {
			near = append(near, inst.ID)
		}
	}
	slices.Sort(near)
	e := services.Errorf(services.NotFound, "there is no instance %q", name)
	if len(near) > 0 {
		return topology.Instance{}, e.WithRemedy("did you mean %s?", strings.Join(near[:min(len(near), 5)], ", "))
	}
	return topology.Instance{}, e.WithRemedy("list them: flix lab status -o wide")
}

// StopInstance implements control.Engine: it ends in order and stays down.
func (l *Lab) StopInstance(ctx context.Context, name string) error {
	return l.end(ctx, name, "instance.stop", func(id string) error { return l.rt.Stop(ctx, []string{id}, stopGrace) })
}

// KillInstance implements control.Engine: its sockets are reset, its memory is
// lost, its disk stays.
func (l *Lab) KillInstance(ctx context.Context, name string) error {
	return l.end(ctx, name, "instance.kill", func(id string) error { return l.rt.Kill(ctx, id) })
}

func (l *Lab) end(ctx context.Context, name, kind string, f func(string) error) error {
	s, err := l.instance(name)
	if err != nil {
		return err
	}
	if err := l.tellWorld(ctx); err != nil {
		return err
	}
	if err := l.changeIntent(func(i *intent) {
		if i.Stopped == nil {
			i.Stopped = map[string]bool{}
		}
		i.Stopped[s.ID] = true
	}); err != nil {
		return err
	}
	if err := f(s.ID); err != nil {
		return err
	}
	l.log.Add(kind, s.ID, s.ID+" is down", nil)
	return nil
}

// StartInstance implements control.Engine.
func (l *Lab) StartInstance(ctx context.Context, name string) error {
	s, err := l.instance(name)
	if err != nil {
		return err
	}
	if err := l.halted(l.current()); err != nil {
		return err
	}
	if err := l.tellWorld(ctx); err != nil {
		return err
	}
	if err := l.changeIntent(func(i *intent) { delete(i.Stopped, s.ID) }); err != nil {
		return err
	}
	if err := l.rt.Start(ctx, []runtime.Spec{s}); err != nil {
		return err
	}
	l.log.Add("instance.start", s.ID, s.ID+" is up", nil)
	return nil
}

// noRegion says that a lab has no region of a name, and which it has.
func noRegion(name string, t topology.Topology) error {
	return services.Errorf(services.NotFound, "there is no region %q", name).WithRemedy("the lab's regions are %s", services.List(t.RegionNames()))
}
