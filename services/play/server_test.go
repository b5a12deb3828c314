package play

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/license/licensepb"
	"github.com/flix-lab/flix/services/playback/playbackpb"
	"github.com/flix-lab/flix/services/steering/steeringpb"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/services/token"
	"github.com/flix-lab/flix/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is the microservices behind the API, on one gRPC server. fail makes
// one of them answer with an error, by its method's name.
type world struct {
	playbackpb.UnimplementedPlaybackServer
	licensepb.UnimplementedLicenseServer
	steeringpb.UnimplementedSteeringServer
	cachecontrolpb.UnimplementedCacheControlServer

	key token.Key

	mu        sync.Mutex
	fail      map[string]error
	calls     []string
	authorize *playbackpb.AuthorizeRequest
	issue     *licensepb.IssueRequest
	rank      *steeringpb.RankRequest
	unsettled bool                       // steering's order may change soon
	orders    chan *steeringpb.RankReply // what Follow tells beyond Rank's order
	report    *playbackpb.ReportRequest
	release   *licensepb.ReleaseRequest
	suspect   *cachecontrolpb.SuspectRequest
	cache     map[string][]byte
	// sum is the SHA-256 of the title's index, and fill where it is read.
	sum  []byte
	fill string
}

func (w *world) breaks(method string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fail[method] = err
}

// call records a call and says how it ends.
func (w *world) call(method string, record func()) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, method)
	if record != nil {
		record()
	}
	return w.fail[method]
}

func (w *world) Authorize(_ context.Context, r *playbackpb.AuthorizeRequest) (*playbackpb.AuthorizeReply, error) {
	err := w.call("Authorize", func() { w.authorize = r })
	return &playbackpb.AuthorizeReply{MaxHeight: 480, MaxStreams: 2, TitleName: "Harbor Lights"}, err
}

func (w *world) Profiles(_ context.Context, r *playbackpb.ProfilesRequest) (*playbackpb.ProfilesReply, error) {
	return &playbackpb.ProfilesReply{
		TitleId: r.GetTitleId(), Version: 3, DurationMs: 30_000, IndexPath: "index.json", IndexSha256: w.sum, DashPath: "manifest.mpd", HlsPath: "master.m3u8",
		Profiles: []*playbackpb.Profile{video("v1", 180), video("v2", 480), video("v3", 1080), {Id: "a1", Kind: "audio", Path: "a1.mp4"}},
	}, w.call("Profiles", nil)
}

func (w *world) Bookmark(context.Context, *playbackpb.BookmarkRequest) (*playbackpb.BookmarkReply, error) {
	return &playbackpb.BookmarkReply{PositionS: 12, Found: true}, w.call("Bookmark", nil)
}

func (w *world) Report(_ context.Context, r *playbackpb.ReportRequest) (*playbackpb.ReportReply, error) {
	return &playbackpb.ReportReply{}, w.call("Report", func() { w.report = r })
}

func (w *world) sign(c token.Claims) *licensepb.IssueReply {
	now := time.Now()
	return &licensepb.IssueReply{License: w.key.Sign(token.License, c, now, time.Hour), ExpiresUnixMs: now.Add(time.Hour).UnixMilli()}
}

func (w *world) Issue(_ context.Context, r *licensepb.IssueRequest) (*licensepb.IssueReply, error) {
	return w.sign(token.Claims{Session: r.GetSessionId(), Member: r.GetMemberId(), Title: r.GetTitleId(), Device: r.GetDevice(), Country: r.GetCountry()}), w.call("Issue", func() { w.issue = r })
}

func (w *world) Renew(_ context.Context, r *licensepb.RenewRequest) (*licensepb.IssueReply, error) {
	return w.sign(token.Claims{Session: r.GetSessionId()}), w.call("Renew", nil)
}

func (w *world) Release(_ context.Context, r *licensepb.ReleaseRequest) (*licensepb.ReleaseReply, error) {
	return &licensepb.ReleaseReply{}, w.call("Release", func() { w.release = r })
}

func (w *world) Rank(_ context.Context, r *steeringpb.RankRequest) (*steeringpb.RankReply, error) {
	w.mu.Lock()
	unsettled := w.unsettled
	w.mu.Unlock()
	return &steeringpb.RankReply{Version: 3, Unsettled: unsettled, Candidates: []*steeringpb.Candidate{
		{Appliance: "us-east/isp-1/oca/1", Site: "isp-1", Kind: "isp", Url: "https://oca-1-isp-1.oc.flix.test:1234", PlainUrl: "http://oca-1-isp-1.localhost:2234", FillUrl: w.fill},
		{Appliance: "us-east/ix/oca/1", Site: "ix", Kind: "exchange", Url: "https://oca-1-ix.oc.flix.test:1235/", Rank: 1},
	}}, w.call("Rank", func() { w.rank = r })
}

func (w *world) Follow(r *steeringpb.RankRequest, stream grpc.ServerStreamingServer[steeringpb.RankReply]) error {
	reply, err := w.Rank(stream.Context(), r)
	for err == nil {
		if err = stream.Send(reply); err != nil {
			break
		}
		select {
		case reply = <-w.orders:
		case <-stream.Context().Done():
			return nil
		}
	}
	return err
}

func (w *world) Suspect(_ context.Context, r *cachecontrolpb.SuspectRequest) (*cachecontrolpb.SuspectReply, error) {
	return &cachecontrolpb.SuspectReply{}, w.call("Suspect", func() { w.suspect = r })
}

func (w *world) Get(_ context.Context, key string) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if b, ok := w.cache[key]; ok {
		return b, nil
	}
	return nil, services.Errorf(services.NotFound, "miss")
}

func (w *world) Set(_ context.Context, key string, val []byte, _ time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cache[key] = val
	return nil
}

func video(id string, height uint32) *playbackpb.Profile {
	return &playbackpb.Profile{Id: id, Kind: "video", Path: id + ".mp4", Kbps: height, Width: height * 16 / 9, Height: height, Codecs: "avc1.64001f"}
}

type rig struct {
	*world
	t      *testing.T
	base   string
	client *http.Client
	header map[string]string
}

func start(t *testing.T) *rig {
	t.Helper()
	listen := func() net.Listener {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	key, err := token.NewKey("lab", []byte("0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{orders: make(chan *steeringpb.RankReply), key: key, sum: []byte{1, 2}, fail: map[string]error{}, cache: map[string][]byte{}}
	rpc, ln := listen(), listen()
	gs := grpc.NewServer(telemetry.Discard().ServerOptions()...)
	playbackpb.RegisterPlaybackServer(gs, w)
	licensepb.RegisterLicenseServer(gs, w)
	steeringpb.RegisterSteeringServer(gs, w)
	cachecontrolpb.RegisterCacheControlServer(gs, w)
	tel := telemetry.Discard()
	conn, err := grpc.NewClient(rpc.Addr().String(), append(tel.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	timing := topology.LabTiming()
	timing.SteeringTTL = topology.Duration(20 * time.Second)
	timing.CacheTTL = 0
	timing.RPCTimeout = topology.Duration(time.Minute) // what is up answers, however slow the machine is
	s, err := New(Deps{
		HTTP: ln, Tel: tel, Timing: timing, Region: "us-east", Instance: "us-east/a/play/1", Cache: w, Key: key,
		Playback: playbackpb.NewPlaybackClient(conn), License: licensepb.NewLicenseClient(conn),
		Steering: steeringpb.NewSteeringClient(conn), CacheControl: cachecontrolpb.NewCacheControlClient(conn),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- s.Serve(ctx) }()
	go func() { done <- gs.Serve(rpc) }()
	r := &rig{world: w, t: t, base: "http://" + ln.Addr().String(), client: &http.Client{Transport: &http.Transport{}}, header: map[string]string{
		"X-Flix-Member": "m1", "X-Flix-Plan": "basic", "X-Flix-Country": "US", "X-Flix-Device": "web",
		"X-Flix-Client-Ip": "198.18.0.9", "X-Flix-ISP": "isp-1",
	}}
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

func (r *rig) post(path string, body any) (reply StartReply, p services.Problem) {
	r.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		r.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(r.t.Context(), "POST", r.base+path, bytes.NewReader(b))
	if err != nil {
		r.t.Fatal(err)
	}
	for k, v := range r.header {
		req.Header.Set(k, v)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	to := any(&reply)
	switch resp.StatusCode {
	case http.StatusNoContent:
		return reply, p
	case http.StatusOK:
	default:
		to = &p
	}
	if err := json.NewDecoder(resp.Body).Decode(to); err != nil {
		r.t.Fatalf("POST %s: status %d: %v", path, resp.StatusCode, err)
	}
	return reply, p
}

func ask() StartRequest { return StartRequest{Session: "s1", Title: "tt-a", Device: "tv"} }

func TestStart(t *testing.T) {
	r := start(t)
	q := ask()
	q.Height = 480
	got, p := r.post(PathStart, q)
	if p.Kind != "" {
		t.Fatalf("%+v", p)
	}
	license, appliances, trace := got.License, got.Appliances, got.TraceID
	if want := (Stock{got.Stock.DASH, strings.Replace(got.Stock.DASH, fileDASH, fileHLS, 1), strings.Replace(got.Stock.DASH, fileDASH, fileSteering, 1), strings.Replace(got.Stock.DASH, fileDASH, fileEvents, 1)}); got.Stock != want || !strings.HasPrefix(got.Stock.DASH, PathStock) {
		t.Errorf("for stock players: %+v", got.Stock)
	}
	got.Stock = Stock{}
	if got.LicenseExpires.Before(time.Now()) || trace == "" {
		t.Errorf("licence expires %v, trace %q", got.LicenseExpires, trace)
	}
	got.License, got.Appliances, got.TraceID, got.LicenseExpires = "", nil, "", time.Time{}
	want := StartReply{
		Session: "s1", Title: "tt-a", Name: "Harbor Lights", Version: 3, DurationMS: 30_000, PositionS: 12, MaxHeight: 480,
		Streams: []Stream{
			{ID: "v1", Kind: "video", Path: "v1.mp4", Kbps: 180, Width: 320, Height: 180, Codecs: "avc1.64001f"},
			{ID: "v2", Kind: "video", Path: "v2.mp4", Kbps: 480, Width: 853, Height: 480, Codecs: "avc1.64001f"},
			{ID: "a1", Kind: "audio", Path: "a1.mp4"},
		},
		IndexPath: "index.json", IndexSHA256: []byte{1, 2}, DASHPath: "manifest.mpd", HLSPath: "master.m3u8", Region: "us-east", Country: "US",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := r.key.Verify(token.License, license, time.Now()); err != nil {
		t.Error(err)
	}
	a := r.authorize
	if a.GetMemberId() != "m1" || a.GetPlan() != "basic" || a.GetCountry() != "US" || a.GetDevice() != "tv" || a.GetWantHeight() != 480 || a.GetSessionId() != "s1" {
		t.Errorf("authorised %v", a)
	}
	if r.issue.GetMaxHeight() != 480 || r.issue.GetDevice() != "tv" || r.rank.GetClientIp() != "198.18.0.9" || r.rank.GetMax() != 10 {
		t.Errorf("issued %v, ranked %v", r.issue, r.rank)
	}
	for i, prefix := range []string{"https://oca-1-isp-1.oc.flix.test:1234/", "https://oca-1-ix.oc.flix.test:1235/"} {
		tok, path, _ := strings.Cut(strings.TrimPrefix(appliances[i].URL, prefix), "/")
		c, err := r.key.Verify(token.URL, tok, time.Now())
		if err != nil || path != "t/tt-a/3/" || c.Title != "tt-a" || c.Client != "198.18.0.9" || c.Session != "s1" || c.Trace != trace {
			t.Errorf("appliance %d: %s: %+v, %v", i, appliances[i].URL, c, err)
		}
	}
}

func TestStartFailures(t *testing.T) {
	denied := services.Errorf(services.Denied, "the plan allows 480 lines").WithReason(services.ReasonPlanResolution).WithRemedy("change to Standard")
	none := services.Errorf(services.NotFound, "no appliance holds it").WithReason(services.ReasonNoReplica)
	down := services.Errorf(services.Unavailable, "it is down")
	tests := []struct {
		name   string
		fail   map[string]error
		kind   services.Kind
		reason string
	}{
		{"permission", map[string]error{"Authorize": denied}, services.Denied, services.ReasonPlanResolution},
		{"permission before appliances", map[string]error{"Authorize": denied, "Rank": none, "Profiles": none}, services.Denied, services.ReasonPlanResolution},
		{"no permission service", map[string]error{"Authorize": down}, services.Unavailable, ""},
		{"no licence", map[string]error{"Issue": down}, services.Unavailable, ""},
		{"broken licence service", map[string]error{"Issue": services.Errorf(services.Internal, "broken")}, services.Internal, ""},
		{"no appliance", map[string]error{"Rank": none}, services.NotFound, services.ReasonNoReplica},
		{"no steering", map[string]error{"Rank": down}, services.Unavailable, ""},
		{"no files", map[string]error{"Profiles": down}, services.Unavailable, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := start(t)
			for m, err := range tt.fail {
				r.breaks(m, err)
			}
			reply, p := r.post(PathStart, ask())
			if p.Kind != tt.kind || p.Reason != tt.reason || reply.License != "" {
				t.Errorf("%+v %+v", p, reply)
			}
			if tt.kind == services.Denied && p.Remedy != "change to Standard" {
				t.Errorf("remedy %q", p.Remedy)
			}
		})
	}
}

func TestStaleParts(t *testing.T) {
	r := start(t)
	if got, p := r.post(PathStart, ask()); p.Kind != "" || got.Stale {
		t.Fatalf("%+v %+v", got, p)
	}
	r.breaks("Profiles", services.Errorf(services.Unavailable, "down"))
	if got, p := r.post(PathStart, ask()); p.Kind != "" || !got.Stale || len(got.Streams) != 3 {
		t.Errorf("profiles from EVCache: %+v %+v", got, p)
	}
	r.breaks("Profiles", nil)
	r.breaks("Bookmark", services.Errorf(services.Unavailable, "down"))
	if got, p := r.post(PathStart, ask()); p.Kind != "" || !got.Stale || got.PositionS != 0 {
		t.Errorf("without a bookmark: %+v %+v", got, p)
	}
}

func TestRequestsThatAreWrong(t *testing.T) {
	r := start(t)
	for name, q := range map[string]StartRequest{
		"session": {Title: "tt-a"}, "title": {Session: "s1"}, "long": {Session: strings.Repeat("s", 129), Title: "tt-a"},
		"height": {Session: "s1", Title: "tt-a", Height: -1}, "tall": {Session: "s1", Title: "tt-a", Height: 1 << 40},
	} {
		if _, p := r.post(PathStart, q); p.Kind != services.Invalid {
			t.Errorf("%s: %+v", name, p)
		}
	}
	r.header["X-Flix-Client-Ip"] = ""
	if _, p := r.post(PathStart, ask()); p.Kind != services.Invalid {
		t.Errorf("no client address: %+v", p)
	}
	delete(r.header, "X-Flix-Member")
	for _, path := range []string{PathStart, PathRenew, PathReport, PathSuspect} {
		if _, p := r.post(path, ask()); p.Kind != services.Denied {
			t.Errorf("%s without a member: %+v", path, p)
		}
	}
	if len(r.calls) != 0 {
		t.Errorf("a wrong request reached %v", r.calls)
	}
}

func TestReport(t *testing.T) {
	r := start(t)
	q := ReportRequest{Session: "s1", Title: "tt-a", Kind: "progress", Sequence: 2, PositionS: 4, Bytes: 100, Rung: "v2", License: "lic"}
	if _, p := r.post(PathReport, q); p.Kind != "" {
		t.Fatalf("%+v", p)
	}
	if g := r.report; g.GetMemberId() != "m1" || g.GetDevice() != "web" || g.GetIsp() != "isp-1" || g.GetClientIp() != "198.18.0.9" || g.GetRegion() != "us-east" || g.GetSequence() != 2 || g.GetRung() != "v2" {
		t.Errorf("reported %v", g)
	}
	if r.release != nil {
		t.Error("progress released the licence")
	}
	q.Kind = "stop"
	r.breaks("Release", services.Errorf(services.Unavailable, "down"))
	if _, p := r.post(PathReport, q); p.Kind != "" || r.release.GetLicense() != "lic" || r.release.GetSessionId() != "s1" {
		t.Errorf("stop: %+v, released %v", p, r.release)
	}
	q.Kind = "pause"
	if _, p := r.post(PathReport, q); p.Kind != services.Invalid {
		t.Errorf("unknown kind: %+v", p)
	}
	q.Kind = "error"
	r.breaks("Report", services.Errorf(services.Unavailable, "down"))
	if _, p := r.post(PathReport, q); p.Kind != services.Unavailable {
		t.Errorf("with playback down: %+v", p)
	}
}

func TestSuspect(t *testing.T) {
	r := start(t)
	q := SuspectRequest{Session: "s1", Title: "tt-a", Version: 3, Appliance: "us-east/ix/oca/1", Path: "v1.mp4"}
	if _, p := r.post(PathSuspect, q); p.Kind != "" {
		t.Fatalf("%+v", p)
	}
	if g := r.suspect; g.GetAppliance() != q.Appliance || g.GetTitleId() != "tt-a" || g.GetVersion() != 3 || g.GetPath() != "v1.mp4" || g.GetReporter() != "s1" || g.GetForwarded() {
		t.Errorf("suspected %v", g)
	}
	q.Path = ""
	if _, p := r.post(PathSuspect, q); p.Kind != services.Invalid {
		t.Errorf("no path: %+v", p)
	}
}

func TestStreams(t *testing.T) {
	all := []*playbackpb.Profile{video("v2", 480), video("v1", 180), {Id: "a1", Kind: "audio"}}
	for height, want := range map[int]string{2160: "v2 v1 a1", 480: "v2 v1 a1", 479: "v1 a1", 180: "v1 a1", 100: "v1 a1", 0: "v1 a1"} {
		var ids []string
		for _, s := range streams(all, height) {
			ids = append(ids, s.ID)
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%d lines: %s, want %s", height, got, want)
		}
	}
}

func TestResume(t *testing.T) {
	for position, want := range map[float64]float64{0: 0, 12: 12, 28.4: 28.4, 28.5: 0, 30: 0, 99: 0, -1: 0} {
		if got := resume(position, 30_000); got != want {
			t.Errorf("resume(%v of 30 s) = %v, want %v", position, got, want)
		}
	}
}
