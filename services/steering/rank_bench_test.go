package steering

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	ccpb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

func newBench(tb testing.TB, topo topology.Topology) *Server {
	tb.Helper()
	tel := telemetry.Discard()
	s := &Server{deps: Deps{Region: "us-east", Timing: topology.LabTiming(), Tel: tel}, expiry: time.Hour, log: tel.Log}
	s.table.Store(&table{routes: newPrefixes()})
	s.SetTopology(topo)
	s.model = newModel(s)
	s.metrics = newMetrics(tel.Metrics, s)
	s.model.begin()
	return s
}

// benchServer knows a preset planet whose appliances hold the given number of
// titles each.
func benchServer(tb testing.TB, regions, titles int) *Server {
	tb.Helper()
	topo, err := topology.Preset(regions)
	if err != nil {
		tb.Fatal(err)
	}
	s := newBench(tb, topo)
	var held []*ccpb.TitleHeld
	for n := range titles {
		id := fmt.Sprintf("tt-%d", n)
		s.model.apply(&ccpb.WatchEvent{Asset: &ccpb.Asset{TitleId: id, Version: 1, Files: []*ccpb.File{{Path: "v1.mp4"}, {Path: "a1.mp4"}}}}, time.Now())
		held = append(held, &ccpb.TitleHeld{TitleId: id, Version: 1, Paths: []string{"a1.mp4", "v1.mp4"}})
	}
	for _, i := range topo.Instances() {
		if i.Role != topology.RoleOCA {
			continue
		}
		s.model.apply(&ccpb.WatchEvent{State: &ccpb.ApplianceState{
			Hello:  &ccpb.Hello{Appliance: i.ID, Region: i.Region, Site: i.Site.Name, Kind: string(i.Site.Kind), Prefixes: i.Site.Prefixes, BandwidthBps: 1e9},
			Report: &ccpb.Report{Healthy: true}, Titles: held, HeldFiles: uint32(2 * titles), Counter: 1, ReportedUnixMs: time.Now().UnixMilli(),
		}}, time.Now())
	}
	s.model.build()
	s.ready.Store(true)
	s.connected.Store(true)
	return s
}

// The planet of BenchmarkPlanet: the size of the original's.
const (
	planetPrefixes4, planetPrefixes6 = 1_000_000, 200_000
	planetAppliances, planetTitles   = 2_000, 100_000
	planetRegions                    = 6
)

// planetServer is a steering instance that knows a planet of the original's
// size: 300 ISP sites of 4 appliances, 40 exchanges of 20. An ISP's prefixes are
// announced by its site and by two exchanges, lengths as in the global table. A
// tenth of the titles is held everywhere, the rest by a tenth of the
// appliances. It returns clients and the table's bytes.
func planetServer(tb testing.TB) (s *Server, clients []netip.Addr, tableBytes uint64) {
	tb.Helper()
	topo, err := topology.Preset(planetRegions)
	if err != nil {
		tb.Fatal(err)
	}
	s = newBench(tb, topo)
	rng := rand.New(rand.NewPCG(1, 2))
	names := topo.RegionNames()
	const isps, exchanges = 300, 40
	m := s.model
	site := func(name, kind, region string, n int) (slots []int) {
		for k := range n {
			id := fmt.Sprintf("%s/%s/oca/%d", region, name, k+1)
			m.apply(&ccpb.WatchEvent{State: &ccpb.ApplianceState{
				Hello:  &ccpb.Hello{Appliance: id, Region: region, Site: name, Kind: kind, BandwidthBps: 100e9, ClientUrl: "https://" + id},
				Report: &ccpb.Report{Healthy: rng.IntN(50) > 0, Load: rng.Float64()}, Counter: 1, ReportedUnixMs: time.Now().UnixMilli(),
			}}, time.Now())
			slots = append(slots, m.slots[id])
		}
		return slots
	}
	var isp, exchange [][]int
	for i := range isps {
		isp = append(isp, site(fmt.Sprintf("isp-%d", i), "isp", names[i%len(names)], 4))
	}
	for i := range exchanges {
		exchange = append(exchange, site(fmt.Sprintf("ix-%d", i), "exchange", names[i%len(names)], 20))
	}
	m.build()
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var rs []route
	announce := func(p netip.Prefix) {
		i := rng.IntN(isps)
		rs = rs[:0]
		for _, slots := range [][]int{isp[i], exchange[i%exchanges], exchange[(i+len(names))%exchanges]} {
			for _, slot := range slots {
				rs = append(rs, route{slot: slot, path: uint8(1 + i%3)})
			}
		}
		m.router.announce(p, rs...)
	}
	seen := map[netip.Prefix]bool{}
	for len(seen) < planetPrefixes4 {
		a := netip.AddrFrom4([4]byte{byte(1 + rng.IntN(223)), byte(rng.IntN(256)), byte(rng.IntN(256)), byte(rng.IntN(256))})
		bits := 24 - min(12, int(rng.ExpFloat64()*1.6))
		p, _ := a.Prefix(bits)
		if !seen[p] {
			seen[p] = true
			announce(p)
			if len(clients) < 1<<16 {
				clients = append(clients, a)
			}
		}
	}
	for n := len(seen) + planetPrefixes6; len(seen) < n; {
		var b [16]byte
		b[0], b[1], b[2], b[3], b[4], b[5] = 0x20, byte(1+rng.IntN(15)), byte(rng.IntN(256)), byte(rng.IntN(256)), byte(rng.IntN(256)), byte(rng.IntN(256))
		p, _ := netip.AddrFrom16(b).Prefix(48 - min(16, int(rng.ExpFloat64()*3)))
		if !seen[p] {
			seen[p] = true
			announce(p)
			if len(clients) < 1<<17 && rng.IntN(4) == 0 {
				clients = append(clients, netip.AddrFrom16(b))
			}
		}
	}
	clear(seen)
	m.stale = true
	m.build()
	runtime.GC()
	runtime.ReadMemStats(&after)
	for n := range planetTitles {
		var h slotSet
		for slot := range planetAppliances {
			if n%10 == 0 || rng.IntN(10) == 0 {
				if h == nil {
					h = make(slotSet, (planetAppliances+63)/64)
				}
				h[slot/64] |= 1 << (slot % 64)
			}
		}
		s.titles.store(fmt.Sprintf("tt-%06d", n), &title{version: 1, holders: h})
	}
	s.ready.Store(true)
	s.connected.Store(true)
	return s, clients, after.HeapAlloc - before.HeapAlloc
}

// BenchmarkPlanet is full decisions on one core: parse nothing, look up title
// and routes, filter, order, spread, ten of the answer.
func BenchmarkPlanet(b *testing.B) {
	s, clients, bytes := planetServer(b)
	ids := make([]string, 1<<14)
	rng := rand.New(rand.NewPCG(3, 4))
	zipf := rand.NewZipf(rng, 1.1, 10, planetTitles-1)
	for i := range ids {
		ids[i] = fmt.Sprintf("tt-%06d", zipf.Uint64())
	}
	prev := runtime.GOMAXPROCS(1)
	defer runtime.GOMAXPROCS(prev)
	took := make([]time.Duration, 0, 1<<20)
	b.ReportAllocs()
	i, empty := 0, 0
	var spent time.Duration
	for b.Loop() {
		if i == 0 {
			spent = -processorTime(b)
		}
		q := query{addr: clients[i*7919%len(clients)], nowMS: time.Now().UnixMilli(), want: most}
		// Two more looks at the clock would be a twentieth of a decision.
		timed := i%16 == 0 && len(took) < cap(took)
		var at time.Time
		if timed {
			at = time.Now()
		}
		if _, ok := s.decide(&q, s.table.Load(), ids[i%len(ids)]); !ok {
			empty++
		}
		if timed {
			took = append(took, time.Since(at))
		}
		i++
	}
	spent += processorTime(b)
	slices.Sort(took)
	b.ReportMetric(float64(i)/b.Elapsed().Seconds(), "decisions/s")
	// On a machine shared with others this is what one core would do.
	b.ReportMetric(float64(i)/spent.Seconds(), "decisions/CPU-s")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
	b.ReportMetric(float64(bytes)/(planetPrefixes4+planetPrefixes6), "B/prefix")
	if empty > 0 {
		b.Errorf("%d of %d clients were told of nobody", empty, i)
	}
}

// processorTime is what the process has used of all processors.
func processorTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkAnnounce is one change of a route in that table, until decisions see
// it.
func BenchmarkAnnounce(b *testing.B) {
	s, _, _ := planetServer(b)
	p := netip.MustParsePrefix("203.0.113.0/24")
	b.ReportAllocs()
	for b.Loop() {
		s.model.router.announce(p, route{slot: 7})
		s.model.stale = true
		s.model.build()
		s.model.router.withdraw(p, 7)
		s.model.stale = true
		s.model.build()
	}
}

// BenchmarkRank is one decision in the preset of six regions (36 appliances).
func BenchmarkRank(b *testing.B) {
	s := benchServer(b, 6, 100)
	addr := netip.MustParseAddr("198.18.0.7")
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			q := query{addr: addr, nowMS: time.Now().UnixMilli(), want: most}
			if _, ok := s.decide(&q, s.table.Load(), "tt-7"); !ok {
				b.Fatal("nobody")
			}
		}
	})
}

// BenchmarkReport is one report of an appliance that holds 1000 titles.
func BenchmarkReport(b *testing.B) {
	s := benchServer(b, 3, 1000)
	st := &ccpb.ApplianceState{Hello: s.model.known["us-east/us-east-ix/oca/1"].hello, Report: &ccpb.Report{Healthy: true}, HeldFiles: 2000}
	for key, paths := range s.model.known["us-east/us-east-ix/oca/1"].held {
		st.Titles = append(st.Titles, &ccpb.TitleHeld{TitleId: key.title, Version: key.version, Paths: paths})
	}
	ev := &ccpb.WatchEvent{State: st}
	b.ReportAllocs()
	for b.Loop() {
		st.Counter++
		s.model.apply(ev, time.Now())
	}
}

// A decision allocates nothing.
func TestDecisionAllocations(t *testing.T) {
	s := benchServer(t, 6, 1)
	addr := netip.MustParseAddr("198.18.0.7")
	allocs := testing.AllocsPerRun(100, func() {
		q := query{addr: addr, nowMS: time.Now().UnixMilli(), want: most}
		if _, ok := s.decide(&q, s.table.Load(), "tt-0"); !ok {
			t.Fatal("nobody")
		}
	})
	if allocs > 0 {
		t.Errorf("%v allocations per decision, want none", allocs)
	}
}
