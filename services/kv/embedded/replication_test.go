package embedded_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/kv"
	"github.com/flix-lab/flix/services/kv/embedded"
	"github.com/flix-lab/flix/services/kv/kvtest"
	"github.com/flix-lab/flix/topology"
)

func (n *node) put(sort, value string) {
	n.w.t.Helper()
	if err := n.store.Put(n.w.t.Context(), kv.Bookmarks, "p", kv.Item{Sort: sort, Value: []byte(value)}); err != nil {
		n.w.t.Fatalf("%s: Put %s: %v", n.region, sort, err)
	}
}

func (n *node) del(sort string) {
	n.w.t.Helper()
	if err := n.store.Delete(n.w.t.Context(), kv.Bookmarks, "p", sort); err != nil {
		n.w.t.Fatalf("%s: Delete %s: %v", n.region, sort, err)
	}
}

// has reads a value; "-" when there is none.
func (n *node) has(sort string) string {
	n.w.t.Helper()
	it, err := n.store.Get(n.w.t.Context(), kv.Bookmarks, "p", sort)
	switch {
	case services.KindOf(err) == services.NotFound:
		return "-"
	case err != nil:
		n.w.t.Fatalf("%s: Get %s: %v", n.region, sort, err)
	}
	return string(it.Value)
}

func (n *node) gets(sort, want string) {
	n.w.t.Helper()
	kvtest.Eventually(n.w.t, fmt.Sprintf("%s has %s=%s", n.region, sort, want), func() bool { return n.has(sort) == want })
}

// metric reads a gauge or counter; ok is false when it is not there.
func (n *node) metric(name, peer string) (v float64, ok bool) {
	n.w.t.Helper()
	families, err := n.tel.Metrics.Gather()
	if err != nil {
		n.w.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if peer == "" || m.GetLabel()[0].GetValue() == peer {
				v, ok = v+m.GetGauge().GetValue()+m.GetCounter().GetValue(), true
			}
		}
	}
	return v, ok
}

func (n *node) caughtUp(peer string) bool {
	pending, ok := n.metric("kv_replication_pending", peer)
	scanning, _ := n.metric("kv_replication_scanning", peer)
	return ok && pending == 0 && scanning == 0
}

func TestReplicationBothWays(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.start("us-east"), w.start("us-west"), w.start("eu-west")
	a.put("a", "1")
	b.put("b", "2")
	for _, n := range []*node{a, b, c} {
		n.gets("a", "1")
		n.gets("b", "2")
	}
	c.del("a")
	for _, n := range []*node{a, b, c} {
		n.gets("a", "-")
	}
	it, err := a.store.Get(t.Context(), kv.Bookmarks, "p", "b")
	if err != nil || it.Region != "us-west" {
		t.Errorf("Get = %+v, %v; want the region of the write", it, err)
	}
}

func TestNewPeerGetsEverything(t *testing.T) {
	w := newWorld(t)
	a, b := w.start("us-east"), w.start("us-west")
	for i := range 700 { // several batches
		a.put(fmt.Sprint("k", i), fmt.Sprint(i))
	}
	a.put("gone", "x")
	a.del("gone")
	b.gets("k699", "699")
	b.put("from-b", "yes")
	a.gets("from-b", "yes")
	c := w.start("eu-west")
	c.gets("k0", "0")
	c.gets("k699", "699")
	c.gets("from-b", "yes")
	a.put("after", "1")
	c.gets("after", "1")
	kvtest.Eventually(t, "all is acknowledged", func() bool { return a.caughtUp("eu-west") && a.caughtUp("us-west") })
	if got := c.has("gone"); got != "-" {
		t.Errorf("a deleted item came with the copy: %s", got)
	}
}

func TestRestartResumes(t *testing.T) {
	w := newWorld(t)
	a, b := w.start("us-east"), w.start("us-west")
	a.put("k", "1")
	b.gets("k", "1")
	kvtest.Eventually(t, "acknowledged", func() bool { return a.caughtUp("us-west") })
	b.close()
	a.put("k", "2")
	a.put("l", "1")
	a.close() // its log has to outlive it
	b = w.startIn("us-west", b.dir)
	if got := b.has("k"); got != "1" {
		t.Errorf("after the restart k=%s, want 1", got)
	}
	a = w.startIn("us-east", a.dir)
	b.gets("k", "2")
	b.gets("l", "1")
	received, _ := b.metric("kv_replication_received_total", "us-east")
	if received > 2 {
		t.Errorf("%v mutations were sent again, want only the 2 that were missing", received)
	}
}

func TestPeerWithNewDiskGetsEverything(t *testing.T) {
	w := newWorld(t)
	a, b := w.start("us-east"), w.start("us-west")
	a.put("k", "1")
	b.put("own", "1")
	a.gets("own", "1")
	b.gets("k", "1")
	kvtest.Eventually(t, "acknowledged", func() bool { return a.caughtUp("us-west") })
	b.close()
	b = w.start("us-west") // same name, empty directory
	b.gets("k", "1")
	b.gets("own", "1") // back from its peer
}

func TestPartitionHeals(t *testing.T) {
	w := newWorld(t)
	a, b := w.start("us-east"), w.start("us-west")
	a.put("k", "0")
	b.gets("k", "0")
	kvtest.Eventually(t, "acknowledged", func() bool { return a.caughtUp("us-west") })
	w.partition("us-west", true)
	a.put("k", "a")
	b.put("k", "b") // later: it wins
	a.put("only-a", "1")
	b.put("only-b", "1")
	kvtest.Eventually(t, "the lag shows", func() bool {
		lag, _ := a.metric("kv_replication_lag_seconds", "us-west")
		pending, _ := a.metric("kv_replication_pending", "us-west")
		return lag > 0 && pending == 2
	})
	if got := b.has("only-a"); got != "-" {
		t.Errorf("a write crossed the partition: %s", got)
	}
	w.partition("us-west", false)
	for _, n := range []*node{a, b} {
		n.gets("k", "b")
		n.gets("only-a", "1")
		n.gets("only-b", "1")
	}
}

// The clock of one region runs ahead; a region that has seen its writes still
// writes after them.
func TestConflicts(t *testing.T) {
	w := newWorld(t)
	a, b := w.start("us-east"), w.start("us-west")
	b.skew.Store(int64(time.Hour))
	b.put("k", "future")
	a.gets("k", "future")
	a.put("k", "after")
	a.gets("k", "after")
	b.gets("k", "after")

	w.partition("us-west", true)
	a.put("l", "a")
	b.skew.Store(int64(2 * time.Hour))
	b.put("l", "b")
	a.put("l", "a2") // later by the wall clock, earlier by b's
	a.del("m")
	b.put("m", "b")
	w.partition("us-west", false)
	for _, n := range []*node{a, b} {
		n.gets("l", "b")
		n.gets("m", "b")
	}
}

func TestClockSetBack(t *testing.T) {
	w := newWorld(t)
	a := w.start("us-east", func(c *embedded.Config) { c.Clock = func() time.Time { return time.Now().Add(time.Hour) } })
	a.put("k", "1")
	a.close()
	a = w.startIn("us-east", a.dir)
	a.put("k", "2")
	if got := a.has("k"); got != "2" {
		t.Errorf("k=%s: a write with the clock set back was lost", got)
	}
}

func TestGlobalWrites(t *testing.T) {
	w := newWorld(t)
	a, b := w.start("us-east"), w.start("us-west")
	put := func(sort string, wait time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		defer cancel()
		return a.store.Put(ctx, kv.Assets, "assets", kv.Item{Sort: sort})
	}
	if err := put("x", time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, err := b.store.Get(t.Context(), kv.Assets, "assets", "x"); err != nil {
		t.Errorf("a global write was acknowledged before the second region had it: %v", err)
	}
	w.partition("us-west", true)
	err := put("y", 2*time.Second)
	if services.KindOf(err) != services.Unavailable || !strings.Contains(err.Error(), "applied") {
		t.Errorf("Put in a partition: %v; want Unavailable that says the write is applied", err)
	}
	kvtest.Eventually(t, "the write is applied", func() bool {
		_, err := a.store.Get(t.Context(), kv.Assets, "assets", "y")
		return err == nil
	})
	w.partition("us-west", false)
	kvtest.Eventually(t, "it replicates after all", func() bool {
		_, err := b.store.Get(t.Context(), kv.Assets, "assets", "y")
		return err == nil
	})
	b.close()
	w.forget("us-west")
	if err := put("z", time.Minute); err != nil {
		t.Errorf("with no peer configured: %v", err)
	}
}

func TestLogIsBounded(t *testing.T) {
	w := newWorld(t)
	a := w.start("us-east", func(c *embedded.Config) { c.MaxLog = 20 })
	b := w.start("us-west")
	a.put("k0", "x")
	b.gets("k0", "x")
	b.close()
	for i := range 50 {
		a.put(fmt.Sprint("k", i), "y")
	}
	kvtest.Eventually(t, "the log is cut", func() bool {
		scanning, _ := a.metric("kv_replication_scanning", "us-west")
		pending, _ := a.metric("kv_replication_pending", "us-west")
		return scanning == 1 && pending <= 20
	})
	b = w.startIn("us-west", b.dir)
	for i := range 50 {
		b.gets(fmt.Sprint("k", i), "y")
	}
}

func TestStalenessIsAtLeastTheDelay(t *testing.T) {
	const delay = 80 * time.Millisecond
	w := newWorld(t)
	w.delay = delay
	a, b := w.start("us-east"), w.start("us-west")
	a.put("warm", "1")
	b.gets("warm", "1")
	for i := range 3 {
		sort, start := fmt.Sprint("k", i), time.Now()
		a.put(sort, "1")
		b.gets(sort, "1")
		if took := time.Since(start); took < delay {
			t.Errorf("read after %v across a path of %v one way", took, delay)
		}
	}
}

func TestPurge(t *testing.T) {
	w := newWorld(t)
	a := w.start("us-east", func(c *embedded.Config) { c.TombstoneGrace = time.Minute })
	for i := range 10 {
		if err := a.store.Put(t.Context(), kv.Sessions, "m", kv.Item{Sort: fmt.Sprint(i), TTL: time.Millisecond}); err != nil {
			t.Fatal(err)
		}
	}
	a.put("deleted", "1")
	a.del("deleted")
	a.put("kept", "1")
	purged := func(want float64) func() bool {
		return func() bool { got, _ := a.metric("kv_purged_total", ""); return got == want }
	}
	kvtest.Eventually(t, "expired items are purged, the tombstone is not", purged(10))
	a.skew.Store(int64(30 * time.Second))
	a.skew.Store(int64(2 * time.Minute))
	kvtest.Eventually(t, "the tombstone is purged after its grace", purged(11))
	if got := a.has("kept"); got != "1" {
		t.Errorf("kept=%s", got)
	}
}

// A deletion that a peer has not got stays, however old it is; what lies
// before and behind it shows that the sweep has passed.
func TestPurgeWaitsForPeers(t *testing.T) {
	w := newWorld(t)
	a := w.start("us-east", func(c *embedded.Config) { c.TombstoneGrace = time.Minute })
	b := w.start("us-west")
	for _, sort := range []string{"a", "z"} {
		if err := a.store.Put(t.Context(), kv.Bookmarks, "p", kv.Item{Sort: sort, TTL: time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	a.put("k", "1")
	b.gets("k", "1")
	// Both ways: or the peer sends what has expired once more after its restart.
	kvtest.Eventually(t, "acknowledged", func() bool { return a.caughtUp("us-west") && b.caughtUp("us-east") })
	b.close()
	a.del("k")
	a.skew.Store(int64(2 * time.Hour))
	kvtest.Eventually(t, "the sweep has passed", func() bool { n, _ := a.metric("kv_purged_total", ""); return n >= 2 })
	b = w.startIn("us-west", b.dir)
	b.gets("k", "-")
	kvtest.Eventually(t, "purged once acknowledged", func() bool { n, _ := a.metric("kv_purged_total", ""); return n == 3 })
}

// A path that swallows everything without an error is given up and dialled
// again.
func TestSilentPath(t *testing.T) {
	w := newWorld(t)
	a := w.start("us-east", func(c *embedded.Config) { c.Timing.RPCTimeout = topology.Duration(20 * time.Millisecond) })
	b := w.start("us-west")
	a.put("k", "1")
	b.gets("k", "1")
	w.mute.Store(true)
	a.put("k", "2")
	kvtest.Eventually(t, "the path is dialled again", func() bool { return w.mutedDials.Load() > 0 })
	if got := b.has("k"); got != "1" {
		t.Errorf("k=%s arrived over a silent path", got)
	}
	w.mute.Store(false)
	b.gets("k", "2")
}

func TestOpsAreCounted(t *testing.T) {
	w := newWorld(t)
	a := w.start("us-east")
	a.put("k", "1")
	a.has("k")
	a.has("none")
	if n, _ := a.metric("kv_ops_total", ""); n != 3 {
		t.Errorf("%v operations counted, want 3", n)
	}
}
