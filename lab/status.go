package lab

import (
	"cmp"
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/lab/runtime/embedded"
	"github.com/flix-lab/flix/topology"
)

// Status implements control.Engine.
func (l *Lab) Status(ctx context.Context) (control.Status, error) {
	i, err := l.need()
	if err != nil {
		return control.Status{}, err
	}
	live, err := l.rt.List(ctx)
	if err != nil {
		return control.Status{}, err
	}
	specs, err := l.specs(i)
	if err != nil {
		return control.Status{}, err
	}
	st := statusOf(i, l.world(i, specs), specs, live)
	st.Daemon = control.DaemonStatus{State: "running", PID: os.Getpid(), Started: l.started.UTC(), Version: l.env.Version}
	if st.RSSBytes, err = l.memory(ctx); err != nil {
		return st, err
	}
	w, err := l.WAN(ctx)
	st.Notes = notes(w)
	return st, err
}

// memory is the sum of the proportional set sizes of the lab's processes.
func (l *Lab) memory(ctx context.Context) (int64, error) {
	pids, err := l.rt.Processes(ctx)
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, pid := range append(pids, os.Getpid()) {
		b, err := embedded.PSS(pid)
		if err != nil {
			continue // it ended just now
		}
		sum += b
	}
	return sum, nil
}

// statusOf joins what is wanted with what is there.
func statusOf(i *intent, w runtime.World, specs []runtime.Spec, live []runtime.Instance) control.Status {
	have := make(map[string]runtime.Instance, len(live))
	for _, x := range live {
		have[x.Spec.ID] = x
	}
	st := control.Status{Name: i.Name, Runtime: i.Runtime}
	for _, r := range i.Topology.Regions {
		rs := control.RegionStatus{Name: r.Name, Share: 1, Instances: []control.InstanceStatus{}}
		if i.Evacuated[r.Name] != "" {
			rs.Share = 0
		}
		for _, s := range specs {
			if s.Region == r.Name {
				rs.Instances = append(rs.Instances, instanceStatus(w, s, have, i.Halted || i.Stopped[s.ID]))
			}
		}
		rs.State = regionState(rs, i.Evacuated[r.Name] != "")
		st.Instances += len(rs.Instances)
		st.Regions = append(st.Regions, rs)
	}
	return st
}

func instanceStatus(w runtime.World, s runtime.Spec, have map[string]runtime.Instance, stopped bool) control.InstanceStatus {
	is := control.InstanceStatus{Name: s.ID, Role: string(s.Role), Zone: s.Zone, State: string(runtime.Gone), Endpoints: map[string]string{}}
	for name := range s.PortNumbers {
		is.Endpoints[name] = endpoint(w, s, name)
	}
	if x, ok := have[s.ID]; ok {
		is.State, is.Started, is.PID, is.Container = string(x.State), x.Started.UTC(), x.PID, x.Container
		is.Error, is.Restarts = x.Error, x.Restarts
	}
	if stopped && is.State == string(runtime.Gone) {
		is.State, is.Error = string(runtime.Stopped), ""
	}
	return is
}

// regionState sums up a region: stopped when somebody asked all of it to be,
// down when no cloud instance runs, degraded when some do not.
func regionState(r control.RegionStatus, evacuated bool) string {
	up, cloud, missing, stopped := 0, 0, 0, 0
	for _, i := range r.Instances {
		running := i.State == string(runtime.Running)
		if i.State == string(runtime.Stopped) {
			stopped++
		}
		if !running {
			missing++
		}
		if i.Role != string(topology.RoleOCA) {
			cloud++
			if running {
				up++
			}
		}
	}
	switch {
	case cloud > 0 && stopped == len(r.Instances):
		return "stopped"
	case up == 0 && cloud > 0:
		return "down"
	case evacuated:
		return "evacuated"
	case missing > 0:
		return "degraded"
	}
	return "ready"
}

// OfflineStatus is the status of a lab whose daemon is dead, read from its
// journal and from its hosts; it changes nothing.
func OfflineStatus(ctx context.Context, env Env, p Paths) (st control.Status, err error) {
	l, err := glance(ctx, env, p)
	if err != nil {
		return st, err
	}
	defer func() { err = errors.Join(err, l.unlook()) }()
	i := l.intent
	live, err := l.rt.List(ctx)
	if err != nil {
		return st, err
	}
	var specs []runtime.Spec
	for _, inst := range i.instances() {
		s, err := l.spec(i, inst)
		if err != nil {
			s = runtime.Spec{Instance: inst} // it never had ports: an up was cut short
		}
		specs = append(specs, s)
	}
	st = statusOf(i, l.world(i, specs), specs, live)
	st.Daemon.State = "dead"
	pids, err := l.rt.Processes(ctx)
	for _, pid := range pids {
		if b, err := embedded.PSS(pid); err == nil {
			st.RSSBytes += b
		}
	}
	return st, err
}

// watchInterval is how often the daemon compares what runs with what is wanted.
const watchInterval = time.Second

// watch notes in the event log what ends or fails by itself. It starts no
// instance: a region that was lost stays lost until "flix lab up". It tells
// instances what they have missed, and has cold zones of the cache filled.
func (l *Lab) watch(ctx context.Context) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	type seen struct {
		state    runtime.State
		restarts int
	}
	last := map[string]seen{}
	hosts := map[string]bool{}
	untold := map[string]bool{} // what runs again with the properties of its start
	caches := newColdZones(l)
	defer caches.wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if l.current() == nil {
			continue // it was never up
		}
		if _, ok := l.rt.(mourner); ok && l.rising.Load() {
			continue // the up looks by itself; what happened meanwhile is seen after it
		}
		if l.current().Halted {
			clear(hosts) // they were asked to end
			continue
		}
		for h, alive := range l.rt.Hosts() {
			if was, ok := hosts[h]; ok && was && !alive {
				l.log.Add("host.lost", h, "host "+h+" ended without being asked", nil)
			}
			hosts[h] = alive
		}
		l.repay(ctx)
		for id := range untold {
			if l.reapply(ctx, id) == nil {
				delete(untold, id)
			}
		}
		live, err := l.rt.List(ctx)
		if err != nil {
			continue // the hosts loop above names the one that is gone
		}
		slices.SortFunc(live, func(a, b runtime.Instance) int { return cmp.Compare(a.Spec.ID, b.Spec.ID) })
		caches.look(ctx, live)
		for _, i := range live {
			now := seen{i.State, i.Restarts}
			was, ok := last[i.Spec.ID]
			last[i.Spec.ID] = now
			if !ok || was == now {
				continue
			}
			switch {
			case i.State == runtime.Failed:
				l.log.Add("instance.failed", i.Spec.ID, i.Spec.ID+" failed: "+i.Error, nil)
			case i.Restarts > was.restarts:
				l.log.Add("instance.restarted", i.Spec.ID, i.Spec.ID+" runs again", nil)
				untold[i.Spec.ID] = true
			}
		}
	}
}
