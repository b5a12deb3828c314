package lab

import (
	"context"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/lab/fault"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// hostKiller is a runtime that can end a region's processes without a word.
type hostKiller interface {
	KillHost(ctx context.Context, host string) error
}

// act makes a fault true.
func (l *Lab) act(ctx context.Context, f fault.Fault) error {
	e := f.Effect
	if len(e.Restart) > 0 {
		return l.restartInstances(ctx, e.Restart)
	}
	if len(e.Flush) > 0 {
		return l.flush(ctx, e.Flush)
	}
	if l.needsKeeper(f) && !f.Until.IsZero() {
		if err := l.keeper(ctx, f); err != nil {
			return err
		}
	}
	if len(e.Lost) > 0 {
		k, ok := l.rt.(hostKiller)
		if !ok {
			return services.Errorf(services.Invalid, "the %s runtime cannot kill a region as a whole", l.rt.Name())
		}
		g, gctx := errgroup.WithContext(ctx)
		for _, r := range e.Lost {
			g.Go(func() error { return k.KillHost(gctx, r) })
		}
		return g.Wait()
	}
	if err := l.tellWorld(ctx); err != nil {
		return err
	}
	for _, id := range l.ownContainers(e.Down) {
		end := func() error { return l.rt.Kill(ctx, id) }
		if e.Orderly {
			end = func() error { return l.rt.Stop(ctx, []string{id}, stopGrace) }
		}
		if err := end(); err != nil {
			return err
		}
	}
	return nil
}

// ownContainers are the instances of a list that a host of flix's own does not
// hold down: real stores.
func (l *Lab) ownContainers(ids []string) []string {
	i := l.current()
	if i.Runtime != ContainersRuntime {
		return nil
	}
	var out []string
	for _, inst := range i.instances() {
		if !slices.Contains(ids, inst.ID) {
			continue
		}
		if s, err := l.spec(i, inst); err == nil && s.Sidecar {
			out = append(out, inst.ID)
		}
	}
	return out
}

// needsKeeper says whether nothing that is left of the lab reverts the fault by
// itself.
func (l *Lab) needsKeeper(f fault.Fault) bool {
	return len(f.Effect.Lost) > 0 || len(l.ownContainers(f.Effect.Down)) > 0
}

func (l *Lab) restartInstances(ctx context.Context, ids []string) error {
	if err := l.tellWorld(ctx); err != nil {
		return err
	}
	specs, err := l.toRun(ids)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, s := range specs {
		g.Go(func() error { return l.rt.Kill(gctx, s.ID) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return l.rt.Start(ctx, specs)
}

// toRun are the specs of those of some instances that are wanted and not
// stopped.
func (l *Lab) toRun(ids []string) ([]runtime.Spec, error) {
	var out []runtime.Spec
	i := l.current()
	for _, inst := range i.instances() {
		if !slices.Contains(ids, inst.ID) || i.Stopped[inst.ID] {
			continue
		}
		s, err := l.spec(i, inst)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// flush has cache servers forget what they hold, by memcached's own command.
func (l *Lab) flush(ctx context.Context, ids []string) error {
	g, gctx := errgroup.WithContext(ctx)
	for _, id := range ids {
		g.Go(func() error {
			s, err := l.instance(id)
			if err != nil {
				return err
			}
			return services.Wrap(id, flushAll(gctx, s.Addr(topology.PortRPC)))
		})
	}
	return g.Wait()
}

// flushTime bounds the flush of one cache server.
const flushTime = 3 * time.Second

func flushAll(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, flushTime)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if d, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(d); err != nil {
			return err
		}
	}
	if _, err := c.Write([]byte("flush_all\r\n")); err != nil {
		return err
	}
	answer := make([]byte, 64)
	n, err := c.Read(answer)
	if err != nil {
		return err
	}
	if got := strings.TrimSpace(string(answer[:n])); got != "OK" {
		return services.Errorf(services.Unavailable, "the cache server answers %q", got)
	}
	return nil
}
