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
	// mostSurprise bounds the variance.
	mostSurprise = 1.0
)

// surprise keeps how far transfers were from what was predicted for them: of the
// logarithm of their throughput.
type surprise struct {
	number, excess float64
	// of the transfer that was asked for last
	predicted, variance float64
	open                bool
}

// predict notes what is expected of the next transfer.
func (s *surprise) predict(logKbps, variance float64) {
	s.predicted, s.variance, s.open = logKbps, variance, true
}

// see takes what came of it.
func (s *surprise) see(logKbps float64) {
	if !s.open || math.IsInf(logKbps, 0) || math.IsNaN(logKbps) {
		return
	}
	s.open = false
	miss := logKbps - s.predicted
	s.number = surpriseKeep*s.number + 1
	s.excess = surpriseKeep*s.excess + min(miss*miss, 4) - s.variance
}

// beyond is the variance that the belief does not know of.
func (s *surprise) beyond() float64 {
	return min(max((s.excess+surprisePrior*surprisePriorVar)/(s.number+surprisePrior), 0), mostSurprise)
}
