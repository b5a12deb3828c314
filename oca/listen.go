package oca

import (
	"net/netip"

	"github.com/flix-lab/flix/oca/wire"
)

// headTimeouts is how many RPC timeouts a client may take for a head.
const headTimeouts = 5

// stallTimeouts is how many times longer than a player's patience a client may
// take nothing of an answer: some browsers read no further than they buffer.
const stallTimeouts = 20

// listen makes the sides: clients by TLS, other appliances in the clear, and
// browsers on this machine.
func (s *Server) listen() {
	c := wire.Config{
		HeadTimeout: headTimeouts * s.d.Timing.RPCTimeout.D(), IdleTimeout: s.d.Timing.MaxConnectionAge.D(),
		StallTimeout: stallTimeouts * s.d.Timing.StallTimeout.D(), Log: s.d.Tel.Log,
	}
	fill := c
	c.Fields, c.Pace = wire.CrossOrigin(), &s.serveBucket
	if s.d.Plain != nil {
		plain := c
		plain.Handler = clientSide{s, true}
		s.plain = wire.New(plain)
	}
	c.Handler, c.TLS = clientSide{s, false}, s.d.TLS
	c.Proxy = func(a netip.Addr) bool { return trusts(s.d.TrustedProxies, a) }
	fill.Handler, fill.Pace = fillSide{s}, &s.fillOutBucket
	s.client, s.fill = wire.New(c), wire.New(fill)
}

// trusts says whether an address is a proxy's, which must send, and is believed
// in, a PROXY protocol header.
func trusts(trusted []netip.Prefix, a netip.Addr) bool {
	for _, p := range trusted {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// connections of clients, with TLS and without.
func (s *Server) connections() int64 {
	n := s.client.Connections()
	if s.plain != nil {
		n += s.plain.Connections()
	}
	return n
}
