package gateway

import (
	"context"
	"errors"
	"io"
	"net/url"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/gateway/wire"
	"github.com/flix-lab/flix/services/telemetry"
)

// call is one request on its way to one of several servers.
type call struct {
	ex *Exchange
	// what names the call in errors and metrics, span in traces.
	what string
	span func(server) string
	// next returns the best server that has not been tried.
	next      func(tried []string) (server, bool)
	transport wire.Sender
	// header is set on every try, over the client's own.
	header  Header
	timeout time.Duration
}

// send tries servers until one answers or the rules forbid another try. It
// returns an error of kind Unavailable when no server answered.
func (s *Server) send(c *call) error {
	var (
		tried []string
		busy  *reply // an answer with status 503, kept while others are tried
		err   = error(services.Errorf(services.Unavailable, "%s: no live server", c.what).WithReason(ReasonNoServers).WithRemedy("try again in a moment"))
	)
	ex := c.ex
	for len(tried) < maxTries {
		srv, ok := c.next(tried)
		if !ok {
			break
		}
		if busy != nil {
			busy.discard()
			busy = nil
		}
		tried = append(tried, srv.addr)
		start := time.Now()
		r, o, terr := s.try(c, srv, len(tried))
		s.metrics.tries.WithLabelValues(c.what, string(o)).Inc()
		ex.Attempts = append(ex.Attempts, Attempt{Server: srv.id, Region: srv.region, Outcome: string(o), Status: r.status(), MS: float64(time.Since(start).Microseconds()) / 1000})
		if o == answered {
			return s.accept(ex, r)
		}
		if o == refused {
			s.servers.refused(srv)
		}
		if ferr := ex.body.failure(); ferr != nil {
			r.discard()
			return ferr // the client's side broke, not the server
		}
		busy, err = r, failureOf(o, c.what, terr)
		if !o.retryable(idempotent(&ex.Request), ex.body.replayable()) {
			break
		}
	}
	if busy != nil {
		return s.accept(ex, busy)
	}
	return err
}

// reply is a server's answer, and what is to be given back after it.
type reply struct {
	resp    wire.Response
	release func()
}

func (r *reply) status() int {
	if r == nil {
		return 0
	}
	return r.resp.Status
}

func (r *reply) discard() {
	if r != nil {
		_ = r.resp.Body.Close()
		r.release()
	}
}

// try sends the request to one server. The reply is nil unless the server
// answered (answered or overloaded).
func (s *Server) try(c *call, srv server, n int) (*reply, outcome, error) {
	ex := c.ex
	start := time.Now()
	limit := min(c.timeout, time.Duration(s.settings.deadline.Load())-start.Sub(ex.Received))
	if limit <= 0 {
		return nil, late, wire.ErrDeadline
	}
	ctx, span := s.d.Tel.Tracer.Start(ex.ctx, c.span(srv), trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("url.path", ex.Request.Path), attribute.String("server.instance", srv.id),
		attribute.String("server.region", srv.region), attribute.Int("http.request.resend_count", n-1)))
	srv.load.inFlight.Add(1)
	release := func(err error) {
		srv.load.inFlight.Add(-1)
		telemetry.End(span, err)
	}
	r := &reply{}
	err := c.transport.Send(ctx, c.request(ctx, srv, start.Add(limit)), &r.resp)
	o := classify(ex.ctx, r.resp.Status, err)
	if err != nil {
		release(err)
		return nil, o, err
	}
	span.SetAttributes(attribute.Int("http.response.status_code", r.resp.Status))
	r.release = sync.OnceFunc(func() { release(nil) })
	return r, o, nil
}

// request renders the exchange for a server.
func (c *call) request(ctx context.Context, srv server, deadline time.Time) *wire.Request {
	in := &c.ex.Request
	over := NewHeader()
	for name, value := range c.header.All() {
		over.Add(name, value)
	}
	telemetry.Propagator.Inject(ctx, carrier{over})
	r := &wire.Request{
		Addr: srv.addr, Method: in.Method, Target: in.target(), Host: in.Host, Header: in.Header, Over: over,
		Upgrade: in.Upgrade, ContentLength: in.ContentLength, Trailer: in.Trailer, Expect: in.expect,
		Deadline: deadline, Interim: in.interim,
	}
	if b := c.ex.body; b != nil {
		r.Body = b.open()
		r.Reopen = func() (io.ReadCloser, error) {
			if !b.replayable() {
				return nil, errors.New("too much of the body has been read")
			}
			return b.open(), nil
		}
	}
	return r
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
	resp := &r.resp
	ex.Response = Response{Status: resp.Status, Header: resp.Header, ContentLength: resp.ContentLength, Trailer: resp.Trailer}
	if resp.Upgraded != nil {
		ex.Response.Upgraded = &upgradedConn{ReadWriteCloser: resp.Upgraded, release: r.release}
		return nil
	}
	ex.Response.Body = &replyBody{ReadCloser: resp.Body, release: r.release}
	return nil
}

// replyBody gives back what the try holds when it is closed.
type replyBody struct {
	io.ReadCloser
	release func()
}

// Close implements io.Closer.
func (b *replyBody) Close() error {
	err := b.ReadCloser.Close()
	b.release()
	return err
}

// upgradedConn is replyBody for both ways.
type upgradedConn struct {
	io.ReadWriteCloser
	release func()
}

// Close implements io.Closer.
func (u *upgradedConn) Close() error {
	err := u.ReadWriteCloser.Close()
	u.release()
	return err
}

// CloseWrite passes a half-close on where the connection can.
func (u *upgradedConn) CloseWrite() error {
	if hc, ok := u.ReadWriteCloser.(interface{ CloseWrite() error }); ok {
		return hc.CloseWrite()
	}
	return errors.ErrUnsupported
}
