package wire

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
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

	readUntil, writeUntil time.Time

	body     body
	reusable bool // after the answer
	got      bool // something of the answer has come
	lifeline *Lifeline
	unhook   func() bool
	aborted  atomic.Bool
	sending  atomic.Int32
	progress Progress // of the body that sending is about
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
	if err = l.send(ctx, r, resp); errors.Is(err, errUsed) {
		return &ConnectError{err} // it came to nothing: any request may be sent elsewhere
	}
	return err
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
	l.armWrite(r.Start, r.Deadline.Sub(r.Start))
	if l.sock != nil && r.empty() {
		return l.ask(b)
	}
	var err error
	switch {
	case len(r.Whole) == 0:
		_, err = l.nc.Write(b)
	case len(b)+len(r.Whole) <= cap(b):
		_, err = l.nc.Write(append(b, r.Whole...))
	case l.tcp != nil:
		l.bufs = append(l.vec[:0], b, r.Whole)
		_, err = l.bufs.WriteTo(l.tcp)
		clear(l.vec[:])
	default:
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
	l.in.buf = nil // the socket's, with the head
	in, n, err := l.sock.ask(head, l.in.buffers, largeBuffer)
	if n > 0 {
		l.in.buf, l.in.r, l.in.w = in, 0, n
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
		if len(r.Trailers) > 0 {
			dst = appendField(dst, "Trailer", strings.Join(r.Trailers, ", "))
		}
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

// armWrite is armRead for writing: what the request before allowed is over.
func (l *link) armWrite(now time.Time, limit time.Duration) {
	if left := l.writeUntil.Sub(now); left >= limit && left <= limit+limit/8 {
		return
	}
	l.writeUntil = now.Add(limit + limit/8)
	_ = l.nc.SetWriteDeadline(l.writeUntil)
	if l.aborted.Load() { // as above
		_ = l.nc.SetWriteDeadline(time.Unix(1, 0))
	}
}
