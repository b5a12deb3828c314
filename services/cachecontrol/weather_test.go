package cachecontrol

import (
	"crypto/sha256"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/flix-lab/flix/services"
	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/topology"
)

// An appliance that says it holds what it does not is left as a source, asked
// to look, and filled like any other.
func TestApplianceThatLiesIsNotASourceForLong(t *testing.T) {
	w := exchangeOnly(t, 2)
	ids := w.ids()
	liar, other := ids[0], ids[1]
	w.disk[liar][fileRef{"tt-a", 1, "f0"}] = true
	w.connect(ids...)
	if o := w.flying[other]; len(o) != 1 || o[0].sources[0].appliance != liar {
		t.Fatalf("%s is ordered %+v, want to fill from its peer", other, o)
	}
	w.p.setRefused(other, fileRef{"tt-a", 1, "f0"}, liar, w.now)
	w.fail(other, 0)
	w.pass(topology.LabTiming().CacheControlSync.D())
	w.lose(liar, fileRef{"tt-a", 1, "f0"}) // it has looked
	w.pass(topology.LabTiming().ReportExpiry.D())
	w.settle(rand.New(rand.NewPCG(1, 1)))
	w.wantComplete()
	if got := w.bySource[pb.Source_SOURCE_CACHE]; got != 100 {
		t.Errorf("%d bytes from the object store, want the file once", got)
	}
}

// Two cache controls that each plan for one appliance of a site, because the
// region is split, agree on the one that fetches a content.
func TestTwoPlannersHaveOneMaster(t *testing.T) {
	for seed := range byte(20) {
		a, b := exchangeOnly(t, 2), exchangeOnly(t, 2)
		film := asset("tt-film", 1, 5, origins, 100)
		digest := sha256.Sum256([]byte{seed})
		film.Files[0].Sha256 = digest[:]
		a.publish(film)
		b.publish(film)
		ids := a.ids()
		for k, w := range []*world{a, b} {
			for i, id := range ids {
				info := w.info[id]
				info.connected = i == k
				w.p.setNode(info, nil)
			}
			w.plan()
		}
		fetch := func(w *world, id string) bool {
			return slices.ContainsFunc(w.flying[id], func(o order) bool { return o.file.ref.title == "tt-film" })
		}
		if x, y := fetch(a, ids[0]), fetch(b, ids[1]); x == y {
			t.Errorf("seed %d: the planner of %s orders it %v, that of %s %v", seed, ids[0], x, ids[1], y)
		}
	}
}

func TestAssetWithAHoleIsRefused(t *testing.T) {
	p := newPlanet(t)
	east := p.start("us-east")
	for name, change := range map[string]func(f *pb.File){
		"chunks that do not cover the file": func(f *pb.File) { f.ChunkBytes, f.ChunkSha256 = 40, [][]byte{make([]byte, 32), make([]byte, 32)} },
		"a chunk without a checksum":        func(f *pb.File) { f.ChunkBytes, f.ChunkSha256 = 60, [][]byte{make([]byte, 32), nil} },
		"chunks of no size":                 func(f *pb.File) { f.ChunkSha256 = [][]byte{make([]byte, 32)} },
	} {
		t.Run(name, func(t *testing.T) {
			a := asset("tt-hole", 1, 1, origins, 100)
			change(a.Files[0])
			_, err := east.Publish(t.Context(), &pb.PublishRequest{Asset: a})
			if services.KindOf(err) != services.Invalid || !strings.Contains(err.Error(), "hole") {
				t.Errorf("%v, want Invalid: a hole", err)
			}
		})
	}
}

// A report that is older than the last, or the same again, changes nothing.
func TestReplayedReportIsIgnored(t *testing.T) {
	p := newPlanet(t)
	east := p.start("us-east")
	w := p.watch(east)
	f := p.connect(east, "us-east/us-east-ix/oca/1", 100)
	f.report(true)
	f.report(false)
	w.until(t, func() string {
		if st := w.states[f.id]; st == nil || st.Report.GetHealthy() {
			return "the second report has not come"
		}
		return ""
	})
	f.counter = 100 // again from the start: Hello was 101, the reports 102 and 103
	f.report(true)
	f.report(true)
	f.counter = 110
	f.held(&pb.HeldFile{TitleId: "tt-x", Version: 1, Path: "p", Size: 1})
	w.until(t, func() string {
		st := w.states[f.id]
		if st.HeldFiles != 1 {
			return "the newer message has not come"
		}
		if st.Report.GetHealthy() {
			t.Fatal("a replayed report was taken")
		}
		return ""
	})
}
