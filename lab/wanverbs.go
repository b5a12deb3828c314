package lab

import (
	"context"
	"fmt"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// maxCut bounds a partition: it ends by itself, and nobody means a day.
const maxCut = time.Hour

// Cut implements control.Engine: it cuts two regions apart for a while, or
// takes every cut back. It returns when every process of the lab knows.
func (l *Lab) Cut(ctx context.Context, r control.CutRequest) (control.WAN, error) {
	end, err := l.begin(ctx, "lab wan")
	if err != nil {
		return control.WAN{}, err
	}
	defer end()
	i, err := l.need()
	if err != nil {
		return control.WAN{}, err
	}
	cuts := []runtime.Cut{}
	if !r.Heal {
		d := time.Duration(r.ForMS * float64(time.Millisecond))
		switch a, b := r.Between[0], r.Between[1]; {
		case a == b:
			return control.WAN{}, services.Errorf(services.Invalid, "%s cannot be cut off from itself", a).WithRemedy("name two regions")
		case d <= 0 || d > maxCut:
			return control.WAN{}, services.Errorf(services.Invalid, "--for: %s is not between 0 and %s", d, maxCut).WithRemedy("write it like 30s")
		}
		for _, name := range r.Between {
			if _, ok := i.Topology.Region(name); !ok {
				return control.WAN{}, services.Errorf(services.NotFound, "there is no region %q", name).WithRemedy("the lab has %s", services.List(i.Topology.RegionNames()))
			}
		}
		for _, c := range i.Cuts {
			if c.Until.After(time.Now()) && !samePair(c.Between, r.Between) {
				cuts = append(cuts, c)
			}
		}
		cuts = append(cuts, runtime.Cut{Between: r.Between, Until: time.Now().Add(d).UTC()})
	}
	if err := l.changeIntent(func(i *intent) { i.Cuts = cuts }); err != nil {
		return control.WAN{}, err
	}
	i = l.current()
	if err := l.rt.SetWorld(ctx, l.world(i, mustSpecs(l, i))); err != nil {
		return control.WAN{}, err
	}
	if r.Heal {
		l.log.Add("wan.heal", l.paths.Name, "all regions reach one another again", nil)
	} else {
		l.log.Add("wan.cut", r.Between[0], fmt.Sprintf("nothing passes between %s and %s for %.0f s", r.Between[0], r.Between[1], r.ForMS/1000), nil)
	}
	return l.WAN(ctx)
}

func samePair(a, b [2]string) bool { return a == b || a == [2]string{b[1], b[0]} }

// WAN implements control.Engine: what lies between the regions, and what of the
// lab's traffic feels it.
func (l *Lab) WAN(context.Context) (control.WAN, error) {
	i, err := l.need()
	if err != nil {
		return control.WAN{}, err
	}
	out := control.WAN{Links: []control.WANLink{}}
	names := i.Topology.RegionNames()
	for k, a := range names {
		for _, b := range names[k+1:] {
			link := control.WANLink{Between: [2]string{a, b}, RTTMS: float64(i.Topology.RTT(a, b).D().Microseconds()) / 1000}
			for _, c := range i.Cuts {
				if samePair(c.Between, link.Between) && c.Until.After(time.Now()) {
					link.CutUntil = &c.Until
				}
			}
			out.Links = append(out.Links, link)
		}
	}
	out.Shaped = []string{"calls between services", "replication of SQL and of Kafka topics", "fill", "players"}
	if kv := "replication of the kv"; i.Runtime == ContainersRuntime && i.Topology.Containers.Network == topology.HostNetwork {
		out.Unshaped = []string{kv + ": on the host's network a node cannot tell from where another calls"}
	} else {
		out.Shaped = append(out.Shaped, kv)
	}
	return out, nil
}

// notes are what the status of a lab says of its WAN.
func notes(w control.WAN) []string {
	var out []string
	for _, u := range w.Unshaped {
		out = append(out, "not emulated: "+u)
	}
	for _, link := range w.Links {
		if link.CutUntil != nil {
			out = append(out, fmt.Sprintf("%s and %s are cut apart for %s (flix lab wan heal)", link.Between[0], link.Between[1], time.Until(*link.CutUntil).Round(time.Second)))
		}
	}
	return out
}
