package oca

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"

	"golang.org/x/time/rate"

	"github.com/flix-lab/flix/topology"
)

const (
	// generous is the bandwidth from which serving is not limited: above it a
	// bucket would cost more than it is worth on one machine.
	generous = topology.Rate(1e9)
	// chunk is what passes a bucket at once.
	chunk = 64 << 10
)

// bucket limits bytes per second; without a rate it is free. Safe for
// concurrent use.
type bucket struct{ l atomic.Pointer[rate.Limiter] }

// set changes the rate; zero lifts the limit.
func (b *bucket) set(r topology.Rate) {
	if r <= 0 {
		b.l.Store(nil)
		return
	}
	perSecond := r.BytesPerSecond()
	// Twenty milliseconds' worth may go at once, and a chunk at least.
	b.l.Store(rate.NewLimiter(rate.Limit(perSecond), max(chunk, int(perSecond/50))))
}

// wait lets n bytes pass, at most a chunk.
func (b *bucket) wait(ctx context.Context, n int) error {
	if l := b.l.Load(); l != nil {
		return l.WaitN(ctx, n)
	}
	return nil
}

func (b *bucket) limited() bool { return b.l.Load() != nil }

// countingWriter counts the bytes of an answer and holds them to the bucket.
// It hands a file on to the writer below as a whole, or chunk by chunk when
// limited, so that on a plain connection the kernel sends it.
type countingWriter struct {
	http.ResponseWriter
	ctx    context.Context
	bucket *bucket
	status int
	bytes  int64
}

// WriteHeader implements http.ResponseWriter.
func (w *countingWriter) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the writer below.
func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Write implements io.Writer.
func (w *countingWriter) Write(b []byte) (n int, err error) {
	for first := true; first || n < len(b); first = false {
		part := b[n:min(len(b), n+chunk)]
		if !w.bucket.limited() {
			part = b[n:]
		}
		if err := w.bucket.wait(w.ctx, min(len(part), chunk)); err != nil {
			return n, err
		}
		m, err := w.ResponseWriter.Write(part)
		n += m
		w.bytes += int64(m)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// ReadFrom implements io.ReaderFrom.
func (w *countingWriter) ReadFrom(r io.Reader) (total int64, err error) {
	below, ok := w.ResponseWriter.(io.ReaderFrom)
	if !ok { // HTTP/2
		return io.Copy(struct{ io.Writer }{w}, r)
	}
	if !w.bucket.limited() {
		n, err := below.ReadFrom(r)
		w.bytes += n
		return n, err
	}
	limited, ok := r.(*io.LimitedReader)
	if !ok {
		return io.Copy(struct{ io.Writer }{w}, r)
	}
	for limited.N > 0 {
		part := &io.LimitedReader{R: limited.R, N: min(limited.N, chunk)}
		if err := w.bucket.wait(w.ctx, int(part.N)); err != nil {
			return total, err
		}
		n, err := below.ReadFrom(part)
		limited.N -= n
		total += n
		w.bytes += n
		if err != nil || n == 0 {
			return total, err
		}
	}
	return total, nil
}
