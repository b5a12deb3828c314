package recommend

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/kv"
	"github.com/flix-lab/flix/services/recommend/recommendpb"
	"github.com/flix-lab/flix/services/sqldb"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is every store in memory; each may be down.
type world struct {
	mu     sync.Mutex
	down   map[string]bool // "sql", "cache", or a namespace
	titles []sqldb.Title
	items  map[string][]kv.Item // by namespace|partition
	cache  map[string][]byte
	reads  int
}

func (w *world) fail(what ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = map[string]bool{}
	for _, s := range what {
		w.down[s] = true
	}
}

func (w *world) check(what string) error {
	if w.down[what] {
		return services.Errorf(services.Unavailable, "%s is down", what)
	}
	return nil
}

func (w *world) Titles(context.Context) ([]sqldb.Title, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reads++
	return w.titles, w.check("sql")
}

func (w *world) Query(_ context.Context, ns kv.Namespace, partition string, _ kv.Range) ([]kv.Item, string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.check(ns.Name); err != nil {
		return nil, "", err
	}
	return w.items[ns.Name+"|"+partition], "", nil
}

func (w *world) Get(_ context.Context, key string) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b, ok := w.cache[key]
	if err := w.check("cache"); err != nil || ok {
		return b, err
	}
	return nil, services.Errorf(services.NotFound, "miss")
}

func (w *world) Set(_ context.Context, key string, val []byte, _ time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cache[key] = val
	return w.check("cache")
}

func title(id, name string, year int, genres ...string) sqldb.Title {
	return sqldb.Title{ID: services.TitleID(id), Name: name, Year: year, Genres: genres, Live: true, Duration: 100 * time.Second}
}

func start(t *testing.T, ttl time.Duration) (*world, recommendpb.RecommendClient) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{down: map[string]bool{}, items: map[string][]kv.Item{}, cache: map[string][]byte{}}
	w.titles = []sqldb.Title{
		title("tt-c", "Canyon", 2024, "nature"), title("tt-a", "Arcade", 2020, "drama"),
		title("tt-b", "Bridges", 2026, "drama"), title("tt-d", "Dunes", 2022, "nature"), title("tt-e", "Embers", 2019, "drama"),
		{ID: "tt-soon", Name: "Soon"}, {ID: "tt-gb", Name: "Tea", Live: true, Countries: []string{"GB"}},
	}
	timing := topology.LabTiming()
	timing.CacheTTL = topology.Duration(ttl)
	timing.RPCTimeout = topology.Duration(time.Minute) // what is up answers, however slow the machine is
	s, err := New(Deps{RPC: ln, Tel: telemetry.Discard(), Timing: timing, Region: "us-east", Instance: "us-east/a/recommend/1", Titles: w, KV: w, Cache: w})
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
	return w, recommendpb.NewRecommendClient(conn)
}

// page flattens an answer: "name: id id".
func page(r *recommendpb.RowsReply) []string {
	var out []string
	for _, row := range r.GetRows() {
		out = append(out, row.GetName()+": "+strings.Join(row.GetTitleIds(), " "))
	}
	return out
}

func check(t *testing.T, c recommendpb.RecommendClient, country string, stale bool, want ...string) {
	t.Helper()
	got, err := c.Rows(t.Context(), &recommendpb.RowsRequest{MemberId: "m1", Country: country})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, page(got)); diff != "" || got.GetStale() != stale {
		t.Errorf("stale %v, want %v; (-want +got)\n%s", got.GetStale(), stale, diff)
	}
}

func signalsOf(w *world) {
	w.items["bookmarks|m1"] = []kv.Item{
		{Sort: "tt-a", Value: []byte(`{"position_s":40,"at":"2026-01-01T00:00:00Z"}`)},
		{Sort: "tt-b", Value: []byte(`{"position_s":99,"at":"2026-01-03T00:00:00Z"}`)}, // watched to the end
		{Sort: "tt-c", Value: []byte(`{"position_s":10,"at":"2026-01-02T00:00:00Z"}`)},
		{Sort: "tt-d", Value: []byte(`broken`)}, {Sort: "tt-gone", Value: []byte(`{"position_s":1}`)},
	}
	w.items["popularity|us-east"] = []kv.Item{
		{Sort: "tt-a", Value: []byte(`{"score":0.5}`)}, {Sort: "tt-d", Value: []byte(`{"score":7}`)},
		{Sort: "tt-b", Value: []byte(`{"score":0}`)}, {Sort: "tt-gb", Value: []byte(`{"score":9}`)},
	}
}

func TestRows(t *testing.T) {
	w, c := start(t, 0)
	check(t, c, "US", false, "New: tt-b tt-c tt-d tt-a tt-e") // a new member of a new region
	signalsOf(w)
	check(t, c, "US", false,
		"Continue watching: tt-c tt-a", "Popular here: tt-d tt-a",
		"Because you watch drama: tt-e", "Because you watch nature: tt-d", "New: tt-b tt-c tt-d tt-a tt-e")
	check(t, c, "GB", false,
		"Continue watching: tt-c tt-a", "Popular here: tt-gb tt-d tt-a",
		"Because you watch drama: tt-e", "Because you watch nature: tt-d", "New: tt-b tt-c tt-d tt-a tt-e tt-gb")
}

func TestLateSources(t *testing.T) {
	const everything = "All titles: tt-a tt-b tt-c tt-d tt-e"
	w, c := start(t, 0)
	signalsOf(w)
	w.fail("bookmarks")
	check(t, c, "US", true, "Popular here: tt-d tt-a", "New: tt-b tt-c tt-d tt-a tt-e")
	w.fail("bookmarks", "popularity")
	check(t, c, "US", true, everything)
	w.fail("bookmarks", "popularity", "sql", "cache")
	check(t, c, "US", true, everything) // from memory
	w.fail()
	full := []string{"Continue watching: tt-c tt-a", "Popular here: tt-d tt-a", "Because you watch drama: tt-e", "Because you watch nature: tt-d", "New: tt-b tt-c tt-d tt-a tt-e"}
	check(t, c, "US", false, full...)
	w.fail("bookmarks")
	check(t, c, "US", true, full...) // the member's own page, though old, before a page that lacks rows
}

func TestNothingKnown(t *testing.T) {
	w, c := start(t, 0)
	w.fail("sql")
	if _, err := c.Rows(t.Context(), &recommendpb.RowsRequest{MemberId: "m1"}); services.KindOf(err) != services.Unavailable {
		t.Errorf("%v", err)
	}
	if _, err := c.Rows(t.Context(), &recommendpb.RowsRequest{}); services.KindOf(err) != services.Invalid {
		t.Errorf("nobody's page: %v", err)
	}
}

func TestRowsAreCopied(t *testing.T) {
	w, c := start(t, time.Hour)
	for range 3 {
		check(t, c, "US", false, "New: tt-b tt-c tt-d tt-a tt-e")
	}
	if w.reads != 1 {
		t.Errorf("the catalogue was read %d times, want once", w.reads)
	}
}
