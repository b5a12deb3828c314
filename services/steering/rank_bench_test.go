package steering

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	ccpb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

// benchServer knows a preset planet whose appliances hold the given number of
// titles each.
func benchServer(tb testing.TB, regions, titles int) *Server {
	tb.Helper()
	topo, err := topology.Preset(regions)
	if err != nil {
		tb.Fatal(err)
	}
	s := &Server{deps: Deps{Region: "us-east", Timing: topology.LabTiming()}, expiry: time.Hour, log: telemetry.Discard().Log}
	s.table.Store(&table{})
	s.places.Store(newPlaces(topo))
	s.model = newModel(s)
	s.metrics = newMetrics(telemetry.Discard().Metrics, s)
	s.model.begin()
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

// BenchmarkRank is one decision in the preset of six regions (36 appliances).
func BenchmarkRank(b *testing.B) {
	s := benchServer(b, 6, 100)
	v, _ := s.titles.Load("tt-7")
	addr := netip.MustParseAddr("198.18.0.7")
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			q := &query{title: v.(*title), now: time.Now(), expiry: s.expiry}
			if _, err := s.rank(q, addr, "tt-7", most); err != nil {
				b.Fatal(err)
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

// A decision allocates its answer, and little else.
func TestRankAllocations(t *testing.T) {
	s := benchServer(t, 6, 1)
	v, _ := s.titles.Load("tt-0")
	addr := netip.MustParseAddr("198.18.0.7")
	allocs := testing.AllocsPerRun(100, func() {
		q := &query{title: v.(*title), now: time.Now(), expiry: s.expiry}
		if _, err := s.rank(q, addr, "tt-0", most); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 6 {
		t.Errorf("%v allocations per decision, want at most 6", allocs)
	}
}
