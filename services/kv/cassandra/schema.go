package cassandra

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"

	"github.com/flix-lab/flix/services"
)

// Replication is how many replicas of everything each datacentre has.
type Replication map[string]int

// text is "us-east: 3, us-west: 3".
func (r Replication) text() string {
	parts := make([]string, 0, len(r))
	for _, dc := range slices.Sorted(maps.Keys(r)) {
		parts = append(parts, fmt.Sprintf("%s: %d", dc, r[dc]))
	}
	return services.List(parts)
}

// Check fails with services.Invalid unless a quorum of all replicas always
// spans two datacentres, which is what global writes rely on.
func (r Replication) Check() error {
	total, most := 0, 0
	for dc, n := range r {
		if n < 1 || dc == "" || strings.ContainsAny(dc, `'"\`) {
			return services.Errorf(services.Invalid, "replication of datacentre %q is %d: want a name and 1 or more", dc, n)
		}
		total, most = total+n, max(most, n)
	}
	switch quorum := total/2 + 1; {
	case len(r) == 0:
		return services.Errorf(services.Invalid, "replication names no datacentre")
	case len(r) > 1 && quorum <= most:
		return services.Errorf(services.Invalid, "replication %s: one datacentre alone has a quorum of %d, so a global write would not reach a second", r.text(), quorum).
			WithRemedy("give every datacentre the same number of replicas")
	}
	return nil
}

// cql is the replication as an option of a keyspace.
func (r Replication) cql() string {
	var b strings.Builder
	b.WriteString("{'class': 'NetworkTopologyStrategy'")
	for _, dc := range slices.Sorted(maps.Keys(r)) {
		fmt.Fprintf(&b, ", '%s': %d", dc, r[dc])
	}
	return b.String() + "}"
}

// Migrate makes the keyspace and the table where they are missing. It waits until
// the replication's datacentres have joined the cluster, and returns when all
// nodes that are up have the same schema. It tries again whatever fails, for
// as long as ctx lasts, except for what is wrong with the request itself
// (services.Invalid). It may be called at any time and by several at once: the
// table's id follows from its name, so two nodes that make it at the same time
// make the same one.
//
// A keyspace that is there keeps its replication: see AlterReplication. Of the
// configuration only Hosts, Keyspace, Dial and Tel's log are used, and the
// hosts may be of any region.
func Migrate(ctx context.Context, c Config, r Replication) error {
	ddl := func(keyspace string) []string {
		return []string{fmt.Sprintf("CREATE KEYSPACE IF NOT EXISTS %q WITH replication = %s", keyspace, r.cql()), createTable(keyspace)}
	}
	return services.Wrap("cassandra: migrate", change(ctx, c, r, ddl))
}

// AlterReplication sets which datacentres have replicas, and how many. It
// waits and tries again as Migrate does, and changes nothing that exists.
//
// It moves no data. After a datacentre was added, or its number raised, run on
// each of its nodes `nodetool rebuild --keyspace flix OTHER-DATACENTRE` (when
// it is new) or `nodetool repair --full flix` (when it had some replicas); until
// then reads there miss what was written before. Before a datacentre is
// removed for good, call this without it first, then `nodetool decommission`
// its nodes, or `nodetool removenode` those that are lost.
func AlterReplication(ctx context.Context, c Config, r Replication) error {
	ddl := func(keyspace string) []string {
		return []string{fmt.Sprintf("ALTER KEYSPACE %q WITH replication = %s", keyspace, r.cql())}
	}
	return services.Wrap("cassandra: alter replication", change(ctx, c, r, ddl))
}

// deletionGrace is how long a deletion is remembered, in seconds: a replica
// that was away for longer must be repaired, or brings back what was deleted.
const deletionGrace = 24 * 3600

// createTable is the statement for the table. Column checked is never set:
// see swap. A read that waits for a replica asks another after a while; what
// it saves is a global conditional write when a region falls silent.
func createTable(keyspace string) string {
	return fmt.Sprintf(`CREATE TABLE IF NOT EXISTS %s (namespace text, partition text, sort text, value blob, region text, checked boolean, PRIMARY KEY ((namespace, partition), sort)) `+
		`WITH ID = %s AND CLUSTERING ORDER BY (sort ASC) AND gc_grace_seconds = %d AND speculative_retry = '200ms'`,
		quoted(keyspace), tableID(keyspace), deletionGrace)
}

// tableID is a UUID that follows from the table's name (RFC 9562, version 8).
func tableID(keyspace string) string {
	h := sha256.Sum256([]byte("flix " + keyspace + "." + itemsTable))
	h[6], h[8] = h[6]&0x0f|0x80, h[8]&0x3f|0x80
	return value(h[:16]).uuid()
}

// change runs statements until all of them have succeeded in a row and the
// cluster agrees.
func change(ctx context.Context, c Config, r Replication, ddl func(keyspace string) []string) error {
	if c.Datacenter == "" {
		c.Datacenter = "any"
	}
	if err := errors.Join(c.complete(), r.Check()); err != nil {
		return err
	}
	var last error
	for pause := minPause; ; pause = min(2*pause, time.Second) {
		err := c.changeOnce(ctx, r, ddl(c.Keyspace))
		if err == nil || services.KindOf(err) == services.Invalid || services.KindOf(err) == services.Denied {
			return err
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return &services.Error{Kind: services.Unavailable, Msg: "not done in time", Err: last}
		}
	}
}

// changeOnce tries it at the first node that answers.
func (c *Config) changeOnce(ctx context.Context, r Replication, ddl []string) error {
	w, err := c.anyNode(ctx)
	if err != nil {
		return err
	}
	defer w.close()
	if err := w.knows(ctx, r); err != nil {
		return err
	}
	for _, cql := range ddl {
		if _, err := w.query(ctx, cql); err != nil {
			return refusedChange(err)
		}
	}
	return w.awaitAgreement(ctx)
}

func (c *Config) anyNode(ctx context.Context) (*wire, error) {
	errs := []error{services.Errorf(services.Unavailable, "no Cassandra node answers")}
	for _, addr := range c.Hosts() {
		w, err := dialWire(ctx, c.Dial, addr)
		if err == nil {
			return w, nil
		}
		errs = append(errs, unreachable(addr, err))
	}
	return nil, errors.Join(errs...)
}

// knows fails unless every datacentre has joined: Cassandra refuses names that
// it has not met.
func (w *wire) knows(ctx context.Context, r Replication) error {
	s, err := w.state(ctx)
	if err != nil {
		return err
	}
	up := s.Up()
	for dc := range r {
		if _, ok := up[dc]; !ok {
			return services.Errorf(services.Unavailable, "datacentre %s has not joined the cluster", dc)
		}
	}
	return nil
}

// awaitAgreement waits until all nodes that are up have one schema.
func (w *wire) awaitAgreement(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		s, err := w.state(ctx)
		if err != nil || s.Agreed() {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return services.Errorf(services.Unavailable, "the nodes do not agree on the schema")
		}
	}
}

// refusedChange maps what a node answered to a change. A configuration that it
// refuses is one of a datacentre that it does not know yet, more often than
// not, so it is tried again.
func refusedChange(err error) error {
	var e *wireError
	if errors.As(err, &e) && e.code == gocql.ErrCodeSyntax {
		return &services.Error{Kind: services.Internal, Msg: "Cassandra does not understand the statement", Err: err}
	}
	return &services.Error{Kind: services.Unavailable, Msg: "Cassandra refuses the change", Err: err}
}
