package wire

import (
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

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
		s, err := l.readHead(r)
		if isTimeout(err) && waits && !l.aborted.Load() {
			leave()
			s, err = l.readHead(r)
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
	return bad("the server sends interim answers without end")
}

// readHead reads the head of an answer.
func (l *link) readHead(r *Request) (string, error) {
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
		if err := l.in.fill(l.pool.conf.MaxHeader); err != nil && !(isTimeout(err) && l.early(r)) {
			return "", l.silent(err)
		}
	}
}

// early says that the answer is not due yet, because the body was on its way when
// the time was over, and gives it that long.
func (l *link) early(r *Request) bool {
	if s := l.sending.Load(); s != sendsBody && s != sentBody || l.aborted.Load() {
		return false
	}
	now := time.Now()
	due := l.progress.Due(r.Deadline, now, r.Deadline.Sub(r.Start))
	if !due.After(now) {
		return false
	}
	l.setReadDeadline(due)
	return true
}

// parse reads the head of an answer into resp.
func (l *link) parse(s string, r *Request, resp *Response) (head, error) {
	if resp.Header == nil {
		resp.Header = new(Fields)
	} else {
		resp.Header.Reset()
	}
	a := head{fields: resp.Header}
	line, status, err := a.parseAnswer(s)
	if err != nil {
		return a, err
	}
	resp.Status = status
	l.reusable = a.stays(line)
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
	resp.Ends = !l.reusable
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
		return bad("the server switched protocols unasked")
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

// Ready implements Pieces.
func (b *answerBody) Ready() bool { return b.l == nil || b.l.body.ready() }

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
