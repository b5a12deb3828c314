package steering

import "sync/atomic"

// A state is what decisions read of an appliance's last report, in one word, so
// that those of a site lie beside one another in memory: whether it is healthy,
// its load in steps, and when it was heard, in Unix milliseconds.
const (
	stateOK    = uint64(1) << 63
	loadShift  = 56
	loadMask   = uint64(0x7f)
	heardMask  = uint64(1)<<48 - 1
	statesPage = 1024
)

func packState(ok bool, load int, heardMS int64) uint64 {
	s := uint64(load)&loadMask<<loadShift | uint64(max(0, heardMS))&heardMask
	if ok {
		s |= stateOK
	}
	return s
}

func loadOf(s uint64) int { return int(s >> loadShift & loadMask) }

func heardOf(s uint64) int64 { return int64(s & heardMask) }

// states are the words of all slots. Pages are added and never moved: a table
// that is older than a page has no slot in it.
type states []*[statesPage]atomic.Uint64

func (s states) at(slot int) *atomic.Uint64 { return &s[slot/statesPage][slot%statesPage] }

// grown returns states with room for a slot.
func (s states) grown(slot int) states {
	if slot/statesPage < len(s) {
		return s
	}
	out := append(states(nil), s...)
	for slot/statesPage >= len(out) {
		out = append(out, new([statesPage]atomic.Uint64))
	}
	return out
}
