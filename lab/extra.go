package lab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/lookup"
	"github.com/flix-lab/flix/topology"
)

// propStatus is what an instance tells the registry of itself.
const propStatus = "registry.status"

// Scale implements evacuate.Planet. What an attempt before this one added
// counts.
func (p planet) Scale(ctx context.Context, add map[string]map[topology.Role]int) (map[string][]string, error) {
	i := p.l.current()
	wanted := func(x topology.Instance) bool { return add[x.Region][x.Role] > 0 && !i.Grown[x.ID] }
	missing := map[scaleKey]int{}
	for region, roles := range add {
		for role, n := range roles {
			missing[scaleKey{region, role}] = n
		}
	}
	for _, x := range i.Extra {
		if wanted(x) {
			missing[scaleKey{x.Region, x.Role}]--
		}
	}
	var fresh []topology.Instance
	for k, n := range missing {
		r, ok := i.Topology.Region(k.region)
		if !ok {
			return nil, noRegion(k.region, i.Topology)
		}
		fresh = append(fresh, i.next(r, k.role, n)...)
	}
	slices.SortFunc(fresh, func(a, b topology.Instance) int { return strings.Compare(a.ID, b.ID) })
	if err := p.l.changeIntent(func(i *intent) { i.addDark(fresh) }); err != nil {
		return nil, err
	}
	var start []topology.Instance
	names := map[string][]string{}
	for _, x := range p.l.current().Extra {
		if wanted(x) {
			start = append(start, x)
			names[x.Region] = append(names[x.Region], x.ID)
		}
	}
	return names, p.l.startExtra(ctx, start)
}

// Light implements evacuate.Planet.
func (p planet) Light(ctx context.Context) (int, error) {
	i := p.l.current()
	var dark []topology.Instance
	for _, x := range i.Extra {
		if i.Dark[x.ID] && !i.Grown[x.ID] { // the autoscaler lights its own
			dark = append(dark, x)
		}
	}
	return len(dark), p.l.light(ctx, dark)
}

// addDark notes instances that are wanted beyond the topology, and shall take
// no work yet.
func (i *intent) addDark(fresh []topology.Instance) {
	i.Extra = append(i.Extra, fresh...)
	if i.Dark == nil {
		i.Dark = map[string]bool{}
	}
	for _, x := range fresh {
		i.Dark[x.ID] = true
	}
}

// light has dark instances take work once each of them answers, and returns when
// the registries show them as UP. That they shall is on disk first: whoever
// begins anew goes on from there, and an instance that starts again is UP.
func (l *Lab) light(ctx context.Context, dark []topology.Instance) error {
	if len(dark) == 0 {
		return nil
	}
	if err := l.answering(ctx, dark); err != nil {
		return err
	}
	if err := l.changeIntent(func(i *intent) {
		for _, x := range dark {
			delete(i.Dark, x.ID)
		}
	}); err != nil {
		return err
	}
	names := map[string][]string{}
	var g errgroup.Group
	i := l.current()
	for _, x := range dark {
		names[x.Region] = append(names[x.Region], x.ID)
		s, err := l.spec(i, x)
		if err != nil {
			return err
		}
		g.Go(func() error {
			err := l.admin(ctx, s, http.MethodPost, "/properties", map[string]string{propStatus: s.Status}, nil)
			l.owe(s.ID, err, propStatus)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for region, ids := range names {
		if err := l.registered(ctx, region, lookup.StatusUp, ids); err != nil {
			return err
		}
	}
	return nil
}

// answering fails unless every instance answers.
func (l *Lab) answering(ctx context.Context, all []topology.Instance) error {
	i := l.current()
	var g errgroup.Group
	for _, x := range all {
		s, err := l.spec(i, x)
		if err != nil {
			return err
		}
		g.Go(func() error {
			var have map[string]string
			if err := l.admin(ctx, s, http.MethodGet, "/properties", nil, &have); err != nil {
				return &services.Error{Kind: services.Unavailable, Err: err, Msg: x.ID + " was started and does not answer: it is given no work", Remedy: "see why: flix lab logs " + x.ID}
			}
			return nil
		})
	}
	return g.Wait()
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

// startExtra starts instances that the intent names, and returns once the
// registries show them.
func (l *Lab) startExtra(ctx context.Context, add []topology.Instance) error {
	i := l.current()
	specs := make([]runtime.Spec, 0, len(add))
	expected := map[string]map[string][]string{} // by region and status
	for _, inst := range add {
		s, err := l.spec(i, inst)
		if err != nil {
			return err
		}
		specs = append(specs, s)
		if expected[s.Region] == nil {
			expected[s.Region] = map[string][]string{}
		}
		expected[s.Region][s.Status] = append(expected[s.Region][s.Status], s.ID)
	}
	if err := l.rt.SetWorld(ctx, l.world(i, mustSpecs(l, i))); err != nil {
		return err
	}
	if err := l.rt.Start(ctx, specs); err != nil {
		return err
	}
	for region, byStatus := range expected {
		for status, names := range byStatus {
			if err := l.registered(ctx, region, status, names); err != nil {
				return err
			}
		}
	}
	return nil
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

// registered waits until a region's registry shows instances in a status.
func (l *Lab) registered(ctx context.Context, region, status string, names []string) error {
	if len(names) == 0 {
		return nil
	}
	s, err := l.specOf(region, topology.RoleRegistry)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		missing, err := l.unregistered(ctx, s, status, names)
		if err == nil && len(missing) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return &services.Error{Kind: services.Unavailable, Msg: fmt.Sprintf("the registry of %s does not show %s as %s", region, services.List(missing), status), Err: err}
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
			delete(i.Dark, id)
		}
	})
}
