package gateway

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/gateway/wire"
)

// clientBody is the body of a client's request: at most so long, each piece at
// most so late. Reads are not concurrent with one another; Close may be with
// one.
type clientBody struct {
	src     io.ReadCloser
	left    int64
	arm     func(time.Time) error
	timeout time.Duration
	wire    *wire.Body   // src, where it has deadlines of its own; arm is nil
	gone    func() error // why the client is gone, if it is; nil where src's errors tell
	err     error
	ended   atomic.Bool
	calm    atomic.Bool  // pieces may come at any time
	last    atomic.Int64 // Unix nanoseconds by which the last piece must come; 0 is any time
}

// Read implements io.Reader. Its errors other than io.EOF are services.Errors.
func (b *clientBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	// One byte more than allowed tells a body that is too long from one that
	// fits exactly.
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	b.rearm(b.timeout)
	if b.calm.Load() { // which may have come while that was set
		_ = b.arm(time.Time{})
	}
	n, err := b.src.Read(p)
	b.left -= int64(n)
	var bad *wire.BadMessage
	switch {
	case b.left < 0:
		n += int(b.left)
		b.err = services.Errorf(services.Invalid, "the body is too long").WithReason(ReasonTooLarge).WithRemedy("send less at once")
		return n, b.err // and more of it may come
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF):
		b.err = io.EOF
	case errors.As(err, &bad):
		b.err = &services.Error{Op: "request body", Kind: services.Invalid, Reason: ReasonMalformed, Msg: bad.Msg}
	default:
		b.err = b.broken(err)
	}
	b.ended.Store(true)
	if b.arm != nil {
		_ = b.arm(time.Time{})
	}
	return n, b.err
}

// broken says what became of a body that ended early: it came too slowly, its
// sender went away, or ended it before the length that was announced.
func (b *clientBody) broken(err error) error {
	e := &services.Error{Op: "request body", Kind: services.Unavailable, Reason: ReasonSlowBody, Msg: "it did not arrive whole", Err: err}
	var t interface{ Timeout() bool }
	switch {
	case errors.As(err, &t) && t.Timeout():
	case b.gone != nil && b.gone() != nil, b.gone == nil && !errors.Is(err, io.ErrUnexpectedEOF):
		e.Reason = ReasonClientGone
	default:
		e.Kind, e.Reason = services.Invalid, ReasonMalformed
	}
	return e
}

func (b *clientBody) rearm(d time.Duration) {
	if b.arm == nil {
		return
	}
	t := time.Now().Add(d)
	if last := b.last.Load(); last != 0 && t.UnixNano() > last {
		t = time.Unix(0, last)
	}
	_ = b.arm(t) // it fails for a connection that is gone
}

// relax lets pieces come at any time from now on, where src has no deadlines of its
// own: who talks with a server may have nothing to say for long.
func (b *clientBody) relax() {
	if b.arm != nil && !b.ended.Load() {
		b.calm.Store(true)
		_ = b.arm(time.Time{}) // of a read under way
	}
}

// endBy ends the body by a time, also for a read that is under way.
func (b *clientBody) endBy(t time.Time) {
	b.calm.Store(false)
	b.last.Store(t.UnixNano())
	b.rearm(time.Until(t))
}

// whole returns a body that has arrived whole, without copying it.
func (b *clientBody) whole() ([]byte, bool) {
	if b.wire == nil || b.err != nil {
		return nil, false
	}
	p, ok := b.wire.Whole(b.left)
	if !ok {
		return nil, false
	}
	b.left -= int64(len(p))
	b.err = io.EOF
	b.ended.Store(true)
	return p, true
}

// Close implements io.Closer. An upstream that answered early may still read:
// its read ends at once, and with it the connection.
func (b *clientBody) Close() error {
	if !b.ended.Swap(true) {
		b.rearm(0)
	}
	return nil // the codec ends src
}
