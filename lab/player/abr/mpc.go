package abr

import "math"

// Constants of robust MPC, after Yin et al., "A Control-Theoretic Approach for
// Dynamic Adaptive Video Streaming over HTTP" (2015), with the numbers of
// Puffer's implementation.
const (
	mpcHorizon = 10
	mpcPast    = 5
	// mpcGridMS is the grain of the buffer in the plan.
	mpcGridMS = 250
	// mpcGridMost bounds the grid.
	mpcGridMost = 480
)

// MPC is robust model-predictive control: it plans the next ten segments for
// one throughput, the harmonic mean of the last five divided by one plus the
// worst error of the last five predictions, and takes the first step.
type MPC struct {
	still
	ladder    Ladder
	bufferMS  float64
	utilities []float64
	past      []float64 // kbit/s of the last transfers
	errors    []float64 // of the predictions made for them
	predicted float64
	latency   float64
	grid      float64
	value     [2][]float64
}

// NewMPC makes robust MPC for a buffer of at most bufferMS.
func NewMPC(l Ladder, bufferMS float64) *MPC {
	grid := max(mpcGridMS, bufferMS/mpcGridMost)
	n := int(bufferMS/grid) + 2
	return &MPC{
		ladder: l, bufferMS: bufferMS, utilities: utilities(l.Kbps, 0), grid: grid,
		value: [2][]float64{make([]float64, n), make([]float64, n)},
	}
}

// Next implements Algorithm.
func (m *MPC) Next(v View) Choice {
	m.predicted = harmonic(m.past)
	if m.predicted == 0 {
		return Choice{}
	}
	worst := 0.0
	for _, e := range m.errors {
		worst = max(worst, e)
	}
	return Choice{Rung: m.plan(v, m.predicted/(1+worst))}
}

// plan solves the horizon backwards over the buffer's grid.
func (m *MPC) plan(v View, kbps float64) int {
	last := min(v.Next+mpcHorizon, len(m.ladder.Bits))
	after, now := m.value[0], m.value[1]
	clear(after)
	for i := last - 1; i > v.Next; i-- {
		for b := range now {
			now[b], _ = m.step(i, float64(b)*m.grid, kbps, after)
		}
		after, now = now, after
	}
	_, rung := m.step(v.Next, v.BufferMS, kbps, after)
	return rung
}

// step is the best that can be had from segment i on at a buffer level.
func (m *MPC) step(i int, levelMS, kbps float64, after []float64) (value float64, rung int) {
	value = math.Inf(-1)
	for q, bits := range m.ladder.Bits[i] {
		took := m.latency + bits/kbps
		stall := max(0, took-levelMS)
		left := min(max(0, levelMS-took)+m.ladder.SegmentMS, m.bufferMS)
		x := m.utilities[q] - gammaSeconds*stall/m.ladder.SegmentMS + after[min(int(left/m.grid), len(after)-1)]
		if x > value {
			value, rung = x, q
		}
	}
	return value, rung
}

// Done implements Algorithm.
func (m *MPC) Done(_ View, t Transfer) {
	took := t.ElapsedMS - t.FirstByteMS
	if took <= 0 || t.Received <= 0 {
		return
	}
	kbps := t.Received / took
	if m.predicted > 0 {
		m.errors = lastOf(append(m.errors, math.Abs(m.predicted-kbps)/kbps), mpcPast)
	}
	m.past = lastOf(append(m.past, kbps), mpcPast)
	m.latency = t.FirstByteMS
}

// lastOf keeps the last n.
func lastOf(s []float64, n int) []float64 {
	if len(s) > n {
		copy(s, s[len(s)-n:])
		s = s[:n]
	}
	return s
}

// harmonic mean; 0 of nothing.
func harmonic(s []float64) float64 {
	if len(s) == 0 {
		return 0
	}
	sum := 0.0
	for _, x := range s {
		sum += 1 / x
	}
	return float64(len(s)) / sum
}
