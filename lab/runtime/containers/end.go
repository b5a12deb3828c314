package containers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/moby/moby/client"
	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/lab/runtime/host"
	"github.com/flix-lab/flix/topology"
)

// Stop implements runtime.Runtime.
func (r *Runtime) Stop(ctx context.Context, ids []string, grace time.Duration) error {
	return r.end(ctx, ids, grace, false)
}

// Kill implements runtime.Runtime.
func (r *Runtime) Kill(ctx context.Context, id string) error {
	return r.end(ctx, []string{id}, 0, true)
}

func (r *Runtime) end(ctx context.Context, ids []string, grace time.Duration, kill bool) error {
	cs, err := r.containers(ctx)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, c := range cs {
		var inside []string
		for _, s := range c.specs {
			if slices.Contains(ids, s.ID) {
				inside = append(inside, s.ID)
			}
		}
		if len(inside) == 0 || !c.running || c.role == roleAgent { // it stays for the other stores
			continue
		}
		g.Go(func() error {
			if c.role == rolePack {
				return r.endInside(ctx, c, inside, grace, kill)
			}
			switch {
			case c.store() && !kill:
				r.unregister(ctx, c)
			case !c.store() && kill:
				r.reset(ctx, c, inside)
			}
			return r.stopContainer(ctx, c, grace, kill)
		})
	}
	err = g.Wait()
	r.changed()
	return err
}

func (r *Runtime) endInside(ctx context.Context, c found, ids []string, grace time.Duration, kill bool) error {
	h, err := r.control(c.address)
	if err != nil {
		return err
	}
	if err := r.changeSpecs(c.id, without(ids)); err != nil {
		return err
	}
	if kill {
		err = h.Kill(ctx, ids...)
	} else {
		err = h.Stop(ctx, ids, grace)
	}
	if errors.Is(err, host.ErrGone) {
		return nil
	}
	return err
}

// unregister stops the sidecar of a store that is about to stop, so that
// nobody is sent there any more. An agent that is gone has none.
func (r *Runtime) unregister(ctx context.Context, c found) {
	h, err := r.control(c.specs[0].Where(topology.PortAdmin))
	if err != nil {
		return
	}
	short, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_ = h.Stop(short, []string{c.specs[0].ID}, time.Second)
}

// reset breaks the connections of instances that are about to be killed: the
// kernel would end those of a killed process in order. Where nobody answers any
// more that is all there is to do.
func (r *Runtime) reset(ctx context.Context, c found, ids []string) {
	h, err := r.control(c.address)
	if err != nil {
		return
	}
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_ = h.Kill(short, ids...)
}

func (r *Runtime) stopContainer(ctx context.Context, c found, grace time.Duration, kill bool) error {
	var err error
	if kill {
		_, err = r.docker.ContainerKill(ctx, c.container, client.ContainerKillOptions{Signal: "KILL"})
	} else {
		seconds := int((grace + time.Second - 1) / time.Second)
		_, err = r.docker.ContainerStop(ctx, c.container, client.ContainerStopOptions{Timeout: &seconds})
	}
	if err != nil && !gone(err) {
		return fmt.Errorf("%s: %w", c.id, r.broken(err))
	}
	return nil
}
