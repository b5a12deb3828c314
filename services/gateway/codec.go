package gateway

import (
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/gateway/wire"
)

// copyBuffer is the piece in which bodies are passed on.
const copyBuffer = 32 << 10

// codec turns what net/http reads from a connection into an Exchange and
// writes its response back. Nothing above it sees net/http's types.
type codec struct {
	s     *Server
	plain bool
}

// ServeHTTP implements http.Handler.
func (c *codec) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !c.s.gate.enter() {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	defer c.s.gate.leave()
	ex := c.read(w, r)
	defer ex.finish()
	c.s.chain.run(ex)
	if ex.Response.Upgraded != nil {
		c.s.switchProtocols(w, ex)
		return
	}
	if err := c.write(w, ex); err != nil {
		// The status is out and the body is not whole: only a broken
		// connection, or a reset stream, tells the client.
		panic(http.ErrAbortHandler)
	}
}

// read makes the exchange. Headers of the hop stay here.
func (c *codec) read(w http.ResponseWriter, r *http.Request) *Exchange {
	ex := &Exchange{Received: time.Now(), ctx: r.Context()}
	ex.conn, _ = r.Context().Value(connKey{}).(*edgeConn)
	ex.Peer, _ = netip.ParseAddrPort(r.RemoteAddr) // the zero value is "unknown"
	h := wire.FromHTTP(r.Header)
	req := &ex.Request
	req.Method, req.Host, req.Path, req.RawPath, req.Query = r.Method, r.Host, r.URL.Path, r.URL.RawPath, r.URL.RawQuery
	req.ContentLength, req.TLS = r.ContentLength, !c.plain
	if r.ProtoMajor == 1 && h.HasToken("Connection", "upgrade") {
		req.Upgrade = h.Get("Upgrade")
	}
	wire.StripHop(h)
	h.Del("Content-Length")
	req.Header = h
	req.interim = func(status int, h Header) {
		out := w.Header()
		h.AddToHTTP(out)
		w.WriteHeader(status)
		clear(out)
	}
	if r.ContentLength == 0 {
		req.Body = http.NoBody
		return ex
	}
	req.Body = &clientBody{
		src: r.Body, left: c.s.settings.maxBody.Load(),
		arm:     http.NewResponseController(w).SetReadDeadline,
		timeout: 10 * c.s.d.Timing.RPCTimeout.D(),
	}
	if r.ProtoMajor > 1 || len(r.Trailer) > 0 {
		req.Trailer = func() Header { return wire.FromHTTP(r.Trailer) }
	}
	return ex
}

// write sends the response. Each piece must go out within the time that a
// whole request may take; a client that takes nothing is let go.
func (c *codec) write(w http.ResponseWriter, ex *Exchange) error {
	rc := http.NewResponseController(w)
	arm := func() { _ = rc.SetWriteDeadline(time.Now().Add(30 * c.s.d.Timing.RPCTimeout.D())) }
	arm()
	h := w.Header()
	for name, value := range ex.Response.Header.All() {
		if !wire.SameName(name, "Content-Length") {
			h.Add(name, value)
		}
	}
	if n, status := ex.Response.ContentLength, ex.Response.Status; n > 0 || n == 0 && bodyAllowed(status) {
		h.Set("Content-Length", strconv.FormatInt(n, 10))
	}
	if ex.CloseConnection {
		// HTTP/1 sends it; HTTP/2 sends GOAWAY instead.
		h.Set("Connection", "close")
	}
	w.WriteHeader(ex.Response.Status)
	if ex.Response.Body == nil || ex.Request.Method == http.MethodHead {
		return nil
	}
	buf := c.s.copies.Get().(*[]byte)
	defer c.s.copies.Put(buf)
	if err := pass(w, rc, ex.Response, *buf, arm); err != nil {
		return err
	}
	if ex.Response.Trailer != nil {
		for name, value := range ex.Response.Trailer().All() {
			h.Add(http.TrailerPrefix+name, value)
		}
	}
	return nil
}

// pass copies the body; one of unknown length is flushed piece by piece,
// because somebody may wait for the next event in it.
func pass(w io.Writer, rc *http.ResponseController, r Response, buf []byte, arm func()) error {
	stream := r.ContentLength < 0
	for {
		n, rerr := r.Body.Read(buf)
		if n > 0 {
			arm()
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
			if stream {
				if err := rc.Flush(); err != nil {
					return err
				}
			}
		}
		if errors.Is(rerr, io.EOF) {
			return nil
		}
		if rerr != nil {
			return rerr
		}
	}
}

// bodyAllowed says whether an answer of a status may have a body, by RFC 9110
// section 6.4.1.
func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// clientBody is the body of a client's request: at most so long, each piece at
// most so late. Reads are not concurrent with one another; Close may be with
// one.
type clientBody struct {
	src     io.ReadCloser
	left    int64
	arm     func(time.Time) error
	timeout time.Duration
	err     error
	ended   atomic.Bool
}

// Read implements io.Reader. Its errors other than io.EOF are services.Errors.
func (b *clientBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	// One byte more than allowed tells a body that is too long from one that
	// fits exactly.
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	_ = b.arm(time.Now().Add(b.timeout)) // not every codec has deadlines
	n, err := b.src.Read(p)
	b.left -= int64(n)
	switch {
	case b.left < 0:
		n += int(b.left)
		b.err = services.Errorf(services.Invalid, "the body is too long").WithReason(ReasonTooLarge).WithRemedy("send less at once")
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF):
		b.err = io.EOF
	default:
		b.err = &services.Error{Op: "request body", Kind: services.Unavailable, Reason: ReasonSlowBody, Msg: "it did not arrive whole", Err: err}
	}
	b.ended.Store(true)
	_ = b.arm(time.Time{})
	return n, b.err
}

// Close implements io.Closer. An upstream that answered early may still read:
// its read ends at once, and with it the connection.
func (b *clientBody) Close() error {
	if !b.ended.Swap(true) {
		_ = b.arm(time.Now())
	}
	return nil // the server closes src when the handler returns
}
