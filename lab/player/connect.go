package player

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"sync"

	"github.com/pires/go-proxyproto"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/gateway/wire"
)

// connector opens the client's connections: over the WAN and the access link,
// with the client's simulated address in front (PROXY protocol v2), then TLS
// 1.3. It knows every open one and closes them together.
type connector struct {
	dial    services.DialFunc
	client  netip.Addr
	link    *link // nil without a cap
	trust   *trust
	tickets tls.ClientSessionCache
	// lean connections cost little memory, and agree on keys by leanCurves.
	lean bool
	bufs *buffers

	mu     sync.Mutex
	open   map[*tracked]struct{}
	closed bool
}

// tracked is a connection that its connector can close. One goroutine writes at
// a time.
type tracked struct {
	net.Conn
	owner *connector
	// header goes out with the first bytes written, in one packet; nil when it
	// has.
	header []byte
}

// Write implements net.Conn.
func (t *tracked) Write(b []byte) (int, error) {
	if t.header == nil {
		return t.Conn.Write(b)
	}
	all := append(t.header, b...)
	before := len(t.header)
	t.header = nil
	n, err := t.Conn.Write(all)
	return max(n-before, 0), err
}

func (t *tracked) Close() error {
	t.owner.mu.Lock()
	delete(t.owner.open, t)
	t.owner.mu.Unlock()
	return t.Conn.Close()
}

// tcp connects; who the client is goes before the first bytes written.
func (c *connector) tcp(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	raw, err := c.dial(ctx, "tcp", addr.String())
	if err != nil {
		return nil, err
	}
	if c.lean {
		raw = wire.Quiet(raw)
	}
	header, err := proxyHeader(c.client, raw)
	if err != nil {
		_ = raw.Close() // nobody has used it
		return nil, err
	}
	conn := raw
	if c.link != nil {
		if conn, err = c.link.attach(raw); err != nil {
			_ = raw.Close()
			return nil, err
		}
	}
	t := &tracked{Conn: conn, owner: c, header: header}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	c.open[t] = struct{}{}
	return t, nil
}

// proxyHeader is the PROXY v2 header of a connection from the client.
func proxyHeader(client netip.Addr, conn net.Conn) ([]byte, error) {
	local, _ := conn.LocalAddr().(*net.TCPAddr)
	remote, _ := conn.RemoteAddr().(*net.TCPAddr)
	if local == nil || remote == nil {
		return nil, services.Errorf(services.Internal, "%s is not a TCP connection", conn.RemoteAddr())
	}
	transport := proxyproto.TCPv4
	if client.Is6() {
		transport = proxyproto.TCPv6
	}
	h := &proxyproto.Header{
		Version: 2, Command: proxyproto.PROXY, TransportProtocol: transport,
		SourceAddr: &net.TCPAddr{IP: client.AsSlice(), Port: local.Port}, DestinationAddr: remote,
	}
	return h.Format()
}

// NewTickets makes an empty store of a device's TLS session tickets. It is
// bounded: a device talks to the API's two hosts and a few appliances.
func NewTickets() tls.ClientSessionCache { return tls.NewLRUClientSessionCache(maxTickets) }

// maxTickets of a device, one for each name.
const maxTickets = 12

// leanCurves are what a play that shall cost little agrees on keys by: package tls
// has P-256 in assembly, in half the time of X25519.
func leanCurves() []tls.CurveID { return []tls.CurveID{tls.CurveP256} }

// tls secures a connection. It closes it on failure.
func (c *connector) tls(ctx context.Context, conn net.Conn, host string, protocols ...string) (*tls.Conn, error) {
	config := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS13, NextProtos: protocols, ClientSessionCache: c.tickets}
	c.trust.guard(config)
	var r *records
	if c.lean {
		config.CurvePreferences = leanCurves()
		r = &records{Conn: conn, bufs: c.bufs, gathers: true}
		conn = r
	}
	t := tls.Client(conn, config)
	if err := t.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	if r != nil {
		r.gathers = false
	}
	return t, nil
}

// close ends every connection.
func (c *connector) close() {
	c.mu.Lock()
	c.closed = true
	open := c.open
	c.open = make(map[*tracked]struct{})
	c.mu.Unlock()
	for t := range open {
		_ = t.Conn.Close() // the play is over
	}
}
