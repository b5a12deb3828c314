package evcache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
	"go.uber.org/goleak"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/addresstest"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/services/telemetry/telemetrytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is a running server.
type node struct {
	addr   string
	tel    *telemetry.Telemetry
	server *Server
	stop   func()
}

func newNode(t testing.TB, addr string, maxBytes int64) *node {
	t.Helper()
	return newNodeAt(t, addr, maxBytes, nil)
}

// newNodeAt is newNode by a clock; nil for the real one.
func newNodeAt(t testing.TB, addr string, maxBytes int64, now func() time.Time) *node {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{addr: ln.Addr().String(), tel: telemetry.Discard()}
	if n.server, err = NewServer(ServerConfig{Listener: ln, MaxBytes: maxBytes, Tel: n.tel, Now: now}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.server.Serve(ctx) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(n.stop)
	return n
}

// patience bounds what is awaited. A server of a test answers or refuses: a
// client gives it all the time that a busy machine takes.
const patience = time.Minute

func newClient(t testing.TB, c Config, nodes ...Node) *Client {
	t.Helper()
	if c.Timeouts == (Timeouts{}) {
		c.Timeouts = Timeouts{Dial: patience, Read: patience, Write: patience}
	}
	if c.Tel == nil {
		c.Tel = telemetry.Discard()
	}
	if c.Servers == nil {
		c.Servers = func() []Node { return nodes }
	}
	cl, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cl.Close() })
	return cl
}

// zones starts one server in each of n zones a, b, c, … They may be stopped and
// started again on their addresses.
func zones(t testing.TB, n int) ([]*node, []Node) {
	var servers []*node
	var nodes []Node
	for i := range n {
		s := newNode(t, addresstest.Host(t)+":0", 0)
		servers = append(servers, s)
		nodes = append(nodes, Node{Addr: s.addr, Zone: string(rune('a' + i))})
	}
	return servers, nodes
}

func want(t testing.TB, c *Client, key, value string) {
	t.Helper()
	if got, err := c.Get(t.Context(), key); err != nil || string(got) != value {
		t.Fatalf("Get %s = %q, %v; want %q", key, got, err, value)
	}
}

// missSoon waits until an item is gone.
func missSoon(t testing.TB, c *Client, key string) {
	t.Helper()
	for until := time.Now().Add(patience); ; <-time.After(5 * time.Millisecond) {
		_, err := c.Get(t.Context(), key)
		if errors.Is(err, ErrMiss) {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("%s is there still: %v", key, err)
		}
	}
}

// handClock is a time that a test moves by hand while servers read it.
type handClock struct {
	mu sync.Mutex
	t  time.Time
}

func newHandClock() *handClock { return &handClock{t: time.Now()} }

func (c *handClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *handClock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func TestClientRoundTrip(t *testing.T) {
	now := newHandClock()
	var nodes []Node
	for _, zone := range []string{"a", "b"} {
		nodes = append(nodes, Node{Addr: newNodeAt(t, "127.0.0.1:0", 0, now.now).addr, Zone: zone})
	}
	roundTrip(t, nodes, now.pass)
}

// roundTrip is what the client promises over any memcached. The servers' time
// passes by pass; nil: by itself.
func roundTrip(t *testing.T, nodes []Node, pass func(time.Duration)) {
	t.Helper()
	ctx := t.Context()
	c := newClient(t, Config{Zone: "a", Prefix: "app", Policy: All}, nodes...)
	for _, key := range []string{"k", "with blank", strings.Repeat("long", 100), "#hash", "ümlaut"} {
		if err := c.Set(ctx, key, []byte("v "+key), time.Minute); err != nil {
			t.Fatal(err)
		}
		want(t, c, key, "v "+key)
		if err := c.Touch(ctx, key, time.Hour); err != nil {
			t.Fatal(err)
		}
		if err := c.Delete(ctx, key); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Get(ctx, key); !errors.Is(err, ErrMiss) || services.KindOf(err) != services.NotFound {
			t.Fatalf("Get of a deleted key: %v", err)
		}
		if err := c.Delete(ctx, key); err != nil {
			t.Fatalf("Delete of a deleted key: %v", err)
		}
	}
	if err := c.Set(ctx, "empty", nil, 0); err != nil {
		t.Fatal(err)
	}
	want(t, c, "empty", "")
	big := bytes.Repeat([]byte("x"), MaxValue)
	if err := c.Set(ctx, "big", big, 0); err != nil {
		t.Fatal(err)
	}
	want(t, c, "big", string(big))
	if err := c.Set(ctx, "big", append(big, 'x'), 0); services.KindOf(err) != services.Invalid {
		t.Errorf("an oversized value gave %v", err)
	}
	if err := c.Touch(ctx, "never stored", time.Hour); err != nil {
		t.Errorf("Touch of what is not there: %v", err)
	}
	if err := c.Set(ctx, "month", []byte("v"), 40*24*time.Hour); err != nil {
		t.Fatal(err)
	}
	want(t, c, "month", "v") // beyond 30 days an expiry is a point in time
	const brief = 3 * time.Second
	if err := c.Set(ctx, "touched", []byte("v"), brief); err != nil {
		t.Fatal(err)
	}
	if err := c.Touch(ctx, "touched", time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := c.Set(ctx, "brief", []byte("v"), brief); err != nil {
		t.Fatal(err)
	}
	want(t, c, "brief", "v")
	if pass != nil {
		pass(brief)
	}
	missSoon(t, c, "brief")
	want(t, c, "touched", "v")
}

func TestZoneLoss(t *testing.T) {
	servers, nodes := zones(t, 2)
	ctx := t.Context()
	tel := telemetry.Discard()
	c := newClient(t, Config{Zone: "a", Policy: All, Tel: tel}, nodes...)
	if err := c.Set(ctx, "k", []byte("v"), 0); err != nil {
		t.Fatal(err)
	}
	want(t, c, "k", "v")
	servers[0].stop()
	want(t, c, "k", "v")
	if n, _ := telemetrytest.Metric(t, tel.Metrics, "evcache_gets_total", map[string]string{"result": "fallback_hit"}); n != 1 {
		t.Errorf("%v fallback hits, want 1", n)
	}
	if err := c.Set(ctx, "k", []byte("w"), 0); services.KindOf(err) != services.Unavailable {
		t.Errorf("a write to all zones with one lost gave %v", err)
	}
	minusOne := newClient(t, Config{Zone: "a"}, nodes...)
	if err := minusOne.Set(ctx, "k", []byte("x"), 0); err != nil {
		t.Errorf("a write to all zones but one with one lost: %v", err)
	}
	_ = minusOne.Close() // its write to the lost zone must not reach the one that comes
	servers[1].stop()
	if _, err := c.Get(ctx, "k"); services.KindOf(err) != services.Unavailable || errors.Is(err, ErrMiss) {
		t.Errorf("a read without any zone gave %v", err)
	}
	if err := newClient(t, Config{Policy: None}, nodes...).Set(ctx, "other", nil, 0); err != nil {
		t.Errorf("a write that waits for no zone: %v", err)
	}
	// The zone comes back empty on the same address: the client finds it.
	newNode(t, servers[0].addr, 0)
	missSoon(t, c, "k")
}

func TestMissInOwnZoneIsReadElsewhere(t *testing.T) {
	servers, nodes := zones(t, 2)
	ctx := t.Context()
	c := newClient(t, Config{Zone: "b", Policy: All}, nodes...)
	if err := c.Set(ctx, "k", []byte("v"), 0); err != nil {
		t.Fatal(err)
	}
	servers[1].server.cache.flush(0)
	want(t, c, "k", "v")
	if hits := servers[0].server.cache.getHits; hits != 1 {
		t.Errorf("zone a had %d hits, want 1", hits)
	}
}

func TestServersComeAndGo(t *testing.T) {
	_, nodes := zones(t, 1)
	var mu sync.Mutex
	var now []Node
	c := newClient(t, Config{Servers: func() []Node { mu.Lock(); defer mu.Unlock(); return now }})
	if _, err := c.Get(t.Context(), "k"); services.KindOf(err) != services.Unavailable {
		t.Fatalf("a read without servers gave %v", err)
	}
	set := func(n []Node) { mu.Lock(); now = n; mu.Unlock() }
	set(nodes)
	if err := c.Set(t.Context(), "k", []byte("v"), 0); err != nil {
		t.Fatal(err)
	}
	_, more := zones(t, 1)
	more[0].Zone = "z"
	set(append(nodes[:1:1], more...))
	want(t, c, "k", "v")
	set(nil)
	if _, err := c.Get(t.Context(), "k"); services.KindOf(err) != services.Unavailable {
		t.Fatalf("a read after the servers went gave %v", err)
	}
}

func TestPolicies(t *testing.T) {
	for _, tc := range []struct {
		p    Policy
		n    int
		need int
	}{{AllMinusOne, 1, 1}, {AllMinusOne, 2, 1}, {AllMinusOne, 3, 2}, {None, 3, 0}, {One, 3, 1}, {Quorum, 2, 2}, {Quorum, 3, 2}, {All, 3, 3}} {
		if got := tc.p.need(tc.n); got != tc.need {
			t.Errorf("policy %d of %d zones needs %d, want %d", tc.p, tc.n, got, tc.need)
		}
	}
}

func TestRingSpreadsAndHolds(t *testing.T) {
	cfg := Config{}.withDefaults()
	var peers []*peer
	for i := range 4 {
		peers = append(peers, newPeer(Node{Addr: fmt.Sprintf("127.0.0.1:%d", 11211+i)}, &cfg))
	}
	four, three := newZone("a", peers), newZone("a", peers[:3])
	count := map[*peer]int{}
	moved := 0
	const keys = 4000
	for i := range keys {
		k := fmt.Appendf(nil, "app:key-%d", i)
		p := four.pick(k)
		count[p]++
		if p != peers[3] && three.pick(k) != p {
			moved++
		}
	}
	for _, p := range peers {
		if count[p] < keys/8 || count[p] > keys/2 {
			t.Errorf("%s has %d of %d keys", p.addr, count[p], keys)
		}
	}
	if moved != 0 {
		t.Errorf("%d keys moved between servers that stayed", moved)
	}
}

func TestGomemcache(t *testing.T) { commands(t, newNode(t, "127.0.0.1:0", 0).addr) }

// commands checks with a foreign client that a memcached and the embedded one
// answer alike.
func commands(t *testing.T, addr string) {
	mc := memcache.New(addr)
	mc.Timeout = patience
	defer mc.Close()
	check := func(err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Fatalf("got %v, want %v", err, want)
		}
	}
	check(mc.Ping(), nil)
	check(mc.Set(&memcache.Item{Key: "a", Value: []byte("1"), Flags: 7}), nil)
	check(mc.Add(&memcache.Item{Key: "a", Value: []byte("2")}), memcache.ErrNotStored)
	check(mc.Replace(&memcache.Item{Key: "none", Value: []byte("2")}), memcache.ErrNotStored)
	it, err := mc.Get("a")
	if err != nil || string(it.Value) != "1" || it.Flags != 7 {
		t.Fatalf("Get = %+v, %v", it, err)
	}
	it.Value = []byte("3")
	check(mc.CompareAndSwap(it), nil)
	check(mc.CompareAndSwap(it), memcache.ErrCASConflict)
	check(mc.Append(&memcache.Item{Key: "a", Value: []byte("4")}), nil)
	check(mc.Prepend(&memcache.Item{Key: "a", Value: []byte("2")}), nil)
	if v, err := mc.Increment("a", 6); err != nil || v != 240 {
		t.Fatalf("Increment = %d, %v", v, err)
	}
	if v, err := mc.Decrement("a", 1000); err != nil || v != 0 {
		t.Fatalf("Decrement = %d, %v", v, err)
	}
	check(mc.Touch("a", 100), nil)
	check(mc.Touch("none", 100), memcache.ErrCacheMiss)
	check(mc.Set(&memcache.Item{Key: "b", Value: []byte("B")}), nil)
	if m, err := mc.GetMulti([]string{"a", "b", "c"}); err != nil || len(m) != 2 {
		t.Fatalf("GetMulti = %v, %v", m, err)
	}
	check(mc.Delete("b"), nil)
	check(mc.Delete("b"), memcache.ErrCacheMiss)
	check(mc.DeleteAll(), nil)
	_, err = mc.Get("a")
	check(err, memcache.ErrCacheMiss)
}
