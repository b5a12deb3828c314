package cachecontrol

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/flix-lab/flix/services"
	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/events"
	"github.com/flix-lab/flix/services/kv"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const waitFor = 10 * time.Second

func eventually(t testing.TB, ok func() string) {
	t.Helper()
	deadline := time.Now().Add(waitFor)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		why := ok()
		if why == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("not in time: " + why)
		}
		<-tick.C
	}
}

// pipeline remembers the events sent.
type pipeline struct {
	mu   sync.Mutex
	sent []any
	err  error
}

func (p *pipeline) Send(_ context.Context, _, _ string, event any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return p.err
	}
	p.sent = append(p.sent, event)
	return nil
}

func (p *pipeline) count(match func(any) bool) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.sent {
		if match(e) {
			n++
		}
	}
	return n
}

// planet is cache controls of two regions on one store.
type planet struct {
	t       testing.TB
	kv      *memoryKV
	events  *pipeline
	topo    topology.Topology
	clients map[string]pb.CacheControlClient
	servers map[string]*Server
	stop    map[string]func()
}

func newPlanet(t testing.TB, expiry time.Duration) *planet {
	topo, err := topology.Preset(2)
	if err != nil {
		t.Fatal(err)
	}
	topo.Timing.CacheControlSync = topology.Duration(20 * time.Millisecond)
	topo.Timing.HealthReport = topology.Duration(50 * time.Millisecond)
	topo.Timing.ReportExpiry = topology.Duration(expiry)
	p := &planet{t: t, kv: newMemoryKV(), events: &pipeline{}, topo: topo, clients: map[string]pb.CacheControlClient{}, servers: map[string]*Server{}, stop: map[string]func(){}}
	return p
}

func (p *planet) start(region string) pb.CacheControlClient {
	p.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	s, err := New(Deps{
		RPC: l, Region: region, Instance: region + "/a/cachecontrol/1", KV: p.kv, Events: p.events, Regions: p.topo.RegionNames,
		Peers:    func(r string) (pb.CacheControlClient, bool) { c, ok := p.clients[r]; return c, ok },
		Presign:  func(region, key string) (string, error) { return "http://s3." + region + "/" + key + "?signed", nil },
		Topology: func() topology.Topology { return p.topo }, Tel: telemetry.New(telemetry.Config{Instance: region}), Timing: p.topo.Timing,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	conn, err := grpc.NewClient(l.Addr().String(), append(telemetry.Discard().DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		p.t.Fatal(err)
	}
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			p.t.Errorf("Serve: %v", err)
		}
		conn.Close()
	})
	p.t.Cleanup(stop)
	p.clients[region], p.servers[region], p.stop[region] = pb.NewCacheControlClient(conn), s, stop
	return p.clients[region]
}

// fakeAppliance speaks an appliance's side of the control channel by hand.
type fakeAppliance struct {
	t       testing.TB
	id      string
	stream  grpc.BidiStreamingClient[pb.ApplianceMessage, pb.ControlMessage]
	cancel  context.CancelFunc
	counter uint64

	mu       sync.Mutex
	messages []*pb.ControlMessage
	err      error
}

func (p *planet) connect(c pb.CacheControlClient, id string, counter uint64, held ...*pb.HeldFile) *fakeAppliance {
	p.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p.t.Cleanup(cancel)
	stream, err := c.Connect(ctx)
	if err != nil {
		p.t.Fatal(err)
	}
	f := &fakeAppliance{t: p.t, id: id, stream: stream, cancel: cancel, counter: counter}
	for _, i := range p.topo.Instances() {
		if i.ID == id {
			f.send(&pb.ApplianceMessage{Body: &pb.ApplianceMessage_Hello{Hello: &pb.Hello{
				Appliance: id, Region: i.Region, Site: i.Site.Name, Kind: string(i.Site.Kind), FillUrl: "http://" + id, ClientUrl: "https://" + id,
				CapacityBytes: uint64(i.Appliance.Capacity), Holdings: &pb.Holdings{Files: held}, Filled: &pb.FillBytes{},
			}}})
		}
	}
	go func() {
		for {
			m, err := stream.Recv()
			f.mu.Lock()
			if err != nil {
				f.err = err
				f.mu.Unlock()
				return
			}
			f.messages = append(f.messages, m)
			f.mu.Unlock()
		}
	}()
	return f
}

func (f *fakeAppliance) send(m *pb.ApplianceMessage) {
	f.counter++
	m.Counter = f.counter
	if err := f.stream.Send(m); err != nil {
		f.t.Logf("%s: send: %v", f.id, err)
	}
}

func (f *fakeAppliance) report(healthy bool) {
	f.send(&pb.ApplianceMessage{Body: &pb.ApplianceMessage_Report{Report: &pb.Report{Healthy: healthy}}})
}

func (f *fakeAppliance) held(files ...*pb.HeldFile) {
	f.send(&pb.ApplianceMessage{Body: &pb.ApplianceMessage_Held{Held: &pb.Held{Files: files, Source: pb.Source_SOURCE_CACHE, Filled: &pb.FillBytes{Cache: 1}}}})
}

// got waits for a message that matches.
func (f *fakeAppliance) got(what string, match func(*pb.ControlMessage) bool) (found *pb.ControlMessage) {
	f.t.Helper()
	eventually(f.t, func() string {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, m := range f.messages {
			if match(m) {
				found = m
				return ""
			}
		}
		return fmt.Sprintf("%s got no %s: %v", f.id, what, f.messages)
	})
	return found
}

func heldFileOf(a *pb.Asset, i int) *pb.HeldFile {
	return &pb.HeldFile{TitleId: a.TitleId, Version: a.Version, Path: a.Files[i].Path, Size: a.Files[i].Size}
}

// watcher collects the events of a Watch stream.
type watcher struct {
	mu     sync.Mutex
	events []*pb.WatchEvent
	states map[string]*pb.ApplianceState
	assets map[string]*pb.Asset
	ended  bool
}

func (p *planet) watch(c pb.CacheControlClient) *watcher {
	p.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p.t.Cleanup(cancel)
	stream, err := c.Watch(ctx, &pb.WatchRequest{})
	if err != nil {
		p.t.Fatal(err)
	}
	w := &watcher{states: map[string]*pb.ApplianceState{}, assets: map[string]*pb.Asset{}}
	go func() {
		for {
			ev, err := stream.Recv()
			if err != nil {
				return
			}
			w.mu.Lock()
			w.events = append(w.events, ev)
			switch {
			case ev.State != nil:
				w.states[ev.State.Hello.Appliance] = ev.State
			case ev.Gone != "":
				delete(w.states, ev.Gone)
			case ev.Asset != nil:
				w.assets[ev.Asset.TitleId] = ev.Asset
			case ev.SnapshotEnd:
				w.ended = true
			}
			w.mu.Unlock()
		}
	}()
	return w
}

func (w *watcher) until(t testing.TB, ok func() string) {
	t.Helper()
	eventually(t, func() string {
		w.mu.Lock()
		defer w.mu.Unlock()
		return ok()
	})
}

const east1, east2, west1 = "us-east/us-east-ix/oca/1", "us-east/us-east-ix/oca/2", "us-west/us-west-ix/oca/1"

func TestWatchTellsSnapshotThenChanges(t *testing.T) {
	p := newPlanet(t, time.Second)
	c := p.start("us-east")
	a := asset("tt-a", 1, 1, origins, 10)
	p.publish(c, a)
	f := p.connect(c, east1, 0)
	eventually(t, func() string { return p.knows("us-east", east1) })
	w := p.watch(c)
	w.until(t, func() string {
		if !w.ended || w.assets["tt-a"] == nil || w.states[east1] == nil {
			return fmt.Sprint(w.events)
		}
		if last := w.events[2]; !last.SnapshotEnd {
			return "the end mark is not last"
		}
		return ""
	})
	f.held(heldFileOf(a, 0))
	w.until(t, func() string {
		if s := w.states[east1]; len(s.Titles) != 1 || s.Titles[0].Paths[0] != "f0" || s.HeldFiles != 1 || s.HeldBytes != 10 || s.Report.Filled.Cache != 1 {
			return fmt.Sprint(s)
		}
		return ""
	})
	f.report(false)
	w.until(t, func() string {
		if w.states[east1].Report.Healthy {
			return "still healthy"
		}
		return ""
	})
	p.publish(c, asset("tt-b", 1, 1, origins, 10))
	w.until(t, func() string {
		if w.assets["tt-b"] == nil {
			return "no tt-b"
		}
		return ""
	})
	f.cancel()
	w.until(t, func() string {
		if w.states[east1] != nil {
			return "not gone"
		}
		return ""
	})
}

func (p *planet) publish(c pb.CacheControlClient, a *pb.Asset) {
	p.t.Helper()
	if _, err := c.Publish(p.t.Context(), &pb.PublishRequest{Asset: a}); err != nil {
		p.t.Fatal(err)
	}
}

// knows says "" once the region's cache control knows the appliance.
func (p *planet) knows(region, id string) string {
	r, err := p.clients[region].FillStatus(p.t.Context(), &pb.FillStatusRequest{})
	if err != nil {
		return err.Error()
	}
	for _, a := range r.Appliances {
		if a.Name == id {
			return ""
		}
	}
	return fmt.Sprintf("%s does not know %s: %v", region, id, r)
}

func TestSlowWatcherCostsNoMoreThanTheState(t *testing.T) {
	p := newPlanet(t, time.Minute)
	p.start("us-east")
	s := p.servers["us-east"]
	w := s.subscribe()
	for range 1000 {
		s.mu.Lock()
		s.notify(applianceKey(east1))
		s.notify(assetKey("tt-a"))
		s.mu.Unlock()
	}
	if len(w.queue) != 3 { // the end mark is one of them
		t.Errorf("%d keys wait, want 3", len(w.queue))
	}
	s.unsubscribe(w)
}

func TestAppliancesAreSharedThroughTheStore(t *testing.T) {
	p := newPlanet(t, 500*time.Millisecond)
	east, west := p.start("us-east"), p.start("us-west")
	a := asset("tt-a", 1, 1, origins, 10)
	p.publish(east, a)
	f := p.connect(east, east1, 100, heldFileOf(a, 0))
	w := p.watch(west)
	w.until(t, func() string {
		if s := w.states[east1]; s == nil || len(s.Titles) != 1 || w.assets["tt-a"] == nil {
			return fmt.Sprint(w.events)
		}
		return ""
	})
	// It moves to the other region: what it says there wins over the copy.
	p.stop["us-east"]()
	f.cancel()
	g := p.connect(west, east1, 200)
	w.until(t, func() string {
		if s := w.states[east1]; s == nil || len(s.Titles) != 0 {
			return fmt.Sprint(s)
		}
		return ""
	})
	g.report(true)
	w.until(t, func() string {
		if s := w.states[east1]; s == nil || s.Counter < 202 {
			return fmt.Sprint(s)
		}
		return ""
	})
	// And when it falls silent it is gone, though the store still has a copy.
	g.cancel()
	w.until(t, func() string {
		if w.states[east1] != nil {
			return "not gone"
		}
		return ""
	})
	seen := len(w.events)
	for range 3 { // three more reads of the store
		if err := p.servers["us-west"].sync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.states[east1] != nil {
		t.Errorf("it came back to life: %v", w.events[seen:])
	}
}

func TestOldCountersAreIgnored(t *testing.T) {
	p := newPlanet(t, time.Minute)
	c := p.start("us-east")
	f := p.connect(c, east1, 50)
	f.report(false)
	f.counter = 10
	f.report(true)
	f.counter = 60
	f.held(&pb.HeldFile{TitleId: "tt-x", Version: 1, Path: "f"})
	w := p.watch(c)
	w.until(t, func() string {
		s := w.states[east1]
		if s == nil || s.HeldFiles != 1 {
			return fmt.Sprint(s)
		}
		if s.Report.Healthy {
			return "the old report was taken"
		}
		return ""
	})
}

func TestSecondStreamReplacesTheFirst(t *testing.T) {
	p := newPlanet(t, time.Minute)
	c := p.start("us-east")
	f := p.connect(c, east1, 1)
	eventually(t, func() string { return p.knows("us-east", east1) })
	g := p.connect(c, east1, 100)
	eventually(t, func() string {
		f.mu.Lock()
		defer f.mu.Unlock()
		if services.KindOf(telemetry.FromStatus(f.err)) != services.Conflict {
			return fmt.Sprintf("the first stream ended with %v", f.err)
		}
		return ""
	})
	r, err := c.FillRun(t.Context(), &pb.FillRunRequest{Deep: true})
	if err != nil || r.Appliances != 1 {
		t.Fatalf("fill run: %v %v", r, err)
	}
	g.got("deep rescan", func(m *pb.ControlMessage) bool { return m.GetRescan().GetDeep() })
}

func TestPublish(t *testing.T) {
	p := newPlanet(t, time.Minute)
	c := p.start("us-east")
	good := asset("tt-a", 2, 1, origins, 10, 20)
	change := func(f func(a *pb.Asset)) *pb.Asset { b := proto.CloneOf(good); f(b); return b }
	for _, x := range []struct {
		name string
		a    *pb.Asset
		kind services.Kind
	}{
		{"nothing", nil, services.Invalid},
		{"no id", change(func(a *pb.Asset) { a.TitleId = "" }), services.Invalid},
		{"an id with a slash", change(func(a *pb.Asset) { a.TitleId = "a/b" }), services.Invalid},
		{"an id that climbs", change(func(a *pb.Asset) { a.TitleId = ".." }), services.Invalid},
		{"no version", change(func(a *pb.Asset) { a.Version = 0 }), services.Invalid},
		{"no files", change(func(a *pb.Asset) { a.Files = nil }), services.Invalid},
		{"no origin", change(func(a *pb.Asset) { a.Origins = nil }), services.Invalid},
		{"a path that climbs", change(func(a *pb.Asset) { a.Files[0].Path = "../x" }), services.Invalid},
		{"an absolute path", change(func(a *pb.Asset) { a.Files[0].Path = "/x" }), services.Invalid},
		{"two of one path", change(func(a *pb.Asset) { a.Files[1].Path = a.Files[0].Path }), services.Invalid},
		{"a short checksum", change(func(a *pb.Asset) { a.Files[0].Sha256 = []byte{1} }), services.Invalid},
		{"good", good, ""},
		{"the same again", good, ""},
		{"more popular", change(func(a *pb.Asset) { a.Popularity = 7 }), ""},
		{"an older version", change(func(a *pb.Asset) { a.Version = 1 }), services.Conflict},
		{"other files", change(func(a *pb.Asset) { a.Files[0].Size = 11 }), services.Conflict},
		{"a newer version", change(func(a *pb.Asset) { a.Version = 3; a.Files[0].Size = 11 }), ""},
	} {
		_, err := c.Publish(t.Context(), &pb.PublishRequest{Asset: x.a})
		if (err == nil) != (x.kind == "") || err != nil && services.KindOf(err) != x.kind {
			t.Errorf("%s: %v, want %q", x.name, err, x.kind)
		}
	}
	r, err := c.Titles(t.Context(), &pb.TitlesRequest{})
	if err != nil || len(r.Assets) != 1 || r.Assets[0].Version != 3 {
		t.Errorf("titles: %v %v", r, err)
	}
	if got := p.events.count(func(e any) bool {
		ev, ok := e.(events.TitleEvent)
		return ok && ev.Title == "tt-a" && ev.Version == 3 && ev.Bytes == 31 && ev.ID == "published/tt-a/3"
	}); got != 1 {
		t.Errorf("%d title events: %v", got, p.events.sent)
	}
	p.kv.setDown(true)
	if _, err := c.Publish(t.Context(), &pb.PublishRequest{Asset: asset("tt-b", 1, 1, origins, 10)}); services.KindOf(err) != services.Unavailable {
		t.Errorf("publish without a store: %v", err)
	}
	if r, _ := c.Titles(t.Context(), &pb.TitlesRequest{}); len(r.Assets) != 1 {
		t.Errorf("a title that could not be stored is known: %v", r)
	}
}

func TestAssetsComeFromTheStore(t *testing.T) {
	p := newPlanet(t, time.Minute)
	p.kv.setDown(true) // and it is not up yet when the cache control starts
	c := p.start("us-east")
	p.kv.setDown(false)
	if err := p.kv.Put(t.Context(), kv.Assets, assetsPartition, assetItem(asset("tt-a", 2, 1, origins, 10)), kv.Item{Sort: "tt-bad", Value: []byte("junk")}); err != nil {
		t.Fatal(err)
	}
	f := p.connect(c, east1, 1)
	order := f.got("order", func(m *pb.ControlMessage) bool { return m.GetFill() != nil || m.GetFill().GetTitleId() == "tt-a" }).GetFill()
	if len(order.Sources) != 1 || order.Sources[0].Url != "http://s3.us-east/titles/tt-a/2/f0?signed" || order.Sources[0].Source != pb.Source_SOURCE_CACHE {
		t.Errorf("order %v", order)
	}
	// Another region's older write must not win.
	if err := p.kv.Put(t.Context(), kv.Assets, assetsPartition, assetItem(asset("tt-a", 1, 1, origins, 10))); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		it, err := p.kv.Get(t.Context(), kv.Assets, assetsPartition, "tt-a")
		a := &pb.Asset{}
		if err == nil {
			err = proto.Unmarshal(it.Value, a)
		}
		if err != nil || a.Version != 2 {
			return fmt.Sprintf("the store holds version %d (%v)", a.Version, err)
		}
		return ""
	})
}

func TestSuspectAndFillRunReachTheRegionOfTheAppliance(t *testing.T) {
	p := newPlanet(t, time.Minute)
	east, west := p.start("us-east"), p.start("us-west")
	f := p.connect(west, west1, 1)
	eventually(t, func() string { return p.knows("us-west", west1) })
	r, err := east.Suspect(t.Context(), &pb.SuspectRequest{Appliance: west1, TitleId: "tt-a", Version: 1, Path: "v1.mp4"})
	if err != nil || !r.Delivered {
		t.Fatalf("suspect: %v %v", r, err)
	}
	f.got("verify", func(m *pb.ControlMessage) bool { return m.GetVerify().GetFile().GetPath() == "v1.mp4" })
	r, err = east.Suspect(t.Context(), &pb.SuspectRequest{Appliance: "nobody", TitleId: "tt-a", Version: 1, Path: "v1.mp4"})
	if err != nil || r.Delivered {
		t.Errorf("suspect of nobody: %v %v", r, err)
	}
	r, err = east.Suspect(t.Context(), &pb.SuspectRequest{Appliance: west1, Path: "v1.mp4", Forwarded: true})
	if err != nil || r.Delivered {
		t.Errorf("a forwarded one was forwarded again: %v %v", r, err)
	}
	run, err := east.FillRun(t.Context(), &pb.FillRunRequest{Now: true})
	if err != nil || run.Appliances != 1 {
		t.Errorf("fill run: %v %v", run, err)
	}
	f.got("rescan", func(m *pb.ControlMessage) bool { return m.GetRescan() != nil })
}

func TestStateIsWrittenAtMostTwentyTimesASecond(t *testing.T) {
	p := newPlanet(t, time.Minute)
	c := p.start("us-east")
	f := p.connect(c, east1, 1)
	start := time.Now()
	for i := range 500 {
		f.held(&pb.HeldFile{TitleId: "tt-x", Version: 1, Path: fmt.Sprint(i), Size: 1})
	}
	eventually(t, func() string {
		it, err := p.kv.Get(t.Context(), kv.Appliances, appliancesPartition, east1)
		st := &pb.ApplianceState{}
		if err == nil {
			err = proto.Unmarshal(it.Value, st)
		}
		if err != nil || st.HeldFiles != 500 || st.Counter != f.counter || st.Hello.Holdings != nil {
			return fmt.Sprintf("%d files (%v)", st.HeldFiles, err)
		}
		if it.TTL != 10*time.Minute {
			return it.TTL.String()
		}
		return ""
	})
	if most := 2 + int(time.Since(start)/persistGap); p.kv.writes(east1) > most {
		t.Errorf("%d writes in %v, want at most %d", p.kv.writes(east1), time.Since(start), most)
	}
}

func TestFillFailureOfASourceMakesItLookAgain(t *testing.T) {
	p := newPlanet(t, time.Minute)
	c := p.start("us-east")
	a := asset("tt-a", 1, 1, origins, 10)
	p.publish(c, a)
	holder := p.connect(c, east2, 1, heldFileOf(a, 0))
	eventually(t, func() string { return p.knows("us-east", east2) })
	f := p.connect(c, east1, 1)
	order := f.got("order", func(m *pb.ControlMessage) bool { return m.GetFill() != nil }).GetFill()
	if order.Sources[0].Appliance != east2 || order.Sources[0].Source != pb.Source_SOURCE_PEER {
		t.Fatalf("order %v", order)
	}
	f.send(&pb.ApplianceMessage{Body: &pb.ApplianceMessage_FillFailed{FillFailed: &pb.FillFailed{File: heldFileOf(a, 0), Url: order.Sources[0].Url, Error: "checksum"}}})
	holder.got("verify", func(m *pb.ControlMessage) bool { return m.GetVerify().GetFile().GetTitleId() == "tt-a" })
	holder.send(&pb.ApplianceMessage{Body: &pb.ApplianceMessage_Removed{Removed: &pb.Removed{Files: []*pb.HeldFile{heldFileOf(a, 0)}, Reason: "damaged"}}})
	f.send(&pb.ApplianceMessage{Body: &pb.ApplianceMessage_FillFailed{FillFailed: &pb.FillFailed{File: heldFileOf(a, 0), Error: "all sources failed"}}})
	// One of the two is master now and goes to the object store.
	eventually(t, func() string {
		for _, x := range []*fakeAppliance{f, holder} {
			x.mu.Lock()
			for _, m := range x.messages {
				if s := m.GetFill().GetSources(); len(s) > 0 && s[0].Appliance == "" {
					x.mu.Unlock()
					return ""
				}
			}
			x.mu.Unlock()
		}
		return "nobody was sent to the object store"
	})
	eventually(t, func() string {
		removed := p.events.count(func(e any) bool {
			ev, ok := e.(events.FillEvent)
			return ok && ev.Kind == "removed" && ev.Reason == "damaged"
		})
		failed := p.events.count(func(e any) bool { ev, ok := e.(events.FillEvent); return ok && ev.Kind == "failed" })
		if removed != 1 || failed != 2 {
			return fmt.Sprintf("%d removed, %d failed", removed, failed)
		}
		return ""
	})
}

func TestBadHelloIsRefused(t *testing.T) {
	p := newPlanet(t, time.Minute)
	c := p.start("us-east")
	for name, m := range map[string]*pb.ApplianceMessage{
		"no hello":  {Counter: 1, Body: &pb.ApplianceMessage_Report{Report: &pb.Report{}}},
		"no site":   {Counter: 1, Body: &pb.ApplianceMessage_Hello{Hello: &pb.Hello{Appliance: "a", Region: "us-east", Kind: "isp"}}},
		"odd kind":  {Counter: 1, Body: &pb.ApplianceMessage_Hello{Hello: &pb.Hello{Appliance: "a", Region: "us-east", Site: "x", Kind: "origin"}}},
		"no region": {Counter: 1, Body: &pb.ApplianceMessage_Hello{Hello: &pb.Hello{Appliance: "a", Site: "x", Kind: "isp"}}},
	} {
		stream, err := c.Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); services.KindOf(telemetry.FromStatus(err)) != services.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNewRefusesMissingDeps(t *testing.T) {
	if _, err := New(Deps{}); services.KindOf(err) != services.Invalid {
		t.Errorf("New without anything: %v", err)
	}
}
