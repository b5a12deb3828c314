package cassandra

import (
	"context"
	"slices"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/kv"
)

// maxTTL is Cassandra's.
const maxTTL = 20 * 365 * 24 * time.Hour

// Put implements kv.Store. An item with a TTL vanishes when that has passed,
// at most a second later: Cassandra counts whole seconds. Of several items with
// one sort key the last counts.
func (s *Store) Put(ctx context.Context, ns kv.Namespace, partition string, items ...kv.Item) error {
	if len(items) == 0 {
		return nil
	}
	if err := validWrite(ns, partition, items); err != nil {
		return services.Wrap("kv.Put", err)
	}
	items = lastOfEach(items)
	return s.call(ctx, "put", ns, func(ctx context.Context, session *gocql.Session) error {
		return s.write(ns, func(c gocql.Consistency, at int64) error {
			if len(items) == 1 {
				u := s.update(ns, partition, items[0], "")
				return s.stamped(session.Query(u.Stmt, u.Args...), c, at).ExecContext(ctx)
			}
			// One partition is one mutation, which a node applies as a whole.
			// A logged batch would write it twice for the same promise.
			b := session.Batch(gocql.UnloggedBatch).SetKeyspace(s.cfg.Keyspace).Consistency(c).WithTimestamp(at).SpeculativeExecutionPolicy(s.local.speculation())
			for _, it := range items {
				b.Entries = append(b.Entries, s.update(ns, partition, it, ""))
			}
			return b.ExecContext(ctx)
		})
	})
}

// Delete implements kv.Store.
func (s *Store) Delete(ctx context.Context, ns kv.Namespace, partition string, sorts ...string) error {
	if len(sorts) == 0 {
		return nil
	}
	items := make([]kv.Item, len(sorts))
	for i, sort := range sorts {
		items[i].Sort = sort
	}
	if err := validWrite(ns, partition, items); err != nil {
		return services.Wrap("kv.Delete", err)
	}
	return s.call(ctx, "delete", ns, func(ctx context.Context, session *gocql.Session) error {
		return s.write(ns, func(c gocql.Consistency, at int64) error {
			q := session.Query("DELETE FROM "+s.table+" WHERE namespace=? AND partition=? AND sort IN ?", ns.Name, partition, sorts)
			return s.stamped(q, c, at).ExecContext(ctx)
		})
	})
}

// write runs a write at the consistency of its namespace, under one time.
//
// Every replica in every region gets it at once, whatever the consistency; that
// only says whom to wait for. LOCAL_QUORUM is the own region: the WAN and the
// other regions do not count.
//
// A global write waits for a QUORUM of all replicas besides. With the same
// number of them in each region, no region alone has more than half, so a
// second region has it; and it takes more than half to refuse it, so of three
// regions one may be lost and writes go on, where EACH_QUORUM would stop them.
// Of two regions both are needed, as there is no other second region; with one
// region the two are the same. Since QUORUM may be reached without the own
// region's replica, the write is sent for the own region first and for the
// quorum then: the time is the same, so the second changes nothing where the
// first has arrived. If the second fails the write is applied here, and error
// says so.
func (s *Store) write(ns kv.Namespace, send func(c gocql.Consistency, at int64) error) error {
	at := s.clock.tick()
	if err := s.failed(send(gocql.LocalQuorum, at), gocql.LocalQuorum); err != nil || !ns.Global {
		return err
	}
	if err := s.failed(send(gocql.Quorum, at), gocql.Quorum); err != nil {
		return unconfirmed(err)
	}
	return nil
}

// stamped sets what every plain write has. Its time makes it idempotent.
func (s *Store) stamped(q *gocql.Query, c gocql.Consistency, at int64) *gocql.Query {
	return q.Consistency(c).WithTimestamp(at).Idempotent(true).SetSpeculativeExecutionPolicy(s.local.speculation())
}

// update is the statement that writes an item. It is an UPDATE and not an
// INSERT, whose row would outlive its cells' TTL.
func (s *Store) update(ns kv.Namespace, partition string, it kv.Item, cond string, args ...any) gocql.BatchEntry {
	value := it.Value
	if value == nil {
		value = []byte{} // nil would be null: no value
	}
	return gocql.BatchEntry{
		Stmt:       "UPDATE " + s.table + " USING TTL ? SET value=?, region=? WHERE namespace=? AND partition=? AND sort=?" + cond,
		Args:       append([]any{seconds(it.TTL, s.clock.now()), value, s.cfg.Datacenter, ns.Name, partition, it.Sort}, args...),
		Idempotent: cond == "",
	}
}

// seconds is the TTL that ends at the first whole second of the clock after
// ttl has passed. A node takes the TTL from the start of its second, so one
// that is merely rounded up could end early.
func seconds(ttl time.Duration, now time.Time) int {
	if ttl == 0 {
		return 0
	}
	into := now.Sub(now.Truncate(time.Second))
	return int((into + ttl + time.Second - 1) / time.Second)
}

// lastOfEach keeps the last item of each sort key: in Cassandra the greatest
// value would win.
func lastOfEach(items []kv.Item) []kv.Item {
	last := make(map[string]int, len(items))
	for i, it := range items {
		last[it.Sort] = i
	}
	if len(last) == len(items) {
		return items
	}
	out := make([]kv.Item, 0, len(last))
	for i, it := range items {
		if last[it.Sort] == i {
			out = append(out, it)
		}
	}
	return slices.Clip(out)
}

func validWrite(ns kv.Namespace, partition string, items []kv.Item) error {
	if err := validPartition(ns, partition); err != nil {
		return err
	}
	if n := len(items); n == 0 || n > maxItems {
		return services.Errorf(services.Invalid, "a write of %d items: write 1 to %d at once", n, maxItems)
	}
	size := 0
	for _, it := range items {
		if err := validSort(it.Sort); err != nil {
			return err
		}
		if it.TTL < 0 || it.TTL >= maxTTL {
			return services.Errorf(services.Invalid, "item %s has a TTL of %v: want 0 to %v", it.Sort, it.TTL, maxTTL)
		}
		size += len(it.Sort) + len(it.Value)
	}
	if size > maxWriteBytes {
		return services.Errorf(services.Invalid, "a write of %d bytes: at most %d; split it, or put the bytes into objects", size, maxWriteBytes)
	}
	return nil
}
