package gateway

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	api "github.com/flix-lab/flix/services/edge"
	"github.com/flix-lab/flix/services/gateway/wire"
	"github.com/flix-lab/flix/services/telemetry"
)

// call is one request on its way to one of several servers.
type call struct {
	ex *Exchange
	// what names the call in errors and metrics, span in traces.
	what string
	span func(*call, server) string
	// servers appends those that may be asked.
	servers func(*Exchange, []server) []server
	guard   *guard
	// transport reaches them.
	transport wire.Sender
	// fixed is the route, where it leads to fixed origins.
	fixed *Route
	// header is set on every try, over the client's own.
	header  Header
	timeout time.Duration

	tried [maxTries]string
	room  [8]server
}

// call returns the exchange's room for one.
func (ex *Exchange) call() *call {
	if ex.t == nil {
		return &call{ex: ex}
	}
	ex.t.call = call{ex: ex}
	return &ex.t.call
}

// send tries servers until one answers or the rules forbid another try. It
// returns an error of kind Unavailable when no server answered.
func (s *Server) send(c *call) error {
	var (
		busy *reply // an answer with status 500 or 503, kept while others are tried
		err  error
		ex   = c.ex
	)
	for n := 0; n < maxTries; n++ {
		start := ex.now()
		srv, ok := pick(c.servers(ex, c.room[:0]), c.tried[:n], start)
		if !ok {
			break
		}
		if busy != nil {
			busy.discard()
			busy = nil
		}
		c.tried[n] = srv.addr
		ex.trying(n, start)
		r, o, terr := s.try(c, srv, n+1, start)
		var ferr error
		if o != answered { // whose body may still be on its way
			if ferr = ex.body.failure(); ferr != nil {
				o = gone // the client's side broke, not the server
			}
		}
		ex.mark(stateAfter(o))
		end := ex.now()
		if o == answered && r.status() == http.StatusInternalServerError {
			o = faulty
		}
		c.guard.tried(s.metrics, c.what, o)
		ex.Attempts = append(ex.Attempts, Attempt{Server: srv.id, Region: srv.region, Outcome: string(o), Status: r.status(), MS: float64(end.Sub(start).Microseconds()) / 1000})
		s.tried(c, srv, r, o, start, end)
		if o == answered {
			return s.accept(ex, r)
		}
		if ferr != nil {
			r.discard()
			return ferr
		}
		busy, err = r, failureOf(o, c.what, terr)
		if !o.retryable(idempotent(&ex.Request), ex.body.replayable()) || n+1 < maxTries && !c.guard.budget.take(end) {
			break
		}
	}
	if busy != nil {
		return s.accept(ex, busy)
	}
	if err == nil {
		err = s.noServers(c)
	}
	return err
}

// upstreamCall is what one try needs: its request, and the server's answer,
// which lives as long as the response. An exchange has one try at a time.
type upstreamCall struct {
	req    wire.Request
	over   wire.Fields
	resp   wire.Response
	answer wire.Fields
	reply  reply
}

func (u *upstreamCall) clear() {
	u.over.Reset()
	u.answer.Reset()
	u.req, u.resp, u.reply = wire.Request{}, wire.Response{}, reply{}
}

// upstreamCall returns the exchange's room for a try.
func (ex *Exchange) upstreamCall() *upstreamCall {
	if ex.t == nil {
		return new(upstreamCall)
	}
	ex.t.up.clear()
	return &ex.t.up
}

// reply is a server's answer as a response's body: closing it gives back what
// the try holds.
type reply struct {
	resp *wire.Response
	load *load
	span trace.Span // nil where the request is not traced
	over bool
	held bool // it is not in load any more
}

func (r *reply) status() int {
	if r == nil {
		return 0
	}
	return r.resp.Status
}

func (r *reply) discard() {
	if r != nil {
		_ = r.Close()
	}
}

// Read implements io.Reader.
func (r *reply) Read(p []byte) (int, error) { return r.resp.Body.Read(p) }

// Next implements wire.Pieces.
func (r *reply) Next() (p []byte, more bool, err error) { return r.resp.Body.(wire.Pieces).Next() }

// Ready implements wire.Pieces.
func (r *reply) Ready() bool { return r.resp.Body.(wire.Pieces).Ready() }

// Close implements io.Closer.
func (r *reply) Close() error {
	if r.over {
		return nil
	}
	r.over = true
	var err error
	if r.resp.Body != nil {
		err = r.resp.Body.Close()
	}
	r.release(nil)
	return err
}

// idle takes the answer out of its server's load before its end.
func (r *reply) idle() {
	if !r.held {
		r.held = true
		r.load.InFlight.Add(-1)
	}
}

func (r *reply) release(err error) {
	r.idle()
	if r.span != nil {
		telemetry.End(r.span, err)
	}
}

// try sends the request to one server. The reply is nil unless the server
// answered (answered or overloaded).
func (s *Server) try(c *call, srv server, n int, start time.Time) (*reply, outcome, error) {
	ex := c.ex
	limit := min(c.timeout, time.Duration(s.settings.deadline.Load())-start.Sub(ex.Received))
	if limit <= 0 {
		return nil, late, wire.ErrDeadline
	}
	ctx := ex.ctx
	var span trace.Span
	if ex.Traced() {
		ctx, span = s.d.Tel.Tracer.Start(ctx, c.span(c, srv), trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
			attribute.String("url.path", ex.Request.Path), attribute.String("server.instance", srv.id),
			attribute.String("server.region", srv.region), attribute.Int("http.request.resend_count", n-1)))
	}
	srv.load.InFlight.Add(1)
	u := ex.upstreamCall()
	u.reply = reply{resp: &u.resp, load: srv.load, span: span}
	u.resp.Header = &u.answer
	c.request(u, srv, start, start.Add(limit))
	if span != nil {
		telemetry.Propagator.Inject(ctx, carrier{&u.over})
	} else if ex.trace.parent != "" {
		u.over.Add(traceparentHeader, ex.trace.parent)
	}
	err := c.transport.Send(ctx, &u.req, &u.resp)
	o := classify(ex.ctx, u.resp.Status, err)
	if err != nil {
		u.reply.release(err)
		return nil, o, err
	}
	if span != nil {
		span.SetAttributes(attribute.Int("http.response.status_code", u.resp.Status))
	}
	return &u.reply, o, nil
}

// request renders the exchange for a server.
func (c *call) request(u *upstreamCall, srv server, start, deadline time.Time) {
	in := &c.ex.Request
	for name, value := range c.header.All() {
		u.over.Add(name, value)
	}
	u.req = wire.Request{
		Addr: srv.addr, Method: in.Method, Target: in.target(), Host: in.Host, Header: in.Header, Over: &u.over,
		Upgrade: in.Upgrade, ContentLength: in.ContentLength, Trailer: in.Trailer, Trailers: in.Trailers, Expect: in.expect,
		Start: start, Deadline: deadline, Interim: in.interim, Lifeline: c.ex.lifeline,
	}
	if c.fixed != nil {
		c.fixed.aim(&u.req, in, srv)
	}
	b := c.ex.body
	if b == nil {
		return
	}
	if in.Upgrade != "" && !b.gather(in.ContentLength) {
		u.req.Upgrade = ""
	}
	if in.Trailer != nil {
		u.req.ContentLength = -1 // a body of known length has nothing after it in HTTP/1.1
	} else if p, ok := b.whole(); ok {
		u.req.Whole, u.req.ContentLength, u.req.Expect = p, int64(len(p)), false
		return
	}
	u.req.Body = b.open()
	u.req.Reopen = func() (io.ReadCloser, error) {
		if !b.replayable() {
			return nil, errors.New("too much of the body has been read")
		}
		return b.open(), nil
	}
}

// target is path and query as the next server reads them.
func (r *Request) target() string {
	if plainPath(r.Path) && r.RawPath == "" {
		if r.Query == "" {
			return r.Path
		}
		return r.Path + "?" + r.Query
	}
	u := url.URL{Path: r.Path, RawPath: r.RawPath, RawQuery: r.Query}
	return u.RequestURI()
}

// plainPath says that a path is the same with and without percent-encoding.
func plainPath(p string) bool {
	for i := range len(p) {
		switch c := p[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '/', c == '-', c == '.', c == '_', c == '~':
		default:
			return false
		}
	}
	return p != ""
}

// carrier lets the tracer read and write a header.
type carrier struct{ h Header }

func (c carrier) Get(key string) string { return c.h.Get(key) }
func (c carrier) Set(key, value string) { c.h.Set(key, value) }
func (c carrier) Keys() []string {
	out := make([]string, 0, c.h.Len())
	for name := range c.h.All() {
		out = append(out, name)
	}
	return out
}

// accept makes the server's answer the response.
func (s *Server) accept(ex *Exchange, r *reply) error {
	resp := r.resp
	ex.Response = Response{Status: resp.Status, Header: resp.Header, ContentLength: resp.ContentLength, Trailer: resp.Trailer, ends: resp.Ends}
	if ex.callsGRPC() {
		ex.body.relax()
	}
	if resp.Header.Get(api.HeaderHeld) != "" {
		// It lasts as long as somebody listens, and takes no request's place.
		resp.Header.Del(api.HeaderHeld)
		ex.letGo()
		r.idle()
	}
	switch {
	case resp.Upgraded != nil:
		ex.Response.Upgraded = &upgradedConn{ReadWriteCloser: resp.Upgraded, held: *r}
	default:
		ex.Response.Body = r
		if _, ok := resp.Body.(wire.Pieces); !ok {
			ex.Response.Body = struct{ io.ReadCloser }{r}
		}
	}
	return nil
}

// upgradedConn is reply for both ways. Several end it, and some of them when the
// exchange is over and its room serves another: it has what the try holds itself.
type upgradedConn struct {
	io.ReadWriteCloser
	once sync.Once
	held reply
}

// Close implements io.Closer.
func (u *upgradedConn) Close() error {
	err := u.ReadWriteCloser.Close()
	u.once.Do(func() { u.held.release(nil) })
	return err
}

// CloseWrite passes a half-close on where the connection can.
func (u *upgradedConn) CloseWrite() error {
	if hc, ok := u.ReadWriteCloser.(interface{ CloseWrite() error }); ok {
		return hc.CloseWrite()
	}
	return errors.ErrUnsupported
}
