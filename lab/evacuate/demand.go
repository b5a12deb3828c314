package evacuate

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// Service is what the instances of one service in a region have counted since
// they started.
type Service struct {
	Instances int
	// Extra of them an evacuation added: another one has them already.
	Extra int
	// Answered requests, and the seconds spent on them.
	Answered, BusySeconds float64
	// Limit is how many requests an instance may have under way; LimitKnown is
	// false when that is only assumed.
	Limit      float64
	LimitKnown bool
}

// planned are the roles whose demand is planned for: those that always get a
// spare instance, and the services behind them, which get what they need.
var planned = append([]topology.Role{topology.RolePlayback, topology.RoleLicense, topology.RoleSteering, topology.RoleRecommend}, scaled...)

const (
	// fullness is how much of its capacity an instance may be planned to use.
	fullness = 0.7
	// assumedMean, seconds, is the time of a request before any was measured.
	assumedMean = 0.005
	// enough requests for a mean to mean something.
	enough = 20
)

// demand measures each service over a step and works out what every saver has
// to have: the load of its own and its part of the leaving region's, at most
// fullness of what its instances can do, by Little's law, with one of them lost.
func (r *Run) demand(region string, savers []string, first, second map[string]map[topology.Role]Service, seconds float64) {
	r.add = map[string]map[topology.Role]int{}
	leaving, _ := r.Planet.Topology().Region(region)
	for _, role := range planned {
		out := r.service(role, region, savers, first, second, seconds)
		for _, s := range savers {
			r.plus(s, role, r.missing(&out, leaving, role, second[s][role], len(savers)))
		}
		r.report.Capacity.Services = append(r.report.Capacity.Services, out)
	}
}

func (r *Run) plus(saver string, role topology.Role, n int) {
	if r.add[saver] == nil {
		r.add[saver] = map[topology.Role]int{}
	}
	r.add[saver][role] = n
}

// service measures one service in all regions that matter.
func (r *Run) service(role topology.Role, region string, savers []string, first, second map[string]map[topology.Role]Service, seconds float64) control.ServiceCapacity {
	out := control.ServiceCapacity{Role: string(role)}
	var why []string
	unsteady := false
	rate := func(name string) float64 {
		a, b := first[name][role], second[name][role]
		if a.Instances != b.Instances { // what one has counted since its start is no rate
			unsteady = true
			return 0
		}
		return max(b.Answered-a.Answered, 0) / seconds
	}
	out.Demand = rate(region)
	var answered, busy, limit float64
	known := true
	for _, name := range append([]string{region}, savers...) {
		s := second[name][role]
		answered, busy = answered+s.Answered, busy+s.BusySeconds
		if name != region {
			out.Used += rate(name)
			limit = max(limit, s.Limit)
			known = known && s.LimitKnown
		}
	}
	mean := assumedMean
	if answered >= enough && busy > 0 {
		mean = busy / answered
	} else {
		why = append(why, fmt.Sprintf("too few requests to measure: %g ms a request are assumed", assumedMean*1000))
	}
	if !known && limit > 0 {
		why = append(why, fmt.Sprintf("%g requests at once are assumed for an instance", limit))
	}
	if unsteady {
		why = append(why, "an instance came or went meanwhile: no requests are assumed where it did")
	}
	out.Default = strings.Join(why, "; ")
	if limit > 0 {
		out.AtOnce, out.MeanMS = limit, mean*1000
		out.PerInstance = limit / mean
	}
	return out
}

// missing is how many instances a saver needs beyond those that it has without an
// evacuation, and books how many of them it has not yet: an evacuation that goes
// on, or comes on top of another one, has some.
func (r *Run) missing(out *control.ServiceCapacity, leaving topology.Region, role topology.Role, s Service, savers int) int {
	front := slices.Contains(scaled, role)
	if out.PerInstance <= 0 || s.Instances == 0 {
		// Nothing is known of it here: as many as the leaving region has,
		// spread over the savers.
		n := 0
		if front {
			n = r.extra(leaving, role, savers)
		}
		out.Add += max(n-s.Extra, 0)
		if out.Default == "" {
			out.Default = "nothing was measured: what the leaving region has, spread over the savers"
		}
		return n
	}
	load := (out.Demand + out.Used) / float64(savers) // of one saver, about
	need := int(math.Ceil(load/(out.PerInstance*fullness))) + 1
	n := max(need-(s.Instances-s.Extra), 0)
	if front {
		n++ // what takes over must bear a loss while it does
	}
	out.Need += need
	out.Add += max(n-s.Extra, 0)
	out.Have += s.Instances
	return n
}

// lossBorne checks that the savers bear the whole load with one instance of
// each service lost.
func (r *Run) lossBorne(savers int) error {
	for i := range r.report.Capacity.Services {
		s := &r.report.Capacity.Services[i]
		if s.PerInstance <= 0 || s.Have == 0 {
			continue
		}
		s.Limit = s.PerInstance * float64(s.Have+s.Add)
		s.LimitLessOne = s.PerInstance * float64(s.Have+s.Add-savers)
		s.Fits = s.Demand+s.Used <= s.LimitLessOne
		if !s.Fits {
			return services.Errorf(services.Exhausted, "with an instance of %s lost in each, the savers answer at most %.0f requests/s of it, and %.0f come", s.Role, s.LimitLessOne, s.Demand+s.Used).
				WithRemedy("declare more instances in the topology, or wait until the load falls")
		}
	}
	return nil
}

// watched are the services of some regions.
func (r *Run) watched(ctx context.Context, regions []string) (map[string]map[topology.Role]Service, error) {
	return inEach(ctx, regions, func(ctx context.Context, name string) (map[topology.Role]Service, error) {
		return r.Planet.Services(ctx, name, planned)
	})
}
