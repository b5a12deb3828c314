package gateway

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/flix-lab/flix/services"
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
	transport http.RoundTripper
	scheme    string
	// header is set on every try besides the client's own.
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
	resp    *http.Response
	release func()
}

func (r *reply) status() int {
	if r == nil {
		return 0
	}
	return r.resp.StatusCode
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
	limit := min(c.timeout, time.Duration(s.settings.deadline.Load())-time.Since(ex.Received))
	if limit <= 0 {
		return nil, late, errTryTimeout
	}
	ctx, cancel := context.WithCancelCause(ex.ctx)
	ctx, span := s.d.Tel.Tracer.Start(ctx, c.span(srv), trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("url.path", ex.Request.Path), attribute.String("server.instance", srv.id),
		attribute.String("server.region", srv.region), attribute.Int("http.request.resend_count", n-1)))
	timer := time.AfterFunc(limit, func() { cancel(errTryTimeout) })
	srv.load.inFlight.Add(1)
	release := func(err error) {
		timer.Stop()
		cancel(nil)
		srv.load.inFlight.Add(-1)
		telemetry.End(span, err)
	}
	resp, err := c.transport.RoundTrip(c.request(ctx, srv))
	if err == nil && !timer.Stop() {
		_ = resp.Body.Close()
		err = errTryTimeout // it came in the moment the time was over
	}
	o := classify(ex.ctx, ctx, resp, err)
	if err != nil {
		release(err)
		return nil, o, err
	}
	span.SetAttributes(attribute.Int("http.response.status_code", resp.StatusCode))
	return &reply{resp: resp, release: sync.OnceFunc(func() { release(nil) })}, o, nil
}

// request renders the exchange for a server. Every try gets a header of its
// own: the transport may still be writing that of the last one.
func (c *call) request(ctx context.Context, srv server) *http.Request {
	in := &c.ex.Request
	h := make(http.Header, len(in.Header)+len(c.header)+4)
	maps.Copy(h, in.Header)
	maps.Copy(h, c.header)
	if in.Upgrade != "" {
		h.Set("Connection", "Upgrade")
		h.Set("Upgrade", in.Upgrade)
	}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = []string{""} // net/http would put its own
	}
	telemetry.Propagator.Inject(ctx, propagation.HeaderCarrier(h))
	r := &http.Request{
		Method: in.Method, Host: in.Host, Header: h, ContentLength: in.ContentLength,
		URL:   &url.URL{Scheme: c.scheme, Host: srv.addr, Path: in.Path, RawPath: in.RawPath, RawQuery: in.Query},
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	if b := c.ex.body; b != nil {
		r.Body = b.open()
		r.GetBody = func() (io.ReadCloser, error) {
			if !b.replayable() {
				return nil, errors.New("too much of the body has been read")
			}
			return b.open(), nil
		}
	}
	return r.WithContext(ctx)
}

// accept makes the server's answer the response.
func (s *Server) accept(ex *Exchange, r *reply) error {
	resp := r.resp
	h := Header(resp.Header)
	upgrade := h.Get("Upgrade")
	stripHop(h)
	ex.Response = Response{Status: resp.StatusCode, Header: h, ContentLength: resp.ContentLength}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		rwc, ok := resp.Body.(io.ReadWriteCloser)
		if !ok || ex.Request.Upgrade == "" {
			r.discard()
			ex.Response = Response{}
			return failureOf(broken, "upgrade", errors.New("the server switched protocols unasked"))
		}
		h.Set("Upgrade", upgrade)
		ex.Response.Upgraded = &upgradedConn{ReadWriteCloser: rwc, release: r.release}
		return nil
	}
	ex.Response.Body = &replyBody{ReadCloser: resp.Body, release: r.release}
	if len(resp.Trailer) > 0 {
		ex.Response.Trailer = func() Header { return Header(resp.Trailer) }
	}
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
