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
	wire    *wire.Body // src, where it has deadlines of its own; arm is nil
	err     error
	ended   atomic.Bool
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
	n, err := b.src.Read(p)
	b.left -= int64(n)
	var bad *wire.BadMessage
	switch {
	case b.left < 0:
		n += int(b.left)
		b.err = services.Errorf(services.Invalid, "the body is too long").WithReason(ReasonTooLarge).WithRemedy("send less at once")
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF):
		b.err = io.EOF
	case errors.As(err, &bad):
		b.err = &services.Error{Op: "request body", Kind: services.Invalid, Reason: ReasonMalformed, Msg: bad.Msg}
	default:
		b.err = &services.Error{Op: "request body", Kind: services.Unavailable, Reason: ReasonSlowBody, Msg: "it did not arrive whole", Err: err}
	}
	b.ended.Store(true)
	if b.arm != nil {
		_ = b.arm(time.Time{})
	}
	return n, b.err
}

func (b *clientBody) rearm(d time.Duration) {
	if b.arm != nil {
		_ = b.arm(time.Now().Add(d)) // it fails for a connection that is gone
	}
}

// whole returns a body that has arrived whole, without copying it.
func (b *clientBody) whole() ([]byte, bool) {
	if b.wire == nil || b.err != nil {
		return nil, false
	}
	p, ok := b.wire.Whole()
	if !ok {
		return nil, false
	}
	if b.left -= int64(len(p)); b.left < 0 {
		panic("gateway: a body longer than the limit got past it") // limits refuses it by its length
	}
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
