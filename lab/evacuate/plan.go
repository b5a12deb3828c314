package evacuate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// plan refuses what cannot be, picks the savers and does the arithmetic.
func (r *Run) plan(ctx context.Context, region string) ([]string, error) {
	t := r.Planet.Topology()
	if _, ok := t.Region(region); !ok {
		return nil, services.Errorf(services.NotFound, "there is no region %q", region).WithRemedy("the lab's regions are %s", strings.Join(t.RegionNames(), ", "))
	}
	gone := r.Planet.Evacuated()
	if gone[region] && r.CutShort == "" {
		return nil, services.Errorf(services.Conflict, "%s is evacuated already", region).WithRemedy("return its traffic with: flix failback %s", region)
	}
	var (
		savers []string
		unfit  []error
	)
	err := r.step(ctx, "plan", func(ctx context.Context) (string, error) {
		others := slices.DeleteFunc(t.Nearest(region), func(name string) bool { return name == region || gone[name] })
		lacks, err := r.Planet.Lacks(ctx, others)
		if err != nil {
			return "", err
		}
		for _, name := range others {
			if why := lacks[name]; why != "" {
				if err := r.tryOut(ctx, name, why); err != nil {
					unfit = append(unfit, err)
					continue
				}
			}
			savers = append(savers, name)
		}
		if len(savers) == 0 && r.failures() > 0 {
			return "", &services.Error{Kind: services.Unavailable, Reason: services.ReasonPlayFailed, Err: errors.Join(unfit...), Msg: "no region can take its traffic", Remedy: "mend them first: flix lab up starts what is missing"}
		}
		if len(savers) == 0 {
			return "", services.Errorf(services.Conflict, "%s is the last healthy region: nobody could take its traffic; 1 of %s can serve viewers now, 1 − 1 = 0 afterwards", region, services.Count(len(t.Regions), "region")).WithRemedy("bring another region up first: flix failback REGION, or flix lab up --regions N")
		}
		return "savers: " + strings.Join(savers, ", "), r.capacity(ctx, region, savers)
	})
	return savers, err
}

// tryOut plays near a region that is not whole, when its edge is there: what
// it lacks may not matter to a play. It says why the region cannot save.
func (r *Run) tryOut(ctx context.Context, region, why string) error {
	e, err := r.Planet.Edge(ctx, region)
	if err == nil && e.Gateways == 0 {
		err = errors.New("none of its gateways answers")
	}
	if err == nil {
		err = r.playIn(ctx, region)
	}
	if err == nil {
		r.tell(r.report.Verb+".note", fmt.Sprintf("%s is not whole (%s), but a title plays there", region, why), nil)
		return nil
	}
	r.tell(r.report.Verb+".note", fmt.Sprintf("%s cannot save: %s", region, why), nil)
	return fmt.Errorf("%s: %s: %w", region, why, err)
}

// planLook is how long a plan that nobody waits for measures, at least: requests
// come in lumps.
const planLook = 2 * time.Second

// capacity compares what the region serves with what the savers can. By
// Little's law a gateway that may have c requests in flight and spends w
// seconds on each answers c/w of them per second; w is measured. That is no more
// than its limit: processors are not counted, as the regions of a lab share those of
// one machine, and an evacuation leaves the sum of what they do as it is.
func (r *Run) capacity(ctx context.Context, region string, savers []string) error {
	all := append([]string{region}, savers...)
	first, before, err := r.loads(ctx, all)
	if err != nil {
		return err
	}
	look := r.timing.EvacuationStep.D()
	if r.report.DryRun {
		look = max(look, planLook)
	}
	at := r.Clock()
	if err := sleep(ctx, look); err != nil {
		return err
	}
	second, after, err := r.loads(ctx, all)
	if err != nil {
		return err
	}
	took := r.Clock().Sub(at).Seconds() // asking takes its time, too, on a busy machine
	if r.lost = second[region].Gateways == 0; r.lost {
		r.tell(r.report.Verb+".note", region+" is lost: none of its gateways answers", nil)
	}
	rate := func(name string) float64 {
		a, b := first[name], second[name]
		if b.ClientRequests < a.ClientRequests || b.Gateways != a.Gateways { // one started anew, or others are counted
			return 0
		}
		return float64(b.ClientRequests-a.ClientRequests) / took
	}
	r.demand(region, savers, before, after, took)
	c := control.Capacity{Demand: rate(region), Services: r.report.Capacity.Services}
	for _, s := range savers {
		e := second[s]
		c.Used += rate(s)
		r.report.Savers = append(r.report.Savers, control.Saver{Region: s, Share: 1 / float64(len(savers)), Added: []string{}})
		if e.Gateways == 0 {
			continue
		}
		add := max(r.add[s][topology.RoleGateway]-after[s][topology.RoleGateway].Extra, 0)
		mean := assumedMean // before the first request there is nothing to measure
		if e.Answered > 0 && e.BusySeconds > 0 {
			mean = e.BusySeconds / float64(e.Answered)
		}
		c.Limit += float64(e.Concurrency) / float64(e.Gateways) * float64(e.Gateways+add) / mean
	}
	c.Fits = c.Demand+c.Used <= c.Limit
	r.report.Capacity = c
	if !c.Fits {
		return services.Errorf(services.Exhausted, "the savers answer at most %.0f requests/s and serve %.0f; %s brings %.0f more", c.Limit, c.Used, region, c.Demand).WithRemedy("declare more gateways in the topology, or wait until the load falls")
	}
	return r.lossBorne(len(savers))
}

// loads are the edges and the services of some regions.
func (r *Run) loads(ctx context.Context, regions []string) (edges map[string]Edge, watched map[string]map[topology.Role]Service, err error) {
	var g errgroup.Group
	g.Go(func() (err error) { edges, err = r.edges(ctx, regions); return err })
	g.Go(func() (err error) { watched, err = r.watched(ctx, regions); return err })
	return edges, watched, g.Wait()
}

func (r *Run) edges(ctx context.Context, regions []string) (map[string]Edge, error) {
	return inEach(ctx, regions, r.Planet.Edge)
}

// inEach asks something of some regions, side by side.
func inEach[T any](ctx context.Context, regions []string, ask func(ctx context.Context, region string) (T, error)) (map[string]T, error) {
	out := make(map[string]T, len(regions))
	var mu sync.Mutex
	var g errgroup.Group
	for _, name := range regions {
		g.Go(func() error {
			v, err := ask(ctx, name)
			mu.Lock()
			defer mu.Unlock()
			out[name] = v
			return err
		})
	}
	return out, g.Wait()
}

// extra is how many instances of a role each saver gets on top: the leaving
// region's, spread over the savers.
func (r *Run) extra(leaving topology.Region, role topology.Role, savers int) int {
	n, ok := leaving.Services[role]
	if !ok {
		n = topology.DefaultServices(len(leaving.Zones))[role]
	}
	return int(math.Ceil(float64(n) / float64(savers)))
}
