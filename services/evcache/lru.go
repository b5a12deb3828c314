package evcache

import (
	"bytes"
	"fmt"
	"strconv"
	"sync"
	"time"
)

const (
	// maxItem is the size limit of an item as memcached counts it: with its key
	// and its header.
	maxItem = 1 << 20
	// itemHeader is memcached's on a 64-bit machine: the struct with the version,
	// and the ends of key and value.
	itemHeader = 48 + 8 + 1 + 2
	// maxKey is the longest key of the protocol.
	maxKey = 250
	// itemOverhead is what an item costs beside key and value: its struct, its
	// share of the map and the allocator's rounding.
	itemOverhead = 192
	// relativeExpiry is the limit up to which an expiry counts from now; a
	// larger one is a Unix time.
	relativeExpiry = 30 * 24 * 60 * 60
)

// item is one entry. Its value is never changed in place, so that a reader may
// go on using it after the lock is gone.
type item struct {
	key        string
	value      []byte
	flags      uint32
	cas        uint64
	expires    int64  // Unix nanoseconds; 0: never
	stored     int64  // Unix nanoseconds of the last store
	used       int64  // Unix nanoseconds of the last access
	fetched    bool   // read since stored
	crawl      uint32 // the last that told of it
	pins       int    // views of it that are not written yet
	gone       bool   // removed
	stale      bool   // invalidated; see ask
	claimed    bool   // somebody makes it anew
	marker     bool   // no item: where a crawl has got to
	prev, next *item
}

func (it *item) size() int64 { return int64(len(it.key) + len(it.value) + itemOverhead) }

// outcome of a store operation.
type outcome int

const (
	stored outcome = iota
	notStored
	exists
	notFound
	tooLarge
	noMemory
	notNumber
)

// storeMode says under which condition a value is stored.
type storeMode int

const (
	modeSet storeMode = iota
	modeAdd
	modeReplace
	modeAppend
	modePrepend
)

// counters are the figures of "stats".
type counters struct {
	cmdGet, cmdSet, cmdTouch, cmdFlush uint64
	getHits, getMisses                 uint64
	deleteHits, deleteMisses           uint64
	incrHits, incrMisses               uint64
	decrHits, decrMisses               uint64
	casHits, casMisses, casBadval      uint64
	touchHits, touchMisses             uint64
	evictions, reclaimed, totalItems   uint64
	refused                            uint64 // values that found no room on their way
}

// lru is the bounded map behind the server: least recently used items go
// first when the bound is reached.
type lru struct {
	max int64
	now func() time.Time

	mu    sync.Mutex
	items map[string]*item
	head  item // sentinel: head.next is the most, head.prev the least recent
	bytes int64
	cas   uint64
	// coming are the bytes of values on their way in, pinned those of values on
	// their way out, leaving those of pinned items that were removed.
	coming, pinned, leaving int64

	crawls   uint32 // begun so far
	crawling bool   // one crawl at a time
	flushAt  int64  // items stored before it are void from then on; 0: none
	counters
}

func newLRU(max int64, now func() time.Time) *lru {
	l := &lru{max: max, now: now, items: map[string]*item{}}
	l.head.prev, l.head.next = &l.head, &l.head
	return l
}

// deadline turns an expiry of the protocol into Unix nanoseconds.
func deadline(exptime int64, now time.Time) int64 {
	switch {
	case exptime == 0:
		return 0
	case exptime < 0:
		return 1 // long past
	case exptime <= relativeExpiry:
		return now.UnixNano() + exptime*int64(time.Second)
	}
	return time.Unix(exptime, 0).UnixNano()
}

// find returns a live item, and drops one that has expired or was flushed.
func (l *lru) find(key []byte, now int64) *item {
	it := l.items[string(key)]
	if it == nil {
		return nil
	}
	flushed := l.flushAt != 0 && now >= l.flushAt && it.stored < l.flushAt
	if !flushed && (it.expires == 0 || now < it.expires) {
		return it
	}
	l.reclaimed++
	l.remove(it)
	return nil
}

func (l *lru) remove(it *item) {
	it.prev.next, it.next.prev = it.next, it.prev
	it.prev, it.next = nil, nil
	delete(l.items, it.key)
	l.bytes -= it.size()
	if it.gone = true; it.pins > 0 {
		l.leaving += it.size()
	}
}

func (l *lru) bump(it *item, now int64) {
	it.used = now
	if l.head.next == it {
		return
	}
	it.prev.next, it.next.prev = it.next, it.prev
	l.pushFront(it)
}

func (l *lru) pushFront(it *item) {
	it.prev, it.next = &l.head, l.head.next
	l.head.next.prev = it
	l.head.next = it
}

// oldest returns the least recently used item; nil if there is none.
func (l *lru) oldest() *item {
	for it := l.head.prev; it != &l.head; it = it.prev {
		if !it.marker {
			return it
		}
	}
	return nil
}

// view is what a reader gets of an item.
type view struct {
	value   []byte
	flags   uint32
	cas     uint64
	expires int64
	item    *item // of get and ask alone; see unpin
	// Of ask alone: whether it was read before, seconds since then, and who
	// makes it anew.
	fetched bool
	idle    int64
	marks   string
}

// get returns an item's value; the caller unpins it when it is written. One that
// cannot be pinned counts as a miss: a cache may always say so.
func (l *lru) get(key []byte) (view, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cmdGet++
	now := l.now().UnixNano()
	it := l.find(key, now)
	if it == nil || !l.pin(it) {
		l.getMisses++
		return view{}, false
	}
	l.getHits++
	l.bump(it, now)
	it.fetched = true
	return view{value: it.value, flags: it.flags, cas: it.cas, expires: it.expires, item: it}, true
}

// touch sets a new expiry and returns the item.
func (l *lru) touch(key []byte, exptime int64) (view, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cmdTouch++
	now := l.now()
	it := l.find(key, now.UnixNano())
	if it == nil {
		l.touchMisses++
		return view{}, false
	}
	l.touchHits++
	it.expires = deadline(exptime, now)
	l.bump(it, now.UnixNano())
	return view{value: it.value, flags: it.flags, cas: it.cas, expires: it.expires}, true
}

// entry is what a writer wants stored.
type entry struct {
	mode    storeMode
	key     []byte
	value   []byte // owned by the cache from here on
	flags   uint32
	exptime int64
	cas     uint64 // 0: unconditional
	// invalidate takes a value of an older version than the item's too, as a
	// stale one.
	invalidate bool
}

// adds says that it adds to a value, which it does not know.
func (e entry) adds() bool { return e.mode == modeAppend || e.mode == modePrepend }

// store puts an entry under its mode's condition and returns its new version.
func (l *lru) store(e entry) (outcome, uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cmdSet++
	now := l.now()
	old := l.find(e.key, now.UnixNano())
	if out := l.admit(e, old); out != stored {
		return out, 0
	}
	added := len(e.value)
	switch e.mode {
	case modeAppend:
		e.value = bytes.Join([][]byte{old.value, e.value}, nil)
	case modePrepend:
		e.value = bytes.Join([][]byte{e.value, old.value}, nil)
	}
	it := &item{key: string(e.key), value: e.value, flags: e.flags, expires: deadline(e.exptime, now), stored: now.UnixNano(), used: now.UnixNano()}
	if e.adds() {
		it.flags, it.expires = old.flags, old.expires
	}
	if e.outdated(old) {
		it.expires, it.stale, it.claimed = old.expires, true, old.claimed
	}
	if len(it.key)+len(it.value)+itemHeader > maxItem || it.size() > l.max {
		if old != nil && e.mode == modeSet {
			l.remove(old) // the old value must not pass for the new one
		}
		if e.adds() && len(e.key)+added+itemHeader <= maxItem {
			return notStored, 0 // what is added is not too large, the whole is
		}
		return tooLarge, 0
	}
	if old != nil {
		l.remove(old)
	}
	if l.evict(it.size()); l.used()+it.size() > l.max {
		l.refused++
		return noMemory, 0 // values on their way have it all
	}
	l.insert(it)
	return stored, it.cas
}

// admit checks the condition of a store.
func (l *lru) admit(e entry, old *item) outcome {
	if e.cas != 0 {
		switch {
		case old == nil:
			l.casMisses++
			return notFound
		case old.cas != e.cas && !e.outdated(old):
			l.casBadval++
			return exists
		}
		l.casHits++
	}
	switch {
	case e.mode == modeAdd && old != nil:
		return notStored
	case e.mode != modeAdd && e.mode != modeSet && old == nil:
		return notStored
	}
	return stored
}

// outdated says that what is to be stored was made from an older version of the
// item, and may be served until somebody makes it anew. The item's time to live
// and who makes it stay as they are (memcached's doc/protocol.txt, "ms", I).
func (e entry) outdated(old *item) bool {
	return e.invalidate && !e.adds() && old != nil && e.cas != 0 && e.cas < old.cas
}

// insert adds an item, after the least recently used have made room.
func (l *lru) insert(it *item) {
	l.cas++
	it.cas = l.cas
	l.evict(it.size())
	l.items[it.key] = it
	l.pushFront(it)
	l.bytes += it.size()
	l.totalItems++
}

// delete removes an item; with a version only that one.
func (l *lru) delete(key []byte, cas uint64) outcome {
	l.mu.Lock()
	defer l.mu.Unlock()
	it := l.find(key, l.now().UnixNano())
	switch {
	case it == nil:
		l.deleteMisses++
		return notFound
	case cas != 0 && it.cas != cas:
		return exists
	}
	l.deleteHits++
	l.remove(it)
	return stored
}

// arith is an increment or decrement.
type arith struct {
	key   []byte
	delta uint64
	down  bool
	// vivify stores initial when there is no item, as the binary protocol and
	// meta arithmetic may ask.
	vivify  bool
	initial uint64
	exptime int64
	cas     uint64
	// ttl takes the place of the item's where hasTTL.
	ttl    int64
	hasTTL bool
}

// arithmetic adds to a decimal number: upwards it wraps at 64 bits, downwards
// it stops at 0.
func (l *lru) arithmetic(a arith) (outcome, uint64, view) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	old := l.find(a.key, now.UnixNano())
	if old == nil {
		_, misses := l.arithmeticFigures(a.down)
		*misses++
		if !a.vivify {
			return notFound, 0, view{}
		}
		it := &item{key: string(a.key), value: strconv.AppendUint(nil, a.initial, 10), expires: deadline(a.exptime, now), stored: now.UnixNano(), used: now.UnixNano()}
		l.insert(it)
		return stored, a.initial, view{value: it.value, cas: it.cas, expires: it.expires}
	}
	if a.cas != 0 && a.cas != old.cas {
		return exists, 0, view{}
	}
	n, ok := unsigned(old.value)
	if !ok {
		return notNumber, 0, view{}
	}
	hits, _ := l.arithmeticFigures(a.down)
	*hits++
	switch {
	case !a.down:
		n += a.delta
	case a.delta > n:
		n = 0
	default:
		n -= a.delta
	}
	value := strconv.AppendUint(nil, n, 10)
	for len(value) < len(old.value) { // memcached writes into the old one's place
		value = append(value, ' ')
	}
	it := &item{key: old.key, value: value, flags: old.flags, expires: old.expires, stored: now.UnixNano(), used: now.UnixNano()}
	if a.hasTTL {
		it.expires = deadline(a.ttl, now)
	}
	l.remove(old)
	l.insert(it)
	return stored, n, view{value: it.value, cas: it.cas, expires: it.expires}
}

// arithmeticFigures are the counters of increments or decrements; l.mu is held.
func (l *lru) arithmeticFigures(down bool) (hits, misses *uint64) {
	if down {
		return &l.decrHits, &l.decrMisses
	}
	return &l.incrHits, &l.incrMisses
}

// flush voids everything stored before now plus delay seconds.
func (l *lru) flush(delay int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cmdFlush++
	if delay > 0 {
		l.flushAt = deadline(delay, l.now())
		return
	}
	for _, it := range l.items {
		if it.gone = true; it.pins > 0 {
			l.leaving += it.size()
		}
	}
	clear(l.items)
	for it := l.head.next; it != &l.head; { // a crawl's mark must see that it is out
		next := it.next
		it.prev, it.next = nil, nil
		it = next
	}
	l.head.prev, l.head.next = &l.head, &l.head
	l.bytes, l.flushAt = 0, 0
}

// figures returns the counters, the number of items and their bytes.
func (l *lru) figures() (counters, int, int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counters, len(l.items), l.bytes
}

// resetFigures zeroes the counters.
func (l *lru) resetFigures() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counters = counters{}
}

// debug describes an item without using it.
func (l *lru) debug(key []byte) (string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	it := l.find(key, now.UnixNano())
	if it == nil {
		return "", false
	}
	fetched := "no"
	if it.fetched {
		fetched = "yes"
	}
	idle := (now.UnixNano() - it.used) / int64(time.Second)
	return fmt.Sprintf("exp=%d la=%d cas=%d fetch=%s size=%d", remaining(it.expires, now), idle, it.cas, fetched, it.size()), true
}
