package cachecontrol

import (
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/flix-lab/flix/services"
	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/events"
	"github.com/flix-lab/flix/services/kv"
	"github.com/flix-lab/flix/services/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const east1, east2, west1 = "us-east/us-east-ix/oca/1", "us-east/us-east-ix/oca/2", "us-west/us-west-ix/oca/1"

func TestWatchTellsSnapshotThenChanges(t *testing.T) {
	p := newPlanet(t)
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
	p.pass(expiry)
	w.until(t, func() string {
		if w.states[east1] != nil {
			return "not gone"
		}
		return ""
	})
}

// A cache control that has just started, and cannot read the store yet, does not
// pass for one that knows of no title.
func TestWatchBeginsWhenTheStoreHasBeenRead(t *testing.T) {
	p := newPlanet(t)
	if err := p.kv.Put(t.Context(), kv.Assets, assetsPartition, assetItem(asset("tt-a", 1, 1, origins, 10))); err != nil {
		t.Fatal(err)
	}
	p.kv.setDown(true)
	c := p.start("us-east")
	w := p.watch(c)
	f := p.connect(c, east1, 0) // what it hears itself is no whole either
	f.report(true)
	eventually(t, func() string {
		if r, err := c.FillStatus(t.Context(), &pb.FillStatusRequest{}); err != nil || len(r.GetAppliances()) == 0 {
			return fmt.Sprintf("the appliance is not known: %v", err)
		}
		return ""
	})
	w.mu.Lock()
	if len(w.events) > 0 {
		t.Errorf("told before the store was read: %v", w.events)
	}
	w.mu.Unlock()
	p.kv.setDown(false)
	w.until(t, func() string {
		if !w.ended {
			return "no snapshot"
		}
		if w.assets["tt-a"] == nil || w.states[east1] == nil {
			t.Fatalf("the snapshot is not whole: %v", w.events)
		}
		return ""
	})
}

func TestSlowWatcherCostsNoMoreThanTheState(t *testing.T) {
	p := newPlanet(t)
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
	p := newPlanet(t)
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
	p.pass(expiry)
	w.until(t, func() string {
		if w.states[east1] != nil {
			return "not gone"
		}
		return ""
	})
	for range 3 { // three more reads of the store
		if err := p.servers["us-west"].sync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if p.knows("us-west", east1) == "" {
		t.Error("it came back to life")
	}
}

func TestOldCountersAreIgnored(t *testing.T) {
	p := newPlanet(t)
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

// awaitBlocked waits until the first appliance is healthy or not, and why it is given
// nothing is as wanted.
func awaitBlocked(t *testing.T, c pb.CacheControlClient, healthy bool, why string) {
	t.Helper()
	eventually(t, func() string {
		r, err := c.FillStatus(t.Context(), &pb.FillStatusRequest{})
		if err != nil {
			return err.Error()
		}
		for _, a := range r.GetAppliances() {
			if a.GetName() == east1 && a.GetHealthy() == healthy && a.GetBlocked() == why {
				return ""
			}
		}
		return fmt.Sprintf("%v", r.GetAppliances())
	})
}

// An appliance that only lacks routes to viewers is filled; one that is not well is
// not.
func TestOneWithoutRoutesIsFilled(t *testing.T) {
	p := newPlanet(t)
	c := p.start("us-east")
	f := p.connect(c, east1, 1)
	blocked := func(want string) { t.Helper(); awaitBlocked(t, c, false, want) }
	f.send(&pb.ApplianceMessage{Body: &pb.ApplianceMessage_Report{Report: &pb.Report{Reason: "disk: full"}}})
	blocked("it is not healthy: disk: full")
	f.send(&pb.ApplianceMessage{Body: &pb.ApplianceMessage_Report{Report: &pb.Report{Reason: "disk: slow"}}})
	blocked("it is not healthy: disk: slow")
	f.send(&pb.ApplianceMessage{Body: &pb.ApplianceMessage_Report{Report: &pb.Report{}}})
	blocked("it is not healthy: it does not say why")
	f.send(&pb.ApplianceMessage{Body: &pb.ApplianceMessage_Report{Report: &pb.Report{Reason: "bgp: no session with the router", Unrouted: true}}})
	blocked("")
}

// A full appliance is healthy, says so, and is given nothing, after another stream
// of it, too.
func TestFullApplianceIsBlocked(t *testing.T) {
	p := newPlanet(t)
	c := p.start("us-east")
	f := p.connect(c, east1, 1)
	want := func(blocked string) { t.Helper(); awaitBlocked(t, c, true, blocked) }
	want("")
	f.send(&pb.ApplianceMessage{Body: &pb.ApplianceMessage_Report{Report: &pb.Report{Healthy: true, Reason: "disk: full", Full: true}}})
	want("its disk is full: it serves what it holds")
	f = p.connect(c, east1, 100)
	want("its disk is full: it serves what it holds")
	f.send(&pb.ApplianceMessage{Body: &pb.ApplianceMessage_Report{Report: &pb.Report{Healthy: true}}})
	want("")
}

func TestSecondStreamReplacesTheFirst(t *testing.T) {
	p := newPlanet(t)
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
	p := newPlanet(t)
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
	p := newPlanet(t)
	p.kv.setDown(true) // and it is not up yet when the cache control starts
	c := p.start("us-east")
	p.kv.setDown(false)
	if err := p.kv.Put(t.Context(), kv.Assets, assetsPartition, assetItem(asset("tt-a", 2, 1, origins, 10)), kv.Item{Sort: "tt-bad", Value: []byte("junk")}); err != nil {
		t.Fatal(err)
	}
	both := []*fakeAppliance{p.connect(c, east1, 1), p.connect(c, east2, 1)}
	var order *pb.FillOrder
	eventually(t, func() string { // one of them is the master
		for _, f := range both {
			f.mu.Lock()
			for _, m := range f.messages {
				order = m.GetFill()
			}
			f.mu.Unlock()
		}
		if order == nil {
			return "no order"
		}
		return ""
	})
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
	p := newPlanet(t)
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
	p := newPlanet(t)
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
		if it.TTL != 10*expiry {
			return it.TTL.String()
		}
		return ""
	})
	n, took := p.kv.writes(east1), time.Since(start) // in this order
	if most := 2 + int(took/persistGap); n > most {
		t.Errorf("%d writes in %v, want at most %d", n, took, most)
	}
}

func TestFillFailureOfASourceMakesItLookAgain(t *testing.T) {
	p := newPlanet(t)
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
	p := newPlanet(t)
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
