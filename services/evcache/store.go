package evcache

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// layout is how values lie in a zone, and what is done there. Where values are
// cut, the pieces are written first and their description last, so that a
// reader who finds it finds them.
type layout struct {
	// size of a piece, 0: values are not cut; over is the stored size beyond
	// which they are.
	size, over int
	timeouts   Timeouts
	// alien counts what does not fit together.
	alien prometheus.Counter
}

// storeCommand is "VERB KEY FLAGS EXPTIME BYTES" with its value.
func storeCommand(verb string, id []byte, v raw, exp int64) command {
	b := make([]byte, 0, len(verb)+len(id)+48)
	b = append(append(append(append(b, verb...), ' '), id...), ' ')
	b = strconv.AppendUint(b, uint64(v.flags), 10)
	b = strconv.AppendInt(append(b, ' '), exp, 10)
	b = strconv.AppendInt(append(b, ' '), int64(len(v.value)), 10)
	value := v.value
	if value == nil {
		value = []byte{} // nil would mean that there is no data block
	}
	return command{kind: kindSet, req: append(b, "\r\n"...), value: value}
}

func deleteCommand(id []byte) command {
	b := make([]byte, 0, len("delete ")+len(id)+2)
	return command{kind: kindDelete, req: append(append(append(b, "delete "...), id...), "\r\n"...)}
}

func touchCommand(id []byte, exp int64) command {
	b := make([]byte, 0, len("touch ")+len(id)+24)
	b = append(append(append(b, "touch "...), id...), ' ')
	return command{kind: kindTouch, req: append(strconv.AppendInt(b, exp, 10), "\r\n"...)}
}

// setIn stores a value under a wire key in one zone.
func (l layout) setIn(ctx context.Context, z *zone, id []byte, v raw, exp int64) error {
	limit := l.timeouts.Write
	if l.size == 0 {
		cs := [1]command{storeCommand("set", id, v, exp)}
		if err := z.pick(id).do(ctx, limit, cs[:]); err != nil {
			return err
		}
		return cs[0].err
	}
	first := appendChunkKey(nil, id, 0)
	if len(v.value) <= l.over {
		b := newBatch(z)
		b.add(id, storeCommand("set", id, v, exp))
		// Pieces of the value before would show once this one is evicted.
		b.add(first, deleteCommand(first))
		if err := b.do(ctx, limit); err != nil {
			return err
		}
		return b.at(0).err
	}
	i := chunkedAs(id, v, l.size)
	b := newBatch(z)
	for n := 1; n < i.chunks; n++ {
		k := appendChunkKey(nil, id, n)
		b.add(k, storeCommand("set", k, raw{value: i.piece(v.value, n), flags: uint32(Bytes)}, exp))
	}
	if err := b.do(ctx, limit); err != nil {
		return err
	}
	for n := range b.places {
		if err := b.at(n).err; err != nil {
			return err
		}
	}
	b = newBatch(z)
	b.add(first, storeCommand("set", first, raw{value: []byte(i.String())}, exp))
	b.add(id, deleteCommand(id)) // it would hide the pieces
	if err := b.do(ctx, limit); err != nil {
		return err
	}
	return b.at(0).err
}

// addIn stores a value if there is none. A value that would be cut is refused
// before.
func (l layout) addIn(ctx context.Context, z *zone, id []byte, v raw, exp int64) error {
	if l.size > 0 {
		if _, _, err := l.getIn(ctx, z, id); !errors.Is(err, ErrMiss) {
			if err == nil {
				err = errNotStored
			}
			return err
		}
	}
	return l.one(ctx, z, id, storeCommand("add", id, v, exp))
}

// one runs a single command on the server of a key.
func (l layout) one(ctx context.Context, z *zone, id []byte, k command) error {
	cs := [1]command{k}
	if err := z.pick(id).do(ctx, l.timeouts.Write, cs[:]); err != nil {
		return err
	}
	return cs[0].err
}

// appendIn appends to a value, or adds it; as the original does, it appends
// once more when somebody else was faster to add it.
func (l layout) appendIn(ctx context.Context, z *zone, id []byte, v raw, exp int64) error {
	err := l.one(ctx, z, id, storeCommand("append", id, v, 0))
	if !errors.Is(err, errNotStored) {
		return err
	}
	if err = l.one(ctx, z, id, storeCommand("add", id, v, exp)); !errors.Is(err, errNotStored) {
		return err
	}
	return l.one(ctx, z, id, storeCommand("append", id, v, 0))
}

// deleteIn removes an item and its pieces from one zone.
func (l layout) deleteIn(ctx context.Context, z *zone, id []byte) error {
	return l.pieces(ctx, z, id, deleteCommand)
}

// touchIn sets a new time to live of an item and its pieces.
func (l layout) touchIn(ctx context.Context, z *zone, id []byte, exp int64) error {
	return l.pieces(ctx, z, id, func(k []byte) command { return touchCommand(k, exp) })
}

// pieces runs a command on an item and on all of its pieces. What is not there
// is no error.
func (l layout) pieces(ctx context.Context, z *zone, id []byte, of func(id []byte) command) error {
	if l.size == 0 {
		return notMiss(l.one(ctx, z, id, of(id)))
	}
	first := appendChunkKey(nil, id, 0)
	head := newBatch(z)
	head.add(first, getCommand(first))
	head.add(id, of(id))
	head.add(first, of(first))
	if err := head.do(ctx, l.timeouts.Write); err != nil {
		return err
	}
	for n := 1; n <= 2; n++ {
		if err := notMiss(head.at(n).err); err != nil {
			return err
		}
	}
	if head.at(0).err != nil {
		return nil
	}
	i, err := parseChunkInfo(head.at(0).out.value)
	if err != nil {
		return nil // its pieces cannot be found, nor read
	}
	b := newBatch(z)
	for n := 1; n < i.chunks; n++ {
		k := appendChunkKey(nil, id, n)
		b.add(k, of(k))
	}
	if err := b.do(ctx, l.timeouts.Write); err != nil {
		return err
	}
	for n := range b.places {
		if err := notMiss(b.at(n).err); err != nil {
			return err
		}
	}
	return nil
}

func notMiss(err error) error {
	if errors.Is(err, ErrMiss) {
		return nil
	}
	return err
}

// expiresAt is when an item of that time to live ends; zero for never.
func expiresAt(ttl time.Duration, now time.Time) time.Time {
	if ttl <= 0 {
		return time.Time{}
	}
	return now.Add(ttl)
}
