package keystone

import (
	"bufio"
	"context"
	"encoding/json"
	"math"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/events"
	"github.com/flix-lab/flix/topology"
)

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
