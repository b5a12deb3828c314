package steering

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	ccpb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/topology"
)

// plainly decides the long way round, appliance by appliance, over everything
// that was announced: what decide has to agree with.
func plainly(t *table, q query, p *places, expiryMS int64) (order []int, missed, onHealth bool) {
	reached, region := t.reached(&q, t.routes.find(q.addr), p, nil)
	type candidate struct {
		slot int
		near nearness
		kept bool
	}
	var all []candidate
	for slot, a := range t.apps {
		if a == nil {
			continue
		}
		c := candidate{slot: slot, near: nearness{class: transit}}
		for _, g := range t.exchanges {
			if g.holds(slot) {
				c.near.far = p.far(region, g.region)
			}
		}
		for _, r := range reached {
			if r.g.holds(slot) && r.near.compare(c.near) < 0 {
				c.near = r.near
			}
		}
		if a.isp && c.near.class == transit {
			continue // out of reach
		}
		state, has := t.states.at(slot).Load(), q.title.holders.has(slot)
		c.kept = state&stateOK != 0 && (q.lenient || q.nowMS-heardOf(state) <= expiryMS) && has && !slices.Contains(q.exclude, a.id)
		if len(reached) > 0 && c.near == reached[0].near {
			onHealth = onHealth || has
			missed = missed || c.kept // turned round below
		}
		all = append(all, c)
	}
	missed = len(reached) > 0 && !missed
	score := func(c candidate) float64 { return t.lots[c.slot].draw(q.key, loadOf(t.states.at(c.slot).Load())) }
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(a.near.compare(b.near), cmp.Compare(score(b), score(a)), cmp.Compare(t.apps[a.slot].id, t.apps[b.slot].id))
	})
	for _, c := range all {
		if c.kept && len(order) < q.want {
			order = append(order, c.slot)
		}
	}
	return order, missed, onHealth && len(reached) > 0
}

func (g *group) holds(slot int) bool {
	return slices.ContainsFunc(g.slots, func(x patch) bool { return x.word == slot/64 && x.mask&(1<<(slot%64)) != 0 })
}

// crowd is a server that knows n appliances at random, some sick, some silent,
// some gone, whose networks cover one another.
func crowd(t *testing.T, rng *rand.Rand, n int) *Server {
	t.Helper()
	topo, err := topology.Preset(3)
	if err != nil {
		t.Fatal(err)
	}
	s := newBench(t, topo)
	for k := range 6 {
		s.model.apply(&ccpb.WatchEvent{Asset: &ccpb.Asset{TitleId: fmt.Sprint("tt-", k), Version: 1, Files: []*ccpb.File{{Path: "v"}}}}, time.Now())
	}
	names := topo.RegionNames()
	ids := make([]string, n)
	for i := range ids {
		kind := []string{"isp", "exchange"}[rng.IntN(2)]
		h := &ccpb.Hello{Appliance: fmt.Sprintf("%s/%d", kind, i), Region: names[rng.IntN(len(names))], Site: kind, Kind: kind, BandwidthBps: uint64(1e9 * (1 + rng.IntN(3)))}
		for range rng.IntN(4) {
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(rng.IntN(3)), byte(rng.IntN(4)), 0}), []int{8, 14, 16, 22, 24}[rng.IntN(5)])
			h.Prefixes = append(h.Prefixes, p.Masked().String())
		}
		st := &ccpb.ApplianceState{Hello: h, Report: &ccpb.Report{Healthy: rng.IntN(6) > 0, Load: rng.Float64()}, Counter: 1, ReportedUnixMs: time.Now().UnixMilli()}
		if rng.IntN(6) == 0 {
			st.ReportedUnixMs = time.Now().Add(-2 * s.expiry).UnixMilli()
		}
		for k := range 6 {
			if rng.IntN(6) < k {
				st.Titles = append(st.Titles, &ccpb.TitleHeld{TitleId: fmt.Sprint("tt-", k), Version: 1, Paths: []string{"v"}})
			}
		}
		st.HeldFiles = uint32(len(st.Titles))
		ids[i] = h.Appliance
		s.model.apply(&ccpb.WatchEvent{State: st}, time.Now())
	}
	for _, id := range ids {
		if rng.IntN(20) == 0 {
			s.model.apply(&ccpb.WatchEvent{Gone: id}, time.Now())
		}
	}
	s.model.build()
	return s
}

// A decision is the plain one, whether somebody listens or not, and with more
// appliances than a decision keeps on its stack.
func TestDecisionsArePlain(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for _, n := range []int{3, 60, 64, 65, 700, 64*seenInline + 300} {
		s := crowd(t, rng, n)
		tab := s.table.Load()
		fewer, err := topology.Preset(2)
		if err != nil {
			t.Fatal(err)
		}
		// The distances change between decisions: no order outlives its places.
		worlds := []*places{s.places.Load(), newPlaces(fewer, &s.regions, fewer.Regions[1].Name)}
		empty, asked := 0, min(300, 100_000/n)
		for range asked {
			p := worlds[rng.IntN(len(worlds))]
			addr := netip.AddrFrom4([4]byte{10, byte(rng.IntN(4)), byte(rng.IntN(5)), byte(rng.IntN(256))})
			q := query{addr: addr, nowMS: time.Now().UnixMilli(), want: 1 + rng.IntN(most), lenient: rng.IntN(4) == 0, key: rng.Uint64(), title: s.titles.get(fmt.Sprint("tt-", rng.IntN(6)))}
			if rng.IntN(3) == 0 {
				q.exclude = []string{fmt.Sprint("isp/", rng.IntN(n)), fmt.Sprint("exchange/", rng.IntN(n))}
			}
			want, missed, onHealth := plainly(tab, q, p, s.expiry.Milliseconds())
			for _, log := range []*explanation{nil, {}} {
				q.log = log
				tab.decide(&q, tab.routes.find(addr), p, s.expiry.Milliseconds())
				var got []int
				for _, x := range q.picks[:q.n] {
					got = append(got, int(x.slot))
				}
				if !slices.Equal(got, want) {
					t.Fatalf("%d appliances, %v, listened %v: %v, want %v", n, addr, log != nil, got, want)
				}
				if q.missed != missed || q.onHealth != onHealth {
					t.Fatalf("%d appliances, %v, listened %v: missed %v, on health %v, want %v, %v", n, addr, log != nil, q.missed, q.onHealth, missed, onHealth)
				}
			}
			if len(want) == 0 {
				empty++
			}
		}
		if empty == asked {
			t.Errorf("of %d appliances none ever served: nothing was compared", n)
		}
	}
}

// Titles come, change and go in an order of their own, and are found by their
// ids alone, short and long ones, with as many appliances as there may be.
func TestTitles(t *testing.T) {
	var ts titles
	want := map[string]*title{}
	rng := rand.New(rand.NewPCG(5, 6))
	name := func(i int) string {
		if i%5 == 0 {
			return fmt.Sprintf("tt-%030d", i)
		}
		return fmt.Sprint("tt-", i)
	}
	for range 20_000 {
		id := name(rng.IntN(4000))
		if rng.IntN(3) == 0 {
			ts.remove(id)
			delete(want, id)
			continue
		}
		holders := make(slotSet, rng.IntN(someWords+3))
		for i := range holders {
			holders[i] = rng.Uint64()
		}
		want[id] = &title{version: rng.Uint64(), bytes: rng.Uint64(), holders: holders}
		ts.store(id, want[id])
	}
	for i := range 4000 {
		id := name(i)
		got, want := ts.get(id), want[id]
		if (got == nil) != (want == nil) {
			t.Fatalf("%s: %v, want %v", id, got, want)
		}
		if want != nil && (got.id != id || got.version != want.version || got.bytes != want.bytes || !slices.Equal(got.holders, want.holders)) {
			t.Fatalf("%s: %v, want %v", id, got, want)
		}
	}
	if got := ts.get(name(4001)); got != nil {
		t.Errorf("an unknown id: %v", got)
	}
}

// What is struck out by the bound alone would have been struck out by its score:
// the bound is never below it, not even where both are nearly nought.
func TestTicketBound(t *testing.T) {
	check := func(x uint64, load int) {
		t.Helper()
		l := lot{seed: 0, rare: 1 / 100e9}
		d := ticket{unit(x), l.rare * burden[min(load, loadSteps)]}
		if d.score() > d.most() {
			t.Fatalf("%x at load %d: score %v above its bound %v", x, load, d.score(), d.most())
		}
	}
	for load := range loadSteps + 2 {
		for shift := range 64 {
			for _, x := range []uint64{1 << shift, 1<<shift - 1, ^uint64(0) >> shift, ^(uint64(1) << shift)} {
				check(x, load)
			}
		}
	}
	rng := rand.New(rand.NewPCG(5, 6))
	for range 1_000_000 {
		check(rng.Uint64(), rng.IntN(loadSteps+1))
	}
}

// Where nobody at all was heard in time it is the hearing that fails, and old
// reports count, but for those that say that an appliance is sick; where one was,
// whoever is silent is struck out.
func TestSilenceOfAllIsNobodysFault(t *testing.T) {
	topo, err := topology.Preset(1)
	if err != nil {
		t.Fatal(err)
	}
	s := newBench(t, topo)
	s.connected.Store(true)
	s.model.apply(&ccpb.WatchEvent{Asset: &ccpb.Asset{TitleId: "tt-0", Version: 1, Files: []*ccpb.File{{Path: "v"}}}}, time.Now())
	report := func(id string, healthy bool, age time.Duration, holds ...*ccpb.TitleHeld) {
		h := &ccpb.Hello{Appliance: id, Region: topo.RegionNames()[0], Site: "x", Kind: "exchange"}
		s.model.apply(&ccpb.WatchEvent{State: &ccpb.ApplianceState{Hello: h, Report: &ccpb.Report{Healthy: healthy}, Counter: 1,
			ReportedUnixMs: time.Now().Add(-age).UnixMilli(), Titles: holds, HeldFiles: uint32(len(holds))}}, time.Now())
		s.model.build()
	}
	ask := func() (result, bool, int) {
		q := query{addr: netip.MustParseAddr("10.0.0.1"), nowMS: time.Now().UnixMilli(), want: most}
		r, ok := s.decide(&q, s.table.Load(), "tt-0")
		return r, ok, q.n
	}
	whole := &ccpb.TitleHeld{TitleId: "tt-0", Version: 1, Paths: []string{"v"}}
	report("old", true, 2*s.expiry, whole)
	report("sick", false, 2*s.expiry, whole)
	if r, ok, n := ask(); !ok || r != resultStale || n != 1 {
		t.Errorf("where all are silent: %v, %v, %d appliances, want the one that was well", r, ok, n)
	}
	report("heard", true, 0)
	if r, ok, n := ask(); ok {
		t.Errorf("where another was heard: %v with %d appliances, want none", r, n)
	}
	s.connected.Store(false) // nobody can be heard in time any more
	if r, ok, n := ask(); !ok || r != resultStale || n != 1 {
		t.Errorf("with cache control away: %v, %v, %d appliances, want the one that was well", r, ok, n)
	}
}
