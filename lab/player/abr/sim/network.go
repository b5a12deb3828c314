package sim

import (
	"github.com/flix-lab/flix/lab/player/abr"
	"github.com/flix-lab/flix/services"
)

const (
	// An algorithm looks at a download each time that both have come in: as
	// often as Sabre lets it.
	lookBits = 12000
	lookMS   = 50
	// maxPeriods bounds a session.
	maxPeriods = 50_000_000
)

// network is a trace in motion.
type network struct {
	trace []Period
	at    int
	// left of the period at, ms.
	left float64
	// passed counts periods.
	passed int
}

func newNetwork(trace []Period) *network { return &network{trace: trace, left: trace[0].DurationMS} }

func (n *network) next() {
	n.at++
	if n.at == len(n.trace) {
		n.at = 0
	}
	n.left = n.trace[n.at].DurationMS
	n.passed++
}

// spent says that the session has been going on for too long.
func (n *network) spent() bool { return n.passed > maxPeriods }

func (n *network) check() error {
	if n.spent() {
		return services.Errorf(services.Exhausted, "the session takes more than %d periods of the trace", maxPeriods).WithRemedy("the trace is too slow for this movie, or its periods are too short")
	}
	return nil
}

// wait lets time pass.
func (n *network) wait(ms float64) {
	for ms > n.left && !n.spent() {
		ms -= n.left
		n.next()
	}
	n.left -= ms
}

// latency waits for one first byte. A latency that changes on the way counts
// in proportion.
func (n *network) latency() float64 {
	total, units := 0.0, 1.0
	for units > 0 && !n.spent() {
		current := n.trace[n.at].LatencyMS
		if ms := units * current; ms <= n.left {
			total += ms
			n.left -= ms
			units = 0
		} else {
			total += n.left
			units -= n.left / current
			n.next()
		}
	}
	return total
}

// all downloads so many bits.
func (n *network) all(bits float64) (took float64) {
	for bits > 0 && !n.spent() {
		kbps := n.trace[n.at].BandwidthKbps
		if bits <= n.left*kbps {
			ms := bits / kbps
			took += ms
			n.left -= ms
			bits = 0
		} else {
			took += n.left
			bits -= n.left * kbps
			n.next()
		}
	}
	return took
}

// some downloads of so many bits what comes until an algorithm may look.
func (n *network) some(bits, leastBits, leastMS float64) (received, took float64) {
	for bits > 0 && (leastBits > 0 || leastMS > 0) && !n.spent() {
		var gotBits, ms float64
		if kbps := n.trace[n.at].BandwidthKbps; kbps > 0 {
			want, can := max(leastBits, leastMS*kbps), n.left*kbps
			switch {
			case bits <= want && bits <= can:
				gotBits, ms = bits, bits/kbps
				n.left -= ms
			case want <= can:
				gotBits, ms = want, want/kbps
				leastBits, leastMS = 0, 0 // rounding must not ask for a rest
				n.left -= ms
			default:
				gotBits, ms = can, n.left
				n.next()
			}
		} else if leastBits > 0 || leastMS > n.left {
			ms = n.left
			n.next()
		} else {
			ms = leastMS
			n.left -= ms
		}
		received += gotBits
		took += ms
		bits -= gotBits
		leastBits -= gotBits
		leastMS -= ms
	}
	return received, took
}

// download fetches a segment, and lets look see it on the way; look may be
// nil.
func (n *network) download(p abr.Progress, look func(abr.Progress) (int, bool)) abr.Transfer {
	p.FirstByteMS = n.latency()
	if look == nil {
		p.ElapsedMS = p.FirstByteMS + n.all(p.Bits)
		p.Received = p.Bits
		return abr.Transfer{Progress: p}
	}
	p.ElapsedMS = p.FirstByteMS
	leastMS := lookMS - p.FirstByteMS
	for p.Received < p.Bits && !n.spent() {
		bits, ms := n.some(p.Bits-p.Received, lookBits, leastMS)
		p.ElapsedMS += ms
		p.Received += bits
		if p.Received < p.Bits {
			if to, yes := look(p); yes {
				return abr.Transfer{Progress: p, Abandoned: true, AbandonedTo: to}
			}
		}
		leastMS = lookMS
	}
	return abr.Transfer{Progress: p}
}
