package abr

import "math"

// Half-lives of the estimator, ms: of a fast and a slow average, of which the
// more careful counts. dash.js and Sabre use the same.
const (
	fastHalfLifeMS = 3000
	slowHalfLifeMS = 8000
)

// Estimator keeps what a player believes of its network: the lower of two
// moving averages of the throughput, weighted by download time, and the higher
// of two of the latency, which count segments.
type Estimator struct {
	segmentMS float64
	// of the two averages, fast first; each has to be corrected for its start
	// from zero.
	throughput, latency [2]float64
	downloadMS, pushes  float64
}

// NewEstimator makes an estimator that knows nothing yet.
func NewEstimator(segmentMS float64) *Estimator { return &Estimator{segmentMS: segmentMS} }

// Push takes a transfer: its payload's kbit/s over ms, and the time until its
// first byte. One that took no time says nothing.
func (e *Estimator) Push(ms, kbps, latencyMS float64) {
	if !(ms > 0) || math.IsInf(kbps, 0) || math.IsNaN(kbps) {
		return
	}
	for i, half := range [2]float64{fastHalfLifeMS, slowHalfLifeMS} {
		keep := math.Pow(0.5, ms/half)
		e.throughput[i] = keep*e.throughput[i] + (1-keep)*kbps
		keep = math.Pow(0.5, 1/(half/e.segmentMS))
		e.latency[i] = keep*e.latency[i] + (1-keep)*latencyMS
	}
	e.downloadMS += ms
	e.pushes++
}

// Throughput in kbit/s and latency in ms; both 0 while nothing is known.
func (e *Estimator) Throughput() (kbps, latencyMS float64) {
	if e.pushes == 0 {
		return 0, 0
	}
	kbps = math.Inf(1)
	for i, half := range [2]float64{fastHalfLifeMS, slowHalfLifeMS} {
		kbps = min(kbps, e.throughput[i]/(1-math.Pow(0.5, e.downloadMS/half)))
		latencyMS = max(latencyMS, e.latency[i]/(1-math.Pow(0.5, e.pushes/(half/e.segmentMS))))
	}
	return kbps, latencyMS
}
