package evcache

import (
	"bytes"
	"crypto/rand"
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/flix-lab/flix/services/addresstest"
	"github.com/flix-lab/flix/services/dockertest"
)

// memcached runs the real one until the end of the test and returns its
// container and address. The test is skipped where that cannot be done (and
// fails when FLIX_REQUIRE_DOCKER is 1).
func memcached(t testing.TB, maxBytes int64) (name, addr string) {
	t.Helper()
	image := dockertest.Image(t, "memcached", "memcached:1.6.18", "flix/memcached:1.6.18")
	name = "flixt-mc-" + strings.ToLower(rand.Text()[:8])
	t.Cleanup(func() {
		if _, err := dockertest.Run("rm", "--force", "--volumes", name); err != nil {
			t.Error(err)
		}
	})
	// A port of our own choice: it stays the same when the container restarts.
	addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(addresstest.Port(t)))
	run := []string{"run", "--detach", "--name", name, "--memory", "128m", "--publish", addr + ":" + strconv.Itoa(StorePort), image}
	if _, err := dockertest.Run(append(run, Command(maxBytes)...)...); err != nil {
		t.Fatal(err)
	}
	return name, addr
}

// Zone a is a real memcached and zone b an embedded one: to the client they
// are the same.
func TestMemcached(t *testing.T) {
	name, addr := memcached(t, 16<<20)
	b := newBeside(t, addr)
	other := newNode(t, "127.0.0.1:0", 0)
	nodes := []Node{{Addr: addr, Zone: "a"}, {Addr: other.addr, Zone: "b"}}
	t.Run("client alone with it", func(t *testing.T) { roundTrip(t, nodes[:1], nil) })
	t.Run("client of two zones", func(t *testing.T) { roundTrip(t, nodes, nil) })
	t.Run("commands", func(t *testing.T) { commands(t, addr) })
	t.Run("figures", func(t *testing.T) {
		b.shows(t, "memcached_cmd_get_total", 5)
		b.shows(t, "memcached_cmd_set_total", 5)
		b.shows(t, "memcached_get_hits_total", 5)
		b.shows(t, "memcached_get_misses_total", 1)
		b.shows(t, "memcached_evictions_total", 0)
		b.shows(t, "memcached_curr_connections", 1)
		b.shows(t, "memcached_limit_maxbytes", 16<<20)
	})
	t.Run("eviction", func(t *testing.T) { evicts(t, nodes[:1], b) })
	t.Run("loss and return", func(t *testing.T) {
		ctx := t.Context()
		all := newClient(t, Config{Zone: "a", Policy: All}, nodes...)
		if err := all.Set(ctx, "kept", []byte("v"), 0); err != nil {
			t.Fatal(err)
		}
		if _, err := dockertest.Run("kill", name); err != nil {
			t.Fatal(err)
		}
		want(t, all, "kept", "v") // from the other zone
		if err := newClient(t, Config{Zone: "a"}, nodes...).Set(ctx, "more", []byte("v"), 0); err != nil {
			t.Errorf("a write to all zones but one with one lost: %v", err)
		}
		b.change(t, false)
		if _, err := dockertest.Run("start", name); err != nil {
			t.Fatal(err)
		}
		b.change(t, true)
		want(t, all, "kept", "v")
		alone := newClient(t, Config{}, nodes[0])
		if _, err := alone.Get(ctx, "kept"); !errors.Is(err, ErrMiss) {
			t.Errorf("a memcached that came back empty: %v", err)
		}
	})
}

// evicts fills the cache over its bound: the oldest items go, and the client
// sees misses, never errors.
func evicts(t *testing.T, nodes []Node, b *beside) {
	ctx := t.Context()
	c := newClient(t, Config{Prefix: "fill", Policy: All}, nodes...)
	value := make([]byte, 100_000)
	_, _ = rand.Read(value) // never fails; it must not shrink
	const items = 400       // 40 MB
	for i := range items {
		if err := c.Set(ctx, strconv.Itoa(i), value, 0); err != nil {
			t.Fatalf("item %d: %v", i, err)
		}
	}
	kept := 0
	for i := range items {
		v, err := c.Get(ctx, strconv.Itoa(i))
		switch {
		case err == nil && bytes.Equal(v, value):
			kept++
		case !errors.Is(err, ErrMiss):
			t.Fatalf("item %d: %v", i, err)
		}
	}
	if kept == 0 || kept == items {
		t.Errorf("%d of %d items are left in 16 MiB", kept, items)
	}
	b.shows(t, "memcached_evictions_total", 1)
	want(t, c, strconv.Itoa(items-1), string(value))
}
