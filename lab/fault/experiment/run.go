package experiment

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/flix-lab/flix/lab/fault"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// Viewers plays as somebody. Play returns when the play has ended; what went
// wrong is in the Play.
type Viewers interface {
	Play(ctx context.Context, v Viewer) Play
}

// Viewer is who plays what.
type Viewer struct {
	Region, ISP, Device, Title string
	Client                     netip.Addr
	Seconds, Speed             float64
	Bandwidth                  topology.Rate
}

// Play is what became of one play.
type Play struct {
	Session string `json:"session,omitempty"`
	Group   string `json:"group"`
	// Phase is baseline, settle, fault or recovery.
	Phase  string `json:"phase"`
	Region string `json:"region"` // near which
	Client string `json:"client"`
	// AtMS and EndMS are since the experiment began.
	AtMS  float64 `json:"at_ms"`
	EndMS float64 `json:"end_ms"`
	// DelayMS is from asking to play to the first segment.
	DelayMS   float64 `json:"play_delay_ms"`
	PlayedS   float64 `json:"played_s"`
	RebufferS float64 `json:"rebuffer_s"`
	Rebuffers int     `json:"rebuffers"`
	// Switches of the appliance; Exchange says that bytes came from one.
	Switches int  `json:"appliance_switches"`
	Exchange bool `json:"exchange"`
	// AnsweredBy is the region that answered.
	AnsweredBy string `json:"answered_by"`
	Error      string `json:"error,omitempty"`
	// Speed of its clock: stalls are of wall clock, media is not.
	Speed float64 `json:"-"`
}

// Lab is what an experiment breaks and looks at.
type Lab interface {
	// Plan fails as RunFault would, and changes nothing.
	Plan(ctx context.Context, r fault.Request) error
	// RunFault begins a fault and returns its id.
	RunFault(ctx context.Context, r fault.Request) (fault.Fault, error)
	// StopFault ends one; one that is over is no error.
	StopFault(ctx context.Context, id string) error
	// Commands counts what became of the calls of resilience commands, by
	// command and event, over the lab.
	Commands(ctx context.Context) (map[string]map[string]uint64, error)
	// Sessions are those that the pipeline has seen.
	Sessions(ctx context.Context) (map[string]bool, error)
	// Title fails with NotFound if no title has this id or name.
	Title(ctx context.Context, idOrName string) error
	Topology() topology.Topology
}

// The groups and the phases.
const (
	control    = "control"
	treated    = "experiment"
	inBaseline = "baseline"
	inSettle   = "settle"
	inFault    = "fault"
	inRecovery = "recovery"
)

// Config of a run.
type Config struct {
	Lab     Lab
	Viewers Viewers
	// Progress hears of what happens; it may be nil.
	Progress func(text string)
	// Clock tells the time; nil is time.Now.
	Clock func() time.Time
}

// runner is one experiment under way.
type runner struct {
	Config
	e     Experiment
	begun time.Time
	// noted wakes who waits for plays.
	noted chan struct{}

	mu     sync.Mutex
	plays  []Play
	faults []fault.Fault
	began  time.Time // of the fault phase
	ended  time.Time
	abort  string
	cancel context.CancelFunc
}

// maxPlays bounds the plays that are remembered.
const maxPlays = 50000

// Run tries an experiment. An error means that it could not be tried; what came
// of it, good or bad, is in the Result.
func Run(ctx context.Context, e Experiment, c Config) (Result, error) {
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	r := &runner{Config: c, e: e, noted: make(chan struct{}, 1)}
	if refused := r.refusals(ctx); len(refused) > 0 {
		return Result{}, refused[0]
	}
	return r.run(ctx)
}

// planned is a step beside those that are in force when it begins, but for refused
// ones: what each of them leaves alone, all of them may take.
func (r *runner) planned(k int, refused ...int) fault.Request {
	at := func(j int) (begin, end time.Duration, req fault.Request) {
		s := r.e.Method[j]
		req = r.scoped(s.request(r.e, s.At.D()))
		return s.At.D(), s.At.D() + req.TTL, req
	}
	begin, _, out := at(k)
	for j := range r.e.Method {
		if b, end, req := at(j); j != k && !slices.Contains(refused, j) && (b < begin || b == begin && j < k) && begin < end {
			out.Beside = append(out.Beside, req)
		}
	}
	return out
}

func (r *runner) run(ctx context.Context) (Result, error) {
	ctx, r.cancel = context.WithCancel(ctx)
	defer r.cancel()
	r.begun = r.Clock()
	before, err := r.Lab.Commands(ctx)
	if err != nil {
		return Result{}, err
	}
	traffic, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	for _, group := range []string{control, treated} {
		for k := range r.e.Traffic.Viewers {
			wg.Go(func() { r.watchOn(ctx, traffic, group, k) })
		}
	}
	if err = r.phases(ctx); err != nil {
		r.cancel() // nobody plays on for nothing
	}
	stop()
	wg.Wait()
	r.lift()
	if r.aborted() == "" && err != nil {
		return Result{}, err
	}
	look, done := context.WithTimeout(context.WithoutCancel(ctx), lookTime)
	defer done()
	after, cerr := r.Lab.Commands(look)
	return r.judge(look, before, after), cerr
}

// lookTime bounds the look at the lab after the experiment.
const lookTime = 30 * time.Second

// phases goes through the experiment.
func (r *runner) phases(ctx context.Context) error {
	r.Progress(fmt.Sprintf("baseline: %d viewers in each group for %s", r.e.Traffic.Viewers, r.e.Phases.Baseline))
	if err := sleep(ctx, r.e.Phases.Baseline.D()); err != nil {
		return err
	}
	if err := r.compared(ctx); err != nil {
		return err
	}
	r.mu.Lock()
	r.began = r.Clock()
	r.mu.Unlock()
	start := r.began
	for _, s := range sorted(r.e.Method) {
		if err := sleep(ctx, s.At.D()-r.Clock().Sub(start)); err != nil {
			return err
		}
		f, err := r.Lab.RunFault(ctx, r.scoped(s.request(r.e, s.At.D())))
		if err != nil {
			return services.Wrap(s.Kind+" on "+s.Target, err)
		}
		r.mu.Lock()
		r.faults = append(r.faults, f)
		r.mu.Unlock()
		r.Progress("fault: " + f.String() + " (" + f.ID + ")")
	}
	if err := sleep(ctx, r.e.Phases.Fault.D()-r.Clock().Sub(start)); err != nil {
		return err
	}
	r.mu.Lock()
	r.ended = r.Clock()
	r.mu.Unlock()
	r.lift()
	r.Progress("recovery: the faults are lifted")
	return sleep(ctx, r.e.Phases.Recovery.D())
}

// compared waits until there is something to compare with, where the plays of
// before are that: on a machine that is busy a play takes longer than the
// baseline was declared for, and one that is under way when the fault begins
// counts for the fault. It waits for no longer than a baseline and a play.
func (r *runner) compared(ctx context.Context) error {
	if r.e.Groups.By != "time" {
		return nil
	}
	t := r.e.Traffic
	ctx, cancel := context.WithTimeoutCause(ctx, r.e.Phases.Baseline.D()+time.Duration(t.Seconds/max(t.Speed, 0.001)*float64(time.Second)), errLate)
	defer cancel()
	for told := false; ; told = true {
		r.mu.Lock()
		n := len(r.plays)
		r.mu.Unlock()
		if n >= leastPlays {
			return nil
		}
		if !told {
			r.Progress(fmt.Sprintf("baseline: it is longer, %d of %d plays to compare with are over", n, leastPlays))
		}
		select {
		case <-r.noted:
		case <-ctx.Done():
			if context.Cause(ctx) == errLate {
				return nil // the verdict says that they are too few
			}
			return ctx.Err()
		}
	}
}

// errLate says that a longer baseline did not help.
var errLate = errors.New("the baseline has been long enough")

// lift ends what the experiment has broken. It is done whatever happened.
func (r *runner) lift() {
	r.mu.Lock()
	faults := r.faults
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), lookTime)
	defer cancel()
	for k, f := range faults {
		if !f.Until.IsZero() && r.Clock().Before(f.Until) || f.Until.IsZero() && f.Effect.Lasting() {
			if err := r.Lab.StopFault(ctx, f.ID); err != nil {
				r.Progress(fmt.Sprintf("%s is not lifted and lapses by itself at %s: %v", f.ID, f.Until.Local().Format(time.TimeOnly), err))
				continue
			}
			r.mu.Lock()
			r.faults[k].Until = r.Clock()
			r.mu.Unlock()
		}
	}
}

// watchOn has one viewer of a group play, again and again, until traffic ends.
func (r *runner) watchOn(ctx, traffic context.Context, group string, k int) {
	for n := 0; traffic.Err() == nil; n++ {
		v := r.viewer(group, k, n)
		at := r.Clock()
		p := r.Viewers.Play(ctx, v)
		if ctx.Err() != nil && p.Error != "" {
			return // it was cut off: that is nobody's failure
		}
		p.Group, p.Region, p.Client, p.Speed = group, v.Region, v.Client.String(), v.Speed
		r.note(p, at, r.Clock())
		pause := r.e.Traffic.Pause.D()
		if p.Error != "" {
			pause = max(pause, failPause)
		}
		_ = sleep(traffic, pause) // the end of traffic ends the loop
	}
}

// failPause keeps viewers that fail at once from asking in a tight loop.
const failPause = 200 * time.Millisecond

// note files a play, and ends the experiment if that was one too many.
func (r *runner) note(p Play, at, end time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() {
		select {
		case r.noted <- struct{}{}:
		default:
		}
	}()
	p.AtMS, p.EndMS = since(r.begun, at), since(r.begun, end)
	p.Phase = r.phase(at, end)
	if len(r.plays) < maxPlays {
		r.plays = append(r.plays, p)
	}
	if p.Group != treated || r.began.IsZero() || r.abort != "" {
		return
	}
	n := r.e.Abort.Plays
	if last := latest(r.plays, n); len(last) == n {
		m := measure(last, 0)
		switch {
		case r.e.Abort.ErrorRatio > 0 && m.ErrorRatio.Value > r.e.Abort.ErrorRatio:
			r.abort = fmt.Sprintf("%d of the last %d plays of the experiment group failed, more than %g", m.Failed, n, r.e.Abort.ErrorRatio)
		case r.e.Abort.RebufferRatio > 0 && m.RebufferRatio > r.e.Abort.RebufferRatio:
			r.abort = fmt.Sprintf("the last %d plays of the experiment group stalled for %.2f of their time, more than %g", n, m.RebufferRatio, r.e.Abort.RebufferRatio)
		default:
			return
		}
		r.Progress("aborted: " + r.abort)
		r.cancel()
	}
}

func (r *runner) aborted() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.abort
}

// phase is which one a play counts for: the fault's if it was under way in it,
// but not if it began before the fault was noticed.
func (r *runner) phase(at, end time.Time) string {
	settled := r.began.Add(r.e.Phases.Settle.D())
	switch {
	case r.began.IsZero() || end.Before(r.began):
		return inBaseline
	case !r.ended.IsZero() && at.After(r.ended):
		return inRecovery
	case !at.Before(r.began) && at.Before(settled):
		return inSettle
	}
	return inFault
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return errors.Join(ctx.Err(), context.Cause(ctx))
	case <-t.C:
		return nil
	}
}

func since(a, b time.Time) float64 { return float64(b.Sub(a).Microseconds()) / 1000 }
