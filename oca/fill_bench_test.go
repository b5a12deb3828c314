package oca_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/topology"
)

// BenchmarkMakespan fills real appliances over loopback, each line capped in
// both directions, and compares the time with the lower bound that cache control
// computes at the start. Tiers: the exchange; ISP sites that fill from it; and
// their second appliances that fill from the first.
func BenchmarkMakespan(b *testing.B) {
	const (
		line  = topology.Rate(20e6)
		files = 192
		size  = 128 << 10
	)
	for _, c := range []struct {
		name              string
		exchange          int
		isps, appliances  int
		heterogeneousFill bool
	}{
		{"1-tier", 4, 0, 0, false},
		{"2-tiers", 2, 2, 1, false},
		{"3-tiers", 2, 2, 2, false},
		{"3-tiers-slow-and-fast", 2, 2, 2, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			var ratio, egress, makespan float64
			for b.Loop() {
				s := newSite(b, 1)
				r := &s.topo.Regions[0]
				machine := topology.Appliance{Capacity: 1 << 30, Bandwidth: 10e9, FillBandwidth: line}
				r.Exchange.Appliances = slices.Repeat([]topology.Appliance{machine}, c.exchange)
				r.ISPs = r.ISPs[:c.isps]
				for i := range r.ISPs {
					r.ISPs[i].Appliances = slices.Repeat([]topology.Appliance{machine}, c.appliances)
				}
				if c.heterogeneousFill { // the exchange has twice the line of the ISPs'
					for i := range r.Exchange.Appliances {
						r.Exchange.Appliances[i].FillBandwidth = 2 * line
					}
				}
				s.startControl("us-east")
				n := s.startAll()
				// Everybody is there before there is anything to fill.
				eventually(b, func() string {
					if known := len(s.status("us-east").Appliances); known < n {
						return fmt.Sprintf("%d of %d appliances are known", known, n)
					}
					return ""
				})
				a := s.title("tt-film", 1, slices.Repeat([]int{size}, files)...)
				start := time.Now()
				s.publish("us-east", a)
				plan, err := s.control("us-east").FillPlan(b.Context(), &pb.FillPlanRequest{})
				if err != nil {
					b.Fatal(err)
				}
				st := fullOf(b, s, n)
				took := time.Since(start)
				makespan += took.Seconds()
				ratio += float64(took.Milliseconds()) / float64(plan.Time.BoundMs)
				egress += float64(s.s3.bytes.Load()) / float64(st.UniqueBytes)
				for _, o := range s.ocas {
					o.stop(b)
				}
				for _, o := range s.controls {
					o.stop(b)
				}
			}
			b.ReportMetric(ratio/float64(b.N), "makespan/bound")
			b.ReportMetric(egress/float64(b.N), "egress/unique")
			b.ReportMetric(makespan/float64(b.N), "s")
		})
	}
}

// fullOf waits, however long, until so many appliances hold all they are
// assigned.
func fullOf(b *testing.B, s *site, n int) *pb.FillStatusReply {
	b.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		st := s.status("us-east")
		full := 0
		for _, a := range st.Appliances {
			if a.Held == a.Assigned && a.Assigned > 0 {
				full++
			}
		}
		if full == n {
			return st
		}
		select {
		case <-b.Context().Done():
			b.Fatal("the bench ended before the fill")
		case <-tick.C:
		}
	}
}
