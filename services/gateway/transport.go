package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/gateway/wire"
)

// edgeHost is a name that every gateway's certificate carries.
const edgeHost = "api.flix.test"

// transports are the pooled connections to servers.
type transports struct {
	// origin speaks plain HTTP/1.1 to instances of the region.
	origin wire.Sender
	// streams speaks HTTP/2 without TLS to those that a gRPC call goes to:
	// HTTP/1.1 cannot carry one.
	streams wire.Sender
	// remote speaks HTTP/2 over TLS to gateways of other regions.
	remote wire.Sender
	// upgrade speaks HTTP/1.1 over TLS to them: HTTP/2 has no Upgrade.
	upgrade wire.Sender
	// secure speaks to fixed origins over TLS.
	secure secureOrigins
}

func newTransports(d Deps, buffers *wire.Buffers) *transports {
	rpc := d.Timing.RPCTimeout.D()
	dial := d.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	dial = shallow(dial)
	local := dial.Within(rpc)
	streams := pooled(d)
	streams.DialContext = connecting(local)
	streams.Protocols = new(http.Protocols)
	streams.Protocols.SetUnencryptedHTTP2(true)
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
	h2 := remote("h2")
	// A region that is cut off sends no reset: pings find out.
	h2.HTTP2 = &http.HTTP2Config{SendPingTimeout: 5 * rpc, PingTimeout: 5 * rpc}
	return &transports{
		secure: newSecureOrigins(d, local),
		origin: wire.NewPool(wire.PoolConfig{
			Dial: local, MaxIdle: maxIdle, Idle: idleFor(d), MaxHeader: maxHeaderBytes, ContinueAfter: rpc, Buffers: buffers,
		}),
		streams: &httpSender{rt: streams, scheme: "http"},
		remote:  &httpSender{rt: h2, scheme: "https"},
		upgrade: &httpSender{rt: remote("http/1.1"), scheme: "https"},
	}
}

// maxIdle bounds the idle connections to one server.
const maxIdle = 256

// idleFor is sooner than servers let go of idle connections themselves, so
// that a request seldom meets one that is being closed.
func idleFor(d Deps) time.Duration { return d.Timing.MaxConnectionAge.D() / 2 }

func pooled(d Deps) *http.Transport {
	return &http.Transport{
		MaxIdleConns: 512, MaxIdleConnsPerHost: 64,
		IdleConnTimeout:        idleFor(d),
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxDecodedHeader,
	}
}

// to is how a request reaches an instance of the region.
func (t *transports) to(ex *Exchange) wire.Sender {
	upgrades := ex.Request.Upgrade != ""
	switch c := ex.Route.compiled; {
	case c == nil:
	case c.scheme == schemeTLS:
		return t.secure.sender(c.secure, upgrades)
	case c.scheme == schemeH2C && !upgrades: // HTTP/2 has no Upgrade
		return t.streams
	}
	if ex.callsGRPC() {
		return t.streams
	}
	return t.origin
}

// shallow bounds what the kernel takes of a request before it has sent it: how far
// an upload is must be seen while its server reads slowly.
func shallow(dial services.DialFunc) services.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if tcp, ok := c.(*net.TCPConn); ok && err == nil {
			wire.LimitUnsent(tcp)
		}
		return c, err
	}
}

// connecting marks the errors of a dialer.
func connecting(dial services.DialFunc) services.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, &wire.ConnectError{Err: err}
		}
		return c, nil
	}
}

// dialTLS connects and shakes hands within the timeout. The server must prove the
// configuration's name, or else its address.
func dialTLS(dial services.DialFunc, conf *tls.Config, timeout time.Duration) services.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		raw, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		c := conf
		if c.ServerName == "" {
			c = conf.Clone()
			c.ServerName, _, _ = net.SplitHostPort(addr) // an address that was connected to
		}
		t := tls.Client(raw, c)
		if err := t.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, err
		}
		return t, nil
	}
}

func (t *transports) close() {
	for _, s := range []wire.Sender{t.origin, t.streams, t.remote, t.upgrade} {
		s.Close()
	}
	t.secure.close()
}

// httpSender is a wire.Sender on net/http's transport: what speaks HTTP/2.
type httpSender struct {
	rt     *http.Transport
	scheme string
}

// CloseIdleConnections implements wire.Sender.
func (s *httpSender) CloseIdleConnections() { s.rt.CloseIdleConnections() }

// Close implements wire.Sender.
func (s *httpSender) Close() { s.rt.CloseIdleConnections() }

// Send implements wire.Sender.
func (s *httpSender) Send(ctx context.Context, r *wire.Request, resp *wire.Response) error {
	ctx, cancel := context.WithCancelCause(ctx)
	wait := &answerTime{r: r, late: func() { cancel(wire.ErrDeadline) }}
	wait.begin()
	end := func() { wait.stop(); cancel(nil) }
	in := &interim{call: r.Interim}
	defer in.stop() // the transport may call late, when the caller is gone
	again := &repeats{enough: func() { cancel(errRepeated) }}
	req, err := s.request(httptrace.WithClientTrace(ctx, again.trace(in)), r, &wait.progress)
	if err != nil {
		end()
		return err
	}
	got, err := s.rt.RoundTrip(req) //nolint:bodyclose // it is resp.Body, or closed
	if err == nil && !wait.stop() {
		_ = got.Body.Close()
		err = wire.ErrDeadline // it came in the moment the time was over
	}
	if err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, wire.ErrDeadline) || errors.Is(cause, errRepeated) {
			err = cause
		}
		end()
		return err
	}
	h := wire.FromHTTP(got.Header)
	upgrade := h.Get("Upgrade")
	wire.StripHop(h)
	*resp = wire.Response{Status: got.StatusCode, Header: h, ContentLength: got.ContentLength}
	if got.StatusCode == http.StatusSwitchingProtocols {
		rwc, ok := got.Body.(io.ReadWriteCloser)
		if !ok || r.Upgrade == "" {
			_ = got.Body.Close()
			end()
			return &wire.BadMessage{Status: http.StatusBadGateway, Msg: "the server switched protocols unasked"}
		}
		h.Set("Upgrade", upgrade)
		resp.Upgraded = &endingConn{ReadWriteCloser: rwc, end: end}
		return nil
	}
	resp.Body = &endingBody{ReadCloser: got.Body, end: end}
	resp.Trailer = func() *wire.Fields { return wire.FromHTTP(got.Trailer) }
	return nil
}

// interim passes interim answers on while somebody waits for the final one.
type interim struct {
	mu   sync.Mutex
	call wire.InterimReceiver
}

func (i *interim) got(status int, h textproto.MIMEHeader) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.call != nil && status > http.StatusSwitchingProtocols {
		i.call.Interim(status, wire.FromHTTP(http.Header(h)))
	}
	return nil
}

func (i *interim) stop() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.call = nil
}

// request renders a request for net/http.
func (s *httpSender) request(ctx context.Context, r *wire.Request, progress *wire.Progress) (*http.Request, error) {
	u, err := url.ParseRequestURI(r.Target)
	if err != nil {
		return nil, services.Wrap("target", err)
	}
	u.Scheme, u.Host = s.scheme, r.Addr
	h := make(http.Header, r.Header.Len()+r.Over.Len()+4)
	for name, value := range r.Header.All() {
		if !r.Over.Has(name) {
			h.Add(name, value)
		}
	}
	r.Over.AddToHTTP(h)
	if r.Upgrade != "" {
		h.Set("Connection", "Upgrade")
		h.Set("Upgrade", r.Upgrade)
	}
	if strings.HasPrefix(h.Get("Content-Type"), "application/grpc") {
		h.Set("Te", "trailers") // a gRPC server asks for it
	}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = []string{""} // net/http would put its own
	}
	req := (&http.Request{
		Method: r.Method, URL: u, Host: r.Host, Header: h, ContentLength: r.ContentLength,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, GetBody: r.Reopen,
	}).WithContext(ctx)
	if r.Body != nil {
		req.Body = &followedBody{ReadCloser: r.Body, progress: progress}
	}
	if len(r.Whole) > 0 {
		open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(r.Whole)), nil }
		req.Body, _ = open()
		req.GetBody = open
	}
	if r.Body != nil && r.Trailer != nil {
		req.Body = &trailedBody{ReadCloser: req.Body, req: req, trailer: r.Trailer}
		if req.ContentLength < 0 {
			req.Trailer = make(http.Header, len(r.Trailers))
			for _, name := range r.Trailers {
				req.Trailer[http.CanonicalHeaderKey(name)] = nil
			}
		}
	}
	return req, nil
}

// followedBody tells how far a request's body is.
type followedBody struct {
	io.ReadCloser
	progress *wire.Progress
}

// Read implements io.Reader.
func (b *followedBody) Read(p []byte) (int, error) { return b.progress.Read(b.ReadCloser, p) }

// trailedBody fills the request's trailer once the body has ended.
type trailedBody struct {
	io.ReadCloser
	req     *http.Request
	trailer func() *wire.Fields
}

// Read implements io.Reader.
func (b *trailedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) && b.req.Trailer != nil {
		for name, value := range b.trailer().All() {
			if wire.MayTrail(name) {
				b.req.Trailer.Add(name, value)
			}
		}
	}
	return n, err
}

// endingBody gives back what its request holds when it is closed.
type endingBody struct {
	io.ReadCloser
	end func()
}

// Close implements io.Closer.
func (b *endingBody) Close() error {
	err := b.ReadCloser.Close()
	b.end()
	return err
}

// endingConn is endingBody for both ways.
type endingConn struct {
	io.ReadWriteCloser
	end  func()
	once sync.Once
}

// Close implements io.Closer.
func (c *endingConn) Close() error {
	err := c.ReadWriteCloser.Close()
	c.once.Do(c.end)
	return err
}

// CloseWrite passes a half-close on where the connection can.
func (c *endingConn) CloseWrite() error {
	if hc, ok := c.ReadWriteCloser.(interface{ CloseWrite() error }); ok {
		return hc.CloseWrite()
	}
	return errors.ErrUnsupported
}
