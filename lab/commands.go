package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/resilience"
	"github.com/flix-lab/flix/topology"
)

// commandRoles have resilience commands.
var commandRoles = []topology.Role{
	topology.RoleSignup, topology.RoleDiscovery, topology.RolePlay, topology.RolePlayback, topology.RoleRecommend, topology.RoleKeystone, topology.RoleTranscode,
}

// everyCommand stands for all commands in a property's name.
const everyCommand = "default"

// Commands implements control.Engine: it asks every instance that has commands
// what they are in now.
func (l *Lab) Commands(ctx context.Context, r control.CommandQuery) (control.Commands, error) {
	i, err := l.need()
	if err != nil {
		return control.Commands{}, err
	}
	if _, ok := i.Topology.Region(r.Region); r.Region != "" && !ok {
		return control.Commands{}, noRegion(r.Region, i.Topology)
	}
	if r.Role != "" && !slices.Contains(commandRoles, topology.Role(r.Role)) {
		return control.Commands{}, services.Errorf(services.NotFound, "the role %q has no commands", r.Role).WithRemedy("these have: %s", services.List(commandRoles))
	}
	var (
		mu  sync.Mutex
		out = control.Commands{Commands: []control.Command{}}
		g   errgroup.Group
	)
	g.SetLimit(askAtOnce)
	for _, inst := range i.instances() {
		if !slices.Contains(commandRoles, inst.Role) || !picked(r.Region, inst.Region) || !picked(r.Role, string(inst.Role)) || !picked(r.Instance, inst.ID) {
			continue
		}
		s, err := l.spec(i, inst)
		if err != nil {
			return control.Commands{}, err
		}
		g.Go(func() error {
			var states []resilience.State
			err := l.admin(ctx, s, http.MethodGet, resilience.PathCommands, nil, &states)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				out.Silent = append(out.Silent, s.ID)
				return nil // what is down has no commands; the others still tell theirs
			}
			for _, st := range states {
				if picked(r.Name, st.Name) {
					out.Commands = append(out.Commands, shownCommand(s, st))
				}
			}
			return nil
		})
	}
	_ = g.Wait() // none fails
	slices.Sort(out.Silent)
	slices.SortFunc(out.Commands, func(a, b control.Command) int {
		return cmp.Or(strings.Compare(a.Role, b.Role), strings.Compare(a.Name, b.Name), strings.Compare(a.Instance, b.Instance))
	})
	if len(out.Commands) == 0 && r.Name != "" {
		return out, l.noCommand(ctx, r)
	}
	return out, ctx.Err()
}

func picked(want, have string) bool { return want == "" || want == have }

func shownCommand(s runtime.Spec, st resilience.State) control.Command {
	return control.Command{
		Name: st.Name, Group: st.Group, Role: string(s.Role), Region: s.Region, Zone: s.Zone, Instance: s.ID,
		Breaker: st.Breaker, Forced: st.Forced, InFlight: st.InFlight, MaxConcurrent: st.MaxConcurrent, Limit: st.Limit,
		WindowMS: st.WindowMS, Rate: st.Rate, WindowCalls: st.WindowCalls, WindowFailures: st.WindowFailures, ErrorPercent: st.ErrorPercent,
		P50MS: st.P50MS, P99MS: st.P99MS, MaxMS: st.MaxMS, Window: st.Window, Events: st.Events, Properties: st.Properties,
	}
}

// noCommand says which names are near.
func (l *Lab) noCommand(ctx context.Context, r control.CommandQuery) error {
	e := services.Errorf(services.NotFound, "there is no command %q", r.Name)
	r.Name = ""
	all, err := l.Commands(ctx, r)
	if err != nil {
		return err
	}
	near := map[string]struct{}{}
	for _, c := range all.Commands {
		near[c.Name] = struct{}{}
	}
	if len(near) == 0 {
		return e.WithRemedy("no instance of what you name answers: flix lab status")
	}
	return e.WithRemedy("there are %s", strings.Join(slices.Sorted(maps.Keys(near)), ", "))
}

// SetCommand implements control.Engine: it sets properties of a command in
// every role and region that has it, for instances to come too.
func (l *Lab) SetCommand(ctx context.Context, r control.CommandRequest) (control.Commands, error) {
	props, err := commandProperties(r)
	if err != nil {
		return control.Commands{}, err
	}
	q := r.CommandQuery
	if q.Name == everyCommand {
		q.Name = ""
	}
	if q.Instance != "" {
		return control.Commands{}, services.Errorf(services.Invalid, "a property is of a role in a region, not of one instance").WithRemedy("name a role or a region")
	}
	at, err := l.Commands(ctx, q)
	if err != nil {
		return control.Commands{}, err
	}
	for _, c := range at.Commands {
		if err := fitting(r.Name, c, props); err != nil {
			return control.Commands{}, err
		}
	}
	type place struct {
		region string
		role   topology.Role
	}
	places := map[place]struct{}{}
	for _, c := range at.Commands {
		places[place{c.Region, topology.Role(c.Role)}] = struct{}{}
	}
	var errs []error
	for p := range places {
		errs = append(errs, l.setProperties(ctx, p.region, p.role, props))
	}
	l.log.Add("command.set", r.Name, describe(r.Properties), map[string]any{"properties": props})
	if err := errors.Join(errs...); err != nil {
		return control.Commands{}, err
	}
	return l.Commands(ctx, q)
}

// commandProperties checks what is to be set and names it in full.
func commandProperties(r control.CommandRequest) (map[string]string, error) {
	if r.Name == "" || len(r.Properties) == 0 {
		return nil, services.Errorf(services.Invalid, "a command and a property of it are needed").WithRemedy("flix command set NAME PROPERTY=VALUE")
	}
	out := map[string]string{}
	for name, value := range r.Properties {
		p, err := resilience.FindProperty(name)
		if err != nil {
			return nil, err
		}
		if err := p.Check(value); err != nil {
			return nil, err
		}
		out[resilience.Prefix+r.Name+"."+p.Name] = value
	}
	return out, nil
}

// fitting refuses limits that do not go with those that a command has: each is
// right by itself, and the command would keep its old ones.
func fitting(name string, c control.Command, set map[string]string) error {
	all := map[string]string{}
	if name != everyCommand { // what a command has of its own counts more
		maps.Copy(all, c.Properties)
	}
	limits := false
	for full, value := range set {
		p := strings.TrimPrefix(full, resilience.Prefix+name+".")
		limits = limits || strings.HasPrefix(p, "limit.")
		all[p] = value
	}
	if !limits {
		return nil
	}
	if err := resilience.CheckTogether(all); err != nil {
		return services.Wrap(name, err)
	}
	return nil
}

func describe(props map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(props)) {
		if props[k] == "" {
			parts = append(parts, k+" as declared")
		} else {
			parts = append(parts, fmt.Sprintf("%s=%s", k, props[k]))
		}
	}
	return strings.Join(parts, ", ")
}
