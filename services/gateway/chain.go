package gateway

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flix-lab/flix/services"
)

// maxFilters bounds a chain: a filter's place in it is one byte.
const maxFilters = 128

// timedPerSecond is how many requests have their filters timed each second,
// beside those whose detail is asked for.
const timedPerSecond = 100

// chain is every filter in the order they run.
type chain struct {
	log    *slog.Logger
	all    []*step // by phase, then order
	byName map[string]*step

	// clock chooses the requests whose filters are timed: to look at the clock
	// takes longer than most filters do.
	clock sampler

	mu sync.Mutex // one change of active at a time
	// active are the filters that are switched on, by phase.
	active atomic.Pointer[[3][]*step]
}

func newChain(log *slog.Logger, filters []Filter) (*chain, error) {
	if len(filters) > maxFilters {
		return nil, services.Errorf(services.Invalid, "gateway: %d filters, at most %d fit", len(filters), maxFilters)
	}
	c := &chain{log: log, byName: make(map[string]*step, len(filters))}
	c.clock.perSecond.Store(timedPerSecond)
	for _, f := range filters {
		if f.Name == "" || (f.Run == nil) == (f.Start == nil) || f.Phase < Inbound || f.Phase > Outbound {
			return nil, services.Errorf(services.Invalid, "gateway: filter %q needs a name, a phase and either Run or Start", f.Name)
		}
		if f.Start != nil && f.Phase == Endpoint {
			return nil, services.Errorf(services.Invalid, "gateway: endpoint filter %q has Start: an endpoint answers, nothing runs beside it", f.Name)
		}
		if c.byName[f.Name] != nil {
			return nil, services.Errorf(services.Invalid, "gateway: two filters are named %q", f.Name)
		}
		st := &step{Filter: f, log: log}
		st.limit.Store(int64(f.Concurrency))
		c.byName[f.Name] = st
		c.all = append(c.all, st)
	}
	slices.SortFunc(c.all, func(a, b *step) int {
		return cmp.Or(cmp.Compare(a.Phase, b.Phase), cmp.Compare(a.Order, b.Order), cmp.Compare(a.Name, b.Name))
	})
	for k, st := range c.all {
		st.id = uint8(k)
	}
	c.activate()
	return c, nil
}

// activate makes the lists of the filters that are switched on.
func (c *chain) activate() {
	var phases [3][]*step
	for _, st := range c.all {
		if !st.disabled.Load() {
			phases[st.Phase] = append(phases[st.Phase], st)
		}
	}
	c.active.Store(&phases)
}

// find returns a filter by name.
func (c *chain) find(name string) (*step, error) {
	st := c.byName[name]
	if st == nil {
		return nil, services.Errorf(services.NotFound, "no filter is named %q", name).WithRemedy("see them all: flix gateway filters ls")
	}
	return st, nil
}

// disable switches a filter off or on again. Requests that are in the chain
// already go through it as it was when they began.
func (c *chain) disable(name string, off bool) error {
	st, err := c.find(name)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	st.disabled.Store(off)
	c.activate()
	return nil
}

// run takes the exchange through all phases.
func (c *chain) run(ex *Exchange) {
	active := c.active.Load()
	ex.timed = c.clock.take(ex.Received) || ex.Request.Header.Has(DebugHeader)
	ex.Passport.add(inReqHeadersReceived, 0)
	ex.Passport.add(filtersInboundStart, 0)
	ex.keepBody()
	for next := 0; next < len(active[Inbound]) && ex.Err == nil; {
		next, ex.Err = c.through(ex, active[Inbound], next) // goes on behind an optional filter that panicked
	}
	if len(ex.tasks) > 0 {
		ex.Err = c.settle(ex, ex.Err)
	}
	ex.mark(filtersInboundEnd)
	if ex.Err == nil {
		ex.Err = c.endpoint(ex, active[Endpoint])
	}
	if ex.Err == nil && ex.Response.Status == 0 {
		ex.Err = services.Errorf(services.Internal, "no endpoint answered")
	}
	if ex.Err != nil {
		ex.answerProblem(ex.Err)
	}
	ex.Passport.add(filtersOutboundStart, ex.looked)
	for next := 0; next < len(active[Outbound]); {
		var err error
		if next, err = c.through(ex, active[Outbound], next); err != nil {
			ex.Err = err
			ex.answerProblem(err)
		}
	}
	if len(ex.tasks) > 0 {
		if err := c.settle(ex, nil); err != nil {
			ex.Err = err
			ex.answerProblem(err)
		}
	}
	ex.mark(filtersOutboundEnd)
}

// through runs the filters of a phase from one on until one fails; next is the
// one to go on with.
func (c *chain) through(ex *Exchange, steps []*step, from int) (next int, err error) {
	var (
		at, limited = from, false
		start       time.Duration
		took        = time.Duration(-1)
	)
	if ex.timed {
		start = ex.elapsed()
	}
	defer func() {
		if p := recover(); p != nil {
			st := steps[at]
			st.leave(limited)
			next, err = at+1, c.panicked(ex, st, p)
		}
	}()
	for ; at < len(steps); at++ {
		st := steps[at]
		if st.Applies != nil && !st.Applies(ex) {
			continue
		}
		limited = st.limit.Load() != 0
		if limited && !st.enter() {
			if err := st.full(); err != nil {
				ex.retryAfter = momentLater
				return at + 1, err
			}
			continue
		}
		var err error
		if st.Run != nil {
			err = st.Run(ex)
			st.leave(limited)
		} else {
			ex.begin(st, limited)
		}
		limited = false
		if ex.timed {
			end := ex.elapsed()
			took, start = end-start, end
			ex.note(st, took, err)
		}
		if st.Run != nil {
			st.ran(took, err)
		}
		if err != nil {
			if st.Optional {
				c.log.Debug("an optional filter failed", "filter", st.Name, "request", ex.RequestID, "error", err)
				continue
			}
			return at + 1, err
		}
	}
	return len(steps), nil
}

// endpoint lets the first endpoint that applies answer.
func (c *chain) endpoint(ex *Exchange, steps []*step) error {
	for k, st := range steps {
		if st.Applies == nil || st.Applies(ex) {
			_, err := c.through(ex, steps[k:k+1], 0)
			return err
		}
	}
	if ex.Route == nil { // the filter that refuses it is off
		return noRoute(ex)
	}
	return services.Errorf(services.Internal, "no endpoint takes the request")
}

// full is the answer to one request too many in a filter; nil where the
// request does without it.
func (st *step) full() error {
	if st.Optional {
		return nil
	}
	return services.Errorf(services.Exhausted, "filter %s has its %d requests at once already", st.Name, st.limit.Load()).
		WithReason(ReasonFilterConcurrency).WithRemedy("try again in a moment")
}

func (c *chain) panicked(ex *Exchange, st *step, p any) error {
	c.log.Error("filter panicked", "filter", st.Name, "request", ex.RequestID, "panic", p, "stack", string(debug.Stack()))
	err := services.Errorf(services.Internal, "filter %s panicked", st.Name)
	st.ran(-1, err)
	if st.Optional {
		return nil
	}
	return err
}

// running is the task of an asynchronous filter.
type running struct {
	st     *step
	done   func(*Exchange) error
	cancel context.CancelFunc
	err    chan error
}

// begin starts the work of an asynchronous filter.
func (ex *Exchange) begin(st *step, limited bool) {
	t := st.Start(ex)
	if t.Do == nil { // nothing to do for this request
		st.leave(limited)
		return
	}
	ctx, cancel := context.WithCancel(ex.Context())
	if st.Timeout > 0 {
		cancel()
		ctx, cancel = context.WithTimeout(ex.Context(), st.Timeout)
	}
	r := &running{st: st, done: t.Done, cancel: cancel, err: make(chan error, 1)}
	ex.tasks = append(ex.tasks, r)
	go func() {
		start := time.Now()
		var err error
		defer func() {
			if p := recover(); p != nil {
				st.log.Error("filter panicked", "filter", st.Name, "panic", p, "stack", string(debug.Stack()))
				err = services.Errorf(services.Internal, "filter %s panicked", st.Name)
			}
			st.leave(limited)
			st.ran(time.Since(start), err)
			r.err <- err
		}()
		err = t.Do(ctx)
	}()
}

// settle waits for the tasks of a phase. failed is why the phase fails anyway:
// then they are told to end. The first error, in the order of the filters, is
// the phase's.
func (c *chain) settle(ex *Exchange, failed error) error {
	for _, r := range ex.tasks {
		if failed != nil {
			r.cancel()
		}
		err := <-r.err
		r.cancel()
		if failed == nil && err == nil && r.done != nil {
			err = c.take(ex, r)
		}
		if failed == nil && err != nil && !r.st.Optional {
			if errors.Is(err, context.DeadlineExceeded) && ex.Context().Err() == nil {
				err = services.Errorf(services.Unavailable, "filter %s took longer than %s", r.st.Name, r.st.Timeout).WithReason(ReasonTimeout)
			}
			failed = err
		}
	}
	ex.tasks = ex.tasks[:0]
	return failed
}

// take runs the part of a task that belongs to the request's goroutine.
func (c *chain) take(ex *Exchange, r *running) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = c.panicked(ex, r.st, p)
		}
	}()
	return r.done(ex)
}
