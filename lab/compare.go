package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/flix-lab/flix/lab/control"
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

// timingChanged names the intervals that are declared otherwise than before.
func timingChanged(before, now topology.Timing) []string {
	var names []string
	a, b := reflect.ValueOf(before), reflect.ValueOf(now)
	for k := range a.NumField() {
		if !a.Field(k).Equal(b.Field(k)) {
			name, _, _ := strings.Cut(a.Type().Field(k).Tag.Get("yaml"), ",")
			names = append(names, "timing."+name)
		}
	}
	slices.Sort(names)
	return names
}

// TimingKept says of intervals that were declared otherwise what becomes of them
// in a lab that runs: an instance takes them when it starts. "" is none.
func TimingKept(name string, changed []string) string {
	if len(changed) == 0 {
		return ""
	}
	return fmt.Sprintf("%s changed, and what runs keeps the old until it starts anew: %s", strings.Join(changed, ", "), startAnew(name))
}

// startAnew is how a lab starts anew and keeps what it holds.
func startAnew(name string) string {
	return fmt.Sprintf("flix lab stop%[1]s, then flix lab start%[1]s", nameFlag(name))
}

// pastTiming is what intervals were until a moment.
type pastTiming struct {
	Until  time.Time       `json:"until"`
	Timing topology.Timing `json:"timing"`
}

// pastTimings are kept of a lab, at most.
const pastTimings = 20

// retime takes other intervals, and remembers what those were that run.
func (i *intent) retime(at time.Time, now topology.Timing) {
	if len(i.Topology.Regions) > 0 && i.Topology.Timing != now {
		i.Past = append(i.Past, pastTiming{at, i.Topology.Timing})
		i.Past = i.Past[max(0, len(i.Past)-pastTimings):]
	}
}

// timingAt is what intervals an instance has that started then.
func (i *intent) timingAt(started time.Time) topology.Timing {
	for _, p := range i.Past {
		if started.Before(p.Until) {
			return p.Timing
		}
	}
	return i.Topology.Timing
}

// diffTiming says what runs with intervals that are declared otherwise now.
func diffTiming(i *intent, live []runtime.Instance) []control.Difference {
	var changed []string
	n := 0
	for _, x := range live {
		if x.State != runtime.Running {
			continue
		}
		if names := timingChanged(i.timingAt(x.Started), i.Topology.Timing); len(names) > 0 {
			n++
			changed = append(changed, names...)
		}
	}
	if n == 0 {
		return nil
	}
	slices.Sort(changed)
	return []control.Difference{{Kind: "changed", Of: "lab", Name: i.Name,
		Text:   fmt.Sprintf("%s as declared before in %s", strings.Join(slices.Compact(changed), ", "), services.Count(n, "instance")),
		Remedy: "start them anew: " + startAnew(i.Name)}}
}
