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

// existing says what a target of these sorts may be: all of them where they are a
// few, else how many and an example.
func (v View) existing(sorts []string) string {
	const few = 6
	var parts []string
	for _, s := range v.names(sorts) {
		text := s.sort + ": " + strings.Join(s.names, ", ")
		if len(s.names) > few {
			text = fmt.Sprintf("%s: %d like %s", s.sort, len(s.names), s.names[0])
		}
		parts = append(parts, text)
	}
	if len(parts) == 0 {
		return "there are none of its sort"
	}
	return "there are: " + strings.Join(parts, "; ") + ". flix lab status -o wide lists all"
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
