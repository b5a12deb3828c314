package fault

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// Monkey schedules kills in the manner of Netflix's Chaos Monkey: each group of
// instances loses one at random, with a mean time in between, within working
// hours, and not those that are excepted. The same seed and the same lab give
// the same schedule. It kills nobody itself.
type Monkey struct {
	Seed uint64
	// Mean time between two kills of a group; times in between are exponential,
	// so that no kill tells anything about the next.
	Mean time.Duration
	// Only and Except are targets (see Request); none is everything and nothing.
	Only, Except []string
	// From and To are the hours of the day in which it kills, local time, since
	// midnight; equal is all day.
	From, To time.Duration
	// Weekdays leaves Saturdays and Sundays alone.
	Weekdays bool
}

// Kill is one kill of a schedule.
type Kill struct {
	At       time.Time `json:"at"`
	Group    string    `json:"group"`
	Instance string    `json:"instance"`
}

// maxKills bounds a schedule.
const maxKills = 10000

// Schedule lists the kills from a point in time on, in order. Groups are the
// services of each region, and the appliances of each site.
func (m Monkey) Schedule(v View, from time.Time, last time.Duration) ([]Kill, error) {
	if m.Mean < time.Second {
		return nil, services.Errorf(services.Invalid, "--mean: %s between two kills of a group is less than a second", m.Mean).WithRemedy("write it like 1m")
	}
	groups, err := m.groups(v)
	if err != nil {
		return nil, err
	}
	var out []Kill
	for _, g := range groups {
		h := fnv.New64a()
		_, _ = h.Write([]byte(g.name)) // a hash never fails
		rng := rand.New(rand.NewPCG(m.Seed, h.Sum64()))
		for at := from; ; {
			at = at.Add(time.Duration(-math.Log(1-rng.Float64()) * float64(m.Mean)))
			victim := g.ids[rng.IntN(len(g.ids))]
			if at.Sub(from) > last || len(out) >= maxKills {
				break
			}
			if m.works(at) {
				out = append(out, Kill{at, g.name, victim})
			}
		}
	}
	slices.SortFunc(out, func(a, b Kill) int { return cmp.Or(a.At.Compare(b.At), strings.Compare(a.Group, b.Group)) })
	return out, nil
}

// works says whether a point in time is one at which it kills.
func (m Monkey) works(at time.Time) bool {
	if d := at.Weekday(); m.Weekdays && (d == time.Saturday || d == time.Sunday) {
		return false
	}
	if m.From == m.To {
		return true
	}
	t := time.Duration(at.Hour())*time.Hour + time.Duration(at.Minute())*time.Minute + time.Duration(at.Second())*time.Second
	if m.From < m.To {
		return t >= m.From && t < m.To
	}
	return t >= m.From || t < m.To // over midnight
}

type group struct {
	name string
	ids  []string
}

// groups are those that the monkey visits.
func (m Monkey) groups(v View) ([]group, error) {
	only, err := m.named(v, m.Only)
	if err != nil {
		return nil, err
	}
	except, err := m.named(v, m.Except)
	if err != nil {
		return nil, err
	}
	var out []group
	for _, i := range v.Instances {
		if len(m.Only) > 0 && !only[i.ID] || except[i.ID] {
			continue
		}
		name := fmt.Sprintf("%s@%s", i.Role, i.Region)
		if i.Role == topology.RoleOCA {
			name = fmt.Sprintf("%s@%s", i.Role, i.Zone)
		}
		k := slices.IndexFunc(out, func(g group) bool { return g.name == name })
		if k < 0 {
			k = len(out)
			out = append(out, group{name: name})
		}
		out[k].ids = append(out[k].ids, i.ID)
	}
	if len(out) == 0 {
		return nil, services.Errorf(services.Invalid, "nothing is left for the monkey").WithRemedy("except less, or name more with --only")
	}
	return out, nil
}

func (m Monkey) named(v View, targets []string) (map[string]bool, error) {
	out := map[string]bool{}
	for _, name := range targets {
		t, err := v.resolve(name, lives)
		if err != nil {
			return nil, err
		}
		for _, id := range t.ids() {
			out[id] = true
		}
	}
	return out, nil
}
