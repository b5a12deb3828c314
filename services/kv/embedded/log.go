package embedded

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble"

	"github.com/flix-lab/flix/services"
)

// commit stamps and writes the cells of one write as one batch, together with
// their log entries when there is a peer to read them. It returns the stamp
// and the position of the last entry once the kernel has the write.
//
// Timestamps, positions and the order in which writes become visible agree,
// because all three are settled under one lock; waiting for the write(2) is
// left outside it, so that concurrent commits share one.
func (l *replicator) commit(muts []mutation) (hlc, seq uint64, err error) {
	b := l.store.db.NewBatch()
	defer func() { _ = b.Close() }() // frees memory; what matters is SyncWait's error
	hlc, seq, err = l.publish(b, muts)
	if err != nil {
		return 0, 0, err
	}
	if err := b.SyncWait(); err != nil {
		return 0, 0, err
	}
	if err := l.store.broken.cause(); err != nil {
		return 0, 0, fmt.Errorf("the store is broken: %w", err)
	}
	l.appended.broadcast()
	return hlc, seq, nil
}

func (l *replicator) publish(b *pebble.Batch, muts []mutation) (hlc, seq uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	hlc, seq = l.clock.tick(), l.head
	for _, m := range muts {
		m.cell.hlc = hlc
		if err := b.Set(m.key, m.cell.encode(), nil); err != nil {
			return 0, 0, err
		}
		seq++
		if len(l.peers) == 0 {
			continue
		}
		if err := b.Set(logKey(seq), encodeEntry(hlc, m.key), nil); err != nil {
			return 0, 0, err
		}
	}
	if err := l.store.db.ApplyNoSyncWait(b, pebble.Sync); err != nil {
		return 0, 0, err
	}
	l.head = seq
	return hlc, seq, nil
}

// A log entry is the timestamp of the write and the key of its cell, not the
// cell: with the last write winning, what is under the key when the entry is
// sent serves as well as what was there, and a cell that is written often
// costs little.
func encodeEntry(hlc uint64, key []byte) []byte {
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(key)), hlc), key...)
}

func decodeEntry(b []byte) (hlc uint64, key []byte, err error) {
	if len(b) < 9 {
		return 0, nil, errKey
	}
	return binary.BigEndian.Uint64(b), b[8:], nil
}

// behind is how many entries of the log follow a position. Those that it counts
// can be read.
func (l *replicator) behind(pos uint64) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head - min(pos, l.head)
}

// lastEntry is the greatest position in the log, 0 when it is empty.
func (l *replicator) lastEntry() (uint64, error) {
	lower, upper := kindRange(kindLog)
	it, err := l.store.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return 0, err
	}
	var seq uint64
	if it.Last() {
		seq, err = logSeq(it.Key())
	}
	if cerr := it.Close(); err == nil {
		err = cerr
	}
	return seq, err
}

// entryAfter returns the timestamp of the first entry after a position; false
// when there is none.
func (l *replicator) entryAfter(seq uint64) (hlc uint64, ok bool, err error) {
	_, upper := kindRange(kindLog)
	it, err := l.store.db.NewIter(&pebble.IterOptions{LowerBound: logKey(seq + 1), UpperBound: upper})
	if err != nil {
		return 0, false, err
	}
	if ok = it.First(); ok {
		hlc, _, err = decodeEntry(it.Value())
	}
	if cerr := it.Close(); err == nil {
		err = cerr
	}
	return hlc, ok, err
}

// trimStep is how many entries are dropped at once: each time costs a mark that
// every reader has to heed until the store tidies up.
const trimStep = 1000

// trim drops the entries that every known peer has acknowledged, and, when
// more than maxLog are left, the rest too: peers that lag so far behind get a
// full scan instead when they are back.
func (l *replicator) trim() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.peers {
		if l.head-p.Acked <= l.maxLog {
			continue
		}
		l.tel.Log.Warn("peer is too far behind, the log is cut and it will get a full copy", "peer", p.name, "pending", l.head-p.Acked)
		if err := l.restartScan(p); err != nil {
			return err
		}
	}
	low := l.head
	for _, p := range l.peers {
		low = min(low, p.Acked)
	}
	if low < l.trimmed+min(trimStep, l.maxLog) {
		return nil
	}
	if err := l.store.db.DeleteRange(logKey(0), logKey(low+1), pebble.NoSync); err != nil {
		return err
	}
	l.trimmed = low
	return nil
}

// awaitPeer returns once a peer has acknowledged a position, at once when no
// peer is configured.
func (l *replicator) awaitPeer(ctx context.Context, seq uint64) error {
	l.hurry(seq)
	if deadline, ok := ctx.Deadline(); ok {
		// Leave the caller time to hear why.
		margin := min(50*time.Millisecond, time.Until(deadline)/10)
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-margin))
		defer cancel()
	}
	for {
		changed := l.acked.wait()
		peers := l.current()
		if len(peers) == 0 || l.confirmed(peers, seq) {
			return nil
		}
		l.nudge()
		select {
		case <-changed:
		case <-ctx.Done():
			return &services.Error{
				Kind: services.Unavailable, Reason: ReasonNotConfirmed, Err: ctx.Err(),
				Msg:    fmt.Sprintf("the write is applied in %s but no other region has confirmed it", l.region),
				Remedy: "the write will replicate when a peer is back in reach; writing it again is harmless",
			}
		}
	}
}

// hurry has what leads up to a position sent at once.
func (l *replicator) hurry(seq uint64) {
	l.mu.Lock()
	l.awaited = max(l.awaited, seq)
	l.mu.Unlock()
	l.hurried.broadcast()
}

// awaits says whether somebody waits for a write after a position.
func (l *replicator) awaits(pos uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.awaited > pos
}

// ReasonNotConfirmed marks the failure of a global write that was applied here
// and not confirmed by a second region in time.
const ReasonNotConfirmed = "not_confirmed"

// confirmed says whether one of the peers has everything up to a position.
func (l *replicator) confirmed(peers map[string]string, seq uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name := range peers {
		if p, ok := l.peers[name]; ok && !p.Scanning && p.Acked >= seq {
			return true
		}
	}
	return false
}
