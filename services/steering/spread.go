package steering

import (
	"math"
	"net/netip"
)

// Within a site clients spread by weighted rendezvous hashing: each appliance
// draws a number from (client, title, itself) and the highest of
// -weight / ln(draw) wins. A client so keeps its appliance while that is
// eligible; when one drops out, only its own clients move, and to all the
// others alike.

// loadSteps is how finely load bends the weight: coarse, so that a client
// does not move at each report.
const loadSteps = 4

// step rounds a load of 0 to 1 down to a multiple of 1/loadSteps.
func step(load float64) float64 {
	if !(load > 0) { // NaN too
		return 0
	}
	return math.Floor(min(load, 1)*loadSteps) / loadSteps
}

// draw is the candidate's score for a client and title.
func (c *candidate) draw(key uint64) float64 {
	u := (float64(mix(key^c.app.seed)>>11) + 0.5) / (1 << 53)
	// A full appliance still takes its share of a last step's worth: when all
	// are full somebody has to.
	free := max(1-c.health.load, 1.0/(2*loadSteps))
	return -c.app.weight * free / math.Log(u)
}

// clientKey hashes a client and a title, alike in every process.
func clientKey(addr netip.Addr, title string) uint64 {
	b := addr.As16()
	h := uint64(fnvOffset)
	for _, x := range b {
		h = (h ^ uint64(x)) * fnvPrime
	}
	for i := range len(title) {
		h = (h ^ uint64(title[i])) * fnvPrime
	}
	return mix(h)
}

// seed hashes an appliance's name.
func seed(id string) uint64 {
	h := uint64(fnvOffset)
	for i := range len(id) {
		h = (h ^ uint64(id[i])) * fnvPrime
	}
	return mix(h)
}

// FNV-1a, 64 bits: the standard library's allocates.
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
