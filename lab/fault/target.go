package fault

import (
	"cmp"
	"slices"
	"strings"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// target is what a target's text means.
type target struct {
	sort string
	text string
	// instances that lie there.
	instances []topology.Instance
	side      Side
	region    string
}

func (t target) ids() []string {
	out := make([]string, len(t.instances))
	for k, i := range t.instances {
		out[k] = i.ID
	}
	return out
}

// resolve reads a target: us-east/a/play/1, us-east/a, us-east, play,
// play@us-east, us-east-isp-1; with its sort in front where that matters, as
// in isp:us-east-isp-1. An appliance needs no region: us-east-isp-1/oca/1.
func (v View) resolve(text string, sorts []string) (target, error) {
	want, name, given := strings.Cut(text, ":")
	if !given {
		want, name = "", text
	}
	if given && !slices.Contains([]string{sortInstance, sortService, sortZone, sortRegion, sortISP, sortExchange, sortAppliance}, want) {
		return target{}, services.Errorf(services.Invalid, "%q is no sort of target", want).WithRemedy("use one of %s", strings.Join(sorts, ", "))
	}
	t, ok := v.find(want, strings.TrimSpace(name))
	if !ok {
		return target{}, services.Errorf(services.NotFound, "there is nothing called %q", text).WithRemedy("%s", v.instead(name, sorts))
	}
	t.text = cmp.Or(t.text, name)
	if !slices.Contains(sorts, t.sort) && !(t.sort == sortAppliance && slices.Contains(sorts, sortInstance)) {
		return target{}, services.Errorf(services.Invalid, "%s is of the sort %s, which this kind does not take", text, t.sort).WithRemedy("name one of the sorts %s", strings.Join(sorts, ", "))
	}
	return t, nil
}

func (v View) find(want, name string) (target, bool) {
	is := func(sort string) bool { return want == "" || want == sort }
	pick := func(f func(topology.Instance) bool) []topology.Instance {
		var out []topology.Instance
		for _, i := range v.Instances {
			if f(i) {
				out = append(out, i)
			}
		}
		return out
	}
	for _, i := range v.Instances {
		if i.ID != name && shortName(i) != name {
			continue
		}
		t := target{sort: sortInstance, text: i.ID, instances: []topology.Instance{i}, side: Side{Instance: i.ID}, region: i.Region}
		if i.Role == topology.RoleOCA {
			t.sort = sortAppliance
		}
		if is(t.sort) || is(sortInstance) {
			return t, true
		}
	}
	for _, r := range v.Topology.Regions {
		if name == r.Name && is(sortRegion) {
			return target{sort: sortRegion, instances: pick(func(i topology.Instance) bool { return i.Region == r.Name && i.Role != topology.RoleOCA }), side: Side{Region: r.Name}, region: r.Name}, true
		}
		if zone, ok := strings.CutPrefix(name, r.Name+"/"); ok && slices.Contains(r.Zones, zone) && is(sortZone) {
			return target{sort: sortZone, instances: pick(func(i topology.Instance) bool {
				return i.Region == r.Name && i.Zone == zone && i.Role != topology.RoleOCA
			}), side: Side{Region: r.Name, Zone: zone}, region: r.Name}, true
		}
		site := func(i topology.Instance) bool { return i.Site != nil && i.Site.Name == name }
		if name == r.Exchange.Name && is(sortExchange) {
			return target{sort: sortExchange, instances: pick(site), side: Side{ISP: name}, region: r.Name}, true
		}
		for _, isp := range r.ISPs {
			if isp.Name == name && is(sortISP) {
				return target{sort: sortISP, instances: pick(site), side: Side{ISP: name}, region: r.Name}, true
			}
		}
	}
	role, region, _ := strings.Cut(name, "@")
	ours := pick(func(i topology.Instance) bool {
		return string(i.Role) == role && (region == "" || i.Region == region)
	})
	if len(ours) == 0 || !is(sortService) {
		return target{}, false
	}
	return target{sort: sortService, instances: ours, side: Side{Role: topology.Role(role), Region: region}, region: region}, true
}

// shortName of an appliance, as the verbs of the fill take it: its site is of one
// region only. Others have none.
func shortName(i topology.Instance) string {
	if i.Role != topology.RoleOCA {
		return ""
	}
	return strings.TrimPrefix(i.ID, i.Region+"/")
}

// end is a target as one side of a link.
func (t target) end() Side {
	s := t.side
	if t.sort != sortRegion { // a region is known by its ports, whatever comes and goes
		s.Instances = t.ids()
	}
	return s
}
