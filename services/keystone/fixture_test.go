package keystone

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/events"
	"github.com/flix-lab/flix/services/kv"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errDown = services.Errorf(services.Unavailable, "it is down")

// wide is a wide-column store in memory; between runs before a conditional
// write is checked.
type wide struct {
	mu      sync.Mutex
	down    bool
	items   map[string][]byte
	between func(items map[string][]byte)
}

func (w *wide) Get(_ context.Context, ns kv.Namespace, partition, sort string) (kv.Item, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v, ok := w.items[ns.Name+"|"+partition+"|"+sort]
	switch {
	case w.down:
		return kv.Item{}, errDown
	case !ok:
		return kv.Item{}, services.Errorf(services.NotFound, "no %s", sort)
	}
	return kv.Item{Sort: sort, Value: v}, nil
}

func (w *wide) Put(_ context.Context, ns kv.Namespace, partition string, items ...kv.Item) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		return errDown
	}
	for _, it := range items {
		w.items[ns.Name+"|"+partition+"|"+it.Sort] = it.Value
	}
	return nil
}

func (w *wide) PutIf(_ context.Context, ns kv.Namespace, partition string, c kv.Condition, items ...kv.Item) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		return errDown
	}
	if f := w.between; f != nil {
		w.between = nil
		f(w.items)
	}
	have, ok := w.items[ns.Name+"|"+partition+"|"+c.Sort]
	if c.Absent == ok || !c.Absent && !bytes.Equal(have, c.Equals) {
		return services.Errorf(services.Conflict, "the condition does not hold")
	}
	for _, it := range items {
		w.items[ns.Name+"|"+partition+"|"+it.Sort] = it.Value
	}
	return nil
}

func (w *wide) fail(down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = down
}

func (w *wide) read(t *testing.T, key string, v any) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := json.Unmarshal(w.items[key], v); err != nil {
		t.Fatalf("%s: %q: %v", key, w.items[key], err)
	}
}

// bucket is an S3 in memory.
type bucket struct {
	mu      sync.Mutex
	down    bool
	objects map[string]string
}

func (b *bucket) Put(_ context.Context, name, key string, r io.Reader, size int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down {
		return errDown
	}
	body, err := io.ReadAll(r)
	if err != nil || int64(len(body)) != size || name != ArchiveBucket {
		return services.Errorf(services.Invalid, "put %s/%s of %d: %v", name, key, size, err)
	}
	b.objects[key] = string(body)
	return nil
}

type dropped struct {
	mu   sync.Mutex
	keys []string
}

func (d *dropped) Delete(_ context.Context, key string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.keys = append(d.keys, key)
	return nil
}

type rig struct {
	*Server
	kv     *wide
	bucket *bucket
	cache  *dropped
}

func build(t *testing.T, consume ConsumeFunc) *rig {
	t.Helper()
	r := &rig{kv: &wide{items: map[string][]byte{}}, bucket: &bucket{objects: map[string]string{}}, cache: &dropped{}}
	timing := topology.LabTiming()
	// What is up answers, and what is young stays so, however slow the machine is.
	timing.RPCTimeout, timing.ProgressReport = topology.Duration(10*time.Minute), topology.Duration(10*time.Minute)
	var err error
	r.Server, err = New(Deps{
		Tel: telemetry.Discard(), Timing: timing, Region: "us-east", Instance: "us-east/a/keystone/1",
		Consume: consume, KV: r.kv, Archive: r.bucket, Cache: r.cache,
		CacheKeys: func(title string) []string { return []string{"catalogue", "title/" + title} }, MaxSessions: 3,
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func noConsumer(ctx context.Context, _ []string, _ func(context.Context, string, []byte, []byte) error) error {
	<-ctx.Done()
	return nil
}

func (r *rig) send(t *testing.T, topic string, event any) {
	t.Helper()
	b, err := json.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.handle(t.Context(), topic, []byte("k"), b); err != nil {
		t.Fatal(err)
	}
}

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func event(session, kind string, sequence int) events.PlaybackEvent {
	return events.PlaybackEvent{
		Header: events.Header{ID: session + "/" + strconv.Itoa(sequence), At: noon.Add(time.Duration(sequence) * time.Second), Region: "us-east"},
		Kind:   kind, Session: session, Sequence: uint64(sequence), Member: "m1", Title: "tt-a",
		PositionS: float64(sequence), Bytes: 100, ISP: "isp-1", Appliance: "oca-1", Rung: "v1", RebufferS: 0.5,
	}
}
