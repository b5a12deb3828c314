package wan

import (
	"os"
	"sync"
	"time"
)

// deadline is a point in time that may move while somebody waits for it.
type deadline struct {
	mu      sync.Mutex
	at      time.Time
	changed chan struct{}
}

func newDeadline() *deadline { return &deadline{changed: make(chan struct{})} }

func (d *deadline) set(at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at = at
	close(d.changed)
	d.changed = make(chan struct{})
}

func (d *deadline) get() (time.Time, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.at, d.changed
}

// passed returns os.ErrDeadlineExceeded when the deadline lies behind.
func (d *deadline) passed() error {
	if at, _ := d.get(); !at.IsZero() && !time.Now().Before(at) {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// wait returns after a signal, at until (zero is never), when done closes or
// when the deadline moves; the caller looks again. It fails once the deadline
// has passed.
func (d *deadline) wait(until time.Time, signal, done <-chan struct{}) error {
	at, changed := d.get()
	if !at.IsZero() && !time.Now().Before(at) {
		return os.ErrDeadlineExceeded
	}
	if until.IsZero() || (!at.IsZero() && at.Before(until)) {
		until = at
	}
	var fire <-chan time.Time
	if !until.IsZero() {
		t := time.NewTimer(time.Until(until))
		defer t.Stop()
		fire = t.C
	}
	select {
	case <-signal:
	case <-fire:
	case <-done:
	case <-changed:
	}
	return d.passed()
}
