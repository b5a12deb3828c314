package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// diff is what an up has to do.
type diff struct {
	start []runtime.Spec
	stop  []runtime.Instance
	renew []runtime.Spec // they run as they were declared before
	same  int
}

func (l *Lab) compare(ctx context.Context, specs []runtime.Spec) (diff, error) {
	live, err := l.rt.List(ctx)
	if err != nil {
		return diff{}, err
	}
	running := map[string]runtime.Spec{}
	wanted := map[string]bool{}
	for _, s := range specs {
		wanted[s.ID] = true
	}
	var d diff
	for _, i := range live {
		switch {
		case !wanted[i.Spec.ID]:
			d.stop = append(d.stop, i)
		case i.State == runtime.Running:
			running[i.Spec.ID] = i.Spec
		}
	}
	for _, s := range specs {
		was, runs := running[s.ID]
		switch {
		case !runs:
			d.start = append(d.start, s)
		case redeclared(was, s):
			d.renew = append(d.renew, s)
		default:
			d.same++
		}
	}
	return d, nil
}

// redeclared says whether an appliance is declared otherwise than the one that
// runs: its capacity and lines, and whom its site serves, are what it was started
// with. All else that a topology says of an instance is in its name, or reaches it
// while it runs.
func redeclared(was, now runtime.Spec) bool {
	if now.Site == nil {
		return false
	}
	a, err1 := json.Marshal([]any{was.Site, was.Appliance})
	b, err2 := json.Marshal([]any{now.Site, now.Appliance})
	return err1 == nil && err2 == nil && string(a) != string(b)
}

// renew starts appliances anew as they are declared now, one after the other, so
// that the others of a site serve meanwhile. Cut short, the next up goes on.
func (l *Lab) renew(ctx context.Context, st *steps, specs []runtime.Spec) error {
	if len(specs) == 0 {
		return nil
	}
	return st.do(ctx, "renew", func(ctx context.Context) (string, error) {
		for _, s := range specs {
			if err := l.rt.Stop(ctx, []string{s.ID}, stopGrace); err != nil {
				return "", err
			}
			if err := l.rt.Start(ctx, []runtime.Spec{s}); err != nil {
				return "", err
			}
		}
		return fmt.Sprintf("%s started anew, as declared now", services.Count(len(specs), "appliance")), nil
	})
}

// timingKept says which intervals are declared otherwise than before: an instance
// takes them when it starts. "" is none.
func timingKept(name string, before *intent, now topology.Timing) string {
	if before == nil {
		return ""
	}
	var names []string
	a, b := reflect.ValueOf(before.Topology.Timing), reflect.ValueOf(now)
	for k := range a.NumField() {
		if !a.Field(k).Equal(b.Field(k)) {
			name, _, _ := strings.Cut(a.Type().Field(k).Tag.Get("yaml"), ",")
			names = append(names, "timing."+name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	return fmt.Sprintf("%s changed, and what runs keeps the old until it starts anew: flix lab stop%[2]s, then flix lab start%[2]s", strings.Join(names, ", "), nameFlag(name))
}
