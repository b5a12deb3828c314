package wire

import (
	"errors"
	"io"
	"time"
)

// startBody sends the body beside the waiting for the answer.
func (l *link) startBody(r *Request) {
	l.progress.at.Store(0)
	l.sending.Store(sendsBody)
	// What is the caller's may be used for another request before the body
	// has noticed its end.
	src, length, trailer, limit := r.Body, r.ContentLength, r.Trailer, r.Deadline.Sub(r.Start)
	l.pool.bodies.Go(func() { l.sendBody(src, length, trailer, limit) })
}

// sendBody sends a body piece by piece, each as it comes and each within limit.
func (l *link) sendBody(src io.Reader, length int64, trailer func() *Fields, limit time.Duration) {
	const front = 16 // room for a chunk's size
	buf := l.in.buffers.get(largeBuffer)
	defer l.in.buffers.put(buf)
	for left := length; ; {
		n, err := l.progress.Read(src, buf[front:len(buf)-2])
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
					end = appendFields(end, trailer(), mayNotTrail)
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
	l.armWrite(time.Now(), limit)
	_, err := l.nc.Write(p)
	if err != nil {
		l.sending.Store(failedBody)
	}
	return err
}
