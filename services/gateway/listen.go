package gateway

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	proxyproto "github.com/pires/go-proxyproto"

	"github.com/flix-lab/flix/services/gateway/wire"
)

// maxConnections bounds what one listener of a gateway carries at once.
const maxConnections = 16384

// edgeConn is a connection whose peer is the client, if a trusted proxy says
// so, and which knows when it should end.
type edgeConn struct {
	net.Conn
	// tcp is Conn, or nil.
	tcp *net.TCPConn
	// peer is who is connected.
	peer netip.AddrPort
	// retire is when the client should connect anew, so that changes of DNS
	// reach clients that never let go of a connection.
	retire time.Time
	// early is what was read to look for a PROXY header and is none of it.
	early []byte

	mu     sync.Mutex
	closed bool
	ended  chan struct{} // closed when the connection is; nil while nobody waits
}

// Close closes the connection, once.
func (c *edgeConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.closed = true
	if c.ended != nil {
		close(c.ended)
	}
	return c.Conn.Close()
}

// wait returns once the connection is closed.
func (c *edgeConn) wait() {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.ended = make(chan struct{})
	c.mu.Unlock()
	<-c.ended
}

// Read implements io.Reader.
func (c *edgeConn) Read(p []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(p, c.early)
		if c.early = c.early[n:]; len(c.early) == 0 {
			c.early = nil
		}
		return n, nil
	}
	return c.Conn.Read(p)
}

// RemoteAddr is the client's address.
func (c *edgeConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.peer) }

// CloseWrite ends the sending side.
func (c *edgeConn) CloseWrite() error {
	if c.tcp != nil {
		return c.tcp.CloseWrite()
	}
	return errors.ErrUnsupported
}

// acceptor takes the connections of one listener and serves each on a
// goroutine of its own.
type acceptor struct {
	s     *Server
	l     net.Listener
	plain bool
	serve func(ctx context.Context, c *edgeConn, plain bool)

	mu     sync.Mutex
	open   map[*edgeConn]struct{}
	closed bool
	wg     sync.WaitGroup
}

func (s *Server) acceptor(l net.Listener, plain bool, serve func(context.Context, *edgeConn, bool)) *acceptor {
	return &acceptor{s: s, l: l, plain: plain, serve: serve, open: make(map[*edgeConn]struct{})}
}

// run accepts until the listener ends, which is an error unless close did it.
func (a *acceptor) run(ctx context.Context) error {
	for pause := time.Duration(0); ; {
		nc, err := a.l.Accept()
		if err != nil {
			a.mu.Lock()
			closed := a.closed
			a.mu.Unlock()
			if closed {
				return nil
			}
			if t, ok := err.(interface{ Temporary() bool }); ok && t.Temporary() {
				// No descriptor is free: some will be.
				pause = min(max(5*time.Millisecond, 2*pause), time.Second)
				a.s.metrics.refused.WithLabelValues("accept").Inc()
				select {
				case <-time.After(pause):
					continue
				case <-ctx.Done():
					continue
				}
			}
			return err
		}
		pause = 0
		c := a.wrap(nc)
		if !a.enter(c) {
			_ = nc.Close()
			continue
		}
		go func() {
			defer a.leave(c)
			a.serve(ctx, c, a.plain)
		}()
	}
}

func (a *acceptor) wrap(nc net.Conn) *edgeConn {
	age := float64(a.s.d.Timing.MaxConnectionAge) * (0.9 + 0.2*rand.Float64())
	c := &edgeConn{Conn: nc, retire: time.Now().Add(time.Duration(age))}
	if c.tcp, _ = nc.(*net.TCPConn); c.tcp != nil {
		wire.LimitUnsent(c.tcp)
	}
	c.peer, _ = netip.ParseAddrPort(nc.RemoteAddr().String()) // the zero value is "unknown"
	return c
}

func (a *acceptor) enter(c *edgeConn) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return false
	}
	if len(a.open) >= maxConnections {
		a.s.metrics.refused.WithLabelValues("limit").Inc()
		return false
	}
	a.open[c] = struct{}{}
	a.wg.Add(1)
	return true
}

func (a *acceptor) leave(c *edgeConn) {
	_ = c.Close()
	a.mu.Lock()
	delete(a.open, c)
	a.mu.Unlock()
	a.wg.Done()
}

// stop ends the listener; the connections stay.
func (a *acceptor) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	_ = a.l.Close()
}

// close ends the listener and every connection.
func (a *acceptor) close() {
	a.stop()
	a.mu.Lock()
	defer a.mu.Unlock()
	for c := range a.open {
		_ = c.Close()
	}
}

// proxySignature begins a PROXY header of version 2.
var proxySignature = []byte("\r\n\r\n\x00\r\nQUIT\n")

const (
	proxyFixed = 16  // bytes before the addresses
	maxProxy   = 536 // of a whole header, by the protocol's own advice
)

var errProxy = errors.New("a PROXY header that is not taken")

// greet reads the PROXY header of a trusted peer, if there is one: such a peer
// without a header is a client itself, another gateway or a health check. From
// anybody else a header ends the connection.
func (s *Server) greet(c *edgeConn) error {
	_ = c.SetReadDeadline(time.Now().Add(5 * s.d.Timing.RPCTimeout.D()))
	head := make([]byte, proxyFixed, maxProxy)
	for n := 0; n < len(head); {
		m, err := c.Conn.Read(head[n:])
		if n += m; n > 0 && !maybeProxy(head[:n]) {
			c.early = head[:n]
			return nil
		}
		if err != nil {
			return err
		}
	}
	if !bytes.HasPrefix(head, proxySignature) { // version 1
		return s.refuseProxy(c, errProxy)
	}
	size := proxyFixed + int(binary.BigEndian.Uint16(head[14:16]))
	if size > maxProxy || !s.trusted(c.peer) {
		return s.refuseProxy(c, errProxy)
	}
	head = head[:size]
	if _, err := io.ReadFull(c.Conn, head[proxyFixed:]); err != nil {
		return err
	}
	h, err := proxyproto.Read(bufio.NewReaderSize(bytes.NewReader(head), maxProxy))
	if err != nil {
		return s.refuseProxy(c, err)
	}
	if h.Command.IsProxy() {
		src, ok := h.SourceAddr.(*net.TCPAddr)
		if !ok {
			return s.refuseProxy(c, fmt.Errorf("the source %v is no TCP address", h.SourceAddr))
		}
		c.peer = src.AddrPort()
	}
	return nil
}

// maybeProxy says whether what came so far could begin a PROXY header of
// version 1 or 2.
func maybeProxy(b []byte) bool {
	return begins(b, proxySignature) || begins(b, []byte("PROXY "))
}

func begins(b, with []byte) bool {
	n := min(len(b), len(with))
	return bytes.Equal(b[:n], with[:n])
}

func (s *Server) refuseProxy(c *edgeConn, err error) error {
	s.metrics.refused.WithLabelValues("proxy_header").Inc()
	s.d.Tel.Log.Debug("PROXY header refused", "peer", c.peer, "error", err)
	return err
}

func (s *Server) trusted(a netip.AddrPort) bool {
	for _, p := range s.d.TrustedProxies {
		if p.Contains(a.Addr().Unmap()) {
			return true
		}
	}
	return false
}

type connKey struct{}

// withConn puts the edgeConn under a codec's connection into its context.
func withConn(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if e, ok := c.(*edgeConn); ok {
		return context.WithValue(ctx, connKey{}, e)
	}
	return ctx
}

// feed is a listener that yields the connections it is given.
type feed struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newFeed(addr net.Addr) *feed {
	return &feed{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
}

// give hands a connection over; false once the listener is closed.
func (f *feed) give(c net.Conn) bool {
	select {
	case f.conns <- c:
		return true
	case <-f.done:
		return false
	}
}

// Accept implements net.Listener.
func (f *feed) Accept() (net.Conn, error) {
	select {
	case c := <-f.conns:
		return c, nil
	case <-f.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (f *feed) Close() error { f.once.Do(func() { close(f.done) }); return nil }

// Addr implements net.Listener.
func (f *feed) Addr() net.Addr { return f.addr }
