package cachecontrol

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/flix-lab/flix/topology"
)

// cluster is one exchange of appliances as given, with titles of a Zipf
// popularity, planned.
func cluster(t testing.TB, appliances []topology.Appliance, titles int, size func(i int) uint64) *world {
	topo, err := topology.Preset(1)
	if err != nil {
		t.Fatal(err)
	}
	topo.Regions[0].Exchange.Appliances = appliances
	topo.Regions[0].ISPs = nil
	w := newWorldOf(t, topo, topology.LabTiming())
	for i := range titles {
		a := asset(fmt.Sprintf("tt-%05d", i), 1, 1000/float64(i+1), origins, size(i))
		w.assets[a.TitleId] = a
		w.p.setAsset(a)
	}
	for _, id := range w.ids() {
		w.p.setNode(w.info[id], nil)
	}
	w.p.plan(w.now)
	return w
}

func machines(n int, capacity topology.Size, bandwidth topology.Rate) []topology.Appliance {
	return slices.Repeat([]topology.Appliance{{Capacity: capacity, Bandwidth: bandwidth}}, n)
}

func (w *world) placement() *placement { return w.p.sites["us-east-ix"].placement }

// where says of each title on which appliances it has a place.
func (w *world) where() map[string][]string {
	out := map[string][]string{}
	for _, n := range w.p.inOrder() {
		for title := range w.assets {
			if n.assigned.files.has(w.p.cat.byRef[fileRef{title, 1, "f0"}]) {
				out[title] = append(out[title], n.id)
			}
		}
	}
	return out
}

func TestPlacementFollowsBandwidthAndStorage(t *testing.T) {
	// Two flash servers with much bandwidth and little room, four disks.
	app := append(machines(2, 2_000, 80e9), machines(4, 20_000, 10e9)...)
	w := cluster(t, app, 600, func(int) uint64 { return 100 })
	pl := w.placement()
	if pl.placed != 600 || pl.unplaced != 0 || pl.stored > pl.capacity {
		t.Fatalf("placed %d, unplaced %d, %d of %d bytes", pl.placed, pl.unplaced, pl.stored, pl.capacity)
	}
	if pl.popular == 0 || pl.popular == 600 {
		t.Fatalf("the cut-off is at %d of 600", pl.popular)
	}
	// Demand on each appliance, each title's split among its copies by bandwidth.
	load, total := map[string]float64{}, 0.0
	for title, ids := range w.where() {
		demand, line := w.assets[title].Popularity*100, 0.0
		for _, id := range ids {
			line += float64(w.info[id].bandwidth)
		}
		for _, id := range ids {
			load[id] += demand * float64(w.info[id].bandwidth) / line
		}
		total += demand
	}
	for _, id := range w.ids() {
		n := w.p.nodes[id]
		if n.assigned.bytes > n.capacity {
			t.Errorf("%s is assigned %d of %d bytes", id, n.assigned.bytes, n.capacity)
		}
		fair := total * float64(n.bandwidth) / (2*80e9 + 4*10e9)
		t.Logf("%s: %5.1f %% of the demand, fair %5.1f %%, %d of %d bytes", id, 100*load[id]/total, 100*fair/total, n.assigned.bytes, n.capacity)
		if r := load[id] / fair; r > 1.5*pl.imbalance {
			t.Errorf("%s carries %.2f times its share, predicted are %.2f", id, r, pl.imbalance)
		}
	}
	t.Logf("cut-off after %d titles, popularity %.3g, predicted imbalance %.3f", pl.popular, pl.cutOff, pl.imbalance)
}

func TestCutOffBalancesBetterThanNone(t *testing.T) {
	app := append(machines(1, 5_000, 90e9), machines(3, 30_000, 10e9)...)
	w := cluster(t, app, 900, func(int) uint64 { return 100 })
	s := w.p.sites["us-east-ix"]
	shares := w.placement().split(s.feed)
	var demand float64
	for _, x := range s.feed.titles {
		demand += x.demand()
	}
	none, ok := busiest(shares, 0, float64(w.placement().capacity), 0, demand)
	if !ok || w.placement().imbalance >= none {
		t.Errorf("imbalance %.3f with the cut-off, %.3f without (ok %v)", w.placement().imbalance, none, ok)
	}
}

// TestMembershipMovesTheLeast adds an appliance, and takes one away, and counts
// the bytes that have to move beside the least that could.
func TestMembershipMovesTheLeast(t *testing.T) {
	const n, titles = 10, 3000
	r := rand.New(rand.NewPCG(1, 2))
	sizes := make([]uint64, titles)
	var total uint64
	for i := range sizes {
		sizes[i] = 50 + r.Uint64N(100)
		total += sizes[i]
	}
	// Room for two copies of everything, and some.
	capacity := topology.Size(float64(total) / n * 2.6)
	size := func(i int) uint64 { return sizes[i] }
	few, many := cluster(t, machines(n, capacity, 10e9), titles, size), cluster(t, machines(n+1, capacity, 10e9), titles, size)
	a, b := few.where(), many.where()
	moved := func(from, to map[string][]string) (bytes uint64) {
		for title, ids := range to {
			for _, id := range ids {
				if !slices.Contains(from[title], id) {
					bytes += few.assets[title].Files[0].Size
				}
			}
		}
		return bytes
	}
	held := func(w *world) (bytes uint64) {
		for _, x := range w.p.nodes {
			bytes += x.assigned.bytes
		}
		return bytes
	}
	// The new appliance's share has to come to it, at least; and what the lost one
	// held has to come to the others.
	last := "us-east/us-east-ix/oca/11"
	leastAdded := many.p.nodes[last].assigned.bytes
	leastLost := leastAdded
	added, lost := moved(a, b), moved(b, a)
	t.Logf("of %d bytes in %d copies: adding one moves %d, least %d (%.2f); losing one moves %d, least %d (%.2f)", total, held(few), added, leastAdded,
		float64(added)/float64(leastAdded), lost, leastLost, float64(lost)/float64(leastLost))
	if float64(added) > 1.1*float64(leastAdded) {
		t.Errorf("adding one moves %d bytes, the least is %d", added, leastAdded)
	}
	if float64(lost) > 1.1*float64(leastLost) {
		t.Errorf("losing one moves %d bytes, the least is %d", lost, leastLost)
	}
}

func TestHotTitleGetsCopies(t *testing.T) {
	w := cluster(t, machines(4, 1_000, 10e9), 60, func(int) uint64 { return 100 })
	where := w.where()
	if len(where) != 40 {
		t.Fatalf("%d titles have a place in room for 40", len(where))
	}
	// The first draws a fifth of the demand: a copy is less than an appliance's
	// share, so one will do; with ten times that it needs all.
	hot := asset("tt-hot", 1, 60_000, origins, 100)
	w.publish(hot)
	if got := len(w.where()["tt-hot"]); got != 4 {
		t.Errorf("a title that draws nearly everything has %d copies, want 4", got)
	}
}

func TestChurnIsDamped(t *testing.T) {
	w := cluster(t, machines(1, 1_000, 10e9), 20, func(int) uint64 { return 100 })
	n := w.p.nodes[w.ids()[0]]
	before := slices.Clone(n.assigned.files)
	nudge := func(i int, popularity float64) {
		a := asset(fmt.Sprintf("tt-%05d", i), 1, popularity, origins, 100)
		w.p.setAsset(a)
		w.p.plan(w.now)
	}
	at10, at11 := 1000/10.0, 1000/11.0 // the last inside and the first outside
	nudge(10, at10*1.05)
	nudge(9, at11*0.99)
	if !slices.Equal(before, n.assigned.files) {
		t.Error("titles about as popular push each other out")
	}
	nudge(10, at10*1.5)
	if slices.Equal(before, n.assigned.files) {
		t.Error("a title half as popular again does not come in")
	}
}

func TestMeasuredPopularityRanks(t *testing.T) {
	w := cluster(t, machines(1, 1_000, 10e9), 20, func(int) uint64 { return 100 })
	halfLife := w.p.timing.FillWindow.D()
	w.p.measure("us-east", map[string]measured{"tt-00019": {Forecast: 5_000, At: w.now}})
	w.p.plan(w.now)
	f := w.p.feeds["us-east"]
	if f.titles[0].asset.TitleId != "tt-00019" {
		t.Errorf("first is %s", f.titles[0].asset.TitleId)
	}
	// What is measured ages beside what is measured later.
	w.p.measure("us-east", map[string]measured{"tt-00018": {Forecast: 4_000, At: w.now.Add(halfLife)}})
	w.p.plan(w.now)
	if f.titles[0].asset.TitleId != "tt-00018" || math.Abs(f.titles[1].popularity-2500) > 1 {
		t.Errorf("first is %s, second %g", f.titles[0].asset.TitleId, f.titles[1].popularity)
	}
}
