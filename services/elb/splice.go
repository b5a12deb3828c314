package elb

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// splice carries bytes both ways until both ways have ended, one fails, or
// nothing has moved in either for idle (0: no bound). An end of one way is
// passed on as a half-close. Between two TCP connections the kernel moves the
// bytes.
func splice(a, b net.Conn, idle time.Duration) {
	s := &splicer{idle: idle}
	s.moved.Store(time.Now().UnixNano())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.oneWay(a, b)
	}()
	s.oneWay(b, a)
	<-done
}

type splicer struct {
	idle  time.Duration
	moved atomic.Int64 // Unix nanoseconds of the last progress, either way
}

// oneWay moves src to dst. Whatever goes wrong ends both connections: half a
// failed stream is of no use to anybody.
func (s *splicer) oneWay(dst, src net.Conn) {
	if s.copy(dst, src) == nil {
		if w, ok := dst.(interface{ CloseWrite() error }); ok && w.CloseWrite() == nil {
			return
		}
	}
	_ = dst.Close()
	_ = src.Close()
}

// copy returns nil at the end of src. io.Copy reaches *net.TCPConn.ReadFrom,
// which splices and honours the read deadline of src between two moves: a
// deadline loses no bytes, so that it can serve as the idle timer.
func (s *splicer) copy(dst, src net.Conn) error {
	for {
		start := time.Now()
		if s.idle > 0 {
			if err := src.SetReadDeadline(start.Add(s.idle)); err != nil {
				return err
			}
			// Twice as far away, so that it passes only while dst takes
			// nothing: each round moves it before that.
			if err := dst.SetWriteDeadline(start.Add(2 * s.idle)); err != nil {
				return err
			}
		}
		n, err := io.Copy(dst, src)
		if n > 0 {
			s.moved.Store(time.Now().UnixNano())
		}
		stalled := time.Since(start) >= 2*s.idle
		idle := time.Since(time.Unix(0, s.moved.Load())) >= s.idle
		if !errors.Is(err, os.ErrDeadlineExceeded) || stalled || idle {
			return err
		}
	}
}
