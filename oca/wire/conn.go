package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// conn is one connection of a client.
type conn struct {
	s   *Server
	ctx context.Context
	tcp net.Conn        // below TLS
	raw syscall.RawConn // of tcp; nil if it has none
	tls *tls.Conn       // nil without TLS
	out *gather         // between the two; nil without TLS

	parker *parker

	state   atomic.Int32
	since   atomic.Int64 // the tick it entered its state, or made progress in
	parked  atomic.Bool
	overdue atomic.Bool // it is woken to end
	waiting atomic.Bool // for a bucket or a byte that has to arrive: not the client's fault

	client netip.AddrPort
	first  [1]byte
	// buf holds what was read and not used: nil while idle.
	buf    *[]byte
	filled int
	send   sender
	path   path
	led    led
}

func newConn(ctx context.Context, s *Server, nc net.Conn) *conn {
	c := &conn{s: s, ctx: ctx, tcp: nc, parker: s.parkerOf()}
	c.since.Store(s.tick.Load())
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			c.raw = raw
		}
	}
	c.send.init(c)
	return c
}

func (c *conn) enter(state int32) {
	c.since.Store(c.s.tick.Load())
	c.state.Store(state)
}

// wake makes an idle connection look up.
func (c *conn) wake() {
	if !c.parker.unpark(c) {
		_ = c.tcp.SetReadDeadline(time.Unix(1, 0)) // closed: it is awake
	}
}

// abort ends a connection without a word, and drops what the client has not
// taken.
func (c *conn) abort() {
	if t, ok := c.tcp.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // closed already: nothing to drop
	}
	c.tcp.Close()
}

// begin reads what comes before the first request.
func (c *conn) begin() {
	if err := c.open(); err != nil {
		c.s.c.Log.Debug("a connection did not open", "from", c.tcp.RemoteAddr(), "error", err)
		c.finish()
		return
	}
	if c.tls != nil && c.tls.ConnectionState().NegotiatedProtocol == "h2" {
		c.enter(stateHTTP2)
		c.s.h2conn.give(c)
		return
	}
	if c.tls != nil {
		go c.loop(nil) // the handshake has made this goroutine's stack large
		return
	}
	c.loop(nil)
}

func (c *conn) open() error {
	c.client = addrOf(c.tcp.RemoteAddr())
	if c.s.c.Proxy != nil && c.s.c.Proxy(c.client.Addr()) {
		a, err := readProxyHeader(c.tcp)
		if err != nil {
			return err
		}
		c.client = a
	}
	c.fit(shortPath)
	if c.s.c.TLS == nil {
		return nil
	}
	c.out = &gather{Conn: c.tcp, s: c.s}
	c.tls = tls.Server(c.out, c.s.c.TLS)
	return c.tls.HandshakeContext(c.ctx)
}

// addrOf is the address of a TCP peer, IPv4 as such.
func addrOf(a net.Addr) netip.AddrPort {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}

// finish closes the connection and forgets it.
func (c *conn) finish() {
	c.drop()
	c.parker.forget(c)
	if c.tls != nil && c.state.Load() != stateOpening {
		c.tls.Close()
	}
	c.tcp.Close()
	c.s.gone(c)
}

// drop gives the read buffer back.
func (c *conn) drop() {
	if c.buf != nil && len(*c.buf) == headBuffer {
		c.s.heads.Put(c.buf)
	}
	c.buf, c.filled = nil, 0
}

// exchange is a request and its answer.
type exchange struct {
	r Request
	a Answer
}

// loop serves requests until the connection ends, has been idle for a while or
// is to be led; then it goes on on another goroutine. x is nil or the exchange of
// a request before.
func (c *conn) loop(x *exchange) {
	for {
		if c.filled == 0 {
			// While nothing is there to be read, nothing is held.
			c.drop()
			if x != nil {
				c.s.giveBack(x)
				x = nil
				if c.s.draining.Load() {
					break
				}
			}
			c.enter(stateIdle)
			if c.led.wants() && !c.overdue.Load() && c.park() {
				return
			}
			err := c.await()
			if errors.Is(err, os.ErrDeadlineExceeded) && !c.overdue.Load() && !c.s.draining.Load() {
				_ = c.tcp.SetReadDeadline(time.Time{}) // closed: the next read says so
				if !c.park() {
					c.parked.Store(true)
					go c.loop(nil)
				}
				return
			}
			if err != nil {
				break
			}
			c.parked.Store(false)
		}
		if x == nil {
			x, _ = c.s.spells.Get().(*exchange)
		}
		if !c.serve(x) {
			break
		}
	}
	c.s.giveBack(x)
	c.finish()
}

// park lets the connection wait without a goroutine; false if it cannot.
func (c *conn) park() bool {
	c.send.head = nil
	return c.parker.park(c)
}

// giveBack keeps an exchange for the next busy connection.
func (s *Server) giveBack(x *exchange) {
	if x == nil {
		return
	}
	x.r.reset()
	x.r.Client = netip.AddrPort{}
	s.spells.Put(x)
}

// await waits for the first bytes of a request without holding a buffer.
func (c *conn) await() error {
	if c.tls == nil && c.raw != nil {
		return c.awaitPlain()
	}
	var r io.Reader = c.tcp
	if c.tls != nil {
		r = c.tls
	}
	if _, err := io.ReadFull(r, c.first[:]); err != nil {
		return err
	}
	c.hold()
	(*c.buf)[0] = c.first[0]
	c.filled = 1
	return nil
}

func (c *conn) hold() {
	if c.buf == nil {
		c.buf, _ = c.s.heads.Get().(*[]byte)
		c.filled = 0
	}
}

// fill reads more into the buffer.
func (c *conn) fill() error {
	c.leave()
	for {
		var n int
		var err error
		if c.tls != nil {
			n, err = c.tls.Read((*c.buf)[c.filled:])
		} else {
			n, err = c.tcp.Read((*c.buf)[c.filled:])
		}
		c.filled += n
		if n > 0 {
			return nil
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && !c.overdue.Load() {
			// It was to be parked, and then a request came.
			_ = c.tcp.SetReadDeadline(time.Time{})
			continue
		}
		if err != nil {
			return err
		}
	}
}

// head reads until a whole head is in the buffer and returns its length.
func (c *conn) head() (int, error) {
	for seen := 0; ; {
		for c.filled > seen && seen == 0 && c.skipEmptyLine() {
		}
		n, err := headEnd((*c.buf)[:c.filled], seen)
		if n != 0 || err != nil {
			return n, err
		}
		seen = c.filled
		if c.filled == len(*c.buf) {
			if c.filled >= MaxHead {
				return 0, &malformed{431, "the head is too long"}
			}
			larger := make([]byte, MaxHead)
			copy(larger, (*c.buf)[:c.filled])
			filled := c.filled
			c.drop()
			c.buf, c.filled = &larger, filled
		}
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
}

// skipEmptyLine drops one line end before a request (RFC 9112, 2.2).
func (c *conn) skipEmptyLine() bool {
	b := (*c.buf)[:c.filled]
	if len(b) < 2 || b[0] != '\r' || b[1] != '\n' {
		return false
	}
	c.consume(2)
	return c.filled > 0
}

// consume drops what was used of the buffer.
func (c *conn) consume(n int) {
	copy(*c.buf, (*c.buf)[n:c.filled])
	c.filled -= n
}

// serve answers one request; false ends the connection.
func (c *conn) serve(x *exchange) bool {
	c.enter(stateHead)
	x.r.reset()
	x.r.Client, x.r.TLS = c.client, c.tls != nil
	n, err := c.head()
	if err == nil {
		text := string((*c.buf)[:n])
		c.consume(n)
		if m := parseHead(text, &x.r); m != nil {
			err = m
		}
	}
	if err != nil {
		return c.refuse(x, err)
	}
	c.enter(stateSending)
	a := &x.a
	x.r.conn = c
	c.s.c.Handler.Serve(&x.r, a)
	c.led.look(c, a)
	if a.file != nil && a.file.grow != nil {
		c.waiting.Store(true)
		a.ready(c.ctx, &x.r)
		c.waiting.Store(false)
		c.progress()
	}
	a.close = a.close || x.r.close || c.s.draining.Load()
	if a.Err = c.answer(&x.r, a); a.Err != nil {
		a.close = true
	}
	keep := !a.close
	failed := a.Err != nil
	c.s.c.Handler.Done(&x.r, a)
	a.reset()
	switch {
	case failed:
		return false
	case !keep:
		c.linger()
		return false
	}
	return x.r.length == 0 || c.skip(x.r.length)
}

// skip reads over a body.
func (c *conn) skip(n int64) bool {
	c.enter(stateHead)
	for {
		c.hold()
		part := min(n, int64(c.filled))
		c.consume(int(part))
		if n -= part; n == 0 {
			return true
		}
		if err := c.fill(); err != nil {
			return false
		}
	}
}

// refuse answers what is no request, if there is a client to hear it.
func (c *conn) refuse(x *exchange, err error) bool {
	m, ok := errors.AsType[*malformed](err)
	if !ok {
		if !c.overdue.Load() {
			return false
		}
		m = &malformed{408, "the request took too long"}
	}
	x.r.Method = ""
	c.enter(stateSending)
	problem(&x.r, &x.a, m)
	x.a.close = true
	if x.a.Err = c.answer(&x.r, &x.a); x.a.Err == nil {
		c.linger()
	}
	c.s.c.Handler.Done(&x.r, &x.a)
	x.a.reset()
	return false
}

// linger closes the sending side and reads on for a moment, so that what the
// client still sends does not reset the answer away.
func (c *conn) linger() {
	c.leave()
	c.enter(stateLingering)
	if c.tls != nil {
		_ = c.tls.CloseWrite() // the client is gone: nothing to end
	}
	if t, ok := c.tcp.(*net.TCPConn); ok {
		if t.CloseWrite() != nil {
			return
		}
	}
	_ = c.tcp.SetReadDeadline(time.Time{}) // closed: the read says so
	c.hold()
	for range maxSkip / headBuffer {
		if _, err := c.tcp.Read(*c.buf); err != nil {
			return
		}
	}
}
