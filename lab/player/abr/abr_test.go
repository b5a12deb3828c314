package abr

import (
	"math"
	"testing"

	"github.com/flix-lab/flix/services"
)

// ladder of segments that are exactly as large as their bit rates say.
func ladder(segments int, segmentMS float64, kbps ...float64) Ladder {
	l := Ladder{SegmentMS: segmentMS, Kbps: kbps}
	for range segments {
		var row []float64
		for _, k := range kbps {
			row = append(row, k*segmentMS)
		}
		l.Bits = append(l.Bits, row)
	}
	return l
}

func TestEveryNameMakesAnAlgorithm(t *testing.T) {
	l := ladder(10, 2000, 100, 200)
	for _, name := range Names() {
		a, err := New(name, l, 20000, Calm)
		if err != nil || !Known(name) {
			t.Fatalf("%s: %v", name, err)
		}
		if q := a.First(); q != 0 {
			t.Errorf("%s begins with rung %d while nothing is known", name, q)
		}
	}
	if _, err := New("nosuch", l, 20000, Calm); services.KindOf(err) != services.Invalid || Known("nosuch") {
		t.Errorf("an unknown name gives %v", err)
	}
}

// TestOneRung: there is nothing to choose, whatever happens.
func TestOneRung(t *testing.T) {
	l := ladder(10, 2000, 100)
	for _, name := range Names() {
		for _, variant := range []Variant{Calm, Eager} {
			a, err := New(name, l, 20000, variant)
			if err != nil {
				t.Fatal(err)
			}
			tr := Transfer{Progress: Progress{Bits: 2e5, Received: 2e5, ElapsedMS: 300, FirstByteMS: 20}}
			v := View{Next: 1, BufferMS: 2000, Buffered: []int{0}, ThroughputKbps: 700, LatencyMS: 20}
			a.Done(v, tr)
			if _, yes := a.Replace(v, false); yes {
				t.Errorf("%s replaces", name)
			}
			if c := a.Next(v); c.Rung != 0 || c.WaitMS != 0 {
				t.Errorf("%s: %+v", name, c)
			}
			if _, yes := a.Progressed(v, Progress{Segment: 1, Bits: 2e5, Received: 1e4, ElapsedMS: 9000, FirstByteMS: 20}); yes {
				t.Errorf("%s gives up the only rung", name)
			}
			a.Seek(4)
		}
	}
}

func TestEstimator(t *testing.T) {
	e := NewEstimator(3000)
	if k, l := e.Throughput(); k != 0 || l != 0 {
		t.Errorf("knows %g kbit/s and %g ms from nothing", k, l)
	}
	e.Push(0, math.Inf(1), 5) // took no time: says nothing
	e.Push(1000, 5000, 100)
	if k, l := e.Throughput(); math.Abs(k-5000) > 1e-6 || math.Abs(l-100) > 1e-6 {
		t.Errorf("one transfer gives %g kbit/s and %g ms", k, l)
	}
	e.Push(1000, 1000, 300)
	// The careful one of the two: the fast average has forgotten more.
	keep := math.Pow(0.5, 1000.0/fastHalfLifeMS)
	want := (keep*(1-keep)*5000 + (1-keep)*1000) / (1 - keep*keep)
	if k, l := e.Throughput(); math.Abs(k-want) > 1e-6 || !(l > 200 && l < 300) {
		t.Errorf("then %g kbit/s and %g ms, want %g", k, l, want)
	}
}

// TestBeliefFollows a network that is steady, then another one.
func TestBeliefFollows(t *testing.T) {
	b := newBelief()
	for range 30 {
		b.see(1000, 4000, 0)
	}
	if math.Abs(b.level-math.Log(4000)) > 0.02 || b.variance > 0.01 || b.spread > 0.1 {
		t.Errorf("after half a minute of 4 Mbit/s: level %.3f, variance %.4f, spread %.4f", math.Exp(b.level), b.variance, b.spread)
	}
	b.see(1000, 200, 0)
	if !b.holes.in {
		t.Error("a twentieth of the throughput is no hole")
	}
	if math.Abs(b.level-math.Log(200)) > 0.2 {
		t.Errorf("believes in %.0f kbit/s while 200 come", math.Exp(b.level))
	}
	for range 5 {
		b.see(1000, 200, 0)
	}
	b.see(1000, 4000, 0)
	if b.holes.in || math.Abs(b.level-math.Log(4000)) > 0.1 {
		t.Errorf("out of the hole it believes in %.0f kbit/s", math.Exp(b.level))
	}
	h := b.holes.expect()
	if h.lastMS[brief] < 5000 || h.lastMS[brief] > 9000 || h.depth < 2 || h.depth > 3.2 {
		t.Errorf("expects holes of %+v after one of 6 s to a twentieth", h)
	}
	for range 120 {
		b.see(1000, 200, 0)
	}
	if b.holes.in || math.Abs(b.mean-math.Log(200)) > 0.1 {
		t.Errorf("after two minutes of 200 kbit/s it still waits for the hole to end: mean %.0f", math.Exp(b.mean))
	}
}

// TestBeliefStaysFinite whatever it is shown.
func TestBeliefStaysFinite(t *testing.T) {
	b := newBelief()
	for _, s := range [][3]float64{{0, 100, 0}, {-1, 100, 0}, {10, 0, 0}, {10, math.Inf(1), 0}, {10, math.NaN(), 0}, {1e-9, 1e12, 0}, {1e9, 1e-9, 1e9}, {5, 1e9, 0}} {
		b.see(s[0], s[1], s[2])
	}
	for _, x := range []float64{b.level, b.variance, b.mean, b.spread, b.relax, b.noise} {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			t.Fatalf("the belief is %+v", []float64{b.level, b.variance, b.mean, b.spread, b.relax, b.noise})
		}
	}
}

// TestChainKeepsMoments: the states of the plan have the process's mean,
// variance and autocorrelation.
func TestChainKeepsMoments(t *testing.T) {
	p := plan{segmentMS: 2000, utilities: []float64{0}}
	const mean, spread, relax = 7.5, 0.3, 9000.0
	p.network(mean, spread, relax, seldom(0, 1, 3))
	rho := math.Exp(-2000 / relax)
	weights := [ordinary]float64{1. / 64, 6. / 64, 15. / 64, 20. / 64, 15. / 64, 6. / 64, 1. / 64}
	var m, v, c float64
	for i, w := range weights {
		m += w * p.logs[i]
		sum := 0.0
		for j, x := range p.move[i] {
			sum += x
			c += w * x * (p.logs[i] - mean) * (p.logs[j] - mean)
		}
		if math.Abs(sum-1) > 1e-9 {
			t.Errorf("state %d goes on with probability %g", i, sum)
		}
		v += w * (p.logs[i] - mean) * (p.logs[i] - mean)
	}
	if math.Abs(m-mean) > 1e-9 || math.Abs(v-spread) > 1e-9 || math.Abs(c-rho*spread) > 1e-9 {
		t.Errorf("mean %g, variance %g, covariance %g; want %g, %g, %g", m, v, c, mean, spread, rho*spread)
	}
}

// TestPlannerGivesUpAHopelessDownload, and lets a good one be.
func TestPlannerGivesUpAHopelessDownload(t *testing.T) {
	l := ladder(100, 2000, 300, 1000, 3000)
	p := NewPlanner(l, 20000)
	for i := range 5 {
		p.Done(View{}, Transfer{Progress: Progress{Segment: i, Rung: 2, Bits: 6e6, Received: 6e6, ElapsedMS: 1020, FirstByteMS: 20}})
	}
	v := View{Next: 5, BufferMS: 9000, Buffered: []int{2, 2, 2, 2, 2}, ThroughputKbps: 6000, LatencyMS: 20}
	if c := p.Next(v); c.Rung != 2 {
		t.Fatalf("takes rung %d of a network twice as fast as the top one", c.Rung)
	}
	if _, yes := p.Progressed(v, Progress{Segment: 5, Rung: 2, Bits: 6e6, Received: 4e6, ElapsedMS: 1020, FirstByteMS: 20}); yes {
		t.Error("gives up a download that goes as expected")
	}
	// 40 kbit/s from then on: at first it may be a brief hole, after which the rest
	// comes at once, and while it lasts the lowest rung would stall as well, at a
	// seventh of its rate. Once it counts as long, less is to come.
	after := 0
	for ; after < 60; after++ {
		v.BufferMS = max(0, 8000-1000*float64(after))
		d := Progress{Segment: 5, Rung: 2, Bits: 6e6, Received: 4e6 + 40e3*float64(after+1), ElapsedMS: 2020 + 1000*float64(after), FirstByteMS: 20}
		if to, yes := p.Progressed(v, d); yes {
			if to != 0 {
				t.Errorf("gives up for rung %d at 40 kbit/s", to)
			}
			break
		}
	}
	if after > longAfterMS/1000 {
		t.Errorf("after %d s of 40 kbit/s it has not given up, with 8 s of buffer", after)
	}
}

// TestPlannerReplaces low segments once the network is known to be fast, never
// the one that plays.
func TestPlannerReplaces(t *testing.T) {
	l := ladder(100, 2000, 300, 1000, 3000)
	p := NewPlanner(l, 20000)
	for i := range 9 {
		p.Done(View{}, Transfer{Progress: Progress{Segment: i, Bits: 6e6, Received: 6e6, ElapsedMS: 120, FirstByteMS: 20}})
	}
	v := View{Next: 10, BufferMS: 19000, PlayedMS: 1000, Buffered: []int{0, 0, 0, 0, 0, 2, 2, 2, 2, 2}, ThroughputKbps: 60000, LatencyMS: 20}
	r, yes := p.Replace(v, true)
	if !yes || r.Buffered < 1 || r.Buffered > 4 || r.Rung != 2 {
		t.Fatalf("with a full buffer and twenty times the throughput: %+v, %v", r, yes)
	}
	v.Buffered = []int{0, 2, 2, 2, 2, 2, 2, 2, 2, 2}
	if r, yes := p.Replace(v, true); yes {
		t.Errorf("replaces %+v where only the one that plays is low", r)
	}
}

// What was decided in the middle of a download holds: the segment is not begun
// again in a rung above the one it was given up for, and a replacement that was
// given up is not tried again before another segment has come. It was, up to
// fourteen hundred times in a title of ten minutes.
func TestPlannerKeepsItsWord(t *testing.T) {
	l := ladder(100, 2000, 300, 1000, 3000)
	p := NewPlanner(l, 20000)
	for i := range 9 {
		p.Done(View{}, Transfer{Progress: Progress{Segment: i, Bits: 6e6, Received: 6e6, ElapsedMS: 120, FirstByteMS: 20}})
	}
	v := View{Next: 10, BufferMS: 19000, PlayedMS: 1000, Buffered: []int{0, 0, 0, 0, 0, 2, 2, 2, 2, 2}, ThroughputKbps: 60000, LatencyMS: 20}
	part := Progress{Segment: 10, Rung: 2, Bits: 6e6, Received: 1e6, ElapsedMS: 37, FirstByteMS: 20}
	if c := p.Next(v); c.Rung != 2 {
		t.Fatalf("takes rung %d of a network twenty times as fast as the top one", c.Rung)
	}
	p.Done(v, Transfer{Progress: part, Abandoned: true, AbandonedTo: 1})
	if c := p.Next(v); c.Rung > 1 {
		t.Errorf("begins the segment in rung %d after it was given up for rung 1", c.Rung)
	}
	if _, yes := p.Replace(v, true); !yes {
		t.Fatal("replaces nothing")
	}
	part.Segment, part.Replaces = 2, true
	p.Done(v, Transfer{Progress: part, Abandoned: true, AbandonedTo: -1})
	if r, yes := p.Replace(v, true); yes {
		t.Errorf("replaces %+v right after it gave a replacement up", r)
	}
	part.Segment, part.Replaces, part.Received = 10, false, part.Bits
	p.Done(v, Transfer{Progress: part})
	v.Next, v.Buffered = 11, append(v.Buffered, 1)
	if c := p.Next(v); c.Rung != 2 {
		t.Errorf("takes rung %d for a segment that was never given up", c.Rung)
	}
	if _, yes := p.Replace(v, true); !yes {
		t.Error("replaces nothing any more")
	}
}

// A transfer that outlasts a hole goes on at the usual level, and one that
// outlasts the level's memory at the mean's.
func TestATransferOutlastsItsState(t *testing.T) {
	p := plan{segmentMS: 2000, utilities: []float64{0}}
	p.network(math.Log(1000), 0.25, 5000, seldom(1e-6, 4000, 3))
	if got, want := p.took(hole, 10), 10/p.kbps[hole]; math.Abs(got-want) > 0.05*want {
		t.Errorf("10 bits in a hole take %g ms, want about %g", got, want)
	}
	if got := p.took(hole, 20e6); got < 22e3 || got > 25e3 {
		t.Errorf("20 Mbit from inside a hole of 4 s, then 1 Mbit/s: %g ms", got)
	}
	for s := range ordinary {
		if got, want := p.took(s, 400e6), 400e3; math.Abs(got-want) > 0.1*want {
			t.Errorf("400 Mbit from state %d take %g ms, want about %g: the mean's", s, got, want)
		}
	}
	for s := 1; s < ordinary; s++ {
		if a, b := p.took(s-1, 8e6), p.took(s, 8e6); a <= b {
			t.Errorf("8 Mbit take %g ms in state %d and %g in a faster one", a, s-1, b)
		}
	}
}

// The shares of the states are of one network, above, amid and below them, and in
// a hole.
func TestSharesAreOfOne(t *testing.T) {
	p := plan{segmentMS: 2000, utilities: []float64{0}}
	p.network(math.Log(5000), 0.002, 5000, seldom(1e-5, 4000, 2))
	for _, level := range []float64{p.logs[hole] - 1, p.logs[hole], p.logs[hole] + 0.5, p.logs[0], p.logs[ordinary/2], p.logs[ordinary-1] + 1} {
		sum := 0.0
		for _, share := range p.spread(level, 0.003) {
			sum += share
		}
		if math.Abs(sum-1) > 1e-9 {
			t.Errorf("at ln kbit/s %.2f the shares sum up to %g", level, sum)
		}
	}
}

// The mean is in doubt until it has been seen for much longer than the level
// remembers.
func TestBeliefDoubtsItsMean(t *testing.T) {
	b := newBelief()
	b.see(1000, 4000, 0)
	if b.doubt < 0.9*b.spread {
		t.Errorf("after a second the mean's variance is %.4f, of a spread of %.4f", b.doubt, b.spread)
	}
	first := b.doubt
	for range 600 {
		b.see(1000, 4000, 0)
	}
	if b.doubt > first/2 {
		t.Errorf("after ten minutes the mean's variance is %.4f, after a second it was %.4f", b.doubt, first)
	}
}

// Where transfers go by the long run, those of all states take the same time.
func TestTransfersArePulled(t *testing.T) {
	p := plan{segmentMS: 2000, utilities: []float64{0}}
	p.network(math.Log(1000), 0.25, 5000, seldom(1e-6, 4000, 3))
	p.usual = math.Log(1500)
	for s := range states {
		p.pull = 0
		alone := p.took(s, 8e6)
		if alone != p.alone(s, 8e6) {
			t.Errorf("without a pull 8 Mbit take %g ms in state %d", alone, s)
		}
		p.pull = 0.5
		if got, want := p.took(s, 8e6), math.Sqrt(alone*8e6/1500); math.Abs(got-want) > 1e-6*want {
			t.Errorf("half pulled, 8 Mbit take %g ms in state %d, want %g", got, s, want)
		}
		p.pull = 1
		if got := p.took(s, 8e6); math.Abs(got-8e6/1500) > 1e-6*got {
			t.Errorf("pulled, 8 Mbit take %g ms in state %d, want %g", got, s, 8e6/1500.)
		}
		if got := p.took(s, 0); got != 0 {
			t.Errorf("nothing takes %g ms", got)
		}
	}
}

// A step of several segments comes to what they come to one by one, where nothing is
// in doubt: their utility, and the stalls when they come slower than they play. Only
// what the first keeps an empty buffer waiting is not seen, if they come faster.
func TestAStepOfSeveralSegments(t *testing.T) {
	p := plan{segmentMS: 1000, latencyMS: 50, mostMS: 40e3, penalty: 0.006, utilities: []float64{0.7}}
	p.grid()
	for _, kbps := range []float64{400, 700, 5000} {
		p.network(math.Log(kbps), 1e-12, 1e12, seldom(0, 1000, 0))
		for _, levelMS := range []float64{1500, 6000, 30e3} {
			const n = 8
			want, left := 0.0, levelMS
			for range n {
				left -= p.latencyMS + 1e6/kbps
				want += 0.7 + p.penalty*min(left, 0)
				left = max(left, 0) + p.segmentMS
			}
			var follow, before table
			for s := range follow {
				for b := range follow[s] {
					follow[s][b] = p.level[b] / 1000 // so that the buffer left shows
				}
			}
			want += min(left, p.mostMS) / 1000
			p.strides(n)
			p.back([]float64{n * 1e6}, &follow, &before)
			if got := p.at(&before[ordinary/2], levelMS); math.Abs(got-want) > 0.05*(1+math.Abs(want)) {
				t.Errorf("eight segments at %g kbit/s from %g ms are worth %.2f, one by one %.2f", kbps, levelMS, got, want)
			}
			p.strides(1)
		}
	}
}

// A stall costs what would have been played meanwhile, too, in a title that is short
// from the first.
func TestAStallCostsTheAverage(t *testing.T) {
	for _, segments := range []int{15, 30} {
		p := NewPlanner(ladder(segments, 2000, 500, 1000, 2000), 20000)
		p.Done(View{}, Transfer{Progress: Progress{Bits: 1e6, Received: 1e6, ElapsedMS: 520, FirstByteMS: 20}})
		v := View{Next: 1, BufferMS: 2000, Buffered: []int{0}, ThroughputKbps: 2000, LatencyMS: 20}
		p.Next(v)
		if top := math.Log(4); p.average < top/3 || p.average > top {
			t.Errorf("%d segments: at the top rung's bit rate the average utility is %.2f, that rung's is %.2f", segments, p.average, top)
		}
		v.Next = 2
		p.Next(v)
		if want := (gammaSeconds + 0.4) / 2000; p.plan.penalty < want {
			t.Errorf("%d segments: a millisecond of stall costs %.5f, want %.5f at the least", segments, p.plan.penalty, want)
		}
	}
}

// seldom are holes of both kinds alike.
func seldom(perMS, lastMS, depth float64) holes {
	return holes{perMS: [kinds]float64{perMS / 2, perMS / 2}, lastMS: [kinds]float64{lastMS, lastMS}, depth: depth, share: [kinds]float64{0.5, 0.5}}
}

// What comes of a transfer from inside a hole is of one, and takes its mean time.
func TestCoursesThroughAHole(t *testing.T) {
	p := plan{segmentMS: 4000}
	p.network(math.Log(1000), 0.25, 5000, seldom(1e-6, 4000, 3))
	for _, bits := range []float64{10, 1e5, 1e6, 20e6} {
		weight, mean := 0.0, 0.0
		for _, c := range p.through(hole, bits) {
			weight += c.weight
			mean += c.weight * c.ms
		}
		if want := p.took(hole, bits); math.Abs(weight-1) > 1e-9 || math.Abs(mean-want) > 0.15*want {
			t.Errorf("%g bits: weight %g, mean %g ms, want 1 and about %g", bits, weight, mean, want)
		}
	}
}

// Where transfers go by the long run, those out of a hole do.
func TestCoursesGoByTheLongRun(t *testing.T) {
	p := plan{segmentMS: 4000}
	p.network(math.Log(1000), 0.25, 5000, seldom(1e-6, 4000, 3))
	before := p.through(hole, 1e5)
	p.pull, p.usual = 0.9, math.Log(1000)
	if after := p.through(hole, 1e5); after[0].ms >= before[0].ms {
		t.Errorf("%g ms by the long run, %g ms without", after[0].ms, before[0].ms)
	}
}

// Any number of brief holes leaves long ones as long as they were thought, and
// a hole that has lasted is more likely one of those.
func TestBriefHolesSayNothingOfLongOnes(t *testing.T) {
	d := digger{watchedMS: 600e3, number: [kinds]float64{brief: 20}, insideMS: [kinds]float64{brief: 40e3}, depth: 50}
	h := d.expect()
	if h.lastMS[brief] > 3000 || h.lastMS[long] != priorLastMS[long] {
		t.Errorf("after twenty holes of 2 s it expects %+v", h)
	}
	young := h.share[long]
	h.since(15e3)
	if !(h.share[long] > 0.9 && young < 0.2) {
		t.Errorf("long with %.2f at its begin, with %.2f after 15 s", young, h.share[long])
	}
}
