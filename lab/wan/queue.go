package wan

import (
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
// itself once it is empty.
func (q *queue) take(n int) {
	q.mu.Lock()
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
