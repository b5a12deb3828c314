package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	proxyproto "github.com/pires/go-proxyproto"
)

// maxConnections bounds what one listener of a gateway carries at once.
const maxConnections = 16384

// edgeConn is a connection whose peer is the client, if a trusted proxy says
// so, and which knows when it should end.
type edgeConn struct {
	*proxyproto.Conn
	// retire is when the client should connect anew, so that changes of DNS
	// reach clients that never let go of a connection.
	retire time.Time
	closed func()
}

// Close closes the connection, once.
func (c *edgeConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

// CloseWrite ends the sending side.
func (c *edgeConn) CloseWrite() error {
	if t, ok := c.TCPConn(); ok {
		return t.CloseWrite()
	}
	return errors.ErrUnsupported
}

// edgeListener accepts edgeConns.
type edgeListener struct {
	net.Listener
	s    *Server
	open atomic.Int64
}

func (s *Server) edgeListener(l net.Listener) net.Listener { return &edgeListener{Listener: l, s: s} }

// Accept does not wait for the PROXY header: the connection's first read, on
// its own goroutine, does.
func (l *edgeListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) > maxConnections {
			l.open.Add(-1)
			l.s.metrics.refused.WithLabelValues("limit").Inc()
			_ = c.Close()
			continue
		}
		policy := proxyproto.REJECT
		if l.s.trusted(c.RemoteAddr()) {
			// A trusted peer without a header is a client itself: another
			// gateway, or a health check.
			policy = proxyproto.USE
		}
		age := float64(l.s.d.Timing.MaxConnectionAge) * (0.9 + 0.2*rand.Float64())
		return &edgeConn{
			Conn: proxyproto.NewConn(c,
				proxyproto.WithPolicy(policy),
				proxyproto.ValidateHeader(l.s.validate),
				proxyproto.SetReadHeaderTimeout(5*l.s.d.Timing.RPCTimeout.D())),
			retire: time.Now().Add(time.Duration(age)),
			closed: sync.OnceFunc(func() { l.open.Add(-1) }),
		}, nil
	}
}

func (s *Server) validate(h *proxyproto.Header) error {
	if h.Version != 2 {
		s.metrics.refused.WithLabelValues("proxy_header").Inc()
		return fmt.Errorf("PROXY protocol version %d, want 2", h.Version)
	}
	return nil
}

func (s *Server) trusted(a net.Addr) bool {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return false
	}
	for _, p := range s.d.TrustedProxies {
		if p.Contains(ap.Addr().Unmap()) {
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
