package steering

import (
	"maps"
	"sync/atomic"
)

// titleShards bounds what a new title costs: one shard is copied.
const titleShards = 1024

// titles is a map from title ids that decisions read without a lock and without
// making anything. One goroutine writes. A change of who holds a title replaces
// one pointer; only a title that comes or goes copies a shard.
type titles struct {
	shards [titleShards]atomic.Pointer[map[string]*holding]
}

// holding is the place of one title.
type holding struct{ atomic.Pointer[title] }

// load returns a title, or nil; hash is fnv(id).
func (ts *titles) load(id string, hash uint64) *title {
	m := ts.shards[mix(hash)%titleShards].Load()
	if m == nil {
		return nil
	}
	h := (*m)[id]
	if h == nil {
		return nil
	}
	return h.Load()
}

func (ts *titles) get(id string) *title { return ts.load(id, fnv(id)) }

// store sets a title.
func (ts *titles) store(id string, t *title) {
	at := &ts.shards[mix(fnv(id))%titleShards]
	old := at.Load()
	if old != nil {
		if h := (*old)[id]; h != nil {
			h.Store(t)
			return
		}
	}
	fresh := map[string]*holding{}
	if old != nil {
		fresh = maps.Clone(*old)
	}
	h := &holding{}
	h.Store(t)
	fresh[id] = h
	at.Store(&fresh)
}

// remove forgets a title.
func (ts *titles) remove(id string) {
	at := &ts.shards[mix(fnv(id))%titleShards]
	old := at.Load()
	if old == nil || (*old)[id] == nil {
		return
	}
	fresh := maps.Clone(*old)
	delete(fresh, id)
	at.Store(&fresh)
}
