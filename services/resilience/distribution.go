package resilience

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// distribution is the values of a rolling time, in a histogram a slot: eight
// divisions to a power of two, so that a percentile is right within an eighth.
// Slots are made when first needed; a steady load then allocates nothing.
type distribution struct {
	width time.Duration // of a slot
	slots []atomic.Pointer[histogram]
	mu    sync.Mutex
}

// Divisions of a histogram: values below 8 each have their own, the largest
// holds all from 2^27 (134 s, where values are microseconds).
const (
	divisionBits = 3
	divisions    = 1 << divisionBits
	topPower     = 27
	histogramLen = (topPower-divisionBits+1)*divisions + 1
)

type histogram struct {
	number atomic.Int64 // of the slot, plus one
	sum    atomic.Int64
	most   atomic.Int64
	counts [histogramLen]atomic.Uint32
}

func newDistribution(d time.Duration, n int) *distribution {
	return &distribution{width: max(1, d/time.Duration(n)), slots: make([]atomic.Pointer[histogram], n)}
}

func (d *distribution) add(now time.Duration, v int64) {
	n := int64(now/d.width) + 1
	p := &d.slots[int(n%int64(len(d.slots)))]
	h := p.Load()
	if h == nil || h.number.Load() != n {
		h = d.turn(p, n)
	}
	h.counts[division(v)].Add(1)
	h.sum.Add(v)
	raise(&h.most, v)
}

func (d *distribution) turn(p *atomic.Pointer[histogram], n int64) *histogram {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := p.Load()
	switch {
	case h == nil:
		h = new(histogram)
		h.number.Store(n)
		p.Store(h)
	case h.number.Load() < n:
		for i := range h.counts {
			h.counts[i].Store(0)
		}
		h.sum.Store(0)
		h.most.Store(0)
		h.number.Store(n)
	}
	return h
}

// division of a value.
func division(v int64) int {
	if v < divisions {
		return int(max(0, v))
	}
	power := bits.Len64(uint64(v)) - 1
	if power >= topPower {
		return histogramLen - 1
	}
	return (power-divisionBits+1)<<divisionBits + int(v>>(power-divisionBits))&(divisions-1)
}

// bounds of a division: values from low to below high.
func bounds(i int) (low, high int64) {
	if i < divisions {
		return int64(i), int64(i) + 1
	}
	power := i>>divisionBits - 1 + divisionBits
	step := int64(1) << (power - divisionBits)
	low = int64(1)<<power + int64(i&(divisions-1))*step
	return low, low + step
}

// spread is a distribution at one time.
type spread struct {
	counts     [histogramLen]int64
	total, sum int64
	most       int64
}

func (d *distribution) spread(now time.Duration) *spread {
	s := new(spread)
	n := int64(now/d.width) + 1
	for i := range d.slots {
		h := d.slots[i].Load()
		if h == nil {
			continue
		}
		if k := h.number.Load(); k <= n-int64(len(d.slots)) || k > n {
			continue
		}
		for j := range h.counts {
			c := int64(h.counts[j].Load())
			s.counts[j] += c
			s.total += c
		}
		s.sum += h.sum.Load()
		s.most = max(s.most, h.most.Load())
	}
	return s
}

// mean is 0 of nothing.
func (s *spread) mean() int64 {
	if s.total == 0 {
		return 0
	}
	return s.sum / s.total
}

// percentile of the values, p from 0 to 100: the place within its division is
// interpolated. 100 is the largest value itself.
func (s *spread) percentile(p float64) int64 {
	if s.total == 0 {
		return 0
	}
	if p >= 100 {
		return s.most
	}
	rank := p / 100 * float64(s.total)
	before := 0.0
	for i, c := range s.counts {
		if c == 0 {
			continue
		}
		if before+float64(c) > rank {
			low, high := bounds(i)
			return min(s.most, low+int64(float64(high-low)*(rank-before)/float64(c)))
		}
		before += float64(c)
	}
	return s.most
}
