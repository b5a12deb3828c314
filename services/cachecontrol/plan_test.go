package cachecontrol

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/topology"
)

var origins = []string{"us-east"}

func filled(t *testing.T) *world {
	w := newWorld(t, 1, topology.LabTiming())
	w.publish(asset("tt-a", 1, 1, origins, 100, 200))
	w.connect(w.ids()...)
	w.settle(rand.New(rand.NewPCG(1, 1)))
	w.wantComplete()
	return w
}

func TestLostFileIsFilledFromANeighbour(t *testing.T) {
	w := filled(t)
	before := w.bySource[pb.Source_SOURCE_CACHE]
	ref := fileRef{"tt-a", 1, "f0"}
	ix1, ix2, isp1, isp2 := "us-east/us-east-ix/oca/1", "us-east/us-east-ix/oca/2", "us-east/us-east-isp-1/oca/1", "us-east/us-east-isp-1/oca/2"
	for _, c := range []struct {
		lose []string
		want map[string]pb.Source // of the first order
	}{
		{[]string{isp1}, map[string]pb.Source{isp1: pb.Source_SOURCE_PEER}},
		{[]string{ix2}, map[string]pb.Source{ix2: pb.Source_SOURCE_PEER}},
		{[]string{isp1, isp2}, nil}, // the master from the exchange, then the other from it
	} {
		for _, id := range c.lose {
			delete(w.disk[id], ref)
			w.p.setLost(id, []fileRef{ref})
		}
		w.plan()
		for id, want := range c.want {
			if len(w.flying[id]) != 1 || w.flying[id][0].sources[0].kind != want {
				t.Fatalf("%v lost it: %s is ordered %+v", c.lose, id, w.flying[id])
			}
		}
		w.settle(rand.New(rand.NewPCG(1, 1)))
		w.wantComplete()
	}
	if got := w.bySource[pb.Source_SOURCE_CACHE]; got != before {
		t.Errorf("%d bytes more from the object store", got-before)
	}
	// Only when the exchange and the ISP's site have lost it, S3 is asked again.
	isp3, isp4 := "us-east/us-east-isp-2/oca/1", "us-east/us-east-isp-2/oca/2"
	for _, id := range []string{ix1, ix2, isp1, isp2, isp3, isp4} {
		delete(w.disk[id], ref)
		w.p.setLost(id, []fileRef{ref})
	}
	w.plan()
	w.settle(rand.New(rand.NewPCG(1, 1)))
	w.wantComplete()
	if got := w.bySource[pb.Source_SOURCE_CACHE] - before; got != 100 {
		t.Errorf("%d bytes from the object store, want 100", got)
	}
}

// exchangeOnly is a site of n appliances and one file.
func exchangeOnly(t *testing.T, n int) *world {
	topo, err := topology.Preset(1)
	if err != nil {
		t.Fatal(err)
	}
	a := topo.Regions[0].Exchange.Appliances[0]
	topo.Regions[0].Exchange.Appliances = slices.Repeat([]topology.Appliance{a}, n)
	topo.Regions[0].ISPs = nil
	w := newWorldOf(t, topo, topology.LabTiming())
	w.publish(asset("tt-a", 1, 1, origins, 100))
	return w
}

func TestSecondFailurePassesTheFileOn(t *testing.T) {
	w := exchangeOnly(t, 3)
	w.connect(w.ids()...)
	var masters []string
	for range 6 {
		busy := w.busy()
		if len(busy) != 1 {
			t.Fatalf("masters %v, want one at a time", busy)
		}
		masters = append(masters, busy[0])
		w.fail(busy[0], 0)
		w.pass(topology.LabTiming().ReportExpiry.D())
	}
	if masters[0] != masters[1] || masters[2] != masters[3] || masters[4] != masters[5] || masters[0] == masters[2] || masters[2] == masters[4] || masters[0] == masters[4] {
		t.Errorf("masters in turn: %v, want each twice", masters)
	}
	if busy := w.busy(); len(busy) != 1 || busy[0] != masters[0] {
		t.Errorf("after all failed: %v, want %s again", busy, masters[0])
	}
}

// A full appliance is given nothing, and others fill from it.
func TestFullApplianceIsASource(t *testing.T) {
	w := exchangeOnly(t, 2)
	w.connect(w.ids()...)
	first := w.busy()
	if len(first) != 1 {
		t.Fatalf("masters %v", first)
	}
	w.p.setFull(first[0], true)
	w.finish(first[0], 0) // it was on its way
	w.publish(asset("tt-b", 1, 1, origins, 100))
	w.plan()
	second := w.busy()
	if len(second) != 1 || second[0] == first[0] {
		t.Fatalf("%v fill, want the other one", second)
	}
	if fl := w.p.nodes[second[0]].flights[0]; fl == nil || fl.from.appliance != first[0] {
		t.Errorf("%+v is on its way, want the file from %s", fl, first[0])
	}
	w.p.setFull(first[0], false)
	w.settle(rand.New(rand.NewPCG(1, 1)))
	w.wantComplete()
}

func TestRetryWaits(t *testing.T) {
	w := exchangeOnly(t, 1)
	w.connect(w.ids()...)
	w.fail(w.ids()[0], 0)
	w.pass(time.Millisecond)
	if busy := w.busy(); len(busy) != 0 {
		t.Fatal("tried again at once")
	}
	w.pass(topology.LabTiming().CacheControlSync.D())
	if busy := w.busy(); len(busy) != 1 {
		t.Fatal("not tried again after the wait")
	}
}

func TestMasterThatGoesAwayIsReplaced(t *testing.T) {
	for name, leave := range map[string]func(w *world, id string){
		"gone":                func(w *world, id string) { w.gone(id) },
		"unhealthy, no order": func(w *world, id string) { w.p.setHealth(id, "disk: full", false, w.now); w.fail(id, 0) },
		"full, no order":      func(w *world, id string) { w.p.setFull(id, true); w.fail(id, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			w := exchangeOnly(t, 3)
			w.connect(w.ids()...)
			first := w.busy()
			leave(w, first[0])
			second := w.busy()
			if len(second) != 1 || second[0] == first[0] {
				t.Fatalf("masters %v, then %v", first, second)
			}
			w.settle(rand.New(rand.NewPCG(1, 1)))
		})
	}
}

func TestMasterThatNeverComesIsReplacedAfterGrace(t *testing.T) {
	w := exchangeOnly(t, 2)
	ids := w.ids()
	master := w.p.master(w.p.sites["us-east-ix"], w.p.cat.files[0].sum).id
	other := ids[1-slices.Index(ids, master)]
	w.connect(other)
	if busy := w.busy(); len(busy) != 0 {
		t.Fatalf("%v did not wait for %s", busy, master)
	}
	w.pass(topology.LabTiming().ReportExpiry.D())
	if busy := w.busy(); !slices.Equal(busy, []string{other}) {
		t.Fatalf("masters after the grace: %v, want %s", busy, other)
	}
	w.connect(master)
	if len(w.flying[master]) != 0 {
		t.Error("a second master fetches what is under way")
	}
	w.finish(other, 0)
	if len(w.flying[master]) != 1 || w.flying[master][0].sources[0].kind != pb.Source_SOURCE_PEER {
		t.Error("the late one does not fill from its peer")
	}
}

func TestUnansweredOrderIsRepeatedThenPassedOn(t *testing.T) {
	w := exchangeOnly(t, 2)
	w.connect(w.ids()...)
	first := w.busy()[0]
	n := w.p.nodes[first]
	patience := w.p.patience(n, 100)
	repeated := func() int {
		w.now = w.now.Add(patience)
		w.p.tick(w.now)
		return len(w.p.plan(w.now))
	}
	w.p.setHealth(first, "", true, w.now.Add(patience/2)) // progress
	if got := repeated(); got != 0 {
		t.Fatalf("%d orders though the fill makes progress", got)
	}
	if got := repeated(); got != 1 || len(n.flights) != 1 {
		t.Fatalf("%d orders, want the same one again", got)
	}
	repeated()
	if len(n.flights) != 0 {
		t.Fatal("the order still stands after it was repeated")
	}
}

func TestISPFetchesItselfWithoutAnExchange(t *testing.T) {
	topo, err := topology.Preset(1)
	if err != nil {
		t.Fatal(err)
	}
	topo.Regions[0].Exchange.Appliances = nil
	w := newWorldOf(t, topo, topology.LabTiming())
	w.publish(asset("tt-a", 1, 1, origins, 100))
	w.connect(w.ids()...)
	w.settle(rand.New(rand.NewPCG(1, 1)))
	w.wantComplete()
	if got := w.bySource[pb.Source_SOURCE_CACHE]; got != 200 {
		t.Errorf("%d bytes from the object store, want 100 for each of two sites", got)
	}
}

func TestFillWindow(t *testing.T) {
	timing := topology.LabTiming()
	timing.FillWindowStart, timing.FillWindow = topology.Duration(22*time.Hour), topology.Duration(4*time.Hour)
	for _, c := range []struct {
		at   string
		open bool
	}{{"21:59:59", false}, {"22:00:00", true}, {"23:59:59", true}, {"00:00:00", true}, {"01:59:59", true}, {"02:00:00", false}, {"12:00:00", false}} {
		at, err := time.Parse(time.TimeOnly, c.at)
		if err != nil {
			t.Fatal(err)
		}
		if got := windowOpen(timing, at); got != c.open {
			t.Errorf("at %s open=%v, want %v", c.at, got, c.open)
		}
	}
	w := newWorld(t, 1, timing) // the world's clock says 03:04
	w.publish(asset("tt-a", 1, 1, origins, 100))
	w.connect(w.ids()...)
	if busy := w.busy(); len(busy) != 0 {
		t.Fatalf("%v fill outside the window", busy)
	}
	w.p.urge()
	w.plan()
	w.settle(rand.New(rand.NewPCG(1, 1)))
	w.wantComplete()
	w.publish(asset("tt-b", 1, 1, origins, 100))
	if busy := w.busy(); len(busy) != 0 {
		t.Fatalf("%v still fill outside the window once nothing was missing", busy)
	}
	w.pass(19 * time.Hour)
	w.settle(rand.New(rand.NewPCG(1, 1)))
	w.wantComplete()
}

func TestOrderOfFill(t *testing.T) {
	w := exchangeOnly(t, 1)
	w.publish(asset("tt-hit", 1, 9, origins, 100, 10, 20, 5)) // video, index, audio, manifest
	w.connect(w.ids()...)
	var got []string
	for id := w.ids()[0]; len(w.flying[id]) > 0; w.finish(id, 0) {
		got = append(got, w.flying[id][0].file.ref.title+"/"+w.flying[id][0].file.file.GetKind())
	}
	want := []string{"tt-hit/index", "tt-hit/manifest", "tt-hit/audio", "tt-hit/video", "tt-a/video"}
	if !slices.Equal(got, want) {
		t.Errorf("filled %v, want %v", got, want)
	}
}

func TestSmallApplianceHoldsThePopularTitles(t *testing.T) {
	w := exchangeOnly(t, 1)
	id := w.ids()[0]
	info := w.info[id]
	info.capacity = 350
	w.info[id] = info
	w.publish(asset("tt-big", 1, 8, origins, 300, 100))
	w.publish(asset("tt-mid", 1, 7, origins, 200))
	w.connect(id)
	w.settle(rand.New(rand.NewPCG(1, 1)))
	w.wantComplete()
	for title, want := range map[string]bool{"tt-big": false, "tt-mid": true, "tt-a": true} {
		if got := w.disk[id][fileRef{title, 1, "f0"}]; got != want {
			t.Errorf("%s held=%v, want %v", title, got, want)
		}
	}
	// A launch pushes the others out, as far as it needs their room.
	w.publish(asset("tt-new", 1, 9, origins, 250))
	w.settle(rand.New(rand.NewPCG(1, 1)))
	w.wantComplete()
	if w.disk[id][fileRef{"tt-mid", 1, "f0"}] || !w.disk[id][fileRef{"tt-a", 1, "f0"}] {
		t.Errorf("held: %v", w.disk[id])
	}
}

func TestNewVersionReplacesTheOld(t *testing.T) {
	w := filled(t)
	w.publish(asset("tt-a", 2, 1, origins, 150, 250))
	w.settle(rand.New(rand.NewPCG(1, 1)))
	w.wantComplete()
	id := w.ids()[0]
	if !w.disk[id][fileRef{"tt-a", 1, "f0"}] || !w.disk[id][fileRef{"tt-a", 2, "f0"}] {
		t.Errorf("%s holds %v; the old version stays until room is needed", id, w.disk[id])
	}
	if got := w.bySource[pb.Source_SOURCE_CACHE]; got != 300+400 {
		t.Errorf("%d bytes from the object store, want 700", got)
	}
	if len(w.p.cat.files) != 4 || len(w.p.cat.free) != 2 {
		t.Errorf("%d numbers, %d free: withdrawn ones are used again", len(w.p.cat.files), len(w.p.cat.free))
	}
}

func TestOneContentUnderTwoNamesIsFetchedOnce(t *testing.T) {
	w := newWorld(t, 1, topology.LabTiming())
	a, b := asset("tt-a", 1, 2, origins, 100), asset("tt-b", 1, 1, origins, 100)
	b.Files[0].Sha256 = a.Files[0].Sha256
	w.publish(a)
	w.publish(b)
	w.connect(w.ids()...)
	for busy := w.busy(); len(busy) > 0; busy = w.busy() {
		for _, id := range busy {
			if len(w.flying[id]) > 1 {
				t.Fatalf("%s fetches one content twice", id)
			}
		}
		w.finish(busy[0], 0)
	}
	w.wantComplete()
	// The master got tt-b's name by its own order; an appliance links what it has.
	if got := w.bySource[pb.Source_SOURCE_CACHE]; got > 200 {
		t.Errorf("%d bytes from the object store", got)
	}
}

// TestEveryMissingFileIsFoundAgain breaks things at random, failures too, and
// in the end everything assigned is held.
func TestEveryMissingFileIsFoundAgain(t *testing.T) {
	for seed := range uint64(80) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 2))
			w := newWorld(t, 2, topology.LabTiming())
			ids := w.ids()
			for step := range 300 {
				id := ids[r.IntN(len(ids))]
				n := w.p.nodes[id]
				switch r.IntN(10) {
				case 0:
					if step < 200 {
						title := fmt.Sprintf("tt-%d", r.IntN(5))
						w.publish(asset(title, w.assets[title].GetVersion()+1, r.Float64(), origins, 10, 20, 30))
					}
				case 1:
					w.connect(id)
				case 2:
					if n != nil && n.presence == present {
						w.gone(id)
					}
				case 3:
					if n != nil && n.presence == present {
						w.p.setHealth(id, []string{"", "disk: full"}[r.IntN(2)], false, w.now)
						w.plan()
					}
				case 4:
					for ref := range w.disk[id] {
						w.lose(id, ref)
						break
					}
				case 5:
					if len(w.flying[id]) > 0 {
						w.fail(id, 0)
					}
				case 6:
					w.pass(time.Duration(r.IntN(5)) * time.Second)
					w.flying[id] = nil // some orders are never answered
				default:
					if len(w.flying[id]) > 0 {
						w.finish(id, r.IntN(len(w.flying[id])))
					}
				}
			}
			for _, id := range ids {
				w.flying[id] = nil
				w.connect(id)
			}
			for range 40 {
				w.settle(r)
				w.pass(10 * time.Second)
			}
			w.wantComplete()
		})
	}
}

func TestRendezvousMovesOnlyWhatTheLostOneHad(t *testing.T) {
	w := exchangeOnly(t, 5)
	w.connect(w.ids()...)
	s := w.p.sites["us-east-ix"]
	var before []string
	var sums []checksum
	for i := range 500 {
		a := asset(fmt.Sprintf("tt-%d", i), 1, 1, origins, 1)
		w.p.setAsset(a)
		sums = append(sums, checksum(a.Files[0].Sha256))
	}
	w.p.plan(w.now)
	count := map[string]int{}
	for _, sum := range sums {
		id := w.p.master(s, sum).id
		before = append(before, id)
		count[id]++
	}
	for id, n := range count {
		if n < 60 || n > 140 {
			t.Errorf("%s is master of %d of 500", id, n)
		}
	}
	lost := before[0]
	w.gone(lost)
	for i, sum := range sums {
		if got := w.p.master(s, sum).id; got != before[i] && before[i] != lost {
			t.Fatalf("content %d moved from %s to %s though %s was lost", i, before[i], got, lost)
		}
	}
}

func BenchmarkHeld(b *testing.B) {
	w := newWorld(b, 6, topology.LabTiming())
	for i := range 1000 {
		a := asset(fmt.Sprintf("tt-%04d", i), 1, float64(i), origins, 1, 2, 3, 4, 5, 6, 7)
		w.assets[a.TitleId] = a
		w.p.setAsset(a)
	}
	for _, id := range w.ids() {
		w.p.setNode(w.info[id], nil)
	}
	w.plan()
	b.ReportAllocs()
	for b.Loop() {
		busy := w.busy()
		if len(busy) == 0 {
			b.Fatal("everything is filled")
		}
		w.finish(busy[0], 0)
	}
}
