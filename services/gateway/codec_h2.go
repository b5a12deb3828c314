package gateway

import (
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/flix-lab/flix/services/gateway/wire"
)

// copyBuffer is the piece in which bodies are passed on.
const copyBuffer = 32 << 10

// h2 turns what net/http's HTTP/2 server reads from a stream into an Exchange
// and writes its response back. Nothing above it sees net/http's types.
type h2 struct{ s *Server }

// ServeHTTP implements http.Handler.
func (c *h2) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !c.s.gate.enter() {
		w.Header().Set("Connection", "close")
		refuseH2(w, http.StatusServiceUnavailable, problemOf(errEnding))
		return
	}
	defer c.s.gate.leave()
	if err := checkH2(r); err != nil {
		c.refuse(w, r, err)
		return
	}
	ex := c.read(w, r)
	defer ex.finish()
	c.s.chain.run(ex)
	if err := c.write(w, ex); err != nil {
		// The status is out and the body is not whole: only a broken
		// connection, or a reset stream, tells the client.
		panic(http.ErrAbortHandler)
	}
	c.linger(w, ex)
}

// linger takes what a client goes on sending after an error for a moment. At the
// end of the handler net/http resets a stream whose client still sends, and there
// are clients, curl before 8 among them, that drop the answer for it. A reset of
// their own, or the body's end, ends the wait. Whose answer is complete only with
// its end, as gRPC's are, does not wait.
func (c *h2) linger(w http.ResponseWriter, ex *Exchange) {
	r := &ex.Response
	if ex.body == nil || r.Status < http.StatusBadRequest || r.overGRPC || r.Trailer != nil && r.Trailer().Len() > 0 {
		return
	}
	until := time.Now().Add(c.s.bounds.Linger)
	if !ex.body.ended() && http.NewResponseController(w).Flush() == nil {
		ex.body.discard(until)
	}
}

// checkH2 refuses what net/http lets through and no server should see.
func checkH2(r *http.Request) error {
	if headSize(r) > maxHeaderBytes {
		return &wire.BadMessage{Status: http.StatusRequestHeaderFieldsTooLarge, Msg: "the header is too long"}
	}
	if err := wire.Check(r.Method, r.RequestURI, r.Host); err != nil {
		return err
	}
	for _, host := range r.Header["Host"] {
		if !strings.EqualFold(host, r.Host) { // RFC 9113 section 8.3.1
			return &wire.BadMessage{Status: http.StatusBadRequest, Msg: "Host differs from :authority"}
		}
	}
	if l := r.Header["Content-Length"]; len(l) > 1 || len(l) == 1 && r.ContentLength == 0 && strings.Trim(l[0], "0") != "" { // section 8.1.1; net/http checks one that has a body
		return &wire.BadMessage{Status: http.StatusBadRequest, Msg: "Content-Length is not that of the body"}
	}
	for _, expect := range r.Header["Expect"] {
		if err := wire.CheckExpect(expect); err != nil {
			return err
		}
	}
	return nil
}

// headSize is about what the head would take as one of HTTP/1.1.
func headSize(r *http.Request) int {
	n := len(r.Method) + len(r.RequestURI) + len(r.Host)
	for name, values := range r.Header {
		for _, v := range values {
			n += len(name) + len(": ") + len(v) + len("\r\n")
		}
	}
	return n
}

// refuse answers what is no request.
func (c *h2) refuse(w http.ResponseWriter, r *http.Request, err error) {
	bad := &wire.BadMessage{Status: http.StatusBadRequest, Msg: err.Error()}
	errors.As(err, &bad)
	var peer netip.AddrPort
	if conn := connOf(r); conn != nil {
		peer = conn.peer
	}
	refuseH2(w, bad.Status, c.s.refusal(bad, peer))
}

func refuseH2(w http.ResponseWriter, status int, problem []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(problem)))
	w.WriteHeader(status)
	_, _ = w.Write(problem) // it fails for a client that is gone
}

func connOf(r *http.Request) *edgeConn {
	conn, _ := r.Context().Value(connKey{}).(*edgeConn)
	return conn
}

// read makes the exchange. Headers of the hop stay here.
func (c *h2) read(w http.ResponseWriter, r *http.Request) *Exchange {
	ex := &Exchange{Received: time.Now(), ctx: r.Context(), conn: connOf(r)}
	if ex.conn != nil {
		ex.Peer = ex.conn.peer
	}
	h := wire.FromHTTP(r.Header)
	req := &ex.Request
	req.Method, req.Host, req.Path, req.RawPath, req.Query = r.Method, r.Host, r.URL.Path, r.URL.RawPath, r.URL.RawQuery
	req.ContentLength, req.TLS = r.ContentLength, r.TLS != nil
	trailers := h.HasToken("Te", "trailers")
	wire.StripHop(h)
	h.Del("Content-Length")
	h.Del("Host") // what counts is in Request.Host
	if h.HasToken("Expect", "100-continue") {
		req.expect = r.ContentLength != 0
	}
	h.Del("Expect")
	req.Header, req.interim, req.trailers = h, interimWriter{w}, trailers
	if len(r.Trailer) > 0 { // net/http drops those that are not announced
		req.Trailer = func() Header { return wire.FromHTTP(r.Trailer) }
		req.Trailers = slices.Sorted(maps.Keys(r.Trailer))
		if r.ContentLength == 0 {
			req.ContentLength = -1 // what follows an empty body is waited for
		}
	}
	if req.ContentLength == 0 {
		req.Body = http.NoBody
		return ex
	}
	d := &deadline{set: http.NewResponseController(w).SetReadDeadline}
	ex.OnDone(func(*Exchange) { d.end() })
	req.Body = &clientBody{
		src: r.Body, left: c.s.settings.maxBody.Load(),
		arm:     d.arm,
		timeout: 10 * c.s.d.Timing.RPCTimeout.D(),
		gone:    r.Context().Err,
	}
	return ex
}

// deadline sets the read deadline of a request's body as long as its handler
// runs. A server that answered early leaves a goroutine that still reads the
// body, and net/http's stream must not be touched once its handler is over.
type deadline struct {
	mu   sync.Mutex
	set  func(time.Time) error
	over bool
}

func (d *deadline) arm(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over {
		return net.ErrClosed
	}
	return d.set(t)
}

// end lets nobody set it any more, and waits for whoever does.
func (d *deadline) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
}

// interimWriter passes interim answers on.
type interimWriter struct{ w http.ResponseWriter }

// Interim implements wire.InterimReceiver.
func (i interimWriter) Interim(status int, f Header) {
	h := i.w.Header()
	f.AddToHTTP(h)
	i.w.WriteHeader(status)
	clear(h)
}

// write sends the response. Each piece must go out within the time that a
// whole request may take; a client that takes nothing is let go.
func (c *h2) write(w http.ResponseWriter, ex *Exchange) error {
	rc := http.NewResponseController(w)
	arm := func() { _ = rc.SetWriteDeadline(time.Now().Add(c.s.bounds.Write)) }
	arm()
	h := w.Header()
	for name, value := range ex.Response.Header.All() {
		if !wire.SameName(name, "Content-Length") {
			h.Add(name, value)
		}
	}
	if n, status := ex.Response.ContentLength, ex.Response.Status; n > 0 || n == 0 && wire.BodyAllowed(status) {
		h.Set("Content-Length", strconv.FormatInt(n, 10))
	}
	if ex.CloseConnection {
		// HTTP/1 sends it; HTTP/2 sends GOAWAY instead.
		h.Set("Connection", "close")
	}
	w.WriteHeader(ex.Response.spoken())
	if ex.Response.Body == nil || ex.Request.Method == http.MethodHead {
		return nil
	}
	if ex.Response.waits() {
		if err := rc.Flush(); err != nil {
			return err
		}
	}
	buf := c.s.copies.Get().(*[]byte)
	defer c.s.copies.Put(buf)
	if err := pass(w, rc, &ex.Response, *buf, arm); err != nil {
		return err
	}
	if ex.Response.Trailer != nil {
		for name, value := range ex.Response.Trailer().All() {
			h.Add(http.TrailerPrefix+name, value)
		}
	}
	return nil
}

// pass copies the body. What is there is not held back while the next piece has
// yet to come, because somebody may wait for it.
func pass(w io.Writer, rc *http.ResponseController, r *Response, buf []byte, arm func()) error {
	for {
		n, rerr := r.Body.Read(buf)
		if n > 0 {
			arm()
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
			if r.waits() {
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
