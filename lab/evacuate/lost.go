package evacuate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
)

// A region that is lost serves nobody, and plays near one that is sick fail:
// there is nothing to move gently, and nothing to move back to. Its viewers are
// served again once the savers stand and their requests go there, so that comes
// first, and canaries begin to count then.

// trials are the plays that show whether the plays near a region succeed.
const trials = 2

// probing plays near the region before anything is moved, while the plan is made:
// when that fails it is no failure of the move, and the reason for haste. The
// first function waits for the plays.
func (r *Run) probing(ctx context.Context, region string) (wait, stop func()) {
	errs := make([]error, trials)
	var plays []func(context.Context)
	for k := range errs {
		plays = append(plays, func(ctx context.Context) { errs[k] = r.Planet.Play(ctx, region) })
	}
	done, stop := beside(ctx, plays...)
	return func() {
		done()
		if err := errors.Join(errs...); err != nil && ctx.Err() == nil {
			r.sick = true
			r.tell(r.report.Verb+".note", fmt.Sprintf("plays near %s fail already: everything is moved at once (%v)", region, cmp.Or(errs...)), nil)
		}
	}, stop
}

// replace has the savers take over from a region that serves its viewers no
// more. What is set for it holds when it comes back: it is evacuated then, as
// after a planned evacuation.
func (r *Run) replace(ctx context.Context, region string, savers []string) error {
	proxy := step{"proxy", func(ctx context.Context) (string, error) {
		return "its gateways send everything to the savers, or will when they are back", r.Planet.SetProxy(ctx, region, 1, savers)
	}}
	verify := step{"verify", func(ctx context.Context) (string, error) {
		return "its viewers play from the savers", sleep(ctx, r.timing.EvacuationVerify.D())
	}}
	take := []step{
		{"sql", func(ctx context.Context) (string, error) { return r.primary(ctx, region, savers) }},
		{"dns", func(ctx context.Context) (string, error) {
			return "DNS answers with the savers", r.Planet.SetWeight(ctx, region, 0)
		}},
	}
	if r.sick { // its gateways are there: they help at once
		take = append([]step{proxy}, take...)
		verify.do = func(ctx context.Context) (string, error) { return r.verify(ctx, region) }
	} else {
		take = append(take, proxy)
	}
	r.left = r.CutShort != ""
	checked, stop := r.checking(ctx, savers)
	defer stop()
	err := r.steps(ctx, []step{
		{"scale", func(ctx context.Context) (string, error) { return r.scale(ctx, savers) }},
		{"flip", r.flip},
		{"check", func(ctx context.Context) (string, error) { return "a title plays in every saver", checked() }},
	})
	if err != nil {
		return err
	}
	r.left = true
	err = r.steps(ctx, append(take, step{
		"drain", func(ctx context.Context) (string, error) {
			if err := r.Planet.SetDrain(ctx, region, true); err != nil {
				return "", err
			}
			return "DNS answers have run out", sleep(ctx, r.timing.DNSTTL.D())
		},
	}))
	if err != nil {
		return err
	}
	err = r.withCanaries(ctx, region, func(ctx context.Context) error {
		return r.steps(ctx, []step{
			{"offsets", func(ctx context.Context) (string, error) { return r.adopt(ctx, region, savers) }},
			verify,
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
