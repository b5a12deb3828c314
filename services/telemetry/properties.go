package telemetry

import (
	"maps"
	"sync"
)

// Properties are named settings of one instance that change while it runs, in
// the manner of a dynamic configuration service. Safe for concurrent use.
type Properties struct {
	mu       sync.RWMutex
	values   map[string]string
	watchers []func(name, value string)
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
// returns, in the order they were added, only for values that changed.
func (p *Properties) Set(values map[string]string) {
	p.mu.Lock()
	changed := make(map[string]string, len(values))
	for k, v := range values {
		if p.values[k] == v {
			continue
		}
		changed[k] = v
		if v == "" {
			delete(p.values, k)
		} else {
			p.values[k] = v
		}
	}
	watchers := p.watchers[:len(p.watchers):len(p.watchers)]
	p.mu.Unlock()
	for k, v := range changed {
		for _, w := range watchers {
			w(k, v)
		}
	}
}

// Watch calls f at once with every value set, then on each change.
func (p *Properties) Watch(f func(name, value string)) {
	p.mu.Lock()
	p.watchers = append(p.watchers, f)
	now := maps.Clone(p.values)
	p.mu.Unlock()
	for k, v := range now {
		f(k, v)
	}
}
