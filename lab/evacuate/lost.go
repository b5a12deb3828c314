package evacuate

import (
	"context"
	"fmt"
)

// A region that is lost serves nobody: there is nothing to move gently, and
// nothing to move back to. Its viewers are served again once the savers stand
// and DNS names them, so that comes first, and canaries begin to count then.

// replace has the savers take over from a region of whose gateways none answers.
// What is set for it holds when it comes back: it is evacuated then, as after a
// planned evacuation.
func (r *Run) replace(ctx context.Context, region string, savers []string) error {
	err := r.steps(ctx, []step{
		{"scale", func(ctx context.Context) (string, error) { return r.scale(ctx, savers) }},
		{"flip", r.flip},
		{"check", func(ctx context.Context) (string, error) { return "a title plays in every saver", r.check(ctx, savers) }},
		{"sql", func(ctx context.Context) (string, error) { return r.primary(ctx, region, savers) }},
		{"dns", func(ctx context.Context) (string, error) {
			return "DNS answers with the savers", r.Planet.SetWeight(ctx, region, 0)
		}},
		{"proxy", func(ctx context.Context) (string, error) {
			return "its gateways send everything to the savers when they are back", r.Planet.SetProxy(ctx, region, 1, savers)
		}},
		{"drain", func(ctx context.Context) (string, error) {
			if err := r.Planet.SetDrain(ctx, region, true); err != nil {
				return "", err
			}
			return "DNS answers have run out", sleep(ctx, r.timing.DNSTTL.D())
		}},
	})
	if err != nil {
		return err
	}
	err = r.withCanaries(ctx, region, func(ctx context.Context) error {
		return r.steps(ctx, []step{
			{"offsets", func(ctx context.Context) (string, error) { return r.adopt(ctx, region, savers) }},
			{"verify", func(ctx context.Context) (string, error) {
				return "its viewers play from the savers", sleep(ctx, r.timing.EvacuationVerify.D())
			}},
		})
	})
	if err != nil {
		return err
	}
	return r.Planet.SetEvacuated(region, r.ID)
}

// step is a named part of a run; what it says is told.
type step struct {
	name string
	do   func(context.Context) (string, error)
}

// steps takes steps until one fails or a play does.
func (r *Run) steps(ctx context.Context, all []step) error {
	for _, s := range all {
		if err := r.step(ctx, s.name, s.do); err != nil {
			return err
		}
		if r.failures() > 0 {
			return fmt.Errorf("%s: %w", s.name, r.playFailed("a play failed"))
		}
	}
	return nil
}
