package wire

import (
	"io"
	"sync/atomic"
	"time"
)

// Progress tells who waits for an answer how far the request's body is. The answer
// is not due while the client still sends: that it sends at all is for its own
// time-out to see.
type Progress struct {
	// at is when the last piece came, in Unix nanoseconds; 0 before the first and
	// awaited while one is.
	at atomic.Int64
}

const awaited = -1

// Read reads the next piece of a body.
func (p *Progress) Read(src io.Reader, b []byte) (int, error) {
	p.at.Store(awaited)
	n, err := src.Read(b)
	p.at.Store(time.Now().UnixNano())
	return n, err
}

// Due is until when the answer may take that should have come by a time, where it
// has limit since the last piece.
func (p *Progress) Due(by, now time.Time, limit time.Duration) time.Time {
	last := now
	switch at := p.at.Load(); at {
	case 0:
		return by
	case awaited:
	default:
		last = time.Unix(0, at)
	}
	if due := last.Add(limit); due.After(by) {
		return due
	}
	return by
}
