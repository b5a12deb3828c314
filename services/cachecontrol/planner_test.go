package cachecontrol

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/topology"
)

// world drives a planner as appliances would, and counts what leaves the
// object stores.
type world struct {
	t      testing.TB
	p      *planner
	now    time.Time
	info   map[string]nodeInfo
	disk   map[string]map[fileRef]bool
	flying map[string][]order
	assets map[string]*pb.Asset
	// cacheBytes counts bytes ordered from object stores, by region.
	cacheBytes map[string]uint64
	bySource   map[pb.Source]uint64
}

func newWorld(t testing.TB, regions int, timing topology.Timing) *world {
	topo, err := topology.Preset(regions)
	if err != nil {
		t.Fatal(err)
	}
	return newWorldOf(t, topo, timing)
}

func newWorldOf(t testing.TB, topo topology.Topology, timing topology.Timing) *world {
	w := &world{
		t: t, p: newPlanner(timing, topo.Nearest), now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		info: map[string]nodeInfo{}, disk: map[string]map[fileRef]bool{}, flying: map[string][]order{}, assets: map[string]*pb.Asset{},
		cacheBytes: map[string]uint64{}, bySource: map[pb.Source]uint64{},
	}
	for _, i := range topo.Instances() {
		if i.Role == topology.RoleOCA {
			w.info[i.ID] = nodeInfo{
				id: i.ID, region: i.Region, site: i.Site.Name, kind: i.Site.Kind, capacity: uint64(i.Appliance.Capacity),
				bandwidth: uint64(i.Appliance.Bandwidth), fillURL: "http://" + i.ID, connected: true,
			}
			w.disk[i.ID] = map[fileRef]bool{}
		}
	}
	w.p.declare(topo, w.now)
	return w
}

func (w *world) ids() []string {
	ids := make([]string, 0, len(w.info))
	for id := range w.info {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// asset makes a title of files of the given sizes; content is by name.
func asset(title string, version uint64, popularity float64, origins []string, sizes ...uint64) *pb.Asset {
	a := &pb.Asset{TitleId: title, Version: version, Popularity: popularity, Origins: origins}
	kinds := []string{"video", "index", "audio", "manifest"}
	for i, size := range sizes {
		path := fmt.Sprintf("f%d", i)
		digest := sha256.Sum256(fmt.Appendf(nil, "%s/%d/%s", title, version, path))
		a.Files = append(a.Files, &pb.File{Path: path, Size: size, Sha256: digest[:], Kind: kinds[i%len(kinds)], Kbps: uint32(i)})
	}
	return a
}

func (w *world) publish(a *pb.Asset) {
	w.assets[a.GetTitleId()] = a
	w.p.setAsset(a)
	w.plan()
}

func (w *world) connect(ids ...string) {
	for _, id := range ids {
		var held []heldFile
		for ref := range w.disk[id] {
			held = append(held, heldFile{ref: ref, size: 1})
		}
		w.p.setNode(w.info[id], held)
		w.plan()
	}
}

// plan takes the orders and checks that each is sound.
func (w *world) plan() {
	w.t.Helper()
	for _, o := range w.p.plan(w.now) {
		w.check(o)
		if slices.ContainsFunc(w.flying[o.to], func(f order) bool { return f.file.ref == o.file.ref }) {
			continue // repeated; the appliance ignores it
		}
		for _, e := range o.evict {
			delete(w.disk[o.to], e.ref)
			w.p.setLost(o.to, []fileRef{e.ref})
		}
		w.flying[o.to] = append(w.flying[o.to], o)
		if n := len(w.p.nodes[o.to].flights); n > maxInFlight {
			w.t.Fatalf("%s has %d orders in flight", o.to, n)
		}
		w.bySource[o.sources[0].kind] += o.file.file.GetSize()
		if o.sources[0].kind == pb.Source_SOURCE_CACHE {
			w.cacheBytes[w.info[o.to].region] += o.file.file.GetSize()
		}
	}
}

func (w *world) check(o order) {
	w.t.Helper()
	to := w.info[o.to]
	if len(o.sources) == 0 {
		w.t.Fatalf("%s is ordered to fetch %v from nowhere", o.to, o.file.ref)
	}
	for i, src := range o.sources {
		from := w.info[src.appliance]
		switch src.kind {
		case pb.Source_SOURCE_CACHE:
			if i == 0 && o.sources[0].kind != src.kind || src.appliance != "" {
				w.t.Fatalf("%s: cache fill in %+v", o.to, o.sources)
			}
		case pb.Source_SOURCE_PEER:
			if from.site != to.site || src.appliance == o.to {
				w.t.Fatalf("%s peer fills from %s", o.to, src.appliance)
			}
		case pb.Source_SOURCE_TIER:
			// Another region's exchange only when the own one makes no progress.
			abroad := from.region != to.region && !w.p.exchange(to.region).idle(w.p.timing, w.now)
			if to.kind != topology.SiteISP || from.kind != topology.SiteExchange || abroad {
				w.t.Fatalf("%s tier fills from %s", o.to, src.appliance)
			}
		default:
			w.t.Fatalf("%s: source %v", o.to, src)
		}
		if src.appliance != "" && !w.disk[src.appliance][src.ref] {
			w.t.Fatalf("%s is sent to %s, which does not hold %v", o.to, src.appliance, src.ref)
		}
	}
}

// finish completes the i-th order in flight of an appliance.
func (w *world) finish(id string, i int) {
	o := w.flying[id][i]
	w.flying[id] = slices.Delete(w.flying[id], i, i+1)
	if w.assets[o.file.ref.title].GetVersion() == o.file.ref.version {
		w.disk[id][o.file.ref] = true
	}
	w.p.setHeld(id, []heldFile{{ref: o.file.ref, size: o.file.file.GetSize()}})
	w.plan()
}

// fail gives up the i-th order in flight.
func (w *world) fail(id string, i int) {
	o := w.flying[id][i]
	w.flying[id] = slices.Delete(w.flying[id], i, i+1)
	w.p.setFailed(id, o.file.ref, w.now)
	w.plan()
}

func (w *world) lose(id string, refs ...fileRef) {
	for _, r := range refs {
		delete(w.disk[id], r)
	}
	w.p.setLost(id, refs)
	w.plan()
}

func (w *world) gone(id string) {
	w.flying[id] = nil
	w.p.setGone(id)
	w.plan()
}

func (w *world) pass(d time.Duration) {
	w.now = w.now.Add(d)
	w.p.tick(w.now)
	w.plan()
}

func (w *world) busy() (ids []string) {
	for _, id := range w.ids() {
		if len(w.flying[id]) > 0 {
			ids = append(ids, id)
		}
	}
	return ids
}

// settle completes orders in random order until none is left.
func (w *world) settle(r *rand.Rand) {
	for busy := w.busy(); len(busy) > 0; busy = w.busy() {
		id := busy[r.IntN(len(busy))]
		w.finish(id, r.IntN(len(w.flying[id])))
	}
}

// uniqueBytes is what each region has to fetch at least.
func (w *world) uniqueBytes() (total uint64) {
	for _, a := range w.assets {
		total += bytesOf(a)
	}
	return total
}

func (w *world) wantComplete() {
	w.t.Helper()
	for _, id := range w.ids() {
		n := w.p.nodes[id]
		if n == nil || !n.connected {
			continue
		}
		n.assigned.files.each(n.held, func(f int32) { w.t.Errorf("%s lacks %v", id, w.p.cat.files[f].ref) })
		if !slices.Contains([]int{0}, len(n.flights)) {
			w.t.Errorf("%s still has %d flights", id, len(n.flights))
		}
	}
}

func (w *world) wantRatioOne() {
	w.t.Helper()
	for region, got := range w.cacheBytes {
		if want := w.uniqueBytes(); got != want {
			w.t.Errorf("%s fetched %d bytes from object stores, want %d (ratio %.3f)", region, got, want, float64(got)/float64(want))
		}
	}
}

// TestOriginEgressIsOne connects appliances, publishes titles, breaks streams
// and completes fills in random orders: every byte leaves the origin once per
// region.
func TestOriginEgressIsOne(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			w := newWorld(t, 1+int(seed%3), topology.LabTiming())
			runWithoutFailures(w, func(n int) int { return r.IntN(n) })
			w.settle(r)
			w.wantComplete()
			w.wantRatioOne()
			if len(w.cacheBytes) != 1+int(seed%3) {
				t.Errorf("regions that filled: %v", w.cacheBytes)
			}
		})
	}
}

// FuzzOriginEgress lets the fuzzer choose the order of events.
func FuzzOriginEgress(f *testing.F) {
	f.Add([]byte("0123456789"))
	f.Add([]byte{0, 0, 0, 1, 1, 2, 255, 3, 9, 27, 81})
	f.Fuzz(func(t *testing.T, choices []byte) {
		w := newWorld(t, 2, topology.LabTiming())
		runWithoutFailures(w, func(n int) int {
			if len(choices) == 0 {
				return 0
			}
			c := int(choices[0])
			choices = choices[1:]
			return c % n
		})
		w.settle(rand.New(rand.NewPCG(1, 1)))
		w.wantComplete()
		w.wantRatioOne()
	})
}

func runWithoutFailures(w *world, choose func(n int) int) {
	origins := []string{"us-east"}
	waiting := w.ids()
	var titles []*pb.Asset
	for i := range 6 {
		titles = append(titles, asset(fmt.Sprintf("tt-%d", i), 1, float64(choose(10)), origins, 1000, 10, 300, 20, 2000))
	}
	var connected []string
	for len(waiting)+len(titles) > 0 {
		switch what := choose(6); {
		case what == 0 && len(titles) > 0 || len(waiting) == 0:
			w.publish(titles[0])
			titles = titles[1:]
		case what <= 2:
			i := choose(len(waiting))
			w.connect(waiting[i])
			connected = append(connected, waiting[i])
			waiting = slices.Delete(waiting, i, i+1)
		case what == 3 && len(connected) > 0: // a stream breaks and is back
			id := connected[choose(len(connected))]
			w.p.disconnect(id)
			w.plan()
			w.pass(time.Millisecond)
			w.connect(id)
		case what == 4 && len(w.assets) > 0: // popularity changes
			for _, a := range w.p.cat.byPopularity() {
				b := asset(a.GetTitleId(), 1, float64(choose(100)), origins, 1000, 10, 300, 20, 2000)
				w.publish(b)
				break
			}
		default:
			for range 3 {
				if busy := w.busy(); len(busy) > 0 {
					id := busy[choose(len(busy))]
					w.finish(id, choose(len(w.flying[id])))
				}
			}
		}
	}
}
