package evacuate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/services"
)

// rollbackTime bounds the way back of a failed evacuation.
const rollbackTime = 20 * time.Second

func (r *Run) evacuate(ctx context.Context, region string, savers []string) error {
	// The savers' own plays need nothing of what is added: they are not waited for
	// until it is there.
	checked, stop := r.checking(ctx, savers)
	defer stop()
	// Neither do caches: they are looked at, and filled, while instances start.
	warmed, cool := r.warming(ctx, savers)
	defer cool()
	growing := r.shares()
	growing = growing[:len(growing)-1] // the last one goes with DNS
	if err := r.loosen(ctx, region); err != nil {
		return err
	}
	err := r.steps(ctx, []step{
		{"scale", func(ctx context.Context) (string, error) { return r.scale(ctx, savers) }},
		{"caches", func(context.Context) (string, error) { return warmed() }},
		{"flip", r.flip},
		{"check", func(ctx context.Context) (string, error) { return "a title plays in every saver", checked() }},
		{"proxy", func(ctx context.Context) (string, error) { return r.proxy(ctx, region, savers, growing) }},
		{"dns", func(ctx context.Context) (string, error) { return r.leaveDNS(ctx, region, savers) }},
		{"sql", func(ctx context.Context) (string, error) { return r.primary(ctx, region, savers) }},
		{"drain", func(ctx context.Context) (string, error) { return r.drain(ctx, region) }},
		{"offsets", func(ctx context.Context) (string, error) { return r.adopt(ctx, region, savers) }},
		{"verify", func(ctx context.Context) (string, error) { return r.verify(ctx, region) }},
	})
	if err != nil {
		return err
	}
	return r.Planet.SetEvacuated(region, r.ID)
}

// loosen makes ready, long before DNS moves, for viewers to follow it at once: what
// they were told of the region runs out meanwhile, and connections to it are no
// longer kept, since who has one does not ask.
func (r *Run) loosen(ctx context.Context, region string) error {
	if err := r.Planet.SetLeaving(ctx, region, true); err != nil {
		return err
	}
	r.leaving = r.Clock()
	return r.Planet.SetDrain(ctx, region, true)
}

func (r *Run) scale(ctx context.Context, savers []string) (string, error) {
	added, err := r.Planet.Scale(ctx, r.add)
	if err != nil {
		return "", err
	}
	total := 0
	for k, s := range savers {
		total += len(added[s])
		r.report.Savers[k].Added = append(r.report.Savers[k].Added, added[s]...)
	}
	return fmt.Sprintf("%s beyond the declared ones at %s; what is new is dark: the registry has it as STARTING", services.Count(total, "instance"), services.Count(len(savers), "saver")), nil
}

// flip has what was added take work, after the time of a step in which it finds
// its own way around: it fetches the registry and opens its connections.
func (r *Run) flip(ctx context.Context) (string, error) {
	if err := sleep(ctx, r.patience()); err != nil {
		return "", err
	}
	n, err := r.Planet.Light(ctx)
	return fmt.Sprintf("%d of them were dark; they answer and are UP", n), err
}

// beside runs something while other steps are taken. The first function waits for
// it, the second ends what is under way; that has to be called.
func beside(ctx context.Context, all ...func(context.Context)) (wait, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, f := range all {
		wg.Go(func() { f(ctx) })
	}
	return wg.Wait, func() {
		cancel()
		wg.Wait()
	}
}

// warming looks at the savers' caches, and fills them.
func (r *Run) warming(ctx context.Context, savers []string) (wait func() (string, error), stop func()) {
	var (
		text string
		err  error
	)
	done, stop := beside(ctx, func(ctx context.Context) { text, err = r.warm(ctx, savers) })
	return func() (string, error) {
		done()
		return text, err
	}, stop
}

// checking begins a play near every saver: one that cannot serve its own viewers
// shall not get more. The first function waits for the plays and counts them.
func (r *Run) checking(ctx context.Context, savers []string) (wait func() error, stop func()) {
	errs := make([]error, len(savers))
	var plays []func(context.Context)
	for k, s := range savers {
		plays = append(plays, func(ctx context.Context) { errs[k] = r.Planet.PlayIn(ctx, s) })
	}
	done, stop := beside(ctx, plays...)
	return func() error {
		done()
		var first error
		for k, s := range savers {
			if err := r.played(ctx, s, errs[k]); err != nil && first == nil {
				first = &services.Error{Kind: services.Unavailable, Reason: services.ReasonPlayFailed, Err: err,
					Msg: fmt.Sprintf("a play near %s fails: it cannot save another region", s), Remedy: "mend it first: flix lab status, flix events"}
			}
		}
		return first
	}, stop
}

func (r *Run) proxy(ctx context.Context, region string, savers []string, steps []float64) (string, error) {
	for _, share := range steps {
		if err := r.give(ctx, region, share, savers); err != nil {
			return "", err
		}
		if err := r.settle(ctx, region, share, savers); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("its gateways send %.0f%% to the savers", steps[len(steps)-1]*100), nil
}

// give has the region's gateways send a share of its requests to the savers.
func (r *Run) give(ctx context.Context, region string, share float64, savers []string) error {
	if err := r.Planet.SetProxy(ctx, region, share, savers); err != nil {
		return err
	}
	r.report.Shares = append(r.report.Shares, fmt.Sprintf("%.0f%%", share*100))
	r.tell(r.report.Verb+".share", fmt.Sprintf("%.0f%% of its requests go to the savers", share*100), map[string]any{"share": share})
	return nil
}

// leaveDNS is the last share, and DNS with it: once the share before has been
// borne, whoever asks anew is sent to the savers, and whoever still has an
// answer is proxied there. None of it waits until the share has been watched: what is
// under way then is the end of the RTO.
func (r *Run) leaveDNS(ctx context.Context, region string, savers []string) (string, error) {
	if err := r.give(ctx, region, 1, savers); err != nil {
		return "", err
	}
	if err := r.Planet.SetWeight(ctx, region, 0); err != nil {
		return "", err
	}
	r.moved = r.Clock()
	return "DNS answers with the savers, and its gateways send them all that still comes", r.settle(ctx, region, 1, savers)
}

// settle watches one share: for a step's time, and until a play that began with it
// has ended, no canary may fail.
func (r *Run) settle(ctx context.Context, region string, share float64, savers []string) error {
	plays, cancel := context.WithCancel(ctx)
	defer cancel()
	played := make(chan error, 1)
	go func() { played <- r.play(plays, region) }()
	err := r.bear(ctx, share, r.gaining(region, savers))
	if err != nil {
		cancel()
	}
	switch perr := <-played; {
	case err != nil:
		return err
	case perr != nil || r.failures() > 0:
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return r.playFailed(fmt.Sprintf("plays fail with %.0f%% of the requests at the savers", share*100))
	}
	return nil
}

// gaining are the regions that get more to do as shares change.
func (r *Run) gaining(region string, savers []string) []string {
	if r.report.Verb == Return {
		return []string{region}
	}
	return savers
}

// bear looks, for a step's time, whether those who get more bear a share. What it saw at
// the end of the share before is where this one begins: an answer that fails in
// between counts.
func (r *Run) bear(ctx context.Context, share float64, regions []string) error {
	before := r.seen
	if before == nil {
		first, err := r.look(ctx, regions)
		if err != nil {
			return err
		}
		before = &first
	}
	if err := sleep(ctx, r.patience()); err != nil {
		return err
	}
	after, err := r.look(ctx, regions)
	if err != nil {
		return err
	}
	r.seen = &after
	if why := r.spent(before.edges, after.edges, regions); why != "" && (share > 0 || r.report.Verb == Return) {
		return services.Errorf(services.Exhausted, "with %.0f%% of the requests at the savers %s", share*100, why).WithRemedy("%s; more instances there may help", r.remedy())
	}
	return r.settleCaches(ctx, regions, before.reads, after.reads)
}

// look is what the savers' gateways and caches have counted.
type look struct {
	edges map[string]Edge
	reads Caches
}

func (r *Run) look(ctx context.Context, savers []string) (l look, err error) {
	var g errgroup.Group
	g.Go(func() (err error) { l.edges, err = r.edges(ctx, savers); return err })
	g.Go(func() (err error) { l.reads, err = r.reads(ctx, savers); return err })
	err = g.Wait()
	return l, err
}

func (r *Run) primary(ctx context.Context, leaving string, savers []string) (string, error) {
	at, lost, err := r.Planet.PrimaryRegion(ctx)
	switch {
	case err != nil:
		return "", err
	case at != leaving && lost:
		return "the SQL primary is in " + at + ", which does not answer", nil
	case at != leaving:
		return r.keepPrimary(ctx, at)
	case lost:
		// A rollback leaves it where it is: there is nothing to go back to.
		to, err := r.Planet.TakePrimary(ctx, savers)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("the SQL node of %s does not answer: %s is primary from what it has", leaving, to), nil
	}
	to := savers[0]
	r.movedSQL = true
	if _, err := r.Planet.MovePrimary(ctx, to); err != nil {
		return "", err
	}
	return "the SQL primary moved to " + to, nil
}

// keepPrimary leaves the SQL primary in a region; where a move was cut short, it
// takes writes again.
func (r *Run) keepPrimary(ctx context.Context, at string) (string, error) {
	opened, err := r.Planet.MovePrimary(ctx, at)
	if opened {
		return "the SQL primary in " + at + " takes writes again: a move had been cut short", err
	}
	return "the SQL primary is in " + at, err
}

// adopt hands the events that the region has not handled to a saver.
func (r *Run) adopt(ctx context.Context, region string, savers []string) (string, error) {
	r.movedEvents = true
	a, err := r.Planet.AdoptEvents(ctx, region, savers)
	switch {
	case err != nil:
		return "", err
	case a.Saver == "":
		return "there is no stream pipeline to hand over", nil
	case a.Lost:
		return fmt.Sprintf("%s goes on with its events from the last checkpoint, %d of them", a.Saver, a.Waiting), nil
	}
	return fmt.Sprintf("%s goes on with its events, %d of them not handled yet", a.Saver, a.Waiting), nil
}

// drain waits until the answers that DNS gave before it moved have run out.
func (r *Run) drain(ctx context.Context, region string) (string, error) {
	long, short := r.leaving.Add(r.timing.DNSTTL.D()), r.moved.Add(r.timing.LeavingTTL())
	if err := sleep(ctx, max(long.Sub(r.Clock()), short.Sub(r.Clock()))); err != nil {
		return "", err
	}
	if err := r.Planet.SetLeaving(ctx, region, false); err != nil {
		return "", err
	}
	e, err := r.Planet.Edge(ctx, region)
	return fmt.Sprintf("DNS answers have run out, %d requests in flight", e.Inflight), err
}

// verify waits until no client request has reached the region for a while. It
// gives up on clients that ignore DNS after some time: they are proxied, and
// counted.
func (r *Run) verify(ctx context.Context, region string) (string, error) {
	quiet, giveUp := r.timing.EvacuationVerify.D(), r.Clock().Add(10*r.timing.EvacuationVerify.D())
	last, err := r.Planet.Edge(ctx, region)
	if err != nil {
		return "", err
	}
	since := r.Clock()
	for r.Clock().Sub(since) < quiet && r.Clock().Before(giveUp) {
		if err := sleep(ctx, quiet/10); err != nil {
			return "", err
		}
		e, err := r.Planet.Edge(ctx, region)
		if err != nil {
			return "", err
		}
		if e.ClientRequests != last.ClientRequests {
			last, since = e, r.Clock()
		}
	}
	r.report.RTOMS = max(0, float64(last.LastClient.Sub(r.report.Started).Microseconds())/1000)
	// Declared empty now: whatever comes after is a client that should not.
	if err := sleep(ctx, quiet/2); err != nil {
		return "", err
	}
	e, err := r.Planet.Edge(ctx, region)
	if err != nil {
		return "", err
	}
	if e.ClientRequests > last.ClientRequests {
		r.report.RequestsInRegionAfter = e.ClientRequests - last.ClientRequests
	}
	return fmt.Sprintf("the last client request was answered there %.0f ms after the start", r.report.RTOMS), nil
}

func (r *Run) rollback(ctx context.Context, region string) error {
	r.tell(r.report.Verb+".rollback", "moving the traffic back", nil)
	errs := []error{
		r.Planet.SetDrain(ctx, region, false),
		r.Planet.SetWeight(ctx, region, 1),
		r.Planet.SetLeaving(ctx, region, false),
		r.Planet.SetProxy(ctx, region, 0, nil),
		r.Planet.SetEvacuated(region, ""),
	}
	if r.movedSQL {
		_, err := r.Planet.MovePrimary(ctx, region)
		errs = append(errs, err)
	}
	if r.movedEvents {
		_, err := r.Planet.ReturnEvents(ctx, region)
		errs = append(errs, err)
	}
	if len(r.Planet.Evacuated()) == 0 { // another one lives on what was added
		errs = append(errs, r.Planet.Unscale(ctx))
	}
	return errors.Join(errs...)
}
