package cachecontrol

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/kv"
)

// memoryKV is a store shared by the regions of a test, replicated at once.
type memoryKV struct {
	mu    sync.Mutex
	items map[string]map[string]kv.Item // namespace/partition → sort
	puts  map[string]int                // writes of an item
	down  bool
}

func newMemoryKV() *memoryKV {
	return &memoryKV{items: map[string]map[string]kv.Item{}, puts: map[string]int{}}
}

func (m *memoryKV) Get(_ context.Context, ns kv.Namespace, partition, sort string) (kv.Item, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	it, ok := m.items[ns.Name+"/"+partition][sort]
	if !ok {
		return kv.Item{}, services.Errorf(services.NotFound, "no item %s", sort)
	}
	return it, nil
}

func (m *memoryKV) Query(_ context.Context, ns kv.Namespace, partition string, r kv.Range) ([]kv.Item, string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return nil, "", services.Errorf(services.Unavailable, "the store is down")
	}
	part := m.items[ns.Name+"/"+partition]
	var out []kv.Item
	for _, sort := range slices.Sorted(maps.Keys(part)) {
		if sort < r.Page {
			continue
		}
		if len(out) == 3 { // small pages, so that paging is tested
			return out, sort, nil
		}
		out = append(out, part[sort])
	}
	return out, "", nil
}

func (m *memoryKV) Put(_ context.Context, ns kv.Namespace, partition string, items ...kv.Item) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return services.Errorf(services.Unavailable, "the store is down")
	}
	key := ns.Name + "/" + partition
	if m.items[key] == nil {
		m.items[key] = map[string]kv.Item{}
	}
	for _, it := range items {
		it.Value, it.Written = bytes.Clone(it.Value), time.Now()
		m.items[key][it.Sort] = it
		m.puts[it.Sort]++
	}
	return nil
}

func (m *memoryKV) PutIf(context.Context, kv.Namespace, string, kv.Condition, ...kv.Item) error {
	return services.Errorf(services.Internal, "not used")
}

func (m *memoryKV) Delete(_ context.Context, ns kv.Namespace, partition string, sorts ...string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, sort := range sorts {
		delete(m.items[ns.Name+"/"+partition], sort)
	}
	return nil
}

func (m *memoryKV) Close() error { return nil }

func (m *memoryKV) setDown(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = down
}

func (m *memoryKV) writes(sort string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.puts[sort]
}
