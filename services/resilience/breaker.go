package resilience

import (
	"sync"
	"sync/atomic"
	"time"
)

// States of a breaker.
const (
	closed int32 = iota
	open
	halfOpen
)

var stateNames = [...]string{"closed", "open", "half_open"}

// breaker lets calls through while it is closed, none while it is open, and
// after its sleep a few probes. The probes alone decide what comes next: what
// was called before it opened answers for another time.
type breaker struct {
	state atomic.Int32
	// lastBad is when a call failed last; a window without a failure needs no
	// sum. -1 is never.
	lastBad atomic.Int64

	mu     sync.Mutex // guards what follows, and every change of state
	opened time.Duration
	round  uint64 // of probes; each has its own number, from 1
	left   int    // probes that may still begin
	won    int    // probes that were answered
}

func newBreaker() *breaker {
	b := new(breaker)
	b.lastBad.Store(-1)
	return b
}

// allow says whether a call may be made, and the round it is a probe of; 0 is
// none. A probe must be told of by probed.
func (b *breaker) allow(now time.Duration, s *settings) (round uint64, ok bool) {
	if b.state.Load() == closed {
		return 0, true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch b.state.Load() {
	case closed:
		return 0, true
	case open:
		if now < b.opened+s.sleep {
			return 0, false
		}
		b.state.Store(halfOpen)
		b.round++
		b.left, b.won = s.probes, 0
	}
	if b.left == 0 {
		return 0, false
	}
	b.left--
	return b.round, true
}

// probed tells of a probe's end. It says whether the breaker has closed.
func (b *breaker) probed(round uint64, good bool, now time.Duration, s *settings) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state.Load() != halfOpen || round != b.round {
		return false
	}
	if !good {
		b.opened = now
		b.state.Store(open)
		return false
	}
	if b.won++; b.won < s.probes {
		if b.left == 0 && b.won+b.left < s.probes {
			b.left++ // the number of probes was raised meanwhile
		}
		return false
	}
	b.lastBad.Store(-1)
	b.state.Store(closed)
	return true
}

// judge opens the breaker if the window says so.
func (b *breaker) judge(now time.Duration, w *window, s *settings) {
	if b.state.Load() != closed {
		return
	}
	calls, bad := w.health(now)
	if calls < s.volume || bad*100 < s.errorPercent*calls {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state.Load() == closed {
		b.opened = now
		b.state.Store(open)
	}
}

// failedWithin says whether a call failed within the last d.
func (b *breaker) failedWithin(d, now time.Duration) bool {
	last := b.lastBad.Load()
	return last >= 0 && now-time.Duration(last) <= d
}
