package oca

import (
	"context"
	"sync"
	"time"

	"github.com/flix-lab/flix/oca/wire"
	"github.com/flix-lab/flix/services"
)

// arrival is how far a file being received has come and is known to be right:
// chunk by chunk, or not at all before the end if it is of one. Its readers
// follow it; the last byte is kept from them until the checksum of all is right,
// too, so that nobody ever gets a wrong byte, or a file that is not as published.
// Safe for concurrent use.
type arrival struct {
	size     int64
	patience time.Duration

	mu      sync.Mutex
	offset  int64
	done    bool
	failed  bool
	changed chan struct{} // closed when any of it changes
}

func newArrival(size uint64, patience time.Duration) *arrival {
	return &arrival{size: int64(size), patience: patience, changed: make(chan struct{})}
}

// set notes a change and wakes who waits.
func (a *arrival) set(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
	close(a.changed)
	a.changed = make(chan struct{})
}

func (a *arrival) grew(offset uint64) { a.set(func() { a.offset = int64(offset) }) }
func (a *arrival) finish()            { a.set(func() { a.done = true }) }
func (a *arrival) fail()              { a.set(func() { a.failed = true }) }

// Await implements wire.Growth. Errors are Unavailable: "not_arrived" when the
// byte does not come within the patience, "fill_failed" when it never will.
func (a *arrival) Await(ctx context.Context, off int64) (int64, error) {
	timer := time.NewTimer(a.patience)
	defer timer.Stop()
	for {
		a.mu.Lock()
		limit, failed, changed := a.offset, a.failed && !a.done, a.changed
		if a.done {
			limit = a.size
		} else {
			limit = min(limit, a.size-1)
		}
		a.mu.Unlock()
		switch {
		case failed:
			return 0, services.Errorf(services.Unavailable, "the file could not be received").WithReason("fill_failed").WithRemedy("try another appliance")
		case off < limit:
			return limit, nil
		}
		select {
		case <-changed:
		case <-timer.C:
			return 0, services.Errorf(services.Unavailable, "byte %d of the file has not arrived yet", off).WithReason("not_arrived").WithRemedy("try again, or another appliance")
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// incoming returns a file that is being received, for the caller to release;
// nil if it is not.
func (s *store) incoming(r ref) *wire.File {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if w := s.receiving[r]; w != nil && w.view != nil && w.view.Acquire() {
		return w.view
	}
	return nil
}

// show lets readers follow a receiver. Called with the store's lock held.
func (w *receiver) show() error {
	f, err := w.s.root.Open(w.name)
	if err != nil {
		return err
	}
	w.arrival = newArrival(w.want.size, w.s.patience)
	w.view = wire.NewFile(f, metaOf(w.ref, w.want), w.arrival)
	return nil
}

// hide ends it; readers that have come go on until they are through, or fail
// with the receiver. Called with the store's lock held.
func (w *receiver) hide() {
	if w.view == nil {
		return
	}
	if w.s.receiving[w.ref] == w {
		delete(w.s.receiving, w.ref)
	}
	w.view.Release()
	w.view = nil
}
