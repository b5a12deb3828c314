package lab

import (
	"context"
	"fmt"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/evacuate"
)

// sentinelLook is how often regions are looked at.
const sentinelLook = time.Second

// FailoverWatch implements control.Engine.
func (l *Lab) FailoverWatch(context.Context) (control.FailoverWatch, error) {
	i, err := l.need()
	if err != nil {
		return control.FailoverWatch{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	w := control.FailoverWatch{On: i.Watching, Regions: []evacuate.Symptom{}}
	w.Regions = append(w.Regions, l.symptoms...)
	return w, nil
}

// SetFailoverWatch implements control.Engine.
func (l *Lab) SetFailoverWatch(ctx context.Context, r control.FailoverWatchRequest) (control.FailoverWatch, error) {
	if _, err := l.need(); err != nil {
		return control.FailoverWatch{}, err
	}
	if err := l.changeIntent(func(i *intent) { i.Watching = r.On }); err != nil {
		return control.FailoverWatch{}, err
	}
	text := "regions are no longer watched"
	if r.On {
		text = "regions are watched: one that is sick is evacuated"
	}
	l.log.Add("failover.watch", l.paths.Name, text, nil)
	return l.FailoverWatch(ctx)
}

// Vitals implements control.Engine.
func (l *Lab) Vitals(ctx context.Context) ([]evacuate.Vitals, error) { return l.vitals(ctx) }

// sentinel evacuates sick regions until ctx ends, while that is switched on.
func (l *Lab) sentinel(ctx context.Context) {
	tick := time.NewTicker(sentinelLook)
	defer tick.Stop()
	s := evacuate.NewSentinel()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		i := l.current()
		if i == nil || i.Halted || !i.Watching {
			s = evacuate.NewSentinel() // it learns anew what is usual
			l.showSymptoms(nil)
			continue
		}
		all, err := l.vitals(ctx)
		if err != nil {
			continue // the hosts do not answer: the next look tells
		}
		seen := s.Look(time.Now(), all)
		l.showSymptoms(seen)
		for _, x := range seen {
			if !x.Evacuate {
				continue
			}
			l.log.Add("failover.auto", x.Region, fmt.Sprintf("%s is sick: %s, for %.0f s; it is evacuated", x.Region, x.Text, x.ForS), nil)
			rep, err := l.Failover(ctx, control.FailoverRequest{Region: x.Region}, nil)
			done := rep.State == evacuate.Done
			wait := s.Ended(time.Now(), x.Region, done)
			if err != nil && !done {
				l.log.Add("failover.auto", x.Region, fmt.Sprintf("%s could not be evacuated: %v; if it stays sick, it is tried again in %s", x.Region, err, wait), nil)
			}
		}
	}
}

func (l *Lab) showSymptoms(s []evacuate.Symptom) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.symptoms = s
}
