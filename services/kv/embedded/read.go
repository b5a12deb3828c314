package embedded

import (
	"bytes"
	"context"
	"encoding/base64"

	"github.com/cockroachdb/pebble"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/kv/kvpb"
)

const (
	// maxPage is the most cells in one page; maxPageBytes bounds their values
	// so that a page stays well below gRPC's limit of 4 MiB on a message.
	maxPage      = 1000
	maxPageBytes = 1 << 20
	// ctxEvery is how many cells are passed over between two looks at ctx.
	ctxEvery = 1024
)

// Get implements kvpb.KVServer.
func (s *Server) Get(_ context.Context, r *kvpb.GetRequest) (reply *kvpb.GetReply, err error) {
	defer func() { s.metrics.op("get", err) }()
	if err := validPartition(r.GetNamespace(), r.GetPartition()); err != nil {
		return nil, err
	}
	c, ok, err := s.store.cell(cellKey(r.GetNamespace(), r.GetPartition(), r.GetSort()))
	if err != nil {
		return nil, err
	}
	if !ok || !c.visible(s.clock.now()) {
		return &kvpb.GetReply{}, nil
	}
	return &kvpb.GetReply{Found: true, Cell: wireCell(r.GetSort(), c)}, nil
}

// Query implements kvpb.KVServer.
func (s *Server) Query(ctx context.Context, r *kvpb.QueryRequest) (reply *kvpb.QueryReply, err error) {
	defer func() { s.metrics.op("query", err) }()
	if err := validPartition(r.GetNamespace(), r.GetPartition()); err != nil {
		return nil, err
	}
	prefix := partitionKey(r.GetNamespace(), r.GetPartition())
	bounds, err := queryBounds(prefix, r)
	if err != nil {
		return nil, err
	}
	if bytes.Compare(bounds.LowerBound, bounds.UpperBound) >= 0 {
		return &kvpb.QueryReply{}, nil
	}
	it, err := s.store.db.NewIter(bounds)
	if err != nil {
		return nil, err
	}
	reply, err = s.page(ctx, it, len(prefix), r)
	if cerr := it.Close(); err == nil && cerr != nil {
		return nil, cerr
	}
	return reply, err
}

// queryBounds narrows the partition to the range asked for and to what the
// page token leaves of it.
func queryBounds(prefix []byte, r *kvpb.QueryRequest) (*pebble.IterOptions, error) {
	at := func(sort string) []byte { return append(prefix[:len(prefix):len(prefix)], sort...) }
	o := &pebble.IterOptions{LowerBound: at(r.GetFrom()), UpperBound: partitionEnd(prefix)}
	if r.GetTo() != "" {
		o.UpperBound = at(r.GetTo())
	}
	if r.GetPageToken() == "" {
		return o, nil
	}
	last, ok := lastOfPage(r.GetPageToken())
	if !ok {
		return nil, services.Errorf(services.Invalid, "page token %q is not one of ours", r.GetPageToken())
	}
	if r.GetReverse() {
		o.UpperBound = at(last)
	} else {
		o.LowerBound = at(last + "\x00")
	}
	return o, nil
}

// page reads visible cells until the page is full. The token is the sort key
// of the last one, so a page is not disturbed by writes between two calls.
func (s *Server) page(ctx context.Context, it *pebble.Iterator, skip int, r *kvpb.QueryRequest) (*kvpb.QueryReply, error) {
	limit := int(r.GetLimit())
	if limit == 0 || limit > maxPage {
		limit = maxPage
	}
	valid, step := it.First, forward(it)
	if r.GetReverse() {
		valid, step = it.Last, it.Prev
	}
	reply, size, now := &kvpb.QueryReply{}, 0, s.clock.now()
	for n, ok := 1, valid(); ok; n, ok = n+1, step() {
		if n%ctxEvery == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		c, err := decodeCell(it.Value())
		if err != nil {
			return nil, err
		}
		if !c.visible(now) {
			continue
		}
		if len(reply.Cells) == limit || size > maxPageBytes {
			reply.NextPageToken = pageToken(reply.Cells[len(reply.Cells)-1].GetSort())
			break
		}
		w := wireCell(string(it.Key()[skip:]), c)
		size += len(w.GetValue())
		reply.Cells = append(reply.Cells, w)
	}
	return reply, it.Error()
}

// A page token is "." and the sort key of the page's last cell in base64: the
// dot keeps the token of an empty sort key apart from that of the first page.
func pageToken(sort string) string {
	return "." + base64.RawURLEncoding.EncodeToString([]byte(sort))
}

func lastOfPage(token string) (string, bool) {
	if token[0] != '.' {
		return "", false
	}
	b, err := base64.RawURLEncoding.DecodeString(token[1:])
	return string(b), err == nil
}

func wireCell(sort string, c cell) *kvpb.Cell {
	return &kvpb.Cell{
		Sort: sort, Value: append([]byte(nil), c.value...), Hlc: c.hlc, Region: c.region,
		ExpiresUnixMs: c.expires, Tombstone: c.tombstone,
	}
}

const (
	// overwritten is how many versions a key has that are cheaper to skip by
	// looking the next key up than by stepping over them.
	overwritten = 8
	// lookups is how many keys are looked up before one is stepped to again, to
	// see whether it still has as many.
	lookups = 16
)

// forward returns what moves an iterator to the next key. The store keeps every
// version of a cell until it writes its memory out, and a step goes over all of
// them: where cells are written again and again, as appliances' reports are,
// reading a few would cost more every second.
func forward(it *pebble.Iterator) func() bool {
	left := 0
	var next []byte
	return func() bool {
		if left > 0 {
			left--
			next = append(append(next[:0], it.Key()...), 0)
			return it.SeekGE(next)
		}
		before := stepsOf(it)
		ok := it.Next()
		if stepsOf(it)-before > overwritten {
			left = lookups
		}
		return ok
	}
}

func stepsOf(it *pebble.Iterator) int {
	stats := it.Stats()
	return stats.ForwardStepCount[pebble.InternalIterCall]
}
