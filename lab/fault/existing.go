package fault

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// sortNames are the names of a sort of target.
type sortNames struct {
	sort  string
	names []string
}

// names lists what a target of these sorts may be, sort by sort.
func (v View) names(sorts []string) []sortNames {
	var zones, isps, exchanges, appliances, cloud []string
	roles := map[string]bool{}
	for _, r := range v.Topology.Regions {
		for _, z := range r.Zones {
			zones = append(zones, r.Name+"/"+z)
		}
		for _, isp := range r.ISPs {
			isps = append(isps, isp.Name)
		}
		exchanges = append(exchanges, r.Exchange.Name)
	}
	for _, i := range v.Instances {
		roles[string(i.Role)] = true
		if i.Role == topology.RoleOCA {
			appliances = append(appliances, i.ID)
		} else {
			cloud = append(cloud, i.ID)
		}
	}
	all := []sortNames{
		{sortRegion, v.Topology.RegionNames()}, {sortZone, zones}, {sortService, slices.Sorted(maps.Keys(roles))},
		{sortISP, isps}, {sortExchange, exchanges}, {sortAppliance, appliances}, {sortInstance, cloud},
	}
	return slices.DeleteFunc(all, func(s sortNames) bool { return len(s.names) == 0 || !slices.Contains(sorts, s.sort) })
}

// Bounds of what is listed of one sort, for planets.
const (
	mostNames  = 60
	mostGroups = 24
)

// existing lists what a target of these sorts may be, a line for each sort; of
// instances one for each zone and site, written as shells take it:
// us-east/a/{play/1,kv/1}.
func (v View) existing(sorts []string) string {
	lines := []string{"there are:"}
	add := func(sort string, names []string, sep string, most int) {
		text := strings.Join(names[:min(most, len(names))], sep)
		if more := len(names) - most; more > 0 {
			text += fmt.Sprintf("%sand %d more: flix lab status -o wide lists all", sep, more)
		}
		lines = append(lines, "    "+sort+": "+text)
	}
	for _, s := range v.names(sorts) {
		switch s.sort {
		case sortInstance, sortAppliance:
			add(s.sort, grouped(s.names), "\n      ", mostGroups)
		default:
			add(s.sort, s.names, ", ", mostNames)
		}
	}
	if len(lines) == 1 {
		return "there are none of its sort"
	}
	return strings.Join(lines, "\n")
}

// grouped puts together the ids of instances that lie at the same place.
func grouped(ids []string) []string {
	var places []string
	at := map[string][]string{}
	for _, id := range ids {
		region, rest, _ := strings.Cut(id, "/")
		zone, name, _ := strings.Cut(rest, "/")
		place := region + "/" + zone
		if at[place] == nil {
			places = append(places, place)
		}
		at[place] = append(at[place], name)
	}
	out := make([]string, len(places))
	for k, p := range places {
		out[k] = p + "/" + strings.Join(at[p], ",")
		if len(at[p]) > 1 {
			out[k] = p + "/{" + strings.Join(at[p], ",") + "}"
		}
	}
	return out
}

// instead says what was perhaps meant by a name that is none, and what there is.
func (v View) instead(name string, sorts []string) string {
	const most = 3
	var all []string
	for _, s := range v.names(sorts) {
		all = append(all, s.names...)
	}
	near := nearest(name, all, most)
	if len(near) == 0 {
		return v.existing(sorts)
	}
	return "did you mean " + services.List(near) + "? " + v.existing(sorts)
}

// nearest are at most so many of the names, those that take the fewest changes of
// a character first: at most a third of what was typed.
func nearest(typed string, names []string, most int) []string {
	const longest = 100 // nobody means a name by more
	if len(typed) > longest {
		return nil
	}
	type candidate struct {
		name string
		far  int
	}
	var near []candidate
	for _, n := range names {
		if far := distance(strings.ToLower(typed), strings.ToLower(n)); far <= max(1, len(typed)/3) {
			near = append(near, candidate{n, far})
		}
	}
	slices.SortStableFunc(near, func(a, b candidate) int { return a.far - b.far })
	near = near[:min(most, len(near))]
	out := make([]string, len(near))
	for k, c := range near {
		out[k] = c.name
	}
	return out
}

// distance is the number of characters to insert, remove or exchange, and of
// neighbours to swap, that make b of a (Damerau's, of strings that are changed at
// no place twice).
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	before, last, row := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range row {
		last[j] = j
	}
	for i := range x {
		row[0] = i + 1
		for j := range y {
			cost := 1
			if x[i] == y[j] {
				cost = 0
			}
			row[j+1] = min(last[j]+cost, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && x[i] == y[j-1] && x[i-1] == y[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(y)]
}
