package experiment

import (
	"math"
	"testing"
)

func near(a, b, by float64) bool { return math.Abs(a-b) <= by }

// TestNewcombe checks the intervals against the worked examples of Newcombe's
// papers of 1998: 81 of 263 for one proportion (Wilson: 0.2553 to 0.3662), and
// 56/70 − 48/80 (method 10: 0.0524 to 0.3339), 9/10 − 3/10 (0.1705 to 0.8090),
// 0/20 − 0/10 (−0.2775 to 0.1611) for a difference.
func TestNewcombe(t *testing.T) {
	if w := wilson(81, 263, z95); !near(w.Low, 0.2553, 5e-5) || !near(w.High, 0.3662, 5e-5) {
		t.Errorf("Wilson: %+v", w)
	}
	for _, c := range []struct {
		k1, n1, k2, n2 int
		low, high      float64
	}{{56, 70, 48, 80, 0.0524, 0.3339}, {9, 10, 3, 10, 0.1705, 0.8090}, {0, 20, 0, 10, -0.2775, 0.1611}} {
		if d := difference(c.k1, c.n1, c.k2, c.n2, z95); !near(d.Low, c.low, 5e-5) || !near(d.High, c.high, 5e-5) {
			t.Errorf("%d/%d − %d/%d: %+v, want %g to %g", c.k1, c.n1, c.k2, c.n2, d, c.low, c.high)
		}
	}
}

func TestConfidence(t *testing.T) {
	few, many := confidence(0, 10, 0, 10, 0.1), confidence(0, 1000, 0, 1000, 0.1)
	if !(few > 0.5 && few < many && many > 0.999) {
		t.Errorf("ten plays give %.3f, a thousand %.3f", few, many)
	}
	if c := confidence(50, 100, 0, 100, 0.1); c > 0.5 {
		t.Errorf("half of the plays failed, and it is sure by %.3f", c)
	}
	if c := confidence(0, 0, 0, 10, 0.1); c != 0 {
		t.Errorf("without a play it is sure by %.3f", c)
	}
	// At the level it gives, the interval meets the margin.
	c := confidence(1, 50, 2, 60, 0.1)
	z := math.Sqrt2 * math.Erfinv(2*c-1)
	if h := difference(1, 50, 2, 60, z).High; !near(h, 0.1, 1e-6) {
		t.Errorf("at %.4f the interval ends at %g", c, h)
	}
}

// TestMannWhitney checks the test against figures worked out by hand: of two
// samples of five without ties, all of one above the other, U is 25, the mean
// 12.5 and the variance 5·5·11/12, so that z is 12/√(275/12) = 2.5067 and p
// 0.00609.
func TestMannWhitney(t *testing.T) {
	a, b := []float64{6, 7, 8, 9, 10}, []float64{1, 2, 3, 4, 5}
	if p := slower(a, b); !near(p, 0.00609, 5e-5) {
		t.Errorf("p = %g", p)
	}
	if p := slower(b, a); p < 0.99 {
		t.Errorf("the faster one is slower with p = %g", p)
	}
	if p := slower([]float64{1, 1, 1}, []float64{1, 1, 1}); p != 1 {
		t.Errorf("of the same p = %g", p)
	}
	if p := slower(nil, a); p != 1 {
		t.Errorf("of nothing p = %g", p)
	}
}

func TestQuantile(t *testing.T) {
	v := []float64{5, 1, 4, 2, 3}
	for q, want := range map[float64]float64{0: 1, 0.5: 3, 0.99: 5, 1: 5} {
		if got := quantile(v, q); got != want {
			t.Errorf("the %g-quantile is %g", q, got)
		}
	}
	if quantile(nil, 0.5) != 0 {
		t.Error("of nothing")
	}
}
