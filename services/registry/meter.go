package registry

import "time"

// meterSlots of meterSlot each make the minute a meter looks back on.
const (
	meterSlots = 12
	meterSlot  = 5 * time.Second
)

// meter counts what happened in the last minute. Not safe for concurrent use.
type meter struct {
	slots [meterSlots]int
	at    int64 // the slot counted in now, since 1970
}

func (m *meter) move(now time.Time) {
	at := now.UnixNano() / int64(meterSlot)
	for n := 0; m.at < at && n < meterSlots; n++ {
		m.at++
		m.slots[m.at%meterSlots] = 0
	}
	if m.at < at { // idle for longer than it looks back: every slot is empty by now
		m.at = at
	}
}

func (m *meter) add(now time.Time) {
	m.move(now)
	m.slots[m.at%meterSlots]++
}

func (m *meter) lastMinute(now time.Time) int {
	m.move(now)
	n := 0
	for _, s := range m.slots {
		n += s
	}
	return n
}
