package embedded

import (
	"bytes"
	"context"
	"unicode/utf8"

	"github.com/cockroachdb/pebble"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/kv/kvpb"
)

const (
	// maxCells and maxWriteBytes bound one write; maxKeyBytes each part of a
	// key. A write fits into one replication message.
	maxCells      = 1000
	maxWriteBytes = 1 << 20
	maxKeyBytes   = 1 << 10
)

// Write implements kvpb.KVServer.
func (s *Server) Write(ctx context.Context, r *kvpb.WriteRequest) (reply *kvpb.WriteReply, err error) {
	defer func() { s.metrics.op(writeOp(r), err) }()
	if err := validWrite(r); err != nil {
		return nil, err
	}
	reply, seq, err := s.apply(r)
	if err != nil || !reply.GetApplied() || !r.GetGlobal() {
		return reply, err
	}
	if err := s.repl.awaitPeer(ctx, seq); err != nil {
		return nil, err
	}
	return reply, nil
}

// writeOp names a write in the metrics after the port's methods.
func writeOp(r *kvpb.WriteRequest) string {
	switch cells := r.GetCells(); {
	case r.GetCondition() != nil:
		return "putif"
	case len(cells) > 0 && cells[0].GetTombstone():
		return "delete"
	}
	return "put"
}

// apply checks the condition and writes the cells, one writer of a partition
// at a time. It returns the log position that covers the write.
func (s *Server) apply(r *kvpb.WriteRequest) (*kvpb.WriteReply, uint64, error) {
	prefix := partitionKey(r.GetNamespace(), r.GetPartition())
	unlock := s.store.lock(prefix)
	defer unlock()
	if cond := r.GetCondition(); cond != nil {
		current, err := s.visible(prefix, cond.GetSort())
		if err != nil {
			return nil, 0, err
		}
		if !holds(cond, current) {
			return &kvpb.WriteReply{Current: current}, 0, nil
		}
	}
	muts := make([]mutation, 0, len(r.GetCells()))
	for _, w := range r.GetCells() {
		key := append(prefix[:len(prefix):len(prefix)], w.GetSort()...)
		old, ok, err := s.store.cell(key)
		if err != nil {
			return nil, 0, err
		}
		if ok {
			// A write wins over all that this region has seen, even when its
			// wall clock was set back since.
			s.clock.observe(old.hlc)
		}
		c := cell{expires: w.GetExpiresUnixMs(), tombstone: w.GetTombstone(), region: s.cfg.Region}
		if !c.tombstone {
			c.value = w.GetValue()
		}
		muts = append(muts, mutation{key: key, cell: c})
	}
	hlc, seq, err := s.repl.commit(muts)
	if err != nil {
		return nil, 0, err
	}
	return &kvpb.WriteReply{Applied: true, Hlc: hlc}, seq, nil
}

// visible reads what a reader would see under a sort key; nil if nothing.
func (s *Server) visible(prefix []byte, sort string) (*kvpb.Cell, error) {
	c, ok, err := s.store.cell(append(prefix[:len(prefix):len(prefix)], sort...))
	if err != nil || !ok || !c.visible(s.clock.now()) {
		return nil, err
	}
	return wireCell(sort, c), nil
}

func holds(cond *kvpb.Condition, current *kvpb.Cell) bool {
	if cond.GetAbsent() || current == nil {
		return cond.GetAbsent() && current == nil
	}
	return bytes.Equal(current.GetValue(), cond.GetValueEquals())
}

// mutation is a cell with the key it goes under.
type mutation struct {
	key  []byte
	cell cell
}

// merge stores what a peer wrote wherever it is later than what is here.
func (s *Server) merge(in []*kvpb.Mutation) error {
	keys := make([][]byte, len(in))
	prefixes := make([][]byte, len(in))
	for i, m := range in {
		if err := validMutation(m); err != nil {
			return err
		}
		prefixes[i] = partitionKey(m.GetNamespace(), m.GetPartition())
		keys[i] = append(prefixes[i][:len(prefixes[i]):len(prefixes[i])], m.GetCell().GetSort()...)
	}
	unlock := s.store.lock(prefixes...)
	defer unlock()
	// An indexed batch, so that of two mutations of one cell the later stays.
	b := s.store.db.NewIndexedBatch()
	defer func() { _ = b.Close() }() // frees memory; what matters is Commit's error
	for i, m := range in {
		w := m.GetCell()
		s.clock.observe(w.GetHlc())
		c := cell{hlc: w.GetHlc(), expires: w.GetExpiresUnixMs(), tombstone: w.GetTombstone(), region: w.GetRegion(), value: w.GetValue()}
		wins, err := winsIn(b, keys[i], c)
		if err != nil {
			return err
		}
		if !wins {
			continue
		}
		if err := b.Set(keys[i], c.encode(), nil); err != nil {
			return err
		}
	}
	if b.Empty() {
		return nil
	}
	if err := b.Commit(pebble.Sync); err != nil {
		return err
	}
	return s.store.broken.cause()
}

func winsIn(b *pebble.Batch, key []byte, c cell) (bool, error) {
	v, closer, err := b.Get(key)
	if err == pebble.ErrNotFound {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	old, err := decodeCell(v)
	if cerr := closer.Close(); err == nil {
		err = cerr
	}
	return err == nil && c.beats(old), err
}

func validWrite(r *kvpb.WriteRequest) error {
	if err := validPartition(r.GetNamespace(), r.GetPartition()); err != nil {
		return err
	}
	if n := len(r.GetCells()); n == 0 || n > maxCells {
		return services.Errorf(services.Invalid, "a write of %d items: write 1 to %d at once", n, maxCells)
	}
	size := 0
	for _, c := range r.GetCells() {
		if len(c.GetSort()) > maxKeyBytes {
			return services.Errorf(services.Invalid, "a sort key of %d bytes: at most %d", len(c.GetSort()), maxKeyBytes)
		}
		size += len(c.GetSort()) + len(c.GetValue())
	}
	if size > maxWriteBytes {
		return services.Errorf(services.Invalid, "a write of %d bytes: at most %d; split it, or put the bytes into objects", size, maxWriteBytes)
	}
	return nil
}

func validPartition(namespace, partition string) error {
	for _, part := range []struct{ what, v string }{{"namespace", namespace}, {"partition", partition}} {
		if part.v == "" || len(part.v) > maxKeyBytes || !utf8.ValidString(part.v) {
			return services.Errorf(services.Invalid, "%s %.32q: want 1 to %d bytes of UTF-8", part.what, part.v, maxKeyBytes)
		}
	}
	return nil
}

func validMutation(m *kvpb.Mutation) error {
	if err := validPartition(m.GetNamespace(), m.GetPartition()); err != nil {
		return err
	}
	c := m.GetCell()
	if c.GetHlc() == 0 || c.GetRegion() == "" || len(c.GetRegion()) > 255 || len(c.GetSort()) > maxKeyBytes {
		return services.Errorf(services.Invalid, "a mutation of %s/%s lacks its time or region", m.GetNamespace(), m.GetPartition())
	}
	return nil
}
