package experiment

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/flix-lab/flix/lab/fault"
	"github.com/flix-lab/flix/services"
)

// Source is an experiment and where in its file each field stands.
type Source struct {
	Experiment Experiment
	file       string
	lines      map[string]int
}

// Written is a Source of an experiment that stands in no file of its own.
func Written(e Experiment, file string) Source { return Source{Experiment: e, file: file} }

// Check has a lab say what it has against an experiment, as Run would before any
// traffic, and all of it. The error is Invalid and holds Problems; it is another
// where the lab cannot tell.
func (s Source) Check(ctx context.Context, lab Lab) error {
	p := &parser{file: s.file, lines: s.lines}
	r := &runner{Config: Config{Lab: lab}, e: s.Experiment}
	for _, x := range r.refusals(ctx) {
		if !x.told() {
			return services.Wrap(s.file, x)
		}
		p.add(p.at(x.field), x.field, x.err.Error(), remedyOf(x.err))
	}
	return p.err()
}

// refusal is what a lab has against a field of an experiment.
type refusal struct {
	field string
	err   error
}

func (x refusal) Error() string { return x.field + ": " + x.err.Error() }
func (x refusal) Unwrap() error { return x.err }

// told says whether it is about what is written: others are about the lab.
func (x refusal) told() bool {
	switch services.KindOf(x.err) {
	case services.Invalid, services.NotFound:
		return true
	}
	return slices.Contains([]string{fault.ReasonNoRegion, fault.ReasonQuorum, fault.ReasonFaulted}, services.ReasonOf(x.err))
}

// refusals places the groups, and says all that the lab refuses.
func (r *runner) refusals(ctx context.Context) []refusal {
	if out := r.place(); len(out) > 0 {
		return out // what follows is about the places
	}
	var (
		out     []refusal
		order   []int // steps as they begin: none is refused for one that is itself
		refused []int
	)
	for k := range r.e.Method {
		order = append(order, k)
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(r.e.Method[a].At, r.e.Method[b].At) })
	for _, k := range order {
		if err := r.Lab.Plan(ctx, r.planned(k, refused...)); err != nil {
			out = append(out, refusal{fmt.Sprintf("method[%d]%s", k, r.e.Method[k].part(err)), err})
			refused = append(refused, k)
		}
	}
	if title := r.e.Traffic.Title; title != "" {
		if err := r.Lab.Title(ctx, title); err != nil {
			out = append(out, refusal{"traffic.title", err})
		}
	}
	return append(out, r.unheard(ctx)...)
}

// part is the field of a step that an error names the value of.
func (s Step) part(err error) string {
	for _, f := range []struct{ name, value string }{{".target", s.Target}, {".to", s.To}} {
		if f.value != "" && services.KindOf(err) == services.NotFound && strings.Contains(err.Error(), strconv.Quote(f.value)) {
			return f.name
		}
	}
	return ""
}

// unheard are expectations of commands that nothing in the lab has: they would
// be counted as never seen.
func (r *runner) unheard(ctx context.Context) []refusal {
	if !slices.ContainsFunc(r.e.Expect, func(x Expectation) bool { return x.See == "command" }) {
		return nil
	}
	have, err := r.Lab.Commands(ctx)
	if err != nil {
		return []refusal{{"expect", err}}
	}
	var out []refusal
	for k, x := range r.e.Expect {
		if _, ok := have[x.Command]; x.See == "command" && !ok {
			out = append(out, refusal{fmt.Sprintf("expect[%d].command", k), services.Errorf(services.NotFound, "there is no command %q", x.Command).WithRemedy("there are %s", services.List(slices.Sorted(maps.Keys(have))))})
		}
	}
	return out
}
