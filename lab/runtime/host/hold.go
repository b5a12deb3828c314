package host

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/lab/runtime"
)

// holding is an instance that a fault keeps down here.
type holding struct {
	spec runtime.Spec
	// again says that it is to run when the fault is over: it ran before, or
	// somebody wanted to start it meanwhile.
	again bool
}

// enforce makes what the world's faults do to instances of this host true, and
// undoes what they do no more. It is called for each new world, and by itself
// when a fault lapses: nobody else need be alive then.
func (h *Host) enforce() error {
	h.enforcing.Lock()
	defer h.enforcing.Unlock()
	if h.ended {
		return nil
	}
	h.mu.Lock()
	faults := h.world.Faults
	h.mu.Unlock()
	now := time.Now()
	down, frozen := map[string]bool{}, map[string]bool{} // down: id → orderly
	var next time.Time
	for _, f := range faults {
		if f.Over(now) {
			continue
		}
		if !f.Until.IsZero() && (next.IsZero() || f.Until.Before(next)) {
			next = f.Until
		}
		for _, id := range f.Effect.Down {
			down[id] = f.Effect.Orderly
		}
		for _, id := range f.Effect.Frozen {
			frozen[id] = true
		}
	}
	h.arm(next)
	return errors.Join(h.holdDown(down), h.letUp(down), h.freeze(frozen))
}

// arm looks again at a point in time; the zero time is never.
func (h *Host) arm(at time.Time) {
	if h.lapse != nil {
		h.lapse.Stop()
		h.lapse = nil
	}
	if at.IsZero() {
		return
	}
	h.lapse = time.AfterFunc(time.Until(at), func() {
		h.log.Info("a fault lapses", "host", h.name)
		if err := h.enforce(); err != nil {
			h.log.Error("what a fault did is not undone", "error", err)
		}
	})
}

// disarm ends the timer for good, and what it has begun: nothing comes up in a
// host that ends.
func (h *Host) disarm() {
	h.enforcing.Lock()
	defer h.enforcing.Unlock()
	h.ended = true
	h.arm(time.Time{})
}

// holdDown ends the instances of this host that are to be down and run.
func (h *Host) holdDown(down map[string]bool) error {
	var g errgroup.Group
	for id, orderly := range down {
		h.mu.Lock()
		r, here := h.units[id]
		if _, already := h.held[id]; already || !here {
			if !here && !already {
				h.held[id] = &holding{}
			}
			h.mu.Unlock()
			continue
		}
		h.held[id] = &holding{spec: r.spec, again: r.state == runtime.Running || r.state == runtime.Failed}
		h.mu.Unlock()
		g.Go(func() error {
			if orderly {
				return h.stop(context.Background(), []string{id}, StopGrace)
			}
			return h.kill([]string{id})
		})
	}
	return g.Wait()
}

// letUp starts what no fault keeps down any more.
func (h *Host) letUp(down map[string]bool) error {
	var start []runtime.Spec
	h.mu.Lock()
	for id, x := range h.held {
		if _, still := down[id]; still {
			continue
		}
		delete(h.held, id)
		if x.again {
			start = append(start, x.spec)
		}
	}
	h.mu.Unlock()
	return h.start(context.Background(), start)
}

// end stops instances that are not to run any more: one that a fault keeps down
// does not come up when the fault is over.
func (h *Host) end(ctx context.Context, ids []string, grace time.Duration) error {
	h.mu.Lock()
	for _, id := range ids {
		if x, down := h.held[id]; down {
			x.again = false
		}
	}
	h.mu.Unlock()
	return h.stop(ctx, ids, grace)
}

// freeze stops the sockets of the instances that are to be frozen, and thaws
// the others.
func (h *Host) freeze(frozen map[string]bool) error {
	h.mu.Lock()
	h.frozen = frozen
	all := make(map[string]*sockets, len(h.units))
	for id, r := range h.units {
		all[id] = r.sockets
	}
	h.mu.Unlock()
	var errs []error
	for id, s := range all {
		errs = append(errs, s.freeze(frozen[id]))
	}
	return errors.Join(errs...)
}

// freezeNew freezes the sockets of an instance that starts while it is to be
// frozen. It is called with mu held.
func (h *Host) freezeNew(r *running) error {
	if !h.frozen[r.spec.ID] {
		return nil
	}
	return r.sockets.freeze(true)
}
