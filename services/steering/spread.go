package steering

import (
	"math"
	"net/netip"
)

// Within a tier clients spread by weighted rendezvous hashing: each appliance
// draws a number from (client, title, itself) and the highest of
// -weight / ln(draw) wins. A client so keeps its appliance while that is
// eligible; when one drops out, only its own clients move, and to all the
// others alike.

// loadSteps is how finely load bends the weight: coarse, so that a client
// does not move at each report.
const loadSteps = 4

// step rounds a load of 0 to 1 down to a number of steps.
func step(load float64) int {
	if !(load > 0) { // NaN too
		return 0
	}
	return int(math.Floor(min(load, 1) * loadSteps))
}

// lot is what an appliance draws by: its seed and 1 / weight.
type lot struct {
	seed uint64
	rare float64
}

func newLot(id string, weight float64) lot { return lot{seed(id), 1 / weight} }

// draw is the appliance's score for a client and title at a load in steps: the
// higher, the better. It is -1 / of the weighted score, which orders alike and
// divides by nothing.
func (l *lot) draw(key uint64, load int) float64 {
	d := l.ticket(key, load)
	return d.score()
}

// ticket is a draw whose score is not worked out yet.
type ticket struct {
	unit  float64 // between 0 and 1
	scale float64
}

func (l *lot) ticket(key uint64, load int) ticket {
	return ticket{unit(mix(key ^ l.seed)), l.rare * burden[min(load, loadSteps)]}
}

func (d *ticket) score() float64 { return lnUnit(d.unit) * d.scale }

// most is what the score is at the most, since ln u ≤ u - 1: no logarithm. lnUnit
// leaves positive terms out, and so is below it, too.
func (d *ticket) most() float64 { return (d.unit - 1) * d.scale }

// unit makes a number between 0 and 1 of 64 bits.
func unit(x uint64) float64 { return (float64(x>>11) + 0.5) / (1 << 53) }

// burden is what a load in steps makes of 1 / weight: an appliance is worth what
// of it is free. A full one still takes its share of half a step's worth: when
// all are full somebody has to.
var burden = [loadSteps + 1]float64{loadSteps / (loadSteps - 0.0), loadSteps / (loadSteps - 1.0), loadSteps / (loadSteps - 2.0), loadSteps / (loadSteps - 3.0), loadSteps / 0.5}

// lnUnit is ln u for a number between 0 and 1 to within 1e-4,
// which a score's order does not need better: the exponent, and for the mantissa
// m in [1, 2) the series of atanh((m-1)/(m+1)), of which three terms suffice.
func lnUnit(u float64) float64 {
	bits := math.Float64bits(u)
	exp := float64(int64(bits>>52) - 1023)
	m := math.Float64frombits(bits&(1<<52-1) | 1023<<52)
	z := (m - 1) / (m + 1)
	z2 := z * z
	return exp*math.Ln2 + 2*z*(1+z2*(1.0/3+z2*(1.0/5+z2/7)))
}

// clientKey joins the hashes of a client and a title, alike in every process.
func clientKey(addr netip.Addr, title uint64) uint64 {
	b := addr.As16()
	h := title
	for _, x := range b {
		h = (h ^ uint64(x)) * fnvPrime
	}
	return mix(h)
}

// seed hashes an appliance's name.
func seed(id string) uint64 { return mix(fnv(id)) }

// fnv is FNV-1a, 64 bits: the standard library's allocates.
func fnv(s string) uint64 {
	h := uint64(fnvOffset)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * fnvPrime
	}
	return h
}

const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

// mix is the finaliser of SplitMix64: FNV alone leaves the high bits of short
// keys alike.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
