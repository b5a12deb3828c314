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
	relaxMS = [...]float64{3e3, 10e3, 40e3}
	spreads = [...]float64{0.08, 0.2, 0.4, 0.8}
	noises  = [...]float64{0.04, 0.15, 0.4}
	// meanMS is the half-life of the long-run mean, by download time.
	meanMS = [...]float64{15e3, 60e3, 240e3}
)

const (
	models = len(relaxMS) * len(spreads) * len(noises) * len(meanMS)
	// memory is the share of the evidence that is kept per second of samples.
	memory = 0.985
	// sampleMS of a download make a sample. Shorter ones do when a transfer
	// ends.
	sampleMS = 1000
	// studentDOF: evidence by Student's t with so many degrees of freedom, for
	// a surprise must not decide alone.
	studentDOF = 4
	// jump is the error, in standard deviations, that no wandering explains.
	jump = 4
)

type kalman struct {
	level, variance float64
	mean, weight    float64 // weight of the mean in ms
	relax, memory   float64 // ms; memory is the mean's half-life
	spread, noise   float64 // variances
	evidence        float64 // log
}

// belief about the throughput.
type belief struct {
	bank  [models]kalman
	known bool

	// What the bank says together: the level now and its variance, and how it
	// will wander.
	level, variance, mean float64
	relax, spread, noise  float64 // spread and noise are variances
	doubt                 float64 // variance of the mean: that it was seen for so short a time

	holes digger
}

func newBelief() *belief {
	b := &belief{}
	i := 0
	for _, r := range relaxMS {
		for _, s := range spreads {
			for _, n := range noises {
				for _, m := range meanMS {
					b.bank[i] = kalman{relax: r, spread: s * s, noise: n * n, memory: m}
					i++
				}
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
	b.holes.see(y, ms, ms+idleMS, b)
	forget := math.Pow(memory, ms/1000)
	for i := range b.bank {
		k := &b.bank[i]
		noise := k.noise * 1000 / max(ms, 100)
		if !b.known {
			k.level, k.variance, k.mean, k.weight = y, noise, y, ms
			continue
		}
		k.drift(ms + idleMS)
		total := k.variance + noise
		miss := y - k.level
		k.evidence = k.evidence*forget + min(ms/1000, 1)*student(miss*miss/total, total)
		if miss*miss > jump*jump*total {
			// Not a move but another network: start over.
			k.level, k.variance, k.mean, k.weight = y, noise, y, ms
			continue
		}
		gain := k.variance / total
		k.level += gain * miss
		k.variance *= 1 - gain
		k.weight = k.weight*math.Exp2(-ms/k.memory) + ms
		k.mean += (y - k.mean) * ms / k.weight
	}
	b.known = true
	b.sum()
}

// student is the log likelihood of a squared standardised error, up to a
// constant.
func student(z2, variance float64) float64 {
	return -0.5*math.Log(variance) - (studentDOF+1)/2*math.Log1p(z2/studentDOF)
}

// drift lets ms pass unseen.
func (k *kalman) drift(ms float64) {
	rho := math.Exp(-ms / k.relax)
	k.level = k.mean + rho*(k.level-k.mean)
	k.variance = rho*rho*k.variance + (1-rho*rho)*k.spread
}

// sum weighs the bank.
func (b *belief) sum() {
	best := math.Inf(-1)
	for i := range b.bank {
		best = max(best, b.bank[i].evidence)
	}
	var total, level, square, mean, relax, spread, noise, doubt float64
	for i := range b.bank {
		k := &b.bank[i]
		if k.evidence < best-12 {
			continue
		}
		w := math.Exp(k.evidence - best)
		total += w
		level += w * k.level
		square += w * (k.variance + k.level*k.level)
		mean += w * k.mean
		relax += w * math.Log(k.relax)
		spread += w * k.spread
		doubt += w * k.spread * min(1, 2*k.relax/k.weight) // independent looks at the level
		noise += w * k.noise
	}
	b.level, b.mean = level/total, mean/total
	b.variance = max(square/total-b.level*b.level, 0)
	b.relax = math.Exp(relax / total)
	b.spread, b.noise = spread/total, noise/total
	b.doubt = doubt / total
}
