package sim

import (
	"math"
	"testing"

	"github.com/flix-lab/flix/lab/player/abr"
	"github.com/flix-lab/flix/services"
)

func simple(segments int, kbps ...float64) abr.Ladder { return ofLength(2000, segments, kbps...) }

// ofLength is a title whose segments are exactly as large as their bit rates say.
func ofLength(segmentMS float64, segments int, kbps ...float64) abr.Ladder {
	l := abr.Ladder{SegmentMS: segmentMS, Kbps: kbps}
	for range segments {
		var row []float64
		for _, k := range kbps {
			row = append(row, segmentMS*k)
		}
		l.Bits = append(l.Bits, row)
	}
	return l
}

func play(t testing.TB, name string, l abr.Ladder, trace []Period, bufferS float64) Result {
	t.Helper()
	algo, err := abr.New(name, l, bufferS*1000, abr.Calm)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Play(l, trace, bufferS*1000, algo)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return r
}

// TestScoreByHand: one rung at half the speed of its network's.
func TestScoreByHand(t *testing.T) {
	// Ten segments of 2 s at 100 kbit/s over 50 kbit/s: each takes 4 s, so each
	// but the first makes playback wait 2 s; the session is 4 + 20 + 18 s.
	r := play(t, "throughput", simple(10, 100), []Period{{DurationMS: 1000, BandwidthKbps: 50}}, 25)
	if math.Abs(r.SessionS-42) > 1e-9 || math.Abs(r.RebufferS-18) > 1e-9 || r.RebufferEvents != 9 {
		t.Errorf("%+v", r)
	}
	if want := -5 * 18.0 / 42; math.Abs(r.Score-want) > 1e-9 || r.Utility != 0 || math.Abs(r.BitrateKbps-100*20.0/42) > 1e-9 {
		t.Errorf("score %g, want %g: %+v", r.Score, want, r)
	}
}

// TestExtremes: every algorithm comes to an end, with finite figures.
func TestExtremes(t *testing.T) {
	ladders := map[string]abr.Ladder{
		"one segment": simple(1, 100, 200), "one rung": simple(20, 300), "two segments": simple(2, 100, 5000),
		"close rungs": simple(30, 100, 100.001, 5000), "long": {SegmentMS: 60000, Kbps: []float64{100, 1000}, Bits: [][]float64{{6e6, 6e7}, {6e6, 6e7}, {6e6, 6e7}}},
		"odd sizes": {SegmentMS: 2000, Kbps: []float64{100, 1000}, Bits: [][]float64{{1, 1e9}, {5e8, 1}, {1e3, 1e4}, {2e5, 2e6}, {2e5, 2e6}}},
		"short":     {SegmentMS: 10, Kbps: []float64{100, 1000}, Bits: [][]float64{{1e3, 1e4}, {1e3, 1e4}, {1e3, 1e4}, {1e3, 1e4}}},
	}
	nets := map[string][]Period{
		"fast": {{DurationMS: 1e6, BandwidthKbps: 1e9, LatencyMS: 0}}, "slow": {{DurationMS: 1000, BandwidthKbps: 0.5, LatencyMS: 10}},
		"late": {{DurationMS: 1000, BandwidthKbps: 5000, LatencyMS: 20000}}, "holes": {{DurationMS: 1000, BandwidthKbps: 0}, {DurationMS: 1, BandwidthKbps: 1e6, LatencyMS: 3}},
		"no time": {{DurationMS: 0, BandwidthKbps: 7}, {DurationMS: 500, BandwidthKbps: 700, LatencyMS: 0}},
	}
	for ln, l := range ladders {
		for nn, n := range nets {
			for _, bufferS := range []float64{0.001, 25, 600} {
				for _, name := range abr.Names() {
					r := play(t, name, l, n, bufferS)
					for _, x := range []float64{r.Utility, r.RebufferRatio, r.BitrateKbps, r.ChangeKbps, r.Score, r.SessionS} {
						if math.IsNaN(x) || math.IsInf(x, 0) {
							t.Fatalf("%s over %s, %g s, %s: %+v", ln, nn, bufferS, name, r)
						}
					}
				}
			}
		}
	}
}

// TestSessionIsBounded: a trace of endless tiny periods ends in an error.
func TestSessionIsBounded(t *testing.T) {
	l := simple(3, 1000)
	algo, err := abr.New("throughput", l, 25000, abr.Calm)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Play(l, []Period{{DurationMS: 1e-9, BandwidthKbps: 1e-9}}, 25000, algo); services.KindOf(err) != services.Exhausted {
		t.Errorf("got %v", err)
	}
}

// stubborn gives every download up.
type stubborn struct{ *abr.Throughput }

func (stubborn) Progressed(abr.View, abr.Progress) (int, bool) { return 0, true }

// wild names rungs that there are not.
type wild struct{ *abr.Throughput }

func (wild) Next(abr.View) abr.Choice { return abr.Choice{Rung: 7} }

func TestAlgorithmsGoneMad(t *testing.T) {
	l := simple(5, 1000, 2000)
	net := []Period{{DurationMS: 1000, BandwidthKbps: 100}}
	for name, algo := range map[string]abr.Algorithm{"stubborn": stubborn{abr.NewThroughput(l)}, "wild": wild{abr.NewThroughput(l)}} {
		if _, err := Play(l, net, 25000, algo); services.KindOf(err) != services.Internal {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// replacer fetches the second buffered segment again, once, in the top rung.
type replacer struct {
	*abr.Throughput
	did bool
	top int
}

func (r *replacer) Replace(v abr.View, _ bool) (abr.Replacement, bool) {
	if r.did || len(v.Buffered) < 3 {
		return abr.Replacement{}, false
	}
	r.did = true
	return abr.Replacement{Buffered: 1, Rung: r.top}, true
}

func (r *replacer) Next(abr.View) abr.Choice { return abr.Choice{} }

// TestReplacementCountsInTime: it is played if it came before its segment
// began, and else the old one is.
func TestReplacementCountsInTime(t *testing.T) {
	l := simple(6, 100, 1000)
	in := func(kbps float64) Result {
		r, err := Play(l, []Period{{DurationMS: 1000, BandwidthKbps: kbps}}, 25000, &replacer{Throughput: abr.NewThroughput(l), top: 1})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := in(2000); r.Replaced != 1 || r.ChangeKbps == 0 {
		t.Errorf("in time: %+v", r)
	}
	if r := in(300); r.Replaced != 0 || r.ChangeKbps != 0 {
		t.Errorf("too late: %+v", r)
	}
}

func TestMean(t *testing.T) {
	if m := Mean(nil); m != (Result{}) {
		t.Errorf("of nothing: %+v", m)
	}
	if m := Mean([]Result{{Score: 1, RebufferEvents: 3}, {Score: 2, RebufferEvents: 4}}); m.Score != 1.5 || m.RebufferEvents != 3.5 {
		t.Errorf("%+v", m)
	}
}

// TestDefaultOverWaves: a network that changes within every transfer is worth its
// mean rate, not its slow part's: the default is the best there, and does not begin
// transfers in vain.
func TestDefaultOverWaves(t *testing.T) {
	for _, c := range []struct {
		name               string
		segmentMS, bufferS float64
		trace              []Period
	}{
		{"square", 6000, 60, []Period{{4000, 6000, 50}, {4000, 900, 50}}},
		{"bursts", 10000, 120, []Period{{12000, 600, 100}, {2500, 5000, 100}}},
	} {
		l := ofLength(c.segmentMS, 60, 235, 375, 560, 750, 1050, 1750, 2350, 3000, 4300, 5800)
		own := play(t, "default", l, c.trace, c.bufferS)
		for _, name := range []string{"throughput", "bola", "bolae", "dynamic"} {
			if other := play(t, name, l, c.trace, c.bufferS); other.Score >= own.Score {
				t.Errorf("%s: %s scores %.3f, the default %.3f", c.name, name, other.Score, own.Score)
			}
		}
		if own.Abandoned > 6 {
			t.Errorf("%s: %g of %d transfers are given up", c.name, own.Abandoned, len(l.Bits))
		}
	}
}

// TestDefaultSpendsTheBuffer: a buffer that would last to the end of the title is not
// filled first. Nine tenths of what a steady network gives are played at the least, and
// the default is the best.
func TestDefaultSpendsTheBuffer(t *testing.T) {
	for _, c := range []struct {
		segmentMS, bufferS float64
		segments           int
		kbps               []float64
	}{
		{1000, 120, 76, []float64{169, 320, 605, 1145, 2170, 4103}},
		{1000, 40, 59, []float64{1000, 1400, 2000, 2800, 4000}},
		{2000, 120, 60, []float64{118, 225, 430}},
	} {
		l := ofLength(c.segmentMS, c.segments, c.kbps...)
		gives := 0.8 * c.kbps[len(c.kbps)-1]
		net := []Period{{1000, gives, 40}}
		own := play(t, "default", l, net, c.bufferS)
		if own.BitrateKbps < 0.9*gives || own.RebufferS > 0.1 {
			t.Errorf("%+v: of %.0f kbit/s %.0f are played, with %.1f s of stalls", c, gives, own.BitrateKbps, own.RebufferS)
		}
		for _, name := range []string{"throughput", "bola", "bolae", "dynamic"} {
			if other := play(t, name, l, net, c.bufferS); other.Score >= own.Score {
				t.Errorf("%+v: %s scores %.3f, the default %.3f", c, name, other.Score, own.Score)
			}
		}
	}
}
