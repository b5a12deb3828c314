package lab

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/flix-lab/flix/lab/fault"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/steering"
	"github.com/flix-lab/flix/topology"
)

// undo reverts a fault. What is not there any more need not be reverted, and is
// said.
func (l *Lab) undo(ctx context.Context, f fault.Fault) (string, error) {
	e := f.Effect
	if err := l.tellWorld(ctx); err != nil {
		return "", err
	}
	if len(e.Restart) > 0 { // it was killed and perhaps not started
		start, err := l.toRun(e.Restart)
		if err != nil {
			return "", err
		}
		return "", l.rt.Start(ctx, start)
	}
	i := l.current()
	var (
		start []runtime.Spec
		gone  []string
	)
	wanted := map[string]bool{}
	containers := l.ownContainers(e.Down)
	for _, inst := range i.instances() {
		wanted[inst.ID] = true
		lost := slices.Contains(e.Lost, inst.Region) && inst.Role != topology.RoleOCA
		if !lost && !slices.Contains(containers, inst.ID) || i.Stopped[inst.ID] {
			continue
		}
		s, err := l.spec(i, inst)
		if err != nil {
			return "", err
		}
		start = append(start, s)
	}
	for _, id := range slices.Concat(e.Down, e.Frozen) {
		if !wanted[id] {
			gone = append(gone, id)
		}
	}
	for _, r := range e.Lost {
		if _, ok := i.Topology.Region(r); !ok {
			gone = append(gone, r)
		}
	}
	what := ""
	if len(gone) > 0 {
		what = strings.Join(gone, ", ") + " is not in the lab any more: nothing to undo there"
	} else if !l.hostsAlive(e.Down) {
		what = "its region does not run: it stays down until flix lab up"
	}
	if len(start) == 0 {
		return what, nil
	}
	return what, l.startLost(ctx, start, e.Lost)
}

// startLost starts instances again. Real stores come back seconds after the
// edge of a region that was lost: until they answer, DNS sends nobody there.
func (l *Lab) startLost(ctx context.Context, start []runtime.Spec, lost []string) (err error) {
	var stores []runtime.Spec
	for _, s := range start {
		if s.Sidecar && slices.Contains(lost, s.Region) {
			stores = append(stores, s)
		}
	}
	if len(stores) == 0 {
		return l.rt.Start(ctx, start)
	}
	p := planet{l: l}
	for _, region := range lost {
		if _, evacuated := p.Evacuated()[region]; evacuated {
			continue
		}
		if err := p.SetWeight(ctx, region, 0); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, p.SetWeight(context.WithoutCancel(ctx), region, 1)) }()
	}
	if err := l.rt.Start(ctx, start); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, storesTime)
	defer cancel()
	if err := l.storesAnswer(ctx, stores, func(runtime.Spec, time.Duration) {}); err != nil {
		return err
	}
	for _, region := range lost {
		if err := l.steers(ctx, region); err != nil {
			return err
		}
	}
	return nil
}

// steers waits until a region's steering knows appliances for a client there:
// one that has just started is told of them anew.
func (l *Lab) steers(ctx context.Context, region string) error {
	title, err := canaryTitle()
	if err != nil {
		return err
	}
	r, ok := l.current().Topology.Region(region)
	if !ok || len(r.ISPs) == 0 || len(r.ISPs[0].Prefixes) == 0 {
		return nil // nobody is there to be sent anywhere
	}
	path := "/steering/explain?" + url.Values{"ip": {r.ISPs[0].Prefixes[0].Addr().Next().String()}, "title": {title}}.Encode()
	for {
		var out steering.Explained
		err := l.askSteering(ctx, region, path, &out)
		if err == nil && len(out.Candidates) > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(services.Errorf(services.Unavailable, "the steering of %s knows no appliance for its clients", region).WithRemedy("look at its log: flix lab logs %s", region), err, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// hostsAlive says whether the hosts of some instances run.
func (l *Lab) hostsAlive(ids []string) bool {
	for _, inst := range l.current().instances() {
		if slices.Contains(ids, inst.ID) && l.isDown(inst.Host()) {
			return false
		}
	}
	return true
}
