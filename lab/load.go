package lab

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/flix-lab/flix/fixtures"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/input"
	"github.com/flix-lab/flix/lab/player/abr/sim"
	"github.com/flix-lab/flix/lab/traffic"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// ReasonVerdict says that what was measured is not within its limits.
const ReasonVerdict = "verdict"

// Load runs a fleet against a running lab from this process. Titles, the
// topology and who plays are filled in; names of ISPs and traces are looked up.
func Load(ctx context.Context, client *control.Client, c traffic.Config, isps, traces []string) (traffic.Result, error) {
	world, err := client.World(ctx)
	if err != nil {
		return traffic.Result{}, err
	}
	c.Topology = world.Topology
	if c.ISPs, err = ispsNamed(world.Topology, isps); err != nil {
		return traffic.Result{}, err
	}
	if c.Traces, err = tracesNamed(ctx, traces); err != nil {
		return traffic.Result{}, err
	}
	titles, err := client.Titles(ctx, "")
	if err != nil {
		return traffic.Result{}, err
	}
	for _, t := range titles.Titles {
		if t.Live {
			c.Titles = append(c.Titles, traffic.Title{ID: t.ID, Countries: t.Countries, Length: secondsOf(t.DurationS)})
		}
	}
	v, err := newFleetViewer(world)
	if err != nil {
		return traffic.Result{}, err
	}
	if c.Email == "" {
		c.SignUp = v.SignUp
	}
	return traffic.Run(ctx, v, c)
}

// ispsNamed looks ISPs up; all without names.
func ispsNamed(t topology.Topology, names []string) ([]topology.ISP, error) {
	var all, out []topology.ISP
	for _, r := range t.Regions {
		all = append(all, r.ISPs...)
	}
	if len(names) == 0 {
		return all, nil
	}
	for _, n := range names {
		isp, _, ok := t.ISP(n)
		if !ok {
			var have []string
			for _, x := range all {
				have = append(have, x.Name)
			}
			return nil, services.Errorf(services.Invalid, "--isps: no ISP is called %q", n).WithReason(services.ReasonUnknownISP).WithRemedy("the lab's ISPs are %s", strings.Join(have, ", "))
		}
		out = append(out, isp)
	}
	return out, nil
}

// allTraces stands for every trace that is built in.
const allTraces = "all"

// maxTrace bounds the file of a network trace, in bytes.
const maxTrace = 64 << 20

// tracesNamed reads network traces: names of those built in, or files.
func tracesNamed(ctx context.Context, names []string) ([]traffic.Trace, error) {
	if slices.Contains(names, allTraces) {
		names = append(slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == allTraces }), fixtures.Traces()...)
	}
	var out []traffic.Trace
	for _, n := range names {
		b, err := fixtures.Trace(n)
		if err != nil {
			b, err = input.ReadFile(ctx, n, maxTrace)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			return nil, &services.Error{Kind: services.Invalid, Err: err, Msg: fmt.Sprintf("--traces: %q is neither a trace nor a file", n),
				Remedy: fmt.Sprintf("use %s, all, or a JSON file as flix abr simulate reads it", strings.Join(fixtures.Traces(), ", "))}
		}
		p, err := sim.ParseNetwork(bytes.NewReader(b), n)
		if err != nil {
			return nil, err
		}
		out = append(out, traffic.Trace{Name: n, Periods: p})
	}
	return out, nil
}
