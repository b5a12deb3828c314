package cassandra_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/kv"
	"github.com/flix-lab/flix/services/kv/cassandra"
	"github.com/flix-lab/flix/services/telemetry"
)

// A local write is readable elsewhere after a while, with its region and time;
// how long that takes is the staleness.
func TestReplication(t *testing.T) {
	c := sharedCluster(t)
	a, b := c.client(t, 0), c.client(t, 1)
	put(t, a, kv.Probe, t.Name(), "warm", "1")
	eventually(t, "the first probe arrives", 2*time.Minute, func() bool { return get(t, b, kv.Probe, t.Name(), "warm") == "1" })
	var stale []time.Duration
	for i := range 40 {
		sort := fmt.Sprint(i)
		put(t, a, kv.Probe, t.Name(), sort, "1")
		start := time.Now()
		eventually(t, "the probe arrives", 2*time.Minute, func() bool { return get(t, b, kv.Probe, t.Name(), sort) == "1" })
		stale = append(stale, time.Since(start))
	}
	slices.Sort(stale)
	t.Logf("readable in the other region after its acknowledgement in %v (median), %v (most)", stale[len(stale)/2], stale[len(stale)-1])
	it, err := b.Get(ctx(t), kv.Probe, t.Name(), "0")
	if err != nil || it.Region != east || time.Since(it.Written) > 10*time.Minute {
		t.Errorf("Get = %+v, %v; want the region and the time of the write", it, err)
	}
	if err := b.Delete(ctx(t), kv.Probe, t.Name(), "0"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the deletion arrives", 2*time.Minute, func() bool { return get(t, a, kv.Probe, t.Name(), "0") == "-" })
	if err := a.PutIf(ctx(t), kv.Probe, t.Name(), kv.Condition{Sort: "0", Absent: true}, kv.Item{Sort: "0", Value: []byte("if")}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the conditional write arrives", 2*time.Minute, func() bool { return get(t, b, kv.Probe, t.Name(), "0") == "if" })
}

// Of two regions' writes the later time wins in every region, whichever
// arrives last.
func TestLaterTimeWins(t *testing.T) {
	c := sharedCluster(t)
	now := time.Now()
	at := func(d time.Duration) func(*cassandra.Config) {
		return func(cfg *cassandra.Config) { cfg.Clock = func() time.Time { return now.Add(d) } }
	}
	late, early := c.client(t, 0, at(time.Second)), c.client(t, 1, at(0))
	put(t, late, kv.Assets, t.Name(), "k", "late")
	put(t, early, kv.Assets, t.Name(), "k", "early")
	for i := range regions {
		s := c.client(t, i)
		eventually(t, regions[i]+" has the later write", 2*time.Minute, func() bool { return get(t, s, kv.Assets, t.Name(), "k") == "late" })
	}
}

// A global write is acknowledged by two of three regions: it does not wait for
// one that has fallen silent, nor for one that is dead, and tells when no
// second region is left.
func TestGlobalWritesSurviveALostRegion(t *testing.T) {
	c := sharedCluster(t)
	a, b, e := c.client(t, 0), c.client(t, 1), c.client(t, 2)
	for i, s := range []*cassandra.Store{a, b, e} {
		put(t, s, kv.Assets, t.Name(), fmt.Sprint("warm", i), "1")
	}

	c.do(t, "pause", 2)
	// The silent region never answers: that these succeed shows that nobody waits for it.
	put(t, a, kv.Assets, t.Name(), "silent", "1")
	if err := a.PutIf(ctx(t), kv.Jobs, t.Name(), kv.Condition{Sort: "silent", Absent: true}, kv.Item{Sort: "silent", Value: []byte("1")}); err != nil {
		t.Errorf("PutIf while a region is silent: %v", err)
	}
	for _, ns := range []kv.Namespace{kv.Assets, kv.Jobs} {
		if got := get(t, b, ns, t.Name(), "silent"); got != "1" {
			t.Errorf("%s: acknowledged before a second region had it", ns.Name)
		}
	}

	c.do(t, "pause", 1)
	aloneInTheWorld(t, a)
	c.do(t, "unpause", 1)
	eventually(t, "what was not confirmed arrives after all", 2*time.Minute, func() bool { return get(t, b, kv.Assets, t.Name(), "alone") == "1" })

	c.do(t, "unpause", 2)
	eventually(t, "all are up again", 2*time.Minute, c.sees(t, 0, 1))
	c.do(t, "kill", 2)
	eventually(t, "the lost region is seen", 2*time.Minute, c.sees(t, 0, 0))
	put(t, a, kv.Assets, t.Name(), "dead", "1")
	put(t, a, kv.Bookmarks, t.Name(), "dead", "1")
	if got := get(t, b, kv.Assets, t.Name(), "dead"); got != "1" {
		t.Error("acknowledged before a second region had it")
	}
	patient := ctx(t)
	_, err := e.Get(patient, kv.Assets, t.Name(), "dead")
	if services.KindOf(err) != services.Unavailable || patient.Err() != nil {
		t.Errorf("Get in the dead region = %v, want a failure before the caller's deadline", err)
	}
	// The client outlives its node, which comes back at another port.
	c.do(t, "start", 2)
	for _, ns := range []kv.Namespace{kv.Assets, kv.Bookmarks} {
		eventually(t, "the region catches up with "+ns.Name, 2*time.Minute, func() bool {
			it, err := e.Get(ctx(t), ns, t.Name(), "dead")
			return err == nil && string(it.Value) == "1"
		})
	}
}

// aloneInTheWorld writes when no other region answers: global writes are
// applied and say that they are not confirmed, local ones do not care.
func aloneInTheWorld(t *testing.T, s *cassandra.Store) {
	err := s.Put(ctx(t), kv.Assets, t.Name(), kv.Item{Sort: "alone", Value: []byte("1")})
	if services.KindOf(err) != services.Unavailable || services.ReasonOf(err) != cassandra.ReasonUnconfirmed {
		t.Errorf("Put without a second region = %v", err)
	}
	if got := get(t, s, kv.Assets, t.Name(), "alone"); got != "1" {
		t.Errorf("alone=%s: the write is not applied", got)
	}
	// No other region answers: that these succeed shows that they wait for none.
	put(t, s, kv.Bookmarks, t.Name(), "alone", "1")
	if err := s.PutIf(ctx(t), kv.Bookmarks, t.Name(), kv.Condition{Sort: "alone", Equals: []byte("1")}, kv.Item{Sort: "alone", Value: []byte("2")}); err != nil {
		t.Errorf("PutIf in a local namespace: %v", err)
	}
}

// sees says whether a node sees the last region with so many nodes up.
func (c *cluster) sees(t *testing.T, i, up int) func() bool {
	return func() bool {
		s, err := c.state(t.Context(), i)
		n, known := s.Up()[europe]
		return err == nil && known && n == up
	}
}

// Several migrate at once, at different nodes; then the replication is altered.
func TestMigrate(t *testing.T) {
	c := sharedCluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cfg := func(i int) cassandra.Config {
		return cassandra.Config{Hosts: c.hosts(i), Tel: telemetry.Discard(), Keyspace: "migrated"}
	}
	start := time.Now()
	var wg sync.WaitGroup
	for i := range regions {
		wg.Go(func() {
			if err := cassandra.Migrate(ctx, cfg(i), cassandra.Replication{east: 1}); err != nil {
				t.Errorf("Migrate at %s: %v", regions[i], err)
			}
		})
	}
	wg.Wait()
	t.Logf("three migrations at once took %v", time.Since(start).Round(time.Millisecond))
	with := func(c *cassandra.Config) { c.Keyspace = "migrated" }
	a, b := c.client(t, 0, with), c.client(t, 1, with)
	put(t, a, kv.Assets, "p", "one region", "1") // global, with no other region to wait for
	if _, err := b.Get(ctx, kv.Assets, "p", "one region"); services.KindOf(err) != services.Unavailable {
		t.Errorf("Get in a region without replicas = %v, want unavailable", err)
	}
	if err := cassandra.AlterReplication(ctx, cfg(1), everywhere()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a write in the added region", 2*time.Minute, func() bool {
		return b.Put(ctx, kv.Assets, "p", kv.Item{Sort: "two regions", Value: []byte("1")}) == nil
	})
	if got := get(t, b, kv.Assets, "p", "two regions"); got != "1" {
		t.Errorf("two regions=%s", got)
	}
	short, stop := context.WithTimeout(ctx, time.Second)
	defer stop()
	if err := cassandra.AlterReplication(short, cfg(0), cassandra.Replication{"nowhere": 1}); services.KindOf(err) != services.Unavailable {
		t.Errorf("AlterReplication to a datacentre that is not there = %v", err)
	}
}

func TestPing(t *testing.T) {
	c := sharedCluster(t)
	addr, err := c.addr(0)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	for range 20 {
		if err := cassandra.Ping(ctx(t), addr, nil); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("a ping takes %v", time.Since(start)/20)
}
