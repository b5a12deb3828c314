package abr

import "math"

// What a whole transfer shows beyond what the belief expects of it: inside one the
// network may change more often than any state of the plan does, in ways that no
// log-normal level describes.
const (
	// surpriseKeep is the share of what was seen that is kept per transfer.
	surpriseKeep = 0.98
	// A priori so many transfers with an error of such a variance.
	surprisePrior    = 5
	surprisePriorVar = 0.06
	// mostSurprise bounds the variance, mostMiss an error that counts.
	mostSurprise = 1.0
	mostMiss     = 2.0
	// usualMS is the half-life of the rate of the long run, by download time.
	usualMS = 60e3
	// pullKeep is the share of what was seen of the pull that is kept per transfer,
	// pullPrior how much speaks for none a priori: a sum of squares.
	pullKeep  = 0.95
	pullPrior = 0.5
	// mostPull leaves the state a say: a network that breaks down has to be seen.
	mostPull = 0.9
)

// surprise keeps how far transfers were from what was predicted for them: of the
// logarithm of their throughput. Part of that has a direction. A second's level says
// little of a transfer that takes longer than the level lasts, and the mean of
// logarithms, which the belief knows, less than what comes over a while: where
// transfers went towards the rate of the long run, those to come are expected to.
type surprise struct {
	number, excess float64
	// bits in ms: what the network gives in the long run.
	bits, ms float64
	// along and apart are sums over transfers: of how far the long run was from
	// the prediction times how far the transfer was from it, and of the former's
	// square.
	along, apart float64
	// of the transfer that was asked for last
	predicted, variance, usual float64
	open                       bool
}

// sample takes what came in some time.
func (s *surprise) sample(ms, bits float64) {
	keep := math.Exp2(-ms / usualMS)
	s.ms = s.ms*keep + ms
	s.bits = s.bits*keep + bits
}

// pull is the share of the way that transfers went from their prediction to what
// is usual, and that, in ln kbit/s: least squares.
func (s *surprise) pull() (share, usual float64) {
	if !(s.bits > 0) {
		return 0, 0
	}
	return min(max(s.along/(s.apart+pullPrior), 0), mostPull), math.Log(s.bits / s.ms)
}

// predict notes what is expected of the next transfer.
func (s *surprise) predict(logKbps, variance float64) {
	s.predicted, s.variance, s.open = logKbps, variance, true
	_, s.usual = s.pull()
}

// see takes what came of it.
func (s *surprise) see(logKbps float64) {
	if !s.open || math.IsInf(logKbps, 0) || math.IsNaN(logKbps) {
		return
	}
	s.open = false
	miss := logKbps - s.predicted
	share, _ := s.pull()
	x := bounded(s.usual - s.predicted)
	left := bounded(miss - share*x)
	s.along = pullKeep*s.along + x*bounded(miss)
	s.apart = pullKeep*s.apart + x*x
	s.number = surpriseKeep*s.number + 1
	s.excess = surpriseKeep*s.excess + left*left - (1-share)*(1-share)*s.variance
}

// beyond is the variance that the belief does not know of.
func (s *surprise) beyond() float64 {
	return min(max((s.excess+surprisePrior*surprisePriorVar)/(s.number+surprisePrior), 0), mostSurprise)
}

// bounded keeps one transfer from deciding alone.
func bounded(miss float64) float64 { return min(max(miss, -mostMiss), mostMiss) }
