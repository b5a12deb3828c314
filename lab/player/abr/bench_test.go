package abr

import (
	"math/rand/v2"
	"testing"
)

// busy returns a planner in the middle of a title, and what it is shown.
func busy(tb testing.TB) (*Planner, View) {
	tb.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	l := ladder(200, 3000, 230, 331, 477, 688, 991, 1427, 2056, 2962, 5027, 6000)
	p := NewPlanner(l, 25000)
	for i := range 40 {
		ms := 500 + 1500*r.Float64()
		bits := ms * 3000 * (0.5 + r.Float64())
		p.Done(View{}, Transfer{Progress: Progress{Segment: i, Bits: bits, Received: bits, ElapsedMS: ms + 50, FirstByteMS: 50}})
	}
	return p, View{Next: 60, BufferMS: 15000, Buffered: []int{3, 4, 5, 4, 5}, ThroughputKbps: 2800, LatencyMS: 50}
}

// BenchmarkDecision is what the default algorithm takes for one segment, in the
// middle of a title of ten rungs and near its end, where it plans farthest.
func BenchmarkDecision(b *testing.B) {
	for _, at := range []struct {
		name string
		next int
	}{{"middle", 60}, {"end", 200 - endgame}} {
		b.Run(at.name, func(b *testing.B) {
			p, v := busy(b)
			v.Next = at.next
			p.Next(v)
			for b.Loop() {
				p.planned = -1
				p.Replace(v, false)
				p.Next(v)
			}
		})
	}
}

// BenchmarkFirstDecision has no plan to begin with.
func BenchmarkFirstDecision(b *testing.B) {
	for b.Loop() {
		p, v := busy(b)
		p.Next(v)
	}
}

// BenchmarkProgressed is a look at a download under way.
func BenchmarkProgressed(b *testing.B) {
	p, v := busy(b)
	p.Next(v)
	d := Progress{Segment: 60, Rung: 9, Bits: 18e6, Received: 4e6, ElapsedMS: 900, FirstByteMS: 50}
	for b.Loop() {
		p.Progressed(v, d)
	}
}
