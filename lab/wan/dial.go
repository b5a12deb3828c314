package wan

import (
	"context"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/flix-lab/flix/services"
)

// Dialer returns a dialer for traffic that starts in a region. Connecting to
// an address in another region takes one round trip more than it would, also
// when it fails; an address that the table does not know is not delayed.
//
// Networks are tcp and udp in their forms; the connection of a udp network
// implements net.PacketConn too.
func (t *Table) Dialer(from string) services.DialFunc { return t.DialerAt(Site{Region: from}) }

// DialerAt is Dialer for traffic of which more is known than its region: rules
// (see Impose) tell sites apart.
func (t *Table) DialerAt(from Site) services.DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		to, known := t.Region(address)
		if !known {
			return t.dial(ctx, network, address)
		}
		f := flow{t: t, from: from, addr: address, region: to}
		if err := t.passable(ctx, f); err != nil {
			return nil, dialError(network, err)
		}
		return t.connect(ctx, f, network)
	}
}

// connect makes the connection of a flow that nothing blocks.
func (t *Table) connect(ctx context.Context, f flow, network string) (net.Conn, error) {
	in, out := f.path(false), f.path(true)
	shaped := t.Path(f.from.Region, f.region).shaped() || f.touched()
	udp := strings.HasPrefix(network, "udp")
	var (
		raw net.Conn
		err error
	)
	if shaped && !udp {
		raw, err = dialStream(ctx, t.dial, network, f.addr, in, out)
	} else {
		raw, err = t.dial(ctx, network, f.addr)
	}
	if err != nil {
		return nil, err
	}
	if f.refused() {
		if c, ok := raw.(syscall.Conn); ok {
			resetRaw(c)
		}
		return nil, dialError(network, syscall.ECONNRESET)
	}
	if !shaped {
		t.crosses(raw, open{flow: f})
		return raw, nil
	}
	if udp {
		t.crosses(raw, open{flow: f, datagram: true})
		return newDatagram(raw, in, out, t.buffers), nil
	}
	s := newStream(raw, in, out)
	t.crosses(raw, open{flow: f, stream: s})
	return s, nil
}

// dialStream connects half a round trip from now and answers another half
// later, as the first two packets of a handshake would take. The connection is
// not delayed yet.
func dialStream(ctx context.Context, dial services.DialFunc, network, address string, in, out func() Path) (net.Conn, error) {
	if err := sleep(ctx, out().oneWay()); err != nil {
		return nil, dialError(network, err)
	}
	raw, err := dial(ctx, network, address)
	if serr := sleep(ctx, in().oneWay()); serr != nil {
		if err == nil {
			_ = raw.Close() // nobody has used it
		}
		return nil, dialError(network, serr)
	}
	if err != nil {
		return nil, err
	}
	return raw, nil
}

// oneWay is how long a packet of a handshake takes.
func (p Path) oneWay() time.Duration {
	if p.loss > 0 {
		return p.RTT/2 + resent(p, 1)
	}
	return p.RTT / 2
}

func dialError(network string, err error) error {
	return &net.OpError{Op: "dial", Net: network, Err: err}
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
