package wan

import (
	"math/rand/v2"
	"sync"
	"time"
)

// maxParcel is the most bytes of a stream that travel as one.
const maxParcel = 64 << 10

// parcel is bytes under way, or the end of a stream, with its time of delivery.
type parcel struct {
	data []byte
	due  time.Time
	// err, when set, is delivered in place of data.
	err error
	// hole says that the parcel waits for a hole to close.
	hole bool
}

// Packets and their repetition, for losses on a stream: an Ethernet frame's
// payload without headers, and the least retransmission time-out of Linux
// (RFC 6298 says one second, which nobody does).
const (
	packet = 1448
	minRTO = 200 * time.Millisecond
)

// resent is by how much the losses of a stream delay bytes: a parcel arrives
// when its last packet does. A time-out doubles with each loss in a row
// (RFC 6298, 5.5).
func resent(p Path, bytes int) time.Duration {
	var worst time.Duration
	for range max(1, (bytes+packet-1)/packet) {
		var wait time.Duration
		rto := max(minRTO, p.RTT)
		for n := 0; n < maxResent && rand.Float64() < p.loss; n++ {
			wait += rto
			rto *= 2
		}
		worst = max(worst, wait)
	}
	return worst
}

// maxResent bounds the losses of one packet in a row.
const maxResent = 6

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// queue holds what is under way in one direction, in order. push and take are
// safe to call concurrently; each of the two wake-up channels has one waiter.
type queue struct {
	path func() Path

	mu sync.Mutex
	// limit lowers the path's window, in bytes; 0 does not.
	limit int
	items []parcel
	bytes int
	// free is when the link has put everything pushed so far on the wire.
	free time.Time
	// last is the delivery time of the newest parcel. A shorter round trip
	// must not let later bytes overtake earlier ones.
	last time.Time

	pushed chan struct{}
	taken  chan struct{}
}

func newQueue(path func() Path) *queue {
	return &queue{path: path, pushed: make(chan struct{}, 1), taken: make(chan struct{}, 1)}
}

// push puts a parcel on the link; its delivery time is set here. It reports
// false when the window is full, unless the parcel has no data.
func (q *queue) push(p parcel) bool {
	path := q.path()
	now := time.Now()
	q.mu.Lock()
	window := path.window()
	if q.limit > 0 {
		window = min(window, q.limit)
	}
	if len(p.data) > 0 && q.bytes >= window {
		q.mu.Unlock()
		return false
	}
	if path.Rate == 0 || q.free.Before(now) {
		q.free = now
	}
	if path.Rate > 0 {
		q.free = q.free.Add(time.Duration(float64(len(p.data)) / path.Rate.BytesPerSecond() * float64(time.Second)))
	}
	p.due = q.free.Add(path.RTT / 2)
	if path.loss > 0 {
		p.due = p.due.Add(resent(path, len(p.data)))
	}
	if !path.held.IsZero() {
		// What a hole swallows is sent again, and arrives when it is gone.
		p.due, p.hole = later(p.due, path.held.Add(path.RTT/2)), true
	}
	if p.due.Before(q.last) {
		p.due = q.last
	}
	q.last = p.due
	q.items = append(q.items, p)
	q.bytes += len(p.data)
	q.mu.Unlock()
	wake(q.pushed)
	return true
}

// head returns the oldest parcel without taking it.
func (q *queue) head() (parcel, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 {
		return parcel{}, false
	}
	return q.items[0], true
}

// take removes n bytes from the front of the oldest parcel, and the parcel
// itself once it is empty. Whoever closes the connection may have dropped it
// since the taker saw it at the head: then there is nothing to remove.
func (q *queue) take(n int) {
	q.mu.Lock()
	if len(q.items) == 0 || n > len(q.items[0].data) {
		q.mu.Unlock()
		return
	}
	q.items[0].data = q.items[0].data[n:]
	q.bytes -= n
	if len(q.items[0].data) == 0 {
		q.items[0] = parcel{}
		q.items = q.items[1:]
		if len(q.items) == 0 {
			q.items = nil
		}
	}
	q.mu.Unlock()
	wake(q.taken)
}

// release lets go what waits for a hole, now that there is none.
func (q *queue) release() {
	now := time.Now()
	q.mu.Lock()
	held := false
	for k := range q.items {
		if q.items[k].hole {
			q.items[k].due, q.items[k].hole, held = now, false, true
		}
	}
	if held {
		q.last = now
	}
	q.mu.Unlock()
	if held {
		wake(q.pushed)
	}
}

// clear drops everything.
func (q *queue) clear() {
	q.mu.Lock()
	q.items, q.bytes = nil, 0
	q.mu.Unlock()
	wake(q.taken)
}

// parcelSize keeps a slow link smooth: about 10 ms of it per parcel.
func (p Path) parcelSize() int {
	if p.Rate == 0 {
		return maxParcel
	}
	return min(max(int(p.Rate.BytesPerSecond()/100), 1400), maxParcel)
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
