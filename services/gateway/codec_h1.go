package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/gateway/wire"
)

// errEnding is told to who asks a gateway that takes no requests any more.
var errEnding = services.Errorf(services.Unavailable, "this gateway is ending").WithRemedy("connect anew")

// errHandover says that another codec goes on with the connection.
var errHandover = errors.New("the connection was handed over")

// h1 serves one HTTP/1.1 connection: each request becomes an Exchange and its
// response is written back, one after the other on the connection's goroutine.
type h1 struct {
	s        *Server
	conn     *wire.Conn
	edge     *edgeConn
	plain    bool
	now      time.Time // when the last request was over
	ctx      context.Context
	presence *wire.Presence
}

// transaction is what one request needs; it is used again for another, on any
// connection.
type transaction struct {
	ex     Exchange
	head   wire.Head
	call   call
	up     upstreamCall
	inside wire.Fields
}

// serveH1 serves a connection until it ends. It returns errHandover, and the
// bytes read already, if the client speaks HTTP/2.
func (s *Server) serveH1(ctx context.Context, nc net.Conn, edge *edgeConn, plain bool) (early []byte, err error) {
	h := &h1{s: s, edge: edge, plain: plain}
	if plain {
		early, edge.early = edge.early, nil // below TLS they are the handshake's
	}
	h.conn = wire.NewConn(nc, edge.tcp, plain, early, s.buffers, &s.bounds)
	defer h.conn.Close()
	h.ctx, h.presence = wire.NewPresence(ctx, h.conn, s.grace)
	defer h.presence.Leave()
	defer context.AfterFunc(ctx, h.presence.Cut)()
	if edge.tcp != nil {
		forget, werr := s.watcher.Watch(edge.tcp, h.presence)
		if werr != nil {
			return nil, werr
		}
		defer forget()
	}
	for h.now = time.Now(); ; {
		if err := h.conn.Await(h.now); err != nil {
			return nil, err
		}
		again, err := h.serve()
		if errors.Is(err, wire.ErrHTTP2) {
			_, rest := h.conn.Hijack()
			return append([]byte(wire.Preface), rest...), errHandover
		}
		if !again || err != nil {
			return nil, err
		}
	}
}

// serve answers one request; again says that another may follow.
func (h *h1) serve() (again bool, err error) {
	t := h.s.transactions.Get().(*transaction)
	defer h.s.transactions.Put(t)
	defer t.clear()
	if err := h.conn.Next(&t.head); err != nil {
		h.refuse(err)
		return false, err
	}
	if !h.s.gate.enter() {
		h.conn.Refuse(http.StatusServiceUnavailable, "application/json", problemOf(errEnding))
		return false, nil
	}
	defer h.s.gate.leave()
	h.presence.Busy(true)
	defer h.presence.Busy(false)
	ex := h.read(t)
	h.s.chain.run(ex)
	if ex.Response.Upgraded != nil {
		h.s.switchProtocols(h.conn, ex)
		ex.finish()
		return false, nil
	}
	werr := h.write(ex)
	ex.finish()
	h.now = ex.now()
	whole := h.conn.Body().Finish()
	if werr != nil {
		// The status is out and the body is not whole: only a broken
		// connection tells the client.
		h.conn.Abort()
	}
	if again = h.conn.Idle() && whole && h.ctx.Err() == nil; !again && !h.conn.Broken() {
		h.conn.Linger()
	}
	return again, nil
}

// read makes the exchange.
func (h *h1) read(t *transaction) *Exchange {
	ex, in := &t.ex, &t.head
	ex.Received, ex.ctx, ex.conn, ex.Peer = time.Now(), h.ctx, h.edge, h.edge.peer
	ex.t, ex.lifeline = t, h.presence.Lifeline
	r := &ex.Request
	r.Method, r.Host, r.Path, r.RawPath, r.Query = in.Method, in.Host, in.Path, in.RawPath, in.Query
	r.Header, r.ContentLength, r.Upgrade, r.TLS = in.Header, in.ContentLength, in.Upgrade, !h.plain
	r.expect, r.interim = in.Expect, h
	if in.ContentLength == 0 {
		r.Body = http.NoBody
		return ex
	}
	// A body may be read for a moment longer than its request takes, by a
	// try that is over: it is not used again.
	r.Body = &clientBody{src: h.conn.Body(), wire: h.conn.Body(), left: h.s.settings.maxBody.Load()}
	if in.ContentLength < 0 {
		r.Trailer, r.Trailers = h.conn.Body().Trailer, in.Trailers
	}
	return ex
}

// Interim passes an interim answer on.
func (h *h1) Interim(status int, f Header) { h.conn.Interim(status, f) }

// clear makes the transaction ready for another request and lets go of this
// one's strings.
func (t *transaction) clear() {
	ex := &t.ex
	attempts, done := ex.Attempts[:0], ex.done
	clear(done)
	*ex = Exchange{Attempts: attempts, done: done[:0]}
	t.head.Clear()
	t.up.clear()
	t.inside.Reset()
	t.call = call{}
}

// write sends the response. A body of unknown length goes out piece by piece,
// because somebody may wait for the next event in it; so does any other: a
// piece that is there is not held back.
func (h *h1) write(ex *Exchange) error {
	c, r := h.conn, &ex.Response
	length := r.ContentLength
	if r.Body == nil && ex.Request.Method != http.MethodHead {
		length = 0
	}
	c.Begin(r.spoken(), r.Header, length, ex.CloseConnection || h.unwanted(ex))
	if r.Body == nil || c.Bodyless() {
		return c.End(nil)
	}
	if r.waits() {
		if err := c.Flush(); err != nil {
			return err
		}
	}
	var err error
	if p, ok := r.Body.(wire.Pieces); ok {
		err = passPieces(c, p)
	} else {
		err = h.passBody(r.Body)
	}
	if err != nil {
		return err
	}
	if r.Trailer != nil {
		return c.End(r.Trailer())
	}
	return c.End(nil)
}

// unwanted says that the request's body will not be read to its end, so that the
// connection ends with the answer: a client that is not told sends its next
// request into it, and loses that.
func (h *h1) unwanted(ex *Exchange) bool {
	if ex.Request.ContentLength == 0 || ex.Err == nil && !ex.Response.ends {
		return false
	}
	return ex.Response.Status == http.StatusRequestTimeout || h.conn.Body().Lost()
}

func passPieces(c *wire.Conn, body wire.Pieces) error {
	for {
		p, more, err := body.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := c.Write(p, !more); err != nil {
			return err
		}
	}
}

func (h *h1) passBody(body io.Reader) error {
	buf := h.s.copies.Get().(*[]byte)
	defer h.s.copies.Put(buf)
	for {
		n, err := body.Read(*buf)
		if n > 0 {
			if werr := h.conn.Write((*buf)[:n], err == nil); werr != nil {
				return werr
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// refuse answers what is no request.
func (h *h1) refuse(err error) {
	var bad *wire.BadMessage
	if errors.As(err, &bad) {
		h.conn.Refuse(bad.Status, "application/json", h.s.refusal(bad, h.edge.peer))
	}
}

// refusal notes what is no request and returns the body of its answer.
func (s *Server) refusal(bad *wire.BadMessage, peer netip.AddrPort) []byte {
	reason := "bad_request"
	if bad.Status == http.StatusRequestTimeout {
		reason = "slow_header"
	}
	s.metrics.refused.WithLabelValues(reason).Inc()
	s.d.Tel.Log.Debug("request refused", "peer", peer, "status", bad.Status, "error", bad.Msg)
	return problemOf(services.Errorf(services.Invalid, "the request is not well formed: %s", bad.Msg).WithReason(ReasonMalformed))
}

// problemOf is an error as its receiver reads it.
func problemOf(err error) []byte {
	b, jerr := json.Marshal(services.ProblemOf(err))
	if jerr != nil { // a Problem holds only strings
		panic("gateway: problem: " + jerr.Error())
	}
	return append(b, '\n')
}
