package traffic

import (
	"math"
	"math/bits"
)

// histogram counts milliseconds in buckets that grow with the value: none is
// wider than 1/32 of it, from 1/16 ms to an hour. Its size never changes.
type histogram struct {
	counts [histogramOctaves << histogramBits]uint64
	n      uint64
	max    float64
}

const (
	histogramBits    = 5  // of a value's bits that count
	histogramOctaves = 22 // 2^26 sixteenths of a millisecond
	histogramScale   = 16 // buckets' unit is 1/16 ms
)

func histogramBucket(ms float64) int {
	v := uint64(max(ms, 0) * histogramScale)
	if v < 1<<histogramBits {
		return int(v)
	}
	shift := bits.Len64(v) - histogramBits - 1
	return min(shift<<histogramBits+int(v>>shift), len(histogram{}.counts)-1)
}

// histogramValue is the upper end of a bucket in ms.
func histogramValue(i int) float64 {
	if i < 1<<histogramBits {
		return float64(i+1) / histogramScale
	}
	shift := i>>histogramBits - 1
	return float64((uint64(i&(1<<histogramBits-1)|1<<histogramBits)+1)<<shift) / histogramScale
}

func (h *histogram) add(ms float64) {
	h.counts[histogramBucket(ms)]++
	h.n++
	h.max = max(h.max, ms)
}

// quantile is a value that a share q of the values does not exceed; 0 without any.
func (h *histogram) quantile(q float64) float64 {
	if h.n == 0 {
		return 0
	}
	rank := uint64(math.Ceil(q * float64(h.n)))
	var seen uint64
	for i, c := range h.counts {
		if seen += c; seen >= max(rank, 1) {
			return min(histogramValue(i), h.max)
		}
	}
	return h.max
}
