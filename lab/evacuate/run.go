package evacuate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/topology"
)

// Run is one evacuation or failback.
type Run struct {
	Planet Planet
	// ID of the report.
	ID string
	// Progress gets every step and every failed canary.
	Progress func(kind, text string, data map[string]any)
	// Begun is called once the plan stands, before anything is moved, with the
	// time of the report; nil is nothing to do. What is refused before it has not
	// begun.
	Begun func(started time.Time) error
	// CutShort is the verb of a move of the region that began and did not end; ""
	// is none. The same verb goes on with it, the other one undoes it. Since is
	// when it began, if it is the same.
	CutShort string
	Since    time.Time
	// Pace is Fast or Safe; "" is Fast.
	Pace string
	// Clock is time.Now but in tests.
	Clock func() time.Time

	report  control.Failover
	timing  topology.Timing
	mu      sync.Mutex
	plays   int
	failed  int
	lastErr error
	// movedSQL says that the SQL primary left the region.
	movedSQL bool
	// leaving is since when DNS answers that lead to the region are kept for less
	// time, moved when there were no more of them.
	leaving, moved time.Time
	// seen is the last look at the savers while a share was watched; nil before the
	// first.
	seen *look
	// lost says that none of the region's gateways answers.
	lost bool
	// sick says that plays near the region fail before anything is moved.
	sick bool
	// left says that viewers of a region that is lost or sick may be elsewhere.
	left bool
	// ownsEvents says that a failback has the region handle its events, returned that
	// it has returned everything: the savers lose what they were given for it.
	ownsEvents, returned bool
	// movedEvents says that a saver may handle the region's events.
	movedEvents bool
	// add is how many instances of a role each saver has on top of its own, those
	// of an evacuation before this one among them.
	add map[string]map[topology.Role]int
}

// shares are the growing parts of a region's requests that its gateways send
// to the savers; the last is all of them.
var shares = []float64{0.1, 0.5, 1}

// scaled are the roles that take the traffic of an evacuated region.
var scaled = []topology.Role{topology.RoleSignup, topology.RoleDiscovery, topology.RolePlay, topology.RoleGateway}

// The verbs.
const (
	Leave  = "failover"
	Return = "failback"
)

// Do is Failover or Failback, by the verb.
func (r *Run) Do(ctx context.Context, verb, region string, dryRun bool) (control.Failover, error) {
	if verb == Return {
		return r.Failback(ctx, region, dryRun)
	}
	return r.Failover(ctx, region, dryRun)
}

// Failover evacuates a region. One that was cut short is taken up: every step is
// one that may be taken again. The report is meaningful beside an error too:
// what had been moved has then been moved back.
func (r *Run) Failover(ctx context.Context, region string, dryRun bool) (control.Failover, error) {
	r.begin(Leave, region, dryRun)
	if err := CheckPace(r.Pace); err != nil {
		return r.end(Refused, err)
	}
	probed, stop := func() {}, func() {}
	if !dryRun {
		probed, stop = r.probing(ctx, region)
	}
	defer stop()
	savers, err := r.plan(ctx, region)
	if err != nil {
		return r.end(Refused, err)
	}
	if dryRun {
		return r.end("planned", nil)
	}
	if r.lost {
		stop() // nobody needs to be told that plays fail there
	} else {
		probed()
	}
	r.forgetTrials()
	if r.CutShort != "" { // an attempt before this one may have moved them
		r.movedSQL = r.Planet.Topology().Regions[0].Name == region
		r.movedEvents = true
	}
	if err := r.begun(); err != nil {
		return r.end(Refused, err)
	}
	if r.lost || r.sick {
		err = r.replace(ctx, region, savers)
	} else {
		err = r.withCanaries(ctx, region, func(ctx context.Context) error { return r.evacuate(ctx, region, savers) })
	}
	err = cause(ctx, err)
	if err != nil && r.left { // moving back would send viewers to where nobody is
		return r.end(Failed, err)
	}
	if err != nil {
		back, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTime)
		defer cancel()
		if rerr := r.rollback(back, region); rerr != nil {
			return r.end(Failed, errors.Join(err, fmt.Errorf("and rolling back: %w", rerr)))
		}
		return r.end(RolledBack, err)
	}
	if r.failures() > 0 { // the last canary, after everything was moved
		return r.end(Done, r.playsFailed())
	}
	return r.end(Done, nil)
}

func (r *Run) begin(verb, region string, dryRun bool) {
	if r.Clock == nil {
		r.Clock = time.Now
	}
	r.timing = r.Planet.Topology().Timing
	r.report = control.Failover{ID: r.ID, Verb: verb, Region: region, DryRun: dryRun, State: "planned", Started: r.started(), Steps: []control.Step{}, Savers: []control.Saver{}, Capacity: control.Capacity{Services: []control.ServiceCapacity{}}}
}

func (r *Run) started() time.Time {
	if !r.Since.IsZero() {
		return r.Since.UTC()
	}
	return r.Clock().UTC()
}

// States of a report that others act on: what was moved, what did not begin, what
// ended half-moved, and what ended as it had begun.
const (
	Done       = "done"
	Refused    = "refused"
	Failed     = "failed"
	RolledBack = "rolled_back"
)

func (r *Run) begun() error {
	if r.Begun == nil {
		return nil
	}
	return r.Begun(r.report.Started)
}

func (r *Run) end(state string, err error) (control.Failover, error) {
	r.report.State = state
	r.mu.Lock()
	r.report.PlaysDuring, r.report.PlaysFailed = r.plays, r.failed
	r.mu.Unlock()
	if err != nil {
		r.report.Error = err.Error()
	}
	return r.report, err
}

// cause is why a run ended: once it is cancelled all that was under way fails, and
// that tells nothing.
func cause(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	return fmt.Errorf("interrupted: %w", ctx.Err())
}

func (r *Run) step(ctx context.Context, name string, f func(context.Context) (string, error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	at := r.Clock()
	text, err := f(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	took := float64(r.Clock().Sub(at).Microseconds()) / 1000
	r.report.Steps = append(r.report.Steps, control.Step{Name: name, MS: took})
	r.tell(r.report.Verb+".step", text, map[string]any{"step": name, "ms": took})
	return nil
}

func (r *Run) tell(kind, text string, data map[string]any) {
	if r.Progress != nil {
		r.Progress(kind, text, data)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
