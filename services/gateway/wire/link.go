package wire

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// link is the client's side of one connection to a server.
type link struct {
	pool  *Pool
	addr  string
	nc    net.Conn
	tcp   *net.TCPConn // nc, if it carries its bytes as they are
	sock  *socket      // of tcp; may be nil
	probe *probe       // of tcp
	in    reader
	kept  bool   // it was in the pool before
	sweep uint32 // the pool's count when it was put there last
	vec   [2][]byte
	bufs  net.Buffers

	readUntil time.Time
	body      body
	reusable  bool // after the answer
	got       bool // something of the answer has come
	lifeline  *Lifeline
	unhook    func() bool
	aborted   atomic.Bool
	sending   atomic.Int32
}

// What became of a request's body.
const (
	sendsNothing int32 = iota
	sendsBody
	sentBody
	failedBody
)

// errStale says that a pooled connection turned out to be dead.
var errStale = errors.New("the server had ended the connection")

// maxInterim bounds the interim answers to one request.
const maxInterim = 32

// Send implements Sender.
func (p *Pool) Send(ctx context.Context, r *Request, resp *Response) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for l := p.get(r.Addr, r.empty()); l != nil; l = p.get(r.Addr, r.empty()) {
		err := l.send(ctx, r, resp)
		if errors.Is(err, errUsed) {
			continue // nothing was sent
		}
		if !errors.Is(err, errStale) || !r.idempotent() {
			return err
		}
		if r.Body != nil {
			if r.Reopen == nil {
				return err
			}
			b, rerr := r.Reopen()
			if rerr != nil {
				return err
			}
			r.Body = b
		}
		break
	}
	l, err := p.dial(ctx, r)
	if err != nil {
		return err
	}
	return l.send(ctx, r, resp)
}

func (p *Pool) dial(ctx context.Context, r *Request) (*link, error) {
	dctx, cancel := context.WithDeadline(ctx, r.Deadline)
	defer cancel()
	nc, err := p.conf.Dial(dctx, "tcp", r.Addr)
	if err != nil {
		return nil, &ConnectError{err}
	}
	l := &link{pool: p, addr: r.Addr, nc: nc}
	if tcp, ok := nc.(*net.TCPConn); ok {
		l.tcp = tcp
		if raw, err := tcp.SyscallConn(); err == nil { // it fails for a closed connection only
			l.probe = newProbe(raw)
		}
	}
	l.in = reader{src: nc, buffers: p.conf.Buffers, size: largeBuffer}
	if l.sock = newSocket(l.tcp); l.sock != nil {
		l.in.src = l.sock
	}
	return l, nil
}

// send sends the request and reads the head of its final answer. On an error
// the link is gone.
func (l *link) send(ctx context.Context, r *Request, resp *Response) error {
	l.got, l.reusable = false, false
	l.sending.Store(sendsNothing)
	l.hook(ctx, r.Lifeline)
	err := l.write(r)
	if err == nil {
		err = l.await(r, resp)
	}
	if err == nil {
		return nil
	}
	l.end(r, false)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case isTimeout(err):
		return ErrDeadline
	}
	return err
}

// hook makes the end of ctx end the link's use.
func (l *link) hook(ctx context.Context, f *Lifeline) {
	switch {
	case f.standsFor(ctx):
		l.lifeline = f
		f.hold(l)
	case ctx.Done() != nil:
		l.unhook = context.AfterFunc(ctx, l.abort)
	}
}

// unhooked reports whether nothing has ended, or can end, the link from
// outside.
func (l *link) unhooked() bool {
	if l.lifeline != nil {
		l.lifeline.hold(nil)
		l.lifeline = nil
	}
	if l.unhook != nil {
		stopped := l.unhook()
		l.unhook = nil
		if !stopped {
			return false
		}
	}
	return !l.aborted.Load()
}

// abort ends reads and writes under way.
func (l *link) abort() {
	l.aborted.Store(true)
	_ = l.nc.SetDeadline(time.Unix(1, 0))
}

// end lets go of the connection, into the pool if it can carry more.
func (l *link) end(r *Request, clean bool) {
	clean = l.unhooked() && clean && l.reusable && l.in.buffered() == 0
	if s := l.sending.Load(); s != sendsNothing && s != sentBody {
		clean = false
	}
	if r != nil && r.Body != nil {
		_ = r.Body.Close()
	}
	l.in.drop()
	if !clean {
		_ = l.nc.Close()
		return
	}
	l.pool.put(l)
}

// write sends the head, with a body that is there already, and starts to send
// one that is not, unless leave for it must be awaited.
func (l *link) write(r *Request) error {
	if l.in.buf == nil {
		l.in.buf = l.in.buffers.get(largeBuffer)
	}
	// Nothing can have come in yet: the buffer for the answer is free.
	b := appendRequest(l.in.buf[:0], r)
	l.armRead(r.Start, r.Deadline.Sub(r.Start))
	if l.sock != nil && r.empty() {
		return l.ask(b)
	}
	var err error
	switch {
	case len(r.Whole) == 0:
		_, err = l.nc.Write(b)
	case len(b)+len(r.Whole) <= cap(b):
		_ = l.nc.SetWriteDeadline(r.Deadline)
		_, err = l.nc.Write(append(b, r.Whole...))
	case l.tcp != nil:
		_ = l.nc.SetWriteDeadline(r.Deadline)
		l.bufs = append(l.vec[:0], b, r.Whole)
		_, err = l.bufs.WriteTo(l.tcp)
		clear(l.vec[:])
	default:
		_ = l.nc.SetWriteDeadline(r.Deadline)
		if _, err = l.nc.Write(b); err == nil {
			_, err = l.nc.Write(r.Whole)
		}
	}
	if err != nil && !isTimeout(err) {
		// A server that answers before it has read may have closed its side;
		// the answer tells.
		if l.in.buffered() == 0 && len(r.Whole) == 0 {
			return errors.Join(errStale, err)
		}
		l.sending.Store(failedBody)
		return nil
	}
	if err == nil && r.Body != nil && !r.Expect {
		l.startBody(r)
	}
	return err
}

// ask sends a request that is its head alone, and reads the beginning of the
// answer.
func (l *link) ask(head []byte) error {
	n, err := l.sock.ask(head, l.in.buf)
	if n > 0 {
		l.in.r, l.in.w = 0, n
		return nil
	}
	switch {
	case errors.Is(err, errUsed):
		return err
	case errors.Is(err, errUnsent):
		if !isTimeout(err) {
			err = errors.Join(errStale, err)
		}
		return err
	}
	return l.silent(err)
}

// silent is the error of a link that ended before the answer's header was whole.
func (l *link) silent(err error) error {
	switch {
	case !l.got && l.kept && !isTimeout(err):
		return errors.Join(errStale, err)
	case errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	return err
}

// appendRequest renders the head.
func appendRequest(dst []byte, r *Request) []byte {
	dst = append(dst, r.Method...)
	dst = append(dst, ' ')
	dst = append(dst, r.Target...)
	dst = append(dst, " HTTP/1.1\r\n"...)
	dst = appendField(dst, "Host", r.Host)
	var lengths uint64 // of the names in Over, to ask less
	if r.Over != nil {
		for i := range r.Over.list {
			lengths |= 1 << (len(r.Over.list[i].Name) & 63)
		}
	}
	if r.Header != nil {
		for i := range r.Header.list {
			o := &r.Header.list[i]
			if lengths&(1<<(len(o.Name)&63)) != 0 && r.Over.Has(o.Name) || framed(o.Name) {
				continue
			}
			dst = appendField(dst, o.Name, o.Value)
		}
	}
	dst = appendFields(dst, r.Over, framed)
	switch {
	case r.Body == nil && len(r.Whole) == 0:
		switch r.Method {
		case http.MethodPost, http.MethodPut, http.MethodPatch:
			dst = append(dst, "Content-Length: 0\r\n"...)
		}
	case len(r.Whole) > 0 || r.ContentLength >= 0:
		dst = append(dst, "Content-Length: "...)
		dst = strconv.AppendInt(dst, max(r.ContentLength, int64(len(r.Whole))), 10)
		dst = append(dst, '\r', '\n')
	default:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	}
	if r.Body != nil && r.Expect {
		dst = append(dst, "Expect: 100-continue\r\n"...)
	}
	if r.Upgrade != "" {
		dst = append(dst, "Connection: Upgrade\r\n"...)
		dst = appendField(dst, "Upgrade", r.Upgrade)
	}
	return append(dst, '\r', '\n')
}

// armRead sets the read deadline to limit from now, at most an eighth later.
func (l *link) armRead(now time.Time, limit time.Duration) {
	if left := l.readUntil.Sub(now); left < limit || left > limit+limit/8 {
		l.setReadDeadline(now.Add(limit + limit/8))
	}
}

func (l *link) setReadDeadline(t time.Time) {
	l.readUntil = t
	_ = l.nc.SetReadDeadline(t)
	if l.aborted.Load() { // whoever aborted may have come first
		_ = l.nc.SetReadDeadline(time.Unix(1, 0))
	}
}

// await reads answers until the final one.
func (l *link) await(r *Request, resp *Response) error {
	waits := r.Body != nil && r.Expect && l.sending.Load() == sendsNothing
	if waits {
		l.setReadDeadline(time.Now().Add(l.pool.conf.ContinueAfter))
	}
	leave := func() {
		if waits {
			waits = false
			l.setReadDeadline(r.Deadline)
			l.startBody(r)
		}
	}
	for range maxInterim {
		s, err := l.readHead()
		if isTimeout(err) && waits && !l.aborted.Load() {
			leave()
			s, err = l.readHead()
		}
		if err != nil {
			return err
		}
		a, err := l.parse(s, r, resp)
		if err != nil {
			return err
		}
		switch {
		case resp.Status == http.StatusSwitchingProtocols:
			return l.switched(r, resp, a)
		case resp.Status == http.StatusContinue:
			leave()
		case resp.Status < 200:
			if r.Interim != nil {
				r.Interim.Interim(resp.Status, resp.Header)
			}
		default:
			if waits {
				l.sending.Store(failedBody) // and never will be sent
			}
			return l.final(r, resp, a)
		}
	}
	return errors.New("the server sends interim answers without end")
}

// readHead reads the head of an answer.
func (l *link) readHead() (string, error) {
	for {
		if l.in.buffered() > 0 {
			l.got = true
			n, err := headEnd(l.in.buf[l.in.r:l.in.w])
			if err != nil {
				return "", err
			}
			if n > 0 {
				s := string(l.in.buf[l.in.r : l.in.r+n])
				l.in.r += n
				return s, nil
			}
		}
		if err := l.in.fill(l.pool.conf.MaxHeader); err != nil {
			return "", l.silent(err)
		}
	}
}

// parse reads the head of an answer into resp.
func (l *link) parse(s string, r *Request, resp *Response) (head, error) {
	line, rest, err := cutLine(s)
	if err != nil {
		return head{}, err
	}
	if resp.Header == nil {
		resp.Header = new(Fields)
	} else {
		resp.Header.Reset()
	}
	a := head{fields: resp.Header}
	if len(line) < 12 || line[:7] != "HTTP/1." || line[7] != '0' && line[7] != '1' || line[8] != ' ' || len(line) > 12 && line[12] != ' ' {
		return a, bad("%.40q is not a status line", line)
	}
	status, ok := digits(line[9:12])
	if !ok || status < 100 || !all(line[12:], isText) {
		return a, bad("%.40q is not a status line", line)
	}
	resp.Status = int(status)
	if err := a.parse(rest); err != nil {
		return a, err
	}
	l.reusable = !a.closing && (line[7] == '1' || a.keep)
	return a, nil
}

// final makes the body of a final answer ready.
func (l *link) final(r *Request, resp *Response, a head) error {
	resp.ContentLength = a.length
	resp.Trailer, resp.Upgraded = nil, nil
	f := byClose
	switch {
	case a.coded && !a.chunked:
		return bad("the answer's Transfer-Encoding is not chunked")
	case r.Method == http.MethodHead, !BodyAllowed(resp.Status):
		f = noBody
	case a.chunked:
		f = byChunks
	case a.length >= 0:
		f = byLength
	default:
		l.reusable = false
	}
	l.body.reset(&l.in, f, a.length)
	resp.body = answerBody{l: l, r: r}
	resp.Body = &resp.body
	if f == byChunks {
		resp.Trailer = func() *Fields { return resp.body.trailer }
	}
	return nil
}

// switched hands the connection over.
func (l *link) switched(r *Request, resp *Response, a head) error {
	if r.Upgrade == "" {
		return errors.New("the server switched protocols unasked")
	}
	resp.Header.Set("Upgrade", a.upgrade)
	if !l.unhooked() {
		return net.ErrClosed
	}
	_ = l.nc.SetDeadline(time.Time{})
	resp.ContentLength, resp.Body, resp.Trailer = -1, nil, nil
	resp.Upgraded = &Upgraded{l: l}
	return nil
}

// startBody sends the body beside the waiting for the answer.
func (l *link) startBody(r *Request) {
	l.sending.Store(sendsBody)
	// What is the caller's may be used for another request before the body
	// has noticed its end.
	src, length, trailer, limit := r.Body, r.ContentLength, r.Trailer, time.Until(r.Deadline)
	l.pool.bodies.Go(func() { l.sendBody(src, length, trailer, limit) })
}

// sendBody sends a body piece by piece, each as it comes and each within limit.
func (l *link) sendBody(src io.Reader, length int64, trailer func() *Fields, limit time.Duration) {
	const front = 16 // room for a chunk's size
	buf := l.in.buffers.get(largeBuffer)
	defer l.in.buffers.put(buf)
	for left := length; ; {
		n, err := src.Read(buf[front : len(buf)-2])
		if n > 0 {
			p := buf[front : front+n]
			if length < 0 {
				line := appendChunk(buf[:0:front], n)
				p = buf[front-len(line) : front+n+2]
				copy(p, line)
				copy(p[len(p)-2:], crlf)
			} else if left -= int64(n); left < 0 {
				err = bad("the body is longer than announced")
			}
			if (err == nil || errors.Is(err, io.EOF)) && l.push(p, limit) != nil {
				return
			}
		}
		switch {
		case err == nil:
		case !errors.Is(err, io.EOF), length >= 0 && left != 0:
			// The client's side failed: the server must not take what it got
			// for the whole.
			l.sending.Store(failedBody)
			l.abort()
			return
		default:
			if length < 0 {
				end := append(buf[:0], '0', '\r', '\n')
				if trailer != nil {
					end = appendFields(end, trailer(), framed)
				}
				if l.push(append(end, '\r', '\n'), limit) != nil {
					return
				}
			}
			l.sending.Store(sentBody)
			return
		}
	}
}

// push writes a piece of a body. A server that takes no more may have answered
// already: its answer is read all the same.
func (l *link) push(p []byte, limit time.Duration) error {
	_ = l.nc.SetWriteDeadline(time.Now().Add(limit))
	if l.aborted.Load() {
		_ = l.nc.SetWriteDeadline(time.Unix(1, 0))
	}
	_, err := l.nc.Write(p)
	if err != nil {
		l.sending.Store(failedBody)
	}
	return err
}

// answerBody is the body of an answer. It implements Pieces.
type answerBody struct {
	l       *link
	r       *Request
	trailer *Fields
	err     error
}

// Next implements Pieces.
func (b *answerBody) Next() (p []byte, more bool, err error) {
	if b.l == nil {
		return nil, false, b.ended()
	}
	for {
		p, more, err = b.l.body.next()
		if err == nil || !b.patient(err) {
			return p, more, b.done(err)
		}
	}
}

// Read implements io.Reader.
func (b *answerBody) Read(p []byte) (n int, err error) {
	if b.l == nil {
		return 0, b.ended()
	}
	for {
		n, err = b.l.body.read(p)
		if err == nil || !b.patient(err) {
			return n, b.done(err)
		}
	}
}

func (b *answerBody) ended() error {
	if b.err == nil {
		return net.ErrClosed
	}
	return b.err
}

// patient says that an error is only the deadline of the header, which is over:
// a stream may be silent for as long as its client stays.
func (b *answerBody) patient(err error) bool {
	if !isTimeout(err) || b.l.aborted.Load() {
		return false
	}
	b.l.setReadDeadline(time.Time{})
	return true
}

// done lets go of the connection once the body has ended.
func (b *answerBody) done(err error) error {
	if err != nil {
		b.err, b.trailer = err, b.l.body.trailer
		l := b.l
		b.l = nil
		l.end(b.r, errors.Is(err, io.EOF))
	}
	return err
}

// Close implements io.Closer.
func (b *answerBody) Close() error {
	if l := b.l; l != nil {
		b.l = nil
		b.trailer = l.body.trailer
		l.end(b.r, l.body.ended())
	}
	return nil
}

// Upgraded is a server's side of a connection after status 101.
type Upgraded struct{ l *link }

// Read implements io.Reader.
func (u *Upgraded) Read(p []byte) (int, error) {
	if in := &u.l.in; in.buffered() > 0 {
		n := copy(p, in.buf[in.r:in.w])
		in.r += n
		in.release()
		return n, nil
	}
	return u.l.nc.Read(p)
}

// Write implements io.Writer.
func (u *Upgraded) Write(p []byte) (int, error) { return u.l.nc.Write(p) }

// Close implements io.Closer.
func (u *Upgraded) Close() error { return u.l.nc.Close() }

// CloseWrite passes a half-close on where the connection can.
func (u *Upgraded) CloseWrite() error {
	if hc, ok := u.l.nc.(interface{ CloseWrite() error }); ok {
		return hc.CloseWrite()
	}
	return errors.ErrUnsupported
}
