package steering

import (
	"slices"
	"sync/atomic"
)

// titleShards bounds what a new title costs: one shard is copied.
const titleShards = 1024

// titles is a map from title ids that decisions read without a lock and without
// making anything. One goroutine writes. A change of who holds a title replaces
// one pointer; only a title that comes or goes copies a shard.
type titles struct {
	shards [titleShards]atomic.Pointer[shard]
}

// shard is a hash table with open addressing, half full at the most, whose titles
// change and whose ids do not:
// a Go map would ask for the hash that is known and chase more pointers.
type shard struct {
	cells []cell // a power of two
}

const (
	// shortID is the most bytes of an id that lie in the title.
	shortID = 24
	// fewWords and someWords are how many words of a set of holders lie behind it:
	// 512 and 2048 appliances.
	fewWords, someWords = 8, 32
)

// is says whether the title has an id.
func (t *title) is(id string) bool {
	if len(id) != len(t.id) {
		return false
	}
	if len(id) <= shortID {
		return string(t.short[:len(id)]) == id
	}
	return t.id == id
}

// packed is a copy of a title with its id and its holders in one piece of memory,
// where that can be: a decision reads all of it, and each piece of its own would
// be a page of its own to look up.
func (t *title) packed(id string) *title {
	var out *title
	n := len(t.holders)
	switch {
	case n <= fewWords:
		x := &struct {
			title
			words [fewWords]uint64
		}{title: *t}
		copy(x.words[:], t.holders)
		out, x.holders = &x.title, x.words[:n:n]
	case n <= someWords:
		x := &struct {
			title
			words [someWords]uint64
		}{title: *t}
		copy(x.words[:], t.holders)
		out, x.holders = &x.title, x.words[:n:n]
	default:
		x := *t
		out = &x
	}
	out.id, out.short = id, [shortID]byte{}
	copy(out.short[:], id)
	return out
}

// cell is the place of one title. Its title is replaced in place, by the one
// goroutine that writes; its hash never.
type cell struct {
	hash uint64
	t    atomic.Pointer[title] // nil is free
}

// find returns a title's place, or nil, and its title.
func (s *shard) find(id string, hash uint64) (*cell, *title) {
	if s == nil {
		return nil, nil
	}
	for i := int(hash / titleShards); ; i++ {
		c := &s.cells[i&(len(s.cells)-1)]
		t := c.t.Load()
		if t == nil {
			return nil, nil
		}
		if c.hash == hash && t.is(id) {
			return c, t
		}
	}
}

// newShard makes a shard of titles.
func newShard(all []*title) *shard {
	size := 2
	for size < 2*len(all) {
		size *= 2
	}
	s := &shard{cells: make([]cell, size)}
	for _, t := range all {
		hash := mix(fnv(t.id))
		i := int(hash / titleShards)
		for s.cells[i&(size-1)].t.Load() != nil {
			i++
		}
		c := &s.cells[i&(size-1)]
		c.hash = hash
		c.t.Store(t)
	}
	return s
}

// all lists the titles.
func (s *shard) all() []*title {
	if s == nil {
		return nil
	}
	var out []*title
	for i := range s.cells {
		if t := s.cells[i].t.Load(); t != nil {
			out = append(out, t)
		}
	}
	return out
}

// load returns a title, or nil; hash is fnv(id).
func (ts *titles) load(id string, hash uint64) *title {
	hash = mix(hash)
	_, t := ts.shards[hash%titleShards].Load().find(id, hash)
	return t
}

func (ts *titles) get(id string) *title { return ts.load(id, fnv(id)) }

// store sets a title, which takes the id. What is kept is a copy.
func (ts *titles) store(id string, t *title) {
	t = t.packed(id)
	hash := mix(fnv(id))
	at := &ts.shards[hash%titleShards]
	old := at.Load()
	if c, _ := old.find(id, hash); c != nil {
		c.t.Store(t)
		return
	}
	at.Store(newShard(append(old.all(), t)))
}

// remove forgets a title.
func (ts *titles) remove(id string) {
	hash := mix(fnv(id))
	at := &ts.shards[hash%titleShards]
	old := at.Load()
	_, gone := old.find(id, hash)
	if gone == nil {
		return
	}
	at.Store(newShard(slices.DeleteFunc(old.all(), func(t *title) bool { return t == gone })))
}
