package embedded

import (
	"context"
	"time"

	"github.com/cockroachdb/pebble"
)

// sweepCells bounds the cells that one step of the sweep looks at, so that an
// idle lab stays idle and a busy store is not held up.
const sweepCells = 2048

// sweeper removes what readers no longer see and peers no longer need.
type sweeper struct {
	s      *Server
	cursor []byte
}

// run takes a step at every eviction interval until ctx ends.
func (w *sweeper) run(ctx context.Context) error {
	t := time.NewTicker(max(w.s.cfg.Timing.EvictionInterval.D(), firstPoll))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		if err := w.s.repl.trim(); err != nil {
			return err
		}
		if err := w.step(); err != nil {
			return err
		}
	}
}

// step purges dead cells among the next sweepCells.
//
// A cell goes only when no peer still waits for it. An expired one then goes
// at once: peers drop their copies by the same clock. A tombstone stays for
// the grace time, because an older write of its item may still arrive from a
// region that was cut off; one that is cut off for longer may bring a deleted
// item back.
func (w *sweeper) step() error {
	now := w.s.clock.now()
	needed := stampOf(now)
	if low, ok, err := w.s.repl.oldestPending(); err != nil {
		return err
	} else if ok {
		needed = min(needed, low)
	}
	dead, err := w.collect(func(c cell) bool {
		if c.hlc >= needed {
			return false
		}
		if c.tombstone {
			return timeOf(c.hlc).Add(w.s.cfg.TombstoneGrace).Before(now)
		}
		return c.expired(now)
	})
	if err != nil {
		return err
	}
	for _, d := range dead {
		if err := w.s.purge(d); err != nil {
			return err
		}
	}
	return nil
}

// collect returns the dead ones among the next cells and moves the cursor,
// back to the start at the end.
func (w *sweeper) collect(isDead func(cell) bool) ([]mutation, error) {
	lower, upper := kindRange(kindCell)
	if w.cursor != nil {
		lower = w.cursor
	}
	it, err := w.s.store.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, err
	}
	var dead []mutation
	next := forward(it)
	n, ok := 0, it.First()
	for ; ok && err == nil && n < sweepCells; n, ok = n+1, next() {
		var c cell
		if c, err = decodeCell(it.Value()); err == nil && isDead(c) {
			dead = append(dead, mutation{key: append([]byte(nil), it.Key()...), cell: cell{hlc: c.hlc, region: c.region}})
		}
	}
	w.cursor = nil
	if ok {
		w.cursor = append([]byte(nil), it.Key()...)
	}
	if cerr := it.Close(); err == nil {
		err = cerr
	}
	return dead, err
}

// purge removes a cell unless it was written again since it was found dead.
func (s *Server) purge(d mutation) error {
	ns, partition, _, err := splitKey(d.key)
	if err != nil {
		return err
	}
	unlock := s.store.lock(partitionKey(ns, partition))
	defer unlock()
	c, ok, err := s.store.cell(d.key)
	if err != nil || !ok || c.hlc != d.cell.hlc || c.region != d.cell.region {
		return err
	}
	s.metrics.purged.Inc()
	return s.store.db.Delete(d.key, pebble.NoSync)
}

// oldestPending is the timestamp of the oldest log entry that some known peer
// has not acknowledged.
func (l *replicator) oldestPending() (hlc uint64, ok bool, err error) {
	l.mu.Lock()
	low := l.head
	for _, p := range l.peers {
		low = min(low, p.Acked)
	}
	l.mu.Unlock()
	return l.entryAfter(low)
}
