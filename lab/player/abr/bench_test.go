package abr

import (
	"math/rand/v2"
	"testing"
)

// busy returns a planner in the middle of a title, with a buffer of at most bufferMS,
// and what it is shown.
func busy(tb testing.TB, bufferMS float64) (*Planner, View) {
	tb.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	l := ladder(200, 3000, 230, 331, 477, 688, 991, 1427, 2056, 2962, 5027, 6000)
	p := NewPlanner(l, bufferMS)
	for i := range 40 {
		ms := 500 + 1500*r.Float64()
		bits := ms * 3000 * (0.5 + r.Float64())
		p.Done(View{}, Transfer{Progress: Progress{Segment: i, Bits: bits, Received: bits, ElapsedMS: ms + 50, FirstByteMS: 50}})
	}
	return p, View{Next: 60, BufferMS: 15000, Buffered: []int{3, 4, 5, 4, 5}, ThroughputKbps: 2800, LatencyMS: 50}
}

// BenchmarkDecision is what the default algorithm takes for one segment, in the
// middle of a title of ten rungs, near its end, which it plans segment by segment, and
// in the middle with a buffer so large that it plans to the end in longer steps.
func BenchmarkDecision(b *testing.B) {
	for _, at := range []struct {
		name     string
		next     int
		bufferMS float64
	}{{"middle", 60, 25000}, {"end", 200 - endgame, 25000}, {"large buffer", 60, 240000}} {
		b.Run(at.name, func(b *testing.B) {
			p, v := busy(b, at.bufferMS)
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
		p, v := busy(b, 25000)
		p.Next(v)
	}
}

// BenchmarkProgressed is a look at a download under way.
func BenchmarkProgressed(b *testing.B) {
	p, v := busy(b, 25000)
	p.Next(v)
	d := Progress{Segment: 60, Rung: 9, Bits: 18e6, Received: 4e6, ElapsedMS: 900, FirstByteMS: 50}
	for b.Loop() {
		p.Progressed(v, d)
	}
}
