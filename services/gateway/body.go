package gateway

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// maxReplay is how much of a request's body is kept for another try.
const maxReplay = 64 << 10

// smallPiece is the piece in which a body that nobody wants is read.
const smallPiece = 4 << 10

// replayBody lets several tries, one after the other, read a body from its
// start, as long as no more than maxReplay bytes of it have been read. It is
// filled by the try that reads, so that a body which trickles in is passed on
// as it comes.
type replayBody struct {
	mu      sync.Mutex
	src     io.Reader
	kept    []byte
	spilled bool
	err     error // of src, io.EOF included
}

// keepBody makes the client's body one that several tries can read.
func (ex *Exchange) keepBody() {
	if r := &ex.Request; r.ContentLength != 0 && r.Body != nil {
		ex.body = &replayBody{src: r.Body}
		ex.OnDone(func(ex *Exchange) { _ = ex.Request.Body.Close() })
	}
}

// open returns a reader from the start. Only the last one opened gets new
// bytes. It must not be called once replayable is false.
func (b *replayBody) open() io.ReadCloser { return &replayReader{b: b} }

// replayable says whether another try could read the same.
func (b *replayBody) replayable() bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.spilled
}

// whole returns a body that is all there, without waiting for any of it.
func (b *replayBody) whole() ([]byte, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.spilled {
		return nil, false
	}
	if c, ok := b.src.(*clientBody); ok && b.err == nil && len(b.kept) == 0 {
		if p, ok := c.whole(); ok {
			b.kept, b.err = p, io.EOF
		}
	}
	return b.kept, errors.Is(b.err, io.EOF)
}

// gather reads a body of a known length that can be kept, and reports whether it is
// whole. A request to switch protocols needs that: what its client sends behind the
// body is of the other protocol, and two readers would take it from each other.
func (b *replayBody) gather(length int64) bool {
	if length < 0 || length > maxReplay {
		return false
	}
	_, err := io.Copy(io.Discard, struct{ io.Reader }{b.open()})
	return err == nil
}

// ended says that nothing of the client's body is still to come.
func (b *replayBody) ended() bool {
	c, ok := b.src.(*clientBody)
	return !ok || c.ended.Load()
}

// relax is clientBody's, for a body that is there.
func (b *replayBody) relax() {
	if b == nil {
		return
	}
	if c, ok := b.src.(*clientBody); ok {
		c.relax()
	}
}

// discard reads what is left of the client's body until its end or the time.
func (b *replayBody) discard(until time.Time) {
	c, ok := b.src.(*clientBody)
	if !ok {
		return
	}
	c.endBy(until) // a try that is over may still read
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spilled, b.kept = true, nil
	buf := make([]byte, smallPiece)
	for {
		if _, err := c.src.Read(buf); err != nil { // also beyond what is taken
			c.ended.Store(true)
			return
		}
	}
}

// failure is what went wrong with the client's side of the body, or nil.
func (b *replayBody) failure() error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if errors.Is(b.err, io.EOF) {
		return nil
	}
	return b.err
}

type replayReader struct {
	b      *replayBody
	off    int
	closed atomic.Bool
}

var errTryOver = errors.New("the try that read this body is over")

// Read implements io.Reader. A read that is under way when its try ends keeps
// what it gets for the next one.
func (r *replayReader) Read(p []byte) (int, error) {
	b := r.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.closed.Load() {
		return 0, errTryOver
	}
	if r.off < len(b.kept) {
		n := copy(p, b.kept[r.off:])
		r.off += n
		return n, nil
	}
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.src.Read(p)
	b.err = err
	if !b.spilled {
		if len(b.kept)+n <= maxReplay {
			b.kept = append(b.kept, p[:n]...)
			r.off += n
		} else {
			b.spilled, b.kept, r.off = true, nil, 0
		}
	}
	return n, err
}

// Close implements io.Closer. It does not wait for a read under way.
func (r *replayReader) Close() error {
	r.closed.Store(true)
	return nil
}
