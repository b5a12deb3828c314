package evcache

import "time"

// What a server holds beside its items is bounded by the same limit: values on
// their way in take their room before they are read, and values on their way
// out keep theirs until they are written, also when they are evicted meanwhile.
// Each of the two may take half of the limit. Values that fit into a
// connection's buffer are not counted: the buffers are bounded by the number of
// connections.

// transferTimeout bounds the time that a counted value is on its way in, or
// that a client does not take one.
const transferTimeout = 10 * time.Second

// used is what counts against the limit; l.mu is held.
func (l *lru) used() int64 { return l.bytes + l.coming + l.leaving }

// reserve takes room for a value of n bytes on its way in, after the least
// recently used items have made it. ok is false when too many are on their way.
func (l *lru) reserve(n int64) (ok bool) {
	if n <= connBuffer {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if n > l.max || l.coming > 0 && l.coming+n > l.max/2 {
		l.refused++
		return false
	}
	l.coming += n
	l.evict(0)
	return true
}

// release gives the room of reserve back.
func (l *lru) release(n int64) {
	if n <= connBuffer {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.coming -= n
}

// evict makes room for n bytes, as far as there are items; l.mu is held.
func (l *lru) evict(n int64) {
	for l.used()+n > l.max {
		old := l.oldest()
		if old == nil {
			return
		}
		l.remove(old)
		l.evictions++
	}
}

// pin keeps count of a value that is being written out; ok is false when too
// many are. l.mu is held.
func (l *lru) pin(it *item) (ok bool) {
	n := int64(len(it.value))
	if n <= connBuffer {
		return true
	}
	if l.pinned > 0 && l.pinned+n > l.max/2 {
		l.refused++
		return false
	}
	l.pinned += n
	it.pins++
	return true
}

// unpin is called when a view's value has been written.
func (l *lru) unpin(v view) {
	if v.item == nil || len(v.value) <= connBuffer {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pinned -= int64(len(v.value))
	if v.item.pins--; v.item.pins == 0 && v.item.gone {
		l.leaving -= v.item.size()
	}
}

// hasten has the connection end when a counted value does not get on; done
// takes that back.
func (c *session) hasten(n int64) (done func()) {
	if c.conn == nil || n <= connBuffer {
		return func() {}
	}
	_ = c.conn.SetDeadline(time.Now().Add(transferTimeout)) // a closed one fails by itself
	return func() { _ = c.conn.SetDeadline(time.Time{}) }
}
