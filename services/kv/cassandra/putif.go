package cassandra

import (
	"context"
	"errors"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/kv"
)

// PutIf implements kv.Store: a lightweight transaction at LOCAL_SERIAL, exact
// among the region's replicas. Two regions may both find the condition true at
// the same time; the later write wins, as with plain writes.
//
// When it fails with services.Unavailable and ReasonUnknown, the write may be
// applied or not: read before trying again. With ReasonUnconfirmed it is
// applied in its region.
func (s *Store) PutIf(ctx context.Context, ns kv.Namespace, partition string, cond kv.Condition, items ...kv.Item) error {
	if err := errors.Join(validWrite(ns, partition, items), validSort(cond.Sort)); err != nil {
		return services.Wrap("kv.PutIf", err)
	}
	items = lastOfEach(items)
	return s.call(ctx, "putif", ns, func(ctx context.Context, session *gocql.Session) error {
		rows := rowsOf(cond, items)
		nodes, err := s.settle(ctx, session, ns, partition, rows)
		if err != nil {
			return err
		}
		applied, err := s.swap(ctx, session, ns, partition, cond, items)
		switch {
		case err != nil:
			return err
		case !applied:
			return services.Errorf(services.Conflict, "item %s/%s/%s is not as expected", ns.Name, partition, cond.Sort)
		}
		s.clock.observe(afterBallot(nodes.now()))
		if !ns.Global {
			return nil
		}
		return s.confirm(ctx, session, ns, partition, rows)
	})
}

// rowsOf are the sort keys that a conditional write reads or writes.
func rowsOf(cond kv.Condition, items []kv.Item) []string {
	out := []string{cond.Sort}
	for _, it := range items {
		if it.Sort != cond.Sort {
			out = append(out, it.Sort)
		}
	}
	return out
}

// swap runs the transaction. All its statements are of one partition, so the
// one condition decides over all of them.
func (s *Store) swap(ctx context.Context, session *gocql.Session, ns kv.Namespace, partition string, cond kv.Condition, items []kv.Item) (bool, error) {
	// A row that is absent, expired or deleted has a null value; one that is
	// there never has.
	expect := cond.Equals
	switch {
	case cond.Absent:
		expect = nil
	case expect == nil:
		expect = []byte{}
	}
	b := session.Batch(gocql.UnloggedBatch).SetKeyspace(s.cfg.Keyspace).Consistency(gocql.LocalQuorum).SerialConsistency(gocql.LocalSerial).DefaultTimestamp(false).RetryPolicy(nil)
	checked := false
	for _, it := range items {
		if it.Sort == cond.Sort {
			b.Entries = append(b.Entries, s.update(ns, partition, it, " IF value=?", expect))
			checked = true
		} else {
			b.Entries = append(b.Entries, s.update(ns, partition, it, ""))
		}
	}
	if !checked {
		// CQL has no condition without a write: this one takes nothing away.
		b.Query("UPDATE "+s.table+" SET checked=null WHERE namespace=? AND partition=? AND sort=? IF value=?", ns.Name, partition, cond.Sort, expect)
	}
	applied, iter, err := b.MapExecCASContext(ctx, map[string]any{})
	if iter != nil {
		err = errors.Join(err, iter.Close())
	}
	if err == nil {
		return applied, nil
	}
	e := &services.Error{Kind: services.KindOf(s.failed(err, gocql.LocalSerial)), Msg: "the conditional write may be applied or not", Err: s.failed(err, gocql.LocalSerial)}
	if refused(err) {
		return false, e.Err
	}
	return false, e.WithReason(ReasonUnknown).WithRemedy("read the item to learn whether it is applied")
}

// refused says whether a node answered before it had begun with anything.
func refused(err error) bool {
	var answer gocql.RequestError
	if !errors.As(err, &answer) {
		return errors.Is(err, gocql.ErrNoConnections)
	}
	switch answer.Code() {
	case gocql.ErrCodeUnavailable, gocql.ErrCodeOverloaded, gocql.ErrCodeBootstrapping, gocql.ErrCodeInvalid, gocql.ErrCodeSyntax, gocql.ErrCodeUnauthorized:
		return true
	}
	return false
}

// A transaction gets its time, the ballot, from a node's clock, cut to
// milliseconds and counted up in microseconds within one. A plain write that
// was acknowledged earlier in the same millisecond, or by a client whose clock
// is ahead, would have the later time and so win over the transaction that
// follows it, which had found its condition true and reported success: a lost
// update, without any error.
//
// So a transaction waits until, by the nodes' clock, the ballot has to be later
// than all there is: the times of the rows that it touches, those that this
// client has issued and, since a deleted row's time cannot be read, whatever a
// client whose clock agrees with the nodes' to a millisecond can have issued.
// And the client's next write is later than the ballot. What is left is a plain
// write by another client while the transaction runs, and a deletion by one
// whose clock is ahead; a partition that needs these to be exact has to be
// written by PutIf alone.
const (
	ballotUnit = 1000 // microseconds
	// ballotMargin is how far the times issued until now are ahead of a node's
	// clock that is read in whole milliseconds: one for the cut, two for
	// afterBallot, and one for the cut of the ballot.
	ballotMargin = 4 * ballotUnit
)

// nodeClock is the clock that ballots come from.
type nodeClock struct {
	read time.Time // what it showed, in whole milliseconds
	at   time.Time // when that was, by the monotonic clock
}

func (c nodeClock) now() time.Time { return c.read.Add(time.Since(c.at)) }

// settle waits until a ballot is later than every time of the rows. It returns
// the nodes' clock.
func (s *Store) settle(ctx context.Context, session *gocql.Session, ns kv.Namespace, partition string, rows []string) (nodeClock, error) {
	if err := s.observe(ctx, session, gocql.LocalQuorum, ns, partition, rows); err != nil {
		return nodeClock{}, err
	}
	var millis int64
	err := session.Query("SELECT toUnixTimestamp(now()) FROM system.local WHERE key='local'").Consistency(gocql.One).Idempotent(true).ScanContext(ctx, &millis)
	if err != nil {
		return nodeClock{}, s.failed(err, gocql.One)
	}
	nodes := nodeClock{read: time.UnixMilli(millis), at: time.Now()}
	wait := time.UnixMicro(max(s.clock.latest(), millis*ballotUnit) + ballotMargin).Sub(nodes.read)
	if end, ok := ctx.Deadline(); ok && time.Until(end) < wait {
		return nodeClock{}, services.Errorf(services.Unavailable, "partition %s/%s, or this client, was written at a time %v ahead of the nodes: clocks disagree", ns.Name, partition, wait.Round(time.Millisecond)).
			WithRemedy("set the clocks of the regions right; the write is possible once that time has passed")
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nodes, nil
	case <-ctx.Done():
		return nodeClock{}, s.failed(ctx.Err(), gocql.LocalSerial)
	}
}

// afterBallot is a time later than any ballot issued until now, which is known
// to a millisecond.
func afterBallot(now time.Time) int64 { return (now.UnixMilli() + 2) * ballotUnit }

// confirm makes sure that a second region has what a transaction wrote, which
// the transaction itself does not wait for: a read at QUORUM brings replicas
// that lag behind up to date before it returns, so that a quorum of them all
// has the rows. See write for what QUORUM means.
func (s *Store) confirm(ctx context.Context, session *gocql.Session, ns kv.Namespace, partition string, rows []string) error {
	if err := s.observe(ctx, session, gocql.Quorum, ns, partition, rows); err != nil {
		return unconfirmed(err)
	}
	return nil
}

// observe reads rows to make this client's next write later than all of them.
func (s *Store) observe(ctx context.Context, session *gocql.Session, c gocql.Consistency, ns kv.Namespace, partition string, rows []string) error {
	iter := session.Query("SELECT value, region, WRITETIME(value) FROM "+s.table+" WHERE namespace=? AND partition=? AND sort IN ?", ns.Name, partition, rows).
		Consistency(c).Idempotent(true).SetSpeculativeExecutionPolicy(s.local.speculation()).IterContext(ctx)
	var value []byte
	var region string
	for written := int64(0); iter.Scan(&value, &region, &written); {
		s.clock.observe(written)
	}
	return s.failed(iter.Close(), c)
}
