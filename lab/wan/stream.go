package wan

import (
	"errors"
	"net"
	"sync"
	"time"
)

// linger is how long a closed stream tries to deliver what was written to a
// peer that does not read, after the last byte was due.
const linger = 2 * time.Second

// Sizes of the buffer that a stream reads into: small while the stream is
// quiet, since a lab has hundreds of quiet ones.
const (
	minScratch = 2 << 10
	maxScratch = maxParcel
)

// errFin marks the end of what was written.
var errFin = errors.New("wan: end of stream")

// stream delays a connection in both directions. One goroutine reads the raw
// connection for as long as it is open; another writes to it while bytes are
// under way.
type stream struct {
	raw  net.Conn
	in   *queue
	out  *queue
	rdl  *deadline
	wdl  *deadline
	done chan struct{}
	// onceClose guards done; gone is when it was closed.
	onceClose sync.Once
	gone      time.Time

	rmu sync.Mutex // one reader at a time
	wmu sync.Mutex // one writer at a time; guards finished
	// finished says that the end of the stream was written.
	finished bool

	pmu sync.Mutex // guards the two below
	// pumping says that a goroutine delivers out.
	pumping bool
	// broken is why nothing can be written any more.
	broken error
}

func newStream(raw net.Conn, in, out func() Path) *stream {
	s := &stream{
		raw: raw, in: newQueue(in), out: newQueue(out),
		rdl: newDeadline(), wdl: newDeadline(),
		done: make(chan struct{}),
	}
	go s.receive()
	return s
}

// receive stamps what arrives with its time of delivery until the raw
// connection ends. It stops reading while the window is full, which holds the
// sender back as a real receiver would.
func (s *stream) receive() {
	scratch := make([]byte, minScratch)
	for {
		n, err := s.raw.Read(scratch)
		for b := scratch[:n]; len(b) > 0; {
			k := min(len(b), s.in.path().parcelSize())
			if !s.in.push(parcel{data: append([]byte(nil), b[:k]...)}) {
				select {
				case <-s.in.taken:
					continue
				case <-s.done:
					return
				}
			}
			b = b[k:]
		}
		if err != nil {
			s.in.push(parcel{err: err})
			return
		}
		if n == len(scratch) && n < maxScratch {
			scratch = make([]byte, 2*n)
		} else if n < len(scratch)/8 && len(scratch) > minScratch {
			scratch = make([]byte, minScratch)
		}
	}
}

// Read implements net.Conn.
func (s *stream) Read(b []byte) (int, error) {
	s.rmu.Lock()
	defer s.rmu.Unlock()
	for {
		if s.closed() {
			return 0, s.fail("read", net.ErrClosed)
		}
		if err := s.rdl.passed(); err != nil {
			return 0, s.fail("read", err)
		}
		p, ok := s.in.head()
		if ok && !time.Now().Before(p.due) {
			if p.err == nil {
				n := copy(b, p.data)
				s.in.take(n)
				return n, nil
			}
			return 0, p.err // stays at the head: every later Read sees it
		}
		if err := s.rdl.wait(p.due, s.in.pushed, s.done); err != nil {
			return 0, s.fail("read", err)
		}
	}
}

// Write implements net.Conn. It returns once the bytes are under way.
func (s *stream) Write(b []byte) (int, error) {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	written := 0
	for {
		if s.closed() || s.finished {
			return written, s.fail("write", net.ErrClosed)
		}
		if err := s.brokenBy(); err != nil {
			return written, err
		}
		if err := s.wdl.passed(); err != nil {
			return written, s.fail("write", err)
		}
		if written == len(b) {
			return written, nil
		}
		k := min(len(b)-written, s.out.path().parcelSize())
		if s.out.push(parcel{data: append([]byte(nil), b[written:written+k]...)}) {
			written += k
			s.pump()
			if written == len(b) {
				return written, nil
			}
			continue
		}
		if err := s.wdl.wait(time.Time{}, s.out.taken, s.done); err != nil {
			return written, s.fail("write", err)
		}
	}
}

// pump makes sure that a goroutine delivers what is under way.
func (s *stream) pump() {
	s.pmu.Lock()
	defer s.pmu.Unlock()
	if !s.pumping && s.broken == nil {
		s.pumping = true
		go s.deliver()
	}
}

// deliver writes parcels to the raw connection as they fall due, until none
// is left.
func (s *stream) deliver() {
	for {
		p, ok := s.out.head()
		if !ok && s.rest() {
			return
		}
		if !ok {
			continue
		}
		if d := time.Until(p.due); d > 0 {
			if p.hole && s.closed() && time.Since(s.gone) > linger {
				s.breakWith(net.ErrClosed) // nobody waits for it any more
				return
			}
			s.delay(d, p.hole)
			continue // a hole may have closed meanwhile
		}
		if p.err != nil {
			s.finish()
			s.out.take(0)
			continue
		}
		if _, err := s.raw.Write(p.data); err != nil {
			s.breakWith(err)
			return
		}
		s.out.take(len(p.data))
	}
}

// delay waits for a parcel to fall due. It is never cut short, since a closed
// stream still delivers; only a hole may close before its time.
func (s *stream) delay(d time.Duration, hole bool) {
	if hole {
		d = min(d, lookAgain)
	}
	time.Sleep(d)
}

// release lets go what waits for a hole.
func (s *stream) release() {
	s.in.release()
	s.out.release()
}

// rest ends the delivering goroutine if nothing is under way.
func (s *stream) rest() bool {
	s.pmu.Lock()
	defer s.pmu.Unlock()
	if _, ok := s.out.head(); ok {
		return false
	}
	s.pumping = false
	return true
}

// finish sends the raw connection's FIN; after Close it closes it.
func (s *stream) finish() {
	if s.closed() {
		_ = s.raw.Close() // what can be delivered has been
		return
	}
	if cw, ok := s.raw.(interface{ CloseWrite() error }); ok {
		_ = cw.CloseWrite() // fails only when the peer is gone: a read says so
	}
}

// breakWith records why writing has ended and lets writers know.
func (s *stream) breakWith(err error) {
	s.pmu.Lock()
	s.pumping = false
	if s.broken == nil {
		s.broken = err
	}
	s.pmu.Unlock()
	s.out.clear() // wakes a writer that waits for room
	if s.closed() {
		_ = s.raw.Close() // nothing more can be delivered
	}
}

func (s *stream) brokenBy() error {
	s.pmu.Lock()
	defer s.pmu.Unlock()
	return s.broken
}

// CloseWrite ends the writing half: the peer reads EOF after everything that
// was written before.
func (s *stream) CloseWrite() error {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	if s.closed() {
		return s.fail("close", net.ErrClosed)
	}
	if !s.finished {
		s.finished = true
		s.out.push(parcel{err: errFin})
		s.pump()
	}
	return s.brokenBy()
}

// Close ends both halves. What was written is still delivered, then the raw
// connection is closed, in the background and within a bounded time.
func (s *stream) Close() error {
	first := false
	s.onceClose.Do(func() { first, s.gone = true, time.Now(); close(s.done) })
	if !first {
		return s.fail("close", net.ErrClosed)
	}
	_ = s.raw.SetReadDeadline(time.Unix(1, 0)) // ends receive
	s.out.push(parcel{err: errFin})
	s.out.mu.Lock()
	last := s.out.last
	s.out.mu.Unlock()
	_ = s.raw.SetWriteDeadline(last.Add(linger)) // a dead connection has nothing to deliver
	s.pump()
	if s.brokenBy() != nil {
		_ = s.raw.Close() // nothing more can be delivered
	}
	s.in.clear()
	return nil
}

func (s *stream) closed() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

func (s *stream) fail(op string, err error) error {
	return &net.OpError{Op: op, Net: s.raw.RemoteAddr().Network(), Source: s.raw.LocalAddr(), Addr: s.raw.RemoteAddr(), Err: err}
}

// LocalAddr implements net.Conn.
func (s *stream) LocalAddr() net.Addr { return s.raw.LocalAddr() }

// RemoteAddr implements net.Conn.
func (s *stream) RemoteAddr() net.Addr { return s.raw.RemoteAddr() }

// SetDeadline implements net.Conn.
func (s *stream) SetDeadline(t time.Time) error {
	s.rdl.set(t)
	s.wdl.set(t)
	return nil
}

// SetReadDeadline implements net.Conn.
func (s *stream) SetReadDeadline(t time.Time) error { s.rdl.set(t); return nil }

// SetWriteDeadline implements net.Conn.
func (s *stream) SetWriteDeadline(t time.Time) error { s.wdl.set(t); return nil }

// SetReadBuffer bounds what may wait for the reader, in bytes, both here and
// in the kernel, so that a slow reader slows its peer.
func (s *stream) SetReadBuffer(bytes int) error {
	s.in.mu.Lock()
	s.in.limit = bytes
	s.in.mu.Unlock()
	if rb, ok := s.raw.(interface{ SetReadBuffer(int) error }); ok {
		return rb.SetReadBuffer(bytes)
	}
	return nil
}
