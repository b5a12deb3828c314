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

// shard is an immutable hash table with open addressing, half full at the most:
// a Go map would ask for the hash that is known and chase more pointers.
type shard struct {
	cells []cell // a power of two
}

type cell struct {
	hash uint64
	h    *holding // nil is free
}

// holding is the place of one title.
type holding struct {
	atomic.Pointer[title]
	id string
}

// find returns a title's place, or nil.
func (s *shard) find(id string, hash uint64) *holding {
	if s == nil {
		return nil
	}
	for i := int(hash / titleShards); ; i++ {
		c := &s.cells[i&(len(s.cells)-1)]
		if c.h == nil {
			return nil
		}
		if c.hash == hash && c.h.id == id {
			return c.h
		}
	}
}

// newShard makes a shard of places.
func newShard(all []cell) *shard {
	size := 2
	for size < 2*len(all) {
		size *= 2
	}
	s := &shard{cells: make([]cell, size)}
	for _, c := range all {
		i := int(c.hash / titleShards)
		for s.cells[i&(size-1)].h != nil {
			i++
		}
		s.cells[i&(size-1)] = c
	}
	return s
}

// all lists the taken cells.
func (s *shard) all() []cell {
	if s == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(s.cells), func(c cell) bool { return c.h == nil })
}

// load returns a title, or nil; hash is fnv(id).
func (ts *titles) load(id string, hash uint64) *title {
	hash = mix(hash)
	h := ts.shards[hash%titleShards].Load().find(id, hash)
	if h == nil {
		return nil
	}
	return h.Load()
}

func (ts *titles) get(id string) *title { return ts.load(id, fnv(id)) }

// store sets a title.
func (ts *titles) store(id string, t *title) {
	hash := mix(fnv(id))
	at := &ts.shards[hash%titleShards]
	old := at.Load()
	if h := old.find(id, hash); h != nil {
		h.Store(t)
		return
	}
	h := &holding{id: id}
	h.Store(t)
	at.Store(newShard(append(old.all(), cell{hash, h})))
}

// remove forgets a title.
func (ts *titles) remove(id string) {
	hash := mix(fnv(id))
	at := &ts.shards[hash%titleShards]
	old := at.Load()
	gone := old.find(id, hash)
	if gone == nil {
		return
	}
	at.Store(newShard(slices.DeleteFunc(old.all(), func(c cell) bool { return c.h == gone })))
}
