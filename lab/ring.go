package lab

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/topology"
)

// ringTime bounds what a node does to join with data, or to leave.
const ringTime = 3 * time.Minute

// metTime is how long nodes that answer may take to meet before they are told
// once more where the others are.
const metTime = 20 * time.Second

// meetAgain has every kv node look for the others anew. One that was starved
// while the cluster was being made may have given the others up, and with them
// the seeds that it would find them by again: then each is a cluster of its own.
func (l *Lab) meetAgain(ctx context.Context, stores []runtime.Spec) error {
	r, ok := l.rt.(ring)
	if !ok || l.current().Topology.Containers.Network == topology.HostNetwork { // nodetool tells no nodes apart there
		return nil
	}
	l.log.Add("kv.meet", l.paths.Name, "the kv's nodes have not met: they are told again where the others are", nil)
	ctx, cancel := context.WithTimeout(ctx, ringTime)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range stores {
		if s.Role == topology.RoleKV {
			g.Go(func() error { return r.Nodetool(ctx, s.Instance, "reloadseeds") })
		}
	}
	return g.Wait()
}

// ring is a runtime whose kv is a cluster of nodes that join and leave.
type ring interface {
	Nodetool(ctx context.Context, i topology.Instance, args ...string) error
}

// joined fills the kv nodes of regions that came to a cluster with data: the
// change of replication alone copies nothing.
func (l *Lab) joined(ctx context.Context, stores []runtime.Spec, had []string) error {
	r, ok := l.rt.(ring)
	if !ok {
		return nil
	}
	from := ""
	for _, region := range l.current().Topology.RegionNames() {
		if slices.Contains(had, region) {
			from = region
			break
		}
	}
	if from == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, ringTime)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range stores {
		if s.Role == topology.RoleKV && !slices.Contains(had, s.Region) {
			g.Go(func() error { return r.Nodetool(ctx, s.Instance, "rebuild", "--keyspace", "flix", "--", from) })
		}
	}
	return g.Wait()
}

// leaveRing takes kv nodes that are no longer wanted out of the cluster, so
// that it does not wait for them, and another may have their address one day.
func (l *Lab) leaveRing(ctx context.Context, gone []runtime.Instance) error {
	r, ok := l.rt.(ring)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, ringTime)
	defer cancel()
	// One after the other: a ring changes one node at a time.
	for _, i := range gone {
		if i.Spec.Role != topology.RoleKV || i.State != runtime.Running {
			continue
		}
		// By force: the cluster's own keyspaces want three nodes, of which two may
		// be left; the lab's does not replicate here any more.
		if err := r.Nodetool(ctx, i.Spec.Instance, "decommission", "--force"); err != nil {
			return err
		}
	}
	return nil
}
