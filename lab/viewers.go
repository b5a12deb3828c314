package lab

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/fault"
	"github.com/flix-lab/flix/lab/fault/experiment"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// Feel makes the viewer's network suffer the faults between its places and the
// lab's, until their own ends.
func (v *Viewer) Feel(faults []fault.Fault) { v.table.Impose(rulesOf(faults)) }

// feelEvery is how often a viewer asks for the network's faults.
const feelEvery = 300 * time.Millisecond

// Follow has the viewer feel the lab's faults of the network as they come and
// go, until ctx ends. While the daemon does not answer, what was known holds to
// its end.
func (v *Viewer) Follow(ctx context.Context, c *control.Client) {
	tick := time.NewTicker(feelEvery)
	defer tick.Stop()
	for {
		if fs, err := c.NetworkFaults(ctx); err == nil {
			v.Feel(fs)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// NetworkFaults implements control.Engine: the faults of the network, with the
// addresses of their sides.
func (l *Lab) NetworkFaults(context.Context) ([]fault.Fault, error) {
	i, err := l.need()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(l.addressed(i), func(f fault.Fault) bool { return f.Effect.Link == nil }), nil
}

// fleet plays for experiments from this process.
type fleet struct {
	v     *Viewer
	title string
}

var _ experiment.Viewers = fleet{}

// Play implements experiment.Viewers.
func (f fleet) Play(ctx context.Context, v experiment.Viewer) experiment.Play {
	title := v.Title
	if title == "" {
		title = f.title
	}
	o := PlayOptions{
		Title: title, Email: DemoEmail, Password: DemoPassword, Region: v.Region, ISP: v.ISP, IP: v.Client, Device: v.Device,
		Bandwidth: v.Bandwidth, Speed: v.Speed, Seconds: v.Seconds,
	}
	r, err := f.v.Play(ctx, o)
	p := experiment.Play{
		Session: r.SessionID, DelayMS: r.PlayDelayMS, PlayedS: r.SecondsPlayed, RebufferS: r.RebufferS, Rebuffers: r.Rebuffers,
		Switches: r.ApplianceSwitches, AnsweredBy: r.Region,
	}
	for _, a := range r.Appliances {
		p.Exchange = p.Exchange || a.Kind == string(topology.SiteExchange) && a.Bytes > 0
	}
	switch {
	case err != nil:
		p.Error = err.Error()
	case !r.ChecksumOK:
		p.Error = "nothing was played, or not what was published"
	}
	return p
}

// bench is a lab as an experiment sees it.
type bench struct {
	c *control.Client
	t topology.Topology
}

var _ experiment.Lab = bench{}

func (b bench) Topology() topology.Topology { return b.t }

func (b bench) Plan(ctx context.Context, r fault.Request) error {
	_, err := b.c.RunFault(ctx, control.FaultRequest{Request: r, DryRun: true})
	return err
}

func (b bench) RunFault(ctx context.Context, r fault.Request) (fault.Fault, error) {
	s, err := b.c.RunFault(ctx, control.FaultRequest{Request: r})
	return s.Fault, err
}

// StopFault implements experiment.Lab: a fault that is over need not be ended.
func (b bench) StopFault(ctx context.Context, id string) error {
	_, err := b.c.StopFaults(ctx, control.FaultStop{IDs: []string{id}})
	if k := services.KindOf(err); err != nil && (k == services.Conflict || k == services.NotFound) {
		return nil
	}
	return err
}

func (b bench) Commands(ctx context.Context) (map[string]map[string]uint64, error) {
	cs, err := b.c.Commands(ctx, control.CommandQuery{})
	if err != nil {
		return nil, err
	}
	out := map[string]map[string]uint64{}
	for _, c := range cs.Commands {
		if out[c.Name] == nil {
			out[c.Name] = map[string]uint64{}
		}
		for e, n := range c.Events {
			out[c.Name][e] += n
		}
	}
	return out, nil
}

func (b bench) Sessions(ctx context.Context) (map[string]bool, error) {
	ss, err := b.c.Sessions(ctx)
	out := map[string]bool{}
	for _, s := range ss {
		out[s.Session] = true
	}
	return out, err
}

// Title implements experiment.Lab: viewers ask for a title by either, whatever the case.
func (b bench) Title(ctx context.Context, idOrName string) error {
	ts, err := b.c.Titles(ctx, "")
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(ts.Titles, func(t control.Title) bool {
		return strings.EqualFold(t.ID, idOrName) || strings.EqualFold(t.Name, idOrName)
	}) {
		return services.Errorf(services.NotFound, "there is no title %q", idOrName).WithReason(services.ReasonNoTitle).WithRemedy("flix title ls lists what there is")
	}
	return nil
}

// Reasons of the verdicts of experiments that are no success.
const (
	ReasonHypothesisFails = "hypothesis_fails"
	ReasonAborted         = "experiment_aborted"
	ReasonInconclusive    = "experiment_inconclusive"
)

// Experiment tries an experiment on a running lab, with viewers in this process.
func Experiment(ctx context.Context, c *control.Client, e experiment.Experiment, progress func(string)) (experiment.Result, error) {
	v, w, err := watching(ctx, c)
	if err != nil {
		return experiment.Result{}, err
	}
	defer v.stop()
	if e.Traffic.Title == "" {
		if e.Traffic.Title, err = canaryTitle(); err != nil {
			return experiment.Result{}, err
		}
	}
	return experiment.Run(ctx, e, experiment.Config{Lab: bench{c, w.Topology}, Viewers: fleet{v.Viewer, e.Traffic.Title}, Progress: progress})
}

// CheckExperiment says what a running lab has against an experiment, and plays
// nothing.
func CheckExperiment(ctx context.Context, c *control.Client, s experiment.Source) error {
	w, err := c.World(ctx)
	if err != nil {
		return err
	}
	return s.Check(ctx, bench{c, w.Topology})
}

// following is a viewer that feels the lab's faults until it is stopped.
type following struct {
	*Viewer
	stop func()
}

// watching returns a viewer of the lab as it is now.
func watching(ctx context.Context, c *control.Client) (following, control.World, error) {
	w, err := c.World(ctx)
	if err != nil {
		return following{}, w, err
	}
	v, err := NewViewer(w, nil)
	if err != nil {
		return following{}, w, err
	}
	fctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() { defer close(done); v.Follow(fctx, c) }()
	return following{v, func() { cancel(); <-done }}, w, nil
}
