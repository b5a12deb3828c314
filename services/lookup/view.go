package lookup

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/flix-lab/flix/services"
)

// view is an immutable copy of the registry.
type view struct {
	version uint64
	all     []Instance            // sorted by ID
	vips    map[string][]Instance // UP only, by lower-case VIP, sorted by ID
	// ever holds every VIP that has had an UP instance in this view or before.
	ever map[string]bool
	// next is closed when a newer view has taken this one's place.
	next chan struct{}
}

// newView makes the view that follows old, which is nil for the first.
func newView(all []Instance, old *view) *view {
	v := &view{all: all, vips: map[string][]Instance{}, ever: map[string]bool{}, next: make(chan struct{})}
	if old != nil {
		v.version = old.version + 1
		maps.Copy(v.ever, old.ever)
	}
	slices.SortFunc(v.all, func(a, b Instance) int { return strings.Compare(a.ID, b.ID) })
	for _, i := range v.all {
		if i.Status != StatusUp {
			continue
		}
		for vip := range strings.SplitSeq(strings.ToLower(i.VIP), ",") {
			if vip = strings.TrimSpace(vip); vip != "" {
				v.vips[vip] = append(v.vips[vip], i)
				v.ever[vip] = true
			}
		}
	}
	return v
}

// VIP returns the UP instances of the VIP, from memory. The slice is shared:
// the caller must not change it.
func (c *Client) VIP(vip string) []Instance {
	return c.view.Load().vips[strings.ToLower(vip)]
}

// Lost says whether the VIP has had an UP instance and has none now, from memory.
func (c *Client) Lost(vip string) bool {
	v, key := c.view.Load(), strings.ToLower(vip)
	return v.ever[key] && len(v.vips[key]) == 0
}

// All returns every instance of any status, from memory, sorted by ID. The
// slice is shared: the caller must not change it.
func (c *Client) All() []Instance { return c.view.Load().all }

// Wait returns the UP instances of the VIP as soon as there are n, and asks
// the registry more often meanwhile. It fails with Unavailable when ctx ends
// first.
func (c *Client) Wait(ctx context.Context, vip string, n int) ([]Instance, error) {
	v := c.view.Load()
	key := strings.ToLower(vip)
	if up := v.vips[key]; len(up) >= n {
		return up, nil
	}
	c.waiters.Add(1)
	defer c.waiters.Add(-1)
	signal(c.kick)
	for {
		select {
		case <-v.next:
		case <-ctx.Done():
			return nil, &services.Error{
				Op: "lookup.Wait " + vip, Kind: services.Unavailable, Err: ctx.Err(),
				Msg: "not enough of its instances are up in the registry of " + c.cfg.Region,
			}
		}
		v = c.view.Load()
		if up := v.vips[key]; len(up) >= n {
			return up, nil
		}
	}
}

// subscription delivers one VIP's instances to a function, in order.
type subscription struct {
	vip    string
	f      func([]Instance)
	closed atomic.Bool

	mu   sync.Mutex // held during f: calls never overlap
	seen uint64     // version+1 of the last view delivered
	last []Instance
}

func (s *subscription) deliver(v *view) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() || v.version < s.seen {
		return
	}
	now := v.vips[s.vip]
	if s.seen != 0 && slices.EqualFunc(now, s.last, Instance.equal) {
		s.seen = v.version + 1
		return
	}
	s.seen, s.last = v.version+1, now
	s.f(now)
}

// Subscribe calls f with the UP instances of the VIP, at once and whenever
// they change, until unsubscribe. Calls never overlap and come in order; f
// must be quick and must not change the slice. A call under way may finish
// after unsubscribe returned.
func (c *Client) Subscribe(vip string, f func([]Instance)) (unsubscribe func()) {
	s := &subscription{vip: strings.ToLower(vip), f: f}
	c.subMu.Lock()
	c.subSeq++
	id := c.subSeq
	c.subs[id] = s
	c.subMu.Unlock()
	s.deliver(c.view.Load())
	return func() {
		s.closed.Store(true)
		c.subMu.Lock()
		delete(c.subs, id)
		c.subMu.Unlock()
	}
}

// publish puts a new view in place and tells everyone who waits for it.
func (c *Client) publish(all []Instance) {
	old := c.view.Load()
	v := newView(all, old)
	c.view.Store(v)
	close(old.next)
	c.subMu.Lock()
	subs := make([]*subscription, 0, len(c.subs))
	for _, s := range c.subs {
		subs = append(subs, s)
	}
	c.subMu.Unlock()
	for _, s := range subs {
		s.deliver(v)
	}
}

// signal wakes the owner of a channel of capacity one.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
