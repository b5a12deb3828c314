package playback

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/kv"
	"github.com/flix-lab/flix/services/playback/playbackpb"
	"github.com/flix-lab/flix/services/sqldb"
)

func ask(spoil func(*playbackpb.AuthorizeRequest)) *playbackpb.AuthorizeRequest {
	r := &playbackpb.AuthorizeRequest{SessionId: "s1", MemberId: "m-std", Plan: "standard", TitleId: "tt-a", Device: "tv", Country: "US"}
	if spoil != nil {
		spoil(r)
	}
	return r
}

func TestAuthorize(t *testing.T) {
	r := start(t, 0)
	got, err := r.client.Authorize(t.Context(), ask(nil))
	if err != nil {
		t.Fatal(err)
	}
	if got.GetMaxHeight() != 1080 || got.GetMaxStreams() != 2 || got.GetTitleName() != "Harbor Lights" || got.GetStale() {
		t.Errorf("answer %v", got)
	}
	it, ok := r.kv.session("m-std", "s1")
	if !ok || it.TTL != 6*time.Second || !strings.Contains(string(it.Value), `"title":"tt-a"`) {
		t.Errorf("session row %q, TTL %v, %v", it.Value, it.TTL, ok)
	}
}

func TestAuthorizeRefuses(t *testing.T) {
	r := start(t, time.Hour)
	type q = playbackpb.AuthorizeRequest
	tests := []struct {
		name, reason string
		kind         services.Kind
		says, remedy string
		spoil        func(*q)
	}{
		{"no title", services.ReasonNoTitle, services.NotFound, `"tt-x"`, "search", func(r *q) { r.TitleId = "tt-x" }},
		{"not live", services.ReasonNotLive, services.Conflict, `"Soon"`, "wait", func(r *q) { r.TitleId = "tt-soon" }},
		{"before its date", services.ReasonNotLive, services.Conflict, `"Later" is not live yet: its date is 2100-01-02T03:04:05Z`, "then", func(r *q) { r.TitleId = "tt-2100" }},
		{"country", services.ReasonNotLicensed, services.Denied, "not licensed in US; it is in GB, IE", "licensed in US", func(r *q) { r.TitleId = "tt-gb" }},
		{"country before device", services.ReasonNotLicensed, services.Denied, "", "", func(r *q) { r.TitleId, r.MemberId = "tt-gb", "m-basic" }},
		{"title before member", services.ReasonNoTitle, services.NotFound, "", "", func(r *q) { r.TitleId, r.MemberId = "tt-x", "m-x" }},
		{"no member", ReasonNoMember, services.Denied, "", "sign in", func(r *q) { r.MemberId = "m-x" }},
		{"device", services.ReasonPlanDevice, services.Denied, "not on tv", `"Standard" (standard)`, func(r *q) { r.MemberId = "m-basic" }},
		{"the token's plan does not count", services.ReasonPlanDevice, services.Denied, "", "", func(r *q) { r.MemberId, r.Plan = "m-basic", "premium" }},
		{"device before resolution", services.ReasonPlanDevice, services.Denied, "", "", func(r *q) { r.MemberId, r.WantHeight = "m-basic", 1080 }},
		{"resolution", services.ReasonPlanResolution, services.Denied, "1080 lines, not 2160", `"Premium" (premium)`, func(r *q) { r.WantHeight = 2160 }},
		{"resolution of no plan", services.ReasonPlanResolution, services.Denied, "", "ask for 1080 lines or fewer", func(r *q) { r.WantHeight = 9999 }},
		{"no device", "", services.Invalid, "device", "", func(r *q) { r.Device = "" }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := r.client.Authorize(t.Context(), ask(tt.spoil))
			p := services.ProblemOf(err)
			if p.Kind != tt.kind || p.Reason != tt.reason || !strings.Contains(p.Error, tt.says) || !strings.Contains(p.Remedy, tt.remedy) {
				t.Errorf("%+v", p)
			}
		})
	}
	if _, err := r.client.Authorize(t.Context(), ask(func(r *q) { r.TitleId, r.MemberId = "tt-2000", "m-x" })); services.ReasonOf(err) != ReasonNoMember {
		t.Errorf("a title whose date has come: %v, want the member to be what is wrong", err)
	}
	if len(r.kv.items) != 1 { // the asset
		t.Errorf("a refused play opened a session: %v", r.kv.items)
	}
}

func TestStreamLimit(t *testing.T) {
	r := start(t, 0)
	with := func(s string) *playbackpb.AuthorizeRequest {
		return ask(func(r *playbackpb.AuthorizeRequest) { r.SessionId = s })
	}
	for _, s := range []string{"s1", "s2", "s1", "s2"} { // the same session again is no other stream
		if _, err := r.client.Authorize(t.Context(), with(s)); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	_, err := r.client.Authorize(t.Context(), with("s3"))
	if services.ReasonOf(err) != services.ReasonPlanStreams || services.KindOf(err) != services.Denied {
		t.Fatalf("a third of two streams: %v", err)
	}
	if _, err := r.client.Report(t.Context(), say("s1", "stop", 9)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.client.Authorize(t.Context(), with("s3")); err != nil {
		t.Errorf("after one stopped: %v", err)
	}
}

// However many streams of a household open at once, no more than the plan allows
// do.
func TestStreamLimitOfStreamsThatOpenAtOnce(t *testing.T) {
	r := start(t, 0)
	opened := make(chan error)
	for i := range 8 {
		go func() {
			_, err := r.client.Authorize(t.Context(), ask(func(r *playbackpb.AuthorizeRequest) { r.SessionId = fmt.Sprint("s", i) }))
			opened <- err
		}()
	}
	n := 0
	for range 8 {
		if err := <-opened; err == nil {
			n++
		} else if services.ReasonOf(err) != services.ReasonPlanStreams {
			t.Error(err)
		}
	}
	if n != 2 {
		t.Errorf("%d streams of a plan of 2", n)
	}
}

func TestSessionIDThatIsTheGate(t *testing.T) {
	r := start(t, 0)
	_, err := r.client.Authorize(t.Context(), ask(func(r *playbackpb.AuthorizeRequest) { r.SessionId = gate }))
	if services.KindOf(err) != services.Invalid {
		t.Errorf("authorize: %v", err)
	}
	if _, err := r.client.Report(t.Context(), say(gate, "stop", 1)); services.KindOf(err) != services.Invalid {
		t.Errorf("report: %v", err)
	}
}

// Nobody's report stands for that of somebody else's session.
func TestStopOfAnotherMember(t *testing.T) {
	r := start(t, 0)
	for _, s := range []string{"s1", "s2"} {
		if _, err := r.client.Authorize(t.Context(), ask(func(r *playbackpb.AuthorizeRequest) { r.SessionId = s })); err != nil {
			t.Fatal(err)
		}
	}
	other := say("s1", "stop", 9)
	mine := other.GetMemberId()
	other.MemberId = "somebody-else"
	if _, err := r.client.Report(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if _, ok := r.kv.session(mine, "s1"); !ok {
		t.Error("somebody else stopped the session")
	}
	if _, err := r.client.Report(t.Context(), say("s1", "stop", 9)); err != nil {
		t.Fatal(err)
	}
	if _, ok := r.kv.session(mine, "s1"); ok {
		t.Error("the member's own stop was taken for the other's")
	}
}

func TestLateStores(t *testing.T) {
	t.Run("stale copies decide, and say so", func(t *testing.T) {
		r := start(t, 0)
		if _, err := r.client.Authorize(t.Context(), ask(nil)); err != nil {
			t.Fatal(err)
		}
		r.db.set(func() { r.db.down = true })
		got, err := r.client.Authorize(t.Context(), ask(nil))
		if err != nil || !got.GetStale() || got.GetMaxHeight() != 1080 {
			t.Errorf("%v, %v", got, err)
		}
		_, err = r.client.Authorize(t.Context(), ask(func(q *playbackpb.AuthorizeRequest) { q.WantHeight = 2160 }))
		if services.ReasonOf(err) != services.ReasonPlanResolution {
			t.Errorf("a refusal by stale copies: %v", err)
		}
	})
	t.Run("without a copy nothing is invented", func(t *testing.T) {
		r := start(t, 0)
		r.db.set(func() { r.db.down = true })
		if _, err := r.client.Authorize(t.Context(), ask(nil)); services.KindOf(err) != services.Unavailable {
			t.Errorf("%v", err)
		}
	})
	t.Run("streams are not guessed", func(t *testing.T) {
		r := start(t, 0)
		r.kv.set(func() { r.kv.down = true })
		if _, err := r.client.Authorize(t.Context(), ask(nil)); services.KindOf(err) != services.Unavailable {
			t.Errorf("%v", err)
		}
	})
	t.Run("a broken cache is a miss", func(t *testing.T) {
		r := start(t, time.Hour)
		r.cache.mu.Lock()
		r.cache.down = true
		r.cache.mu.Unlock()
		if got, err := r.client.Authorize(t.Context(), ask(nil)); err != nil || got.GetStale() {
			t.Errorf("%v, %v", got, err)
		}
	})
}

func TestCopies(t *testing.T) {
	r := start(t, time.Hour)
	for i := range 3 {
		q := ask(func(q *playbackpb.AuthorizeRequest) { q.SessionId = "s1" })
		if _, err := r.client.Authorize(t.Context(), q); err != nil {
			t.Fatalf("%d: %v", i, err)
		}
	}
	if r.db.reads != 1 {
		t.Errorf("the title was read %d times from SQL, want once", r.db.reads)
	}
	// A refusal is not taken from a copy: the upgrade counts at once.
	q := ask(func(q *playbackpb.AuthorizeRequest) { q.WantHeight = 2160 })
	if _, err := r.client.Authorize(t.Context(), q); services.ReasonOf(err) != services.ReasonPlanResolution {
		t.Fatalf("before the upgrade: %v", err)
	}
	r.db.set(func() { r.db.members["m-std"] = sqldb.Member{ID: "m-std", Plan: "premium"} })
	if got, err := r.client.Authorize(t.Context(), q); err != nil || got.GetMaxHeight() != 2160 {
		t.Errorf("after the upgrade: %v, %v", got, err)
	}
	for _, key := range CacheKeys("tt-a")[:1] {
		if _, ok := r.cache.m[key]; !ok {
			t.Errorf("CacheKeys names %s, the cache does not have it", key)
		}
	}
}

func TestProfiles(t *testing.T) {
	r := start(t, 0)
	for _, down := range []bool{false, true} {
		r.kv.set(func() { r.kv.down = down })
		got, err := r.client.Profiles(t.Context(), &playbackpb.ProfilesRequest{TitleId: "tt-a"})
		if err != nil {
			t.Fatal(err)
		}
		want := &playbackpb.ProfilesReply{
			TitleId: "tt-a", Version: 3, DurationMs: 30_000, IndexPath: "index.json", IndexSha256: []byte{1, 2},
			DashPath: "manifest.mpd", HlsPath: "master.m3u8", Stale: down,
			Profiles: []*playbackpb.Profile{
				{Id: "v1", Kind: "video", Path: "v1.mp4", Kbps: 300, Width: 320, Height: 180, Codecs: "avc1.64001f", Size: 100},
				{Id: "a1", Kind: "audio", Path: "a1.mp4", Kbps: 64, Codecs: "mp4a.40.2", Size: 20},
			},
		}
		if !proto.Equal(got, want) {
			t.Errorf("store down %v:\n got %v\nwant %v", down, got, want)
		}
	}
	r.kv.set(func() { r.kv.down = false })
	if _, err := r.client.Profiles(t.Context(), &playbackpb.ProfilesRequest{TitleId: "tt-x"}); services.ReasonOf(err) != services.ReasonNoTitle {
		t.Errorf("unknown title: %v", err)
	}
}

func FuzzProfilesOf(f *testing.F) {
	b, err := proto.Marshal(asset())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)/2])
	f.Add([]byte("not an asset"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := profilesOf(b); err == nil && (r.GetIndexPath() == "" || len(r.GetProfiles()) == 0) {
			t.Errorf("took an asset that cannot play: %v", r)
		}
	})
}

func TestBookmark(t *testing.T) {
	r := start(t, 0)
	q := &playbackpb.BookmarkRequest{MemberId: "m-std", TitleId: "tt-a"}
	if got, err := r.client.Bookmark(t.Context(), q); err != nil || got.GetFound() {
		t.Fatalf("before any play: %v, %v", got, err)
	}
	r.kv.set(func() {
		r.kv.items[at(kv.Bookmarks, "m-std", "tt-a")] = kv.Item{Sort: "tt-a", Value: []byte(`{"position_s":12.5,"at":"2026-01-02T03:04:05Z"}`)}
	})
	for _, down := range []bool{false, true} { // the copy answers when the store does not
		r.kv.set(func() { r.kv.down = down })
		if got, err := r.client.Bookmark(t.Context(), q); err != nil || got.GetPositionS() != 12.5 || !got.GetFound() {
			t.Errorf("store down %v: %v, %v", down, got, err)
		}
	}
}

func say(session, kind string, sequence uint64) *playbackpb.ReportRequest {
	return &playbackpb.ReportRequest{SessionId: session, MemberId: "m-std", TitleId: "tt-a", Kind: kind, Sequence: sequence, PositionS: float64(sequence), Bytes: 10, Isp: "isp-1", ClientIp: "198.18.0.9"}
}

func TestReport(t *testing.T) {
	r := start(t, 0)
	for _, q := range []*playbackpb.ReportRequest{say("s1", "start", 1), say("s1", "progress", 2), say("s1", "progress", 2)} {
		if _, err := r.client.Report(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.pipeline.events) != 2 {
		t.Fatalf("%d events of two reports and a repetition", len(r.pipeline.events))
	}
	e := r.pipeline.events[1]
	if e.ID != "m-std/s1/2" || e.Region != "us-east" || e.Instance != "us-east/a/playback/1" || e.At.IsZero() || e.TraceID == "" || e.Bytes != 10 || e.ISP != "isp-1" || e.Kind != "progress" {
		t.Errorf("event %+v", e)
	}
	if it, ok := r.kv.session("m-std", "s1"); !ok || !strings.Contains(string(it.Value), `"position_s":2`) {
		t.Errorf("session row %q, %v", it.Value, ok)
	}
	for _, q := range []*playbackpb.ReportRequest{say("s1", "stop", 4), say("s1", "progress", 3)} {
		if _, err := r.client.Report(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := r.kv.session("m-std", "s1"); ok {
		t.Error("a straggler after the stop brought the session back")
	}
}

// A client that does not number its reports has every one of them taken.
func TestReportsWithoutANumber(t *testing.T) {
	r := start(t, 0)
	for _, kind := range []string{"start", "progress", "progress", "stop"} {
		if _, err := r.client.Report(t.Context(), say("s1", kind, 0)); err != nil {
			t.Fatal(err)
		}
	}
	ids := map[string]bool{}
	for _, e := range r.pipeline.events {
		ids[e.ID] = true
	}
	if len(ids) != 4 {
		t.Errorf("%d events of four reports: %v", len(ids), ids)
	}
	if _, ok := r.kv.session("m-std", "s1"); ok {
		t.Error("the session is open after its stop")
	}
}

func TestReportThatWasNotTakenMayComeAgain(t *testing.T) {
	r := start(t, 0)
	r.pipeline.mu.Lock()
	r.pipeline.down = true
	r.pipeline.mu.Unlock()
	if _, err := r.client.Report(t.Context(), say("s1", "start", 1)); services.KindOf(err) != services.Unavailable {
		t.Fatalf("with the pipeline down: %v", err)
	}
	r.pipeline.mu.Lock()
	r.pipeline.down = false
	r.pipeline.mu.Unlock()
	if _, err := r.client.Report(t.Context(), say("s1", "start", 1)); err != nil || len(r.pipeline.events) != 1 {
		t.Errorf("again: %v, %d events", err, len(r.pipeline.events))
	}
}

func TestReportRefuses(t *testing.T) {
	r := start(t, 0)
	for name, spoil := range map[string]func(*playbackpb.ReportRequest){
		"session":  func(q *playbackpb.ReportRequest) { q.SessionId = "" },
		"kind":     func(q *playbackpb.ReportRequest) { q.Kind = "pause" },
		"position": func(q *playbackpb.ReportRequest) { q.PositionS = math.NaN() },
		"rebuffer": func(q *playbackpb.ReportRequest) { q.RebufferS = math.Inf(1) },
	} {
		q := say("s1", "progress", 1)
		spoil(q)
		if _, err := r.client.Report(t.Context(), q); services.KindOf(err) != services.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}
