package evcache

import (
	"strconv"
	"time"
)

// Of many clients that miss an item, or find it old, meta get lets one make it
// anew: it wins (W), while the others are told that somebody has (Z). An item
// that was invalidated is served as stale (X) until then (memcached's
// doc/protocol.txt, "mg").

// ask is how a meta get reads.
type ask struct {
	// vivify makes an empty item of that time to live when there is none.
	vivify bool
	ttl    int64
	// recache lets a client win when less than so many seconds remain; 0 does not.
	recache int64
}

// ask is get for meta commands.
func (l *lru) ask(key []byte, a ask) (view, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cmdGet++
	now := l.now()
	it := l.find(key, now.UnixNano())
	won := it == nil && a.vivify
	if won {
		it = &item{key: string(key), value: []byte{}, expires: deadline(a.ttl, now), stored: now.UnixNano(), used: now.UnixNano()}
		if l.evict(it.size()); l.used()+it.size() > l.max {
			l.refused++
			it = nil
		} else {
			l.insert(it)
		}
	}
	if it == nil || !l.pin(it) {
		l.getMisses++
		return view{}, false
	}
	v := view{value: it.value, flags: it.flags, cas: it.cas, expires: it.expires, item: it, fetched: it.fetched, idle: (now.UnixNano() - it.used) / int64(time.Second)}
	if won {
		l.getMisses++
		it.claimed, v.marks = true, " W"
		return v, true
	}
	l.getHits++
	l.bump(it, now.UnixNano())
	it.fetched = true
	v.marks = it.claim(a.recache, now)
	return v, true
}

// claim lets the caller win if nobody has yet and the item is to be made anew.
func (it *item) claim(recache int64, now time.Time) string {
	marks := ""
	if it.claimed {
		marks = " Z"
	}
	if it.stale {
		marks += " X"
	}
	ending := recache > 0 && it.expires != 0 && remaining(it.expires, now) < recache
	if !it.claimed && (it.stale || ending) {
		it.claimed = true
		marks += " W"
	}
	return marks
}

// invalidate marks an item as stale, with a new version and, if one is given, a
// new time to live; with a version of its own only that one.
func (l *lru) invalidate(key []byte, m metaFlags) outcome {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	it := l.find(key, now.UnixNano())
	switch {
	case it == nil:
		l.deleteMisses++
		return notFound
	case m.cas != 0 && it.cas != m.cas:
		return exists
	}
	l.deleteHits++
	l.cas++
	it.stale, it.claimed, it.cas = true, false, l.cas
	if m.hasTTL {
		it.expires = deadline(m.ttl, now)
	}
	return stored
}

// used appends what a meta get tells of an item's use before it.
func (v view) used(b []byte, flag byte) []byte {
	if flag == 'l' {
		return strconv.AppendInt(append(b, " l"...), v.idle, 10)
	}
	if v.fetched {
		return append(b, " h1"...)
	}
	return append(b, " h0"...)
}
