package bgp

import (
	"context"
	"net"
	"net/netip"
)

// DialFrom connects to a neighbour from an address of the machine's own; the zero
// one is the machine's choice. A router knows its neighbours by their addresses:
// several speakers on one machine need one each, and on Linux all of 127.0.0.0/8
// is there for that. The way is not the lab's WAN: a router stands beside its
// appliances.
func DialFrom(from netip.Addr, address string) func(context.Context) (net.Conn, error) {
	d := &net.Dialer{}
	if from.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	return func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "tcp", address) }
}
