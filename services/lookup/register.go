package lookup

import (
	"context"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/lookup/eureka"
)

// retryFirst is the first delay after the registry failed; it doubles up to a
// tenth of a renewal interval, so that a registry that comes back hears of
// everybody long before a lease runs out.
const retryFirst = 10 * time.Millisecond

// registration is one instance this client keeps registered.
type registration struct {
	// turn is held while a request about the instance is under way, so that
	// a registration cannot overtake a cancellation and raise the dead.
	turn chan struct{}

	mu    sync.Mutex
	inst  Instance
	dirty int64 // milliseconds since 1970 of the last change; grows strictly
	// sent: a request may have reached the registry.
	sent bool
	// current: the registry has confirmed this dirty timestamp.
	current bool
	gone    bool
	renewAt time.Time
	// settled is closed when the registry has confirmed the current state.
	settled chan struct{}
}

// Register makes the client keep the instance registered: in the background,
// again after an error, again when the registry has forgotten it. It returns
// at once. A second call with the same ID replaces what was registered. App
// defaults to VIP and Status to UP.
func (c *Client) Register(in Instance) error {
	if in.App == "" {
		in.App = in.VIP
	}
	if in.Status == "" {
		in.Status = StatusUp
	}
	if in.ID == "" || in.VIP == "" || in.Host == "" {
		return services.Errorf(services.Invalid, "lookup.Register %q: ID, VIP and Host are needed", in.ID)
	}
	c.regMu.Lock()
	r := c.regs[in.ID]
	if r == nil {
		r = &registration{turn: make(chan struct{}, 1), settled: make(chan struct{})}
	}
	r.update(func() { r.inst = in }) // before the loop finds it, which would register nobody
	c.regs[in.ID] = r
	c.regMu.Unlock()
	signal(c.wake)
	return nil
}

// SetStatus changes the status of an instance that this client registered, in
// the background.
func (c *Client) SetStatus(id, status string) error {
	c.regMu.Lock()
	r := c.regs[id]
	c.regMu.Unlock()
	if r == nil {
		return services.Errorf(services.NotFound, "lookup.SetStatus: %s is not registered by this client", id)
	}
	if s := eureka.ParseStatus(status); s != status || s == StatusUnknown {
		return services.Errorf(services.Invalid, "lookup.SetStatus %s: %q is no status", id, status)
	}
	r.update(func() { r.inst.Status = status })
	signal(c.wake)
	return nil
}

func (r *registration) update(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
	r.dirty = max(r.dirty+1, time.Now().UnixMilli())
	if r.current {
		r.current = false
		r.settled = make(chan struct{})
	}
	r.renewAt = time.Time{}
}

// Registered waits until the registry has confirmed the instance as it is
// now. It fails with NotFound for an unknown ID, Unavailable when ctx ends.
func (c *Client) Registered(ctx context.Context, id string) error {
	c.regMu.Lock()
	r := c.regs[id]
	c.regMu.Unlock()
	if r == nil {
		return services.Errorf(services.NotFound, "lookup.Registered: %s is not registered by this client", id)
	}
	r.mu.Lock()
	settled := r.settled
	r.mu.Unlock()
	select {
	case <-settled:
		return nil
	case <-ctx.Done():
		return &services.Error{Op: "lookup.Registered " + id, Kind: services.Unavailable, Msg: "the registry has not confirmed it", Err: ctx.Err()}
	}
}

// Forget stops renewing the instance's lease and does not tell the registry:
// the lease runs out, as it does when the process of an instance crashes. It
// is for an instance that ends out of order in a process that goes on. It does
// nothing for an ID that this client does not have.
func (c *Client) Forget(id string) {
	c.regMu.Lock()
	r := c.regs[id]
	delete(c.regs, id)
	c.regMu.Unlock()
	if r == nil {
		return
	}
	r.mu.Lock()
	r.gone = true
	r.mu.Unlock()
}

// Deregister cancels the instance's lease and forgets it. It retries until
// the registry has confirmed or ctx ends; in the latter case the lease runs
// out by itself.
func (c *Client) Deregister(ctx context.Context, id string) error {
	c.regMu.Lock()
	r := c.regs[id]
	delete(c.regs, id)
	c.regMu.Unlock()
	if r == nil {
		return nil
	}
	r.mu.Lock()
	r.gone = true
	r.mu.Unlock()
	select {
	case r.turn <- struct{}{}:
	case <-ctx.Done():
		return services.Wrap("lookup.Deregister "+id, ctx.Err())
	}
	defer func() { <-r.turn }()
	r.mu.Lock()
	inst, sent := r.inst, r.sent
	r.mu.Unlock()
	if !sent {
		return nil
	}
	delay := retryFirst
	for {
		resp, err := c.do(ctx, http.MethodDelete, inst.path(), nil, nil)
		if err == nil && (resp.status == http.StatusOK || resp.status == http.StatusNotFound) {
			return nil
		}
		if err == nil {
			err = resp.failure("deregister " + id)
		}
		select {
		case <-ctx.Done():
			return services.Wrap("lookup.Deregister "+id, err)
		case <-time.After(delay):
		}
		delay = c.backoff(delay)
	}
}

func (i Instance) appPath() string { return "/apps/" + url.PathEscape(strings.ToUpper(i.App)) }

func (i Instance) path() string { return i.appPath() + "/" + url.PathEscape(EncodeID(i.ID)) }

func (c *Client) backoff(d time.Duration) time.Duration {
	return min(2*d, max(retryFirst, c.cfg.Timing.LeaseRenewal.D()/10))
}

// renewLoop sends what is due for every registration, one after the other:
// a request takes a fraction of a millisecond, and one goroutine is enough
// for all instances of a process.
func (c *Client) renewLoop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	delay := retryFirst
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		case <-timer.C:
		}
		next, err := c.renewDue(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			if delay == retryFirst {
				c.log.Warn("registering or renewing failed; trying again", "err", err)
			}
			next, delay = delay, c.backoff(delay)
		} else {
			delay = retryFirst
		}
		timer.Reset(next)
	}
}

// together is the part of a renewal interval by which a lease is renewed early
// along with one that is due. So those of a process soon go in one burst, and
// an idle process wakes once per interval and not once per instance.
const together = 5

// never is when a client without registrations renews one.
const never = time.Duration(math.MaxInt64)

// renewDue handles every registration that is due, or soon will be when one
// is, and returns the time until the next one is; never when there is none, as
// in a client that only reads: Register wakes the loop. It stops when the
// registry is away: to ask it once per instance would only take longer. A
// registration that the registry refuses does not hold up the others.
func (c *Client) renewDue(ctx context.Context) (time.Duration, error) {
	c.regMu.Lock()
	regs := make([]*registration, 0, len(c.regs))
	for _, r := range c.regs {
		regs = append(regs, r)
	}
	c.regMu.Unlock()
	if len(regs) == 0 {
		return never, nil
	}
	next := c.cfg.Timing.LeaseRenewal.D()
	early := next / together
	soonest := next
	for _, r := range regs {
		soonest = min(soonest, r.due())
	}
	if soonest > 0 {
		return soonest, nil
	}
	c.renewTogether(ctx, regs, early)
	for _, r := range regs {
		r.mu.Lock()
		was := r.dirty
		r.mu.Unlock()
		if wait := r.due(); wait > early {
			next = min(next, wait)
			continue
		}
		select {
		case r.turn <- struct{}{}:
		default: // being deregistered
			continue
		}
		err := c.send(ctx, r)
		<-r.turn
		switch {
		case err == nil:
		case services.KindOf(err) == services.Unavailable:
			return 0, err
		default:
			c.log.Error("the registry refuses an instance", "err", err)
			r.postpone(c.cfg.Timing.LeaseRenewal.D(), was)
		}
	}
	return next, nil
}

// due is how long it takes until the lease is to be renewed.
func (r *registration) due() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Until(r.renewAt)
}

// send renews the lease, or registers when the registry does not know the
// instance or knows an older state of it.
func (c *Client) send(ctx context.Context, r *registration) error {
	r.mu.Lock()
	inst, dirty, current, gone := r.inst, r.dirty, r.current, r.gone
	r.sent = r.sent || !gone
	r.mu.Unlock()
	if gone {
		return nil
	}
	begun := time.Now()
	if current {
		q := url.Values{"status": {inst.Status}, "lastDirtyTimestamp": {strconv.FormatInt(dirty, 10)}}
		resp, err := c.do(ctx, http.MethodPut, inst.path()+"?"+q.Encode(), nil, nil)
		if err != nil {
			return err
		}
		if resp.status == http.StatusOK {
			r.renewed(dirty, begun.Add(c.cfg.Timing.LeaseRenewal.D()))
			return nil
		}
		if resp.status != http.StatusNotFound {
			return resp.failure("renew " + inst.ID)
		}
	}
	body, err := eureka.EncodeInstance(inst.toWire(dirty), eureka.JSON)
	if err != nil {
		return err
	}
	resp, err := c.do(ctx, http.MethodPost, inst.appPath(), nil, body)
	if err != nil {
		return err
	}
	if resp.status != http.StatusNoContent && resp.status != http.StatusOK {
		return resp.failure("register " + inst.ID)
	}
	r.renewed(dirty, begun.Add(c.cfg.Timing.LeaseRenewal.D()))
	return nil
}

// postpone tries no sooner than d from now, unless the instance has changed
// since it had that timestamp.
func (r *registration) postpone(d time.Duration, dirty int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dirty == dirty {
		r.renewAt = time.Now().Add(d)
	}
}

// renewed notes that the registry has confirmed the state of that timestamp,
// unless it has changed meanwhile.
func (r *registration) renewed(dirty int64, next time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dirty != dirty {
		return
	}
	r.renewAt = next
	if !r.current {
		r.current = true
		close(r.settled)
	}
}
