package abr

import "math"

// The belief is a bank of Kalman filters, one per hypothesis of how the
// network behaves. Each takes the logarithm of the throughput as a level that
// wanders around a long-run mean (an Ornstein-Uhlenbeck process) seen through
// noise, and each is weighted by how well it has predicted. So a steady line,
// a mobile one that fades within seconds and a shared one that changes by the
// minute are told apart within some transfers, without a constant tuned to any.
var (
	// relaxMS is how long the level remembers, spreads its standard deviation
	// around the mean, noises that of what one second shows; both of ln kbit/s.
	relaxMS = [...]float64{4e3, 12e3, 40e3, 150e3}
	spreads = [...]float64{0.08, 0.2, 0.4, 0.75, 1.2}
	noises  = [...]float64{0.04, 0.15, 0.4}
)

const (
	models = len(relaxMS) * len(spreads) * len(noises)
	// meanHalfLifeMS of the long-run mean, by download time.
	meanHalfLifeMS = 120e3
	// memory is the share of the evidence that is kept per second of samples.
	memory = 0.985
	// sampleMS of a download make a sample. Shorter ones do when a transfer
	// ends.
	sampleMS = 1000
	// studentDOF: evidence by Student's t with so many degrees of freedom, for
	// a surprise must not decide alone.
	studentDOF = 4
)

type kalman struct {
	level, variance float64
	relax           float64 // ms
	spread, noise   float64 // variances
	evidence        float64 // log
}

// belief about the throughput.
type belief struct {
	bank    [models]kalman
	known   bool
	logMean float64
	weight  float64 // of the mean, ms

	// What the bank says together: the level now and its variance, and how it
	// will wander.
	level, variance      float64
	relax, spread, noise float64 // spread and noise are variances
}

func newBelief() *belief {
	b := &belief{}
	i := 0
	for _, r := range relaxMS {
		for _, s := range spreads {
			for _, n := range noises {
				// A priori all but the calmest are likely.
				b.bank[i] = kalman{relax: r, spread: s * s, noise: n * n}
				i++
			}
		}
	}
	return b
}

// see takes a sample: kbit/s over ms of download, idleMS after the last one.
func (b *belief) see(ms, kbps, idleMS float64) {
	if !(ms > 0) || !(kbps > 0) || math.IsInf(kbps, 0) {
		return
	}
	y := math.Log(kbps)
	if !b.known {
		b.known, b.logMean, b.weight = true, y, ms
		for i := range b.bank {
			k := &b.bank[i]
			k.level, k.variance = y, k.noise*1000/max(ms, 250)
		}
		b.sum()
		return
	}
	keep := math.Exp2(-ms / meanHalfLifeMS)
	b.weight = b.weight*keep + ms
	b.logMean += (y - b.logMean) * ms / b.weight
	// How sure the mean is: the variance of a mean of correlated values.
	forget := math.Pow(memory, ms/1000)
	for i := range b.bank {
		k := &b.bank[i]
		k.drift(ms+idleMS, b.logMean)
		noise := k.noise * 1000 / max(ms, 100)
		total := k.variance + noise
		miss := y - k.level
		k.evidence = k.evidence*forget + min(ms/1000, 1)*student(miss*miss/total, total)
		gain := k.variance / total
		k.level += gain * miss
		k.variance *= 1 - gain
	}
	b.sum()
}

// student is the log likelihood of a squared standardised error, up to a
// constant.
func student(z2, variance float64) float64 {
	return -0.5*math.Log(variance) - (studentDOF+1)/2*math.Log1p(z2/studentDOF)
}

// drift lets ms pass unseen.
func (k *kalman) drift(ms, mean float64) {
	rho := math.Exp(-ms / k.relax)
	k.level = mean + rho*(k.level-mean)
	k.variance = rho*rho*k.variance + (1-rho*rho)*k.spread
}

// sum weighs the bank.
func (b *belief) sum() {
	best := math.Inf(-1)
	for i := range b.bank {
		best = max(best, b.bank[i].evidence)
	}
	var total, level, square, relax, spread, noise float64
	for i := range b.bank {
		k := &b.bank[i]
		if k.evidence < best-12 {
			continue
		}
		w := math.Exp(k.evidence - best)
		total += w
		level += w * k.level
		square += w * (k.variance + k.level*k.level)
		relax += w * math.Log(k.relax)
		spread += w * k.spread
		noise += w * k.noise
	}
	b.level = level / total
	b.variance = max(square/total-b.level*b.level, 0)
	b.relax = math.Exp(relax / total)
	b.spread, b.noise = spread/total, noise/total
}
