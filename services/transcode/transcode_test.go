package transcode

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/events"
	"github.com/flix-lab/flix/services/kv"
	"github.com/flix-lab/flix/services/kv/embedded"
	"github.com/flix-lab/flix/services/media"
	"github.com/flix-lab/flix/services/objects"
	"github.com/flix-lab/flix/services/search"
	"github.com/flix-lab/flix/services/sqldb"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/services/transcode/transcodepb"
	"github.com/flix-lab/flix/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// timing with a heartbeat that tests can wait for.
func timing() topology.Timing {
	t := topology.LabTiming()
	t.LeaseRenewal, t.LeaseDuration = topology.Duration(40*time.Millisecond), topology.Duration(200*time.Millisecond)
	t.RPCTimeout = topology.Duration(time.Minute)
	return t
}

// ffmpeg finds it, or skips the test unless it is required.
func ffmpeg(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("ffmpeg")
	if err != nil {
		if os.Getenv("FLIX_REQUIRE_FFMPEG") == "1" {
			t.Fatal("ffmpeg is required (FLIX_REQUIRE_FFMPEG=1) and not on PATH")
		}
		t.Skip("ffmpeg is not on PATH")
	}
	return path
}

// region is the stores of a region and what a transcoder told the others.
type region struct {
	t     *testing.T
	kv    kv.Store
	s3    *objects.Client
	dir   string
	wrap  func(Objects) Objects // set before start to interfere
	mu    sync.Mutex
	said  []string // publish, index, title, event, in order
	asset *cachecontrolpb.Asset
	title sqldb.Title
	event events.TitleEvent
	fail  int // how often Publish is unavailable first
}

// serve runs a unit until the test ends, or stop is called.
func serve(t *testing.T, u services.Unit) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- u.Serve(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func dial(t *testing.T, ln net.Listener) *grpc.ClientConn {
	t.Helper()
	opts := append(telemetry.Discard().DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	c, err := grpc.NewClient("passthrough:///"+ln.Addr().String(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func newRegion(t *testing.T) *region {
	t.Helper()
	r := &region{t: t, dir: t.TempDir()}
	ln := listen(t)
	store, err := embedded.NewServer(embedded.Config{
		Dir: t.TempDir(), Region: "us-east", RPC: ln, Peers: func() map[string]string { return nil },
		Dial: (&net.Dialer{}).DialContext, Tel: telemetry.Discard(), Timing: timing(),
	})
	if err != nil {
		t.Fatal(err)
	}
	serve(t, store)
	r.kv = embedded.NewClient(dial(t, ln))
	ln = listen(t)
	s3, err := objects.NewServer(objects.ServerConfig{Dir: t.TempDir(), Listener: ln, AccessKey: "key", SecretKey: "secret", Tel: telemetry.Discard()})
	if err != nil {
		t.Fatal(err)
	}
	serve(t, s3)
	if r.s3, err = objects.NewClient(objects.ClientConfig{Endpoint: objects.StaticEndpoint(ln.Addr().String()), AccessKey: "key", SecretKey: "secret"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.s3.Close)
	if err := r.s3.EnsureBucket(t.Context(), objects.BucketOriginals); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *region) say(what string, f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, what)
	f()
}

// Send implements Events.
func (r *region) Send(_ context.Context, topic, _ string, e any) error {
	r.say("event", func() { r.event = e.(events.TitleEvent) })
	if topic != events.TopicTitles {
		return errors.New("wrong topic " + topic)
	}
	return nil
}

// start runs a transcoder of the region.
func (r *region) start(instance string, find func() (string, error)) (transcodepb.TranscodeClient, func()) {
	r.t.Helper()
	conn, stop := r.connect(instance, find)
	return transcodepb.NewTranscodeClient(conn), stop
}

// connect runs a transcoder of the region and returns a connection to it.
func (r *region) connect(instance string, find func() (string, error)) (*grpc.ClientConn, func()) {
	r.t.Helper()
	ln := listen(r.t)
	var store Objects = r.s3
	if r.wrap != nil {
		store = r.wrap(store)
	}
	s, err := New(Deps{
		RPC: ln, Region: "us-east", Instance: instance, Dir: filepath.Join(r.dir, strings.ReplaceAll(instance, "/", "-")), Objects: store, KV: r.kv,
		Publish: func(_ context.Context, a *cachecontrolpb.Asset) error {
			r.mu.Lock()
			r.fail--
			failing := r.fail >= 0
			r.mu.Unlock()
			if failing {
				return services.Errorf(services.Unavailable, "not now")
			}
			r.say("publish", func() { r.asset = a })
			return nil
		},
		PutTitle:   func(_ context.Context, t sqldb.Title) error { r.say("title", func() { r.title = t }); return nil },
		IndexTitle: func(_ context.Context, d search.Doc) error { r.say("index", func() {}); return nil },
		Events:     r, FFmpeg: find, Tel: telemetry.New(telemetry.Config{Instance: instance, Role: "transcode", Region: "us-east"}), Timing: timing(),
	})
	if err != nil {
		r.t.Fatal(err)
	}
	stop := serve(r.t, s)
	return dial(r.t, ln), stop
}

// put stores an original.
func (r *region) put(key, file string) {
	r.t.Helper()
	f, err := os.Open(file)
	if err != nil {
		r.t.Fatal(err)
	}
	defer f.Close()
	if _, err := r.s3.PutFile(r.t.Context(), objects.BucketOriginals, key, f, "video/x-matroska"); err != nil {
		r.t.Fatal(err)
	}
}

// clip makes a short video of 2.5 s.
func clip(t *testing.T, path string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "clip.mkv")
	cmd := exec.Command(path, "-v", "error", "-nostdin", "-y", "-f", "lavfi", "-i", "testsrc2=size=192x108:rate=25:duration=2.5",
		"-f", "lavfi", "-i", "sine=duration=2.5", "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", file)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return file
}

// patience bounds what is waited for: only a hang takes as long.
const patience = 5 * time.Minute

// watch follows a job to its end and returns the states seen.
func watch(t *testing.T, c transcodepb.TranscodeClient, id string) (*transcodepb.Job, []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	w, err := c.Watch(ctx, &transcodepb.WatchRequest{JobId: id})
	if err != nil {
		t.Fatal(err)
	}
	var (
		last   *transcodepb.Job
		states []string
	)
	for {
		j, err := w.Recv()
		if errors.Is(err, io.EOF) {
			return last, states
		}
		if err != nil {
			t.Fatalf("after %v: %v", states, err)
		}
		if last != nil && j.GetState() == last.GetState() && j.GetPercent() < last.GetPercent() {
			t.Errorf("progress went back from %v to %v in %s", last.GetPercent(), j.GetPercent(), j.GetState())
		}
		if len(states) == 0 || states[len(states)-1] != j.GetState() {
			states = append(states, j.GetState())
		}
		last = j
	}
}

// date is before which nobody may play the title.
var date = time.Date(2100, 1, 2, 3, 4, 5, 0, time.UTC)

func request() *transcodepb.SubmitRequest {
	return &transcodepb.SubmitRequest{JobId: "my-clip", TitleId: "my-clip", Name: "My Clip", Countries: []string{"US", "GB"}, Synopsis: "A clip.", OriginalKey: "my-clip/clip.mkv", AvailableUnixMs: date.UnixMilli(), MinSites: 2}
}

func TestJobFromOriginalToPublishedTitle(t *testing.T) {
	path := ffmpeg(t)
	r := newRegion(t)
	r.put("my-clip/clip.mkv", clip(t, path))
	r.fail = 2 // cache control is late
	c, _ := r.start("us-east/a/transcode/1", func() (string, error) { return path, nil })
	if _, err := c.Submit(t.Context(), request()); err != nil {
		t.Fatal(err)
	}
	j, states := watch(t, c, "my-clip")
	if j.GetState() != "done" || j.GetPercent() != 100 || j.GetEndedUnixMs() < j.GetStartedUnixMs() {
		t.Fatalf("job %v after %v", j, states)
	}
	var names []string
	for _, s := range j.GetSteps() {
		names = append(names, s.GetName())
	}
	if want := []string{"inspect", "encode", "package", "verify", "upload", "publish"}; !slices.Equal(names, want) {
		t.Errorf("steps %v, want %v", names, want)
	}
	if want := []string{"publish", "index", "title", "event"}; !slices.Equal(r.said, want) {
		t.Errorf("told %v, want %v", r.said, want)
	}
	checkPublished(t, r)
	if left, err := os.ReadDir(filepath.Join(r.dir, "us-east-a-transcode-1")); err != nil || len(left) != 0 {
		t.Errorf("scratch left behind: %v, %v", left, err)
	}
	later := request()
	later.AvailableUnixMs++ // "in an hour" is another time with every request
	again, err := c.Submit(t.Context(), later)
	if err != nil || again.GetState() != "done" {
		t.Errorf("submitted again: %v, %v", again, err)
	}
	other := request()
	other.Name = "Another"
	if _, err := c.Submit(t.Context(), other); services.KindOf(err) != services.Conflict {
		t.Errorf("another title under the same id: %v, want Conflict", err)
	}
	all, err := c.Status(t.Context(), &transcodepb.StatusRequest{})
	if err != nil || len(all.GetJobs()) != 1 {
		t.Errorf("status %v, %v", all, err)
	}
}

// checkPublished compares what was announced with what the store holds.
func checkPublished(t *testing.T, r *region) {
	t.Helper()
	a := r.asset
	if a.GetTitleId() != "my-clip" || a.GetDurationMs() < 2500 || a.GetDurationMs() > 2600 || !slices.Equal(a.GetOrigins(), []string{"us-east"}) {
		t.Errorf("asset %v", a)
	}
	if a.GetAvailableUnixMs() != date.UnixMilli() || a.GetMinSites() != 2 || !r.title.Available.Equal(date) || r.title.MinSites != 2 {
		t.Errorf("when it may be played: the asset says %d and %d, the row %v and %d", a.GetAvailableUnixMs(), a.GetMinSites(), r.title.Available, r.title.MinSites)
	}
	kinds := map[string]int{}
	var total uint64
	for _, f := range a.GetFiles() {
		kinds[f.GetKind()]++
		total += f.GetSize()
		body, err := r.s3.Get(t.Context(), objects.BucketMedia, mediaKey("my-clip", a.GetVersion(), f.GetPath()), 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(body)
		body.Close()
		sum := sha256.Sum256(b)
		if err != nil || uint64(len(b)) != f.GetSize() || hex.EncodeToString(sum[:]) != hex.EncodeToString(f.GetSha256()) {
			t.Errorf("%s differs from what was announced (%v)", f.GetPath(), err)
		}
		if f.GetPath() == media.IndexPath {
			if x, err := media.ParseIndex(b); err != nil || x.Version != a.GetVersion() || len(x.Tracks) != 4 || len(x.Tracks[0].Segments) != 2 {
				t.Errorf("index %+v, %v", x, err)
			} else if low, high := x.Tracks[0].SSIM, x.Tracks[2].SSIM; !(0 < low && low < high && high <= 1) {
				t.Errorf("the rungs are like the original by %g to %g", low, high)
			}
		}
	}
	if kinds["video"] != 3 || kinds["audio"] != 1 || kinds["index"] != 1 || kinds["manifest"] != 1 || kinds["hls"] != 1 || kinds["playlist"] != 7 {
		t.Errorf("files %v", kinds)
	}
	row := r.title
	if row.ID != "my-clip" || !row.Live || len(row.Rungs) != 3 || row.Rungs[2].Height != 108 || !slices.Equal(row.Countries, []string{"US", "GB"}) {
		t.Errorf("title %+v", row)
	}
	if r.event.Kind != "published" || r.event.Bytes != total || r.event.Version != a.GetVersion() {
		t.Errorf("event %+v, want %d bytes", r.event, total)
	}
}

func TestWhatIsNoVideoFails(t *testing.T) {
	path := ffmpeg(t)
	r := newRegion(t)
	file := filepath.Join(t.TempDir(), "x.mkv")
	if err := os.WriteFile(file, []byte("#!/bin/sh\necho no video\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.put("my-clip/clip.mkv", file)
	c, _ := r.start("us-east/a/transcode/1", func() (string, error) { return path, nil })
	if _, err := c.Submit(t.Context(), request()); err != nil {
		t.Fatal(err)
	}
	j, _ := watch(t, c, "my-clip")
	if j.GetState() != "failed" || !strings.Contains(j.GetError(), "clip.mkv: not a video") {
		t.Fatalf("job %v, want failed: not a video", j)
	}
	if len(r.said) != 0 {
		t.Errorf("told %v, want nothing", r.said)
	}
	// Submitted again it is tried again, and fails again.
	if again, err := c.Submit(t.Context(), request()); err != nil || again.GetState() != "inspect" {
		t.Fatalf("submitted again: %v, %v", again, err)
	}
	if j, _ := watch(t, c, "my-clip"); j.GetState() != "failed" {
		t.Errorf("job %v, want failed", j)
	}
}

// stopAt is an object store whose n-th upload stops the transcoder.
type stopAt struct {
	Objects
	n       int
	reached chan struct{}
}

func (s *stopAt) PutFile(ctx context.Context, bucket, key string, f *os.File, contentType string) (objects.Info, error) {
	if s.n--; s.n == 0 {
		close(s.reached)
		<-ctx.Done()
		return objects.Info{}, ctx.Err()
	}
	return s.Objects.PutFile(ctx, bucket, key, f, contentType)
}

func TestJobGoesOnAfterItsInstanceDied(t *testing.T) {
	path := ffmpeg(t)
	find := func() (string, error) { return path, nil }
	for _, c := range []struct {
		name, next string
		wipe       bool
	}{
		{"same instance", "us-east/a/transcode/1", false},
		{"same instance without its scratch", "us-east/a/transcode/1", true},
		{"another instance of the region", "us-east/b/transcode/2", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRegion(t)
			r.put("my-clip/clip.mkv", clip(t, path))
			at := &stopAt{n: 3, reached: make(chan struct{})}
			r.wrap = func(o Objects) Objects { at.Objects = o; return at }
			first, stop := r.start("us-east/a/transcode/1", find)
			if _, err := first.Submit(t.Context(), request()); err != nil {
				t.Fatal(err)
			}
			select {
			case <-at.reached:
			case <-time.After(patience):
				t.Fatal("the upload was never reached")
			}
			stop()
			if c.wipe {
				if err := os.RemoveAll(r.dir); err != nil {
					t.Fatal(err)
				}
			}
			r.wrap = nil
			second, _ := r.start(c.next, find)
			j, _ := watch(t, second, "my-clip")
			if j.GetState() != "done" {
				t.Fatalf("job %v", j)
			}
			encodes := 0
			for _, s := range j.GetSteps() {
				if s.GetName() == "encode" {
					encodes++
				}
			}
			if encodes != 1 {
				t.Errorf("the encode step was done %d times, want 1: finished steps stay finished", encodes)
			}
			checkPublished(t, r)
		})
	}
}

func TestSubmitWithoutFFmpegStoresNothing(t *testing.T) {
	r := newRegion(t)
	c, _ := r.start("us-east/a/transcode/1", func() (string, error) {
		return "", services.Errorf(services.Unavailable, "no ffmpeg").WithReason(services.ReasonNoFFmpeg)
	})
	if _, err := c.Submit(t.Context(), request()); services.ReasonOf(err) != services.ReasonNoFFmpeg {
		t.Errorf("error %v, want the reason %s", err, services.ReasonNoFFmpeg)
	}
	if all, err := c.Status(t.Context(), &transcodepb.StatusRequest{}); err != nil || len(all.GetJobs()) != 0 {
		t.Errorf("status %v, %v, want no jobs", all, err)
	}
	if _, err := c.Status(t.Context(), &transcodepb.StatusRequest{JobId: "none"}); services.KindOf(err) != services.NotFound {
		t.Errorf("status of an unknown job: %v, want NotFound", err)
	}
}
