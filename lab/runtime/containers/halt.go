package containers

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/topology"
)

// Halt stops every container of the lab in order and removes none: services
// first, so that they finish what they do and say goodbye to the registries;
// then those and the agents; the stores last.
func (r *Runtime) Halt(ctx context.Context) error {
	cs, err := r.containers(ctx)
	if err != nil {
		return err
	}
	defer r.changed()
	for turn := range haltTurns {
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(parallel)
		for _, c := range cs {
			if c.running && haltTurn(c) == turn {
				g.Go(func() error { return r.stopContainer(gctx, c, haltGrace(c), false) })
			}
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	return nil
}

const haltTurns = 3

// haltTurn is when a container's turn to stop comes.
func haltTurn(c found) int {
	switch {
	case c.store():
		return 2
	case c.role == roleAgent, c.role == string(topology.RoleRegistry):
		return 1
	}
	return 0
}

// serviceGrace is how long a container of flix's own may take to stop.
const serviceGrace = 4 * time.Second

func haltGrace(c found) time.Duration {
	if c.store() {
		return stopTime
	}
	return serviceGrace
}

// KillHost kills every container of a host at once: their volumes stay. A host
// that does not run is no error.
func (r *Runtime) KillHost(ctx context.Context, host string) error {
	cs, err := r.containers(ctx)
	if err != nil {
		return err
	}
	defer r.changed()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(2 * parallel)
	for _, c := range cs {
		if c.running && c.host == host {
			g.Go(func() error { return r.stopContainer(gctx, c, 0, true) })
		}
	}
	return g.Wait()
}
