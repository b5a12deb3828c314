package embedded

import (
	"context"
	"maps"
	"sync"
)

// followers is what the primary knows of its replicas.
type followers struct {
	mu        sync.Mutex
	connected map[string]int    // streams per region
	applied   map[string]uint64 // last position each has told
	changed   chan struct{}
}

func newFollowers() *followers {
	return &followers{connected: map[string]int{}, applied: map[string]uint64{}, changed: make(chan struct{})}
}

func (f *followers) news() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// join counts a stream of a region until leave is called.
func (f *followers) join(region string) (leave func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.connected[region]++
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.connected[region]--; f.connected[region] == 0 {
			delete(f.connected, region)
		}
		f.news()
	}
}

// confirm notes what a region has applied. It may go down: a replica that
// moved a diverged tail aside has less than before.
func (f *followers) confirm(region string, position uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.applied[region] != position {
		f.applied[region] = position
		f.news()
	}
}

// confirmation is how a write was acknowledged.
type confirmation string

const (
	confirmReplica confirmation = "replica" // a second region has it
	confirmAlone   confirmation = "alone"   // no replica was connected
	confirmLate    confirmation = "late"    // replicas were connected, none answered in time
)

// await returns when a connected replica has a position, or none is connected,
// or ctx ends.
func (f *followers) await(ctx context.Context, position uint64) confirmation {
	for {
		f.mu.Lock()
		changed, how := f.changed, confirmAlone
		for region := range f.connected {
			how = confirmLate
			if f.applied[region] >= position {
				how = confirmReplica
				break
			}
		}
		f.mu.Unlock()
		if how != confirmLate {
			return how
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return confirmLate
		}
	}
}

// snapshot returns what each known region has applied.
func (f *followers) snapshot() map[string]uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.applied)
}
