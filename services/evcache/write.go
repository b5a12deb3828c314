package evcache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/flix-lab/flix/services"
)

// Set stores a value in every zone for ttl (0: until evicted). It returns when
// as many zones as the policy asks have it; the value may be reused then. To a
// client in Java it is a byte[].
func (c *Client) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	return c.SetAs(ctx, key, value, Bytes, ttl)
}

// SetAs is Set for a value of another kind.
func (c *Client) SetAs(ctx context.Context, key string, value []byte, k Kind, ttl time.Duration) error {
	now := time.Now()
	exp := exptime(ttl, now)
	w := write{op: "evcache.Set", verb: verbSet, key: key, expires: expiresAt(ttl, now), count: &c.metrics.sets}
	v, at, err := c.stored(w.op, key, value, k, exp)
	if err != nil {
		c.metrics.sets.error.Inc()
		return err
	}
	w.do = func(ctx context.Context, z *zone) error { return c.lay.setIn(ctx, z, at, v, exp) }
	return c.write(ctx, w, at)
}

// Add stores a value where a zone has none. It fails with services.Conflict
// when the zones that were waited for have one already.
func (c *Client) Add(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	now := time.Now()
	exp := exptime(ttl, now)
	w := write{op: "evcache.Add", verb: verbSet, key: key, expires: expiresAt(ttl, now), count: &c.metrics.adds}
	v, at, err := c.stored(w.op, key, value, Bytes, exp)
	if err == nil && c.cfg.ChunkSize > 0 && len(v.value) > c.cfg.ChunkOver {
		err = services.Errorf(services.Invalid, "%s %s: the value would be stored in pieces, and pieces cannot be added at once", w.op, key).WithRemedy("use Set")
	}
	if err != nil {
		c.metrics.adds.error.Inc()
		return err
	}
	w.do = func(ctx context.Context, z *zone) error { return c.lay.addIn(ctx, z, at, v, exp) }
	return c.write(ctx, w, at)
}

// AppendOrAdd appends to a value, or stores it with ttl where there is none.
// Neither is compressed or cut, and ttl does not change that of a value that is
// there. A key that is hashed is refused, as what lies under a digest has an
// end that nothing can be appended to.
func (c *Client) AppendOrAdd(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	now := time.Now()
	exp := exptime(ttl, now)
	k := c.wireKey(key)
	w := write{op: "evcache.AppendOrAdd", verb: verbSet, key: key, expires: expiresAt(ttl, now), count: &c.metrics.adds}
	var err error
	switch {
	case k.hashed:
		err = services.Errorf(services.Invalid, "%s %s: nothing can be appended under a hashed key", w.op, key).WithRemedy("use a key of up to %d letters", c.cfg.MaxPlainKey)
	case len(value) > MaxValue:
		err = c.tooLong(w.op, key, len(value), MaxValue)
	}
	if err != nil {
		c.metrics.adds.error.Inc()
		return err
	}
	v := raw{value: bytes.Clone(value), flags: uint32(Bytes)}
	w.do = func(ctx context.Context, z *zone) error { return c.lay.appendIn(ctx, z, k.id, v, exp) }
	return c.write(ctx, w, k.id)
}

// Delete removes an item from every zone; deleting what is not there is no
// error.
func (c *Client) Delete(ctx context.Context, key string) error {
	k := c.wireKey(key)
	return c.write(ctx, write{
		op: "evcache.Delete", verb: verbDelete, key: key, count: &c.metrics.deletes,
		do: func(ctx context.Context, z *zone) error { return c.lay.deleteIn(ctx, z, k.id) },
	}, k.id)
}

// Touch sets a new time to live in every zone that has the item.
func (c *Client) Touch(ctx context.Context, key string, ttl time.Duration) error {
	now := time.Now()
	k, exp := c.wireKey(key), exptime(ttl, now)
	return c.write(ctx, write{
		op: "evcache.Touch", verb: verbTouch, key: key, expires: expiresAt(ttl, now), count: &c.metrics.touches,
		do: func(ctx context.Context, z *zone) error { return c.lay.touchIn(ctx, z, k.id, exp) },
	}, k.id)
}

// GetAndTouch is Get, and Touch of what was found.
func (c *Client) GetAndTouch(ctx context.Context, key string, ttl time.Duration) ([]byte, error) {
	v, err := c.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	return v, c.Touch(ctx, key, ttl)
}

// stored makes what is stored of a value, and says under which wire key. It
// shares no memory with the value.
func (c *Client) stored(op, key string, value []byte, k Kind, exp int64) (raw, []byte, error) {
	if len(value) > c.longest() {
		return raw{}, nil, c.tooLong(op, key, len(value), c.longest())
	}
	v, err := c.codec.encode(value, k)
	if err != nil {
		return raw{}, nil, services.Wrap(op+" "+key, err)
	}
	at := c.wireKey(key)
	switch {
	case at.hashed:
		j := javaValue{key: at.canonical, value: v.value, flags: v.flags, ttl: exp, created: time.Now().UnixMilli()}
		v = raw{value: j.encode(), flags: flagSerialized}
	case v.flags&flagCompressed == 0:
		v.value = bytes.Clone(v.value)
	}
	if c.cfg.ChunkSize == 0 && len(v.value) > MaxValue {
		return raw{}, nil, c.tooLong(op, key, len(v.value), MaxValue)
	}
	return v, at.id, nil
}

func (c *Client) tooLong(op, key string, n, most int) error {
	return services.Errorf(services.Invalid, "%s %s: the value has %d bytes and the cache takes %d at most", op, key, n, most).
		WithRemedy("store it in smaller items, or not in the cache")
}

// write is one change of every zone.
type write struct {
	op, verb, key string
	expires       time.Time
	count         *results
	do            func(context.Context, *zone) error
}

// write changes every zone and waits for as many as the policy asks. The others
// go on by themselves; Close waits for them. A zone that fails is told to the
// repairers, and what was written to the other regions.
func (c *Client) write(ctx context.Context, w write, id []byte) error {
	c.hot.drop(w.key)
	f, err := c.fleet()
	if err == nil && len(f.allWrites) == 0 {
		err = services.Errorf(services.Unavailable, "evcache: every zone is read-only").WithRemedy("switch one back: flix cache mode ZONE read-write")
	}
	if err != nil {
		w.count.error.Inc()
		return services.Wrap(w.op+" "+w.key, err)
	}
	need := c.cfg.Policy.need(len(f.writes))
	answers := make(chan zoneAnswer, len(f.allWrites))
	// The laggards outlive this call, not its trace.
	late := context.WithoutCancel(ctx)
	// Where every zone is waited for, the caller writes to one of them itself.
	own := -1
	if need > 0 && need == len(f.writes) {
		own = need - 1
	}
	for i, z := range f.allWrites {
		if i == own {
			continue
		}
		a := zoneAnswer{zone: z.name, waited: i < len(f.writes)}
		if err := c.spawn(func() {
			a.err = c.writeIn(late, w, z)
			answers <- a
		}); err != nil {
			a.err = err
			answers <- a
		}
	}
	if own >= 0 {
		answers <- zoneAnswer{f.writes[own].name, true, c.writeIn(ctx, w, f.writes[own])}
	}
	heard, err := wait(ctx, answers, need, len(f.writes))
	if err != nil {
		w.count.error.Inc()
		e := &services.Error{Op: w.op + " " + w.key, Kind: services.KindOf(err), Msg: fmt.Sprintf("fewer than %d of %d zones took it", need, len(f.writes)), Err: err}
		switch {
		case errors.Is(err, errNotStored):
			e.Kind, e.Msg = services.Conflict, "there is one already"
		case e.Kind == services.Unavailable:
			e.Remedy = "see which servers answer: flix cache status; or wait for fewer zones"
		}
		if e.Kind != services.Conflict {
			// A zone may have taken it, or will: its siblings follow that, and so
			// do the other regions, which read what is there then.
			c.hot.drop(w.key)
			c.announce(late, w)
		}
		return e
	}
	w.count.ok.Inc()
	c.linger(ctx, answers, len(f.allWrites)-heard)
	c.hot.drop(w.key) // a reader may have kept the old value in between
	c.announce(ctx, w)
	return nil
}

// zoneAnswer is what became of a write in one zone, and whether the policy counts
// it.
type zoneAnswer struct {
	zone   string
	waited bool
	err    error
}

type tellKey struct{}

// TellZones has the writes within the returned context tell f what became of them
// in each zone that they hear of before they return. f runs on the writer's
// goroutine.
func TellZones(ctx context.Context, f func(zone string, err error)) context.Context {
	return context.WithValue(ctx, tellKey{}, f)
}

func (a zoneAnswer) tell(ctx context.Context) {
	if f, ok := ctx.Value(tellKey{}).(func(string, error)); ok {
		f(a.zone, a.err)
	}
}

// writeIn changes one zone.
func (c *Client) writeIn(ctx context.Context, w write, z *zone) error {
	err := w.do(ctx, z)
	if err != nil && !errors.Is(err, errNotStored) {
		c.metrics.zoneErrors.WithLabelValues(z.name).Inc()
		c.cfg.Tel.Log.Debug("cache write failed", "op", w.op, "zone", z.name, "error", err)
		c.report(ctx, w, z.name)
		return services.Wrap("zone "+z.name, err)
	}
	return err
}

// linger hears the answers that a write does not need, if there is a time for it.
func (c *Client) linger(ctx context.Context, answers <-chan zoneAnswer, n int) {
	if c.cfg.Linger <= 0 || n <= 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Linger)
	defer cancel()
	for range n {
		select {
		case <-ctx.Done():
			return
		case a := <-answers: // one that failed has been reported
			a.tell(ctx)
		}
	}
}

// wait returns when need of n answers were good or too many were not, and how
// many it has heard.
func wait(ctx context.Context, answers <-chan zoneAnswer, need, n int) (heard int, err error) {
	good, bad := 0, 0
	var failed error
	for good < need {
		if bad > n-need {
			return heard, failed
		}
		select {
		case <-ctx.Done():
			return heard, errors.Join(failed, ctx.Err())
		case a := <-answers:
			heard++
			a.tell(ctx)
			switch {
			case !a.waited:
			case a.err == nil:
				good++
			default:
				bad++
				failed = errors.Join(failed, a.err)
			}
		}
	}
	return heard, nil
}

// spawn runs f in a goroutine that Close waits for, if there is room.
func (c *Client) spawn(f func()) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errClosed
	}
	select {
	case c.pending <- struct{}{}:
	default:
		return services.Errorf(services.Exhausted, "%d cache writes are under way", cap(c.pending))
	}
	c.wg.Go(func() {
		defer func() { <-c.pending }()
		f()
	})
	return nil
}
