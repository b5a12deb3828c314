package player

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/flix-lab/flix/services/media"
)

// lean is an http.RoundTripper for a client that asks one thing at a time and
// shall cost little: one kept connection of HTTP/1.1, no goroutine, and buffers
// that are borrowed only while a request is under way. Requests of several
// goroutines wait for one another.
type lean struct {
	bufs *buffers
	dial func(context.Context) (net.Conn, error)
	// turn is held from a request to the end of its answer's body.
	turn sync.Mutex
	conn net.Conn // nil when there is none; guarded by turn
	came bool     // a part of the last answer did; guarded by turn
}

func newLean(bufs *buffers, dial func(context.Context) (net.Conn, error)) *lean {
	return &lean{bufs: bufs, dial: dial}
}

// buffers are what all plays of a player borrow: hands, readers of answers, writers
// of requests, and rooms for bodies that nobody wants and for what has
// come of one before it is read.
type buffers struct {
	hands   hands
	answers spares[*httpAnswer]
	writers spares[*bufio.Writer]
	rooms   spares[*[roomSize]byte]
}

// roomSize is that of a room for bytes on their way.
const roomSize = 32 << 10

func newBuffers() *buffers {
	return &buffers{
		hands:   make(hands),
		answers: newSpares(func() *httpAnswer { return &httpAnswer{Reader: bufio.NewReaderSize(nil, answerBuffer)} }),
		writers: newSpares(func() *bufio.Writer { return bufio.NewWriterSize(nil, 2<<10) }),
		rooms:   newSpares(func() *[roomSize]byte { return new([roomSize]byte) }),
	}
}

// maxSpares bounds what is kept of a kind.
const maxSpares = 16

// spares are things that were given back, to be lent again. Unlike a sync.Pool
// they outlast a collection of garbage, of which a light load has many: the rooms
// that it made anew after each were a fourteenth of all that it allocated.
type spares[T any] struct {
	free  chan T
	fresh func() T
}

func newSpares[T any](fresh func() T) spares[T] {
	return spares[T]{make(chan T, maxSpares), fresh}
}

func (s *spares[T]) get() T {
	select {
	case x := <-s.free:
		return x
	default:
		return s.fresh()
	}
}

func (s *spares[T]) put(x T) {
	select {
	case s.free <- x:
	default: // there are enough
	}
}

// RoundTrip implements http.RoundTripper. A kept connection that the other side
// had closed is replaced once, as long as no part of an answer came.
func (l *lean) RoundTrip(req *http.Request) (*http.Response, error) {
	l.turn.Lock()
	kept := l.conn != nil
	resp, err := l.try(req)
	if err != nil && kept && !l.came && req.Context().Err() == nil && rewind(req) {
		resp, err = l.try(req)
	}
	if err != nil {
		l.turn.Unlock()
		return nil, err
	}
	return resp, nil // its body gives the turn back
}

// rewind makes a request's body anew.
func rewind(req *http.Request) bool {
	if req.Body == nil || req.Body == http.NoBody {
		return true
	}
	if req.GetBody == nil {
		return false
	}
	b, err := req.GetBody()
	if err != nil {
		return false
	}
	req.Body = b
	return true
}

func (l *lean) try(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	l.came = false
	if l.conn == nil {
		conn, err := l.dial(ctx)
		if err != nil {
			return nil, err
		}
		l.conn = conn
	}
	conn := l.conn
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	fail := func(err error) (*http.Response, error) {
		stop()
		l.hangUp()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	w := l.bufs.writers.get()
	w.Reset(conn)
	err := send(w, req)
	if err == nil {
		err = w.Flush()
	}
	w.Reset(nil)
	l.bufs.writers.put(w)
	if err != nil {
		return fail(err)
	}
	a := l.bufs.answers.get()
	a.Reset(conn)
	var (
		resp *http.Response
		body io.Reader
	)
	if _, err = a.Peek(1); err == nil {
		l.came = true
		resp, body, err = a.read(req)
	}
	if err != nil {
		l.bufs.giveBack(a)
		return fail(err)
	}
	resp.Body = &leanBody{r: body, l: l, a: a, ctx: ctx, stop: stop, last: resp.Close}
	return resp, nil
}

// hangUp drops the connection. The caller has the turn.
func (l *lean) hangUp() {
	if l.conn == nil {
		return
	}
	c := l.conn
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn() // the end of the connection says it all
	}
	_ = c.Close() // nobody waits for anything on it
	l.conn = nil
}

// CloseIdleConnections closes the connection unless a request is under way.
func (l *lean) CloseIdleConnections() {
	if l.turn.TryLock() {
		l.hangUp()
		l.turn.Unlock()
	}
}

// drop reads and forgets exactly n bytes and the end after them.
func (b *buffers) drop(r io.Reader, n int64) error {
	buf := b.rooms.get()
	defer b.rooms.put(buf)
	for {
		k, err := r.Read(buf[:])
		n -= int64(k)
		switch {
		case err == io.EOF && n == 0:
			return nil
		case err == io.EOF:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		}
	}
}

// maxIndexes bounds the indexes that a player keeps.
const maxIndexes = 256

// index parses a title's index, or returns the one that was parsed before.
func (p *Player) index(sum, b []byte) (media.Index, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if x, ok := p.indexes[string(sum)]; ok {
		return x, nil
	}
	x, err := media.ParseIndex(b)
	if err != nil {
		return media.Index{}, err
	}
	if len(p.indexes) >= maxIndexes {
		clear(p.indexes)
	}
	p.indexes[string(sum)] = x
	return x, nil
}
