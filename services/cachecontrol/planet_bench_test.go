package cachecontrol

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/topology"
)

// bigPlanet is a planner of 10 regions with an exchange and 9 ISPs each, 20
// appliances at every site, and 100,000 files in titles of 10, of which a site
// has room for about a half.
func bigPlanet(b *testing.B) (*planner, time.Time) {
	const regions, isps, perSite, titles, files = 10, 9, 20, 10_000, 10
	p := newPlanner(topology.LabTiming(), func(string) []string { return nil })
	now := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	r := rand.New(rand.NewPCG(1, 1))
	var total uint64
	for i := range titles {
		a := &pb.Asset{TitleId: fmt.Sprintf("tt-%05d", i), Version: 1, Origins: []string{"r0"}, Popularity: 1e6 / float64(i+1)}
		for f := range files {
			var sum [32]byte
			for k := range 4 {
				for j, v := 0, r.Uint64(); j < 8; j, v = j+1, v>>8 {
					sum[8*k+j] = byte(v)
				}
			}
			size := 100_000_000 + r.Uint64N(900_000_000)
			total += size
			a.Files = append(a.Files, &pb.File{Path: fmt.Sprintf("v%d.mp4", f), Size: size, Sha256: sum[:], Kind: "video", Kbps: uint32(f)})
		}
		p.setAsset(a)
	}
	for n := range regions {
		region := fmt.Sprintf("r%d", n)
		for s := range isps + 1 {
			kind, name := topology.SiteISP, fmt.Sprintf("%s-isp-%d", region, s)
			if s == isps {
				kind, name = topology.SiteExchange, region+"-ix"
			}
			for k := range perSite {
				i := nodeInfo{
					id: fmt.Sprintf("%s/%s/oca/%d", region, name, k+1), region: region, site: name, kind: kind, capacity: total / perSite / 2,
					bandwidth: 10e9 + uint64(k%4)*30e9, fill: 10e9, fillURL: "http://x", connected: true,
				}
				p.setNode(i, nil)
			}
		}
	}
	return p, now
}

// cpu is the processor time that this process has used: what planning costs,
// whatever else the machine does.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func heap() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// BenchmarkPlanPlanet is an hour's change: every region's popularity of every
// title moves, one in ten by much, and 2,000 appliances that held all they were
// assigned are planned anew. (Chunk checksums are apart: 1 KiB a file at most.)
func BenchmarkPlanPlanet(b *testing.B) {
	before := heap()
	p, now := bigPlanet(b)
	start := cpu(b)
	p.plan(now)
	first := cpu(b) - start
	for _, n := range p.nodes {
		n.held = slices.Clone(n.assigned.files)
		n.site.ever.add(n.held)
		clear(n.flights)
	}
	p.plan(now)
	memory := heap() - before
	r := rand.New(rand.NewPCG(2, 2))
	orders, hours, worst := 0, 0, time.Duration(0)
	for b.Loop() {
		b.StopTimer()
		now = now.Add(time.Hour)
		for _, n := range p.nodes { // the hour before is filled by now
			n.held.add(n.assigned.files)
			n.site.ever.add(n.held)
			clear(n.flights)
		}
		changes := map[string]map[string]measured{}
		for region := range p.feeds {
			ms := make(map[string]measured, len(p.cat.assets))
			for title, a := range p.cat.assets {
				factor := math.Exp(r.NormFloat64() * 0.05)
				if r.IntN(10) == 0 {
					factor = math.Exp(r.NormFloat64())
				}
				ms[title] = measured{Forecast: a.GetPopularity() * factor, At: now}
			}
			changes[region] = ms
		}
		b.StartTimer()
		start := cpu(b)
		for region, ms := range changes {
			p.measure(region, ms)
		}
		orders += len(p.plan(now))
		worst = max(worst, cpu(b)-start)
		hours++
	}
	b.ReportMetric(first.Seconds(), "cpu-s-first-plan")
	b.ReportMetric(worst.Seconds(), "cpu-s-worst-hour")
	b.ReportMetric(memory/(1<<20), "MiB")
	b.ReportMetric(float64(orders)/float64(hours), "orders/op")
}
