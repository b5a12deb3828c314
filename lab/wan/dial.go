package wan

import (
	"context"
	"net"
	"strings"
	"time"

	"github.com/flix-lab/flix/services"
)

// Dialer returns a dialer for traffic that starts in a region. Connecting to
// an address in another region takes one round trip more than it would, also
// when it fails; an address that the table does not know is not delayed.
//
// Networks are tcp and udp in their forms; the connection of a udp network
// implements net.PacketConn too.
func (t *Table) Dialer(from string) services.DialFunc {
	var d net.Dialer
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		to, known := t.Region(address)
		path := func() Path { return t.Path(from, to) }
		if !known || from == to {
			return d.DialContext(ctx, network, address)
		}
		between := pairOf(from, to)
		if err := t.passable(ctx, between); err != nil {
			return nil, dialError(network, err)
		}
		var (
			raw net.Conn
			err error
		)
		p := path()
		if !p.shaped() || strings.HasPrefix(network, "udp") {
			raw, err = d.DialContext(ctx, network, address)
		} else {
			raw, err = dialStream(ctx, &d, network, address, path)
		}
		if err != nil {
			return nil, err
		}
		t.crosses(between, raw)
		switch {
		case !p.shaped():
			return raw, nil
		case strings.HasPrefix(network, "udp"):
			return newDatagram(raw, path), nil
		}
		return newStream(raw, path), nil
	}
}

// dialStream connects half a round trip from now and answers another half
// later, as the first two packets of a handshake would take. The connection is
// not delayed yet.
func dialStream(ctx context.Context, d *net.Dialer, network, address string, path func() Path) (net.Conn, error) {
	half := path().RTT / 2
	if err := sleep(ctx, half); err != nil {
		return nil, dialError(network, err)
	}
	raw, err := d.DialContext(ctx, network, address)
	if serr := sleep(ctx, half); serr != nil {
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
