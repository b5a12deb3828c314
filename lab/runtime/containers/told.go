package containers

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/lab/runtime"
)

// told is what the containers of flix's own say of the units in them: the
// engine only knows that a container runs.
type told struct {
	// units are the instances and sidecars by their names, of the containers
	// that answered.
	units map[string]runtime.Instance
	// silent are the containers that run and do not answer, by name.
	silent map[string]error
	// agents are the hosts whose agent runs, and its container's name.
	agents map[string]string
}

// askTime bounds the question to one container, and startTime how long one may
// be up without answering before that counts as a failure.
const (
	askTime   = 3 * time.Second
	startTime = listenTime
)

// ask asks every container of flix's own that runs.
func (r *Runtime) ask(ctx context.Context, cs []found) told {
	t := told{units: map[string]runtime.Instance{}, silent: map[string]error{}, agents: map[string]string{}}
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(2 * parallel)
	for _, c := range cs {
		if !c.running || c.store() || c.role == VolumeVerb {
			continue
		}
		if c.role == roleAgent {
			mu.Lock()
			t.agents[c.host] = c.name
			mu.Unlock()
		}
		g.Go(func() error {
			units, err := r.unitsOf(ctx, c)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.silent[c.name] = err
			}
			for _, u := range units {
				t.units[u.Spec.ID] = u
			}
			return nil
		})
	}
	_ = g.Wait() // what went wrong is in silent
	return t
}

func (r *Runtime) unitsOf(ctx context.Context, c found) ([]runtime.Instance, error) {
	h, err := r.control(c.address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	return h.List(ctx)
}

// state is the state of an instance in a container.
func (t told) state(c found, s runtime.Spec) runtime.Instance {
	i := runtime.Instance{Spec: s, State: runtime.Running, Started: c.started, PID: c.pid, Container: c.container[:min(len(c.container), 12)]}
	if !c.running {
		i.State, i.PID, i.Error = runtime.Gone, 0, c.status
		return i
	}
	where := c.name
	if c.store() {
		// A store is as good as its sidecar: without that nobody finds it.
		if where = t.agents[c.host]; where == "" {
			i.State, i.Error = runtime.Gone, "the container of its sidecar does not run"
			return i
		}
	}
	if err := t.silent[where]; err != nil {
		if time.Since(c.started) > startTime {
			i.State, i.Error = runtime.Failed, fmt.Sprintf("container %s runs and does not answer (docker restart %s): %v", where, where, err)
		}
		return i
	}
	u, ok := t.units[s.ID]
	i.Restarts = u.Restarts
	switch {
	case !ok || u.State == runtime.Stopped:
		i.State, i.Error = runtime.Gone, "its container runs without it"
	case u.State == runtime.Failed:
		i.State, i.Error = runtime.Failed, u.Error
	}
	switch {
	case !c.store() && !u.Started.IsZero():
		i.Started = u.Started
	case c.store() && i.State == runtime.Gone:
		i.Error = "its sidecar does not run"
	case c.store() && i.State == runtime.Failed:
		i.Error = "its sidecar fails: " + u.Error
	}
	return i
}
