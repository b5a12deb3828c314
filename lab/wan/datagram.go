package wan

import (
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"time"
)

// maxDatagram is the largest UDP payload.
const maxDatagram = 65507

// datagram delays a connected UDP socket in both directions, each datagram as
// one. As on a real network, a datagram that finds the window full is lost.
type datagram struct {
	raw  net.Conn
	in   *queue
	out  *queue
	rdl  *deadline
	done chan struct{}
	// deaf is closed when nothing more is received.
	deaf chan struct{}
	// onceClose guards done.
	onceClose sync.Once

	rmu sync.Mutex // one reader at a time
	pmu sync.Mutex // guards pumping
	// pumping says that a goroutine sends out.
	pumping bool
}

// newDatagram shapes a socket. What it receives passes through a buffer of the
// pool, which has it back when the socket is closed.
func newDatagram(raw net.Conn, in, out func() Path, buffers *sync.Pool) *datagram {
	d := &datagram{raw: raw, in: newQueue(in), out: newQueue(out), rdl: newDeadline(), done: make(chan struct{}), deaf: make(chan struct{})}
	go func() {
		defer close(d.deaf)
		scratch := buffers.Get().(*[maxDatagram]byte)
		defer buffers.Put(scratch)
		d.receive(scratch[:])
	}()
	return d
}

// datagramBuffers are for sockets that are open now: players open one for each
// name that they resolve, and close it with the answer.
func datagramBuffers() *sync.Pool {
	return &sync.Pool{New: func() any { return new([maxDatagram]byte) }}
}

// receive stamps datagrams with their time of delivery until the socket is
// closed.
func (d *datagram) receive(scratch []byte) {
	for {
		n, err := d.raw.Read(scratch)
		if err != nil {
			d.in.push(parcel{err: err})
			if errors.Is(err, syscall.ECONNREFUSED) { // of one datagram, not of the socket
				continue
			}
			return
		}
		if !lost(d.in.path()) {
			d.in.push(parcel{data: append([]byte(nil), scratch[:n]...)})
		}
	}
}

// lost says whether a datagram does not arrive.
func lost(p Path) bool {
	return time.Now().Before(p.held) || p.loss > 0 && rand.Float64() < p.loss
}

// Read implements net.Conn: one datagram, cut to the length of b.
func (d *datagram) Read(b []byte) (int, error) {
	d.rmu.Lock()
	defer d.rmu.Unlock()
	for {
		if d.closed() {
			return 0, d.fail("read", net.ErrClosed)
		}
		if err := d.rdl.passed(); err != nil {
			return 0, d.fail("read", err)
		}
		p, ok := d.in.head()
		if ok && !time.Now().Before(p.due) {
			n := copy(b, p.data)
			d.in.take(len(p.data))
			return n, p.err
		}
		if err := d.rdl.wait(p.due, d.in.pushed, d.done); err != nil {
			return 0, d.fail("read", err)
		}
	}
}

// Write implements net.Conn.
func (d *datagram) Write(b []byte) (int, error) {
	if d.closed() {
		return 0, d.fail("write", net.ErrClosed)
	}
	if len(b) > maxDatagram {
		return 0, d.fail("write", syscall.EMSGSIZE)
	}
	if !lost(d.out.path()) {
		d.out.push(parcel{data: append([]byte(nil), b...)})
		d.pump()
	}
	return len(b), nil
}

func (d *datagram) pump() {
	d.pmu.Lock()
	defer d.pmu.Unlock()
	if !d.pumping {
		d.pumping = true
		go d.deliver()
	}
}

// deliver sends datagrams as they fall due, until none is left.
func (d *datagram) deliver() {
	for {
		p, ok := d.out.head()
		if !ok && d.rest() {
			return
		}
		if !ok {
			continue
		}
		if wait := time.Until(p.due); wait > 0 {
			time.Sleep(wait) // never cut short: a closed socket still delivers
		}
		if p.err != nil {
			_ = d.raw.Close() // what was written has been sent
		} else {
			_, _ = d.raw.Write(p.data) // a refused datagram is reported by a read
		}
		d.out.take(len(p.data))
	}
}

// rest ends the delivering goroutine if nothing is under way.
func (d *datagram) rest() bool {
	d.pmu.Lock()
	defer d.pmu.Unlock()
	if _, ok := d.out.head(); ok {
		return false
	}
	d.pumping = false
	return true
}

// Close ends the socket; what was written is still sent.
func (d *datagram) Close() error {
	first := false
	d.onceClose.Do(func() { first = true; close(d.done) })
	if !first {
		return d.fail("close", net.ErrClosed)
	}
	_ = d.raw.SetReadDeadline(time.Unix(1, 0)) // ends receive
	<-d.deaf
	d.out.push(parcel{err: errFin})
	d.pump()
	d.in.clear()
	return nil
}

func (d *datagram) closed() bool {
	select {
	case <-d.done:
		return true
	default:
		return false
	}
}

func (d *datagram) fail(op string, err error) error {
	return &net.OpError{Op: op, Net: d.raw.RemoteAddr().Network(), Source: d.raw.LocalAddr(), Addr: d.raw.RemoteAddr(), Err: err}
}

// ReadFrom implements net.PacketConn.
func (d *datagram) ReadFrom(b []byte) (int, net.Addr, error) {
	n, err := d.Read(b)
	return n, d.raw.RemoteAddr(), err
}

// WriteTo implements net.PacketConn; the socket is connected, so the address
// has to be its peer's.
func (d *datagram) WriteTo(b []byte, addr net.Addr) (int, error) {
	if addr.String() != d.raw.RemoteAddr().String() {
		return 0, d.fail("write", syscall.EISCONN)
	}
	return d.Write(b)
}

// LocalAddr implements net.Conn.
func (d *datagram) LocalAddr() net.Addr { return d.raw.LocalAddr() }

// RemoteAddr implements net.Conn.
func (d *datagram) RemoteAddr() net.Addr { return d.raw.RemoteAddr() }

// SetDeadline implements net.Conn. Writes never block.
func (d *datagram) SetDeadline(t time.Time) error { d.rdl.set(t); return nil }

// SetReadDeadline implements net.Conn.
func (d *datagram) SetReadDeadline(t time.Time) error { d.rdl.set(t); return nil }

// SetWriteDeadline implements net.Conn. Writes never block.
func (d *datagram) SetWriteDeadline(time.Time) error { return nil }
