package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
)

// h2Server is net/http's server for HTTP/2, fed with connections whose clients
// have said that they speak it.
type h2Server struct {
	srv  *http.Server
	feed *feed
}

// maxDecodedHeader bounds the header that is read of a stream. One that is
// longer ends the connection, because it was not decoded and what both ends know
// of HPACK differs from then on; one that is shorter, yet longer than
// maxHeaderBytes, is refused alone, by the codec.
const maxDecodedHeader = 4 * maxHeaderBytes

func (s *Server) h2Server(ctx context.Context) *h2Server {
	timing := s.d.Timing
	srv := &http.Server{
		Handler:           &h2{s: s},
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       withConn,
		ConnState:         s.trackConn,
		MaxHeaderBytes:    maxDecodedHeader,
		ReadHeaderTimeout: 5 * timing.RPCTimeout.D(),
		IdleTimeout:       timing.MaxConnectionAge.D(),
		ErrorLog:          slog.NewLogLogger(s.d.Tel.Log.Handler(), slog.LevelDebug),
		Protocols:         new(http.Protocols),
		// OPTIONS * is answered as over HTTP/1.1.
		DisableGeneralOptionsHandler: true,
		// Nobody may keep streams by sending or taking nothing, or open more
		// than an edge can bear.
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 250, MaxReadFrameSize: 16 << 10,
			SendPingTimeout: timing.MaxConnectionAge.D() / 2, PingTimeout: 5 * timing.RPCTimeout.D(),
			WriteByteTimeout: s.bounds.Write,
		},
	}
	srv.Protocols.SetHTTP2(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	addr := net.Addr(&net.TCPAddr{})
	if s.d.TLS != nil {
		addr = s.d.TLS.Addr()
	} else if s.d.HTTP != nil {
		addr = s.d.HTTP.Addr()
	}
	return &h2Server{srv: srv, feed: newFeed(addr)}
}

func (h *h2Server) run() error {
	if err := h.srv.Serve(h.feed); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

func (h *h2Server) close() {
	_ = h.feed.Close()
	_ = h.srv.Close()
}

// take serves a connection and returns when it has ended. nc is c, or the TLS
// on it.
func (h *h2Server) take(c *edgeConn, nc net.Conn) {
	if h.feed.give(nc) {
		c.wait()
	}
}
