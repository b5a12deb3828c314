package player

import (
	"context"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// fakeWire is a network in memory, whose every wait is one of fake time: in a bubble
// of synctest a play takes as long as it would on an idle machine, whatever the
// real one does meanwhile.
type fakeWire struct {
	mu    sync.Mutex
	ports map[int]*wireListener
	last  int
}

const (
	// wireConnect is how long a connection takes to be made, and wireRate what
	// it carries in bytes per second.
	wireConnect = 200 * time.Microsecond
	wireRate    = 100 << 20
)

func newWire() *fakeWire { return &fakeWire{ports: map[int]*wireListener{}, last: 20000} }

// listen takes the next port.
func (w *fakeWire) listen() *wireListener {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last++
	l := &wireListener{wire: w, port: w.last, backlog: make(chan net.Conn, 64), closed: make(chan struct{})}
	w.ports[l.port] = l
	return l
}

// dial is a services.DialFunc. Datagrams go in the form of a stream, each by its
// length: so DNS has it.
func (w *fakeWire) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if err := sleep(ctx, wireConnect); err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(addr)
	n, _ := strconv.Atoi(port)
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.ports[n]
	if l == nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
	w.last++
	here, there := wireAddr(w.last), wireAddr(n)
	up, down := newLane(), newLane()
	l.backlog <- &wireConn{in: up, out: down, local: there, remote: here}
	return &wireConn{in: down, out: up, local: here, remote: there}, nil
}

func wireAddr(port int) *net.TCPAddr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port} }

// wireListener is where connections to one port come in.
type wireListener struct {
	wire    *fakeWire
	port    int
	backlog chan net.Conn
	once    sync.Once
	closed  chan struct{}
}

func (l *wireListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.backlog:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close refuses what comes, and drops what nobody has accepted.
func (l *wireListener) Close() error {
	l.once.Do(func() {
		l.wire.mu.Lock()
		delete(l.wire.ports, l.port)
		l.wire.mu.Unlock()
		close(l.closed)
		for len(l.backlog) > 0 {
			_ = (<-l.backlog).Close()
		}
	})
	return nil
}

func (l *wireListener) Addr() net.Addr { return wireAddr(l.port) }

// wireConn is one end of a connection.
type wireConn struct {
	in, out       *lane
	local, remote *net.TCPAddr
}

func (c *wireConn) Read(b []byte) (int, error)  { return c.in.read(b) }
func (c *wireConn) Write(b []byte) (int, error) { return c.out.write(b) }
func (c *wireConn) LocalAddr() net.Addr         { return c.local }
func (c *wireConn) RemoteAddr() net.Addr        { return c.remote }

func (c *wireConn) CloseWrite() error {
	c.out.change(func() { c.out.finished = true })
	return nil
}

func (c *wireConn) Close() error {
	c.in.change(func() { c.in.deaf = true })
	return c.CloseWrite()
}

func (c *wireConn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

func (c *wireConn) SetReadDeadline(t time.Time) error {
	c.in.change(func() { c.in.reading.set(t, c.in.turn.Broadcast) })
	return nil
}

func (c *wireConn) SetWriteDeadline(t time.Time) error {
	c.out.change(func() { c.out.writing.set(t, c.out.turn.Broadcast) })
	return nil
}

// limit is a deadline that wakes who waits.
type limit struct {
	at    time.Time
	timer *time.Timer
}

func (l *limit) set(at time.Time, wake func()) {
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	if l.at = at; !at.IsZero() {
		l.timer = time.AfterFunc(time.Until(at), wake)
	}
}

func (l *limit) passed() bool { return !l.at.IsZero() && !time.Now().Before(l.at) }

// lane carries bytes one way. A writer never waits: what is written is on its
// way, in order, and arrives in its time. So nobody sleeps with a lock of net/http
// or crypto/tls in hand, which would stop the bubble's clock.
type lane struct {
	mu   sync.Mutex
	turn *sync.Cond
	sent []parcel
	// finished says that nothing more is written, deaf that nothing is read.
	finished, deaf   bool
	reading, writing limit
}

// parcel is bytes that arrive at a point in time.
type parcel struct {
	b   []byte
	due time.Time
}

func newLane() *lane {
	l := &lane{}
	l.turn = sync.NewCond(&l.mu)
	return l
}

func (l *lane) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	l.turn.Broadcast()
}

func (l *lane) read(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		switch {
		case l.deaf:
			return 0, net.ErrClosed
		case l.reading.passed():
			return 0, os.ErrDeadlineExceeded
		case len(l.sent) == 0 && l.finished:
			return 0, io.EOF
		case len(l.sent) > 0:
			if wait := time.Until(l.sent[0].due); wait > 0 {
				time.AfterFunc(wait, l.turn.Broadcast)
				break
			}
			n := copy(b, l.sent[0].b)
			if l.sent[0].b = l.sent[0].b[n:]; len(l.sent[0].b) == 0 {
				l.sent = l.sent[1:]
			}
			return n, nil
		}
		l.turn.Wait()
	}
}

func (l *lane) write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.finished:
		return 0, net.ErrClosed
	case l.deaf:
		return 0, syscall.EPIPE
	case l.writing.passed():
		return 0, os.ErrDeadlineExceeded
	}
	due := time.Now()
	if n := len(l.sent); n > 0 && l.sent[n-1].due.After(due) {
		due = l.sent[n-1].due
	}
	l.sent = append(l.sent, parcel{slices.Clone(b), due.Add(time.Duration(len(b)) * time.Second / wireRate)})
	l.turn.Broadcast()
	return len(b), nil
}
