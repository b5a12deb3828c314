package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

func (p planet) Scale(ctx context.Context, region string, role topology.Role, n int) ([]string, error) {
	i := p.l.current()
	r, ok := i.Topology.Region(region)
	if !ok {
		return nil, services.Errorf(services.NotFound, "there is no region %q", region)
	}
	there := func(x topology.Instance) bool { return x.Region == region && x.Role == role && !i.Grown[x.ID] }
	extra := 0 // what an attempt before this one added counts
	for _, x := range i.Extra {
		if there(x) {
			extra++
		}
	}
	fresh := i.next(r, role, n-extra)
	if err := p.l.changeIntent(func(i *intent) { i.Extra = append(i.Extra, fresh...) }); err != nil {
		return nil, err
	}
	var add []topology.Instance
	for _, x := range p.l.current().Extra {
		if there(x) {
			add = append(add, x)
		}
	}
	return p.l.startExtra(ctx, region, add)
}

// next numbers n more instances of a role in a region.
func (i *intent) next(r topology.Region, role topology.Role, n int) []topology.Instance {
	taken := map[int]bool{}
	for _, x := range i.instances() {
		if x.Region == r.Name && x.Role == role {
			taken[x.Number] = true
		}
	}
	var out []topology.Instance
	for number := 1; len(out) < n; number++ {
		if !taken[number] {
			out = append(out, topology.NewInstance(r, role, number))
		}
	}
	return out
}

// startExtra starts instances of one region that the intent names, and returns
// their names once the registry shows them.
func (l *Lab) startExtra(ctx context.Context, region string, add []topology.Instance) ([]string, error) {
	i := l.current()
	var (
		specs []runtime.Spec
		names []string
	)
	for _, inst := range add {
		s, err := l.spec(i, inst)
		if err != nil {
			return nil, err
		}
		specs, names = append(specs, s), append(names, inst.ID)
	}
	if err := l.rt.SetWorld(ctx, l.world(i, mustSpecs(l, i))); err != nil {
		return nil, err
	}
	if err := l.rt.Start(ctx, specs); err != nil {
		return nil, err
	}
	return names, l.registered(ctx, region, names)
}

// mustSpecs declares what has its ports already.
func mustSpecs(l *Lab, i *intent) []runtime.Spec {
	var out []runtime.Spec
	for _, inst := range i.instances() {
		if s, err := l.spec(i, inst); err == nil {
			out = append(out, s)
		}
	}
	return out
}

// registered waits until a region's registry shows instances as UP.
func (l *Lab) registered(ctx context.Context, region string, names []string) error {
	s, err := l.specOf(region, topology.RoleRegistry)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		missing, err := l.unregistered(ctx, s, names)
		if err == nil && len(missing) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return &services.Error{Kind: services.Unavailable, Msg: fmt.Sprintf("the registry of %s does not show %v as UP", region, missing), Err: err}
		case <-time.After(wait):
		}
	}
}

func (p planet) Unscale(ctx context.Context) error {
	i := p.l.current()
	var gone []topology.Instance
	for _, x := range i.Extra {
		if !i.Grown[x.ID] { // the autoscaler knows when to take its own away
			gone = append(gone, x)
		}
	}
	return p.l.dropExtra(ctx, gone)
}

// dropExtra ends instances that were added, and forgets them. Those that are to
// take no request with them are drained first.
func (l *Lab) dropExtra(ctx context.Context, gone []topology.Instance) error {
	if len(gone) == 0 {
		return nil
	}
	ids := make([]string, len(gone))
	for k, x := range gone {
		ids[k] = x.ID
	}
	if err := l.rt.Stop(ctx, ids, stopGrace); err != nil {
		return err
	}
	for _, x := range gone {
		if err := errors.Join(l.ports.release(x), l.rt.Release(x)); err != nil {
			return err
		}
	}
	return l.changeIntent(func(i *intent) {
		i.Extra = slices.DeleteFunc(i.Extra, func(x topology.Instance) bool { return slices.Contains(ids, x.ID) })
		for _, id := range ids {
			delete(i.Grown, id)
		}
	})
}
