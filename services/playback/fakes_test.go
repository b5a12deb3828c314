package playback

import (
	"bytes"
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/events"
	"github.com/flix-lab/flix/services/kv"
	"github.com/flix-lab/flix/services/playback/playbackpb"
	"github.com/flix-lab/flix/services/sqldb"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errDown = services.Errorf(services.Unavailable, "the store is down")

// db is a relational store in memory.
type db struct {
	mu      sync.Mutex
	down    bool
	reads   int
	plans   []sqldb.Plan
	members map[services.MemberID]sqldb.Member
	titles  map[services.TitleID]sqldb.Title
}

func (d *db) set(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

func (d *db) Plans(context.Context) ([]sqldb.Plan, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.down {
		return nil, errDown
	}
	return d.plans, nil
}

func (d *db) Member(_ context.Context, id services.MemberID) (sqldb.Member, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return lookup(d.down, d.members, id)
}

func (d *db) Title(_ context.Context, id services.TitleID) (sqldb.Title, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reads++
	return lookup(d.down, d.titles, id)
}

func lookup[K ~string, V any](down bool, m map[K]V, id K) (V, error) {
	v, ok := m[id]
	switch {
	case down:
		return v, errDown
	case !ok:
		return v, services.Errorf(services.NotFound, "no %s", id)
	}
	return v, nil
}

// wide is a wide-column store in memory.
type wide struct {
	mu    sync.Mutex
	down  bool
	items map[string]kv.Item // by namespace, partition and sort
}

func at(ns kv.Namespace, partition, sort string) string {
	return ns.Name + "|" + partition + "|" + sort
}

func (w *wide) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *wide) Get(_ context.Context, ns kv.Namespace, partition, sort string) (kv.Item, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return lookup(w.down, w.items, at(ns, partition, sort))
}

func (w *wide) Query(_ context.Context, ns kv.Namespace, partition string, r kv.Range) ([]kv.Item, string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		return nil, "", errDown
	}
	var out []kv.Item
	for k, it := range w.items {
		if strings.HasPrefix(k, at(ns, partition, "")) {
			out = append(out, it)
		}
	}
	slices.SortFunc(out, func(a, b kv.Item) int { return strings.Compare(a.Sort, b.Sort) })
	if r.Limit > 0 && len(out) > r.Limit {
		out = out[:r.Limit]
	}
	return out, "", nil
}

func (w *wide) Put(_ context.Context, ns kv.Namespace, partition string, items ...kv.Item) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		return errDown
	}
	for _, it := range items {
		w.items[at(ns, partition, it.Sort)] = it
	}
	return nil
}

func (w *wide) PutIf(_ context.Context, ns kv.Namespace, partition string, c kv.Condition, items ...kv.Item) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		return errDown
	}
	if had, ok := w.items[at(ns, partition, c.Sort)]; ok == c.Absent || ok && !bytes.Equal(had.Value, c.Equals) {
		return services.Errorf(services.Conflict, "item %s is not as expected", c.Sort)
	}
	for _, it := range items {
		w.items[at(ns, partition, it.Sort)] = it
	}
	return nil
}

func (w *wide) Delete(_ context.Context, ns kv.Namespace, partition string, sorts ...string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		return errDown
	}
	for _, s := range sorts {
		delete(w.items, at(ns, partition, s))
	}
	return nil
}

func (w *wide) session(member, id string) (kv.Item, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	it, ok := w.items[at(kv.Sessions, member, id)]
	return it, ok
}

// memory is EVCache in memory.
type memory struct {
	mu   sync.Mutex
	down bool
	m    map[string][]byte
}

func (c *memory) Get(_ context.Context, key string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return lookup(c.down, c.m, key)
}

func (c *memory) Set(_ context.Context, key string, val []byte, _ time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down {
		return errDown
	}
	c.m[key] = val
	return nil
}

// pipeline keeps what was sent.
type pipeline struct {
	mu     sync.Mutex
	down   bool
	events []events.PlaybackEvent
}

func (p *pipeline) Send(_ context.Context, topic, key string, event any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := event.(events.PlaybackEvent)
	switch {
	case p.down:
		return errDown
	case !ok || topic != events.TopicPlayback || key != e.Session:
		return services.Errorf(services.Internal, "event %T on %s with key %s", event, topic, key)
	}
	p.events = append(p.events, e)
	return nil
}

type rig struct {
	client   playbackpb.PlaybackClient
	db       *db
	kv       *wide
	cache    *memory
	pipeline *pipeline
}

// start runs an instance whose copies are fresh for ttl.
func start(t *testing.T, ttl time.Duration) *rig {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{
		db: &db{
			plans: []sqldb.Plan{
				{ID: "basic", Name: "Basic", MaxHeight: 480, MaxStreams: 1, Devices: []string{"phone", "web"}, PriceCents: 699},
				{ID: "standard", Name: "Standard", MaxHeight: 1080, MaxStreams: 2, Devices: []string{"phone", "web", "tv"}, PriceCents: 999},
				{ID: "premium", Name: "Premium", MaxHeight: 2160, MaxStreams: 4, Devices: []string{"phone", "web", "tv"}, PriceCents: 1499},
			},
			members: map[services.MemberID]sqldb.Member{"m-basic": {ID: "m-basic", Plan: "basic", Country: "US"}, "m-std": {ID: "m-std", Plan: "standard", Country: "US"}},
			titles: map[services.TitleID]sqldb.Title{
				"tt-a":    {ID: "tt-a", Name: "Harbor Lights", Live: true},
				"tt-gb":   {ID: "tt-gb", Name: "Tea Time", Live: true, Countries: []string{"GB", "IE"}},
				"tt-soon": {ID: "tt-soon", Name: "Soon"},
				"tt-2100": {ID: "tt-2100", Name: "Later", Live: true, Available: time.Date(2100, 1, 2, 3, 4, 5, 0, time.UTC)},
				"tt-2000": {ID: "tt-2000", Name: "Earlier", Live: true, Available: time.Date(2000, 1, 2, 3, 4, 5, 0, time.UTC)},
			},
		},
		kv: &wide{items: map[string]kv.Item{}}, cache: &memory{m: map[string][]byte{}}, pipeline: &pipeline{},
	}
	b, err := proto.Marshal(asset())
	if err != nil {
		t.Fatal(err)
	}
	r.kv.items[at(kv.Assets, "assets", "tt-a")] = kv.Item{Sort: "tt-a", Value: b}
	timing := topology.LabTiming()
	timing.CacheTTL = topology.Duration(ttl)
	timing.RPCTimeout = topology.Duration(time.Minute) // what is up answers, however slow the machine is
	s, err := New(Deps{RPC: ln, Tel: telemetry.Discard(), Timing: timing, Region: "us-east", Instance: "us-east/a/playback/1", DB: r.db, KV: r.kv, Cache: r.cache, Events: r.pipeline})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	conn, err := grpc.NewClient(ln.Addr().String(), append(telemetry.Discard().DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	r.client = playbackpb.NewPlaybackClient(conn)
	return r
}

func asset() *cachecontrolpb.Asset {
	return &cachecontrolpb.Asset{
		TitleId: "tt-a", Version: 3, DurationMs: 30_000, Name: "Harbor Lights",
		Files: []*cachecontrolpb.File{
			{Path: "index.json", Kind: "index", Sha256: []byte{1, 2}, Size: 10},
			{Path: "manifest.mpd", Kind: "manifest"}, {Path: "v1.m3u8", Kind: "hls"}, {Path: "master.m3u8", Kind: "hls"},
			{Path: "v1.mp4", Kind: "video", Rung: "v1", Kbps: 300, Width: 320, Height: 180, Codecs: "avc1.64001f", Size: 100},
			{Path: "a1.mp4", Kind: "audio", Rung: "a1", Kbps: 64, Codecs: "mp4a.40.2", Size: 20},
		},
	}
}
