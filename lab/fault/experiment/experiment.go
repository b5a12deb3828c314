package experiment

import (
	"time"

	"github.com/flix-lab/flix/lab/fault"
	"github.com/flix-lab/flix/topology"
)

// Duration is a time in text, "10s".
type Duration = topology.Duration

// Experiment is a hypothesis and how it is tried.
type Experiment struct {
	// Name is the file's, Title says what is shown in a line, and Claim which
	// statement about the system it stands for.
	Name  string `yaml:"name" json:"name"`
	Title string `yaml:"title" json:"title"`
	Claim string `yaml:"claim" json:"claim"`
	// Seed of everything that is random; the same seed asks for the same
	// viewers.
	Seed uint64 `yaml:"seed" json:"seed"`
	// Traffic is what each of the two groups does.
	Traffic Traffic `yaml:"traffic" json:"traffic"`
	// Groups says how the groups differ: client (a fault of calls that is
	// scoped to the experiment group's addresses), region (the control group
	// is near another region), time (the control group plays before the fault).
	Groups Groups `yaml:"groups" json:"groups"`
	Phases Phases `yaml:"phases" json:"phases"`
	// Method are the faults, each from the beginning of the fault phase on.
	Method []Step `yaml:"method" json:"method"`
	// SteadyState are the bounds that hold for the experiment group while
	// things are broken.
	SteadyState Bounds `yaml:"steady_state" json:"steady_state"`
	// Abort ends it at once.
	Abort Abort `yaml:"abort" json:"abort"`
	// Expect is what must be seen besides: that the fault was felt where it
	// should be, or that something took over.
	Expect []Expectation `yaml:"expect" json:"expect,omitempty"`
	// Margin is by how much the error ratio of the experiment group may exceed
	// the control group's without being called worse.
	Margin float64 `yaml:"margin" json:"margin"`
}

// Traffic is the plays of one group.
type Traffic struct {
	// Viewers play at once, each one title after another.
	Viewers int `yaml:"viewers" json:"viewers"`
	// Seconds of media of each play, at Speed times real time.
	Seconds float64 `yaml:"seconds" json:"seconds"`
	Speed   float64 `yaml:"speed" json:"speed"`
	// Region the experiment group is near; "" is the lab's first. ISP it is
	// with; "" is any of the region's.
	Region string `yaml:"region" json:"region,omitempty"`
	ISP    string `yaml:"isp" json:"isp,omitempty"`
	Device string `yaml:"device" json:"device,omitempty"`
	// Bandwidth of each viewer's access; 0 is no cap.
	Bandwidth topology.Rate `yaml:"bandwidth" json:"bandwidth,omitempty"`
	// Title to play; "" is the most popular.
	Title string `yaml:"title" json:"title,omitempty"`
	// Pause between two plays of a viewer.
	Pause Duration `yaml:"pause" json:"pause"`
}

// Groups tells the two groups apart.
type Groups struct {
	By string `yaml:"by" json:"by"`
	// Control is the region of the control group where the groups differ by
	// region; "" is the lab's last.
	Control string `yaml:"control" json:"control,omitempty"`
}

// Phases are how long each part lasts. Plays that have begun are played to
// their end.
type Phases struct {
	Baseline Duration `yaml:"baseline" json:"baseline"`
	Fault    Duration `yaml:"fault" json:"fault"`
	Recovery Duration `yaml:"recovery" json:"recovery"`
	// Settle is a time after the fault begins whose new plays do not count:
	// what it takes to notice.
	Settle Duration `yaml:"settle" json:"settle"`
}

// Step is a fault of the method.
type Step struct {
	Kind   string            `yaml:"kind" json:"kind"`
	Target string            `yaml:"target" json:"target"`
	To     string            `yaml:"to" json:"to,omitempty"`
	Params map[string]string `yaml:"params" json:"params,omitempty"`
	// At is how long after the fault phase began.
	At Duration `yaml:"at" json:"at"`
	// TTL is how long it lasts; 0 is to the end of the phase.
	TTL Duration `yaml:"ttl" json:"ttl,omitempty"`
	// Force accepts a broken quorum.
	Force bool `yaml:"force" json:"force,omitempty"`
}

// Bound is a figure's least and most.
type Bound struct {
	Min *float64 `yaml:"min" json:"min,omitempty"`
	Max *float64 `yaml:"max" json:"max,omitempty"`
}

// Bounds are those of the steady state.
type Bounds struct {
	StartsPerSecond *Bound `yaml:"starts_per_second" json:"starts_per_second,omitempty"`
	// ErrorRatio is plays that failed ÷ plays, RebufferRatio stalled ÷ stalled
	// and played time.
	ErrorRatio    *Bound `yaml:"error_ratio" json:"error_ratio,omitempty"`
	RebufferRatio *Bound `yaml:"rebuffer_ratio" json:"rebuffer_ratio,omitempty"`
	// P99MS is of the time from asking to play to the first segment, in
	// milliseconds.
	P99MS *Bound `yaml:"p99_ms" json:"p99_ms,omitempty"`
}

// Abort is when viewers have suffered enough.
type Abort struct {
	// ErrorRatio and RebufferRatio of the experiment group's last Plays.
	ErrorRatio    float64 `yaml:"error_ratio" json:"error_ratio"`
	RebufferRatio float64 `yaml:"rebuffer_ratio" json:"rebuffer_ratio"`
	Plays         int     `yaml:"plays" json:"plays"`
}

// Expectation is something that must be seen in the fault phase.
type Expectation struct {
	// See names it: appliance_switches, rebuffers, served_by_exchange,
	// answered_elsewhere, sessions_seen or command.
	See string `yaml:"see" json:"see"`
	// Command and Event are of resilience commands: how often this command had
	// that event (failure, short_circuited, fallback_success, …).
	Command string `yaml:"command" json:"command,omitempty"`
	Event   string `yaml:"event" json:"event,omitempty"`
	Bound   `yaml:",inline"`
}

// request is a step as a fault is asked for.
func (s Step) request(e Experiment, elapsed time.Duration) fault.Request {
	ttl := s.TTL.D()
	if ttl == 0 {
		ttl = e.Phases.Fault.D() - elapsed
	}
	p := map[string]string{}
	for k, v := range s.Params {
		p[k] = v
	}
	r := fault.Request{Kind: s.Kind, Target: s.Target, To: s.To, Params: p, TTL: max(ttl, time.Second), Force: s.Force, By: "experiment " + e.Name}
	if k, err := fault.KindOf(s.Kind); err == nil && !k.Reverts {
		r.TTL = 0
	}
	return r
}
