package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"path"
	"path/filepath"
	"slices"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/input"
	"github.com/flix-lab/flix/oca/bgp"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/steering"
	"github.com/flix-lab/flix/topology"
)

// LoadRoutes implements control.SteeringEngine. The lab keeps a copy of the
// file, which every steering instance reads, those that start later, too.
func (l *Lab) LoadRoutes(ctx context.Context, r control.LoadRoutesRequest) (control.LoadedRoutes, error) {
	var out control.LoadedRoutes
	i, err := l.need()
	if err != nil {
		return out, err
	}
	kept := ""
	if r.File != "" {
		if out, kept, err = l.keepRoutes(ctx, i, r.File); err != nil {
			return out, err
		}
	}
	forSteering, forRouters := kept, ""
	if i.Topology.BGP { // the sites' routers announce them
		forSteering, forRouters = "", kept
	}
	var errs []error
	for _, region := range i.Topology.RegionNames() {
		errs = append(errs, l.setProperty(ctx, region, topology.RoleSteering, steering.PropertyRoutes, forSteering))
		if i.Topology.BGP {
			errs = append(errs, l.setProperty(ctx, region, topology.RoleOCA, propRouterRoutes, forRouters))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return out, err
	}
	l.log.Add("steer.routes", l.paths.Name, fmt.Sprintf("%d routes of %d places are loaded", out.Routes, len(out.Places)), nil)
	return out, nil
}

// maxRoutesFile bounds a table of routes, in bytes: a full one has a tenth of it.
const maxRoutesFile = 1 << 30

// keepRoutes checks a table and copies it to where instances can read it, under a
// name by its content: those that read the one before are not disturbed. It
// returns the path by which they know it.
func (l *Lab) keepRoutes(ctx context.Context, i *intent, file string) (out control.LoadedRoutes, kept string, err error) {
	raw, err := input.ReadFile(ctx, file, maxRoutesFile)
	if err != nil {
		return out, "", &services.Error{Op: "steer routes", Kind: services.NotFound, Err: err, Remedy: "name a file that can be read"}
	}
	t, err := topology.ParseRoutes(file, bytes.NewReader(raw))
	if err != nil {
		return out, "", &services.Error{Op: "steer routes", Kind: services.Invalid, Err: err}
	}
	known, foreign := map[string]bool{}, map[string]bool{}
	for _, inst := range i.instances() {
		if inst.Role == topology.RoleOCA && inst.Site != nil {
			known[inst.ID], known[inst.Site.Name] = true, true
			foreign[inst.ID], foreign[inst.Site.Name] = inst.Site.Router != nil, inst.Site.Router != nil
		}
	}
	out.Places = t.Places()
	slices.Sort(out.Places)
	for _, place := range out.Places {
		if !known[place] {
			return out, "", services.Errorf(services.NotFound, "%s: the lab has no site or appliance %q", file, place).WithRemedy("flix fill status lists the appliances")
		}
	}
	for _, place := range out.Places {
		if foreign[place] {
			return out, "", services.Errorf(services.Conflict, "%s: %s learns its routes from a router that is not of the lab", file, place).WithRemedy("announce them there, or leave the place out")
		}
	}
	if i.Topology.BGP {
		if err := learnable(i, file, t); err != nil {
			return out, "", err
		}
	}
	out.Routes = t.Len()
	digest := sha256.Sum256(raw)
	here, there := l.rt.Shared()
	name := fmt.Sprintf("routes-%x.txt", digest[:6])
	return out, path.Join(there, name), writeFile(filepath.Join(here, name), raw)
}

// learnable refuses a table of which a site's router would announce more to an
// appliance than that takes: it would end the session.
func learnable(i *intent, file string, t *topology.RouteTable) error {
	for _, inst := range i.instances() {
		if inst.Role != topology.RoleOCA || inst.Site == nil {
			continue
		}
		prefixes := map[netip.Prefix]bool{}
		for _, r := range announcedBy(*inst.Site, inst.ID, t) {
			prefixes[r.Prefix] = true
		}
		if n := len(prefixes); n > bgp.DefaultMaxRoutes {
			return services.Errorf(services.Invalid, "%s: it has %d routes for %s with those that the site declares, and an appliance takes %d over BGP", file, n, inst.ID, bgp.DefaultMaxRoutes).
				WithRemedy("aggregate them, spread them over more sites, or load them into a lab without bgp: true")
		}
	}
	return nil
}

// SteerMisses implements control.SteeringEngine: the sum over the instances that
// answer.
func (l *Lab) SteerMisses(ctx context.Context, region string) (steering.Misses, error) {
	out := steering.Misses{Misses: []steering.Miss{}, Decisions: map[string]uint64{}, Bytes: map[string]uint64{}}
	i, err := l.need()
	if err != nil {
		return out, err
	}
	sums := map[[3]string]*steering.Miss{}
	answers := 0
	var errs []error
	for _, inst := range i.instances() {
		if inst.Role != topology.RoleSteering || region != "" && inst.Region != region {
			continue
		}
		s, err := l.spec(i, inst)
		if err != nil {
			return out, err
		}
		var one steering.Misses
		short, cancel := context.WithTimeout(ctx, askTime)
		err = l.admin(short, s, http.MethodGet, "/steering/misses", nil, &one)
		cancel()
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", inst.ID, err))
			continue
		}
		answers++
		addMisses(&out, sums, one)
	}
	if answers == 0 {
		return out, &services.Error{Op: "steering", Kind: services.Unavailable, Msg: "no instance answers", Err: errors.Join(errs...), Remedy: "look at what runs: flix lab status"}
	}
	for _, m := range sums {
		out.Misses = append(out.Misses, *m)
	}
	steering.SortMisses(out.Misses)
	return out, nil
}

func addMisses(out *steering.Misses, sums map[[3]string]*steering.Miss, one steering.Misses) {
	for cause, n := range one.Decisions {
		out.Decisions[cause] += n
		out.Bytes[cause] += one.Bytes[cause]
	}
	for _, m := range one.Misses {
		k := [3]string{m.Cause, m.By, m.Name}
		if sums[k] == nil {
			sums[k] = &steering.Miss{Cause: m.Cause, By: m.By, Name: m.Name}
		}
		sums[k].Decisions += m.Decisions
		sums[k].Bytes += m.Bytes
	}
}
