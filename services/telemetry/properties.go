package telemetry

import (
	"maps"
	"slices"
	"sync"
)

// Properties are named settings of one instance that change while it runs, in
// the manner of a dynamic configuration service. Safe for concurrent use.
type Properties struct {
	// delivery is held from a change until every watcher has heard of it, so
	// that all hear of changes in the order they were made. It guards watchers.
	delivery sync.Mutex
	watchers []func(name, value string)

	mu     sync.RWMutex // guards values; never held while a watcher runs
	values map[string]string
}

// NewProperties returns properties with the given values at start.
func NewProperties(values map[string]string) *Properties {
	p := &Properties{values: make(map[string]string, len(values))}
	maps.Copy(p.values, values)
	return p
}

// Get returns the value, or "" when it is not set.
func (p *Properties) Get(name string) string {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.values[name]
}

// All returns a copy of every property.
func (p *Properties) All() map[string]string {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return maps.Clone(p.values)
}

// Set changes properties; an empty value unsets one. Watchers run before it
// returns, in the order they were added, by name and only for values that
// changed.
func (p *Properties) Set(values map[string]string) {
	p.delivery.Lock()
	defer p.delivery.Unlock()
	for _, name := range p.change(values) {
		for _, w := range p.watchers {
			w(name, values[name])
		}
	}
}

// change stores values and returns the names of those that are new, in order.
func (p *Properties) change(values map[string]string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var changed []string
	for name, v := range values {
		if p.values[name] == v {
			continue
		}
		changed = append(changed, name)
		if v == "" {
			delete(p.values, name)
		} else {
			p.values[name] = v
		}
	}
	slices.Sort(changed)
	return changed
}

// Watch calls f at once with every value set, then on each change, one call at
// a time and in the order of the changes. f may read properties; it must not
// Set or Watch them, which would wait for f itself.
func (p *Properties) Watch(f func(name, value string)) {
	p.delivery.Lock()
	defer p.delivery.Unlock()
	p.watchers = append(p.watchers, f)
	now := p.All()
	for _, name := range slices.Sorted(maps.Keys(now)) {
		f(name, now[name])
	}
}
