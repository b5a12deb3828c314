package embedded

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble"

	"github.com/flix-lab/flix/services/kv/kvpb"
)

// A batch has at most batchCells cells and, past the first, batchBytes of keys
// and values; with a single write at most 1 MiB it stays below gRPC's 4 MiB.
const (
	batchCells = 256
	batchBytes = 256 << 10
)

// errGap is a log that lacks entries which a peer has not acknowledged.
var errGap = errors.New("the log has a gap")

// batch is what goes to a peer in one message, and what the peer has once it
// acknowledges it: everything up to pos, and while scanning is still true only
// the older cells up to cursor.
type batch struct {
	muts     []*kvpb.Mutation
	size     int
	pos      uint64
	scanning bool
	cursor   []byte
	// moved says that there is something to acknowledge even without cells:
	// the end of a scan, or entries whose cells are gone.
	moved bool
}

func (b *batch) due() bool { return b.moved || len(b.muts) > 0 }

func (b *batch) full() bool { return len(b.muts) >= batchCells || b.size >= batchBytes }

func (b *batch) add(key []byte, c cell) error {
	ns, partition, sort, err := splitKey(key)
	if err != nil {
		return fmt.Errorf("key %x: %w", key, err)
	}
	b.muts = append(b.muts, &kvpb.Mutation{Namespace: ns, Partition: partition, Cell: wireCell(sort, c)})
	b.size += len(key) + len(c.value)
	return nil
}

// next collects what is to be sent next: the scan first, then the log.
func (f *flow) next() (batch, error) {
	if f.scanning {
		return f.scan()
	}
	return f.follow()
}

// scan collects cells after the cursor, tombstones too.
func (f *flow) scan() (batch, error) {
	lower, upper := kindRange(kindCell)
	if f.cursor != nil {
		lower = append(f.cursor[:len(f.cursor):len(f.cursor)], 0)
	}
	it, err := f.l.store.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return batch{}, err
	}
	b := batch{pos: f.pos, scanning: true, cursor: f.cursor, moved: true}
	ok := it.First()
	for ; ok && err == nil && !b.full(); ok = it.Next() {
		var c cell
		if c, err = decodeCell(it.Value()); err == nil {
			err = b.add(it.Key(), c)
		}
		b.cursor = append([]byte(nil), it.Key()...)
	}
	if !ok {
		b.scanning, b.cursor = false, nil
	}
	if cerr := it.Close(); err == nil {
		err = cerr
	}
	f.scanning, f.cursor = b.scanning, b.cursor
	return b, err
}

// follow collects the cells of the log entries after the position. A cell that
// several of them name is sent once. At the head of the log it reads nothing.
func (f *flow) follow() (batch, error) {
	if f.l.behind(f.pos) == 0 {
		return batch{pos: f.pos}, nil
	}
	_, upper := kindRange(kindLog)
	it, err := f.l.store.db.NewIter(&pebble.IterOptions{LowerBound: logKey(f.pos + 1), UpperBound: upper})
	if err != nil {
		return batch{}, err
	}
	b := batch{pos: f.pos}
	sent := map[string]bool{}
	for ok := it.First(); ok && err == nil && !b.full(); ok = it.Next() {
		err = f.take(&b, it, sent)
	}
	if cerr := it.Close(); err == nil {
		err = cerr
	}
	f.pos = b.pos
	return b, err
}

func (f *flow) take(b *batch, it *pebble.Iterator, sent map[string]bool) error {
	seq, err := logSeq(it.Key())
	if err != nil {
		return err
	}
	if seq != b.pos+1 {
		return fmt.Errorf("%w: from %d to %d", errGap, b.pos, seq)
	}
	_, key, err := decodeEntry(it.Value())
	if err != nil {
		return err
	}
	b.pos, b.moved = seq, true
	if sent[string(key)] {
		return nil
	}
	sent[string(key)] = true
	c, ok, err := f.l.store.cell(key)
	if err != nil || !ok { // purged since: there is nothing left to say about it
		return err
	}
	return b.add(key, c)
}
