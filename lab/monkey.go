package lab

import (
	"context"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/fault"
	"github.com/flix-lab/flix/services"
)

// MonkeyRun is the JSON of "flix chaos monkey".
type MonkeyRun struct {
	Seed uint64 `json:"seed"`
	// Leashed says that nothing was killed.
	Leashed bool         `json:"leashed"`
	MeanS   float64      `json:"mean_s"`
	Started time.Time    `json:"started"`
	Kills   []MonkeyKill `json:"kills"`
}

// MonkeyKill is one kill, done or only planned.
type MonkeyKill struct {
	fault.Kill
	// AfterS is since the start, in seconds.
	AfterS float64 `json:"after_s"`
	// Outcome is planned, killed, spared or failed; Fault is the fault's id,
	// Reason why the lab spared it, or could not be asked.
	Outcome string `json:"outcome"`
	Fault   string `json:"fault,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

// MonkeyRequest is a monkey with how long it works.
type MonkeyRequest struct {
	fault.Monkey
	Last     time.Duration
	Unleash  bool
	TTL      time.Duration
	Progress func(MonkeyKill)
}

// Monkey works out a schedule of kills, and with Unleash lives it. What the
// lab refuses to lose is spared, with the reason. It connects for each kill anew: it
// may outlive a daemon.
func Monkey(ctx context.Context, connect func(context.Context) (*control.Client, error), r MonkeyRequest) (MonkeyRun, error) {
	out := MonkeyRun{Seed: r.Seed, Leashed: !r.Unleash, MeanS: r.Mean.Seconds(), Started: time.Now().UTC(), Kills: []MonkeyKill{}}
	c, err := connect(ctx)
	if err != nil {
		return out, err
	}
	w, err := c.World(ctx)
	if err != nil {
		return out, err
	}
	kills, err := r.Schedule(fault.View{Topology: w.Topology, Instances: w.Topology.Instances()}, out.Started.Local(), r.Last)
	if err != nil {
		return out, err
	}
	for _, k := range kills {
		m := MonkeyKill{Kill: k, AfterS: k.At.Sub(out.Started).Seconds(), Outcome: "planned"}
		if r.Unleash {
			if err := pause(ctx, time.Until(k.At)); err != nil {
				return out, nil // it was called off
			}
			m.kill(ctx, connect, r.TTL)
		}
		out.Kills = append(out.Kills, m)
		if r.Progress != nil {
			r.Progress(m)
		}
	}
	return out, nil
}

// Count is how many kills ended so.
func (r MonkeyRun) Count(outcome string) (n int) {
	for _, k := range r.Kills {
		if k.Outcome == outcome {
			n++
		}
	}
	return n
}

// kill tries one kill.
func (m *MonkeyKill) kill(ctx context.Context, connect func(context.Context) (*control.Client, error), ttl time.Duration) {
	var st control.FaultStarted
	c, err := connect(ctx)
	if err == nil {
		st, err = c.RunFault(ctx, control.FaultRequest{Request: fault.Request{Kind: "kill", Target: "instance:" + m.Instance, TTL: ttl, By: "monkey"}})
	}
	switch {
	case err == nil:
		m.Outcome, m.Fault = "killed", st.ID
	case services.KindOf(err) == services.Conflict:
		m.Outcome, m.Reason = "spared", "the lab refuses: "+err.Error()
	default:
		m.Outcome, m.Reason = "failed", err.Error()
	}
}
