package abr

import (
	"math"
	"testing"
)

// TestSurprise: what is as predicted lowers the variance to nothing, what is
// always off by a factor raises it to that factor's square, and an error that the
// belief had expected does neither.
func TestSurprise(t *testing.T) {
	var calm, off, known surprise
	for range 300 {
		calm.predict(8, 0)
		calm.see(8)
		off.predict(8, 0)
		off.see(8 + 0.7)
		known.predict(8, 0.49)
		known.see(8 - 0.7)
	}
	if v := calm.beyond(); v > 0.01 {
		t.Errorf("of transfers as predicted: %g", v)
	}
	if v := off.beyond(); math.Abs(v-0.49) > 0.05 {
		t.Errorf("of transfers off by 0.7: %g", v)
	}
	if v := known.beyond(); v > 0.01 {
		t.Errorf("of an error that was expected: %g", v)
	}
	off.predict(8, 0)
	for _, x := range []float64{math.Inf(-1), math.NaN(), -1e9} {
		off.see(x)
	}
	if v := off.beyond(); math.IsNaN(v) || v < 0 || v > mostSurprise {
		t.Errorf("after nonsense: %g", v)
	}
}

// TestPull: transfers that go by the long run are told from those that do as
// predicted, and what is left of the error is no surprise.
func TestPull(t *testing.T) {
	var long, near surprise
	for i := range 200 {
		predicted := math.Log(1000) + []float64{-0.8, 0.8}[i%2]
		for _, s := range []*surprise{&long, &near} {
			s.sample(2000, 2e6)
			s.predict(predicted, 0)
		}
		long.see(math.Log(1000))
		near.see(predicted)
	}
	if share, usual := long.pull(); share != mostPull || math.Abs(usual-math.Log(1000)) > 0.01 {
		t.Errorf("of transfers at 1 Mbit/s whatever was predicted: %g of the way to %.0f kbit/s", share, math.Exp(usual))
	}
	if v := long.beyond(); v > 0.02 {
		t.Errorf("their variance is %g", v)
	}
	if share, _ := near.pull(); share != 0 {
		t.Errorf("of transfers as predicted: %g of the way", share)
	}
	var none surprise
	if share, usual := none.pull(); share != 0 || usual != 0 {
		t.Errorf("of nothing: %g of the way to %g", share, usual)
	}
}

// TestUnsurePlanStallsMore: where a transfer may take longer, a thin buffer is
// worth less, and a full one nearly the same.
func TestUnsurePlanStallsMore(t *testing.T) {
	p := plan{segmentMS: 2000, mostMS: 20000, penalty: 5. / 2000, utilities: []float64{0}}
	p.grid()
	p.network(math.Log(1000), 0.01, 10000, seldom(1e-6, 1000, 2))
	var end table
	worth := func(variance, levelMS float64) float64 {
		p.unsure(variance)
		return p.after(&end, ordinary/2, levelMS, 1.8e6, 0)
	}
	if sure, unsure := worth(0, 2000), worth(0.25, 2000); sure != 0 || unsure > -0.3 {
		t.Errorf("2 s of buffer for a transfer of 1.8 s: %g if it is sure, %g if not", sure, unsure)
	}
	if x := worth(0.25, 18000); x != 0 {
		t.Errorf("18 s of buffer for a transfer of 1.8 s: %g", x)
	}
}
