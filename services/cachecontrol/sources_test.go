package cachecontrol

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// The master is who failed least often, wherever it stands in the order of the others.
func TestMasterFailedLeastOften(t *testing.T) {
	w := exchangeOnly(t, 3)
	ids := w.ids()
	w.connect(ids...)
	f := w.p.cat.byRef[fileRef{"tt-a", 1, "f0"}]
	for _, best := range ids {
		for k, id := range ids {
			w.p.nodes[id].setback = map[int32]*setback{f: {failures: 2 * (2 + k)}}
		}
		w.p.nodes[best].setback[f].failures = 1
		if m := w.p.master(w.p.nodes[best].site, w.p.cat.files[f].sum); m == nil || m.id != best {
			t.Errorf("the master is %v, want %s", m, best)
		}
	}
}

// What is on its way takes room, too.
func TestRoomForWhatIsUnderWay(t *testing.T) {
	w := exchangeOnly(t, 2)
	w.connect(w.ids()...)
	n := w.p.nodes[w.ids()[0]]
	n.capacity, n.used, n.flights = 250, 100, map[int32]*flight{}
	if _, fits := w.p.makeRoom(n, 150); !fits {
		t.Error("150 of the 150 bytes that are free do not fit")
	}
	n.flights[0] = &flight{bytes: 100}
	if _, fits := w.p.makeRoom(n, 51); fits {
		t.Error("51 bytes fit where 50 are left beside what is under way")
	}
	if _, fits := w.p.makeRoom(n, 50); !fits {
		t.Error("50 bytes do not fit where 50 are left")
	}
}

// What no version names goes first, then the least popular of what others hold.
func TestWhatGoesFirst(t *testing.T) {
	w := exchangeOnly(t, 1)
	w.publish(asset("tt-b", 1, 5, origins, 100))
	w.connect(w.ids()...)
	w.settle(rand.New(rand.NewPCG(1, 1)))
	n := w.p.nodes[w.ids()[0]]
	n.assigned, n.extra = &assignment{}, map[fileRef]uint64{{"tt-c", 1, "f0"}: 10}
	var got []string
	for _, h := range w.p.unassigned(n) {
		got = append(got, h.ref.title)
	}
	if want := []string{"tt-c", "tt-a", "tt-b"}; !slices.Equal(got, want) {
		t.Errorf("%q go, want %q", got, want)
	}
}

// The orders of one plan count, too: an appliance that lacks much gets it from all
// who have it alike.
func TestOrdersOfOnePlanAreSpread(t *testing.T) {
	w := exchangeOnly(t, 3)
	titles := []string{"tt-b", "tt-c", "tt-d", "tt-e"}
	for _, title := range titles {
		w.publish(asset(title, 1, 1, origins, slices.Repeat([]uint64{100}, maxInFlight)...))
	}
	ids := w.ids()
	w.connect(ids...)
	w.settle(rand.New(rand.NewPCG(1, 1)))
	for _, title := range titles {
		var lost []fileRef
		for k := range maxInFlight {
			lost = append(lost, fileRef{title, 1, fmt.Sprint("f", k)})
		}
		w.lose(ids[2], lost...)
		from := map[string]int{}
		for _, o := range w.flying[ids[2]] {
			from[o.sources[0].appliance]++
		}
		if from[ids[0]] != maxInFlight/2 || from[ids[1]] != maxInFlight/2 {
			t.Errorf("the %d files of %s come from %v", maxInFlight, title, from)
		}
		w.settle(rand.New(rand.NewPCG(1, 1)))
	}
}

// Of those that hold a file the least busy gives it, and nobody who is told to drop it.
func TestSourcesAreTheLeastBusyThatKeepTheFile(t *testing.T) {
	w := exchangeOnly(t, 3)
	ids := w.ids()
	w.connect(ids...)
	w.settle(rand.New(rand.NewPCG(1, 1)))
	w.wantComplete()
	ref := fileRef{"tt-a", 1, "f0"}
	names := func() (out []string) {
		for _, s := range w.p.sources(w.p.nodes[ids[2]], w.p.cat.byRef[ref], w.now) {
			out = append(out, s.appliance)
		}
		return out
	}
	for _, busy := range []int{0, 1} {
		w.p.giving = map[string]int{ids[busy]: 2, ids[1-busy]: 1}
		if got, want := names(), []string{ids[1-busy], ids[busy]}; !slices.Equal(got, want) {
			t.Errorf("with %s busier: %q, want %q", ids[busy], got, want)
		}
	}
	w.p.nodes[ids[0]].evicting[ref] = 100
	if got := names(); !slices.Equal(got, ids[1:2]) {
		t.Errorf("while %s drops it: %q", ids[0], got)
	}
}
