package oca

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/flix-lab/flix/services"
)

// headerTimeouts is how many RPC timeouts a client may take for a header.
const headerTimeouts = 5

// clientListener requires a PROXY protocol v2 header from trusted peers and
// believes nobody else's.
func clientListener(l net.Listener, trusted []netip.Prefix, patience time.Duration) net.Listener {
	return &proxyproto.Listener{
		Listener: l, ReadHeaderTimeout: patience,
		ConnPolicy: func(o proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
			if trusts(trusted, o.Upstream) {
				return proxyproto.REQUIRE, nil
			}
			return proxyproto.SKIP, nil
		},
		ValidateHeader: func(h *proxyproto.Header) error {
			if h.Version != 2 {
				return services.Errorf(services.Invalid, "PROXY protocol version %d, want 2", h.Version)
			}
			return nil
		},
	}
}

func trusts(trusted []netip.Prefix, a net.Addr) bool {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return false
	}
	for _, p := range trusted {
		if p.Contains(ap.Addr().Unmap().WithZone("")) {
			return true
		}
	}
	return false
}

// httpServer is a net/http server whose connections are counted and awaited.
type httpServer struct {
	http.Server
	open  sync.WaitGroup
	count atomic.Int64
}

func (s *Server) newHTTPServer(h http.HandlerFunc) *httpServer {
	hs := &httpServer{}
	hs.Server = http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeouts * s.d.Timing.RPCTimeout.D(),
		IdleTimeout:       s.d.Timing.MaxConnectionAge.D(),
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.d.Tel.Log.Handler(), slog.LevelDebug),
		ConnState: func(_ net.Conn, st http.ConnState) {
			switch st {
			case http.StateNew:
				hs.open.Add(1)
				hs.count.Add(1)
			case http.StateClosed, http.StateHijacked:
				hs.open.Done()
				hs.count.Add(-1)
			}
		},
	}
	return hs
}

// run serves until ctx ends and every connection is closed.
func (hs *httpServer) run(ctx context.Context, serve func() error) error {
	stop := context.AfterFunc(ctx, func() { _ = hs.Close() }) // a listener that is closed already
	defer stop()
	err := serve()
	_ = hs.Close()
	hs.open.Wait()
	if ctx.Err() != nil || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// clientTLS is the TLS of the client side: 1.3 only, HTTP/2 and HTTP/1.1.
func clientTLS(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.MinVersion = tls.VersionTLS13
	c.NextProtos = []string{"h2", "http/1.1"}
	return c
}
