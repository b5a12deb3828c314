package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Limits bound what a client may cost. Deadlines that are renewed with every
// piece may be overrun by a quarter: they are armed anew only then, because to
// arm one costs as much as to read a small request.
type Limits struct {
	// MaxHeader is in bytes.
	MaxHeader int
	// Header bounds the time from a request's first byte to the end of its
	// header, Idle that until the first byte, Body each piece of a body and
	// Write each piece of an answer.
	Header, Idle, Body, Write time.Duration
	// Linger bounds how long a client may still send after an answer that
	// ends the connection, before the end is a reset.
	Linger time.Duration
}

// hold is how long an idle connection keeps its buffer.
const hold = time.Second

const (
	// maxDrain is how much of an unread body is read so that the connection
	// can be kept.
	maxDrain = 256 << 10
	// maxLinger bounds what is thrown away after the last answer.
	maxLinger = 1 << 20
)

// ErrHTTP2 says that the client began HTTP/2 without asking. Hijack has what
// follows Preface.
var ErrHTTP2 = errors.New("the client speaks HTTP/2")

// Preface is how such a client begins, by RFC 9113 section 3.4; six more bytes
// follow it.
const Preface = "PRI * HTTP/2.0\r\n\r\n"

// ErrIdle says that a connection ended between two requests, as it may.
var ErrIdle = errors.New("the connection ended idle")

// Conn is the server's side of one client's connection. Its methods are called
// by one goroutine, but for those of Body, which another may read.
type Conn struct {
	nc     net.Conn
	tcp    *net.TCPConn // beneath nc, or nil
	plain  bool         // nc passes tcp's bytes on as they are
	sock   *socket      // of tcp, if plain; may be nil
	limits *Limits
	in     reader
	out    []byte // of an answer, not sent yet; nil while idle

	readUntil, writeUntil time.Time

	// Request of the moment.
	head     *Head
	body     Body
	status   int
	chunked  bool
	bodyless bool
	closing  bool  // the connection ends with this answer
	left     int64 // of the answer's body; -1 for unknown
	started  bool
	broken   bool
	served   bool // a request has been read

	writes atomic.Uint32 // how often one began or ended: odd while one is under way

	mu        sync.Mutex // interim answers against the final one
	final     bool       // the final answer has begun
	continued bool       // 100 Continue is out, or not waited for
}

// NewConn returns the server's side of nc. tcp is the connection beneath nc,
// or nil; plain says that nc carries its bytes as they are, but for early, which
// have been read from it already.
func NewConn(nc net.Conn, tcp *net.TCPConn, plain bool, early []byte, buffers *Buffers, limits *Limits) *Conn {
	c := &Conn{nc: nc, tcp: tcp, plain: plain && tcp != nil, limits: limits}
	c.in = reader{src: nc, buffers: buffers, size: smallBuffer}
	if c.plain {
		if c.sock = newSocket(tcp); c.sock != nil {
			c.in.src = c.sock
		}
	}
	c.in.unread(early)
	c.body.c = c
	return c
}

// Next reads the head of a request into h, once Await saw it begin. Errors:
// *BadMessage for a request that is refused, ErrHTTP2 for one that is not
// HTTP/1 at all, anything else when it broke off.
func (c *Conn) Next(h *Head) error {
	c.head = nil
	deadline := time.Time{}
	skipped := false
	for {
		if !skipped && c.in.buffered() >= 2 {
			// A client may end the last body with a CRLF too many.
			if b := c.in.buf[c.in.r:]; b[0] == '\r' && b[1] == '\n' {
				c.in.r += 2
			}
			skipped = true
		}
		n, err := headEnd(c.in.buf[c.in.r:c.in.w])
		if err != nil {
			return err
		}
		if n > c.limits.MaxHeader {
			return tooLong(c.in.buf[c.in.r:c.in.w])
		}
		if n > 0 {
			s := string(c.in.buf[c.in.r : c.in.r+n])
			c.in.r += n
			if s == Preface {
				return ErrHTTP2
			}
			if err := h.parse(s); err != nil {
				return err
			}
			c.begin(h)
			return nil
		}
		if deadline.IsZero() {
			deadline = time.Now().Add(c.limits.Header)
			c.setReadDeadline(deadline)
		}
		if err := c.in.fill(c.limits.MaxHeader); err != nil {
			switch {
			case errors.Is(err, errFull):
				return tooLong(c.in.buf[c.in.r:c.in.w])
			case isTimeout(err):
				return &BadMessage{http.StatusRequestTimeout, "the header did not arrive in time"}
			}
			return err
		}
	}
}

func tooLong(b []byte) error {
	if bytes.IndexByte(b, '\n') >= 0 {
		return &BadMessage{http.StatusRequestHeaderFieldsTooLarge, "the header is too long"}
	}
	return &BadMessage{http.StatusRequestURITooLong, "the request line is too long"}
}

// Await returns once a byte of the next request is there; ErrIdle when the
// connection ended instead. While nothing comes, the buffer is lent to others.
func (c *Conn) Await(now time.Time) error {
	if c.in.buffered() > 0 {
		return nil
	}
	limit := c.limits.Idle
	if !c.served {
		limit = c.limits.Header
	}
	wait := min(hold, limit)
	c.armRead(now, wait)
	err := c.in.fill(c.limits.MaxHeader)
	if isTimeout(err) && limit > wait {
		c.in.release()
		c.setReadDeadline(now.Add(limit))
		if c.tcp != nil {
			err = awaitByte(c.tcp)
		} else {
			err = nil
		}
		if err == nil {
			err = c.in.fill(c.limits.MaxHeader)
		}
	}
	if err != nil {
		return errors.Join(ErrIdle, err)
	}
	return nil
}

// begin makes the connection ready for the request in h.
func (c *Conn) begin(h *Head) {
	c.head, c.served = h, true
	c.status, c.chunked, c.bodyless, c.started, c.left = 0, false, false, false, 0
	c.closing = h.closing
	c.final, c.continued = false, !h.Expect
	f := noBody
	switch {
	case h.chunked:
		f = byChunks
	case h.ContentLength > 0:
		f = byLength
	}
	c.body.reset(f, h.ContentLength)
}

// Body of the request of the moment.
func (c *Conn) Body() *Body { return &c.body }

// armRead sets the read deadline to at least timeout from now, at most a
// quarter more.
func (c *Conn) armRead(now time.Time, timeout time.Duration) {
	if left := c.readUntil.Sub(now); left < timeout || left > timeout+timeout/4 {
		c.setReadDeadline(now.Add(timeout + timeout/4))
	}
}

func (c *Conn) setReadDeadline(t time.Time) {
	c.readUntil = t
	_ = c.nc.SetReadDeadline(t)
}

func (c *Conn) armWrite(now time.Time) {
	if left := c.writeUntil.Sub(now); left < c.limits.Write {
		c.writeUntil = now.Add(c.limits.Write + c.limits.Write/4)
		_ = c.nc.SetWriteDeadline(c.writeUntil)
	}
}

// Idle ends the use of what a request needs; the connection may be kept. It
// reports whether it can be.
func (c *Conn) Idle() bool {
	if c.out != nil {
		c.in.buffers.put(c.out)
		c.out = nil
	}
	if c.broken || c.closing {
		return false
	}
	return true
}

// Interim sends an answer of a status below 200.
func (c *Conn) Interim(status int, h *Fields) {
	if c.head.minor == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.final {
		return
	}
	b := appendStatus(nil, status)
	b = appendFields(b, h, isHop)
	b = append(b, '\r', '\n')
	c.armWrite(time.Now())
	if err := c.send(b); err != nil {
		c.broken = true
	}
}

// send writes one piece.
func (c *Conn) send(p []byte) error {
	c.writes.Add(1)
	defer c.writes.Add(1)
	var err error
	if c.sock != nil {
		_, err = c.sock.Write(p)
	} else {
		_, err = c.nc.Write(p)
	}
	return err
}

var continueLine = []byte("HTTP/1.1 100 Continue\r\n\r\n")

// proceed tells the client that its body is awaited, once and only before the
// final answer.
func (c *Conn) proceed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.final || c.continued {
		return
	}
	c.continued = true
	_ = c.nc.SetWriteDeadline(time.Now().Add(c.limits.Write + c.limits.Write/4))
	if err := c.send(continueLine); err != nil {
		c.broken = true
	}
}

// Hijack hands the connection over, with what the client sent early.
func (c *Conn) Hijack() (net.Conn, []byte) {
	early := append([]byte(nil), c.in.buf[c.in.r:c.in.w]...)
	c.in.drop()
	c.broken = true
	_ = c.nc.SetDeadline(time.Time{})
	return c.nc, early
}

// Refuse answers a request that could not be read, and ends the connection.
func (c *Conn) Refuse(status int, contentType string, body []byte) {
	c.broken = true
	b := appendStatus(nil, status)
	b = appendField(b, "Content-Type", contentType)
	b = appendField(b, "Content-Length", strconv.Itoa(len(body)))
	b = append(b, "Connection: close\r\n\r\n"...)
	_ = c.nc.SetWriteDeadline(time.Now().Add(c.limits.Linger))
	if err := c.send(append(b, body...)); err == nil {
		c.Linger()
	}
}

// Linger ends the connection so that the last answer reaches the client, even
// while the client still sends: a connection with unread bytes would be reset.
func (c *Conn) Linger() {
	cw, ok := c.nc.(interface{ CloseWrite() error })
	if ok && cw.CloseWrite() == nil {
		if c.tcp != nil && !c.plain {
			_ = c.tcp.CloseWrite() // beneath TLS
		}
		src := io.Reader(c.nc)
		if c.tcp != nil {
			src = c.tcp
		}
		c.setReadDeadline(time.Now().Add(c.limits.Linger))
		buf := c.in.buffers.get(smallBuffer)
		for n := 0; n < maxLinger; {
			m, err := src.Read(buf)
			if err != nil {
				break
			}
			n += m
		}
		c.in.buffers.put(buf)
	}
}

// Close gives back what the connection holds; it does not close nc.
func (c *Conn) Close() {
	c.in.drop()
	if c.out != nil {
		c.in.buffers.put(c.out)
		c.out = nil
	}
}

// Body is the body of a request. Reads are not concurrent with one another;
// Finish may be called during one.
type Body struct {
	c    *Conn
	mu   sync.Mutex // held during a read
	b    body
	over atomic.Bool
}

// errOver says that the request was answered.
var errOver = errors.New("the request is over")

func (b *Body) reset(f framing, length int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over.Store(false)
	b.b.reset(&b.c.in, f, length)
}

// Read implements io.Reader. The first one gives a client that waits for it
// leave to send.
func (b *Body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.b.err == nil {
		if b.c.in.buffered() == 0 {
			b.c.proceed()
		}
		b.c.armRead(time.Now(), b.c.limits.Body) // what is buffered may be half a chunk's line
	}
	if b.over.Load() { // after arming: Finish may just have ended the read
		return 0, errOver
	}
	return b.b.read(p)
}

// Close implements io.Closer; the connection's owner ends the body.
func (b *Body) Close() error { return nil }

// Trailer is what came after a body in chunks; nil before its end.
func (b *Body) Trailer() *Fields { return b.b.trailer }

// Whole returns all of a body whose bytes are in the buffer already, and no more
// than limit. They stay valid until the request is over.
func (b *Body) Whole(limit int64) ([]byte, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.b.framing != byLength || b.b.err != nil || b.over.Load() || !b.c.continued || b.b.left > limit || int64(b.c.in.buffered()) < b.b.left {
		return nil, false
	}
	p := b.c.in.buf[b.c.in.r : b.c.in.r+int(b.b.left)]
	b.b.took(len(p))
	return p, true
}

// Finish ends the body's use: a read under way ends. It reports whether the
// connection stands at the next request; small rests are read for that.
func (b *Body) Finish() bool {
	b.over.Store(true)
	if !b.mu.TryLock() {
		_ = b.c.nc.SetReadDeadline(time.Unix(1, 0)) // ends the read
		b.mu.Lock()
		b.c.readUntil = time.Time{}
		b.mu.Unlock()
		return false
	}
	defer b.mu.Unlock()
	if b.b.ended() {
		return true
	}
	if b.tooMuch() || !b.c.continued || b.c.closing {
		return false
	}
	b.c.setReadDeadline(time.Now().Add(b.c.limits.Linger))
	for n := 0; n < maxDrain; {
		p, _, err := b.b.next()
		if errors.Is(err, io.EOF) {
			return b.b.ended()
		}
		if err != nil {
			return false
		}
		n += len(p)
	}
	return false
}

// tooMuch says of a body that has not ended that it is broken, or that more of it
// is left than is read for nothing.
func (b *Body) tooMuch() bool {
	return b.b.err != nil || b.b.framing == byLength && b.b.left > maxDrain
}

// Lost says of a body that nobody wants any more that Finish will not get to its
// end, so that the connection ends with the answer.
func (b *Body) Lost() bool {
	if !b.mu.TryLock() {
		return true // Finish will break a read off
	}
	defer b.mu.Unlock()
	return !b.b.ended() && b.tooMuch()
}
