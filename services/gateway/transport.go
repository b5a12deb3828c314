package gateway

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"

	"github.com/flix-lab/flix/services"
)

// edgeHost is a name that every gateway's certificate carries.
const edgeHost = "api.flix.test"

// transports are the pooled connections to servers.
type transports struct {
	// origin speaks plain HTTP/1.1 to instances of the region.
	origin *http.Transport
	// remote speaks HTTP/2 over TLS to gateways of other regions.
	remote *http.Transport
	// upgrade speaks HTTP/1.1 over TLS to them: HTTP/2 has no Upgrade.
	upgrade *http.Transport
}

func newTransports(d Deps) *transports {
	rpc := d.Timing.RPCTimeout.D()
	local := &net.Dialer{Timeout: rpc}
	t := &transports{origin: pooled(d)}
	t.origin.DialContext = connecting(local.DialContext)
	dial := d.Dial
	if dial == nil {
		dial = local.DialContext
	}
	conf := &tls.Config{RootCAs: d.RootCAs, ServerName: edgeHost, MinVersion: tls.VersionTLS13, ClientSessionCache: tls.NewLRUClientSessionCache(64)}
	remote := func(proto string) *http.Transport {
		rt := pooled(d)
		c := conf.Clone()
		c.NextProtos = []string{proto}
		rt.DialTLSContext = connecting(dialTLS(dial, c, 5*rpc))
		rt.Protocols = new(http.Protocols)
		rt.Protocols.SetHTTP1(proto != "h2")
		rt.Protocols.SetHTTP2(proto == "h2")
		return rt
	}
	t.remote, t.upgrade = remote("h2"), remote("http/1.1")
	// A region that is cut off sends no reset: pings find out.
	t.remote.HTTP2 = &http.HTTP2Config{SendPingTimeout: 5 * rpc, PingTimeout: 5 * rpc}
	return t
}

func pooled(d Deps) *http.Transport {
	return &http.Transport{
		MaxIdleConns: 512, MaxIdleConnsPerHost: 64,
		// Sooner than servers let go of idle connections themselves, so that
		// a request seldom meets one that is being closed.
		IdleConnTimeout:    d.Timing.MaxConnectionAge.D() / 2,
		DisableCompression: true,
	}
}

// connecting marks the errors of a dialer.
func connecting(dial services.DialFunc) services.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, &connectError{err}
		}
		return c, nil
	}
}

// dialTLS connects and shakes hands within the timeout.
func dialTLS(dial services.DialFunc, conf *tls.Config, timeout time.Duration) services.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		raw, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		c := tls.Client(raw, conf)
		if err := c.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, err
		}
		return c, nil
	}
}

func (t *transports) close() {
	t.origin.CloseIdleConnections()
	t.remote.CloseIdleConnections()
	t.upgrade.CloseIdleConnections()
}
