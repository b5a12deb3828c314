package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/lab/runtime/containers"
)

// ReasonDiffers is the reason of an error that says that a lab is not as it is
// wanted.
const ReasonDiffers = "lab_differs"

// Diff implements control.Engine. The daemon compares what it would make: it
// is its executable and its environment that count.
func (l *Lab) Diff(ctx context.Context) (control.Diff, error) { return Diff(ctx, l.env, l.paths) }

// Diff compares what is wanted of a lab with what is there; it changes nothing
// and needs no daemon.
func Diff(ctx context.Context, env Env, p Paths) (d control.Diff, err error) {
	l, err := look(ctx, env, p)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, l.unlook()) }()
	i := l.current()
	d = control.Diff{Lab: i.Name, Runtime: i.Runtime, Differences: []control.Difference{}}
	live, err := l.rt.List(ctx)
	if err != nil {
		return d, err
	}
	specs := mustSpecs(l, i)
	d.Differences = append(d.Differences, diffInstances(i, live)...)
	d.Differences = append(d.Differences, diffTiming(i, live)...)
	more, err := l.diffRuntime(ctx, i, specs)
	if err != nil {
		return d, err
	}
	d.Differences = append(d.Differences, more...)
	slices.SortStableFunc(d.Differences, func(a, b control.Difference) int { return strings.Compare(a.Of+" "+a.Name, b.Of+" "+b.Name) })
	d.Equal = len(d.Differences) == 0
	return d, nil
}

// diffInstances compares the instances that are wanted with those that run.
func diffInstances(i *intent, live []runtime.Instance) []control.Difference {
	have := map[string]runtime.Instance{}
	for _, x := range live {
		have[x.Spec.ID] = x
	}
	start := "flix lab start" + nameFlag(i.Name)
	up := "bring it up: flix lab up" + nameFlag(i.Name)
	var out []control.Difference
	add := func(kind, name, text, remedy string) {
		out = append(out, control.Difference{Kind: kind, Of: "instance", Name: name, Text: text, Remedy: remedy})
	}
	for _, inst := range i.instances() {
		x, there := have[inst.ID]
		delete(have, inst.ID)
		switch {
		case there && x.State == runtime.Running:
			if redeclared(x.Spec, runtime.Spec{Instance: inst}) {
				add("changed", inst.ID, "it runs as it was declared before", up)
			}
		case there && x.State == runtime.Failed:
			add("failed", inst.ID, fmt.Sprintf("it fails and is started again (%d times): %s", x.Restarts, x.Error), "see why: flix lab logs "+inst.ID)
		case i.Halted:
			add("stopped", inst.ID, "the lab is stopped as a whole", "start it: "+start)
		case i.Stopped[inst.ID]:
			add("stopped", inst.ID, "somebody asked for it", "start it: flix lab start "+inst.ID+nameFlag(i.Name))
		case there && x.Error != "":
			add("ended", inst.ID, x.Error, up)
		case there:
			add("ended", inst.ID, "it does not run", up)
		default:
			add("missing", inst.ID, "it is not there", up)
		}
	}
	for _, x := range live {
		if _, left := have[x.Spec.ID]; left {
			add("unwanted", x.Spec.ID, "nothing declares it ("+string(x.State)+")", up)
		}
	}
	return out
}

// diffRuntime compares what the runtime made for the lab with what it would
// make now.
func (l *Lab) diffRuntime(ctx context.Context, i *intent, specs []runtime.Spec) ([]control.Difference, error) {
	var out []control.Difference
	rt, ok := l.rt.(interface {
		Learn(runtime.World)
		Diff(context.Context, []runtime.Spec, bool) ([]containers.Difference, error)
	})
	if !ok {
		for host := range l.rt.Hosts() {
			if _, wanted := i.Topology.Region(host); !wanted && host != runtime.OpenConnect {
				out = append(out, control.Difference{Kind: "unwanted", Of: "host", Name: host, Text: "no region is called so", Remedy: "bring the lab to what is wanted: flix lab up" + nameFlag(i.Name)})
			}
		}
		return out, nil
	}
	rt.Learn(l.world(i, specs))
	ds, err := rt.Diff(ctx, specs, i.Halted)
	for _, x := range ds {
		x.Remedy = strings.ReplaceAll(x.Remedy, "flix lab up", "flix lab up"+nameFlag(i.Name))
		out = append(out, control.Difference(x))
	}
	return out, err
}
