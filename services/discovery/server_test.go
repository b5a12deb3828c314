package discovery

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/recommend/recommendpb"
	"github.com/flix-lab/flix/services/search"
	"github.com/flix-lab/flix/services/sqldb"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is what the API stands on, in memory; each part may be down. The
// recommendation service is reached over gRPC.
type world struct {
	recommendpb.UnimplementedRecommendServer

	mu     sync.Mutex
	down   map[string]bool // "sql", "cache", "search", "recommend"
	titles []sqldb.Title
	hits   []search.Hit
	cache  map[string][]byte
	asked  *recommendpb.RowsRequest
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
	return append([]sqldb.Title(nil), w.titles...), w.check("sql")
}

func (w *world) Title(_ context.Context, id services.TitleID) (sqldb.Title, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.titles {
		if t.ID == id {
			return t, w.check("sql")
		}
	}
	if err := w.check("sql"); err != nil {
		return sqldb.Title{}, err
	}
	return sqldb.Title{}, services.Errorf(services.NotFound, "no title %s", id)
}

func (w *world) Search(_ context.Context, _ string, limit int) ([]search.Hit, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hits[:min(len(w.hits), limit)], w.check("search")
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

func (w *world) Rows(_ context.Context, r *recommendpb.RowsRequest) (*recommendpb.RowsReply, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = r
	return &recommendpb.RowsReply{Rows: []*recommendpb.Row{{Name: "New", TitleIds: []string{"tt-b", "tt-unknown", "tt-a"}}, {Name: "Empty", TitleIds: []string{"tt-unknown"}}}}, w.check("recommend")
}

type rig struct {
	*world
	t      *testing.T
	base   string
	client *http.Client
}

func start(t *testing.T, ttl time.Duration) *rig {
	t.Helper()
	w := &world{
		down: map[string]bool{}, cache: map[string][]byte{},
		titles: []sqldb.Title{
			{ID: "tt-a", Name: "Arcade Nights", Live: true, Year: 2020, Duration: 30 * time.Second, Genres: []string{"drama"}, Rungs: []sqldb.Rung{{ID: "v1", Kbps: 300, Width: 320, Height: 180}}},
			{ID: "tt-b", Name: "Bridges", Live: true, Synopsis: "Steel over water."},
			{ID: "tt-gb", Name: "Tea Time", Live: true, Countries: []string{"GB"}},
			{ID: "tt-soon", Name: "Soon"},
		},
	}
	listen := func() net.Listener {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	rpc, ln := listen(), listen()
	gs := grpc.NewServer(telemetry.Discard().ServerOptions()...)
	recommendpb.RegisterRecommendServer(gs, w)
	conn, err := grpc.NewClient(rpc.Addr().String(), append(telemetry.Discard().DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	timing := topology.LabTiming()
	timing.CacheTTL = topology.Duration(ttl)
	timing.RPCTimeout = topology.Duration(time.Minute) // what is up answers, however slow the machine is
	s, err := New(Deps{
		HTTP: ln, Tel: telemetry.Discard(), Timing: timing, Region: "us-east", Instance: "us-east/a/discovery/1",
		Titles: w, Index: w, Cache: w, Recommend: recommendpb.NewRecommendClient(conn),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- s.Serve(ctx) }()
	go func() { done <- gs.Serve(rpc) }()
	r := &rig{world: w, t: t, base: "http://" + ln.Addr().String(), client: &http.Client{Transport: &http.Transport{}}}
	t.Cleanup(func() {
		r.client.CloseIdleConnections()
		cancel()
		_ = conn.Close()
		gs.Stop()
		for range 2 {
			if err := <-done; err != nil {
				t.Errorf("Serve: %v", err)
			}
		}
	})
	return r
}

func get[T any](r *rig, path string, header ...string) (v T, p services.Problem) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), "GET", r.base+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	if len(header) == 0 {
		header = []string{"X-Flix-Member", "m1", "X-Flix-Country", "US"}
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	to := any(&v)
	if resp.StatusCode != http.StatusOK {
		to = &p
	}
	if err := json.NewDecoder(resp.Body).Decode(to); err != nil {
		r.t.Fatalf("GET %s: status %d: %v", path, resp.StatusCode, err)
	}
	return v, p
}

func TestNeedsAMember(t *testing.T) {
	r := start(t, 0)
	for _, path := range []string{PathTitles, PathTitles + "/tt-a", PathSearch + "?q=x", PathRows} {
		if _, p := get[any](r, path, "X-Flix-Plan", "premium"); p.Kind != services.Denied {
			t.Errorf("%s without a member: %+v", path, p)
		}
	}
}

func TestTitles(t *testing.T) {
	r := start(t, 0)
	got, p := get[TitlesReply](r, PathTitles)
	if p.Kind != "" || len(got.Titles) != 4 || got.Stale {
		t.Fatalf("%+v %+v", got, p)
	}
	want := Title{ID: "tt-a", Name: "Arcade Nights", Genres: []string{"drama"}, DurationS: 30, Rungs: []Rung{{ID: "v1", Kbps: 300, Width: 320, Height: 180}}, Countries: []string{}, Live: true, Year: 2020}
	if diff := cmp.Diff(want, got.Titles[0]); diff != "" {
		t.Error(diff)
	}
	if got.Titles[3].Live {
		t.Error("a title that is not published is listed as live")
	}
	r.fail("sql")
	if got, p := get[TitlesReply](r, PathTitles); p.Kind != "" || !got.Stale || len(got.Titles) != 4 {
		t.Errorf("from EVCache: %+v %+v", got, p)
	}
	r.fail("sql", "cache")
	if got, p := get[TitlesReply](r, PathTitles); p.Kind != "" || !got.Stale || len(got.Titles) != 4 {
		t.Errorf("from memory: %+v %+v", got, p)
	}
}

func TestNoCatalogueIsNotAnEmptyOne(t *testing.T) {
	r := start(t, 0)
	r.fail("sql")
	if _, p := get[TitlesReply](r, PathTitles); p.Kind != services.Unavailable {
		t.Errorf("%+v", p)
	}
}

func TestOneTitle(t *testing.T) {
	r := start(t, time.Hour)
	get[TitlesReply](r, PathTitles) // the copy is made now
	r.mu.Lock()
	r.titles[3].Live = true
	r.titles = append(r.titles, sqldb.Title{ID: "tt-new", Name: "New One", Live: true})
	r.mu.Unlock()
	for _, id := range []string{"tt-a", "tt-soon", "tt-new"} { // published since, and made since
		if got, p := get[Title](r, PathTitles+"/"+id); p.Kind != "" || got.ID != id || !got.Live {
			t.Errorf("%s: %+v %+v", id, got, p)
		}
	}
	if _, p := get[Title](r, PathTitles+"/tt-x"); p.Reason != services.ReasonNoTitle || p.Kind != services.NotFound {
		t.Errorf("unknown: %+v", p)
	}
	// What no title can be called is refused as the description says: by the gateway, too.
	for _, id := range []string{"%19", "%C3%A9", ".tt"} {
		if _, p := get[Title](r, PathTitles+"/"+id); p.Kind != services.Invalid {
			t.Errorf("%s: %+v", id, p)
		}
	}
}

func TestSearch(t *testing.T) {
	r := start(t, 0)
	r.hits = []search.Hit{{ID: "tt-b", Name: "Bridges", Score: 3}, {ID: "tt-gone", Name: "Gone", Score: 2}, {ID: "tt-soon", Name: "Soon", Score: 1}}
	b, soon := Hit{ID: "tt-b", Name: "Bridges", Score: 3, Live: true}, Hit{ID: "tt-soon", Name: "Soon", Score: 1}
	a := Hit{ID: "tt-a", Name: "Arcade Nights", Score: 3, Live: true}
	for query, want := range map[string]SearchReply{
		"bridgs":        {Hits: []Hit{b, soon}},
		"bRiDgEs":       {Hits: []Hit{b, soon}, Exact: true},
		"tt-b":          {Hits: []Hit{b, soon}, Exact: true},
		"TT-A":          {Hits: []Hit{a, b, soon}, Exact: true}, // the index does not know ids
		"arcade nights": {Hits: []Hit{a, b, soon}, Exact: true},
	} {
		got, p := get[SearchReply](r, PathSearch+"?q="+url.QueryEscape(query))
		if diff := cmp.Diff(want, got); diff != "" || p.Kind != "" {
			t.Errorf("%q: %+v (-want +got)\n%s", query, p, diff)
		}
	}
	if got, _ := get[SearchReply](r, PathSearch+"?q=tt-a&limit=2"); len(got.Hits) != 2 {
		t.Errorf("limit 2: %+v", got)
	}
	for _, q := range []string{"", "?q=", "?q=%20", "?q=x&limit=0", "?q=x&limit=51", "?q=x&limit=y", "?q=" + strings.Repeat("x", 201)} {
		if _, p := get[SearchReply](r, PathSearch+q); p.Kind != services.Invalid {
			t.Errorf("%.20s: %+v", q, p)
		}
	}
}

func TestSearchWithoutTheIndex(t *testing.T) {
	r := start(t, 0)
	r.fail("search")
	got, p := get[SearchReply](r, PathSearch+"?q=bridge")
	if want := (SearchReply{Hits: []Hit{{ID: "tt-b", Name: "Bridges", Score: 1, Live: true}}, Stale: true}); !cmp.Equal(got, want) {
		t.Errorf("%+v %+v", got, p)
	}
	r.fail("search", "sql", "cache")
	if got, p := get[SearchReply](r, PathSearch+"?q=water"); p.Kind != "" || len(got.Hits) != 1 || !got.Stale {
		t.Errorf("by synopsis, from memory: %+v %+v", got, p)
	}
}

func TestRows(t *testing.T) {
	r := start(t, 0)
	names := func(v RowsReply) (out []string) {
		for _, row := range v.Rows {
			for _, t := range row.Titles {
				out = append(out, row.Name+"/"+t.ID)
			}
		}
		return out
	}
	got, p := get[RowsReply](r, PathRows)
	if diff := cmp.Diff([]string{"New/tt-b", "New/tt-a"}, names(got)); diff != "" || got.Stale || p.Kind != "" {
		t.Errorf("%+v %s", p, diff)
	}
	if r.asked.GetMemberId() != "m1" || r.asked.GetCountry() != "US" {
		t.Errorf("asked for %v", r.asked)
	}
	r.fail("recommend")
	got, p = get[RowsReply](r, PathRows)
	if diff := cmp.Diff([]string{"New/tt-b", "New/tt-a"}, names(got)); diff != "" || !got.Stale || p.Kind != "" {
		t.Errorf("without the service: %+v %s", p, diff)
	}
	for name, caller := range map[string][]string{
		"another member": {"X-Flix-Member", "m2", "X-Flix-Country", "US"}, "another country": {"X-Flix-Member", "m1", "X-Flix-Country", "CA"},
	} {
		got, p = get[RowsReply](r, PathRows, caller...)
		if diff := cmp.Diff([]string{"All titles/tt-a", "All titles/tt-b"}, names(got)); diff != "" || !got.Stale || p.Kind != "" {
			t.Errorf("without the service and without a copy, %s: %+v %s", name, p, diff)
		}
	}
	r.fail("recommend", "cache")
	got, p = get[RowsReply](r, PathRows)
	if diff := cmp.Diff([]string{"All titles/tt-a", "All titles/tt-b"}, names(got)); diff != "" || !got.Stale || p.Kind != "" {
		t.Errorf("without the cache, too: %+v %s", p, diff)
	}
}
