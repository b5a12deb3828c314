package evcache

import (
	"context"
	"errors"

	"github.com/flix-lab/flix/services"
)

// Get returns an item's value: from the own zone, else from the next that has
// it. It fails with ErrMiss if no zone that answered has it, and with
// services.Unavailable if none answered. The value is the caller's.
func (c *Client) Get(ctx context.Context, key string) ([]byte, error) {
	if c.hot.count(key) {
		if v, ok := c.hot.get(key); ok {
			c.metrics.gets.hot.Inc()
			return v, nil
		}
		return c.hot.load(ctx, key, func(ctx context.Context) (Item, error) { return c.GetItem(ctx, key) })
	}
	it, err := c.GetItem(ctx, key)
	return it.Value, err
}

// GetItem is Get with what there is to know about the item. It asks the zones
// also for a hot key.
func (c *Client) GetItem(ctx context.Context, key string) (Item, error) {
	f, err := c.fleet()
	if err == nil && len(f.reads) == 0 {
		err = services.Errorf(services.Unavailable, "evcache: every zone is write-only").WithRemedy("switch one back: flix cache mode ZONE read-write")
	}
	if err != nil {
		c.metrics.gets.error.Inc()
		return Item{}, err
	}
	k := c.wireKey(key)
	missed := false
	var failed error
	for i, z := range f.reads {
		it, err := c.itemIn(ctx, z, k)
		switch {
		case err == nil && i == 0 && z.name == c.cfg.Zone || err == nil && i == 0 && c.cfg.Zone == "":
			c.metrics.gets.hit.Inc()
			return it, nil
		case err == nil:
			c.metrics.gets.fallback.Inc()
			return it, nil
		case errors.Is(err, ErrMiss):
			missed = true
		default:
			c.metrics.zoneErrors.WithLabelValues(z.name).Inc()
			failed = errors.Join(failed, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	if missed {
		c.metrics.gets.miss.Inc()
		return Item{}, ErrMiss
	}
	c.metrics.gets.error.Inc()
	return Item{}, &services.Error{Op: "evcache.Get " + key, Kind: services.Unavailable, Msg: "no zone answered", Err: failed}
}

// GetItemIn reads an item of one zone, whatever its mode.
func (c *Client) GetItemIn(ctx context.Context, zone, key string) (Item, error) {
	z, err := c.zone(zone)
	if err != nil {
		return Item{}, err
	}
	return c.itemIn(ctx, z, c.wireKey(key))
}

// itemIn reads an item of one zone and decodes it. What is no item of that key
// is a miss: a value that does not decode helps nobody, and the store behind
// the cache has it.
func (c *Client) itemIn(ctx context.Context, z *zone, k wireKey) (Item, error) {
	v, chunks, err := c.lay.getIn(ctx, z, k.id)
	if err != nil {
		return Item{}, err
	}
	stored := len(v.value)
	if k.hashed {
		j, err := unwrap(v, k.canonical)
		if err != nil {
			c.metrics.gets.alien.Inc()
			return Item{}, ErrMiss
		}
		v = j
	}
	it, err := c.codec.decode(v)
	if err != nil {
		c.metrics.gets.alien.Inc()
		return Item{}, ErrMiss
	}
	it.Stored, it.Chunks, it.Hashed, it.Zone = stored, chunks, k.hashed, z.name
	return it, nil
}

var errOtherKey = errors.New("the digest is another key's")

// unwrap takes a value out of the object in which hashed keys keep it.
func unwrap(v raw, canonical string) (raw, error) {
	if v.flags&flagSerialized == 0 {
		return raw{}, errNotJava
	}
	j, err := decodeJavaValue(v.value)
	if err != nil {
		return raw{}, err
	}
	if j.key != canonical {
		return raw{}, errOtherKey
	}
	return raw{value: j.value, flags: j.flags}, nil
}

func getCommand(id []byte) command {
	b := make([]byte, 0, len("get ")+len(id)+2)
	return command{kind: kindGet, req: append(append(append(b, "get "...), id...), "\r\n"...)}
}

// getIn reads what lies under a wire key in one zone, and puts it together if
// it lies in pieces; chunks counts them.
func (l layout) getIn(ctx context.Context, z *zone, id []byte) (v raw, chunks int, err error) {
	if l.size == 0 {
		cs := [1]command{getCommand(id)}
		if err := z.pick(id).do(ctx, l.timeouts.Read, cs[:]); err != nil {
			return raw{}, 0, err
		}
		return cs[0].out, 0, cs[0].err
	}
	first := appendChunkKey(make([]byte, 0, len(id)+3), id, 0)
	cs := [2]command{getCommand(id), getCommand(first)}
	p, q := z.pick(id), z.pick(first)
	// Where values are cut now and then, most reads find them whole.
	if together := p == q && l.over <= l.size; together {
		err = p.do(ctx, l.timeouts.Read, cs[:])
	} else if err = p.do(ctx, l.timeouts.Read, cs[:1]); err == nil && errors.Is(cs[0].err, ErrMiss) {
		err = q.do(ctx, l.timeouts.Read, cs[1:])
	}
	if err != nil {
		return raw{}, 0, err
	}
	if !errors.Is(cs[0].err, ErrMiss) {
		return cs[0].out, 0, cs[0].err
	}
	if cs[1].err != nil {
		return raw{}, 0, cs[1].err
	}
	return l.assemble(ctx, z, id, cs[1].out.value)
}

// assemble reads the pieces of a value.
func (l layout) assemble(ctx context.Context, z *zone, id, info []byte) (raw, int, error) {
	i, err := parseChunkInfo(info)
	if err != nil {
		l.alien.Inc()
		return raw{}, 0, ErrMiss
	}
	a := newAssembly(i)
	b := newBatch(z)
	for n := 1; n < i.chunks; n++ {
		k := appendChunkKey(nil, id, n)
		b.add(k, getCommand(k))
	}
	if err := b.do(ctx, l.timeouts.Read); err != nil {
		return raw{}, 0, err
	}
	for n := 1; n < i.chunks; n++ {
		k := b.at(n - 1)
		if k.err != nil {
			return raw{}, 0, k.err // one that is gone makes the whole a miss
		}
		if err := a.put(n, k.out.value); err != nil {
			l.alien.Inc()
			return raw{}, 0, ErrMiss
		}
	}
	v, err := a.raw()
	if err != nil {
		l.alien.Inc()
		return raw{}, 0, ErrMiss
	}
	return v, i.chunks, nil
}

// GetMany returns those of the keys that the cache has. It asks the own zone
// for all of them at once, server by server, then the other zones for what is
// missing. It fails only when no zone answered.
func (c *Client) GetMany(ctx context.Context, keys []string) (map[string][]byte, error) {
	f, err := c.fleet()
	if err != nil {
		return nil, err
	}
	out := make(map[string][]byte, len(keys))
	answered := len(keys) == 0
	var failed error
	for _, z := range f.reads {
		if err := c.manyIn(ctx, z, keys, out); err != nil {
			c.metrics.zoneErrors.WithLabelValues(z.name).Inc()
			failed = errors.Join(failed, err)
		} else {
			answered = true
		}
		if len(out) == len(keys) || ctx.Err() != nil {
			break
		}
	}
	if !answered {
		return out, &services.Error{Op: "evcache.GetMany", Kind: services.Unavailable, Msg: "no zone answered", Err: failed}
	}
	return out, nil
}

// manyIn adds what a zone has of those keys that are not in out yet.
func (c *Client) manyIn(ctx context.Context, z *zone, keys []string, out map[string][]byte) error {
	b := newBatch(z)
	var asked []string
	var at []wireKey
	for _, key := range keys {
		if _, ok := out[key]; ok {
			continue
		}
		k := c.wireKey(key)
		b.add(k.id, getCommand(k.id))
		asked, at = append(asked, key), append(at, k)
	}
	if err := b.do(ctx, c.cfg.Timeouts.Read); err != nil {
		return err
	}
	for i, key := range asked {
		got := b.at(i)
		v, err := got.out, got.err
		if err == nil && at[i].hashed {
			v, err = unwrap(v, at[i].canonical)
		}
		if err == nil {
			var it Item
			if it, err = c.codec.decode(v); err == nil {
				out[key] = it.Value
			}
		}
		if err != nil && c.cfg.ChunkSize > 0 {
			if it, err := c.itemIn(ctx, z, at[i]); err == nil {
				out[key] = it.Value
			}
		}
	}
	return nil
}
