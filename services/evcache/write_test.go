package evcache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/addresstest"
	"github.com/flix-lab/flix/services/events"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/services/telemetry/telemetrytest"
)

// outbox keeps what it is sent.
type outbox struct {
	mu   sync.Mutex
	sent []sentEvent
}

type sentEvent struct {
	topic, key string
	events.CacheEvent
}

func (o *outbox) Send(_ context.Context, topic, key string, event any) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	e, ok := event.(events.CacheEvent)
	if !ok {
		return services.Errorf(services.Invalid, "%T", event)
	}
	o.sent = append(o.sent, sentEvent{topic, key, e})
	return nil
}

func (o *outbox) take(topic string) (out []events.CacheEvent) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range o.sent {
		if e.topic == topic {
			out = append(out, e.CacheEvent)
		}
	}
	o.sent = slices.DeleteFunc(o.sent, func(e sentEvent) bool { return e.topic == topic })
	return out
}

// refusing is a zone whose server is down.
func refusing(t *testing.T) Node {
	n := newNode(t, addresstest.Host(t)+":0", 0)
	n.stop()
	return Node{Addr: n.addr, Zone: "down"}
}

// Who writes learns what became of it in each zone, also in one that is not waited
// for, and an error names the zone.
func TestTellZones(t *testing.T) {
	_, nodes := zones(t, 2)
	nodes = append(nodes, refusing(t))
	for _, p := range []Policy{None, One, AllMinusOne} {
		c := newClient(t, Config{Policy: p, Linger: time.Minute, Modes: map[string]Mode{"b": WriteOnly}}, nodes...)
		told := map[string]error{}
		if err := c.Set(TellZones(t.Context(), func(zone string, err error) { told[zone] = err }), "k", []byte("v"), 0); err != nil {
			t.Fatalf("%v: %v", p, err)
		}
		if a, ok := told["a"]; !ok || a != nil {
			t.Errorf("%v: a told %v, %v", p, a, ok)
		}
		if b, ok := told["b"]; !ok || b != nil {
			t.Errorf("%v: b told %v, %v", p, b, ok)
		}
		if services.KindOf(told["down"]) != services.Unavailable || len(told) != 3 {
			t.Errorf("%v: told %v", p, told)
		}
	}
	c := newClient(t, Config{Policy: All}, nodes...)
	err := c.Set(t.Context(), "k", []byte("v"), 0)
	var e *services.Error
	if services.KindOf(err) != services.Unavailable || !strings.Contains(err.Error(), "zone down: ") || !errors.As(err, &e) || e.Remedy == "" {
		t.Errorf("%v", err)
	}
}

// TestLinger: a client that lingers has written every zone that answers when a
// write returns, whatever its policy asks, and does not fail for one that is down.
func TestLinger(t *testing.T) {
	_, nodes := zones(t, 2)
	names := []string{nodes[0].Zone, nodes[1].Zone}
	for _, p := range []Policy{None, One, AllMinusOne} {
		c := newClient(t, Config{Policy: p, Linger: time.Minute}, append(slices.Clone(nodes), refusing(t))...)
		for n := range 100 {
			key := fmt.Sprint("k", n)
			if err := c.Set(t.Context(), key, []byte("v"), 0); err != nil {
				t.Fatalf("%v: %v", p, err)
			}
			for _, z := range names {
				if it, err := c.GetItemIn(t.Context(), z, key); err != nil || string(it.Value) != "v" {
					t.Errorf("%v: zone %s has %q of %s, %v", p, z, it.Value, key, err)
				}
			}
			if err := c.Delete(t.Context(), key); err != nil {
				t.Fatalf("%v: %v", p, err)
			}
			for _, z := range names {
				if _, err := c.GetItemIn(t.Context(), z, key); !errors.Is(err, ErrMiss) {
					t.Errorf("%v: zone %s still has %s: %v", p, z, key, err)
				}
			}
		}
	}
}

func TestLatchPolicies(t *testing.T) {
	_, nodes := zones(t, 2)
	nodes = append(nodes, refusing(t))
	for _, x := range []struct {
		p  Policy
		ok bool
	}{{None, true}, {One, true}, {Quorum, true}, {AllMinusOne, true}, {All, false}} {
		c := newClient(t, Config{Policy: x.p}, nodes...)
		err := c.Set(t.Context(), "k", []byte("v"), 0)
		if (err == nil) != x.ok {
			t.Errorf("%v with one zone of three down: %v", x.p, err)
		}
		if back, perr := ParsePolicy(x.p.String()); perr != nil || back != x.p {
			t.Errorf("%v reads as %v (%v)", x.p, back, perr)
		}
	}
	c := newClient(t, Config{Policy: None}, refusing(t))
	if err := c.Set(t.Context(), "k", []byte("v"), 0); err != nil {
		t.Errorf("none with nothing up: %v", err)
	}
	if _, err := ParsePolicy("some"); services.KindOf(err) != services.Invalid {
		t.Errorf("policy some: %v", err)
	}
}

// has says whether a server holds a key.
func (n *node) has(key string) bool {
	_, ok := n.server.cache.get([]byte(key))
	return ok
}

func TestModes(t *testing.T) {
	servers, nodes := zones(t, 3)
	ctx := t.Context()
	c := newClient(t, Config{Zone: "a", Policy: All, Modes: map[string]Mode{"c": ReadOnly}}, nodes...)
	if err := c.Set(ctx, "one", []byte("v"), 0); err != nil {
		t.Fatal(err)
	}
	if servers[2].has("one") || !servers[0].has("one") || !servers[1].has("one") {
		t.Error("a read-only zone was written, or another not")
	}
	c.SetMode("c", ReadWrite)
	c.SetMode("a", WriteOnly)
	if err := c.Set(ctx, "two", []byte("v"), 0); err != nil {
		t.Fatal(err)
	}
	// The write to the write-only zone is not waited for: it arrives by itself.
	for until := time.Now().Add(time.Minute); !servers[0].has("two"); <-time.After(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("the write-only zone was not written")
		}
	}
	reads := servers[0].server.cache.getHits
	if it, err := c.GetItem(ctx, "two"); err != nil || it.Zone == "a" {
		t.Errorf("a write-only zone was read: %+v, %v", it, err)
	}
	if servers[0].server.cache.getHits != reads {
		t.Error("a write-only zone was asked")
	}
	// The last zones left: no reader, no writer.
	for _, m := range []Mode{WriteOnly, ReadOnly} {
		for _, z := range []string{"a", "b", "c"} {
			c.SetMode(z, m)
		}
		_, gerr := c.Get(ctx, "two")
		serr := c.Set(ctx, "three", nil, 0)
		if (services.KindOf(gerr) == services.Unavailable) != (m == WriteOnly) || (services.KindOf(serr) == services.Unavailable) != (m == ReadOnly) {
			t.Errorf("every zone %v: get %v, set %v", m, gerr, serr)
		}
	}
}

func TestAddAndAppend(t *testing.T) {
	_, nodes := zones(t, 2)
	ctx := t.Context()
	for name, c := range map[string]*Client{"plain": newClient(t, Config{Policy: All, Prefix: "p"}, nodes...), "cutting": newCutting(t, nodes...)} {
		if err := c.Add(ctx, "k", []byte("one"), 0); err != nil {
			t.Fatal(err)
		}
		if err := c.Add(ctx, "k", []byte("two"), 0); services.KindOf(err) != services.Conflict {
			t.Errorf("%s: adding what is there: %v", name, err)
		}
		want(t, c, "k", "one")
		for _, part := range []string{"a", "b", "c"} {
			if err := c.AppendOrAdd(ctx, "list", []byte(part), 0); err != nil {
				t.Fatal(err)
			}
		}
		want(t, c, "list", "abc")
		if err := c.AppendOrAdd(ctx, strings.Repeat("long", 100), []byte("x"), 0); services.KindOf(err) != services.Invalid {
			t.Errorf("%s: appending under a digest: %v", name, err)
		}
	}
	c := newCutting(t, nodes...)
	if err := c.Set(ctx, "cut", noise(5000), 0); err != nil {
		t.Fatal(err)
	}
	if err := c.Add(ctx, "cut", []byte("x"), 0); services.KindOf(err) != services.Conflict {
		t.Errorf("adding what is there in pieces: %v", err)
	}
	if err := c.Add(ctx, "other", noise(5000), 0); services.KindOf(err) != services.Invalid {
		t.Errorf("adding what would be cut: %v", err)
	}
}

func TestCompression(t *testing.T) {
	servers, nodes := zones(t, 1)
	c := newClient(t, Config{}, nodes...)
	ctx := t.Context()
	text := strings.Repeat("compress me ", 1000)
	if err := c.SetAs(ctx, "k", []byte(text), Text, 0); err != nil {
		t.Fatal(err)
	}
	it, err := c.GetItem(ctx, "k")
	if err != nil || string(it.Value) != text || !it.Compressed || it.Stored > len(text)/10 || it.Kind != Text {
		t.Errorf("%d bytes, %d stored, %v (%v)", len(it.Value), it.Stored, it.Kind, err)
	}
	for _, bad := range []string{"", "not gzip", "\x1f\x8b\x08\x00"} {
		servers[0].server.cache.store(entry{key: []byte("k"), value: []byte(bad), flags: flagCompressed})
		if _, err := c.Get(ctx, "k"); !errors.Is(err, ErrMiss) {
			t.Errorf("%q decompresses: %v", bad, err)
		}
	}
	// Two packed values in a row are one, as gzip has it: the last length is not all.
	half, err := (&codec{}).encode([]byte(text), Text)
	if err != nil {
		t.Fatal(err)
	}
	servers[0].server.cache.store(entry{key: []byte("k"), value: slices.Concat(half.value, half.value), flags: half.flags})
	if v, err := c.Get(ctx, "k"); err != nil || string(v) != text+text {
		t.Errorf("two in a row: %d bytes, want %d (%v)", len(v), 2*len(text), err)
	}
	// A length that is a lie takes no room, and the value is none.
	lie := slices.Clone(half.value)
	copy(lie[len(lie)-4:], "\xff\xff\xff\xff")
	if got, most := room(lie), 1032*len(lie)+1; got > most {
		t.Errorf("room for %d bytes, want at most %d", got, most)
	}
	servers[0].server.cache.store(entry{key: []byte("k"), value: lie, flags: half.flags})
	if _, err := c.Get(ctx, "k"); !errors.Is(err, ErrMiss) {
		t.Errorf("a wrong length decompresses: %v", err)
	}
	// A small item that unpacks to more than any value is no value.
	bomb, err := (&codec{}).encode(make([]byte, maxChunked+1), Bytes)
	if err != nil || bomb.flags&flagCompressed == 0 {
		t.Fatal(err)
	}
	servers[0].server.cache.store(entry{key: []byte("k"), value: bomb.value, flags: bomb.flags})
	if v, err := c.Get(ctx, "k"); !errors.Is(err, ErrMiss) {
		t.Errorf("%d bytes (%v)", len(v), err)
	}
}

func TestWritesAreTold(t *testing.T) {
	_, nodes := zones(t, 2)
	ctx := t.Context()
	for r, want := range map[Replication][]string{
		ReplicateNone: nil, ReplicateDeletes: {"delete"}, Invalidate: {"invalidate", "delete"}, ReplicateValues: {"set", "touch", "delete"},
	} {
		box := &outbox{}
		c := newClient(t, Config{Prefix: "app", Policy: All, Events: box}, nodes...)
		c.SetReplication(r)
		if err := errors.Join(c.Set(ctx, "k", []byte("v"), time.Hour), c.Touch(ctx, "k", time.Hour), c.Delete(ctx, "k")); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range box.take(events.TopicCacheWrites) {
			got = append(got, e.Kind)
			if e.Key != "app:k" || e.ID == "" || e.At.IsZero() {
				t.Errorf("%+v", e)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%v tells %v, want %v", r, got, want)
		}
		if back, err := ParseReplication(r.String()); err != nil || back != r {
			t.Errorf("%v reads as %v (%v)", r, back, err)
		}
	}
}

// A zone that does not take a write is told of, and follows its siblings when
// it is back: also with the next value, and also to nothing.
func TestFailedWritesAreRepaired(t *testing.T) {
	servers, nodes := zones(t, 2)
	ctx := t.Context()
	box := &outbox{}
	c := newClient(t, Config{Prefix: "app", Events: box, ChunkSize: DefaultChunkSize, CompressOver: -1}, nodes...)
	big := noise(10_000)
	servers[1].stop()
	if err := errors.Join(c.Set(ctx, "k", []byte("old"), time.Hour), c.Set(ctx, "gone", []byte("v"), time.Hour), c.Set(ctx, "big", big, time.Hour), c.Delete(ctx, "gone")); err != nil {
		t.Fatal(err)
	}
	if err := c.Set(ctx, "k", []byte("new"), time.Hour); err != nil {
		t.Fatal(err)
	}
	_ = c.Close() // the failures are in
	failed := box.take(events.TopicCacheRepairs)
	if len(failed) != 5 || failed[0].Zone != "b" {
		t.Fatalf("%+v", failed)
	}
	back := newNode(t, servers[1].addr, 0)
	back.server.cache.store(entry{key: []byte("app:gone"), value: []byte("stale")})
	tel := telemetry.Discard()
	r := NewRepairer("b", newClient(t, Config{Zone: "b"}, nodes...), tel.Metrics)
	for _, e := range append(failed, events.CacheEvent{Header: failed[0].Header, Kind: verbSet, Key: "app:k", Zone: "a"}) {
		if err := r.Handle(ctx, e); err != nil {
			t.Fatal(err)
		}
	}
	b := newClient(t, Config{Zone: "b", Prefix: "app", ChunkSize: DefaultChunkSize}, nodes[1])
	want(t, b, "k", "new")
	want(t, b, "big", string(big))
	if back.has("app:gone") {
		t.Error("a deleted item is still there")
	}
	if n, _ := telemetrytest.Metric(t, tel.Metrics, "evcache_repaired_total", map[string]string{"result": "ok"}); n != 5 {
		t.Errorf("%v repairs counted", n)
	}
	// A sibling that does not answer may have it: the repair waits.
	servers[0].stop()
	if err := r.Handle(ctx, failed[0]); services.KindOf(err) != services.Unavailable {
		t.Errorf("without the sibling: %v", err)
	}
	want(t, b, "k", "new")
}

// A write that too few zones took is somewhere all the same, and the others of its
// region follow: so do the other regions. One that changed nothing is not told.
func TestWritesThatFewZonesTookAreTold(t *testing.T) {
	servers, nodes := zones(t, 2)
	ctx := t.Context()
	box := &outbox{}
	c := newClient(t, Config{Prefix: "app", Policy: All, Events: box, Replication: ReplicateValues}, nodes...)
	if err := c.Set(ctx, "there", []byte("v"), time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := c.Add(ctx, "there", []byte("other"), time.Hour); services.KindOf(err) != services.Conflict {
		t.Fatal(err)
	}
	box.take(events.TopicCacheWrites)
	servers[1].stop()
	if err := c.Set(ctx, "k", []byte("new"), time.Hour); services.KindOf(err) != services.Unavailable {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := c.Delete(ended, "k"); err == nil {
		t.Fatal("it went on without its caller")
	}
	got := box.take(events.TopicCacheWrites)
	if len(got) != 2 || got[0].Kind != verbSet || got[0].Key != "app:k" || got[1].Kind != verbDelete || got[1].Key != "app:k" {
		t.Errorf("told %+v", got)
	}
}

func TestRelay(t *testing.T) {
	_, east := zones(t, 2)
	farServers, west := zones(t, 2)
	ctx := t.Context()
	box := &outbox{}
	c := newClient(t, Config{Prefix: "app", Policy: All, Events: box, Replication: ReplicateValues, ChunkSize: DefaultChunkSize, CompressOver: -1}, east...)
	tel := telemetry.Discard()
	relay, err := NewRelay(RelayConfig{
		Region: "west", From: newClient(t, Config{}, east...), To: newClient(t, Config{Policy: All}, west...), Metrics: tel.Metrics,
	})
	if err != nil {
		t.Fatal(err)
	}
	follow := func() {
		t.Helper()
		for _, e := range box.take(events.TopicCacheWrites) {
			if err := relay.Handle(ctx, e); err != nil {
				t.Fatal(err)
			}
		}
	}
	far := newClient(t, Config{Prefix: "app", Policy: All, ChunkSize: DefaultChunkSize}, west...)
	values := map[string]string{"k": "v", "text": strings.Repeat("x", 500), "big": string(noise(20_000)), strings.Repeat("long", 100): "hashed"}
	for k, v := range values {
		if err := c.Set(ctx, k, []byte(v), time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	follow()
	for k, v := range values {
		want(t, far, k, v)
	}
	for _, s := range farServers { // the time to live went with it
		if d, ok := s.server.cache.debug([]byte("app:k")); !ok || !strings.Contains(d, "exp=3") {
			t.Errorf("%s", d)
		}
	}
	for k := range values {
		if err := c.Delete(ctx, k); err != nil {
			t.Fatal(err)
		}
	}
	follow()
	for k := range values {
		if _, err := far.Get(ctx, k); !errors.Is(err, ErrMiss) {
			t.Errorf("%.20s is still there: %v", k, err)
		}
	}
	// What is gone by the time is not passed on; what is old is not looked at.
	e := events.CacheEvent{Header: events.Header{At: time.Now()}, Kind: verbSet, Key: "app:never"}
	old := events.CacheEvent{Header: events.Header{At: time.Now().Add(-time.Hour)}, Kind: verbDelete, Key: "app:k"}
	if err := errors.Join(relay.Handle(ctx, e), relay.Handle(ctx, old)); err != nil {
		t.Fatal(err)
	}
	for result, n := range map[string]float64{"ok": 8, "gone": 1, "old": 1} {
		if got, _ := telemetrytest.Metric(t, tel.Metrics, "evcache_relayed_total", map[string]string{"result": result}); got != n {
			t.Errorf("%v %s, want %v", got, result, n)
		}
	}
	if err := relay.Handle(ctx, events.CacheEvent{Header: e.Header, Kind: "what", Key: "k"}); services.KindOf(err) != services.Invalid {
		t.Errorf("an unknown kind: %v", err)
	}
	for _, s := range farServers {
		s.stop()
	}
	if err := c.Set(ctx, "k", []byte("v"), 0); err != nil {
		t.Fatal(err)
	}
	if err := relay.Handle(ctx, box.take(events.TopicCacheWrites)[0]); services.KindOf(err) != services.Unavailable {
		t.Errorf("without the other region: %v", err)
	}
}
