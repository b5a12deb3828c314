package lab

import (
	"context"
	"maps"
	"net/http"
	"sync"

	"github.com/flix-lab/flix/services"
)

// owe takes note that an instance did not hear of properties that were set for
// it, if err says so: it is told again until it has (see repay). One that heard
// and refused owes nothing.
func (l *Lab) owe(id string, err error, names ...string) {
	if err == nil || services.KindOf(err) != services.Unavailable {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.owed == nil {
		l.owed = map[string]map[string]struct{}{}
	}
	if l.owed[id] == nil {
		l.owed[id] = map[string]struct{}{}
	}
	for _, n := range names {
		l.owed[id][n] = struct{}{}
	}
}

// takeOwed returns what is owed and forgets it.
func (l *Lab) takeOwed() map[string]map[string]struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	owed := l.owed
	l.owed = nil
	return owed
}

// repay tells every instance that has missed something what is wanted of it now.
// What fails again stays owed. An instance that is stopped, or is wanted no more,
// is owed nothing: one that starts is declared with all of its properties.
func (l *Lab) repay(ctx context.Context) {
	owed := l.takeOwed()
	if len(owed) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, watchInterval)
	defer cancel()
	i := l.current()
	var wg sync.WaitGroup
	for _, inst := range i.instances() {
		names, ok := owed[inst.ID]
		if !ok || i.Stopped[inst.ID] || l.isDown(inst.Region) {
			continue
		}
		s, err := l.spec(i, inst)
		if err != nil {
			continue // it has no ports: it never started
		}
		props := maps.Clone(s.Properties)
		all := make([]string, 0, len(names))
		for n := range names { // one that was taken back is missing in what is wanted
			all, props[n] = append(all, n), s.Properties[n]
		}
		wg.Go(func() {
			err := l.admin(ctx, s, http.MethodPost, "/properties", props, nil)
			if l.owe(s.ID, err, all...); err == nil {
				l.log.Add("instance.told", s.ID, s.ID+" knows what was set while it did not answer", map[string]any{"properties": all})
			}
		})
	}
	wg.Wait()
}
