package evacuate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
)

// Failback returns traffic to an evacuated region: the same path in reverse. It
// also undoes a failover that was cut short, and takes up a failback that was. One
// that fails, or is interrupted, leaves the region evacuated as it was: the report
// says rolled_back then.
func (r *Run) Failback(ctx context.Context, region string, dryRun bool) (control.Failover, error) {
	r.begin(Return, region, dryRun)
	if err := CheckPace(r.Pace); err != nil {
		return r.end(Refused, err)
	}
	t := r.Planet.Topology()
	if _, ok := t.Region(region); !ok {
		return r.end(Refused, services.Errorf(services.NotFound, "there is no region %q", region).WithRemedy("the lab's regions are %s", strings.Join(t.RegionNames(), ", ")))
	}
	if !r.Planet.Evacuated()[region] && r.CutShort == "" {
		return r.end(Refused, services.Errorf(services.Conflict, "%s is not evacuated: there is nothing to return", region).WithRemedy("flix lab status shows which regions are evacuated"))
	}
	err := r.step(ctx, "plan", func(ctx context.Context) (string, error) {
		lacks, err := r.Planet.Lacks(ctx, []string{region})
		if why := lacks[region]; err == nil && why != "" {
			err = services.Errorf(services.Conflict, "%s is not fit to take traffic: %s", region, why).WithRemedy("bring it up first: flix lab up")
		}
		return region + " is whole", err
	})
	if err != nil {
		return r.end(Refused, err)
	}
	if dryRun {
		return r.end("planned", nil)
	}
	if err := r.begun(); err != nil {
		return r.end(Refused, err)
	}
	var savers []string
	for _, n := range t.Nearest(region) {
		if n != region && !r.Planet.Evacuated()[n] {
			savers = append(savers, n)
		}
	}
	err = r.withCanaries(ctx, region, func(ctx context.Context) error { return r.restore(ctx, region, savers) })
	switch {
	case err != nil:
		return r.stay(ctx, region, savers, cause(ctx, err))
	case r.failures() > 0:
		return r.end(Done, r.playsFailed())
	}
	return r.end(Done, nil)
}

// stay ends a failback that failed: viewers are better off with the savers, which
// have all that an evacuation gave them until the last step. Of a failover that was
// cut short nobody knows whether they can bear everything, so what it undid stays.
func (r *Run) stay(ctx context.Context, region string, savers []string, err error) (control.Failover, error) {
	if r.returned || len(savers) == 0 || !r.Planet.Evacuated()[region] {
		return r.end(Failed, err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTime)
	defer cancel()
	r.tell(r.report.Verb+".rollback", "moving the traffic to the savers again", nil)
	_, perr := r.primary(ctx, region, savers)
	back := errors.Join(
		r.give(ctx, region, 1, savers),
		r.Planet.SetWeight(ctx, region, 0),
		r.Planet.SetDrain(ctx, region, true),
		perr,
	)
	if r.ownsEvents || r.CutShort != "" { // now that nothing more comes there
		_, aerr := r.adopt(ctx, region, savers)
		back = errors.Join(back, aerr)
	}
	if back != nil {
		return r.end(Failed, errors.Join(err, fmt.Errorf("and moving it to the savers again: %w", back)))
	}
	return r.end(RolledBack, err)
}

func (r *Run) restore(ctx context.Context, region string, savers []string) error {
	back := slices.Clone(r.shares())
	slices.Reverse(back)
	if r.CutShort != "" { // nobody knows how much of it goes to the savers now
		back = []float64{1}
	}
	steps := []step{
		{"catch-up", func(ctx context.Context) (string, error) {
			if len(savers) == 0 {
				return "nobody else wrote anything", nil
			}
			return "it has what is written in " + savers[0], r.Planet.CaughtUp(ctx, region, savers[0])
		}},
		{"caches", func(ctx context.Context) (string, error) { return r.warm(ctx, []string{region}) }},
		// Before its clients are back: what they report waits for this.
		{"offsets", func(ctx context.Context) (string, error) {
			r.ownsEvents = true
			moved, err := r.Planet.ReturnEvents(ctx, region)
			return fmt.Sprintf("it handles its own events again, in %d partitions behind what a saver handled", moved), err
		}},
		{"undrain", func(ctx context.Context) (string, error) {
			return "its gateways keep connections again", r.Planet.SetDrain(ctx, region, false)
		}},
		{"dns", func(ctx context.Context) (string, error) {
			// An evacuation that was cut short may have left it so.
			if err := r.Planet.SetLeaving(ctx, region, false); err != nil {
				return "", err
			}
			return "DNS answers with it again", r.Planet.SetWeight(ctx, region, 1)
		}},
		{"sql", func(ctx context.Context) (string, error) {
			if r.Planet.Topology().Regions[0].Name != region {
				at, lost, err := r.Planet.PrimaryRegion(ctx)
				if err != nil || lost {
					return "the SQL primary stays where it is", err
				}
				return r.keepPrimary(ctx, at)
			}
			moved, err := r.Planet.MovePrimary(ctx, region)
			if !moved {
				return "the SQL primary is there already", err
			}
			return "the SQL primary moved back", err
		}},
		{"unproxy", func(ctx context.Context) (string, error) { return r.proxy(ctx, region, savers, append(back[1:], 0)) }},
		{"scale-in", func(ctx context.Context) (string, error) {
			r.returned = true
			if others(r.Planet.Evacuated(), region) {
				return "the savers keep what was added: another region is still evacuated", nil
			}
			return "what was added to the savers is gone", r.Planet.Unscale(ctx)
		}},
	}
	for _, s := range steps {
		if err := r.step(ctx, s.name, s.do); err != nil {
			return err
		}
	}
	return r.Planet.SetEvacuated(region, "")
}

// others says whether a region beside one is evacuated.
func others(gone map[string]bool, but string) bool {
	for r := range gone {
		if r != but {
			return true
		}
	}
	return false
}
