package evacuate

import (
	"context"
	"fmt"
	"time"

	"github.com/flix-lab/flix/services"
)

// Pace of an evacuation.
const (
	// Fast moves in three shares.
	Fast = "fast"
	// Safe moves in more shares, and looks at each for longer.
	Safe = "safe"
)

// safeShares of a safe evacuation, and how many times a step it looks at each.
var safeShares = []float64{0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1}

const safePatience = 5

// CheckPace refuses what is no pace.
func CheckPace(pace string) error {
	switch pace {
	case "", Fast, Safe:
		return nil
	}
	return services.Errorf(services.Invalid, "--pace: there is no pace %q", pace).WithRemedy("use fast or safe")
}

func (r *Run) shares() []float64 {
	if r.Pace == Safe {
		return safeShares
	}
	return shares
}

// patience is how long one share is looked at.
func (r *Run) patience() time.Duration {
	if r.Pace == Safe {
		return safePatience * r.timing.EvacuationStep.D()
	}
	return r.timing.EvacuationStep.D()
}

// What those who get more may spend while a share is looked at.
const (
	// errorBudget is the share of their answers that may be failures, if there
	// are more than errorsAtLeast of them: clients try again, and a few failures
	// in few answers are a hiccup. What plays feel is the canaries' to say.
	errorBudget   = 0.05
	errorsAtLeast = 8
)

// spent says why regions have spent their budget between two looks: too many
// errors, or answers that on average take longer than a call may. It is "" while
// they have not.
func (r *Run) spent(before, after map[string]Edge, regions []string) string {
	for _, s := range regions {
		b, a := before[s], after[s]
		if a.Gateways != b.Gateways || a.Answered < b.Answered || a.Failed < b.Failed {
			continue // others are counted, or one started anew
		}
		answered, failed := a.Answered-b.Answered, a.Failed-b.Failed
		if failed > errorsAtLeast && float64(failed) > errorBudget*float64(answered) {
			return fmt.Sprintf("%s fails %d of %d requests: more than its error budget of %g %%", s, failed, answered, 100*errorBudget)
		}
		mean := time.Duration(0)
		if answered >= enough {
			mean = time.Duration((a.BusySeconds - b.BusySeconds) / float64(answered) * float64(time.Second))
		}
		if limit := r.timing.RPCTimeout.D(); mean > limit {
			return fmt.Sprintf("%s takes %s for an answer on average: more than its latency budget of %s", s, mean.Round(time.Millisecond), limit)
		}
	}
	return ""
}

// warm fills the cold caches of some regions from their siblings, and tells how
// many of these regions' reads missed since their caches started.
func (r *Run) warm(ctx context.Context, regions []string) (string, error) {
	warmed := 0
	var hits, misses uint64
	caches, err := inEach(ctx, regions, r.Planet.Caches)
	if err != nil {
		return "", err
	}
	for _, name := range regions {
		c := caches[name]
		hits, misses = hits+c.Hits, misses+c.Misses
		for _, zone := range c.Cold {
			if err := r.Planet.WarmCache(ctx, name, zone); err != nil {
				// A cold cache is slow, not wrong: the stores answer.
				r.tell(r.report.Verb+".note", fmt.Sprintf("the cache of %s/%s stays cold: %v", name, zone, err), nil)
				continue
			}
			warmed++
		}
	}
	text := "no cache had to be warmed"
	if warmed > 0 {
		text = fmt.Sprintf("%d zones' caches warmed", warmed)
	}
	if hits+misses > 0 {
		text += fmt.Sprintf("; %.0f %% of reads missed so far", 100*float64(misses)/float64(hits+misses))
	}
	return text, nil
}

// Caches are a region's cache servers together.
type Caches struct {
	Hits, Misses uint64
	// Cold zones hold far less than their siblings.
	Cold []string
}

// Miss ratios of the savers that a share waits for, and how often.
const (
	missLimit = 0.8
	missLooks = 10
	missReads = 100
)

// settleCaches waits, a bounded time, until some regions' caches answer most reads
// of a share: a cold one would pass its load to the stores. before is what they
// had counted when the share began, after what they have when it was watched.
func (r *Run) settleCaches(ctx context.Context, regions []string, before, after Caches) error {
	for n := 1; mostMissed(before, after); n++ {
		if n == missLooks {
			r.tell(r.report.Verb+".note", "the caches of "+services.List(regions)+" still miss most reads", nil)
			return nil
		}
		if err := sleep(ctx, r.timing.EvacuationStep.D()); err != nil {
			return err
		}
		next, err := r.reads(ctx, regions)
		if err != nil {
			return err
		}
		before, after = after, next
	}
	return nil
}

// mostMissed says whether caches missed most reads between two looks, if there were
// enough to say.
func mostMissed(before, after Caches) bool {
	hits, misses := after.Hits-min(before.Hits, after.Hits), after.Misses-min(before.Misses, after.Misses)
	return hits+misses >= missReads && float64(misses) > missLimit*float64(hits+misses)
}

func (r *Run) reads(ctx context.Context, regions []string) (Caches, error) {
	var sum Caches
	each, err := inEach(ctx, regions, r.Planet.Caches)
	for _, c := range each {
		sum.Hits, sum.Misses = sum.Hits+c.Hits, sum.Misses+c.Misses
	}
	return sum, err
}
