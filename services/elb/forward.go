package elb

import (
	"bufio"
	"context"
	"errors"
	"net"
	"time"

	proxyproto "github.com/pires/go-proxyproto"
)

// errHeader: what a client sent first is not a PROXY v2 header.
var errHeader = errors.New("want a PROXY protocol v2 header")

// headerBuffer holds a v2 header with its addresses, and the first bytes of
// what follows.
const headerBuffer = 512

// fromClient serves a connection that must start with a PROXY v2 header.
func (s *Server) fromClient(ctx context.Context, c net.Conn) {
	_ = c.SetReadDeadline(time.Now().Add(s.d.Timing.RPCTimeout.D()))
	header, early, err := readHeader(c)
	if err != nil {
		s.d.Tel.Log.Debug("connection refused", "peer", c.RemoteAddr(), "error", err)
		s.refuse(c, "proxy_header")
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	s.forward(ctx, c, header, early, func(t Target) string { return t.Addr })
}

// fromBrowser serves a plain HTTP connection; the client is the peer.
func (s *Server) fromBrowser(ctx context.Context, c net.Conn) {
	s.forward(ctx, c, proxyproto.HeaderProxyFromAddrs(2, c.RemoteAddr(), c.LocalAddr()), nil, func(t Target) string { return t.PlainAddr })
}

// readHeader reads the header and what arrived together with it. The header
// that goes on is built anew from the addresses alone: a client's other fields
// are not passed on under our name.
func readHeader(c net.Conn) (*proxyproto.Header, []byte, error) {
	r := bufio.NewReaderSize(c, headerBuffer)
	h, err := proxyproto.Read(r)
	if err != nil {
		return nil, nil, err
	}
	if h.Version != 2 || h.TransportProtocol.IsUnix() || h.TransportProtocol.IsDatagram() {
		return nil, nil, errHeader
	}
	early, _ := r.Peek(r.Buffered()) // what is buffered can be peeked at
	if h.Command.IsLocal() {
		return proxyproto.HeaderProxyFromAddrs(2, c.RemoteAddr(), c.LocalAddr()), early, nil
	}
	return &proxyproto.Header{
		Version: 2, Command: proxyproto.PROXY, TransportProtocol: h.TransportProtocol,
		SourceAddr: h.SourceAddr, DestinationAddr: h.DestinationAddr,
	}, early, nil
}

// forward connects the client to a target and carries bytes until both are
// done.
func (s *Server) forward(ctx context.Context, c net.Conn, header *proxyproto.Header, early []byte, addr func(Target) string) {
	hello, err := header.Format()
	if err != nil {
		s.refuse(c, "proxy_header")
		return
	}
	t, chosen, err := s.connect(ctx, append(hello, early...), addr)
	if err != nil {
		if ctx.Err() == nil {
			s.d.Tel.Log.Warn("no gateway takes the connection", "error", err)
			s.refuse(c, "no_target")
		}
		return
	}
	defer chosen.load.active.Add(-1)
	defer context.AfterFunc(ctx, func() { _ = t.Close() })()
	defer t.Close()
	s.connections.WithLabelValues(chosen.id).Inc()
	splice(c, t, s.d.Timing.MaxConnectionAge.D())
}

// connect tries targets, best first, until one takes the connection and its
// first bytes. Each is tried once.
func (s *Server) connect(ctx context.Context, hello []byte, addr func(Target) string) (net.Conn, candidate, error) {
	left := s.targets.candidates(s.d.Targets(), addr)
	err := errors.New("there is none in the region")
	for len(left) > 0 && ctx.Err() == nil {
		var c candidate
		c, left = s.targets.pick(left, time.Now())
		c.load.active.Add(1)
		var t net.Conn
		if t, err = s.dial(ctx, "tcp", c.addr); err == nil {
			_ = t.SetWriteDeadline(time.Now().Add(s.d.Timing.RPCTimeout.D()))
			if _, err = t.Write(hello); err == nil {
				_ = t.SetWriteDeadline(time.Time{})
				s.targets.accepted(c)
				return t, c, nil
			}
			_ = t.Close()
		}
		c.load.active.Add(-1)
		s.targets.refusedAt(c, time.Now())
	}
	return nil, candidate{}, err
}
