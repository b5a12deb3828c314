package experiment

import (
	"math"
	"slices"
)

// Interval is an estimate with its 95 % confidence interval.
type Interval struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// z95 is the two-sided 95 % quantile of the normal distribution.
const z95 = 1.959963984540054

// wilson is the score interval of a proportion of k in n (Wilson, "Probable
// inference, the law of succession, and statistical inference", JASA 22, 1927),
// which also holds where nothing or everything failed.
func wilson(k, n int, z float64) Interval {
	if n == 0 {
		return Interval{0, 0, 1}
	}
	nf, p, z2 := float64(n), float64(k)/float64(n), z*z
	centre, spread := (p+z2/(2*nf))/(1+z2/nf), z/(1+z2/nf)*math.Sqrt(p*(1-p)/nf+z2/(4*nf*nf))
	return Interval{p, max(0, centre-spread), min(1, centre+spread)}
}

// difference is by how much the proportion k1 in n1 exceeds k2 in n2: the hybrid
// score interval (Newcombe, "Interval estimation for the difference between
// independent proportions", Statistics in Medicine 17, 1998, method 10).
func difference(k1, n1, k2, n2 int, z float64) Interval {
	a, b := wilson(k1, n1, z), wilson(k2, n2, z)
	d := a.Value - b.Value
	return Interval{
		d, d - math.Hypot(a.Value-a.Low, b.High-b.Value),
		d + math.Hypot(a.High-a.Value, b.Value-b.Low),
	}
}

// confidence is how sure it is that k1 in n1 exceeds k2 in n2 by no more than a
// margin: the one-sided level at which the upper end of the difference's
// interval meets it.
func confidence(k1, n1, k2, n2 int, margin float64) float64 {
	if n1 == 0 || n2 == 0 {
		return 0
	}
	if float64(k1)/float64(n1)-float64(k2)/float64(n2) >= margin {
		return 0.5 // no better than a coin, or worse
	}
	low, high := 0.0, 8.0
	for range 60 {
		z := (low + high) / 2
		if difference(k1, n1, k2, n2, z).High <= margin {
			low = z
		} else {
			high = z
		}
	}
	return normal(low)
}

// normal is the distribution function of the standard normal distribution.
func normal(z float64) float64 { return 0.5 * math.Erfc(-z/math.Sqrt2) }

// slower is the probability of seeing a's ranks above b's as far as they are, or
// farther, if both were alike: the one-sided test of Mann and Whitney ("On a test
// of whether one of two random variables is stochastically larger than the
// other", Ann. Math. Stat. 18, 1947), by the normal approximation with the
// correction for ties. 1 where either is empty.
func slower(a, b []float64) float64 {
	n1, n2 := float64(len(a)), float64(len(b))
	if n1 == 0 || n2 == 0 {
		return 1
	}
	type ranked struct {
		v  float64
		of int
	}
	all := make([]ranked, 0, len(a)+len(b))
	for _, v := range a {
		all = append(all, ranked{v, 0})
	}
	for _, v := range b {
		all = append(all, ranked{v, 1})
	}
	slices.SortFunc(all, func(x, y ranked) int {
		switch {
		case x.v < y.v:
			return -1
		case x.v > y.v:
			return 1
		}
		return 0
	})
	sum, ties := 0.0, 0.0
	for i := 0; i < len(all); {
		j := i
		for j < len(all) && all[j].v == all[i].v {
			j++
		}
		rank, t := float64(i+j+1)/2, float64(j-i)
		ties += t*t*t - t
		for ; i < j; i++ {
			if all[i].of == 0 {
				sum += rank
			}
		}
	}
	n := n1 + n2
	u, mean := sum-n1*(n1+1)/2, n1*n2/2
	sigma := math.Sqrt(n1 * n2 / 12 * ((n + 1) - ties/(n*(n-1))))
	if sigma == 0 || math.IsNaN(sigma) {
		return 1
	}
	return 1 - normal((u-mean-0.5)/sigma)
}

// quantile is the q-quantile of values by nearest rank; 0 of none.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	v := slices.Clone(values)
	slices.Sort(v)
	return v[min(len(v)-1, max(0, int(math.Ceil(q*float64(len(v))))-1))]
}
