package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/gateway"
	"github.com/flix-lab/flix/topology"
)

// routeTable is one version of the gateways' routing table.
type routeTable struct {
	Version int             `json:"version"`
	At      time.Time       `json:"at"`
	Note    string          `json:"note,omitempty"`
	Changes []string        `json:"changes"`
	Routes  []gateway.Route `json:"routes"`
}

// keepTables bounds the versions that can be rolled back to, beside the built-in
// table.
const keepTables = 50

// tables are the versions there are; the first is always the built-in table.
func (i *intent) tables() []routeTable {
	return append([]routeTable{{Version: 0, Changes: []string{}, Routes: gateway.DefaultRoutes()}}, i.Tables...)
}

// table is the current version.
func (i *intent) table() routeTable {
	all := i.tables()
	return all[len(all)-1]
}

// setTable makes a version the current one, for every region's gateways. What
// is wanted and what can be rolled back to change together.
func (i *intent) setTable(t routeTable) error {
	value := ""
	if t.Version > 0 {
		b, err := json.Marshal(gateway.Table{Version: t.Version, Routes: t.Routes})
		if err != nil {
			return fmt.Errorf("routes: %w", err)
		}
		value = string(b)
		i.Tables = append(i.Tables, t)
		if n := len(i.Tables) - keepTables; n > 0 {
			i.Tables = slices.Delete(i.Tables, 0, n)
		}
	}
	for _, r := range i.Topology.RegionNames() {
		i.setProperty(r, topology.RoleGateway, gateway.PropertyRoutes, value)
	}
	return nil
}

// Routes implements control.Engine.
func (l *Lab) Routes(ctx context.Context) (control.Routes, error) {
	i, err := l.need()
	if err != nil {
		return control.Routes{}, err
	}
	return l.routes(ctx, i.table(), i.table().Version), nil
}

// routes describes a table, and how far the gateways follow the version that is
// in force.
func (l *Lab) routes(ctx context.Context, t routeTable, inForce int) control.Routes {
	out := control.Routes{Version: t.Version, At: t.At, Note: t.Note, Changes: t.Changes, Routes: slices.Clone(t.Routes), Gateways: l.followers(ctx, inForce)}
	gateway.SortRoutes(out.Routes)
	return out
}

// ChangeRoutes implements control.Engine.
func (l *Lab) ChangeRoutes(ctx context.Context, r control.RouteChange) (control.Routes, error) {
	if !r.DryRun {
		end, err := l.begin(ctx, "gateway routes")
		if err != nil {
			return control.Routes{}, err
		}
		defer end()
	}
	i, err := l.need()
	if err != nil {
		return control.Routes{}, err
	}
	next, err := l.changed(i, r)
	if err != nil {
		return control.Routes{}, err
	}
	if r.DryRun || len(next.Changes) == 0 {
		return l.routes(ctx, next, i.table().Version), nil // nobody is behind a table that is not
	}
	before := i
	var serr error
	if err := l.changeIntent(func(i *intent) { serr = i.setTable(next) }); err != nil || serr != nil {
		return control.Routes{}, errors.Join(err, serr)
	}
	if err := l.followed(ctx, next.Version); err != nil {
		back := l.changeIntent(func(i *intent) { i.Tables, i.Properties = before.Tables, before.Properties })
		_ = l.followed(context.WithoutCancel(ctx), before.table().Version) // those that took it take the old one again, or when they start
		return control.Routes{}, errors.Join(err, back)
	}
	l.log.Add("gateway.routes", l.paths.Name, fmt.Sprintf("the gateways follow table %d: %s", next.Version, strings.Join(next.Changes, "; ")), map[string]any{"version": next.Version, "changes": next.Changes})
	return l.routes(ctx, next, next.Version), nil
}

// changed works a change out, checks it, and touches nothing.
func (l *Lab) changed(i *intent, r control.RouteChange) (routeTable, error) {
	now := i.table()
	if r.IfVersion != nil && *r.IfVersion != now.Version {
		return routeTable{}, services.Errorf(services.Conflict, "the table is at version %d, not %d", now.Version, *r.IfVersion).WithRemedy("look what has changed: flix gateway routes history")
	}
	next := routeTable{Version: now.Version + 1, At: time.Now().UTC(), Note: r.Note}
	var err error
	switch {
	case r.Rollback != nil:
		to, rerr := earlier(i, *r.Rollback)
		if rerr != nil {
			return routeTable{}, rerr
		}
		next.Routes = slices.Clone(to.Routes)
		if next.Note == "" {
			next.Note = fmt.Sprintf("rollback to version %d", to.Version)
		}
	case len(r.Replace) > 0:
		next.Routes = r.Replace
	case len(r.Remove) > 0:
		next.Routes, err = without(now.Routes, r.Remove)
	case len(r.Set) > 0:
		next.Routes, err = with(now.Routes, r.Set, r.Inherit)
	default:
		err = services.Errorf(services.Invalid, "the change changes nothing")
	}
	if err != nil {
		return routeTable{}, err
	}
	if next.Routes, err = gateway.CheckRoutes(next.Routes, l.world(i, mustSpecs(l, i)).Peers); err != nil {
		return routeTable{}, err
	}
	for _, x := range next.Routes {
		if err := routable(i, x); err != nil {
			return routeTable{}, err
		}
		for _, name := range append(slices.Clone(x.In), x.Region) {
			if _, ok := i.Topology.Region(name); name != "" && !ok {
				return routeTable{}, services.Wrap("route "+x.Name, noRegion(name, i.Topology))
			}
		}
	}
	next.Changes = differences(now.Routes, next.Routes)
	if len(next.Changes) == 0 {
		return now.unchanged(), nil
	}
	return next, nil
}

// routable refuses a route to a role of the lab, or an instance of one, that
// gateways do not reach. A VIP that is none may have instances some time.
func routable(i *intent, r gateway.Route) error {
	for _, inst := range i.instances() {
		field := "vip"
		switch {
		case string(inst.Role) == r.VIP:
		case inst.ID == r.Instance:
			field = "instance"
		default:
			continue
		}
		if why := unreached(inst); why != "" {
			return services.Errorf(services.Invalid, "route %s: %s: instances of %q %s", r.Name, field, inst.Role, why).
				WithRemedy("name a VIP that answers HTTP, such as discovery, or one that answers gRPC, such as license")
		}
	}
	return nil
}

// unreached says why gateways do not reach an instance; "" is that they do.
func unreached(i topology.Instance) string {
	switch {
	case slices.Contains(i.Ports, topology.PortHTTP):
	case !slices.Contains(i.Ports, topology.PortRPC):
		return "have neither the port http nor rpc, and gateways reach no other"
	case i.Role.OwnProtocol():
		return "speak their store's own protocol on the port rpc, neither HTTP nor gRPC"
	}
	return ""
}

// unchanged is the table as the answer to a change that changes nothing.
func (t routeTable) unchanged() routeTable {
	t.Changes = []string{}
	return t
}

// earlier finds the version that a rollback means.
func earlier(i *intent, version int) (routeTable, error) {
	all := i.tables()
	if version < 0 {
		if len(all) < 2 {
			return routeTable{}, services.Errorf(services.Conflict, "there is no version before the built-in table")
		}
		return all[len(all)-2], nil
	}
	for _, t := range all {
		if t.Version == version {
			return t, nil
		}
	}
	return routeTable{}, services.Errorf(services.NotFound, "there is no version %d of the routes", version).WithRemedy("see which there are: flix gateway routes history")
}

func without(now []gateway.Route, names []string) ([]gateway.Route, error) {
	out := slices.Clone(now)
	for _, n := range names {
		k := slices.IndexFunc(out, func(r gateway.Route) bool { return r.Name == n })
		if k < 0 {
			return nil, services.Errorf(services.NotFound, "there is no route %q", n).WithRemedy("see which there are: flix gateway routes ls")
		}
		out = slices.Delete(out, k, k+1)
	}
	if len(out) == 0 {
		return nil, services.Errorf(services.Conflict, "that would leave no route at all").WithRemedy("set another first, or go back to the built-in table: flix gateway routes rollback 0")
	}
	return out, nil
}

// with adds routes to a table, or replaces those of the same names. inherit
// gives a new one what the route beneath asks of a client.
func with(now, set []gateway.Route, inherit bool) ([]gateway.Route, error) {
	checked, err := gateway.CheckRoutes(set, nil)
	if err != nil {
		return nil, err
	}
	out := slices.Clone(now)
	for _, r := range checked {
		if inherit && !r.Overlay {
			if below, ok := gateway.Beneath(now, r); ok {
				r.Member, r.AnyPage = below.Member, r.AnyPage || below.AnyPage
				if r.Class == "" {
					r.Class = below.Class
				}
			}
		}
		if k := slices.IndexFunc(out, func(o gateway.Route) bool { return o.Name == r.Name }); k >= 0 {
			out[k] = r
			continue
		}
		out = append(out, r)
	}
	return out, nil
}

// differences lists what a change does, by name.
func differences(was, is []gateway.Route) []string {
	out := []string{}
	find := func(in []gateway.Route, name string) (gateway.Route, bool) {
		k := slices.IndexFunc(in, func(r gateway.Route) bool { return r.Name == name })
		if k < 0 {
			return gateway.Route{}, false
		}
		return in[k], true
	}
	for _, r := range is {
		switch old, ok := find(was, r.Name); {
		case !ok:
			out = append(out, "+ "+r.Name)
		case !sameRoute(old, r):
			out = append(out, "~ "+r.Name)
		}
	}
	for _, r := range was {
		if _, ok := find(is, r.Name); !ok {
			out = append(out, "- "+r.Name)
		}
	}
	return out
}

// sameRoute compares two routes as they are written.
func sameRoute(a, b gateway.Route) bool {
	var x, y any
	for _, p := range []struct {
		r  gateway.Route
		to *any
	}{{a, &x}, {b, &y}} {
		raw, err := json.Marshal(p.r)
		if err != nil || json.Unmarshal(raw, p.to) != nil {
			return false
		}
	}
	return reflect.DeepEqual(x, y)
}

// RouteHistory implements control.Engine.
func (l *Lab) RouteHistory(context.Context) (control.RouteHistory, error) {
	i, err := l.need()
	if err != nil {
		return control.RouteHistory{}, err
	}
	out := control.RouteHistory{}
	for _, t := range i.tables() {
		out.Versions = append(out.Versions, control.RouteVersion{Version: t.Version, At: t.At, Note: t.Note, Changes: t.Changes, Routes: t.Routes, Current: t.Version == i.table().Version})
	}
	return out, nil
}

// gateways declares the wanted gateways of a region, or of all for "".
func (l *Lab) gateways(region string) ([]runtime.Spec, error) {
	i, err := l.need()
	if err != nil {
		return nil, err
	}
	if _, ok := i.Topology.Region(region); region != "" && !ok {
		return nil, noRegion(region, i.Topology)
	}
	var out []runtime.Spec
	for _, inst := range i.instances() {
		if inst.Role != topology.RoleGateway || (region != "" && inst.Region != region) {
			continue
		}
		s, err := l.spec(i, inst)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// askGateways asks every wanted gateway of a region at once; one that does not
// answer has an error.
func askGateways[T any](ctx context.Context, l *Lab, region, path string) (specs []runtime.Spec, got []T, errs []error, err error) {
	if specs, err = l.gateways(region); err != nil {
		return nil, nil, nil, err
	}
	got, errs = make([]T, len(specs)), make([]error, len(specs))
	var wg sync.WaitGroup
	for k, s := range specs {
		if l.isDown(s.Region) || l.current().Stopped[s.ID] {
			errs[k] = services.Errorf(services.Unavailable, "%s does not run", s.ID)
			continue
		}
		wg.Go(func() { errs[k] = l.admin(ctx, s, http.MethodGet, path, nil, &got[k]) })
	}
	wg.Wait()
	return specs, got, errs, nil
}

// followers tells which gateways follow a version.
func (l *Lab) followers(ctx context.Context, version int) []control.GatewayState {
	out := []control.GatewayState{}
	specs, got, errs, err := askGateways[gateway.TableReport](ctx, l, "", "/routes")
	if err != nil {
		return out
	}
	for k, s := range specs {
		st := control.GatewayState{Gateway: s.ID, Region: s.Region, Version: got[k].Version, State: "current"}
		switch {
		case errs[k] != nil:
			st.State, st.Error = "down", errs[k].Error()
		case got[k].Refused != nil && got[k].Refused.Version == version && got[k].Version != version:
			st.State, st.Error = "refused", got[k].Refused.Error
		case got[k].Version != version:
			st.State = "behind"
		}
		out = append(out, st)
	}
	return out
}

// convergeTime bounds the wait for gateways to follow a table.
const convergeTime = 5 * time.Second

// followed tells the gateways what is wanted of them until all that answer
// follow a version. It fails when one refuses it.
func (l *Lab) followed(ctx context.Context, version int) error {
	ctx, cancel := context.WithTimeout(ctx, convergeTime)
	defer cancel()
	for wait := time.Duration(0); ; wait = min(2*wait+5*time.Millisecond, 200*time.Millisecond) {
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return ctx.Err()
			}
			return nil // the answer says who is behind
		case <-time.After(wait):
		}
		l.tell(ctx, gateway.PropertyRoutes)
		behind := false
		for _, g := range l.followers(ctx, version) {
			if g.State == "refused" {
				return services.Errorf(services.Invalid, "%s does not take the table: %s", g.Gateway, g.Error).WithRemedy("the table is as it was before")
			}
			behind = behind || g.State == "behind"
		}
		if !behind {
			return nil
		}
	}
}

// tell posts a wanted property to every gateway that runs. One that does not
// answer is told when it does, or starts.
func (l *Lab) tell(ctx context.Context, name string) {
	specs, err := l.gateways("")
	if err != nil {
		return
	}
	var wg sync.WaitGroup
	for _, s := range specs {
		if l.isDown(s.Region) || l.current().Stopped[s.ID] {
			continue
		}
		wg.Go(func() {
			err := l.admin(ctx, s, http.MethodPost, "/properties", map[string]string{name: s.Properties[name]}, nil)
			l.owe(s.ID, err, name) // who is behind is seen after
		})
	}
	wg.Wait()
}

// reapply tells an instance that was started anew by its host what has been
// set since it was declared: the host knows its properties of then.
func (l *Lab) reapply(ctx context.Context, id string) error {
	i := l.current()
	for _, inst := range i.instances() {
		if inst.ID != id {
			continue
		}
		s, err := l.spec(i, inst)
		if err != nil || len(s.Properties) == 0 {
			return err
		}
		return l.admin(ctx, s, http.MethodPost, "/properties", s.Properties, nil)
	}
	return nil
}
