package keystone

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
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

func TestBookmarksLaterWins(t *testing.T) {
	r := build(t, noConsumer)
	var got Bookmark
	for _, e := range []events.PlaybackEvent{event("s1", "start", 1), event("s1", "progress", 5), event("s1", "progress", 3), event("s1", "error", 9)} {
		r.send(t, events.TopicPlayback, e)
	}
	r.kv.read(t, "bookmarks|m1|tt-a", &got)
	if got.PositionS != 5 || !got.At.Equal(noon.Add(5*time.Second)) {
		t.Errorf("bookmark %+v, want the position of the latest progress", got)
	}
	r.send(t, events.TopicPlayback, event("s1", "stop", 12))
	r.kv.read(t, "bookmarks|m1|tt-a", &got)
	if got.PositionS != 12 {
		t.Errorf("after the stop: %+v", got)
	}
}

func TestSessions(t *testing.T) {
	r := build(t, noConsumer)
	r.send(t, events.TopicPlayback, event("s1", "start", 1))
	r.send(t, events.TopicPlayback, event("s1", "progress", 4))
	r.send(t, events.TopicPlayback, event("s1", "progress", 4)) // again
	r.send(t, events.TopicPlayback, event("s1", "progress", 2)) // late
	r.send(t, events.TopicPlayback, event("s2", "error", 5))
	mux := http.NewServeMux()
	r.RegisterAdmin(mux, "key")
	get := func(key string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		q := httptest.NewRequest("GET", "/sessions", nil)
		q.Header.Set("Authorization", "Bearer "+key)
		mux.ServeHTTP(w, q)
		return w
	}
	if w := get("wrong"); w.Code != http.StatusUnauthorized {
		t.Errorf("with a wrong key: %d", w.Code)
	}
	var got []Session
	if err := json.Unmarshal(get("key").Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := []Session{
		{Session: "s2", Title: "tt-a", Member: "m1", Region: "us-east", ISP: "isp-1", Appliance: "oca-1", Rung: "v1", PositionS: 5, State: "failed", Bytes: 100, RebufferS: 0.5, Updated: noon.Add(5 * time.Second)},
		{Session: "s1", Title: "tt-a", Member: "m1", Region: "us-east", ISP: "isp-1", Appliance: "oca-1", Rung: "v1", PositionS: 4, State: "playing", Bytes: 300, RebufferS: 0.5, Updated: noon.Add(4 * time.Second)},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, s := range []string{"s3", "s4"} { // three places: the session silent longest goes
		r.send(t, events.TopicPlayback, event(s, "stop", 9))
	}
	var ids []string
	for _, s := range r.sessions.list() {
		ids = append(ids, s.Session+" "+s.State)
	}
	if got := strings.Join(ids, ", "); got != "s4 stopped, s3 stopped, s2 failed" {
		t.Errorf("kept %s", got)
	}
}

func TestPopularity(t *testing.T) {
	r := build(t, noConsumer)
	asset, err := proto.Marshal(&cachecontrolpb.Asset{TitleId: "tt-a", Files: []*cachecontrolpb.File{{Size: 300}, {Size: 100}}})
	if err != nil {
		t.Fatal(err)
	}
	r.kv.items["assets|assets|tt-a"] = asset
	r.send(t, events.TopicPlayback, event("s1", "start", 1))
	r.send(t, events.TopicPlayback, event("s1", "progress", 2))
	r.kv.fail(true)
	if err := r.popularity.flush(t.Context(), noon); err == nil {
		t.Fatal("flush to a store that is down succeeded")
	}
	r.kv.fail(false)
	if err := r.popularity.flush(t.Context(), noon); err != nil {
		t.Fatal(err)
	}
	var got Popularity
	r.kv.read(t, "popularity|us-east|tt-a", &got)
	// A title that nobody watched before is expected to go on rising, to twice.
	if diff := cmp.Diff(Popularity{Bytes: 200, Plays: 1, Score: 0.5, At: noon, Slow: 0.5, Forecast: 1, Rungs: map[string]float64{"v1": 200}}, got); diff != "" {
		t.Error(diff)
	}
	// Another router writes between read and write; neither count is lost.
	r.kv.between = func(items map[string][]byte) {
		items["popularity|us-east|tt-a"], _ = json.Marshal(Popularity{Bytes: 1000, Plays: 7, Score: 4, Slow: 8, At: noon})
	}
	r.send(t, events.TopicPlayback, event("s1", "progress", 3))
	later := noon.Add(topology.LabTiming().FillWindow.D())
	if err := r.popularity.flush(t.Context(), later); err != nil {
		t.Fatal(err)
	}
	got = Popularity{}
	r.kv.read(t, "popularity|us-east|tt-a", &got)
	want := Popularity{Bytes: 1100, Plays: 7, Score: 2.25, At: later, Slow: 8*math.Exp2(-0.25) + 0.25, Rungs: map[string]float64{"v1": 100}}
	want.Forecast = 2.25 * 4 * 2.25 / want.Slow
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("a half-life later: %s", diff)
	}
	if err := r.popularity.flush(t.Context(), later.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	var after Popularity
	r.kv.read(t, "popularity|us-east|tt-a", &after)
	if diff := cmp.Diff(got, after); diff != "" {
		t.Errorf("a flush of nothing wrote: %s", diff)
	}
}

func TestPopularityFormula(t *testing.T) {
	day := 24 * time.Hour
	tests := []struct {
		name string
		have Popularity
		w    watched
		size uint64
		at   time.Time
		want float64
	}{
		{"first", Popularity{}, watched{bytes: 50}, 100, noon, 0.5},
		{"at once", Popularity{Score: 1, At: noon}, watched{bytes: 100}, 100, noon, 2},
		{"one half-life", Popularity{Score: 1, At: noon}, watched{}, 100, noon.Add(day), 0.5},
		{"two half-lives", Popularity{Score: 1, At: noon}, watched{bytes: 100}, 100, noon.Add(2 * day), 1.25},
		{"a clock that went back", Popularity{Score: 1, At: noon}, watched{}, 100, noon.Add(-day), 1},
		{"unknown size", Popularity{}, watched{bytes: 50, plays: 2}, 0, noon, 2},
	}
	for _, tt := range tests {
		if got := tt.have.add(tt.w, tt.size, tt.at, day); math.Abs(got.Score-tt.want) > 1e-12 {
			t.Errorf("%s: score %v, want %v", tt.name, got.Score, tt.want)
		}
	}
}

func TestTitlePublished(t *testing.T) {
	r := build(t, noConsumer)
	e := events.TitleEvent{Header: events.Header{ID: "e1", At: noon}, Kind: "published", Title: "tt-a", Version: 2, Bytes: 50}
	r.send(t, events.TopicTitles, e)
	r.send(t, events.TopicTitles, e)
	if diff := cmp.Diff([]string{"catalogue", "title/tt-a"}, r.cache.keys); diff != "" {
		t.Errorf("copies dropped, once: %s", diff)
	}
	// Who read the store just before the title was there may have kept that
	// since: the copies are dropped again, once, when the stores had time.
	settled := time.Now().Add(r.d.Timing.RPCTimeout.D())
	for _, tt := range []struct {
		now  time.Time
		want int
	}{{time.Now(), 2}, {settled, 4}, {settled, 4}} {
		if err := r.copies.flush(t.Context(), tt.now, false); err != nil {
			t.Fatal(err)
		}
		if len(r.cache.keys) != tt.want {
			t.Errorf("%d keys dropped, want %d: %v", len(r.cache.keys), tt.want, r.cache.keys)
		}
	}
	r.send(t, events.TopicPlayback, event("s1", "progress", 1))
	if err := r.popularity.flush(t.Context(), noon); err != nil {
		t.Fatal(err)
	}
	var got Popularity
	r.kv.read(t, "popularity|us-east|tt-a", &got)
	if got.Score != 2 { // 100 bytes of 50
		t.Errorf("score %v: the size came from elsewhere", got.Score)
	}
}

func TestFailedSinkGetsTheEventAgain(t *testing.T) {
	r := build(t, noConsumer)
	r.kv.fail(true)
	b, err := json.Marshal(event("s1", "progress", 1))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := r.handle(t.Context(), events.TopicPlayback, nil, b); services.KindOf(err) != services.Unavailable {
			t.Fatalf("with the store down: %v", err)
		}
	}
	r.kv.fail(false)
	if err := r.handle(t.Context(), events.TopicPlayback, nil, b); err != nil {
		t.Fatal(err)
	}
	var got Bookmark
	r.kv.read(t, "bookmarks|m1|tt-a", &got)
	if s := r.sessions.list()[0]; s.Bytes != 100 || got.PositionS != 1 || r.archive.open.events != 1 {
		t.Errorf("session %+v, bookmark %+v, %d archived: each must have it once", s, got, r.archive.open.events)
	}
}

func TestEventThatNoRetryMends(t *testing.T) {
	r := build(t, noConsumer)
	e := event("s1", "progress", 1)
	e.Member = ""
	r.send(t, events.TopicPlayback, e) // fails the test if it is held back
	if len(r.sessions.list()) != 1 {
		t.Error("the other sinks did not get it")
	}
}

func TestMalformedEventsAreSkipped(t *testing.T) {
	r := build(t, noConsumer)
	for topic, value := range map[string]string{
		events.TopicPlayback: `{"id":"x","at":"2026-01-02T12:00:00Z"}`, events.TopicTitles: `{`, events.TopicFill: `{"id":""}`, "nowhere": `{}`,
	} {
		if err := r.handle(t.Context(), topic, nil, []byte(value)); err != nil {
			t.Errorf("%s: %v", topic, err)
		}
	}
	if len(r.sessions.list()) != 0 {
		t.Error("a malformed event reached a sink")
	}
}

func TestArchive(t *testing.T) {
	r := build(t, noConsumer)
	r.send(t, events.TopicPlayback, event("s1", "start", 1))
	r.send(t, events.TopicFill, events.FillEvent{Header: events.Header{ID: "f1", At: noon}, Kind: "stored", Bytes: 7, Source: "peer"})
	if err := r.archive.flush(t.Context(), time.Now(), false); err != nil || len(r.bucket.objects) != 0 {
		t.Fatalf("a young batch was stored: %v, %v", r.bucket.objects, err)
	}
	r.bucket.down = true
	if err := r.archive.flush(t.Context(), time.Now(), true); err == nil {
		t.Fatal("stored with S3 down")
	}
	r.bucket.down = false
	for range 2 { // the second time there is nothing left
		if err := r.archive.flush(t.Context(), time.Now(), true); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.bucket.objects) != 1 {
		t.Fatalf("objects %v", r.bucket.objects)
	}
	for key, body := range r.bucket.objects {
		if !strings.HasPrefix(key, "us-east/20") || !strings.HasSuffix(key, "-us-east_a_keystone_1.ndjson") {
			t.Errorf("key %s", key)
		}
		var topics []string
		for lines := bufio.NewScanner(strings.NewReader(body)); lines.Scan(); {
			var l struct {
				Topic string        `json:"topic"`
				Event events.Header `json:"event"`
			}
			if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
				t.Errorf("line %q: %v", lines.Text(), err)
			}
			topics = append(topics, l.Topic+" "+l.Event.ID)
		}
		if got := strings.Join(topics, ", "); got != "playback s1/1, fill f1" {
			t.Errorf("archived %s", got)
		}
	}
}

func TestArchiveIsBounded(t *testing.T) {
	r := build(t, noConsumer)
	r.bucket.down = true
	for i := range batchEvents * (maxWaiting + 3) {
		if _, err := r.archive.put(t.Context(), record{topic: "t", raw: json.RawMessage(strconv.Itoa(i))}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(r.archive.waiting); n != maxWaiting {
		t.Errorf("%d batches wait, want %d", n, maxWaiting)
	}
	r.bucket.down = false
	if err := r.archive.flush(t.Context(), time.Now(), false); err != nil || len(r.bucket.objects) != maxWaiting {
		t.Errorf("stored %d batches, %v", len(r.bucket.objects), err)
	}
}

func TestServeReadsAgainAndWritesAtTheEnd(t *testing.T) {
	b, err := json.Marshal(event("s1", "start", 1))
	if err != nil {
		t.Fatal(err)
	}
	reads, handled := 0, make(chan struct{})
	r := build(t, func(ctx context.Context, topics []string, handle func(context.Context, string, []byte, []byte) error) error {
		if reads++; reads < 3 {
			return errDown // the pipeline is not up yet
		}
		if err := handle(ctx, events.TopicPlayback, nil, b); err != nil {
			return err
		}
		close(handled)
		<-ctx.Done()
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx) }()
	<-handled
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	var got Popularity
	r.kv.read(t, "popularity|us-east|tt-a", &got)
	if got.Plays != 1 || len(r.bucket.objects) != 1 {
		t.Errorf("at the end: popularity %+v, %d archived batches", got, len(r.bucket.objects))
	}
}

func FuzzDecode(f *testing.F) {
	b, err := json.Marshal(event("s1", "start", 1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(events.TopicPlayback, b)
	f.Add(events.TopicTitles, []byte(`{"id":"e","at":"2026-01-02T12:00:00Z","title":"tt-a"}`))
	f.Add(events.TopicFill, []byte(`{"id":"e","at":"2026-01-02T12:00:00Z","bytes":-1}`))
	f.Fuzz(func(t *testing.T, topic string, value []byte) {
		r, err := decode(topic, nil, value)
		if err == nil && (r.header.ID == "" || r.header.At.IsZero() || (r.playback == nil) == (r.title == nil && r.fill == nil)) {
			t.Errorf("took %q of %s as %+v", value, topic, r)
		}
	})
}
