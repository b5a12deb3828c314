package player

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flix-lab/flix/topology"
)

const (
	// burst is how much unused time a quiet link may catch up on.
	burst = 20 * time.Millisecond
	// slice is how much of the link's time one read may take, so that
	// connections share it evenly.
	slice = 20 * time.Millisecond
	// bufferTime sizes the socket's receive buffer: small enough that the
	// sender feels the cap, large enough for the delay between regions.
	bufferTime = 500 * time.Millisecond
	// Bounds of the receive buffer, bytes.
	minBuffer, maxBuffer = 8 << 10, 1 << 20
)

// link is the client's access link: every byte received passes it, whatever
// connection it came on.
type link struct {
	rate rate

	mu   sync.Mutex
	next time.Time
	// busy is the time that reads have waited for the link.
	busy time.Duration
}

// newLink returns a link of a rate, or nil when there is no cap.
func newLink(rate topology.Rate) *link {
	if rate == 0 {
		return nil
	}
	return &link{rate: fixed(rate.BytesPerSecond())}
}

// take puts n received bytes on the link and returns how long they take from
// now.
func (l *link) take(n int, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if earliest := now.Add(-burst); l.next.Before(earliest) {
		l.next = earliest
	}
	l.next = l.rate.after(l.next, n)
	wait := max(l.next.Sub(now), 0)
	l.busy += wait
	return wait
}

// waited is the total time that reads have waited for the link; 0 on a nil
// link.
func (l *link) waited() time.Duration {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.busy
}

// attach puts a connection behind the link.
func (l *link) attach(c net.Conn) (net.Conn, error) {
	mean := l.rate.mean()
	size := min(max(int(mean*bufferTime.Seconds()), minBuffer), maxBuffer)
	if rb, ok := c.(interface{ SetReadBuffer(int) error }); ok {
		if err := rb.SetReadBuffer(size); err != nil {
			return nil, err
		}
	}
	return &linked{Conn: c, link: l, most: max(int(mean*slice.Seconds()), 512), closed: make(chan struct{})}, nil
}

// linked is a connection that receives over the link.
type linked struct {
	net.Conn
	link *link
	// most bytes of one read.
	most   int
	closed chan struct{}
	once   sync.Once
	// asked says that something was sent since the last bytes came: the answer
	// takes the link's latency.
	asked atomic.Bool
}

func (c *linked) Write(b []byte) (int, error) {
	c.asked.Store(true)
	return c.Conn.Write(b)
}

func (c *linked) Read(b []byte) (int, error) {
	if len(b) > c.most {
		b = b[:c.most]
	}
	n, err := c.Conn.Read(b)
	if n == 0 {
		return n, err
	}
	wait := c.link.take(n, time.Now())
	if c.asked.Swap(false) {
		wait = max(wait, c.link.rate.latency(time.Now()))
	}
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-c.closed:
		}
	}
	return n, err
}

func (c *linked) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
