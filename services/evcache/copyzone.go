package evcache

import (
	"context"
	"encoding/base64"
	"errors"
	"strconv"
	"time"
)

// Items are copied between zones and regions as they lie: neither decompressed
// nor, under a digest, looked into.

// metaCommand is a get that tells the time to live.
func metaCommand(id []byte) command {
	if !lineKey(id) {
		b := base64.StdEncoding.AppendEncode([]byte("mg "), id)
		return command{kind: kindMeta, req: append(b, " b f t v\r\n"...)}
	}
	b := make([]byte, 0, len("mg ")+len(id)+10)
	return command{kind: kindMeta, req: append(append(append(b, "mg "...), id...), " f t v\r\n"...)}
}

// copyCommand stores an item where there is none.
func copyCommand(id []byte, v raw, exp int64) command {
	if lineKey(id) {
		return storeCommand("add", id, v, exp)
	}
	b := base64.StdEncoding.AppendEncode([]byte("ms "), id)
	b = strconv.AppendInt(append(b, ' '), int64(len(v.value)), 10)
	b = strconv.AppendUint(append(b, " b ME F"...), uint64(v.flags), 10)
	b = strconv.AppendInt(append(b, " T"...), exp, 10)
	return command{kind: kindSet, req: append(b, "\r\n"...), value: v.value}
}

// copyable says that the text protocol has a way to name a key.
func copyable(key string) bool {
	return lineKey([]byte(key)) || base64.StdEncoding.EncodedLen(len(key)) <= maxKey
}

// expiryOf turns a remaining time to live in seconds into the protocol's
// expiry; ok is false for an item that ends now.
func expiryOf(ttl int64, now time.Time) (exp int64, ok bool) {
	switch {
	case ttl < 0:
		return 0, true
	case ttl == 0:
		return 0, false
	case ttl > relativeExpiry:
		return now.Unix() + ttl, true
	}
	return ttl, true
}

// found is an item as it lies in a zone.
type found struct {
	raw
	chunks int
	// ttl in seconds that remain; -1: for ever.
	ttl int64
}

// look reads what lies under a wire key in a zone, with its time to live.
func (l layout) look(ctx context.Context, z *zone, id []byte) (found, error) {
	first := appendChunkKey(nil, id, 0)
	b := newBatch(z)
	b.add(id, metaCommand(id))
	b.add(first, metaCommand(first))
	if err := b.do(ctx, l.timeouts.Read); err != nil {
		return found{}, err
	}
	whole, head := b.at(0), b.at(1)
	if !errors.Is(whole.err, ErrMiss) {
		return found{raw: whole.out, ttl: whole.ttl}, whole.err
	}
	if head.err != nil {
		return found{}, head.err
	}
	v, n, err := l.assemble(ctx, z, id, head.out.value)
	return found{raw: v, chunks: n, ttl: head.ttl}, err
}

// lookAny reads what lies under a wire key in the first of the zones that has
// it. It is a miss if every zone that is asked has none; a zone that does not
// answer makes it a failure, as it may have one.
func (l layout) lookAny(ctx context.Context, zones []*zone, id []byte) (found, error) {
	err := ErrMiss
	for _, z := range zones {
		f, zerr := l.look(ctx, z, id)
		switch {
		case zerr == nil:
			return f, nil
		case !errors.Is(zerr, ErrMiss):
			err = zerr
		}
	}
	return found{}, err
}

// mirror makes a zone hold what its siblings hold under a wire key: the first
// that has something, else nothing.
func (l layout) mirror(ctx context.Context, z *zone, siblings []*zone, id []byte) error {
	f, err := l.lookAny(ctx, siblings, id)
	if err != nil && !errors.Is(err, ErrMiss) {
		return err
	}
	if err == nil {
		if exp, ok := expiryOf(f.ttl, time.Now()); ok {
			return l.putIn(ctx, z, id, f, exp)
		}
	}
	return l.deleteIn(ctx, z, id)
}

// putIn stores what was found as it was found: in pieces if it lay in pieces.
func (l layout) putIn(ctx context.Context, z *zone, id []byte, f found, exp int64) error {
	if f.chunks > 0 {
		l.over = 0
	}
	return l.setIn(ctx, z, id, f.raw, exp)
}

// any is the layout for items of which nobody knows how they lie: what is in
// one piece stays so, what has been cut is cut.
func (l layout) any() layout {
	if l.size == 0 {
		l.size = DefaultChunkSize
	}
	l.over = MaxValue
	return l
}
