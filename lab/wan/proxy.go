package wan

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/flix-lab/flix/services"
)

// Proxy carries connections to one address of a region as if they crossed the
// WAN from where they come: it is how traffic between programs that know
// nothing of the lab, such as the nodes of a store, is shaped.
type Proxy struct {
	// Listener takes the connections; the proxy closes it.
	Listener net.Listener
	// Target is where they go.
	Target string
	// From says which region an address lies in. Connections from elsewhere are
	// refused.
	From func(netip.Addr) (region string, ok bool)
	// Dial returns the dialer for traffic that starts in a region; see
	// Table.Dialer.
	Dial func(region string) services.DialFunc
	// Log takes what goes wrong.
	Log *slog.Logger
}

// proxyConnect bounds the making of one connection beyond its round trips.
const proxyConnect = 10 * time.Second

// Run carries connections until ctx ends, then resets those that are open.
func (p *Proxy) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = p.Listener.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel() // before the wait
	for {
		c, err := p.Listener.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = c.Close() // nobody has used it
			}
			_ = p.Listener.Close() // closed already, as a rule
			return nil
		}
		if err != nil {
			return err
		}
		wg.Go(func() { p.carry(ctx, c) })
	}
}

func (p *Proxy) carry(ctx context.Context, client net.Conn) {
	defer client.Close()
	from, err := p.region(client)
	if err != nil {
		p.Log.Warn("a connection to the proxy is refused", "error", err)
		return
	}
	dctx, cancel := context.WithTimeout(ctx, proxyConnect)
	server, err := p.Dial(from)(dctx, "tcp", p.Target)
	cancel()
	if err != nil { // the target is down: so is the connection, as without a proxy
		reset(client)
		return
	}
	defer server.Close()
	stop := context.AfterFunc(ctx, func() { reset(client); _ = server.Close() })
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { pipe(server, client) })
	pipe(client, server)
	wg.Wait()
}

func (p *Proxy) region(client net.Conn) (string, error) {
	a, ok := client.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return "", errors.New("it is not a TCP connection")
	}
	region, ok := p.From(a.AddrPort().Addr().Unmap())
	if !ok {
		return "", errors.New(a.String() + " is in no region of the lab")
	}
	return region, nil
}

// pipe copies one direction and passes its end on: a half-closed connection
// stays one.
func pipe(to, from net.Conn) {
	_, err := io.Copy(to, from)
	if c, ok := to.(interface{ CloseWrite() error }); ok && err == nil {
		_ = c.CloseWrite()
		return
	}
	_ = to.Close()
	_ = from.Close()
}

// reset ends a connection without a word.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}
